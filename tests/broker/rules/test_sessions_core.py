"""Registration, liveness and the end of sessions, without sockets."""

from pathlib import Path

import pytest

from broker.core_rig import Rig
from corral_broker.rules.registration import PROBE_S, SESSION_BYTES_MAX
from corral_broker.state.last_seen import LastSeenFile
from corral_broker.state.registry import GUESTS_MAX, Registry
from corral_schemas import session
from corral_schemas.cursor import Place
from corral_schemas.events import EventHeader, Started, mark_of
from corral_schemas.frames import encode_event, pack, unpack
from corral_schemas.limits import GUEST_DOWN_S, LABELS_MAX
from corral_schemas.queries import Load, WaitArgs
from corral_schemas.stdio import ReadStdioArgs
from corral_schemas.topics import event_topic


@pytest.fixture
def rig() -> Rig:
    return Rig()


def registered(frames: list[bytes]) -> session.Registered:
    assert frames[0] == session.REGISTERED
    return unpack(session.Registered, frames[1])


def refusal(frames: list[bytes]) -> str:
    assert frames[0] == session.REFUSED
    return unpack(session.Refused, frames[1]).code


def is_up(rig: Rig, guest: str) -> bool:
    return rig.core.registry.guests[guest].up


def test_registering_makes_the_guest_up_and_says_so_in_an_event(rig: Rig) -> None:
    answer = registered(rig.register(b"s1", "vm-1", epoch="e1", seq=3, labels={"zone": "a"}))
    assert (answer.broker, answer.seen) == ("broker-1", None)
    [(header, payload)] = rig.own_events()
    assert (header.guest, header.kind, header.epoch, header.seq, header.prev, header.worker) == (
        "vm-1",
        "guest_up",
        "broker-epoch",
        1,
        0,
        "broker-1",
    )
    assert payload == {"labels": {"zone": "a"}, "epoch": "e1", "seq": 3}


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"guest": "a/b"}, "bad_request"),
        ({"guest": ""}, "bad_request"),
        ({"guest": "g\n"}, "bad_request"),
        ({"worker": ""}, "bad_request"),
        ({"worker": "w" * 65}, "bad_request"),
        ({"v": 9}, "unsupported_version"),
        ({"labels": {str(number): "" for number in range(LABELS_MAX + 1)}}, "bad_request"),
        ({"labels": {"a": "x" * SESSION_BYTES_MAX}}, "message_too_large"),
        ({"role": "bulk"}, "guest_unreachable"),
    ],
)
def test_a_registration_that_cannot_stand_is_refused_with_its_reason(rig: Rig, fields: dict[str, object], code: str) -> None:
    rig.send_session(b"s1", session.REGISTER, session.Register(**{"guest": "vm-1", "worker": "w1", **fields}))  # type: ignore[arg-type]
    assert refusal(rig.last_to(b"s1")) == code
    assert rig.count("register_refused") == 1
    assert rig.events == []


@pytest.mark.parametrize("frames", [[], [b"\xc1"], [b"\x81\xa5guest\xa1\xff"], [b"", b""]])
def test_a_register_that_cannot_be_read_is_refused(rig: Rig, frames: list[bytes]) -> None:
    rig.core.worker([b"s1", session.REGISTER, *frames])
    assert refusal(rig.last_to(b"s1")) == "bad_request"


def test_an_unregistered_connection_is_asked_to_register(rig: Rig) -> None:
    for kind in (session.HEARTBEAT, session.REPLY):
        rig.core.worker([b"s1", kind, b"", b"", b""])
        assert rig.last_to(b"s1")[0] == session.PLEASE_REGISTER
    rig.core.worker([b"s2", session.GOODBYE, b""])
    assert rig.last_to(b"s2") == [b""]


@pytest.mark.parametrize("frames", [[], [b"nonsense"], [session.COMMAND, b"", b"", b""]])
def test_other_messages_of_strangers_are_counted_and_not_answered(rig: Rig, frames: list[bytes]) -> None:
    rig.core.worker([b"s1", *frames])
    assert (rig.to_workers, rig.count("session_malformed")) == ([], 1)


