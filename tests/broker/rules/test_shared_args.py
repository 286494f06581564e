"""Arguments for several guests come to the broker once; what it keeps of them is bounded, and nothing hangs on it."""

import pytest

from broker.core_rig import Rig
from corral_broker.rules.shared_args import BYTES_MAX, ENTRY_BYTES, KEPT_S, PER_CLIENT_BYTES_MAX, SharedArgs
from corral_schemas.frames import CommandHeader, pack


@pytest.fixture
def rig() -> Rig:
    made = Rig()
    for number in (1, 2):
        made.register(b"s%d" % number, f"vm-{number}")
    return made


def command(rig: Rig, guest: str, args: bytes, *, client: bytes = b"c1", op: str = "write_bundle") -> None:
    header = CommandHeader(id=f"{op}-to-{guest}", guest=guest, op=op, timeout_ms=60_000, shared="piece-1")
    rig.core.client([client, pack(header), args])


def arguments_sent(rig: Rig, session: bytes) -> list[bytes]:
    return [frames[4] for frames in rig.to_workers if frames[0] == session and len(frames) == 5]


def test_a_second_guest_gets_what_came_for_the_first(rig: Rig) -> None:
    command(rig, "vm-1", b"whole")
    command(rig, "vm-2", b"")
    assert (arguments_sent(rig, b"s1"), arguments_sent(rig, b"s2")) == ([b"whole"], [b"whole"])


def test_what_is_not_kept_is_asked_for_whole(rig: Rig) -> None:
    command(rig, "vm-1", b"")
    assert rig.replies() == [("write_bundle-to-vm-1", "args_unknown")]
    assert arguments_sent(rig, b"s1") == []


def test_nobody_gets_at_what_another_connection_sent(rig: Rig) -> None:
    command(rig, "vm-1", b"mine")
    command(rig, "vm-2", b"", client=b"c2")
    assert rig.replies(b"c2") == [("write_bundle-to-vm-2", "args_unknown")]


@pytest.mark.parametrize(("first", "then"), [("write_bundle", "kill"), ("kill", "write_bundle"), ("kill", "kill"), ("kill", "of_later")])
def test_no_other_command_is_given_arguments_that_the_audit_log_would_not_see(rig: Rig, first: str, then: str) -> None:
    command(rig, "vm-1", b"whole", op=first)
    command(rig, "vm-2", b"", op=then)
    assert arguments_sent(rig, b"s1") == [b"whole"]
    assert b"whole" not in arguments_sent(rig, b"s2")


def test_it_is_kept_for_a_few_seconds_after_its_last_use(rig: Rig) -> None:
    command(rig, "vm-1", b"whole")
    rig.pass_time(KEPT_S - 1)
    command(rig, "vm-2", b"")
    rig.pass_time(KEPT_S - 1)
    command(rig, "vm-1", b"")
    assert rig.replies() == []
    rig.pass_time(KEPT_S)
    command(rig, "vm-2", b"")
    assert rig.replies() == [("write_bundle-to-vm-2", "args_unknown")]


def test_it_is_kept_for_a_guest_that_is_down_too(rig: Rig) -> None:
    command(rig, "vm-9", b"whole")
    command(rig, "vm-2", b"")
    assert rig.replies() == [("write_bundle-to-vm-9", "guest_unreachable")]
    assert arguments_sent(rig, b"s2") == [b"whole"]


def test_no_connection_keeps_more_than_its_part_and_all_together_no_more_than_theirs() -> None:
    shared = SharedArgs()
    piece = bytes(PER_CLIENT_BYTES_MAX // 4)
    for number in range(8):
        shared.resolve(b"c1", str(number), piece, 0.0)
    assert [shared.resolve(b"c1", str(number), b"", 0.0) is not None for number in range(8)] == [False] * 5 + [True] * 3
    for number in range(BYTES_MAX // len(piece) + 8):
        shared.resolve(b"c%d" % number, "one", piece, 0.0)
    assert len(shared) <= BYTES_MAX // len(piece)
    for number in range(3 * BYTES_MAX // ENTRY_BYTES):
        shared.resolve(b"c%d" % (number % 1_000), str(number), b"x", 0.0)
    assert len(shared) <= BYTES_MAX // ENTRY_BYTES
    shared.due(KEPT_S)
    assert len(shared) == 0 and shared.next_due_s() is None


def test_the_same_name_sent_whole_again_takes_the_place_of_the_former() -> None:
    shared = SharedArgs()
    shared.resolve(b"c1", "one", b"former", 0.0)
    assert shared.resolve(b"c1", "one", b"later", 1.0) == b"later"
    assert (shared.resolve(b"c1", "one", b"", 2.0), len(shared)) == (b"later", 1)
