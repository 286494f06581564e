"""The router's rules, without sockets and with a clock that the tests move."""

import msgspec
import pytest

from broker.core_rig import Rig
from corral_broker.state.pending import IN_FLIGHT_BYTES_PER_GUEST_MAX
from corral_schemas.cursor import Place
from corral_schemas.frames import CommandHeader, ReplyHeader, encode_reply, pack
from corral_schemas.limits import (
    BROKER_HOLD_S,
    DEADLINE_GRACE_S,
    FRAME_BYTES_MAX,
    HEADER_BYTES_MAX,
    HELD_COMMANDS_MAX,
    IN_FLIGHT_PER_GUEST_MAX,
    WAITS_PER_GUEST_MAX,
)
from corral_schemas.queries import ListArgs, Nothing, WaitArgs
from corral_schemas.session import REPLY
from corral_schemas.stdio import WriteStdinArgs

WAIT = WaitArgs(container="c")


@pytest.fixture
def rig() -> Rig:
    made = Rig()
    made.register(b"s1", "vm-1")
    return made


def test_a_command_goes_to_the_registered_session_and_its_reply_to_the_client_that_asked(rig: Rig) -> None:
    rig.register(b"s2", "vm-2")
    rig.command("vm-2", client=b"c9")
    [(ref, header)] = rig.commands_to(b"s2")
    assert (header.id, header.guest, rig.commands_to(b"s1")) == ("r1", "vm-2", [])
    rig.answer(b"s2", ref, "r1", "vm-2")
    assert rig.replies(b"c9") == [("r1", "ok")]


def test_header_and_arguments_reach_the_worker_byte_for_byte(rig: Rig) -> None:
    header = msgspec.msgpack.encode({"id": "r1", "guest": "vm-1", "op": "list", "timeout_ms": 5, "of_a_later_version": 1})
    rig.core.client([b"c1", header, b"whatever"])
    assert rig.to_workers[-1][3:] == [header, b"whatever"]


def test_an_op_unknown_here_is_forwarded_for_the_worker_to_judge(rig: Rig) -> None:
    rig.command("vm-1", op="checkpoint")
    assert [header.op for _, header in rig.commands_to(b"s1")] == ["checkpoint"]


def test_an_unknown_guest_is_refused_at_once_with_the_nearest_names(rig: Rig) -> None:
    rig.register(b"s2", "build-runner-17")
    rig.command("biuld-runner-17")
    assert rig.last_error().code == "guest_unreachable"
    assert rig.last_error().details["nearest"] == ["build-runner-17"]
    assert rig.last_error().details["sent"] is False


def test_a_guest_that_is_down_is_refused_at_once_with_the_reason(rig: Rig) -> None:
    rig.core.lost(b"s1")
    rig.command("vm-1")
    assert rig.last_error().code == "guest_unreachable"
    assert rig.last_error().details == {"sent": False, "nearest": [], "reason": "disconnected"}


@pytest.mark.parametrize(
    ("op", "code"), [("list", "bad_request"), ("run", "bad_request"), ("dance", "unsupported_op")], ids=["list", "run", "unknown"]
)
def test_an_op_that_needs_a_guest_and_names_none_is_refused(rig: Rig, op: str, code: str) -> None:
    rig.command("", op=op)
    assert rig.replies() == [("r1", code)]


def test_a_guest_name_that_cannot_be_one_is_a_bad_request(rig: Rig) -> None:
    rig.command("../etc")
    assert rig.replies() == [("r1", "bad_request")]


@pytest.mark.parametrize(
    ("header", "args", "code"),
    [
        (pack(CommandHeader(id="r1", guest="vm-1", op="list", timeout_ms=1, v=9)), b"", "unsupported_version"),
        (msgspec.msgpack.encode({"id": "r1", "op": "list"}), b"", "bad_request"),
        (msgspec.msgpack.encode({"id": "r1", "op": "list", "timeout_ms": -1}), b"", "bad_request"),
        (msgspec.msgpack.encode({"id": "r1", "op": b"\xff", "timeout_ms": 1}), b"", "bad_request"),
        (msgspec.msgpack.encode({"id": "r1", "op": "list", "timeout_ms": 1, "trace": "x" * HEADER_BYTES_MAX}), b"", "message_too_large"),
        (pack(CommandHeader(id="r1", guest="vm-1", op="list", timeout_ms=1)), bytes(FRAME_BYTES_MAX + 1), "message_too_large"),
        (pack(CommandHeader(id="r\n1", guest="vm-1", op="list", timeout_ms=1)), b"", "bad_request"),
    ],
    ids=["version", "no_timeout", "negative", "not_utf8", "long_header", "long_args", "unprintable_id"],
)
def test_a_malformed_command_is_answered_under_its_id_and_counted(rig: Rig, header: bytes, args: bytes, code: str) -> None:
    rig.core.client([b"c1", header, args])
    assert [found for _, found in rig.replies()] == [code]
    assert rig.count("command_malformed") == 1
    assert rig.commands_to(b"s1") == []


