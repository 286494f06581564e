"""What is wrong with a guest that is up, or why it is not: `guests` says so."""

import pytest

from broker.core_rig import WALL_NS, Rig
from corral_broker.rules.answers import package_version
from corral_broker.rules.registration import PROBE_S
from corral_broker.state.guest_warnings import RIVAL_TOLD_S
from corral_schemas import session
from corral_schemas.frames import decode_reply, reply_value
from corral_schemas.limits import CLOCK_OFF_S
from corral_schemas.queries import GuestInfo, GuestsReply, Nothing


@pytest.fixture
def rig() -> Rig:
    rig = Rig()
    rig.begin()
    return rig


def listed(rig: Rig) -> GuestInfo:
    rig.command("", op="guests", args=Nothing())
    _, body = decode_reply([bytes(frame) for frame in rig.to_clients[-1][1:]])
    reply = reply_value("guests", body)
    assert isinstance(reply, GuestsReply)
    [info] = reply.guests
    return info


def wall_ns(rig: Rig, ahead_s: float) -> int:
    return WALL_NS + int((rig.now_s + ahead_s) * 1e9)


def test_a_guest_without_faults_has_no_warnings(rig: Rig) -> None:
    rig.register(b"s1", "vm-1", version=package_version(), time_ns=wall_ns(rig, CLOCK_OFF_S - 1))
    assert listed(rig).warnings == []


def test_a_clock_that_is_off_is_told_until_it_is_set(rig: Rig) -> None:
    rig.register(b"s1", "vm-1", time_ns=wall_ns(rig, -3600))
    assert listed(rig).warnings == ["its clock is 3600 s behind the broker's"]
    rig.heartbeat(b"s1", time_ns=wall_ns(rig, 90))
    assert listed(rig).warnings == ["its clock is 90 s ahead of the broker's"]
    rig.heartbeat(b"s1", time_ns=wall_ns(rig, 0))
    assert listed(rig).warnings == []


@pytest.mark.parametrize(("version", "is_old"), [("0.0.9", True), ("999.1", False), ("", False), ("unreleased", False)])
def test_an_older_corral_is_told(rig: Rig, version: str, is_old: bool) -> None:
    rig.register(b"s1", "vm-1", version=version)
    assert listed(rig).warnings == ([f"its Corral is {version}, older than the broker's {package_version()}"] if is_old else [])


def test_a_worker_of_another_protocol_is_listed_as_down_with_the_reason(rig: Rig) -> None:
    rig.send_session(b"s1", session.REGISTER, session.Register(guest="vm-1", worker="w1", v=9, version="9.0.0"))
    info = listed(rig)
    assert (info.up, info.protocol, info.version) == (False, 9, "9.0.0")
    assert info.reason == "refused: protocol version 9; spoken here: 1"
    rig.register(b"s2", "vm-1")
    assert (listed(rig).up, listed(rig).reason) == (True, "")


def test_a_second_worker_under_the_name_is_told_while_it_tries(rig: Rig) -> None:
    rig.register(b"s1", "vm-1")
    rig.register(b"s2", "vm-1", "w2")
    rig.pass_time(PROBE_S / 2)
    rig.heartbeat(b"s1")  # the first shows that it lives
    rig.pass_time(PROBE_S + 0.02)
    assert rig.last_to(b"s2")[0] == session.REFUSED
    assert listed(rig).warnings == ["another worker claims this name and is refused"]
    rig.pass_time(RIVAL_TOLD_S + 1)
    assert listed(rig).warnings == []
