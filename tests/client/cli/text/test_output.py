"""JSON Lines, templates and lines."""

import json

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.cli.text.lines import Line, LineSplitter
from corral.cli.text.output import Column, as_record, json_line, print_records
from corral.cli.text.template import check_template, fill
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


def test_a_template_reaches_into_lists_and_has_a_dash_for_what_one_record_lacks() -> None:
    record = {"id": "web", "labels": {"role": "front-end", "zone/b": "z"}, "processes": [{"pid": 7}, {"pid": 8}]}
    assert fill("{labels.role} {labels.zone/b} {labels.nope} {labels.nope.deeper}", record) == "front-end z - -"
    assert fill("{processes[1].pid} {processes[2].pid} {processes[0].nope}", record) == "8 - -"
    assert fill('{"id": "{id}"}', record) == '{"id": "web"}'


@pytest.mark.parametrize("text", ["{{.Names}}", "{id", "a {id b", "{id}{", "{id[x]}", "{.id}", "{id name}", "{labels.}"])
def test_braces_that_look_like_a_field_and_are_none_are_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is no field: write"):
        check_template(click.Context(click.Command("ps")), click.Option(["--format"]), text)


@pytest.mark.parametrize("text", ["{id}", "{a.b[0].c-d/e}", '{"id": "{id}"}', "{}", "plain", "json"])
def test_other_templates_are_taken_as_they_are(text: str) -> None:
    assert check_template(click.Context(click.Command("ps")), click.Option(["--format"]), text) == text


def test_a_table_in_a_pipe_is_as_wide_as_its_cells(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    columns = [Column("NAME", lambda record: record["name"], wide=True), Column("WHY", lambda record: "y" * 300, wraps=True)]
    print_records([{"name": "x" * 500}], columns, "table")
    heading, row = capsys.readouterr().out.splitlines()
    assert row.rstrip() == "x" * 500 + "   " + "y" * 300
    assert heading.split() == ["NAME", "WHY"]


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
