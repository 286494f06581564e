"""Machines that lose their power under load, or reboot while containers run: what was told stays true."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from corral import Chunk, CorralError, Event, Gap
from corral_schemas.cursor import Place
from corral_schemas.events import ExitEvent
from corral_schemas.frames import decode_event
from corral_schemas.queries import ReplayArgs, ReplayReply, ResultArgs, ResultReply
from corral_testkit.vms import Stopwatch, VmFleet, is_event, only_events, until

REBOOTED = "guest rebooted"


def journal_after(vms: VmFleet, name: str, place: Place) -> list[Event]:
    """Every event that the guest's journal holds after a place of its present epoch."""
    found: list[Event] = []
    after = place.seq
    while True:
        reply = vms.client.call(name, "replay", ReplayArgs(epoch=place.epoch, after=after), retry_unreachable=True)
        assert isinstance(reply, ReplayReply)
        for header, payload in reply.events:
            decoded, data = decode_event([b"event/", header, payload])
            found.append(Event(decoded, data, None))
        after = reply.upto
        if after >= reply.last_seq:
            return found


class Load:
    """Clients that run short containers in a guest, one after another, until it is gone; and what they were told."""

    def __init__(self, vms: VmFleet, name: str) -> None:
        self._vms, self._name = vms, name
        self._numbers = itertools.count()
        self._over = threading.Event()
        self.answered: dict[str, str] = {}  # request id → instance

    def run(self) -> None:
        while not self._over.is_set():
            number = next(self._numbers)
            request = f"load-{self._name}-{number}"
            with contextlib.suppress(CorralError):  # not answered: then nothing was promised
                spec = self._vms.spec("sh", "-c", f"echo {number}; exit {number % 100}")
                container = self._vms.client.guest(self._name).run(f"load-{number}", spec=spec, request_id=request, timeout_s=20)
                self.answered[request] = container.instance

    def end(self) -> None:
        self._over.set()


def test_a_guest_that_loses_its_power_right_after_its_first_start_comes_up_again(vms: VmFleet) -> None:
    vms.machines["vm3"].cut_power()
    vms.blank("vm3")
    vms.start("vm3")
    vms.machines["vm3"].cut_power()
    vms.start("vm3")
    assert vms.client.guest("vm3").run("first", spec=vms.spec("echo", "here")).init.stdout.read() == b"here\n"


@pytest.mark.guarantee(23)
def test_what_was_announced_and_answered_survives_a_power_cut_under_load(vms: VmFleet, took: Callable[[str, float], None]) -> None:
    guest = vms.client.guest("vm1")
    lasting = [guest.run(f"lasting-{number}", spec=vms.spec("sleep", "1000")) for number in range(2)]
    job = lasting[0].exec(["sleep", "1000"], process="job")
    begin = guest.list().place
    load = Load(vms, "vm1")
    with vms.client.events(guests=["vm1"]) as events, ThreadPoolExecutor(2) as pool:
        workers = [pool.submit(load.run) for _ in range(2)]
        seen = [item for _ in range(6) for item in until(events, is_event("exit", "vm1"))]
        vms.machines["vm1"].cut_power()
        watch = Stopwatch()
        load.end()
        seen += until(events, is_event("guest_down", "vm1"))
        took("guest_down after a power cut", watch.s)
        for one in workers:
            one.result(90)
        watch = Stopwatch()
        vms.boot("vm1")
        took("cold boot after a power cut, to registered", watch.s)
        seen += until(events, is_event("worker_started", "vm1"))
    announced = {event.header.seq: event for event in only_events(seen) if event.header.epoch == begin.epoch}
    kept = {event.header.seq: event for event in journal_after(vms, "vm1", begin)}
    assert set(announced) <= set(kept)
    for seq, event in announced.items():
        assert _told(kept[seq]) == _told(event)
    for request, instance in load.answered.items():
        reply = vms.client.call("vm1", "result", ResultArgs(id=request))
        assert isinstance(reply, ResultReply) and reply.state == "done" and reply.ok is not None
        assert reply.ok["instance"] == instance
    _each_started_process_has_one_exit(list(kept.values()))
    ends = [container.wait(90) for container in lasting] + [job.wait(90)]
    assert {(end.type, end.reason) for end in ends} == {("lost", REBOOTED)}


