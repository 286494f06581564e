"""Plans: what is read, every mistake at once with its line, and the published schema."""

import json
from pathlib import Path

import jsonschema  # type: ignore[import-untyped]
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral.batch import schema
from corral.batch.adhoc import adhoc_plan
from corral.batch.checking import PlanError, read_plan
from corral.batch.gather import gather_items
from corral.batch.plan import Plan
from corral.batch.source import read

GOOD = """
version: 1
steps:
  - name: drain
    op: stop
    args: {container: web, grace_ms: 5000}
    select: role=web,zone!=b
    window: 10%
    on_failure: run undo
  - name: work
    op: run
    on: any
    items: {range: [1, 3]}
    args:
      spec: {rootfs: /srv/bb, args: [sh, -c, "echo {} on {guest} {label.zone} ${HOME} {{}}"], env: [N=no]}
    timeout: 1m30s
    retries: 2
    backoff: 0.5
  - name: undo
    op: start
    args: {container: web}
"""

MANY_MISTAKES = """\
version: 2
steps:
  - name: a b
    op: runn
    onn: any
    window: 0%
    select: "role in web"
    timeout: 3 parsecs
  - name: x
    op: exec
    items: [1, true]
    args:
      spec: {args: ["{}", 3], envv: []}
      stdio: {rows: -1}
    on_failure: run y
    retries: many
  - name: x
    op: stop
    args: {container: a b, grace_ms: -4}
    on: any
  - 7
  - name: z
    op: run
    args: {spec: {rootfs: /r, args: [echo, "{}"]}, bundle: /b}
    items: {file: a, stdin: true}
    name: z
extra: 1
"""


def mistakes(text: str, *, json_lines: bool = False) -> list[tuple[int, str]]:
    with pytest.raises(PlanError) as caught:
        read_plan(text, json_lines=json_lines)
    return [(problem.line, str(problem)) for problem in caught.value.problems]


def good() -> Plan:
    return read_plan(GOOD)


def test_a_plan_is_read_and_words_that_yaml_once_took_for_other_things_are_words() -> None:
    drain, work, _ = good().steps
    assert (drain.window.of(35), drain.on_failure, drain.on) == (3, "run undo", "each")
    assert (work.on, work.timeout_s, work.retries, work.backoff_s) == ("any", 90.0, 2, 0.5)
    assert work.args["spec"]["env"] == ["N=no"]
    assert good().handlers == {"undo"}


def test_json_lines_say_the_same() -> None:
    document = read(GOOD).data
    lines = [json.dumps({"version": 1}), "", *(json.dumps(step) for step in document["steps"])]
    assert read_plan("\n".join(lines), json_lines=True) == good()
    lines[3] = json.dumps({**document["steps"][1], "op": "walk"})
    assert mistakes("\n".join(lines), json_lines=True)[0][0] == 4
    assert any(line == 4 and "not JSON" in text for line, text in mistakes("\n".join([*lines[:3], "{"]), json_lines=True))


def test_all_mistakes_are_said_at_once_with_their_lines() -> None:
    found = mistakes(MANY_MISTAKES)
    expected = {
        1: "version: invalid enum value 2",
        3: "matching regex",
        4: "did you mean 'run'",
        5: "onn: unknown key; did you mean 'on'?",
        6: "'0%' is not a share",
        7: "character 9: '(' is expected",
        8: "not a duration",
        11: "steps[1].items[1]: an item is text or a number",
        14: "rows: expected `int` >= 0",
        15: "there is no step 'y'",
        16: "retries: expected `int`, got `str`",
        17: "there is a step 'x' already",
        20: "there are no items",
        21: "a step is a map",
        24: "give exactly one of them",
        25: "exactly one of file, stdin and range",
        26: "given twice",
        27: "extra: unknown key",
    }
    for line, text in expected.items():
        assert any(line == where and text in said for where, said in found), (line, text, found)
    assert (13, "steps[1].args.spec.args[1]: expected `str`, got `int`") in found
    assert (12, "steps[1].args: 'container' is missing") in found
    assert any(line == 19 and "container id 'a b'" in text for line, text in found)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "the plan is empty"),
        ("[]", "a plan is a map"),
        ("version: 1", "'steps' is missing"),
        ("version: 1\nsteps: []", "at least one step"),
        ("version: 1\nsteps: [{", "expected"),
        ("a: &a [*a]", "alias"),
        ("version: 1\nsteps: &s [*s]", "alias"),
        ("version: 1\nsteps:\n- {name: a, op: ps, args: {container: c}, on_failure: run a}", "comes back to 'a'"),
        ("version: 1\nsteps:\n- {name: a, op: run, args: {spec: {rootfs: /r, args: ['{}']}}}", "the step has no items"),
        ("version: 1\nsteps:\n- {name: a, op: [], args: {}}", "steps[0].op"),
        ("? [a]\n: b", "a key must be a word"),
        ("[" * 5_000, "nested too deeply"),
        ("\x00", "special characters"),
    ],
)
def test_a_text_that_is_no_plan_is_said_to_be_none(text: str, why: str) -> None:
    assert why in " ".join(said for _, said in mistakes(text))


