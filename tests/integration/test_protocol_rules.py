"""Rules of PROTOCOL.md that somebody who writes a client would trip over, on a real broker, worker and runc."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any

import pytest

from corral import CorralError
from corral_schemas.base import Message
from corral_schemas.commands import CancelArgs, ContainerTarget, CreateArgs, CreateReply, DeleteArgs, KillArgs, RunArgs, StopArgs, StopReply
from corral_schemas.containers import ContainerSpec
from corral_schemas.frames import CommandHeader, decode_reply, pack
from corral_schemas.queries import ForgetGuestsArgs, Nothing, ReplayArgs, WaitArgs
from corral_schemas.stdio import CloseStdinArgs, Done, ReadStdioArgs, ReadStdioReply, StdioOptions, WriteStdinArgs, WriteStdinReply
from corral_testkit.system import CorralSystem
from corral_testkit.wire_peers import PeerTimeoutError, RawClient

pytestmark = pytest.mark.runc


class Wire:
    """A client of one guest that sends what it is told."""

    def __init__(self, corral: CorralSystem, raw: RawClient) -> None:
        self.corral, self.raw, self.guest = corral, raw, corral.names[0]

    def ask(self, op: str, args: Message) -> Any:
        return self.raw.call(op, args, self.guest)

    def code(self, op: str, args: Message, guest: str | None = None) -> str:
        """Of the error that is answered; empty for success."""
        try:
            self.raw.call(op, args, self.guest if guest is None else guest)
        except CorralError as why:
            return why.code
        return ""

    def spec(self, *argv: str) -> ContainerSpec:
        return self.corral.spec(*argv)

    def run(self, name: str, *argv: str, **options: Any) -> CreateReply:
        reply = self.ask("run", RunArgs(container=name, spec=self.spec(*argv), stdio=StdioOptions(**options)))
        assert isinstance(reply, CreateReply)
        return reply

    def read(self, name: str, **wanted: Any) -> ReadStdioReply:
        reply = self.ask("read_stdio", ReadStdioArgs(container=name, **wanted))
        assert isinstance(reply, ReadStdioReply)
        return reply

    def ended(self, name: str) -> None:
        self.ask("wait", WaitArgs(container=name, timeout_ms=8_000))


@pytest.fixture
def wire(corral: CorralSystem) -> Iterator[Wire]:
    with RawClient(corral.address) as raw:
        yield Wire(corral, raw)


def test_ends_and_exit_come_with_the_first_of_many_replies_and_the_stream_is_whole_at_its_total(wire: Wire) -> None:
    """R-48."""
    wire.run("many", "sh", "-c", "yes | head -c 200000; exit 3")
    wire.ended("many")
    whole, offset, replies = b"", 0, 0
    while True:
        reply = wire.read("many", stdout=offset, stderr=0, max_bytes=65_536)
        replies += 1
        end = reply.ends["stdout"]
        assert (end.total, reply.exit and reply.exit.code) == (200_000, 3)
        whole += b"".join(chunk.data for chunk in reply.chunks)
        offset = reply.next["stdout"]
        if offset == end.total:
            break
    assert replies >= 4
    assert zlib.crc32(whole) == end.crc


def test_offsets_choose_the_streams_and_a_reply_has_their_bytes_in_the_order_written(wire: Wire) -> None:
    """Notes of read_stdio."""
    wire.run("both", "sh", "-c", "seq 101 110 >&2; sleep 0.2; seq 10")
    wire.ended("both")
    assert set(wire.read("both", stderr=0).next) == {"stderr"}
    shared = wire.read("both", stdout=0, stderr=0, max_bytes=21)
    assert [(chunk.stream, len(chunk.data)) for chunk in shared.chunks] == [("stderr", 21)]
    assert shared.next == {"stdout": 0, "stderr": 21}
    tail = wire.read("both", stdout=0, stderr=0, tail_lines=12)  # of both streams together, by the time at which they came
    assert b"".join(chunk.data for chunk in tail.chunks).splitlines()[:3] == [b"109", b"110", b"1"]
    assert wire.read("both", stdout=7, tail_lines=1).chunks[0].data == b"10\n"
    assert set(wire.read("both", tail_lines=1).next) == {"stdout", "stderr"}
    assert wire.read("both", stdout=0, tail_lines=5, since_ns=1 << 62).chunks == []
    assert wire.code("read_stdio", ReadStdioArgs(container="both")) == "bad_request"


def test_stdin_is_exactly_once_also_for_repeats_after_its_end(wire: Wire) -> None:
    """R-51."""
    wire.run("cat", "sh", "-c", "cat; sleep 60", stdin=True)
    first = WriteStdinArgs(container="cat", offset=0, data=b"hello\n")
    assert wire.ask("write_stdin", first) == WriteStdinReply(offset=6)
    assert wire.ask("write_stdin", first) == WriteStdinReply(offset=6)
    assert wire.code("write_stdin", WriteStdinArgs(container="cat", offset=9, data=b"x")) == "bad_request"
    assert wire.code("close_stdin", CloseStdinArgs(container="cat", offset=9)) == "bad_request"
    for offset in (6, 6, 4):  # again, and by one that did not hear of the last bytes
        assert wire.ask("close_stdin", CloseStdinArgs(container="cat", offset=offset)) == Done()
    assert wire.ask("write_stdin", first) == WriteStdinReply(offset=6)
    assert wire.code("write_stdin", WriteStdinArgs(container="cat", offset=6, data=b"x")) == "stdin_closed"
    wire.ask("kill", KillArgs(container="cat", signal=9))
    wire.ended("cat")
    assert wire.ask("close_stdin", CloseStdinArgs(container="cat", offset=6)) == Done()
    assert wire.code("write_stdin", first) == "stdin_closed"
    assert wire.read("cat", stdout=0).chunks[0].data == b"hello\n"
    wire.run("none", "true")
    assert wire.code("close_stdin", CloseStdinArgs(container="none")) == "stdin_closed"


def test_a_wait_that_is_cancelled_is_answered_so(wire: Wire) -> None:
    """R-26."""
    wire.run("long", "sleep", "60")
    wait = wire.raw.send("wait", WaitArgs(container="long"), wire.guest, timeout_ms=65_000)
    cancel = wire.raw.send("cancel", CancelArgs(id=wait), wire.guest)
    answers = {}
    for _ in range(2):
        header, body = decode_reply(wire.raw.receive(wire.raw.socket))
        answers[header.id] = body.error.code if body.error else bytes(body.ok)
    assert answers == {wait: "cancelled", cancel: b"\x81\xa7outcome\xa9cancelled"}


def test_stop_in_every_state(wire: Wire) -> None:
    """The row of the table of verbs and states."""
    assert wire.code("stop", StopArgs(container="none")) == "container_not_found"
    wire.ask("create", CreateArgs(container="made", spec=wire.spec("sleep", "60")))
    made = wire.ask("stop", StopArgs(container="made", grace_ms=100))
    wire.run("running", "sleep", "60")
    running = wire.ask("stop", StopArgs(container="running", grace_ms=100))
    wire.run("paused", "sleep", "60")
    wire.ask("pause", ContainerTarget(container="paused"))
    paused = wire.ask("stop", StopArgs(container="paused", grace_ms=100))
    for name, reply in (("made", made), ("running", running), ("paused", paused)):
        assert isinstance(reply, StopReply) and reply.exit.type in ("signalled", "exited"), reply
        assert wire.ask("stop", StopArgs(container=name)) == reply


@pytest.mark.parametrize("name", ["a/b", "ä", "x" * 129])
def test_an_id_outside_the_grammar_is_invalid_where_it_would_be_made_and_not_found_elsewhere(wire: Wire, name: str) -> None:
    assert wire.code("create", CreateArgs(container=name, spec=wire.spec("true"))) == "invalid_container_id"
    assert wire.code("run", RunArgs(container=name, spec=wire.spec("true"))) == "invalid_container_id"
    for op, args in {
        "state": ContainerTarget(container=name),
        "wait": WaitArgs(container=name),
        "kill": KillArgs(container=name),
        "stop": StopArgs(container=name),
        "delete": DeleteArgs(container=name),
        "read_stdio": ReadStdioArgs(container=name, stdout=0),
    }.items():
        assert wire.code(op, args) == "container_not_found", op


def test_an_op_asked_of_the_wrong_side(wire: Wire) -> None:
    """Under "Commands"."""
    assert wire.code("state", ContainerTarget(container="c"), guest="") == "bad_request"
    for op in ("hello", "guests"):
        assert wire.code(op, Nothing()) == "unsupported_op"
    assert wire.code("forget_guests", ForgetGuestsArgs(guests=["g"])) == "unsupported_op"
    for op, args in {"info": Nothing(), "replay": ReplayArgs()}.items():
        assert wire.code(op, args) == wire.code(op, args, guest="") == ""


def test_what_has_a_readable_id_is_answered_and_what_has_none_is_met_with_silence(wire: Wire) -> None:
    """Under "Frames"."""
    socket = wire.raw.socket
    good = pack(CommandHeader(id="r1", guest=wire.guest, op="list", timeout_ms=1_000))
    for number, frames in enumerate(
        [[good], [good, b"\x80", b""], [pack({"id": "r1", "op": 7}), b"\x80"], [pack({"id": "r1"}), b"\x80"], [good, b""]]
    ):
        socket.send_multipart(frames)
        header, body = decode_reply(wire.raw.receive(socket))
        assert (header.id, body.error and body.error.code) == ("r1", "bad_request"), number
    for frames in (
        [b"{}", b"\x80"],
        [pack({"op": "list"}), b"\x80"],
        [pack({"id": 7, "op": "list"}), b"\x80"],
        [pack({"id": ""}), b"\x80"],
    ):
        socket.send_multipart(frames)
    with pytest.raises(PeerTimeoutError):
        wire.raw.receive(socket, 0.3)
    socket.send_multipart([pack({"id": "r1", "op": "list", "timeout_ms": 5, "trace": "x" * 20_000}), b"\x80"])
    _, body = decode_reply(wire.raw.receive(socket))
    assert body.error and body.error.code == "message_too_large"