@pytest.mark.parametrize("frames", [[], [b""], [b"\xc1"], [b"\x80", b"", b""], [msgspec.msgpack.encode({"id": b"\xff"}), b""]])
def test_a_command_without_a_readable_id_is_dropped_and_counted(rig: Rig, frames: list[bytes]) -> None:
    rig.core.client([b"c1", *frames])
    assert (rig.to_clients, rig.count("command_malformed")) == ([], 1)


def test_one_command_more_than_the_credits_is_refused_until_one_is_answered(rig: Rig) -> None:
    for number in range(IN_FLIGHT_PER_GUEST_MAX + 1):
        rig.command("vm-1", id=f"r{number}")
    assert rig.replies() == [(f"r{IN_FLIGHT_PER_GUEST_MAX}", "guest_busy")]
    sent = rig.commands_to(b"s1")
    assert len(sent) == IN_FLIGHT_PER_GUEST_MAX
    rig.answer(b"s1", sent[0][0], "r0", "vm-1")
    rig.command("vm-1", id="after")
    assert len(rig.commands_to(b"s1")) == IN_FLIGHT_PER_GUEST_MAX + 1


def test_long_polls_have_credits_of_their_own(rig: Rig) -> None:
    for number in range(WAITS_PER_GUEST_MAX + 1):
        rig.command("vm-1", op="wait", id=f"w{number}", args=WAIT)
    assert rig.replies() == [(f"w{WAITS_PER_GUEST_MAX}", "guest_busy")]
    rig.command("vm-1", op="kill", id="k")
    assert rig.commands_to(b"s1")[-1][1].op == "kill"


def test_bytes_in_flight_to_a_guest_are_limited_whatever_their_number(rig: Rig) -> None:
    args = WriteStdinArgs(container="c", offset=0, data=bytes(250_000))
    count = IN_FLIGHT_BYTES_PER_GUEST_MAX // len(pack(args))
    for number in range(count + 1):
        rig.command("vm-1", op="write_stdin", id=f"r{number}", args=args)
    assert rig.replies() == [(f"r{count}", "guest_busy")]


def test_a_full_guest_does_not_harm_another(rig: Rig) -> None:
    rig.register(b"s2", "vm-2")
    for number in range(IN_FLIGHT_PER_GUEST_MAX + 10):
        rig.command("vm-1", id=f"r{number}")
    rig.command("vm-2", id="other")
    assert [header.id for _, header in rig.commands_to(b"s2")] == ["other"]


def test_a_command_past_its_deadline_is_answered_within_the_grace_and_keeps_its_credit(rig: Rig) -> None:
    for number in range(IN_FLIGHT_PER_GUEST_MAX):
        rig.command("vm-1", id=f"r{number}", timeout_ms=200)
    rig.pass_time(0.2)
    assert rig.replies() == []
    rig.pass_time(DEADLINE_GRACE_S * 0.8)
    assert {code for _, code in rig.replies()} == {"deadline_exceeded"}
    assert len(rig.replies()) == IN_FLIGHT_PER_GUEST_MAX
    rig.command("vm-1", id="more")
    assert rig.replies()[-1] == ("more", "guest_busy")


def test_a_late_reply_is_dropped_and_gives_the_credit_back(rig: Rig) -> None:
    rig.command("vm-1", timeout_ms=100)
    rig.pass_time(1)
    [(ref, _)] = rig.commands_to(b"s1")
    rig.answer(b"s1", ref, "r1", "vm-1")
    assert rig.replies() == [("r1", "deadline_exceeded")]
    assert rig.count("replies_late") == 1
    assert rig.core.registry.guests["vm-1"].credits.in_flight == 0


