"""What must hold in every order of things: one answer to each command, credits that add up, and no input that breaks the core."""

from collections import Counter
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from broker.core_rig import Rig
from corral_broker.state.deadlines import TICK_S, DeadlineWheel
from corral_broker.state.pending import Pending
from corral_schemas import session
from corral_schemas.cursor import Place
from corral_schemas.limits import DEADLINE_GRACE_S, IN_FLIGHT_PER_GUEST_MAX
from corral_schemas.queries import WaitArgs
from corral_schemas.stdio import ReadStdioArgs

GUESTS = st.sampled_from(["vm-1", "vm-2"])
ARGS = {"wait": WaitArgs(container="c"), "read_stdio": ReadStdioArgs(container="c")}


class RouterMachine(RuleBasedStateMachine):
    """Two guests that come and go, answer late, twice or never; a client that repeats itself."""

    def __init__(self) -> None:
        super().__init__()
        self.rig = Rig()
        self.asked = 0
        self.sessions = 0
        self.live: dict[str, bytes] = {}
        self.deadline_s: dict[str, float] = {}

    @rule(guest=GUESTS)
    def register(self, guest: str) -> None:
        if guest not in self.live:
            self.sessions += 1
            self.live[guest] = b"s%d" % self.sessions
            self.rig.register(self.live[guest], guest, f"w{self.sessions}")

    @rule(guest=GUESTS, how=st.sampled_from(["lost", "goodbye", "found gone"]))
    def leave(self, guest: str, how: str) -> None:
        identity = self.live.pop(guest, None)
        if identity is None:
            return
        if how == "lost":
            self.rig.core.lost(identity)
        elif how == "goodbye":
            self.rig.send_session(identity, session.GOODBYE, session.Goodbye())
        else:
            self.rig.gone.add(identity)
            self.ask(guest, "list", 100, 1)

    @rule(
        guest=GUESTS,
        op=st.sampled_from(["list", "wait", "read_stdio"]),
        timeout_ms=st.sampled_from([0, 50, 1_000, 60_000]),
        count=st.sampled_from([1, 1, 3, IN_FLIGHT_PER_GUEST_MAX]),
    )
    def ask(self, guest: str, op: str, timeout_ms: int, count: int) -> None:
        for _ in range(count):
            self.asked += 1
            request_id = f"r{self.asked}"
            self.deadline_s[request_id] = self.rig.now_s + timeout_ms / 1000
            self.rig.command(guest, op=op, id=request_id, args=ARGS.get(op), timeout_ms=timeout_ms)

    @rule(guest=GUESTS, pick=st.integers(0, 1_000), twice=st.booleans())
    def answer(self, guest: str, pick: int, twice: bool) -> None:
        sent = self.rig.commands_to(self.live.get(guest, b"none"))
        if sent:
            ref, header = sent[pick % len(sent)]
            for _ in range(1 + twice):
                self.rig.answer(self.live[guest], ref, header.id, guest)

    @rule(seconds=st.sampled_from([0.01, 0.2, 5.0]))
    def wait(self, seconds: float) -> None:
        for _ in range(int(seconds) + 1):
            for guest, identity in self.live.items():
                if identity not in self.rig.gone:
                    self.rig.heartbeat(identity)
                    assert self.rig.core.registry.guests[guest].up
            self.rig.pass_time(min(seconds, 1.0))

    @invariant()
    def nobody_is_answered_twice(self) -> None:
        answers = Counter(request_id for request_id, _ in self.rig.replies())
        assert all(count == 1 for count in answers.values())

    @invariant()
    def whoever_is_past_the_deadline_has_an_answer(self) -> None:
        answered = {request_id for request_id, _ in self.rig.replies()}
        late_s = self.rig.now_s - DEADLINE_GRACE_S
        assert all(request_id in answered for request_id, due_s in self.deadline_s.items() if due_s < late_s)

    @invariant()
    def credits_add_up(self) -> None:
        unanswered = 0
        for guest in self.rig.core.registry.guests.values():
            pending: list[Pending] = list(guest.credits.by_ref.values())
            assert guest.credits.in_flight == sum(not one.long_poll for one in pending) <= IN_FLIGHT_PER_GUEST_MAX
            assert guest.credits.waits == sum(one.long_poll for one in pending)
            assert guest.credits.args_bytes == sum(one.args_bytes for one in pending)
            assert guest.up or not pending
            unanswered += sum(not one.answered for one in pending)
        assert len(self.rig.core._router.pending) == unanswered


