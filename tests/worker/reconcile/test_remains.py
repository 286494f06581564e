"""What is left of containers: an exit on a slow disk, a stopped container after a reboot, a shim that belongs to nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from corral_schemas.commands import CreateArgs
from corral_schemas.containers import ContainerSpec
from corral_schemas.errors import CorralError
from corral_schemas.exits import Exit
from corral_schemas.queries import WaitArgs
from corral_testkit.bounded import run
from corral_testkit.guests import Room, open_room
from corral_testkit.shim_messages import Observer
from corral_worker.base.tasks import Tasks
from corral_worker.commands.execution import Execution
from corral_worker.commands.handlers import create, query
from corral_worker.containers import remains
from corral_worker.containers.spools import LOST_WITH_GUEST
from corral_worker.journal.records import RequestRecord
from corral_worker.reconcile import adopt
from corral_worker.reconcile.drift import Drift
from corral_worker.reconcile.janitor import sweep
from corral_worker.reconcile.notices import Notices
from corral_worker.shims.shim_link import ShimLink

Body = dict[str, Any]


class FakeShim:
    """The stream below a link: keeps what it is asked, and answers a deletion with `answer`."""

    def __init__(self, room: Room, instance: str, *, answer: Body, pending: list[Body] | None = None) -> None:
        self.alive = True
        self.asked: list[Body] = []
        self._answer = answer
        self.link = ShimLink(instance, Observer([]))
        self.link._stream = self
        self.link.message({"t": "state", "processes": [], "responses": [], "pending": pending or []}, b"")
        room.guest.links[instance] = self.link

    def send(self, message: Body, blob: bytes = b"") -> None:
        self.asked.append(message)
        if message["t"] == "request":
            told = {"t": "response", "id": message["id"], "step": message["step"], **self._answer}
            asyncio.get_running_loop().call_soon(self.link.message, told, b"")

    def close(self) -> None:
        self.alive = False


def in_room(directory: Path, work: Callable[[Room], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with open_room(directory) as room:
            await work(room)

    run(bounded())


def test_a_wait_of_no_time_knows_an_exit_that_is_only_on_its_way_to_the_disk(tmp_path: Path) -> None:
    async def work(room: Room) -> None:
        container = room.container()
        Notices(room.guest, Tasks()).record_exit(container, room.init(container), Exit(type="exited", code=7))
        reply = await query.wait(room.guest, WaitArgs(container="c1", timeout_ms=0))
        assert reply.exit.code == 7
        assert room.kinds() == ["exit"]  # nobody was told before it was on disk

    in_room(tmp_path, work)


def test_a_create_whose_remains_were_being_removed_when_the_worker_ended_is_not_begun_again(tmp_path: Path) -> None:
    async def work(room: Room) -> None:
        args = CreateArgs(container="c1", spec=ContainerSpec(rootfs="/", args=["true"]))
        record = RequestRecord(id="r1", op="create", digest=b"d", deadline_ms=room.journal.worker_ms() + 5_000)
        record.instance = room.guest.new_instance()  # of a container that is not in the journal any more
        with pytest.raises(CorralError) as told:
            await create.create(room.guest, args, Execution(room.guest, record, args, redo=True))
        assert told.value.code == "outcome_unknown"
        assert not room.guest.containers

    in_room(tmp_path, work)


def test_a_stopped_container_whose_runtime_state_went_with_a_reboot_stays_though_it_has_a_shim_again(tmp_path: Path) -> None:
    async def work(room: Room) -> None:
        container = room.container()
        await adopt.record_lost_container(room.guest, Notices(room.guest, Tasks()), container, LOST_WITH_GUEST)
        FakeShim(room, container.instance, answer={"ok": {}})
        await Drift(room.guest).compare()
        await room.journal.durable()
        assert container.instance in room.guest.containers
        (kept,) = room.journal.store.live_containers()
        assert kept.buried

    in_room(tmp_path, work)


def test_a_shim_of_nobody_is_not_waited_for_until_its_hanging_call_is_over(tmp_path: Path) -> None:
    async def work(room: Room) -> None:
        stray = room.guest.new_instance()
        room.paths.container(stray).mkdir()
        shim = FakeShim(room, stray, answer={"ok": {}}, pending=[{"id": "r1", "step": "run"}])
        await sweep(room.guest)
        assert [(message["t"], message["id"]) for message in shim.asked] == [
            ("cancel", "r1"),
            ("request", "sweep"),
            ("ack_response", "sweep"),
        ]
        assert not room.paths.container(stray).exists()

    in_room(tmp_path, work)


def test_a_shim_whose_deletion_was_recorded_but_never_acknowledged_is_ended_and_the_output_stays(tmp_path: Path) -> None:
    async def work(room: Room) -> None:
        container = room.container(status="stopped")
        room.guest.mark_deleted(container)
        await room.journal.durable()
        room.paths.container(container.instance).mkdir()
        room.paths.shim_socket(container.instance).touch()
        shim = FakeShim(room, container.instance, answer={"ok": {}})
        await sweep(room.guest)
        assert [message["t"] for message in shim.asked] == ["request", "ack_response"]
        assert room.paths.container(container.instance).exists()

    in_room(tmp_path, work)


def test_the_end_of_an_older_connection_is_not_the_end_of_the_shim(tmp_path: Path) -> None:
    async def work(room: Room) -> None:
        gone: list[str] = []
        room.guest.observe_shims(Observer(gone))
        container = room.container()
        shim = FakeShim(room, container.instance, answer={"ok": {}})
        room.guest.gone(container.instance)
        assert (gone, room.guest.links[container.instance]) == ([], shim.link)
        shim.close()
        room.guest.gone(container.instance)
        assert (gone, room.guest.links) == ([container.instance], {})

    in_room(tmp_path, work)


def test_a_shim_of_nobody_that_cannot_delete_is_left_to_be_found_again(tmp_path: Path) -> None:
    async def work(room: Room) -> None:
        stray = room.guest.new_instance()
        room.paths.container(stray).mkdir()
        FakeShim(room, stray, answer={"error": {"kind": "timeout", "text": "it was still queued"}})
        await sweep(room.guest)
        assert room.paths.container(stray).exists()

    in_room(tmp_path, work)


def test_what_says_where_a_cgroup_is_stays_until_that_can_be_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Resisting:
        """One whose processes cannot die yet: somebody has frozen what is above it."""

        free = False

        def kill(self) -> bool:
            return self.free

        def remove(self) -> bool:
            return self.free

        def pids(self) -> set[int]:
            return set()

    cgroup = Resisting()
    monkeypatch.setattr(remains, "find_cgroup", lambda *_: cgroup)
    monkeypatch.setattr(remains, "KILL_TIMEOUT_S", 0.02)

    async def work(room: Room) -> None:
        directory = room.paths.container(room.guest.new_instance())
        directory.mkdir()
        await sweep(room.guest)
        assert directory.exists()
        cgroup.free = True
        await sweep(room.guest)
        assert not directory.exists()

    in_room(tmp_path, work)


def test_a_container_made_while_the_janitor_is_busy_with_another_is_nobodys_stray(tmp_path: Path) -> None:
    async def work(room: Room) -> None:
        old = room.container("old", "stopped")
        room.guest.mark_deleted(old)
        await room.journal.durable()
        room.paths.shim_socket(old.instance).touch()
        made: list[Path] = []

        class Busy(FakeShim):
            def send(self, message: Body, blob: bytes = b"") -> None:
                if message["t"] == "request":
                    made.append(room.paths.container(room.container("new").instance))
                    made[0].mkdir()
                super().send(message, blob)

        Busy(room, old.instance, answer={"ok": {}})
        await sweep(room.guest)
        assert made[0].exists()

    in_room(tmp_path, work)