def test_aliases_that_multiply_are_refused_in_time() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert "more than" in mistakes("\n".join(lines))[0][1]


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=st.sampled_from("version: 1\nsteps-{}[]'\"&*!|>ab#,?%@\t"), max_size=80))
def test_any_text_is_a_plan_or_a_list_of_mistakes(text: str) -> None:
    for json_lines in (False, True):
        try:
            read_plan(text, json_lines=json_lines)
        except PlanError as why:
            assert why.problems


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(["run", "exec", "any", "{}", "10%", "all", "run a", "c"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "op", "args", "spec", "items", "on", "range", "file", "container", "rootfs", "window"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(st.lists(JSON_VALUES, max_size=3))
def test_any_steps_are_a_plan_or_a_list_of_mistakes(steps: list[object]) -> None:
    text = json.dumps({"version": 1, "steps": steps})
    try:
        plan = read_plan(text)
    except PlanError as why:
        assert why.problems
    else:
        jsonschema.validate(json.loads(text), schema.plan_schema())
        assert len(plan.steps) == len(steps)


def test_the_published_schema_is_not_stale() -> None:
    assert schema.main(["--check"]) == 0, "run `python -m corral.batch.schema`"


def test_the_schema_takes_good_plans_and_refuses_bad_ones() -> None:
    published = json.loads(schema.SCHEMA_PATH.read_text())
    jsonschema.Draft202012Validator.check_schema(published)
    jsonschema.validate(read(GOOD).data, published)
    adhoc = adhoc_plan(["echo"], rootfs="/r", container="", step={"on": "any"}, items=True)
    jsonschema.validate(json.loads(adhoc), published)
    errors = {tuple(error.absolute_path) for error in jsonschema.Draft202012Validator(published).iter_errors(read(MANY_MISTAKES).data)}
    assert {("version",), ("steps", 0, "op"), ("steps", 1, "args"), ("steps", 3)} <= errors


def test_items_come_from_lists_ranges_files_and_stdin(tmp_path: Path) -> None:
    (tmp_path / "items").write_text("a b\nc\r\n\nü\x0bx")
    steps = [
        f"{{name: s{n}, op: ps, args: {{container: '{{}}'}}, items: {items}}}"
        for n, items in enumerate(
            ["[a, 7, 1.5, '01']", "{range: [3, 1]}", "{range: [0, 10, 5]}", "{file: items}", "{stdin: true}", "{range: [2, 2]}"]
        )
    ]
    plan = read_plan("version: 1\nsteps:\n" + "".join(f"- {step}\n" for step in steps))
    assert gather_items(plan, tmp_path, lambda: b"1\n2\n") == {
        "s0": ["a", "7", "1.5", "01"],
        "s1": ["3", "2", "1"],
        "s2": ["0", "5", "10"],
        "s3": ["a b", "c", "", "ü\x0bx"],
        "s4": ["1", "2"],
        "s5": ["2"],
    }


def test_items_that_are_not_there_are_all_said(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"a\n\xff\n")
    sources = ["{file: no-such}", "{file: binary}", "{stdin: true}", "{stdin: true}", "{range: [3, 1, 1]}", "{range: [1, 99999999999]}"]
    steps = [f"- {{name: s{n}, op: ps, args: {{container: '{{}}'}}, items: {items}}}\n" for n, items in enumerate(sources)]
    with pytest.raises(PlanError) as caught:
        gather_items(read_plan("version: 1\nsteps:\n" + "".join(steps)), tmp_path, lambda: b"x\n")
    said = "\n".join(map(str, caught.value.problems))
    assert "No such file" in said
    assert "line 2 is not UTF-8" in said
    assert "stdin gives its items to step s2 already" in said
    assert "there are none" in said
    assert "a range of more than" in said
