"""JSON Lines, templates and lines."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.cli.lines import Line, LineSplitter
from corral.cli.output import as_record, fill, json_line
from corral_schemas.containers import ContainerState, ProcessInfo
from corral_schemas.exits import Exit

STATE = ContainerState(
    oci_version="1.0.2", id="web", pid=7, bundle_path="/b", rootfs_path="/r", status="running", created="2026-01-01T00:00:00Z",
    instance="0" * 26, processes=[ProcessInfo(process="init", instance="1" * 26, pid=7, exit=Exit(type="exited", code=3))],
)  # fmt: skip


def test_a_record_has_every_field_defaults_included() -> None:
    record = as_record(STATE)
    assert record["guest"] == ""
    assert record["auto_delete"] is False
    assert record["processes"][0]["exit"]["code"] == 3
    assert json.loads(json_line(record)) == record


def test_a_template_reaches_into_a_record() -> None:
    assert fill("{id}\\t{pid}\\n{a.b}", {"id": "web", "pid": 7, "a": {"b": None}}) == "web\t7\nnull"


def test_a_template_that_names_no_field_says_which_there_are() -> None:
    with pytest.raises(ValueError, match="no field 'nope' here; there are: id, pid"):
        fill("{nope}", {"id": 1, "pid": 2})


def test_a_line_of_json_is_one_line_and_keeps_unicode() -> None:
    line = json_line({"text": "ü\n\u2028"})
    assert "\n" not in line
    assert json.loads(line) == {"text": "ü\n\u2028"}


@given(st.lists(st.binary(max_size=8).map(lambda b: b.replace(b"\x01", b"\n")), max_size=20))
def test_lines_are_the_same_however_the_bytes_were_cut(chunks: list[bytes]) -> None:
    splitter = LineSplitter()
    lines: list[Line] = []
    offset = 0
    for number, chunk in enumerate(chunks):
        lines += splitter.feed(offset, number, chunk)
        offset += len(chunk)
    lines += splitter.rest()
    whole = b"".join(chunks)
    assert b"".join(line.data for line in lines) == whole
    assert [line.data for line in lines] == [p + b"\n" for p in whole.split(b"\n")[:-1]] + (
        [last] if (last := whole.split(b"\n")[-1]) else []
    )
    assert all(whole[line.offset : line.offset + len(line.data)] == line.data for line in lines)
