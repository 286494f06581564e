"""The lifecycle of a container: which verb is allowed in which state, and what each verb does to the state. Nothing else changes it."""

from typing import Literal

from corral_schemas.errors import error
from corral_worker.journal.records import ContainerRecord, Status

Verb = Literal["start", "exec", "kill", "pause", "resume", "update", "delete", "ps"]
Happening = Literal["created", "started", "paused", "resumed", "exited", "deleted"]

REFUSALS: dict[tuple[Verb, Status], str] = {
    ("start", "running"): "container_still_running",
    ("start", "paused"): "container_still_running",
    ("start", "stopped"): "container_not_running",
    ("exec", "paused"): "container_invalid_state",
    ("exec", "stopped"): "container_not_running",
    ("kill", "creating"): "container_invalid_state",
    ("kill", "stopped"): "container_not_running",
    ("pause", "paused"): "container_invalid_state",
    ("pause", "stopped"): "container_not_running",
    ("resume", "created"): "container_invalid_state",
    ("resume", "running"): "container_invalid_state",
    ("resume", "stopped"): "container_not_running",
    ("update", "stopped"): "container_not_running",
    ("delete", "running"): "container_not_stopped",
    ("delete", "paused"): "container_not_stopped",
}
"""(verb, state) → error code; what is not in it is allowed (a deleted container is container_not_found before this is asked)."""

TRANSITIONS: dict[tuple[Status, Happening], Status] = {
    ("creating", "created"): "created",
    ("creating", "exited"): "stopped",
    ("creating", "deleted"): "deleted",
    ("created", "started"): "running",
    ("created", "paused"): "paused",
    ("created", "exited"): "stopped",
    ("created", "deleted"): "deleted",
    ("running", "paused"): "paused",
    ("running", "exited"): "stopped",
    ("paused", "resumed"): "running",
    ("paused", "exited"): "stopped",
    ("paused", "started"): "paused",
    ("stopped", "deleted"): "deleted",
    ("stopped", "started"): "stopped",
}
"""(state, what happened) → state. An init that ends before `start` was answered is `stopped` already: its started changes nothing."""


def check(verb: Verb, container: ContainerRecord) -> None:
    """Raises the error the table gives for this verb in this state."""
    code = REFUSALS.get((verb, container.status))
    if code is not None:
        raise error(
            code, f"cannot {verb} container {container.name}: it is {container.status}", container=container.name, status=container.status
        )


def apply(container: ContainerRecord, happening: Happening) -> bool:
    """Moves the record on; False where the table has no such move (the caller logs it: a drift or a repeat)."""
    after = TRANSITIONS.get((container.status, happening))
    if after is None:
        return False
    if happening == "started":
        container.started = True
    elif happening == "resumed" and not container.started:
        after = "created"
    container.status = after
    return True
