"""frames.py: whatever comes in gives a message or an error with a code, never anything else."""

from collections.abc import Callable
from functools import partial

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from corral_schemas import PROTOCOL_VERSION, frames
from corral_schemas.commands import ContainerTarget, CreateReply
from corral_schemas.document.catalogue import messages
from corral_schemas.errors import TABLE, CorralError, NotFoundError, error
from corral_schemas.events import EventHeader, Started
from corral_schemas.frames import CommandHeader, ReplyHeader, pack
from corral_schemas.limits import FRAME_BYTES_MAX, HEADER_BYTES_MAX, STDIO_CHUNK_BYTES_MAX
from corral_schemas.ops import OPS
from corral_schemas.stdio import ReadStdioArgs, WriteStdinArgs
from schemas.golden_store import Sample, good_samples

HEADER = CommandHeader(id="r1", guest="g1", op="state", timeout_ms=1_000)
DEEP = b"\x81\xa1x" + b"\x91" * 10_000
NOT_UTF8 = pack(HEADER).replace(b"\xa2r1", b"\xa2\xff\xfe")


def code_of(failing: "pytest.ExceptionInfo[CorralError]") -> str:
    return failing.value.code


def test_a_command_comes_out_as_it_went_in() -> None:
    parts = frames.encode_command(HEADER, ContainerTarget(container="web"))
    assert frames.decode_command_header(parts) == HEADER
    assert frames.decode_args("state", parts[1]) == ContainerTarget(container="web")


def test_the_header_is_read_without_looking_at_the_arguments() -> None:
    assert frames.decode_command_header([pack(HEADER), b"\xc1 no msgpack"]) == HEADER


def test_a_reply_comes_out_as_it_went_in() -> None:
    reply = CreateReply(container="web", instance="i", process_instance="p", pid=7)
    header, body = frames.decode_reply(frames.encode_reply(ReplyHeader(id="r1", epoch="e"), reply))
    assert (header.id, header.epoch, frames.reply_value("create", body)) == ("r1", "e", reply)


def test_an_error_reply_raises_what_was_answered() -> None:
    answered = error("container_not_found", "no web", nearest=["wbe"])
    _, body = frames.decode_reply(frames.encode_reply(ReplyHeader(id="r1"), answered))
    with pytest.raises(NotFoundError) as caught:
        frames.reply_value("state", body)
    assert (caught.value.code, caught.value.message, caught.value.details) == (answered.code, answered.message, answered.details)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ({"container": "c", "stdout": 2.0}, "`$.stdout`; integers must be msgpack integers, also those of 2^32 and above"),
        ({"container": "c", "wait_ms": 2.0}, "`$.wait_ms`; integers must be msgpack integers, also those of 2^32 and above"),
        ({"container": b"c"}, "`$.container`; str and bin are two types of msgpack"),
        (msgspec.msgpack.Ext(5, b"x"), "; maps must be msgpack maps, not records of a library's own"),
    ],
)
def test_what_msgpack_libraries_of_other_languages_get_wrong_is_said_with_a_hint(args: object, said: str) -> None:
    """PROTOCOL.md R-11."""
    with pytest.raises(CorralError) as caught:
        frames.decode_args("read_stdio", msgspec.msgpack.encode(args))
    assert code_of(caught) == "bad_request"
    assert said in caught.value.message


def test_an_integer_may_come_in_any_width() -> None:
    """PROTOCOL.md R-11."""
    for wide in (
        b"\x07",
        b"\xcc\x07",
        b"\xcd\x00\x07",
        b"\xce\x00\x00\x00\x07",
        b"\xcf" + bytes(7) + b"\x07",
        b"\xd3" + bytes(7) + b"\x07",
    ):
        args = frames.decode_args("read_stdio", b"\x82\xa9container\xa1c\xa6stdout" + wide)
        assert args == ReadStdioArgs(container="c", stdout=7)


def test_an_event_of_an_unknown_kind_is_a_plain_map() -> None:
    header = EventHeader(guest="g1", epoch="e", seq=2, prev=1, time_ns=3, kind="from_the_future")
    parts = [b"event/g1/from_the_future//", pack(header), pack({"new": [1]})]
    assert frames.decode_event(parts) == (header, {"new": [1]})


def test_an_event_comes_out_as_it_went_in() -> None:
    header = EventHeader(guest="g1", epoch="e", seq=2, prev=1, time_ns=3, kind="started")
    assert frames.decode_event(frames.encode_event(b"t", header, Started(pid=7))) == (header, {"pid": 7})


@pytest.mark.parametrize("size", [HEADER_BYTES_MAX + 1, FRAME_BYTES_MAX])
def test_a_header_over_its_limit_is_refused_before_it_is_decoded(size: int) -> None:
    with pytest.raises(CorralError) as caught:
        frames.decode_command_header([b"\xc1" * size, b"\x80"])
    assert code_of(caught) == "message_too_large"
    assert caught.value.details == {"limit": HEADER_BYTES_MAX}


def test_a_frame_at_its_limit_passes_and_one_byte_more_is_refused() -> None:
    assert frames.decode_command_header([pack(HEADER), bytes(FRAME_BYTES_MAX)]) == HEADER
    with pytest.raises(CorralError) as caught:
        frames.decode_command_header([pack(HEADER), bytes(FRAME_BYTES_MAX + 1)])
    assert code_of(caught) == "message_too_large"


