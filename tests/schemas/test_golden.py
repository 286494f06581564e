"""Golden samples are the wire as promised: every decoder reads them alike, and bad ones give the stated error."""

import zlib
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import msgpack  # type: ignore[import-untyped]
import msgspec
import pytest

from corral_schemas import frames, session
from corral_schemas.base import Message
from corral_schemas.document.catalogue import SESSION, messages
from corral_schemas.document.json_schema import json_schema
from corral_schemas.errors import CorralError
from corral_schemas.events import EVENT_KINDS, mark_of
from corral_schemas.frames import pack, unpack
from schemas.golden_events import EVENTS, FULL, MORE
from schemas.golden_examples import EXAMPLES
from schemas.golden_samples import CRC_HELLO
from schemas.golden_store import Exchange, ReplyBodyRead, Sample, bad_samples, exchanges, good_samples, jsonable, label

PROTOCOL = Path(__file__).resolve().parents[2] / "schemas" / "PROTOCOL.md"
each_good = pytest.mark.parametrize("sample", good_samples(), ids=label)
each_bad = pytest.mark.parametrize("sample", bad_samples(), ids=label)


@each_good
def test_golden_bytes_decode_equal_through_msgpack_and_through_msgspec(sample: Sample) -> None:
    plainly: Any = msgspec.convert(msgpack.unpackb(sample.packed), sample.kind)
    assert plainly == msgspec.msgpack.decode(sample.packed, type=sample.kind)


@each_good
def test_golden_json_says_the_same_as_golden_bytes(sample: Sample) -> None:
    assert jsonable(msgpack.unpackb(sample.packed)) == sample.json
    from_json: Any = msgspec.json.decode(msgspec.json.encode(sample.json), type=sample.kind)
    assert from_json == msgspec.msgpack.decode(sample.packed, type=sample.kind)


@each_good
def test_golden_json_is_valid_under_its_schema(sample: Sample) -> None:
    validator(sample).validate(sample.json)


@each_bad
def test_a_bad_sample_gives_its_error(sample: Sample) -> None:
    kind = messages()[sample.message]
    with pytest.raises(CorralError) as caught:
        unpack(kind, sample.packed)
    assert caught.value.code == sample.code


@pytest.mark.parametrize("sample", [one for one in bad_samples() if one.json is not None], ids=label)
def test_a_bad_sample_is_refused_through_msgpack_and_by_its_schema_too(sample: Sample) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(msgpack.unpackb(sample.packed), sample.kind)
    assert not validator(sample).is_valid(sample.json)


def validator(sample: Sample) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(json_schema(messages()[sample.message]))


def test_every_message_has_good_and_bad_samples() -> None:
    wanted = set(messages())
    assert {one.message for one in bad_samples()} == wanted
    for name in ("full", "minimal", "unknown_fields"):
        there = {one.message for one in good_samples() if one.name == name}
        assert there == wanted - ({"ReplyBody"} if name == "minimal" else set())


@each_good
def test_unknown_fields_are_ignored(sample: Sample) -> None:
    value = msgpack.unpackb(sample.packed)
    more = msgpack.packb({"zz_unknown": {"a": [None, 1.5, b"x"]}, **value, "another": "y"})
    assert msgspec.msgpack.decode(more, type=sample.kind) == msgspec.msgpack.decode(sample.packed, type=sample.kind)
    assert msgspec.convert(msgpack.unpackb(more), sample.kind) == msgspec.convert(value, sample.kind)


@pytest.mark.parametrize("name", FULL)
def test_the_bytes_written_today_are_the_golden_ones(name: str) -> None:
    golden = {one.name: one.packed for one in good_samples() if one.message == name}
    assert pack(FULL[name]) == golden["full"]
    for label_of, value in MORE.get(name, {}).items():
        assert pack(value) == golden[label_of]
    if name in EXAMPLES:
        assert pack(EXAMPLES[name]) == golden["example"]


@pytest.mark.parametrize("message", FULL.values(), ids=lambda one: type(one).__name__)
def test_a_full_sample_sets_every_field_but_the_version(message: Message) -> None:
    written = msgspec.msgpack.decode(pack(message))
    assert set(message.__struct_fields__) - set(written) <= {"v"}


def test_fields_at_their_default_are_left_out() -> None:
    minimal = {one.message: one for one in good_samples() if one.name == "minimal"}
    for name, sample in minimal.items():
        decoded: Any = msgspec.msgpack.decode(sample.packed, type=messages()[name])
        assert len(msgpack.unpackb(sample.packed)) == sum(field.required for field in msgspec.structs.fields(messages()[name])), name
        assert unpack(messages()[name], pack(decoded)) == decoded


def test_the_sample_checksum_is_that_of_the_sample_bytes() -> None:
    assert zlib.crc32(b"hello\n") == CRC_HELLO


def test_the_mark_of_an_event_is_that_of_the_document() -> None:
    """PROTOCOL.md R-36, by the text that it gives."""
    header = frames.decode_event_header(next(e.frames for e in exchanges("good") if e.name == "exit of init")[1])
    text = f"{header.time_ns}/exit/{header.instance}/{header.process_instance}"
    assert mark_of(header) == zlib.crc32(text.encode())
    assert f"CRC-32 of `{text}` = `{mark_of(header)}`." in PROTOCOL.read_text()


def test_every_event_kind_has_a_sample() -> None:
    assert set(EVENT_KINDS.values()) <= {type(one) for one in EVENTS}


DECODERS = {
    "reply": frames.decode_reply,
    "event": frames.decode_event,
    "stdio": lambda parts: frames.decode_stdio_header(parts[1]),
}


def decode_command(parts: list[bytes]) -> tuple[frames.CommandHeader, Message]:
    header = frames.decode_command_header(parts)
    return header, frames.decode_args(header.op, parts[1])


@pytest.mark.parametrize("exchange", [e for e in exchanges("good") if e.decoder in (*DECODERS, "command")], ids=label)
def test_a_good_exchange_decodes(exchange: Exchange) -> None:
    decoder = DECODERS.get(exchange.decoder, decode_command)
    assert decoder(exchange.frames)


@pytest.mark.parametrize("exchange", exchanges("bad"), ids=label)
def test_a_bad_exchange_gives_its_error(exchange: Exchange) -> None:
    with pytest.raises(CorralError) as caught:
        if exchange.decoder == "reply":
            frames.reply_value("state", frames.decode_reply(exchange.frames)[1])
        else:
            DECODERS.get(exchange.decoder, decode_command)(exchange.frames)
    assert caught.value.code == exchange.code


@pytest.mark.parametrize("exchange", [e for e in exchanges("good") if e.decoder == "session"], ids=label)
def test_a_session_exchange_decodes_by_its_first_frame(exchange: Exchange) -> None:
    kind, *rest = exchange.frames
    if kind in SESSION:
        assert isinstance(unpack(SESSION[kind], rest[0]), SESSION[kind])
    elif kind == session.COMMAND:
        assert decode_command(rest[1:])[0].op == "state"
    else:
        header, body = frames.decode_reply(rest[1:])
        assert header.guest == "vm-1" and frames.reply_value("state", body)


def test_a_reply_body_holds_its_answer_until_the_op_is_known() -> None:
    body = frames.decode_reply(next(e.frames for e in exchanges("good") if e.name == "state reply"))[1]
    read = msgspec.convert({"ok": msgpack.unpackb(bytes(body.ok))}, ReplyBodyRead)
    assert read.ok is not None and read.ok["state"]["id"] == "web"
