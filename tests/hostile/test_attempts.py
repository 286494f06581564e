"""The table of attempts: who tries what with which key, and that it is refused, counted, and leaves everybody else alone."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import zmq

from corral_schemas import session
from corral_schemas.commands import ContainerTarget, ExecArgs, KillArgs
from corral_schemas.containers import OciProcess
from corral_schemas.errors import CorralError
from corral_schemas.events import EventHeader, Started
from corral_schemas.frames import CommandHeader, ReplyHeader, encode_command, encode_event, encode_reply, pack
from corral_schemas.keyfiles import Policy, Rule
from corral_schemas.queries import ForgetGuestsArgs, GuestsReply, ListArgs, Nothing, ReplayArgs, ReplayReply
from corral_schemas.topics import event_topic
from corral_testkit.wire_peers import FakeWorker, Keys, PeerTimeoutError, repeat_until
from hostile.keyed_broker import KeyedBroker, refused

SILENCE_S = 0.7


class Stage(NamedTuple):
    """The scene of each attempt: an operator, guests `good` and `evil`, and the key of the evil one."""

    broker: KeyedBroker
    operator: Keys
    observer: Keys
    good: FakeWorker
    evil: FakeWorker
    evil_keys: Keys
    starter: Keys
    lost: Keys


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    directory = Path(tempfile.mkdtemp(prefix="crl"))
    try:
        with KeyedBroker(directory) as keyed:
            yield set_stage(keyed)
    finally:
        shutil.rmtree(directory)


def set_stage(keyed: KeyedBroker) -> Stage:
    keyed.policy("starter", Policy(allow=[Rule(ops=["start", "state"], guests=["go*"])]))
    operator, observer, good_keys, evil_keys, starter, lost = keyed.several_keys(
        ("op", "operator"),
        ("obs", "observer"),
        ("good", "guest", "good"),
        ("evil", "guest", "evil"),
        ("st", "policy:starter"),
        ("lost", "policy:nowhere"),
    )
    good, evil = keyed.worker(good_keys, "good"), keyed.worker(evil_keys, "evil")
    good.register()
    evil.register()
    return Stage(keyed, operator, observer, good, evil, evil_keys, starter, lost)


@pytest.fixture(autouse=True)
def both_guests_are_up(stage: Stage) -> None:
    """They send no heartbeats; where the machine is slow, the broker gives them up between two tests."""
    for worker in (stage.good, stage.evil):
        worker.send_register()
        while worker.receive(worker.main)[0] != session.REGISTERED:
            continue


KILL = KillArgs(container="c")


def observer_kills(stage: Stage) -> str:
    return refused(lambda: stage.broker.client(stage.observer).call("kill", KILL, "good"))


def observer_runs_an_op_of_the_future(stage: Stage) -> str:
    return refused(lambda: stage.broker.client(stage.observer).call("frobnicate", Nothing(), "good"))


def guest_commands_another_guest(stage: Stage) -> str:
    return refused(lambda: stage.broker.client(stage.evil_keys).call("kill", KILL, "good"))


def guest_commands_itself(stage: Stage) -> str:
    return refused(lambda: stage.broker.client(stage.evil_keys).call("list", ListArgs(), "evil"))


def guest_lists_the_fleet(stage: Stage) -> str:
    return refused(lambda: stage.broker.client(stage.evil_keys).call("guests", Nothing()))


def stranger_asks(stage: Stage) -> str:
    return refused(lambda: stage.broker.client(stage.broker.new_keys()).call("guests", Nothing()))


def policy_goes_beyond_its_ops(stage: Stage) -> str:
    client = stage.broker.client(stage.starter)
    return refused(lambda: client.call("kill", KILL, "good"))


def policy_goes_beyond_its_guests(stage: Stage) -> str:
    client = stage.broker.client(stage.starter)
    target = ContainerTarget(container="c")
    return refused(lambda: client.call("start", target, "evil"))


def policy_without_rules(stage: Stage) -> str:
    client = stage.broker.client(stage.lost)
    return refused(lambda: client.call("guests", Nothing()))


def guest_registers_as_another(stage: Stage) -> str:
    with stage.evil.dial_again() as socket:
        stage.evil.send_register(socket, guest="good")
        return stage.evil.expect(session.REFUSED, session.Refused, socket).code


def guest_takes_the_bulk_session_of_another(stage: Stage) -> str:
    with stage.evil.dial_again() as socket:
        stage.evil.send_register(socket, guest="good", worker=stage.good.worker, role="bulk")
        return stage.evil.expect(session.REFUSED, session.Refused, socket).code


def operator_registers_as_a_guest(stage: Stage) -> str:
    worker = stage.broker.worker(stage.operator, "good")
    worker.send_register()
    return worker.expect(session.REFUSED, session.Refused).code


def stranger_registers(stage: Stage) -> str:
    worker = stage.broker.worker(stage.broker.new_keys(), "good")
    worker.send_register()
    return worker.expect(session.REFUSED, session.Refused).code


def stranger_registers_with_a_guessed_token(stage: Stage) -> str:
    worker = stage.broker.worker(stage.broker.new_keys(), "good")
    worker.send_register(token="guess")
    return worker.expect(session.REFUSED, session.Refused).code


class Attempt(NamedTuple):
    """One line of the table: who tries what, what counts it, and what the audit log says of it."""

    act: Callable[[Stage], str]
    counter: str
    op: str
    guest: str
    why: str


ANSWERED = [
    Attempt(observer_kills, "command_unauthorized", "kill", "good", "key obs (observer) may not kill on guest good"),
    Attempt(observer_runs_an_op_of_the_future, "command_unauthorized", "frobnicate", "good", "key obs (observer) may not frobnicate"),
    Attempt(guest_commands_another_guest, "command_unauthorized", "kill", "good", "key evil (guest) may not kill on guest good"),
    Attempt(guest_commands_itself, "command_unauthorized", "list", "evil", "key evil (guest) may not list on guest evil"),
    Attempt(guest_lists_the_fleet, "command_unauthorized", "guests", "", "key evil (guest) may not guests"),
    Attempt(stranger_asks, "command_unauthorized", "guests", "", "is pending: `corral keys accept"),
    Attempt(policy_goes_beyond_its_ops, "command_unauthorized", "kill", "good", "key st (policy:starter) may not kill on guest good"),
    Attempt(policy_goes_beyond_its_guests, "command_unauthorized", "start", "evil", "key st (policy:starter) may not start on guest evil"),
    Attempt(policy_without_rules, "command_unauthorized", "guests", "", "key lost (policy:nowhere) may not guests"),
    Attempt(guest_registers_as_another, "register_refused", "register", "good", "key evil is for the guest evil, not for the guest good"),
    Attempt(
        guest_takes_the_bulk_session_of_another,
        "register_refused",
        "register",
        "good",
        "key evil is for the guest evil, not for the guest good",
    ),
    Attempt(operator_registers_as_a_guest, "register_refused", "register", "good", "key op is for role operator, not for the guest good"),
    Attempt(stranger_registers, "register_refused", "register", "good", "is pending: `corral keys accept"),
    Attempt(stranger_registers_with_a_guessed_token, "register_refused", "register", "good", "no such token"),
]


@pytest.mark.guarantee(21)
@pytest.mark.parametrize("attempt", ANSWERED, ids=lambda attempt: str(attempt.act.__name__))
def test_an_attempt_is_answered_unauthorized_counted_and_written_down_with_its_reason(stage: Stage, attempt: Attempt) -> None:
    before = stage.broker.count(stage.operator, attempt.counter)
    assert attempt.act(stage) == "unauthorized"
    assert stage.broker.count(stage.operator, attempt.counter) > before
    wanted = {"op": attempt.op, "guest": attempt.guest, "verdict": "refused"}
    stage.broker.audit(last=lambda line: wanted.items() <= line.items() and attempt.why in line["why"])
    assert_served(stage)


def forged_reply(stage: Stage) -> None:
    """With the right reference, by another guest's session."""
    client = stage.broker.client(stage.operator)
    client.send("list", ListArgs(), "good")
    command = stage.good.command()
    forged = [session.REPLY, command.ref, *encode_reply(ReplyHeader(id=command.header.id, guest="good"), Nothing())]
    stage.evil.main.send_multipart(forged)
    stage.good.answer(command, CorralError("runtime_failed", "good's own"))
    assert isinstance(outcome := client.reply("list")[1], CorralError), "the forged answer has passed"
    assert outcome.message == "good's own"


