"""PROTOCOL.md and its pages, the JSON Schema files and asyncapi.json say what the code says."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import inspect as types

from corral_schemas import PROTOCOL_VERSION, limits
from corral_schemas.document import __main__ as document
from corral_schemas.document.catalogue import level_of, messages, parts
from corral_schemas.document.json_schema import json_schema
from corral_schemas.document.pages import COMMANDS, ERRORS, PAGES, RULES, page_of
from corral_schemas.document.protocol import generated_parts
from corral_schemas.document.structs import meaning
from corral_schemas.errors import TABLE
from corral_schemas.events import EVENT_KINDS
from corral_schemas.ops import OPS

SCHEMAS = Path(__file__).resolve().parents[2] / "schemas"
TEXTS = {page: (SCHEMAS / page).read_text() for page in PAGES}
PROTOCOL = TEXTS[RULES]
RULES_LINES_MAX = 450
"""What an implementer reads through; all else is looked up on other pages."""


def part(name: str) -> str:
    """What stands between the markers of a generated part, on whichever page."""
    found = re.search(rf"<!-- generated: {re.escape(name)} -->\n(.*?)<!-- end -->", "".join(TEXTS.values()), re.DOTALL)
    assert found, name
    return found[1]


def rows(name: str) -> list[list[str]]:
    """Cells of a generated table, without backticks and links, and without its head."""
    lines = [line for line in part(name).splitlines() if line.startswith("| ")][1:]
    return [[re.sub(r"\[(.*?)\]\(.*?\)", r"\1", cell).strip(" `") for cell in line.strip("|").split(" | ")] for line in lines]


def prose(page: str) -> str:
    return re.sub(r"<!-- generated: .*?<!-- end -->", "", TEXTS[page], flags=re.DOTALL)


def headings(text: str) -> list[str]:
    """Anchors of a page's headings."""
    return [re.sub(r"[^a-z0-9_ -]", "", title.lower()).replace(" ", "-") for title in re.findall(r"^#+ (.*)$", text, re.MULTILINE)]


def test_nothing_derived_is_stale() -> None:
    assert document.stale() == [], "run `python -m corral_schemas.document`"


def test_the_rules_fit_what_somebody_reads_through() -> None:
    assert len(PROTOCOL.splitlines()) <= RULES_LINES_MAX


def test_the_version_is_that_of_the_code() -> None:
    assert part("version").strip() == f"Protocol version: **{PROTOCOL_VERSION}**"
    assert re.search(rf"^\| {PROTOCOL_VERSION} \|", PROTOCOL.partition("## Changelog\n")[2], re.MULTILINE)


def test_the_table_of_ops_is_that_of_the_code() -> None:
    said = {row[0]: (row[1], row[2], row[4], row[5] == "yes", row[6] == "yes", row[7] == "yes", row[8]) for row in rows("ops")}
    assert said == {
        name: (
            op.args.__name__,
            op.reply.__name__,
            op.role,
            op.mutating,
            op.ordered,
            op.long_poll,
            "bulk" if op.bulk else "main",
        )
        for name, op in OPS.items()
    }


def test_the_table_of_errors_is_that_of_the_code() -> None:
    said = {row[0]: (int(row[2], 16), int(row[3]), row[4], row[5]) for row in rows("errors")}
    assert said == {code: (row.hresult, row.hresult - (1 << 32), row.errno_name, row.when) for code, row in TABLE.items()}


def test_the_table_of_event_kinds_is_that_of_the_code() -> None:
    assert {row[0]: row[1] for row in rows("events")} == {kind: payload.__name__ for kind, payload in EVENT_KINDS.items()}


def test_the_table_of_limits_is_that_of_the_code() -> None:
    wanted = {name: str(value) for name, value in vars(limits).items() if name.isupper()}
    assert {row[0]: row[1] for row in rows("limits")} == wanted


@pytest.mark.parametrize("name", generated_parts())
def test_every_generated_part_stands_on_one_page_once(name: str) -> None:
    assert sum(text.count(f"<!-- generated: {name} -->") for text in TEXTS.values()) == 1


@pytest.mark.parametrize("name", [*messages(), *parts()])
def test_every_struct_has_its_heading_and_every_message_its_example_with_a_link_to_its_bytes(name: str) -> None:
    page = page_of(name)
    assert len(re.findall(rf"^###+ {name}$", TEXTS[page], re.MULTILINE)) == 1
    if name in messages():
        assert f"tests/schemas/golden/{level_of(name)}/{name}.json), sample" in TEXTS[page]


@pytest.mark.parametrize("kind", [*messages().values(), *parts().values()], ids=lambda kind: kind.__name__)
def test_every_field_says_what_it_means(kind: type) -> None:
    info = types.type_info(kind)
    assert isinstance(info, types.StructType)
    assert [field.encode_name for field in info.fields if not meaning(field.type)] == []


@pytest.mark.parametrize("op", OPS)
def test_every_op_is_described_under_the_same_headings_in_the_same_order(op: str) -> None:
    section = re.search(rf"^### {op}\n\n(?P<about>[A-Z].*?)(?=^### [a-z]|^## )", TEXTS[COMMANDS], re.MULTILINE | re.DOTALL)
    assert section, op
    assert re.findall(r"^\*\*(\w+)\*\*", section["about"], re.MULTILINE)[:5] == ["Request", "Reply", "Errors", "Notes", "Example"]
    for kind in (OPS[op].args, OPS[op].reply):
        assert f"[{kind.__name__}](#" in section["about"]


def test_the_contents_lead_to_every_op() -> None:
    assert sorted(re.findall(r"\[`(\w+)`\]\(#", part("contents"))) == sorted(OPS)


