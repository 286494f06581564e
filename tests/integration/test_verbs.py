"""Every verb in every state on real runc: done, or refused with its code, and the state afterwards as it must be."""

from __future__ import annotations

import secrets
import signal
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from corral import CorralError, StdioOptions
from corral.sync.client import Client
from corral.sync.handles import Container, Guest
from corral_testkit.system import CorralSystem

pytestmark = pytest.mark.runc

STATES = ("absent", "created", "running", "paused", "stopped")
OK, NONE, LIVE = "", "container_not_found", "container_not_stopped"
INVALID, GONE, BUSY, TAKEN = "container_invalid_state", "container_not_running", "container_still_running", "container_already_exists"

TABLE: dict[str, dict[str, str]] = {
    "create": {"absent": OK, "created": TAKEN, "running": TAKEN, "paused": TAKEN, "stopped": TAKEN},
    "run": {"absent": OK, "created": TAKEN, "running": TAKEN, "paused": TAKEN, "stopped": TAKEN},
    "start": {"absent": NONE, "created": OK, "running": BUSY, "paused": BUSY, "stopped": GONE},
    "exec": {"absent": NONE, "created": OK, "running": OK, "paused": INVALID, "stopped": GONE},
    "kill": {"absent": NONE, "created": OK, "running": OK, "paused": OK, "stopped": GONE},
    "stop": {"absent": NONE, "created": OK, "running": OK, "paused": OK, "stopped": OK},
    "pause": {"absent": NONE, "created": OK, "running": OK, "paused": INVALID, "stopped": GONE},
    "resume": {"absent": NONE, "created": INVALID, "running": INVALID, "paused": OK, "stopped": GONE},
    "ps": {"absent": NONE, "created": OK, "running": OK, "paused": OK, "stopped": OK},
    "update": {"absent": NONE, "created": OK, "running": OK, "paused": OK, "stopped": GONE},
    "delete": {"absent": NONE, "created": OK, "running": LIVE, "paused": LIVE, "stopped": OK},
    "delete_force": {"absent": NONE, "created": OK, "running": OK, "paused": OK, "stopped": OK},
    "state": {"absent": NONE, "created": OK, "running": OK, "paused": OK, "stopped": OK},
    "stats": {"absent": NONE, "created": OK, "running": OK, "paused": OK, "stopped": OK},
    "wait": {"absent": NONE, "created": "wait_timeout", "running": "wait_timeout", "paused": "wait_timeout", "stopped": OK},
    "resize": {"absent": NONE, "created": OK, "running": OK, "paused": OK, "stopped": "process_not_found"},
}
AFTERWARDS: dict[tuple[str, str], str] = {
    ("create", "absent"): "created",
    ("run", "absent"): "running",
    ("start", "created"): "running",
    ("pause", "created"): "paused",
    ("pause", "running"): "paused",
    ("resume", "paused"): "running",
    **{("kill", state): "stopped" for state in ("created", "running", "paused")},
    **{("stop", state): "stopped" for state in ("created", "running", "paused")},
    **{(verb, state): "absent" for verb in ("delete", "delete_force") for state in STATES if TABLE[verb][state] == OK},
}
"""(verb, state) → state afterwards, where it is another one."""
TTY = StdioOptions(tty=True)


class Place(NamedTuple):
    guest: Guest
    container: Container
    bundle: str


VERBS: dict[str, Callable[[Place], object]] = {
    "create": lambda at: at.guest.create(at.container.name, bundle=at.bundle, stdio=TTY),
    "run": lambda at: at.guest.run(at.container.name, bundle=at.bundle, stdio=TTY),
    "start": lambda at: at.container.start(),
    "exec": lambda at: at.container.exec(["true"]).wait(),
    "kill": lambda at: (at.container.kill(signal.SIGKILL), at.container.wait(10)),
    "stop": lambda at: at.container.stop(grace_s=0),
    "pause": lambda at: at.container.pause(),
    "resume": lambda at: at.container.resume(),
    "ps": lambda at: at.container.ps(),
    "update": lambda at: at.container.update({"pids": {"limit": 100}}),
    "delete": lambda at: at.container.delete(),
    "delete_force": lambda at: at.container.delete(force=True),
    "state": lambda at: at.container.state(),
    "stats": lambda at: at.container.stats(),
    "wait": lambda at: at.container.wait(0.05),
    "resize": lambda at: at.container.init.resize(10, 20),
}


