"""The lifecycle table: every verb in every state, every happening in every state."""

from __future__ import annotations

from typing import get_args

import pytest

from corral_schemas.errors import TABLE, CorralError
from corral_worker.containers import lifecycle
from corral_worker.containers.lifecycle import Happening, Verb
from corral_worker.journal.records import ContainerRecord, Status

STATES: tuple[Status, ...] = get_args(Status)
VERBS: tuple[Verb, ...] = get_args(Verb)
HAPPENINGS: tuple[Happening, ...] = get_args(Happening)

RUNNING, INVALID, GONE, LIVE = "container_still_running", "container_invalid_state", "container_not_running", "container_not_stopped"
REFUSED: dict[str, dict[str, str]] = {
    "created": {"resume": INVALID},
    "running": {"start": RUNNING, "resume": INVALID, "delete": LIVE},
    "paused": {"start": RUNNING, "exec": INVALID, "pause": INVALID, "delete": LIVE},
    "stopped": {"start": GONE, "exec": GONE, "kill": GONE, "pause": GONE, "resume": GONE, "update": GONE},
    "creating": {"kill": INVALID},
}
"""state → verb → code, written down once more by hand from what runc does."""


def container(status: Status, *, started: bool = True) -> ContainerRecord:
    return ContainerRecord(instance="i" * 26, name="c", status=status, init="p" * 26, started=started)


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("status", STATES)
def test_every_verb_in_every_state_is_allowed_or_refused_with_its_code(status: Status, verb: Verb) -> None:
    expected = REFUSED.get(status, {}).get(verb)
    if expected is None:
        lifecycle.check(verb, container(status))
        return
    with pytest.raises(CorralError) as refusal:
        lifecycle.check(verb, container(status))
    assert refusal.value.code == expected
    assert refusal.value.details == {"container": "c", "status": status}


@pytest.mark.parametrize("happening", HAPPENINGS)
@pytest.mark.parametrize("status", STATES)
def test_every_happening_in_every_state_moves_on_as_the_table_says_or_changes_nothing(status: Status, happening: Happening) -> None:
    one = container(status, started=status not in ("creating", "created"))
    moved = lifecycle.apply(one, happening)
    assert moved == ((status, happening) in lifecycle.TRANSITIONS)
    assert one.status == lifecycle.TRANSITIONS.get((status, happening), status)
    assert one.started == (status not in ("creating", "created") or (moved and happening == "started"))


def test_every_code_of_the_table_is_one_of_the_contract() -> None:
    assert set(lifecycle.REFUSALS.values()) <= set(TABLE)


def test_the_table_names_only_states_verbs_and_happenings_that_exist() -> None:
    assert set(lifecycle.REFUSALS) <= {(verb, status) for verb in VERBS for status in STATES}
    assert set(lifecycle.TRANSITIONS) <= {(status, one) for status in STATES for one in HAPPENINGS}


def test_a_container_paused_before_its_start_is_created_again_after_resume() -> None:
    one = container("created", started=False)
    assert [lifecycle.apply(one, "paused"), one.status] == [True, "paused"]
    assert [lifecycle.apply(one, "resumed"), one.status] == [True, "created"]
    assert [lifecycle.apply(one, "started"), one.status] == [True, "running"]
    lifecycle.apply(one, "paused")
    assert [lifecycle.apply(one, "resumed"), one.status] == [True, "running"]


def test_an_init_that_ended_before_start_was_answered_stays_stopped() -> None:
    one = container("created", started=False)
    lifecycle.apply(one, "exited")
    assert lifecycle.apply(one, "started")
    assert (one.status, one.started) == ("stopped", True)


def test_nothing_leads_out_of_deleted() -> None:
    assert not any(lifecycle.apply(container("deleted"), happening) for happening in HAPPENINGS)