def _told(event: Event) -> tuple[object, ...]:
    header = event.header
    return header.seq, header.prev, header.kind, header.instance, header.process_instance, header.time_ns, event.data


def _each_started_process_has_one_exit(kept: list[Event]) -> None:
    started = {event.header.process_instance for event in kept if event.kind in ("started", "exec_started")}
    exits = Counter(event.header.process_instance for event in kept if event.kind == "exit")
    assert started <= set(exits)
    assert set(exits.values()) == {1}


def test_output_that_was_read_before_a_power_cut_is_there_afterwards_or_announced_as_a_gap(vms: VmFleet) -> None:
    container = vms.client.guest("vm1").run("talker", spec=vms.spec("sh", "-c", "yes | head -c 300000; sleep 1000"))
    told = 0
    for piece in container.init.output(stderr=None):
        assert isinstance(piece, Chunk)
        told = piece.offset + len(piece.data)
        if told == 300_000:
            break
    vms.machines["vm1"].cut_power()
    vms.start("vm1")
    assert container.wait(90).type == "lost"
    pieces = list(container.init.output(stderr=None))
    last = pieces[-1]
    assert isinstance(last, Gap) and (last.reason, last.open_ended) == ("power_cut", True) and last.start <= told
    at = 0
    for piece in pieces:
        assert (piece.start if isinstance(piece, Gap) else piece.offset) == at
        at = piece.end if isinstance(piece, Gap) else piece.offset + len(piece.data)
    (gap,) = container.init.output(stdout=told, stderr=None)
    assert isinstance(gap, Gap) and gap.open_ended
    assert all(piece.data == (b"y\n" * 150_000)[piece.offset :][: len(piece.data)] for piece in pieces if isinstance(piece, Chunk))


def test_a_reboot_gives_every_running_process_one_lost_and_leaves_ended_ones_alone(
    vms: VmFleet, took: Callable[[str, float], None]
) -> None:
    guest = vms.client.guest("vm2")
    running = guest.run("running", spec=vms.spec("sleep", "1000"))
    job = running.exec(["sleep", "1000"], process="job")
    paused = guest.run("paused", spec=vms.spec("sleep", "1000"))
    paused.pause()
    created = guest.create("created", spec=vms.spec("true"))
    ended = guest.run("ended", spec=vms.spec("sh", "-c", "echo before; exit 4"))
    assert ended.wait().code == 4
    with vms.client.events(guests=["vm2"]) as events:
        watch = Stopwatch()
        vms.reboot("vm2")
        took("reboot from inside, to registered", watch.s)
        told = only_events(until(events, is_event("worker_started", "vm2")))
    exits = Counter(event.header.process_instance for event in told if event.kind == "exit")
    assert set(exits.values()) == {1}
    assert set(exits) - {created.init.instance} == {running.init.instance, job.instance, paused.init.instance}
    for process in (running.init, job, paused.init):
        end = process.wait(90)
        assert (end.type, end.reason) == ("lost", REBOOTED)
    assert (ended.wait().code, ended.init.stdout.read()) == (4, b"before\n")
    assert all(isinstance(event.payload, ExitEvent) for event in told if event.kind == "exit")
    assert {state.id: state.status for state in guest.list().containers if state.id != "created"} == {
        "running": "stopped",
        "paused": "stopped",
        "ended": "stopped",
    }
    again = guest.run("again", spec=vms.spec("echo", "after the reboot"))
    assert again.init.stdout.read() == b"after the reboot\n"
