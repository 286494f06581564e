"""A journal that was set back (a restored disk) is noticed however far it has come since, by whoever has seen what is not in it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from corral import Client, CorralError, Event, Resync
from corral.sync.client import Events
from corral_schemas.commands import RunArgs
from corral_schemas.events import JournalReset
from corral_testkit.shim_driver import wait_until
from corral_testkit.system import CorralSystem, Service

pytestmark = pytest.mark.runc

FILES = ("journal.sqlite", "journal.sqlite-wal", "journal.sqlite-shm")


def keep_journal(system: CorralSystem, name: str, aside: Path) -> None:
    """Ends the worker (kill -9) and copies its journal as it is then."""
    system.workers[name].kill()
    aside.mkdir()
    for file in FILES:
        if (system.state_dir(name) / file).exists():
            shutil.copyfile(system.state_dir(name) / file, aside / file)


def set_journal_back(system: CorralSystem, name: str, aside: Path) -> None:
    """Ends the worker (kill -9) and puts the copy in the journal's place."""
    if system.workers[name].alive:
        system.workers[name].kill()
    for file in FILES:
        (system.state_dir(name) / file).unlink(missing_ok=True)
        if (aside / file).exists():
            shutil.copyfile(aside / file, system.state_dir(name) / file)


def reset_and_resync(events: Events) -> tuple[JournalReset, Resync]:
    """Up to the first event of a new epoch; exactly one resync comes before it."""
    resyncs: list[Resync] = []
    for item in events:
        if isinstance(item, Resync):
            resyncs.append(item)
        elif isinstance(item, Event) and isinstance(item.payload, JournalReset):
            (resync,) = resyncs
            return item.payload, resync
    raise AssertionError("the stream of events ended")


def test_a_journal_set_back_that_has_caught_up_by_itself_begins_a_new_epoch(corral: CorralSystem, tmp_path: Path) -> None:
    """It wrote as many events while no broker was there as had been announced before: only their marks tell."""
    name = corral.names[0]
    client = corral.client(retry_unreachable=True)
    keep_journal(corral, name, tmp_path / "earlier")
    corral.restart_worker(name)  # announces its start
    before = client.guest(name).list().place
    assert corral.workers[name].terminate() == corral.broker.terminate() == 0  # the broker leaves its last-seen file
    set_journal_back(corral, name, tmp_path / "earlier")
    for _ in range(2):
        corral.workers[name].start()
        corral.workers[name].kill()
    corral.broker.start()
    corral.restart_worker(name)
    wait_until(lambda: client.info(name).epoch != before.epoch, "a new epoch begins", 5.0)
    assert f"event {before.seq} of the journal is not the one that was announced" in corral.workers[name].log


@pytest.mark.guarantee(24)
def test_a_journal_set_back_begins_a_new_epoch_and_what_runs_goes_on(corral: CorralSystem, tmp_path: Path) -> None:
    name = corral.names[0]
    client = corral.client(retry_unreachable=True)
    guest = client.guest(name)
    running = guest.run("running", spec=corral.spec("sleep", "1000"))
    keep_journal(corral, name, tmp_path / "earlier")
    corral.restart_worker(name)  # announces its start
    before = guest.list().place
    with client.events(guests=[name], broker_events=False) as events:
        set_journal_back(corral, name, tmp_path / "earlier")
        corral.restart_worker(name)
        reset, resync = reset_and_resync(events)
    after = guest.list().place
    assert reset.reason == "journal set back" and reset.previous_epoch == before.epoch
    assert after.epoch == resync.place.epoch != before.epoch
    assert "it was set back; a new epoch begins" in corral.workers[name].log
    assert running.state().status == "running"
    running.kill(9)
    assert running.wait().signal == 9
    corral.restart_worker(name)
    assert guest.list().place.epoch == after.epoch, "it is noticed once"