def test_a_second_reply_to_one_command_is_dropped(rig: Rig) -> None:
    rig.command("vm-1")
    [(ref, _)] = rig.commands_to(b"s1")
    rig.answer(b"s1", ref, "r1", "vm-1")
    rig.answer(b"s1", ref, "r1", "vm-1")
    assert rig.replies() == [("r1", "ok")]
    assert rig.count("replies_unmatched") == 1


def test_a_guest_cannot_answer_for_another(rig: Rig) -> None:
    rig.register(b"s2", "vm-2")
    rig.command("vm-1")
    rig.command("vm-2", id="r2")
    [(ref_1, _)], [(ref_2, _)] = rig.commands_to(b"s1"), rig.commands_to(b"s2")
    rig.answer(b"s2", ref_1, "r1", "vm-1")
    rig.answer(b"s2", ref_2, "r1", "vm-1")  # its own reference, the other's header
    rig.answer(b"s2", ref_2, "r2", "vm-1")
    rig.answer(b"never-registered", ref_1, "r1", "vm-1")
    assert rig.replies() == []
    assert (rig.count("replies_unmatched"), rig.count("reply_refused")) == (1, 2)
    rig.answer(b"s1", ref_1, "r1", "vm-1")
    assert rig.replies() == [("r1", "ok")]


def test_a_reply_over_the_limit_becomes_an_error(rig: Rig) -> None:
    rig.command("vm-1")
    [(ref, _)] = rig.commands_to(b"s1")
    header, _ = encode_reply(ReplyHeader(id="r1", guest="vm-1"), Nothing())
    rig.core.worker([b"s1", REPLY, ref, header, bytes(FRAME_BYTES_MAX + HEADER_BYTES_MAX + 1)])
    assert rig.replies() == [("r1", "message_too_large")]


def test_when_a_session_ends_everything_sent_to_it_is_answered_as_sent(rig: Rig) -> None:
    rig.command("vm-1")
    rig.command("vm-1", op="wait", id="w", args=WAIT, client=b"c2")
    rig.core.lost(b"s1")
    assert (rig.replies(), rig.replies(b"c2")) == ([("r1", "guest_unreachable")], [("w", "guest_unreachable")])
    assert rig.last_error().details["sent"] is True
    rig.pass_time(100)
    assert len(rig.to_clients) == 2


def test_a_send_that_finds_the_connection_gone_takes_the_guest_down(rig: Rig) -> None:
    rig.command("vm-1", id="earlier")
    rig.gone.add(b"s1")
    rig.command("vm-1", id="later")
    assert rig.replies() == [("earlier", "guest_unreachable"), ("later", "guest_unreachable")]
    assert rig.last_error().details["sent"] is False
    assert not rig.core.registry.guests["vm-1"].up


def test_a_connection_that_takes_nothing_more_is_busy_not_gone(rig: Rig) -> None:
    rig.full.add(b"s1")
    rig.command("vm-1")
    assert rig.replies() == [("r1", "guest_busy")]
    assert rig.core.registry.guests["vm-1"].up


def test_a_repeat_of_an_unanswered_command_is_joined_and_takes_no_credit(rig: Rig) -> None:
    for _ in range(IN_FLIGHT_PER_GUEST_MAX * 2):
        rig.command("vm-1", timeout_ms=1_000)
    [(ref, _)] = rig.commands_to(b"s1")
    rig.answer(b"s1", ref, "r1", "vm-1")
    assert rig.replies() == [("r1", "ok")]
    rig.command("vm-1")  # answered by now: the worker decides what a repeat gets
    assert len(rig.commands_to(b"s1")) == 2


def test_a_repeat_with_a_later_deadline_extends_it(rig: Rig) -> None:
    rig.command("vm-1", timeout_ms=1_000)
    rig.pass_time(0.5)
    rig.command("vm-1", timeout_ms=1_000)
    rig.pass_time(0.9)
    assert rig.replies() == []
    rig.pass_time(0.2)
    assert rig.replies() == [("r1", "deadline_exceeded")]