TestRouterMachine = RouterMachine.TestCase
TestRouterMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)

KINDS = st.sampled_from([session.REGISTER, session.HEARTBEAT, session.REPLY, session.GOODBYE, session.COMMAND, b""])
SCRAPS = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([b"\x80", b"\xc1", b"\x81\xa2id\xa1\xff", b"\x91" * 2_000]),
    st.builds(
        msgspec.msgpack.encode,
        st.dictionaries(
            st.sampled_from(
                ["id", "guest", "op", "timeout_ms", "worker", "epoch", "seq", "v", "kind", "role", "stream", "prev", "time_ns"]
            ),
            st.one_of(
                st.integers(-1, 2**64 - 1),
                st.text(max_size=5),
                st.binary(max_size=5),
                st.none(),
                st.lists(st.integers(-(2**63), 2**64 - 1), max_size=2),
            ),
            max_size=8,
        ),
    ),
)


@settings(max_examples=400, deadline=None)
@given(
    frames=st.lists(SCRAPS, max_size=6), kind=KINDS, where=st.sampled_from(["client", "worker", "registered", "event", "stdio", "prefix"])
)
def test_no_message_whatever_breaks_the_core(frames: list[Any], kind: bytes, where: str) -> None:
    rig = Rig()
    rig.register(b"s1", "vm-1")
    if where == "client":
        rig.core.client([b"c1", *frames])
    elif where in ("worker", "registered"):
        rig.core.worker([b"s1" if where == "registered" else b"s2", kind, *frames])
    elif where == "event":
        rig.core.event(frames)
    elif where == "stdio":
        rig.core.stdio(frames)
    elif frames:
        rig.core.subscription("stdio", frames[0])
    rig.core.end()
    rig.pass_time(1)


@settings(max_examples=300, deadline=None)
@given(
    age_ms=st.integers(0, 2**63 - 1),
    name=st.one_of(st.binary(max_size=4), st.text(alphabet="abé", max_size=4).map(str.encode)),
    value=SCRAPS.filter(len),
)
def test_a_held_command_with_any_unknown_field_is_sent_or_refused(age_ms: int, name: bytes, value: bytes) -> None:
    rig = Rig()
    rig.core.remember([("vm-1", Place(epoch="e", seq=1))])
    known = msgspec.msgpack.encode({"id": "r1", "guest": "vm-1", "op": "list", "timeout_ms": 9_000, "age_ms": age_ms})
    unknown = bytes([0xA0 + len(name)]) + name + value  # a str of that name, then whatever
    rig.core.client([b"c1", bytes([known[0] + 1]) + known[1:] + unknown, b"\x80"])
    rig.pass_time(0.5)
    rig.register(b"s1", "vm-1")
    assert len(rig.commands_to(b"s1")) == 1 or rig.count("command_malformed") == 1


class Entry:
    """Something with a deadline."""

    def __init__(self, due_s: float) -> None:
        self.due_s = due_s
        self.tick = 0


@given(st.lists(st.tuples(st.floats(0, 50), st.booleans()), max_size=60), st.lists(st.floats(0, 2), max_size=40))
def test_the_wheel_gives_each_entry_once_and_never_early_nor_a_tick_late(entries: list[tuple[float, bool]], steps: list[float]) -> None:
    wheel: DeadlineWheel[Entry] = DeadlineWheel()
    made = [(Entry(due_s), withdrawn) for due_s, withdrawn in entries]
    for entry, _ in made:
        wheel.add(entry, entry.due_s)
    for entry, withdrawn in made:
        if withdrawn:
            wheel.remove(entry)
    waiting = {entry for entry, withdrawn in made if not withdrawn}
    now_s = 0.0
    for step in steps:
        now_s += step
        for entry in wheel.pop_due(now_s):
            assert entry.due_s <= now_s
            waiting.remove(entry)
        assert all(entry.due_s > now_s - 1.01 * TICK_S for entry in waiting)
        assert (wheel.next_due_s() is None) == (not waiting)
