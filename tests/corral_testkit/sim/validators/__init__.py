"""What must hold of every run: what clients saw, against the witness and against what the guests say at the end."""

from __future__ import annotations

from collections.abc import Callable

from corral_testkit.sim.validators import commands, ends, events, exits, output, silence, times, transfers
from corral_testkit.sim.validators.evidence import Evidence, Findings

VALIDATORS: list[Callable[[Evidence], Findings]] = [
    exits.exits_are_the_witness_s,
    exits.exits_are_the_same_for_all,
    exits.each_start_has_one_exit,
    exits.nothing_lives_unknown,
    output.output_is_what_was_printed,
    output.raw_output_is_what_was_printed,
    output.readers_do_not_wait_for_each_other,
    events.events_are_contiguous,
    events.nothing_is_missed_from_the_start,
    events.events_are_the_same_for_all,
    events.events_came_to_the_end,
    events.mirrors_are_true,
    commands.nothing_runs_twice,
    commands.replies_agree_and_are_true,
    commands.outcomes_can_be_asked_again,
    commands.kills_that_were_delivered_were,
    commands.what_was_not_sent_never_ran,
    times.nothing_runs_after_its_deadline,
    times.commands_end_in_time,
    times.what_queues_behind_nothing_is_quick,
    commands.runtime_errors_have_their_codes,
    ends.nothing_is_left_running,
    ends.stdin_came_once,
    transfers.bundles_are_what_was_pushed,
    transfers.looks_show_what_was_pushed,
    transfers.pushes_that_were_answered_are_there,
    transfers.transfers_fail_for_a_reason,
    transfers.files_are_what_was_written,
    silence.readers_of_live_processes_get_no_error,
    silence.readers_hear_of_the_end_and_of_each_byte_in_time,
    silence.guests_answer_only_what_they_were_asked,
]


def findings(evidence: Evidence) -> list[str]:
    """Everything that is wrong, each line beginning with the guarantee it breaks."""
    return [line for validator in VALIDATORS for line in validator(evidence)]