def test_a_heartbeat_is_acknowledged_and_published_as_the_guests_beacon(rig: Rig) -> None:
    rig.register(b"s1", "vm-1", epoch="e1", seq=3)
    rig.heartbeat(b"s1", seq=9, last_seq_by_kind={"exit": 8}, load=Load(running=2))
    header, payload = rig.own_events()[-1]
    assert rig.events[-1][0] == b"event/vm-1/beacon//"
    assert (header.epoch, header.seq, header.prev, header.worker, header.kind) == ("e1", 9, 0, "broker-1", "beacon")
    assert payload == {"last_seq_by_kind": {"exit": 8}, "load": {"running": 2}}


def test_a_heartbeat_that_cannot_be_read_still_shows_that_the_worker_lives(rig: Rig) -> None:
    rig.register(b"s1", "vm-1")
    rig.pass_time(GUEST_DOWN_S - 1)
    rig.core.worker([b"s1", session.HEARTBEAT, b"\xa1\xff"])
    rig.pass_time(2)
    assert is_up(rig, "vm-1")
    assert rig.count("session_malformed") == 1


def test_silence_takes_a_guest_down_and_any_message_keeps_it_up(rig: Rig) -> None:
    rig.register(b"s1", "vm-1")
    rig.register(b"s2", "vm-2")
    rig.pass_time(GUEST_DOWN_S - 1)
    rig.heartbeat(b"s2")
    rig.pass_time(1)
    assert not is_up(rig, "vm-1")
    assert rig.own_events()[-1][1] == {"reason": "silent"}
    assert is_up(rig, "vm-2")
    rig.pass_time(GUEST_DOWN_S)
    assert not is_up(rig, "vm-2")


def test_a_guest_that_flaps_is_looked_at_once_per_interval(rig: Rig) -> None:
    for number in range(100):
        rig.register(b"s%d" % number, "vm-1", f"w{number}")
        rig.core.lost(b"s%d" % number)
    rig.register(b"last", "vm-1")
    looks = 0
    while (due_s := rig.core.next_due_s()) is not None and due_s <= 1_000 + GUEST_DOWN_S:
        looks += 1
        rig.now_s = due_s
        rig.begin()
    assert looks == 1
    assert not is_up(rig, "vm-1")


def test_goodbye_takes_the_guest_down_with_its_reason(rig: Rig) -> None:
    rig.register(b"s1", "vm-1")
    rig.command("vm-1")
    rig.send_session(b"s1", session.GOODBYE, session.Goodbye(reason="upgrade"))
    assert rig.replies() == [("r1", "guest_unreachable")]
    assert rig.own_events()[-1][1] == {"reason": "said goodbye: upgrade"}


def test_each_event_of_the_broker_has_its_own_seq_and_the_guests_previous_one(rig: Rig) -> None:
    rig.register(b"s1", "vm-1")
    rig.register(b"s2", "vm-2")
    rig.core.lost(b"s1")
    rig.core.lost(b"s2")
    rig.register(b"s3", "vm-1")
    rig.core.lost(b"s3")
    seen = [(header.guest, header.kind, header.seq, header.prev) for header, _ in rig.own_events()]
    assert seen == [
        ("vm-1", "guest_up", 1, 0),
        ("vm-2", "guest_up", 2, 0),
        ("vm-1", "guest_down", 3, 0),
        ("vm-2", "guest_down", 4, 0),
        ("vm-1", "guest_up", 5, 1),
        ("vm-1", "guest_down", 6, 3),
    ]


def test_registering_again_on_the_same_connection_changes_nothing_but_what_it_states(rig: Rig) -> None:
    rig.register(b"s1", "vm-1")
    rig.command("vm-1")
    registered(rig.register(b"s1", "vm-1", labels={"a": "b"}))
    assert len(rig.events) == 1
    assert rig.replies() == []
    assert rig.core.registry.guests["vm-1"].labels == {"a": "b"}


