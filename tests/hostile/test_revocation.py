"""What revoking a key cuts, how keys come and go, and who waits to be let in."""

import time
from pathlib import Path

import pytest
import zmq
from click.testing import CliRunner

from corral.cli.commands.keys import keys as keys_command
from corral.cli.keys import key_directory
from corral_schemas import session
from corral_schemas.events import Started
from corral_schemas.keyfiles import KeyPair, parse
from corral_schemas.queries import GuestsReply, ListArgs, Nothing
from corral_testkit.wire_peers import Keys, PeerTimeoutError, RawClient, Subscriber, repeat_until
from hostile.keyed_broker import KeyedBroker, refused

CUT_S = 2.0


def guest_is_up(client: RawClient, name: str) -> bool:
    reply = client.call("guests", Nothing())
    assert isinstance(reply, GuestsReply)
    return any(guest.guest == name and guest.up for guest in reply.guests)


def disconnected(monitor: "zmq.Socket[bytes]", timeout_s: float) -> bool:
    return bool(monitor.poll(int(timeout_s * 1000)))


def test_a_revoked_guest_is_cut_within_two_seconds_and_its_events_pass_no_more(keyed: KeyedBroker) -> None:
    operator, good_keys, evil_keys = keyed.several_keys(("op", "operator"), ("good", "guest", "good"), ("evil", "guest", "evil"))
    client = keyed.client(operator)
    good, evil = keyed.worker(good_keys, "good"), keyed.worker(evil_keys, "evil")
    good.register()
    evil.register()
    subscriber = keyed.subscriber(operator, b"event/evil/started/")
    repeat_until(lambda: evil.publish_event("started", Started(pid=1), "c"), lambda: bool(subscriber.socket.poll(50)))
    client.send("list", ListArgs(), "evil")
    evil.command()
    monitor = evil.main.get_monitor_socket(zmq.EVENT_DISCONNECTED)
    key_directory.revoke(keyed.directory, "evil")
    since_s = time.monotonic()
    assert disconnected(monitor, CUT_S), "the session was not cut"
    assert refused(lambda: _reply(client)) == "guest_unreachable"  # what it was asked is answered for it
    assert not guest_is_up(client, "evil")
    assert time.monotonic() - since_s < CUT_S
    while subscriber.socket.poll(100):
        subscriber.socket.recv_multipart()
    for _ in range(20):
        evil.publish_event("started", Started(pid=1), "c")
        evil.send_register()
    assert not subscriber.socket.poll(500), "an event of a revoked guest has passed"
    assert guest_is_up(client, "good")
    evil.main.disable_monitor()
    monitor.close(0)


def _reply(client: RawClient) -> None:
    outcome = client.reply("list")[1]
    if isinstance(outcome, Exception):
        raise outcome


def test_a_revoked_reader_gets_no_more_events_while_another_goes_on(keyed: KeyedBroker) -> None:
    operator, observer, good_keys = keyed.several_keys(("op", "operator"), ("obs", "observer"), ("good", "guest", "good"))
    good = keyed.worker(good_keys, "good")
    good.register()
    # both have the same subscription: the second is none that is new to the socket
    staying, leaving = keyed.subscriber(operator, b"event/good/"), keyed.subscriber(observer, b"event/good/")
    for subscriber in (staying, leaving):
        repeat_until(lambda: good.publish_event("started", Started(pid=1), "c"), lambda s=subscriber: bool(s.socket.poll(50)))  # type: ignore[misc]
    reader = keyed.client(observer)
    reader.timeout_s = 1.0
    monitor = leaving.socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
    key_directory.revoke(keyed.directory, "obs")
    assert disconnected(monitor, CUT_S), "the subscriber was not cut"
    drain(leaving)
    drain(staying)
    repeat_until(lambda: good.publish_event("started", Started(pid=2), "c"), lambda: bool(staying.socket.poll(50)))
    assert not leaving.socket.poll(500), "an event has reached a revoked reader"
    with pytest.raises(PeerTimeoutError):
        reader.call("guests", Nothing())
    leaving.socket.disable_monitor()
    monitor.close(0)