def test_a_rewind_that_one_of_two_brokers_saw_begins_a_new_epoch_for_both(new_corral: Callable[..., CorralSystem], tmp_path: Path) -> None:
    other_address = f"ipc://{tmp_path}/o"
    argv = ["corral_broker", "--bind", other_address, "--state-dir", str(tmp_path / "other")]
    other = Service(argv, "corral broker ready at ", tmp_path / "other.log")
    other.start()
    try:
        system = new_corral(worker_options=("--broker", other_address))
        (name,) = system.names
        with Client([system.address, other_address], retry_unreachable=True) as client:
            client.guest(name).run("one", spec=system.spec("true")).wait()
            keep_journal(system, name, tmp_path / "earlier")
            system.restart_worker(name)
            client.guest(name).run("two", spec=system.spec("true")).wait()
            before = client.guest(name).list().place
        with Client(other_address) as client:
            wait_until(lambda: client.guests()[0].seq >= before.seq, "the other broker has seen it all", 10.0)
        other.freeze()
        system.broker.kill()
        shutil.rmtree(system.directory / "broker")  # it has forgotten what it saw
        set_journal_back(system, name, tmp_path / "earlier")
        system.broker.start()
        system.restart_worker(name)
        client = system.client(retry_unreachable=True)
        assert client.info(name).epoch == before.epoch, "nobody could know yet"
        with client.events(guests=[name], broker_events=False) as events:
            other.thaw()
            reset, resync = reset_and_resync(events)
        assert reset.previous_epoch == before.epoch != resync.place.epoch
        with Client(other_address) as client:
            wait_until(lambda: client.guests()[0].epoch == resync.place.epoch, "the other broker knows the new epoch", 10.0)
        client = system.client(retry_unreachable=True)
        assert client.info(name).epoch == resync.place.epoch
    finally:
        other.thaw()
        assert other.terminate() == 0


def test_a_cursor_of_another_history_is_a_resync_where_every_broker_has_forgotten(
    new_corral: Callable[..., CorralSystem], tmp_path: Path
) -> None:
    system = new_corral()
    (name,) = system.names
    client = system.client(retry_unreachable=True)
    guest = client.guest(name)
    keep_journal(system, name, tmp_path / "earlier")
    system.restart_worker(name)
    guest.run("undone", spec=system.spec("true")).delete(force=True)
    with client.events(guests=[name], broker_events=False) as events:
        cursor = events.cursor
    before = guest.list().place
    system.broker.kill()
    shutil.rmtree(system.directory / "broker")
    set_journal_back(system, name, tmp_path / "earlier")
    system.broker.start()
    system.restart_worker(name)
    guest.run("other", spec=system.spec("true")).delete(force=True)
    guest.run("more", spec=system.spec("true")).delete(force=True)
    after = guest.list().place
    assert (after.epoch, after.seq > before.seq) == (before.epoch, True), "brokers that forgot cannot know"
    with client.events(after=cursor, guests=[name], broker_events=False) as events:
        item = next(events)
    assert isinstance(item, Resync) and "another one than the asker had" in item.reason


def test_a_journal_set_back_to_before_its_last_epoch_does_not_go_on_in_the_older_one(corral: CorralSystem, tmp_path: Path) -> None:
    name = corral.names[0]
    client = corral.client(retry_unreachable=True)
    older = client.info(name).epoch
    keep_journal(corral, name, tmp_path / "earlier")
    (corral.state_dir(name) / "journal.sqlite").write_bytes(b"no database " * 1000)
    for file in FILES[1:]:
        (corral.state_dir(name) / file).unlink(missing_ok=True)
    corral.restart_worker(name)
    newer = client.info(name).epoch
    assert newer != older
    wait_until(lambda: client.guests()[0].epoch == newer, "the broker knows the new epoch", 10.0)
    set_journal_back(corral, name, tmp_path / "earlier")
    corral.restart_worker(name)
    wait_until(lambda: client.info(name).epoch not in (older, newer), "a third epoch begins", 5.0)
    assert f"epoch {newer} was announced" in corral.workers[name].log
    (aside,) = corral.state_dir(name).glob("journal.corrupt-*")
    aside.unlink()


@pytest.mark.guarantee(13)
def test_a_command_from_before_the_rewind_is_not_run_again(corral: CorralSystem, tmp_path: Path) -> None:
    """Its request is in no record any more; the epoch it states says so."""
    name = corral.names[0]
    client = corral.client(retry_unreachable=True)
    guest = client.guest(name)
    epoch = client.info(name).epoch
    keep_journal(corral, name, tmp_path / "earlier")
    corral.restart_worker(name)
    guest.run("once", spec=corral.spec("true"), request_id="once-only").delete(force=True)
    set_journal_back(corral, name, tmp_path / "earlier")
    corral.restart_worker(name)
    wait_until(lambda: client.info(name).epoch != epoch, "a new epoch begins", 5.0)
    with pytest.raises(CorralError) as failure:
        again = RunArgs(container="once", spec=corral.spec("true"))
        client.call(name, "run", again, request_id="once-only", epoch=epoch, age_s=1.0)
    assert failure.value.code == "outcome_unknown"
    assert [state.id for state in guest.list().containers] == []