def placed(client: Client, guest: str, bundle: Path, state: str) -> Place:
    """A container in that state (or none), of a name that was not used before: exits outlive their containers."""
    here = client.guest(guest)
    place = Place(here, here.container(f"c-{secrets.token_hex(4)}"), str(bundle))
    if state != "absent":
        here.create(place.container.name, bundle=str(bundle), stdio=TTY)
    if state not in ("absent", "created"):
        place.container.start()
    if state == "paused":
        place.container.pause()
    if state == "stopped":
        place.container.kill(signal.SIGKILL)
        place.container.wait()
    return place


def state_of(place: Place) -> str:
    try:
        return place.container.state().status
    except CorralError as why:
        assert why.code == NONE
        return "absent"


def code_of(work: Callable[[Place], object], place: Place) -> str:
    try:
        work(place)
    except CorralError as why:
        return why.code
    return OK


def test_the_table_has_every_cell_once() -> None:
    assert set(TABLE) == set(VERBS)
    assert all(tuple(row) == STATES for row in TABLE.values())


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("verb", TABLE)
def test_each_verb_in_each_state(corral: CorralSystem, bundle_dir: Callable[..., Path], verb: str, state: str) -> None:
    place = placed(corral.client(), corral.names[0], bundle_dir("sleep", "1000", tty=True), state)
    assert state_of(place) == state
    assert code_of(VERBS[verb], place) == TABLE[verb][state]
    assert state_of(place) == AFTERWARDS.get((verb, state), state)


def test_ps_shows_init_while_it_lives_and_nothing_once_it_has_stopped(corral: CorralSystem, bundle_dir: Callable[..., Path]) -> None:
    client = corral.client()
    for state in STATES[1:]:
        place = placed(client, corral.names[0], bundle_dir("sleep", "1000", tty=True), state)
        found = place.container.ps()
        assert [one.process for one in found] == ([] if state == "stopped" else ["init"])
        assert [one.pid for one in found] == ([] if state == "stopped" else [place.container.state().pid])
        place.container.delete(force=True)


def test_a_container_paused_before_its_start_is_created_again_after_resume(corral: CorralSystem, bundle_dir: Callable[..., Path]) -> None:
    place = placed(corral.client(), corral.names[0], bundle_dir("sh", "-c", "exit 5"), "absent")
    container = place.guest.create(place.container.name, bundle=place.bundle)
    container.pause()
    assert code_of(VERBS["start"], place) == BUSY
    container.resume()
    assert container.state().status == "created"
    container.start()
    assert container.wait().code == 5


def test_a_signal_that_is_caught_changes_nothing(corral: CorralSystem) -> None:
    script = "trap 'echo caught' USR1; echo ready; while :; do sleep 0.05; done"
    container = corral.client().guest(corral.names[0]).run("c", spec=corral.spec("sh", "-c", script))
    lines = container.init.stdout.lines()
    assert next(lines) == b"ready"
    assert container.kill(signal.SIGUSR1).outcome == "delivered"
    assert next(lines) == b"caught"
    assert container.state().status == "running"


def test_a_verb_that_names_an_older_instance_finds_nothing(corral: CorralSystem, bundle_dir: Callable[..., Path]) -> None:
    bundle = str(bundle_dir("sleep", "1000", tty=True))
    guest = corral.client().guest(corral.names[0])
    old = guest.run("c", bundle=bundle, stdio=TTY)
    old.delete(force=True)
    new = guest.run("c", bundle=bundle, stdio=TTY)
    assert new.instance != old.instance
    for verb, work in VERBS.items():
        if verb not in ("create", "run", "wait"):
            assert code_of(work, Place(guest, old, bundle)) == NONE, verb
    assert old.wait().signal == signal.SIGKILL
    assert new.state().status == "running"


def test_all_of_kill_reaches_every_process(corral: CorralSystem) -> None:
    container = corral.client().guest(corral.names[0]).run("c", spec=corral.spec("sh", "-c", "sleep 1000 & sleep 1000 & wait"))
    process = container.exec(["sleep", "1000"])
    container.kill(signal.SIGKILL, all=True)
    assert container.wait().signal == signal.SIGKILL
    assert process.wait().signal == signal.SIGKILL
    assert container.ps() == []