def test_a_stdin_chunk_at_its_limit_passes_and_one_byte_more_is_refused() -> None:
    whole = WriteStdinArgs(container="web", offset=0, data=bytes(STDIO_CHUNK_BYTES_MAX))
    assert frames.decode_args("write_stdin", pack(whole)) == whole
    with pytest.raises(CorralError) as caught:
        frames.decode_args("write_stdin", pack(WriteStdinArgs(container="web", offset=0, data=bytes(STDIO_CHUNK_BYTES_MAX + 1))))
    assert code_of(caught) == "bad_request" and "data" in caught.value.message


def test_an_event_payload_over_its_limit_is_refused_before_it_is_decoded() -> None:
    header = pack(EventHeader(guest="g", epoch="e", seq=1, prev=0, time_ns=1, kind="exit"))
    with pytest.raises(CorralError) as caught:
        frames.decode_event([b"t", header, b"\xc1" * (HEADER_BYTES_MAX + 1)])
    assert code_of(caught) == "message_too_large"


def test_a_later_version_is_told_what_is_spoken_here() -> None:
    with pytest.raises(CorralError) as caught:
        frames.decode_command_header([pack({"v": 9, "id": "r1", "op": "state", "timeout_ms": 1}), b"\x80"])
    assert code_of(caught) == "unsupported_version"
    assert caught.value.details == {"spoken": [PROTOCOL_VERSION]}


def test_an_absent_version_is_version_1() -> None:
    header = frames.decode_command_header([pack({"id": "r1", "op": "state", "timeout_ms": 1}), b"\x80"])
    assert header.v == 1


def test_an_unknown_op_is_named_in_its_error() -> None:
    with pytest.raises(CorralError) as caught:
        frames.decode_args("destroy", b"\x80")
    assert code_of(caught) == "unsupported_op"
    assert caught.value.details == {"op": "destroy"}


def test_a_wrong_field_is_named_in_its_error() -> None:
    with pytest.raises(CorralError) as caught:
        frames.decode_args("create", pack({"container": "web", "stdio": {"rows": -1}}))
    assert code_of(caught) == "bad_request" and "$.stdio.rows" in caught.value.message


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(DEEP, id="deep"),
        pytest.param(NOT_UTF8, id="not_utf8"),
        pytest.param(b"", id="empty"),
        pytest.param(b"\xc1", id="never_used_opcode"),
    ],
)
def test_malformed_frames_are_bad_requests_everywhere(frame: bytes) -> None:
    event_header = pack(EventHeader(guest="g", epoch="e", seq=1, prev=0, time_ns=1, kind="exit"))
    attempts: list[Callable[[], object]] = [
        lambda: frames.decode_command_header([frame, b"\x80"]),
        lambda: frames.decode_args("state", frame),
        lambda: frames.decode_reply([frame, b"\x80"]),
        lambda: frames.reply_value("state", frames.decode_reply([pack(ReplyHeader(id="r1")), frame])[1]),
        lambda: frames.decode_event([b"t", event_header, frame]),
        lambda: frames.decode_event_header(frame),
        lambda: frames.decode_stdio_header(frame),
    ]
    for attempt in attempts:
        with pytest.raises(CorralError) as caught:
            attempt()
        assert code_of(caught) == "bad_request"


@pytest.mark.parametrize("frame", [DEEP, NOT_UTF8, b"", b"\xc1", pack({"id": 7}), pack([1])])
def test_no_request_id_can_be_salvaged_from_malformed_frames(frame: bytes) -> None:
    assert frames.salvage_request_id([frame]) == ""


def test_a_request_id_is_salvaged_from_a_header_that_is_otherwise_wrong() -> None:
    assert frames.salvage_request_id([pack({"id": "r1", "op": 7}), b""]) == "r1"
    assert frames.salvage_request_id([]) == ""


@example([NOT_UTF8, b"\x80"])
@given(st.lists(st.binary(max_size=200), max_size=5))
def test_any_frames_give_a_message_or_a_coded_error(parts: list[bytes]) -> None:
    attempts: list[Callable[[], object]] = [
        lambda: frames.decode_command_header(parts),
        lambda: frames.decode_reply(parts),
        lambda: frames.decode_event(parts),
        lambda: frames.salvage_request_id(parts),
        *[partial(frames.unpack, kind, parts[0] if parts else b"") for kind in messages().values()],
    ]
    for attempt in attempts:
        try:
            attempt()
        except CorralError as why:
            assert why.code in TABLE


@example(sample=next(one for one in good_samples() if one.message == "StartReply"), at=1, byte=0xFF)
@example(sample=next(one for one in good_samples() if one.message == "CancelArgs"), at=4, byte=0xFF)
@given(sample=st.sampled_from(good_samples()), at=st.integers(0, 1_000), byte=st.integers(0, 255))
def test_a_changed_byte_gives_a_message_or_a_coded_error(sample: Sample, at: int, byte: int) -> None:
    damaged = bytearray(sample.packed)
    damaged[at % len(damaged)] = byte
    try:
        frames.unpack(messages()[sample.message], bytes(damaged))
    except CorralError as why:
        assert why.code == "bad_request"


def test_every_op_has_messages_and_a_reply_decoder() -> None:
    for name, op in OPS.items():
        assert issubclass(op.args, msgspec.Struct) and issubclass(op.reply, msgspec.Struct), name
        assert not (op.broker and op.mutating), name
        assert not (op.ordered and not op.mutating), name


def test_every_reply_can_be_read_as_the_reply_of_its_op() -> None:
    full = {one.message: one.packed for one in good_samples() if one.name == "full"}
    for name, op in OPS.items():
        body = frames.ReplyBody(ok=msgspec.Raw(full[op.reply.__name__]))
        assert isinstance(frames.reply_value(name, body), op.reply)
        assert isinstance(frames.decode_args(name, full[op.args.__name__]), op.args)