def reply_sent_again(stage: Stage) -> None:
    """Frames that have been there before."""
    client = stage.broker.client(stage.operator)
    client.send("list", ListArgs(), "good")
    command = stage.good.command()
    for _ in range(2):
        stage.good.answer(command, CorralError("runtime_failed", "x"))
    client.reply("list")
    assert not client.socket.poll(100), "a second answer to one command"


def event_as_another(stage: Stage) -> None:
    stage.evil.publish_event("started", Started(pid=1), "c", guest="good", worker=stage.good.worker)


def event_as_the_broker(stage: Stage) -> None:
    stage.evil.publish_event("guest_down", Started(pid=1), guest="evil")


def event_under_another_topic(stage: Stage) -> None:
    stage.evil.publish_event("started", Started(pid=1), "c")  # a good one first: its socket is there
    assert stage.evil.events_socket is not None
    header = EventHeader(guest="evil", epoch="e", seq=1, prev=0, worker=stage.evil.worker, time_ns=1, kind="started", container="c")
    stage.evil.events_socket.send_multipart(encode_event(event_topic("good", "started", "c", "init"), header, Started(pid=1)))


def stdio_as_another(stage: Stage) -> None:
    stage.evil.publish_stdio("c", b"x", guest="good", worker=stage.good.worker)


