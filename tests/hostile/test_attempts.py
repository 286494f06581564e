"""The table of attempts: who tries what with which key, and that it is refused, counted, and leaves everybody else alone."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import zmq

from corral_schemas import session
from corral_schemas.commands import ContainerTarget, KillArgs
from corral_schemas.errors import CorralError
from corral_schemas.events import Started
from corral_schemas.frames import CommandHeader, ReplyHeader, encode_command, encode_reply, pack
from corral_schemas.keyfiles import Policy, Rule
from corral_schemas.queries import ListArgs, Nothing
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


CODES: list[Callable[[Stage], str]] = [
    observer_kills,
    observer_runs_an_op_of_the_future,
    guest_commands_another_guest,
    guest_commands_itself,
    guest_lists_the_fleet,
    stranger_asks,
    policy_goes_beyond_its_ops,
    policy_goes_beyond_its_guests,
    policy_without_rules,
    guest_registers_as_another,
    guest_takes_the_bulk_session_of_another,
    operator_registers_as_a_guest,
    stranger_registers,
    stranger_registers_with_a_guessed_token,
]


@pytest.mark.parametrize("attempt", CODES, ids=lambda attempt: str(attempt.__name__))
def test_an_attempt_is_answered_unauthorized_and_written_down(stage: Stage, attempt: Callable[[Stage], str]) -> None:
    assert attempt(stage) == "unauthorized"
    assert any(line["verdict"] == "refused" and line["why"] for line in stage.broker.audit())
    counters = stage.broker.info(stage.operator).counters
    assert counters.get("command_unauthorized", 0) + counters.get("register_refused", 0) >= 1
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


def test_a_guest_cannot_answer_for_another_even_with_the_right_reference(stage: Stage) -> None:
    client = stage.broker.client(stage.operator)
    before = stage.broker.count(stage.operator, "replies_unmatched")
    client.send("list", ListArgs(), "good")
    command = stage.good.command()
    forged = [session.REPLY, command.ref, *encode_reply(ReplyHeader(id=command.header.id, guest="good"), Nothing())]
    stage.evil.main.send_multipart(forged)
    repeat_until(lambda: None, lambda: stage.broker.count(stage.operator, "replies_unmatched") == before + 1)
    stage.good.answer(command, CorralError("runtime_failed", "good's own"))
    outcome = client.reply("list")[1]
    assert isinstance(outcome, CorralError)
    assert outcome.message == "good's own"


def test_a_reply_sent_a_second_time_reaches_nobody(stage: Stage) -> None:
    client = stage.broker.client(stage.operator)
    before = stage.broker.count(stage.operator, "replies_unmatched")
    client.send("list", ListArgs(), "good")
    command = stage.good.command()
    for _ in range(2):
        stage.good.answer(command, CorralError("runtime_failed", "x"))
    client.reply("list")
    repeat_until(lambda: None, lambda: stage.broker.count(stage.operator, "replies_unmatched") == before + 1)
    assert not client.socket.poll(0)


def publish_as(stage: Stage, forge: Callable[[], object], counter: str) -> None:
    subscriber = stage.broker.subscriber(stage.operator, b"event/good/")
    before = stage.broker.count(stage.operator, counter)
    repeat_until(forge, lambda: stage.broker.count(stage.operator, counter) > before)
    assert not subscriber.socket.poll(0), "a forged event has passed"


def test_a_guest_cannot_publish_as_another_even_under_its_worker_instance(stage: Stage) -> None:
    def forge() -> None:
        stage.evil.publish_event("started", Started(pid=1), "c", guest="good", worker=stage.good.worker)

    publish_as(stage, forge, "event_unauthorized")


def test_a_guest_cannot_publish_stdio_as_another(stage: Stage) -> None:
    def forge() -> None:
        stage.evil.publish_stdio("c", b"x", guest="good", worker=stage.good.worker)

    publish_as(stage, forge, "stdio_unauthorized")


def test_a_guest_cannot_speak_as_the_broker(stage: Stage) -> None:
    publish_as(stage, lambda: stage.evil.publish_event("guest_down", Started(pid=1), guest="evil"), "event_refused")


@pytest.mark.parametrize(("role", "socket"), [("evil", "events_out"), ("evil", "stdio_out"), ("stranger", "events_out")])
def test_only_readers_may_subscribe(stage: Stage, role: str, socket: str) -> None:
    keys = stage.evil_keys if role == "evil" else stage.broker.new_keys()
    before = stage.broker.count(stage.operator, "handshake_refused")
    with stage.broker.peer(keys).dial(zmq.SUB, stage.broker.endpoint(socket)) as opened:
        opened.subscribe(b"")
        repeat_until(lambda: None, lambda: stage.broker.count(stage.operator, "handshake_refused") > before)
        stage.good.publish_event("started", Started(pid=1), "c")
        assert not opened.poll(int(SILENCE_S * 1000))


@pytest.mark.parametrize("socket", ["events_in", "stdio_in"])
@pytest.mark.parametrize("role", ["operator", "observer", "stranger"])
def test_only_guests_may_publish(stage: Stage, role: str, socket: str) -> None:
    keys = {"operator": stage.operator, "observer": stage.observer, "stranger": stage.broker.new_keys()}[role]
    before = stage.broker.count(stage.operator, "handshake_refused")
    with stage.broker.peer(keys).dial(zmq.PUB, stage.broker.endpoint(socket)) as opened:
        repeat_until(lambda: opened.send(b"x"), lambda: stage.broker.count(stage.operator, "handshake_refused") > before)
    assert_served(stage)


def test_a_subscriber_on_the_publishing_port_gets_nothing(stage: Stage) -> None:
    with stage.broker.peer(stage.evil_keys).dial(zmq.SUB, stage.broker.endpoint("events_in")) as opened:
        opened.subscribe(b"")
        for _ in range(20):
            stage.good.publish_event("started", Started(pid=1), "c")
        assert not opened.poll(int(SILENCE_S * 1000))
    assert_served(stage)


@pytest.mark.parametrize("claimed", [b"good", b"\x00\x01", b"x" * 255])
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


def test_a_session_of_another_connection_cannot_be_continued(stage: Stage) -> None:
    with stage.evil.dial_again() as socket:
        socket.send_multipart([session.HEARTBEAT, pack(session.Heartbeat(epoch=stage.good.epoch, seq=99))])
        assert stage.evil.receive(socket)[0] == session.PLEASE_REGISTER
    assert_served(stage)


def test_a_policy_allows_what_it_names(stage: Stage) -> None:
    client = stage.broker.client(stage.starter)
    target = ContainerTarget(container="c")
    client.send("start", target, "good")
    assert stage.good.command().header.op == "start"


def test_an_expired_key_may_nothing_any_more(keyed: KeyedBroker) -> None:
    client = keyed.client(keyed.keys("op", "operator", expires_in_s=3))
    client.timeout_s = 1.0

    def is_out() -> bool:
        try:
            return refused(lambda: client.call("guests", Nothing())) == "unauthorized"
        except PeerTimeoutError:  # its connection was cut with the reply
            return False

    repeat_until(lambda: None, is_out)
