"""A request id is known again, or known to be unknown: after a restart, in another epoch, when records are gone."""

from __future__ import annotations

from pathlib import Path

from corral_testkit.desk import KILL, Desk, at_desk
from corral_worker.journal.records import RequestRecord


def test_a_known_id_answers_after_a_restart_without_running_again(tmp_path: Path) -> None:
    async def first(desk: Desk) -> None:
        assert (await desk.ask("kill", KILL)).ok

    async def second(desk: Desk) -> None:
        assert (await desk.ask("kill", KILL)).ok == {"outcome": "delivered"}
        assert desk.runs == []

    at_desk(tmp_path, first)
    at_desk(tmp_path, second)


def test_an_unknown_id_of_another_epoch_is_not_carried_out(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        answer = await desk.ask("kill", KILL, epoch="0" * 16)
        assert answer.code == "outcome_unknown"
        assert answer.error.details == {"epoch": desk.room.journal.epoch}
        assert (await desk.ask("kill", KILL, id="r2", epoch=desk.room.journal.epoch)).ok
        assert desk.runs == ["r2"]

    at_desk(tmp_path, work)


def test_an_unknown_id_first_sent_before_records_were_lost_is_not_carried_out(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        assert (await desk.ask("kill", KILL, age_ms=60_000)).ok, "a first journal has lost nothing"
        desk.room.journal.new_epoch("journal lost")
        assert (await desk.ask("kill", KILL, id="r2", age_ms=60_000)).code == "outcome_unknown"
        assert (await desk.ask("kill", KILL, id="r3", age_ms=60_000, epoch=desk.room.journal.epoch)).ok
        assert (await desk.ask("kill", KILL, id="r4")).ok
        assert desk.runs == ["r1", "r3", "r4"]

    at_desk(tmp_path, work)


def test_an_unknown_id_older_than_the_records_is_not_carried_out(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        kept_ms = int(desk.room.settings.requests_kept_s * 1000)
        assert (await desk.ask("kill", KILL, age_ms=kept_ms + 1)).code == "outcome_unknown"
        assert (await desk.ask("kill", KILL, id="r2", age_ms=kept_ms)).ok
        assert desk.runs == ["r2"]

    at_desk(tmp_path, work)


def test_a_known_id_answers_whatever_its_age_and_epoch(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        assert (await desk.ask("kill", KILL)).ok
        assert (await desk.ask("kill", KILL, epoch="0" * 16, age_ms=1 << 40)).ok

    at_desk(tmp_path, work)


def test_what_was_under_way_when_the_worker_ended_and_cannot_be_read_is_unknown(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        desk.requests.go_on(RequestRecord(id="r1", op="kill", digest=b"d", args=b"\xc1"))
        await desk.room.journal.durable()
        stored = desk.room.journal.find_request("r1")
        assert stored is not None and b"outcome_unknown" in stored.reply

    at_desk(tmp_path, work)


def test_what_was_under_way_goes_on_and_a_repeat_joins_it(tmp_path: Path) -> None:
    async def first(desk: Desk) -> None:
        desk.let_through.clear()
        desk.send("kill", KILL)
        await desk.room.journal.durable()

    async def second(desk: Desk) -> None:
        (record,) = desk.room.journal.store.unfinished_requests()
        desk.requests.go_on(record)
        assert (await desk.ask("kill", KILL)).ok
        assert desk.runs == ["r1"]

    at_desk(tmp_path, first)
    at_desk(tmp_path, second)