def session_of_another_continued(stage: Stage) -> None:
    """A heartbeat with the other's epoch, over a connection that has not registered."""
    with stage.evil.dial_again() as socket:
        socket.send_multipart([session.HEARTBEAT, pack(session.Heartbeat(epoch=stage.good.epoch, seq=99))])
        assert stage.evil.receive(socket)[0] == session.PLEASE_REGISTER


def name_of_another_connection_claimed(stage: Stage) -> None:
    with stage.broker.peer(stage.operator).context.socket(zmq.DEALER) as opened:
        opened.linger = 0
        opened.routing_id = b"good"
        opened.curve_publickey, opened.curve_secretkey, opened.curve_serverkey = (key.encode() for key in stage.operator)
        opened.connect(stage.broker.address)
        opened.send_multipart(encode_command(CommandHeader(id="x", op="hello", timeout_ms=1_000), Nothing()))
        assert not opened.poll(200)


def guest_subscribes(stage: Stage) -> None:
    connects_in_vain(stage, stage.evil_keys, zmq.SUB, "events_out")


def guest_subscribes_to_output(stage: Stage) -> None:
    connects_in_vain(stage, stage.evil_keys, zmq.SUB, "stdio_out")


def stranger_subscribes(stage: Stage) -> None:
    connects_in_vain(stage, stage.broker.new_keys(), zmq.SUB, "events_out")


def operator_publishes(stage: Stage) -> None:
    connects_in_vain(stage, stage.operator, zmq.PUB, "events_in")


def observer_publishes_output(stage: Stage) -> None:
    connects_in_vain(stage, stage.observer, zmq.PUB, "stdio_in")


def stranger_publishes(stage: Stage) -> None:
    connects_in_vain(stage, stage.broker.new_keys(), zmq.PUB, "events_in")


def connects_in_vain(stage: Stage, keys: Keys, kind: int, name: str) -> None:
    with stage.broker.peer(keys).dial(kind, stage.broker.endpoint(name)) as opened:
        monitor = opened.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
        assert not monitor.poll(200), "it is connected"
        opened.disable_monitor()
        monitor.close(0)