def drain(subscriber: Subscriber) -> None:
    while subscriber.socket.poll(0):
        subscriber.socket.recv_multipart()


def test_a_key_that_waits_is_shown_with_its_claim_and_serves_once_accepted(keyed: KeyedBroker) -> None:
    operator = keyed.keys("op", "operator")
    keys = keyed.new_keys()
    worker = keyed.worker(keys, "vm-7")
    worker.send_register()
    refusal = worker.expect(session.REFUSED, session.Refused)
    assert refusal.code == "unauthorized"
    waiting = [record for record in key_directory.records(keyed.directory) if record["state"] == "pending"]
    assert [(one["guest"], one["public"], one["address"]) for one in waiting] == [("vm-7", keys.public, "127.0.0.1")]
    assert f"corral keys accept {waiting[0]['fingerprint']}" in refusal.message
    done = CliRunner().invoke(keys_command, ["accept", waiting[0]["fingerprint"], "--keys", str(keyed.directory)])
    assert done.exit_code == 0, done.output
    repeat_until(worker.send_register, lambda: worker.receive(worker.main)[0] == session.REGISTERED)
    assert guest_is_up(keyed.client(operator), "vm-7")
    assert not [record for record in key_directory.records(keyed.directory) if record["state"] == "pending"]


def test_a_token_lets_one_key_in_once_and_only_for_its_guest(keyed: KeyedBroker) -> None:
    token = key_directory.make_token(keyed.directory, "vm-7", 600)
    assert token not in "".join(path.read_text() for path in (keyed.directory / "tokens").iterdir())
    other = keyed.worker(keyed.new_keys(), "vm-8")
    other.send_register(token=token)
    assert "another guest" in other.expect(session.REFUSED, session.Refused).message
    worker = keyed.worker(keyed.new_keys(), "vm-7")
    worker.register(token=token)
    again = keyed.worker(keyed.new_keys(), "vm-7")
    again.send_register(token=token)
    assert "no such token" in again.expect(session.REFUSED, session.Refused).message


def test_an_expired_token_lets_nobody_in(keyed: KeyedBroker) -> None:
    token = key_directory.make_token(keyed.directory, "vm-7", 0)
    worker = keyed.worker(keyed.new_keys(), "vm-7")
    worker.send_register(token=token)
    assert "expired" in worker.expect(session.REFUSED, session.Refused).message


def test_two_keys_of_one_name_serve_side_by_side_while_one_replaces_the_other(keyed: KeyedBroker, tmp_path: Path) -> None:
    old = keyed.keys("op", "operator")
    key_directory.rotate(keyed.directory, "op", tmp_path / "new.key", keep_s=600)
    made = parse(KeyPair, (tmp_path / "new.key").read_text())
    fresh = Keys(made.public, made.secret, keyed.server)
    with RawClient(keyed.address, keys=fresh) as client:
        repeat_until(lambda: None, lambda: not refused(lambda: client.call("guests", Nothing())))
    # its file changed (it expires now): the connection may be cut, the key goes on working
    keyed.client(old).call("guests", Nothing())


def test_the_pending_list_is_bounded_for_each_address(keyed: KeyedBroker) -> None:
    for number in range(10):
        worker = keyed.worker(keyed.new_keys(), f"vm-{number}")
        worker.send_register()
        worker.expect(session.REFUSED, session.Refused)
    assert len(list((keyed.directory / "pending").iterdir())) == 8


def test_a_file_that_cannot_be_read_is_no_key_and_harms_nobody(keyed: KeyedBroker) -> None:
    for name, content in (("a", b"\xff\xfe"), ("b", b"public = 7"), ("c", b"[" * 5_000), ("d", b"")):
        (keyed.directory / "accepted" / f"{name}.toml").write_bytes(content)
    (keyed.directory / "accepted" / "e.toml").symlink_to("/etc/passwd")
    keyed.client(keyed.keys("op", "operator")).call("guests", Nothing())
