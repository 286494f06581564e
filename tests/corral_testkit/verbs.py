"""The whole table of verbs and states, and the means to try its cells on a real guest."""

from __future__ import annotations

import secrets
import signal
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from corral import CorralError, StdioOptions
from corral.sync.client import Client
from corral.sync.container import Container
from corral.sync.guest import Guest

STATES = ("absent", "created", "running", "paused", "stopped")
OK, NONE, LIVE = "", "container_not_found", "container_not_stopped"
INVALID, GONE, BUSY, TAKEN = "container_invalid_state", "container_not_running", "container_still_running", "container_already_exists"

TABLE: dict[str, dict[str, str]] = {
    "create": {"absent": OK, "created": TAKEN, "running": TAKEN, "paused": TAKEN, "stopped": TAKEN},
    "run": {"absent": OK, "created": TAKEN, "running": TAKEN, "paused": TAKEN, "stopped": TAKEN},
    "start": {"absent": NONE, "created": OK, "running": BUSY, "paused": BUSY, "stopped": GONE},
    "exec": {"absent": NONE, "created": OK, "running": OK, "paused": INVALID, "stopped": GONE},
    "kill": {"absent": NONE, "created": OK, "running": OK, "paused": OK, "stopped": GONE},
    "kill_all": {"absent": NONE, "created": OK, "running": OK, "paused": OK, "stopped": OK},
    "kill_0": {"absent": NONE, "created": OK, "running": OK, "paused": OK, "stopped": GONE},
    "kill_0_all": {"absent": NONE, "created": OK, "running": OK, "paused": OK, "stopped": OK},
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
    **{(verb, state): "stopped" for verb in ("kill", "kill_all") for state in ("created", "running", "paused")},
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
    "kill_all": lambda at: (at.container.kill(signal.SIGKILL, all=True), at.container.wait(10)),
    "kill_0": lambda at: at.container.kill(0),
    "kill_0_all": lambda at: at.container.kill(0, all=True),
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