SILENT = {
    forged_reply: "replies_unmatched: evil answered what it was not asked",
    reply_sent_again: "replies_unmatched: good answered what it was not asked",
    event_as_another: "event_unauthorized: the key behind it is not that of guest 'good'",
    event_as_the_broker: "event_refused: topic b'event/evil/guest_down//'",
    event_under_another_topic: "event_refused: topic b'event/good/started/c/init' is not for an event of 'evil'",
    stdio_as_another: "stdio_unauthorized: the key behind it is not that of guest 'good'",
    session_of_another_continued: "strangers_asked_to_register: heartbeat from a connection that has not registered",
    name_of_another_connection_claimed: "identity_claimed: b'good'",
    guest_subscribes: "handshake_refused: events_out from 127.0.0.1: key evil (guest) may not subscribe",
    guest_subscribes_to_output: "handshake_refused: stdio_out from 127.0.0.1: key evil (guest) may not subscribe",
    stranger_subscribes: "handshake_refused: events_out from 127.0.0.1: an unknown key",
    operator_publishes: "handshake_refused: events_in from 127.0.0.1: key op (operator) is no guest's",
    observer_publishes_output: "handshake_refused: stdio_in from 127.0.0.1: key obs (observer) is no guest's",
    stranger_publishes: "handshake_refused: events_in from 127.0.0.1: an unknown key",
}
"""What gets no answer: who tries what, and what the broker's log says of it, its counter first."""