def test_another_worker_on_the_same_connection_is_a_new_session(rig: Rig) -> None:
    rig.register(b"s1", "vm-1", "w1")
    rig.command("vm-1")
    registered(rig.register(b"s1", "vm-1", "w2"))
    assert rig.replies() == [("r1", "guest_unreachable")]
    assert [header.kind for header, _ in rig.own_events()] == ["guest_up", "guest_down", "guest_up"]


def test_a_connection_that_registers_for_another_guest_leaves_the_first(rig: Rig) -> None:
    rig.register(b"s1", "vm-1")
    registered(rig.register(b"s1", "vm-2"))
    assert (is_up(rig, "vm-1"), is_up(rig, "vm-2")) == (False, True)


class TestTwoConnectionsClaimOneGuest:
    """vm-1 has a session, and another connection registers for it."""

    @pytest.fixture(params=["another instance", "the same instance, of a cloned memory"])
    def rig(self, request: pytest.FixtureRequest) -> Rig:
        made = Rig()
        made.register(b"old", "vm-1", "w1")
        made.command("vm-1", timeout_ms=60_000)
        made.pass_time(1)
        made.register(b"new", "vm-1", "w1" if "same" in request.param else "w2")
        return made

    def test_the_old_one_is_asked_and_the_new_one_waits(self, rig: Rig) -> None:
        assert rig.last_to(b"old")[0] == session.PLEASE_REGISTER
        assert rig.last_to(b"new") == [b""]
        due_s = rig.core.next_due_s()
        assert due_s == pytest.approx(rig.now_s + PROBE_S, abs=0.02)

    def test_an_old_one_that_registers_again_keeps_the_guest(self, rig: Rig) -> None:
        rig.pass_time(PROBE_S / 2)
        registered(rig.register(b"old", "vm-1", "w1"))
        assert refusal(rig.last_to(b"new")) == "guest_busy"
        assert rig.replies() == []
        assert [header.kind for header, _ in rig.own_events()] == ["guest_up"]

    def test_any_other_sign_of_life_keeps_the_guest_too(self, rig: Rig) -> None:
        rig.pass_time(PROBE_S / 2)
        rig.heartbeat(b"old")
        assert rig.last_to(b"new") == [b""]
        rig.pass_time(PROBE_S)
        assert refusal(rig.last_to(b"new")) == "guest_busy"

    def test_a_silent_old_one_loses_the_guest(self, rig: Rig) -> None:
        rig.pass_time(PROBE_S + 0.02)
        registered(rig.last_to(b"new"))
        assert rig.replies() == [("r1", "guest_unreachable")]
        rig.command("vm-1", id="r2")
        assert [header.id for _, header in rig.commands_to(b"new")] == ["r2"]
        rig.core.worker([b"old", session.HEARTBEAT, pack(session.Heartbeat(epoch="e1", seq=0))])
        assert rig.last_to(b"old")[0] == session.PLEASE_REGISTER

    def test_a_closed_old_connection_loses_it_at_once(self, rig: Rig) -> None:
        rig.core.lost(b"old")
        registered(rig.last_to(b"new"))

    def test_goodbye_of_the_old_one_gives_it_at_once(self, rig: Rig) -> None:
        rig.send_session(b"old", session.GOODBYE, session.Goodbye())
        registered(rig.last_to(b"new"))

    def test_a_newcomer_that_repeats_itself_does_not_wait_longer(self, rig: Rig) -> None:
        rig.pass_time(PROBE_S * 0.9)
        rig.register(b"new", "vm-1", "w3")
        rig.pass_time(PROBE_S * 0.1 + 0.02)
        registered(rig.last_to(b"new"))
        assert rig.core.registry.guests["vm-1"].worker == "w3"

    def test_a_third_one_takes_the_place_of_the_second(self, rig: Rig) -> None:
        rig.register(b"third", "vm-1", "w3")
        assert refusal(rig.last_to(b"new")) == "guest_busy"
        rig.core.lost(b"old")
        registered(rig.last_to(b"third"))

    def test_a_newcomer_that_leaves_takes_nothing_from_an_old_one_that_is_silent_for_a_moment(self, rig: Rig) -> None:
        rig.core.lost(b"new")
        rig.pass_time(PROBE_S + 0.02)
        assert is_up(rig, "vm-1")
        assert rig.replies() == []
        assert [header.kind for header, _ in rig.own_events()] == ["guest_up"]

    def test_a_newcomer_that_has_left_meanwhile_leaves_the_guest_down(self, rig: Rig) -> None:
        rig.gone.add(b"new")
        rig.core.lost(b"old")
        assert not is_up(rig, "vm-1")
        registered(rig.register(b"fourth", "vm-1"))


