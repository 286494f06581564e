"""Which tests hold each numbered rule of PROTOCOL.md: a rule without one, and a test that is gone or renamed, are named here."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
PROTOCOL = (TESTS.parent / "schemas" / "PROTOCOL.md").read_text()

HELD_BY: dict[int, tuple[str, ...]] = {
    1: ("an_absent_version_is_version_1",),
    2: ("another_version_of_the_protocol_is_refused", "a_later_version_is_told_what_is_spoken_here"),
    3: ("unknown_fields_are_ignored", "fields_nobody_knows_are_ignored", "fields_at_their_default_are_left_out"),
    4: ("an_event_of_an_unknown_kind_is_a_plain_map", "a_code_from_a_newer_peer_is_kept_in_a_runtime_failure"),
    5: ("a_bad_sample_gives_its_error",),
    6: ("hello_tells_suffixes_on_ipc", "over_tcp_hello_tells_ports_and_everything_works", "the_longest_path_that_fits_is_served"),
    7: ("a_flood_of_stdio_does_not_hold_up_commands_or_events",),
    8: ("a_command_goes_to_the_registered_session_and_its_reply_to_the_client_that_asked", "a_peer_that_names_its_own_connection_is_cut",
        "a_peer_that_connects_and_says_nothing_is_cut"),
    9: ("another_broker_takes_over_when_the_first_is_killed", "two_brokers_carrying_the_same_events_give_each_once"),
    10: ("golden_bytes_decode_equal_through_msgpack_and_through_msgspec", "arguments_of_a_wrong_shape_are_a_bad_request"),
    11: ("an_integer_may_come_in_any_width", "what_msgpack_libraries_of_other_languages_get_wrong_is_said_with_a_hint"),
    12: ("any_frames_give_a_message_or_a_coded_error", "what_has_a_readable_id_is_answered_and_what_has_none_is_met_with_silence"),
    13: ("an_unprintable_empty_or_long_request_id_is_refused", "a_request_id_must_be_printable"),
    14: (
        "a_lost_reply_is_made_good_by_the_same_request_id",
        "every_copy_states_the_epoch_known_at_first_and_a_fresh_command_survives_a_new_one",
    ),
    15: ("a_run_and_an_exec_sent_many_times_under_one_id_run_once", "one_id_for_two_contents_is_a_conflict"),
    16: ("an_unknown_id_of_another_epoch_is_not_carried_out", "an_unknown_id_first_sent_before_records_were_lost_is_not_carried_out"),
    17: (
        "an_unknown_id_older_than_the_records_is_not_carried_out",
        "what_somebody_else_may_have_sent_states_what_he_knew_and_never_moves_on_to_a_new_epoch",
    ),
    18: ("only_what_cannot_have_been_sent_before_goes_out_again_to_a_new_epoch", "a_repeated_command_never_moves_on_to_a_new_epoch"),
    19: (
        "a_command_past_its_deadline_is_answered_within_the_grace_and_keeps_its_credit",
        "at_its_deadline_a_command_is_answered_goes_on_and_its_result_can_be_asked_for",
    ),
    20: ("a_poll_that_asks_for_more_time_than_it_has_is_answered_with_nothing_before_its_deadline",),
    21: (
        "silence_is_answered_by_sending_again_after_growing_times_under_one_id",
        "what_was_under_way_is_sent_again_when_the_connection_comes_back",
    ),
    22: ("a_busy_guest_is_asked_until_it_has_room", "a_key_that_floods_on_is_cut_turned_away_for_a_while_and_then_served_again"),
    23: (
        "when_a_session_ends_everything_sent_to_it_is_answered_as_sent",
        "an_unreachable_guest_is_the_outcome_at_once_unless_the_caller_has_patience",
    ),
    24: ("a_failure_is_a_result_too", "what_cannot_be_understood_is_refused_and_leaves_no_record"),
    25: ("a_command_cancelled_before_it_arrives_never_runs", "cancel_comes_too_late_for_what_has_begun_or_is_done"),
    26: ("a_wait_that_is_cancelled_is_answered_so", "a_wait_that_is_cancelled_ends_and_leaves_nothing_behind"),
    27: ("commands_on_one_container_take_effect_in_the_order_they_came", "kill_does_not_wait_behind_another_command"),
    28: ("the_result_is_stored_before_the_reply_goes_out", "an_event_is_on_disk_before_it_is_published"),
    29: ("one_command_more_than_the_credits_is_refused_until_one_is_answered", "long_polls_have_credits_of_their_own"),
    30: ("an_event_prefix_matches_exactly_the_guest_and_kind_it_names", "the_topics_as_they_are_written_down"),
    31: ("nothing_is_missed_after_a_subscription_is_confirmed_live", "subscribing_to_a_nonce_gives_it_back_once_on_the_same_pair"),
    32: ("a_nonce_is_echoed_again_after_a_reconnect_and_to_readers_of_everything",),
    33: ("inits_exit_comes_after_those_of_its_execs", "no_exit_no_byte_and_no_event_is_lost_and_nothing_runs_twice_under_chaos"),
    34: ("each_event_names_its_forerunner_of_the_same_kind", "one_kind_of_one_guest_is_followed_by_prev_alone"),
    35: ("a_heartbeat_is_acknowledged_and_published_as_the_guests_beacon", "a_lost_last_event_comes_after_the_next_heartbeat"),
    36: ("the_mark_of_an_event_is_that_of_the_document", "a_heartbeat_that_has_another_event_at_the_place_reached_makes_it_void"),
    37: ("replay_reads_by_place_kind_and_amount", "the_journal_is_asked_with_the_mark_of_the_event_that_was_handed_on_last"),
    38: ("list_then_follow_has_no_hole", "lists_that_race_creates_and_are_followed_derive_the_real_state"),
    39: ("a_cursor_comes_back_from_its_text", "a_cursor_written_by_an_older_version_is_still_read"),
    40: ("a_new_epoch_begins_with_a_reset_that_names_the_old_one", "a_new_epoch_is_a_resync_and_then_its_events"),
    41: ("each_event_of_the_broker_has_its_own_seq_and_the_guests_previous_one",),
    42: ("beacons_after_a_restart_of_the_broker_name_another_instance",),
    43: ("the_sample_checksum_is_that_of_the_sample_bytes", "all_output_then_the_ends_then_the_exit"),
    44: ("a_subscriber_gets_output_as_it_is_written",),
    45: (
        "bytes_and_gaps_are_contiguous_and_complete_in_whatever_order_replies_come",
        "offsets_choose_the_streams_and_a_reply_has_their_bytes_in_the_order_written",
    ),
    46: ("a_flipped_bit_is_an_error_and_not_output", "bytes_after_a_gap_are_verified_too"),
    47: ("a_small_cap_under_much_output_is_bytes_and_gaps_that_make_the_total", "bytes_that_are_gone_are_a_gap_here_and_an_error_there"),
    48: ("ends_and_exit_come_with_the_first_of_many_replies_and_the_stream_is_whole_at_its_total",),
    49: ("a_stream_left_open_at_the_exit_is_followed_to_its_own_end", "a_child_that_keeps_stdout_open_delays_nothing"),
    50: (
        "block_waits_for_its_one_consumer_who_gets_every_byte_over_a_worker_restart",
        "a_consumer_that_is_not_heard_any_more_holds_up_nothing_and_what_goes_is_a_gap",
    ),
    51: ("stdin_is_exactly_once_also_for_repeats_after_its_end", "two_writers_of_one_stdin_lose_nothing_of_each_other"),
    52: ("only_an_exit_with_code_0_looks_like_success", "an_exit_without_its_value_shows_as_125"),
    53: ("a_signal_shows_as_128_and_the_signal", "a_failed_start_shows_as_a_shell_would"),
    54: ("the_example_of_a_background_sleep", "in_a_shared_pid_namespace_the_rest_is_killed_when_init_exits"),
    55: ("a_reader_killed_again_and_again_has_the_exact_bytes_over_restarts_and_after_delete", "each_verb_in_each_state"),
    56: ("its_directory_and_sockets_are_for_its_owner_only", "tcp_without_keys_is_refused_unless_insecure_is_typed_and_then_said"),
    57: ("an_attempt_is_answered_unauthorized_counted_and_written_down_with_its_reason", "an_unknown_key_gets_hello_and_nothing_else"),
    58: ("a_revoked_guest_is_cut_within_two_seconds_and_its_events_pass_no_more",),
}  # fmt: skip
"""Number of a rule → names of tests (without `test_`) that fail where it does not hold."""


@pytest.fixture(scope="module")
def there() -> set[str]:
    """Names of all tests of the tree, without `test_`."""
    return {name for path in TESTS.rglob("test_*.py") for name in re.findall(r"^(?:async )?def test_(\w+)", path.read_text(), re.MULTILINE)}


def test_every_rule_is_held_by_a_test() -> None:
    assert [*HELD_BY] == [int(number) for number in re.findall(r"^- \*\*R-(\d+)\*\*", PROTOCOL, re.MULTILINE)]


@pytest.mark.parametrize("rule", HELD_BY)
def test_the_tests_of_a_rule_exist(rule: int, there: set[str]) -> None:
    assert HELD_BY[rule] and not set(HELD_BY[rule]) - there