@pytest.mark.parametrize("change", [{"op": "state"}, {"client": b"c2"}, {"args": WAIT}], ids=["op", "connection", "arguments"])
def test_the_same_id_with_other_content_or_from_elsewhere_is_forwarded(rig: Rig, change: dict[str, object]) -> None:
    rig.command("vm-1")
    rig.command("vm-1", **change)  # type: ignore[arg-type]
    assert len(rig.commands_to(b"s1")) == 2


class TestHoldAtStart:
    """A broker that has just started, and remembers vm-9."""

    @pytest.fixture
    def rig(self) -> Rig:
        made = Rig()
        made.core.remember([("vm-9", Place(epoch="e1", seq=40))])
        return made

    def test_a_command_for_a_remembered_guest_waits_until_it_registers(self, rig: Rig) -> None:
        rig.command("vm-9", timeout_ms=10_000, age_ms=5)
        rig.pass_time(2)
        rig.register(b"s9", "vm-9")
        [(ref, header)] = rig.commands_to(b"s9")
        assert 7_900 <= header.timeout_ms <= 8_000
        assert 2_005 <= header.age_ms <= 2_105
        rig.answer(b"s9", ref, "r1", "vm-9")
        assert rig.replies() == [("r1", "ok")]

    def test_fields_unknown_here_survive_the_wait(self, rig: Rig) -> None:
        header = {"id": "r1", "guest": "vm-9", "op": "list", "timeout_ms": 9_000, "later": [1]}
        rig.core.client([b"c1", msgspec.msgpack.encode(header), pack(ListArgs())])
        rig.register(b"s9", "vm-9")
        assert msgspec.msgpack.decode(rig.to_workers[-1][3])["later"] == [1]

    def test_a_repeat_is_held_once(self, rig: Rig) -> None:
        rig.command("vm-9", timeout_ms=9_000)
        rig.command("vm-9", timeout_ms=9_000)
        rig.register(b"s9", "vm-9")
        assert len(rig.commands_to(b"s9")) == 1

    def test_a_held_command_is_answered_at_its_deadline(self, rig: Rig) -> None:
        rig.command("vm-9", timeout_ms=1_000)
        rig.pass_time(1 + DEADLINE_GRACE_S)
        assert rig.replies() == [("r1", "deadline_exceeded")]
        assert rig.last_error().details["sent"] is False

    def test_when_the_hold_ends_what_is_held_is_refused_and_later_commands_at_once(self, rig: Rig) -> None:
        rig.command("vm-9", timeout_ms=60_000)
        rig.pass_time(BROKER_HOLD_S)
        assert rig.replies() == [("r1", "guest_unreachable")]
        rig.command("vm-9", id="r2")
        assert rig.replies()[-1] == ("r2", "guest_unreachable")

    def test_a_name_it_does_not_remember_is_refused_at_once(self, rig: Rig) -> None:
        rig.command("vm-8")
        assert rig.replies() == [("r1", "guest_unreachable")]
        assert rig.last_error().details["nearest"] == ["vm-9"]

    def test_a_guest_that_came_and_went_is_not_held_for(self, rig: Rig) -> None:
        rig.register(b"s9", "vm-9")
        rig.core.lost(b"s9")
        rig.command("vm-9")
        assert rig.replies() == [("r1", "guest_unreachable")]

    def test_what_is_held_is_limited_and_keeps_its_order(self, rig: Rig) -> None:
        for number in range(HELD_COMMANDS_MAX + 1):
            rig.command("vm-9", id=f"r{number}", timeout_ms=9_000)
        assert rig.replies() == [(f"r{HELD_COMMANDS_MAX}", "guest_unreachable")]
        rig.register(b"s9", "vm-9")
        sent = [header.id for _, header in rig.commands_to(b"s9")]
        assert sent == [f"r{number}" for number in range(IN_FLIGHT_PER_GUEST_MAX)]
        assert rig.replies()[-1][1] == "guest_busy"

    def test_the_next_thing_due_is_the_end_of_the_hold_or_a_deadline(self, rig: Rig) -> None:
        rig.command("vm-9", timeout_ms=60_000)
        assert rig.core.next_due_s() == pytest.approx(1_000 + BROKER_HOLD_S)
        rig.command("vm-9", id="r2", timeout_ms=500)
        assert rig.core.next_due_s() == pytest.approx(1_000.5, abs=0.02)