def test_a_connection_found_closed_when_it_is_asked_gives_the_guest_at_once(rig: Rig) -> None:
    rig.register(b"old", "vm-1", "w1")
    rig.gone.add(b"old")
    registered(rig.register(b"new", "vm-1", "w2"))


class TestBulkSession:
    """vm-1 with a main and a bulk session."""

    @pytest.fixture
    def rig(self) -> Rig:
        made = Rig()
        made.register(b"main", "vm-1")
        registered(made.register(b"bulk", "vm-1", role="bulk"))
        made.command("vm-1", op="read_stdio", id="read", args=ReadStdioArgs(container="c"))
        made.command("vm-1", op="wait", id="wait", args=WaitArgs(container="c"))
        return made

    def test_commands_go_to_the_main_session_and_either_may_answer(self, rig: Rig) -> None:
        (read_ref, _), (wait_ref, _) = rig.commands_to(b"main")
        rig.answer(b"bulk", read_ref, "read", "vm-1")
        rig.answer(b"main", wait_ref, "wait", "vm-1")
        assert rig.replies() == [("read", "ok"), ("wait", "ok")]

    def test_when_it_breaks_only_commands_answered_over_it_fail(self, rig: Rig) -> None:
        rig.core.lost(b"bulk")
        assert rig.replies() == [("read", "guest_unreachable")]
        assert is_up(rig, "vm-1")

    def test_when_it_answers_before_it_has_registered_anew_who_waits_for_that_answer_is_told(self, rig: Rig) -> None:
        rig.core.lost(b"bulk")
        rig.command("vm-1", op="read_stdio", id="again", args=ReadStdioArgs(container="c"))
        ref, _ = rig.commands_to(b"main")[-1]
        rig.answer(b"after a break", ref, "again", "vm-1")
        assert rig.last_to(b"after a break")[0] == session.PLEASE_REGISTER
        for _ in range(2):
            registered(rig.register(b"after a break", "vm-1", role="bulk"))
            assert rig.replies() == [("read", "guest_unreachable"), ("again", "guest_unreachable")]

    def test_what_was_given_up_with_it_may_be_answered_late_over_the_next_one(self, rig: Rig) -> None:
        (read_ref, _), _ = rig.commands_to(b"main")
        rig.core.lost(b"bulk")
        registered(rig.register(b"bulk-2", "vm-1", role="bulk"))
        for _ in range(2):
            rig.answer(b"bulk-2", read_ref, "read", "vm-1")
        assert rig.replies() == [("read", "guest_unreachable")]
        assert (rig.count("replies_late"), rig.count("replies_unmatched")) == (1, 1), "the second is an answer to nothing"

    def test_when_it_says_goodbye_nothing_fails(self, rig: Rig) -> None:
        rig.send_session(b"bulk", session.GOODBYE, session.Goodbye())
        assert rig.replies() == []
        assert rig.core.registry.session(b"bulk") is None

    def test_another_one_replaces_it(self, rig: Rig) -> None:
        registered(rig.register(b"bulk-2", "vm-1", role="bulk"))
        assert rig.replies() == [("read", "guest_unreachable")]
        rig.core.worker([b"bulk", session.REPLY, b"", b"", b""])
        assert rig.last_to(b"bulk")[0] == session.PLEASE_REGISTER

    def test_it_ends_with_the_main_session(self, rig: Rig) -> None:
        rig.core.lost(b"main")
        assert rig.core.registry.session(b"bulk") is None

    def test_that_of_another_worker_instance_is_refused(self, rig: Rig) -> None:
        assert refusal(rig.register(b"other", "vm-1", "w2", role="bulk")) == "guest_unreachable"

    def test_it_does_not_keep_a_silent_guest_up(self, rig: Rig) -> None:
        rig.pass_time(GUEST_DOWN_S - 1)
        rig.core.worker([b"bulk", session.REPLY, b"none", b"", b""])
        rig.pass_time(1)
        assert not is_up(rig, "vm-1")