@pytest.mark.guarantee(21)
@pytest.mark.parametrize(("attempt", "logged"), SILENT.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_an_attempt_passes_nothing_and_is_counted_and_logged_with_its_reason(
    stage: Stage, attempt: Callable[[Stage], None], logged: str
) -> None:
    subscriber = stage.broker.subscriber(stage.operator, b"event/good/started/", b"event/evil/guest_down/", b"stdio/good/")
    counter = logged.partition(":")[0]
    before = stage.broker.count(stage.operator, counter)
    # the log has one line a second for each reason, and what is published before a connection is through is lost
    repeat_until(lambda: attempt(stage), lambda: logged in stage.broker.log(), timeout_s=30.0)
    assert stage.broker.count(stage.operator, counter) > before
    assert not subscriber.socket.poll(0), "something forged has passed"
    assert_served(stage)


def assert_served(stage: Stage) -> None:
    """The operator still gets the good guest's own answer."""
    client = stage.broker.client(stage.operator)
    request_id = client.send("list", ListArgs(), "good")
    stage.good.answer(stage.good.command(), CorralError("runtime_failed", "good's own"))
    header, outcome = client.reply("list")
    assert header.id == request_id
    assert isinstance(outcome, CorralError)
    assert outcome.message == "good's own"


def test_a_subscriber_on_the_publishing_port_gets_nothing(stage: Stage) -> None:
    with stage.broker.peer(stage.evil_keys).dial(zmq.SUB, stage.broker.endpoint("events_in")) as opened:
        opened.subscribe(b"")
        for _ in range(20):
            stage.good.publish_event("started", Started(pid=1), "c")
        assert not opened.poll(int(SILENCE_S * 1000))
    assert_served(stage)


@pytest.mark.parametrize("claimed", [b"\x00\x01", b"x" * 255])
def test_a_peer_that_names_its_own_connection_is_cut(stage: Stage, claimed: bytes) -> None:
    before = stage.broker.count(stage.operator, "identity_claimed")
    with stage.broker.peer(stage.operator).context.socket(zmq.DEALER) as opened:
        opened.linger = 0
        opened.routing_id = claimed
        opened.curve_publickey, opened.curve_secretkey, opened.curve_serverkey = (key.encode() for key in stage.operator)
        opened.connect(stage.broker.address)
        opened.send_multipart(encode_command(CommandHeader(id="x", op="hello", timeout_ms=1_000), Nothing()))
        repeat_until(lambda: None, lambda: stage.broker.count(stage.operator, "identity_claimed") > before)
        assert not opened.poll(200)
    assert_served(stage)


def test_a_policy_allows_what_it_names(stage: Stage) -> None:
    client = stage.broker.client(stage.starter)
    target = ContainerTarget(container="c")
    client.send("start", target, "good")
    assert stage.good.command().header.op == "start"


def test_a_policy_for_some_guests_lets_no_others_be_forgotten(keyed: KeyedBroker) -> None:
    keyed.policy("web", Policy(allow=[Rule(ops=["forget_guests"], guests=["web-*"])]))
    some = keyed.keys("some", "policy:web")
    operator = keyed.client(keyed.keys("op", "operator"))
    for name in ("web-1", "db-1"):
        worker = keyed.worker(keyed.keys(name, "guest", name), name)
        worker.register()
        worker.close()
    client = keyed.client(some)
    assert refused(lambda: client.call("forget_guests", ForgetGuestsArgs(guests=["web-1", "db-1"]))) == "unauthorized"
    client.call("forget_guests", ForgetGuestsArgs(guests=["web-1"]))
    known = operator.call("guests", Nothing())
    assert isinstance(known, GuestsReply) and [info.guest for info in known.guests] == ["db-1"]
    lines = keyed.audit(lambda line: line["op"] == "forget_guests" and line["verdict"] == "allowed")
    told = [(line["target"], line["verdict"]) for line in lines if line["op"] == "forget_guests"]
    assert told == [("web-1,db-1", "refused"), ("web-1", "allowed")]


def test_a_policy_for_some_guests_lets_no_history_of_all_be_read(keyed: KeyedBroker) -> None:
    for name, guests in (("some", ["web-*"]), ("every", ["*"])):
        keyed.policy(name, Policy(allow=[Rule(ops=["replay"], guests=guests)]))
    some, every, observer = keyed.several_keys(("some", "policy:some"), ("every", "policy:every"), ("watch", "observer"))
    assert refused(lambda: keyed.client(some).call("replay", ReplayArgs())) == "unauthorized"
    for keys in (every, observer):
        reply = keyed.client(keys).call("replay", ReplayArgs())
        assert isinstance(reply, ReplayReply) and len(reply.events) == 1


def test_a_policy_says_which_members_of_a_process_an_exec_may_state(keyed: KeyedBroker) -> None:
    """With every member, capabilities among them, whoever may exec could be root in the guest."""
    rules = [Rule(ops=["exec"], guests=["g*"], exec_members=["rlimits"]), Rule(ops=["*"], guests=["lab"], exec_members=["*"])]
    for name, allow in (("some", rules), ("plain", [Rule(ops=["exec"], guests=["*"])])):
        keyed.policy(name, Policy(allow=allow))
    some, plain, operator = keyed.several_keys(("some", "policy:some"), ("plain", "policy:plain"), ("op", "operator"))
    workers = {name: keyed.worker(keyed.keys(name, "guest", name), name) for name in ("g1", "lab")}
    for worker in workers.values():
        worker.register()

    def exec_of(**oci: object) -> ExecArgs:
        return ExecArgs(container="c", process="p", spec=OciProcess(args=["true"], oci=oci))

    everything = exec_of(rlimits=[], capabilities={"bounding": ["CAP_SYS_ADMIN"]})
    for keys, args, guest in ((some, everything, "g1"), (plain, everything, "lab"), (plain, exec_of(rlimits=[]), "g1")):
        client = keyed.client(keys)
        with pytest.raises(CorralError, match=r"unauthorized.*may not state '(capabilities|rlimits)' of a process"):
            client.call("exec", args, guest)
    for keys, args, guest in (
        (some, exec_of(rlimits=[]), "g1"),
        (some, everything, "lab"),
        (plain, exec_of(), "g1"),
        (operator, everything, "g1"),
    ):
        client = keyed.client(keys)
        client.send("exec", args, guest)
        assert workers[guest].command().header.op == "exec"


def test_an_expired_key_may_nothing_any_more(keyed: KeyedBroker) -> None:
    client = keyed.client(keyed.keys("op", "operator", expires_in_s=3))
    client.timeout_s = 1.0

    def is_out() -> bool:
        try:
            return refused(lambda: client.call("guests", Nothing())) == "unauthorized"
        except PeerTimeoutError:  # its connection was cut with the reply
            return False

    repeat_until(lambda: None, is_out)