def test_every_error_that_an_op_is_said_to_give_exists() -> None:
    lines = re.findall(r"\*\*Errors\*\*: (.*?)\n\n", prose(COMMANDS), re.DOTALL)
    said = {code for line in lines for code in re.findall(r"`([a-z]+_[a-z_]+)`", re.sub(r"\(.*?\)", "", line))}
    assert len(lines) == len(OPS)
    assert said and said <= TABLE.keys()


@pytest.mark.parametrize("page", [*PAGES, "../tests/schemas/golden/README.md"])
def test_every_link_leads_to_a_heading_or_a_file(page: str) -> None:
    text = (SCHEMAS / page).read_text()
    assert len(headings(text)) == len(set(headings(text)))
    for target, anchor in re.findall(r"\]\(([^)#]*)(?:#(.*?))?\)", text):
        there = (SCHEMAS / page).parent / target if target else SCHEMAS / page
        assert there.exists(), target
        assert not anchor or anchor in headings(there.read_text()), f"{target}#{anchor}"


@pytest.mark.parametrize("page", PAGES)
def test_every_limit_the_text_names_exists(page: str) -> None:
    named = set(re.findall(r"`([A-Z][A-Z0-9_]+_[A-Z0-9_]+)`", prose(page)))
    assert {name for name in named if not name.startswith("ZMQ_")} - {"_SECRETKEY", "_SERVERKEY"} <= set(vars(limits))


def test_rules_are_numbered_without_a_hole_and_what_is_cited_exists() -> None:
    defined = re.findall(r"^- \*\*R-(\d+)\*\*", PROTOCOL, re.MULTILINE)
    assert defined == [str(number) for number in range(1, len(defined) + 1)]
    sources = [path for room in ("tests", "client", "broker", "worker", "schemas") for path in (SCHEMAS.parent / room).rglob("*.py")]
    for path in [*sources, *(SCHEMAS / page for page in PAGES)]:
        for number in re.findall(r"\bR-(\d+)\b", path.read_text()):
            assert 1 <= int(number) <= len(defined), f"{path}: R-{number}"


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "$ref":
                yield inner
            else:
                yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def test_every_reference_in_asyncapi_leads_somewhere() -> None:
    api = json.loads((SCHEMAS / "asyncapi.json").read_text())
    found = set(references(api))
    for reference in found:
        if reference.startswith("#/"):
            at: Any = api
            for step in reference[2:].split("/"):
                at = at[step]
        else:
            assert (SCHEMAS / reference).exists(), reference
    assert {f"./json/{name}.json" for name in messages()} - found == {"./json/ContainerTarget.json"} - found


def test_asyncapi_has_every_op_and_every_event_kind() -> None:
    api = json.loads((SCHEMAS / "asyncapi.json").read_text())
    assert OPS.keys() <= api["operations"].keys()
    assert {f"event.{kind}" for kind in EVENT_KINDS} == api["channels"]["events"]["messages"].keys()
    assert api["info"]["version"] == str(PROTOCOL_VERSION)


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of everything derived, which the generator takes for the real thing."""
    shutil.copytree(SCHEMAS / "json", tmp_path / "json")
    shutil.copytree(SCHEMAS / "reference", tmp_path / "reference")
    for name in ("PROTOCOL.md", "asyncapi.json"):
        shutil.copy(SCHEMAS / name, tmp_path / name)
    monkeypatch.setattr(document, "SCHEMAS", tmp_path)
    return tmp_path


def as_other_releases_write_it(schema: Any) -> Any:
    """Indented descriptions with `null` first: msgspec 0.18 writes so, and later releases do not."""
    if isinstance(schema, list):
        return [as_other_releases_write_it(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: as_other_releases_write_it(inner) for key, inner in schema.items()}
    if isinstance(made.get("description"), str):
        made["description"] = made["description"].replace("\n\n", "\n\n    ") + "\n    "
    if "anyOf" in made:
        made["anyOf"] = sorted(made["anyOf"], key=lambda one: one != {"type": "null"})
    return made


@pytest.mark.parametrize("name", ["UploadArgs", "CreateReply"])
def test_a_schema_is_the_same_for_every_msgspec(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kind, wanted = messages()[name], (SCHEMAS / "json" / f"{name}.json").read_text()
    of_msgspec = msgspec.json.schema(kind)
    other = as_other_releases_write_it(of_msgspec)
    assert other != of_msgspec, "the example shows no difference"
    monkeypatch.setattr(msgspec.json, "schema", lambda _kind: other)
    assert json.dumps(json_schema(kind), indent=2, ensure_ascii=False) + "\n" == wanted


def test_check_names_what_is_stale_and_changes_nothing(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert document.main(["--check"]) == 0
    (copied / "json" / "Left.json").write_text("{}")
    (copied / "json" / "KillArgs.json").write_text("{}")
    (copied / "asyncapi.json").unlink()
    for page, word in ((RULES, "`read_stdio`"), (ERRORS, "`container_not_found`")):
        (copied / page).write_text((copied / page).read_text().replace(word, "`nowhere`"))
    assert document.main(["--check"]) == 1
    said = capsys.readouterr().out
    assert all(name in said for name in ("Left.json", "KillArgs.json", "asyncapi.json", RULES, ERRORS))
    assert (copied / "json" / "KillArgs.json").read_text() == "{}"


def test_a_run_makes_everything_fresh_again(copied: Path) -> None:
    (copied / "json" / "Left.json").write_text("{}")
    (copied / "json" / "KillArgs.json").unlink()
    assert document.main([]) == 0
    assert document.stale() == []
    assert not (copied / "json" / "Left.json").exists()
    assert (copied / "json" / "KillArgs.json").read_text() == (SCHEMAS / "json" / "KillArgs.json").read_text()