class TestSeenPlace:
    """`registered` states the highest place heard of, so that a worker with a rewound journal notices."""

    def seen(self, rig: Rig, epoch: str, seq: int) -> Place | None:
        rig.core.lost(b"probe")
        return registered(rig.register(b"probe", "vm-1", epoch=epoch, seq=seq)).seen

    def test_it_is_the_highest_of_registrations_heartbeats_and_events(self, rig: Rig) -> None:
        assert self.seen(rig, "e1", 5) is None
        assert self.seen(rig, "e1", 0) == Place(epoch="e1", seq=5)
        rig.heartbeat(b"probe", seq=7)
        assert self.seen(rig, "e1", 0) == Place(epoch="e1", seq=7)
        header = EventHeader(guest="vm-1", epoch="e1", seq=9, prev=0, worker="w1", time_ns=1, kind="started", container="c")
        rig.core.event(encode_event(event_topic("vm-1", "started", "c"), header, Started(pid=1)))
        assert self.seen(rig, "e1", 0) == Place(epoch="e1", seq=9, mark=mark_of(header))

    def test_it_has_the_mark_of_its_event_over_a_restart_too(self, rig: Rig, tmp_path: Path) -> None:
        self.seen(rig, "e1", 5)
        rig.heartbeat(b"probe", seq=7, mark=77)
        file = LastSeenFile(tmp_path)
        file.write(rig.core.take_places(), 0.0)
        after = Rig()
        after.core.remember(file.read())
        assert self.seen(after, "e1", 7) == Place(epoch="e1", seq=7, mark=77)

    def test_a_registration_alone_does_not_move_what_was_seen(self, rig: Rig) -> None:
        """It is judged by that: a worker that does not get to hear it says the same once more."""
        self.seen(rig, "e1", 5)
        assert self.seen(rig, "e1", 9) == Place(epoch="e1", seq=5)
        assert self.seen(rig, "e1", 9) == Place(epoch="e1", seq=5)

    def test_a_registration_in_another_epoch_leaves_it_and_a_heartbeat_replaces_it(self, rig: Rig) -> None:
        self.seen(rig, "e2", 5)
        assert self.seen(rig, "e1", 50) == Place(epoch="e2", seq=5)
        assert self.seen(rig, "e1", 50) == Place(epoch="e2", seq=5)
        rig.heartbeat(b"probe", epoch="e3", seq=1)
        assert self.seen(rig, "e3", 1) == Place(epoch="e3", seq=1)

    def test_it_survives_a_restart_through_what_is_remembered(self, rig: Rig) -> None:
        self.seen(rig, "e1", 5)
        assert rig.core.places_moved
        places = rig.core.take_places()
        assert not rig.core.places_moved
        after = Rig()
        after.core.remember(places.items())
        assert self.seen(after, "e1", 2) == Place(epoch="e1", seq=5)


def test_guests_down_longest_are_forgotten_when_too_many_are_known() -> None:
    registry = Registry()
    for number in range(GUESTS_MAX):
        guest = registry.find_or_add(f"vm-{number}")
        assert guest is not None
        if number > 0:
            registry.attach(guest, b"%d" % number, "main", 0.0)
    assert registry.find_or_add("one-more") is not None
    assert "vm-0" not in registry.guests
    assert len(registry.guests) == GUESTS_MAX
    registry.attach(registry.guests["one-more"], b"x", "main", 0.0)
    assert registry.find_or_add("too-many") is None
