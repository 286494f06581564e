"""The joblog on disk, and where a run stands by it."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.batch.checking import read_plan
from corral.batch.filling import FillError, fill
from corral.batch.history import History, next_step, replay
from corral.batch.joblog import Joblog, JoblogError, read_joblog, tsv_line
from corral.batch.plan import Plan
from corral.batch.records import AnyRecord, Ended, Reopened, RunBegan, Sent, StepBegan, StepEnded, Tried, from_line, to_line
from corral.batch.rundir import RunDirError, find_run_dir, make_run_dir
from corral.batch.targets import request_id

SENT = Sent(time_ns=3, step="s", key="k", number=1, attempt=1, guest="g", request="r", epoch="e", args={"a": ["ü", 1]})
ENDED = Ended(
    time_ns=9_000_000_000,
    step="s",
    key="k",
    number=1,
    outcome="failed",
    guest="g",
    item="i",
    attempts=1,
    status=3,
    started_ns=7_500_000_000,
)
RECORDS: list[AnyRecord] = [RunBegan(time_ns=1, run="r", plan="p"), StepBegan(time_ns=2, step="s", targets=2, window=1), SENT, ENDED]


@given(st.integers(0, 1_000))
def test_what_a_killed_writer_left_is_cut_off_and_the_log_goes_on(cut: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "joblog.jsonl"
        whole = b"".join(map(to_line, RECORDS))
        path.write_bytes(whole[: min(cut, len(whole))])
        kept = list(read_joblog(path))
        log = Joblog(path)
        log.append([ENDED])
        log.sync()
        log.close()
        assert list(read_joblog(path)) == [*kept, ENDED]
        assert kept == RECORDS[: len(kept)]


def test_a_line_in_the_middle_that_is_none_is_said_and_nothing_is_guessed(tmp_path: Path) -> None:
    path = tmp_path / "joblog.jsonl"
    path.write_bytes(to_line(SENT) + b"{broken\n" + to_line(ENDED))
    with pytest.raises(JoblogError, match="line 2"):
        list(read_joblog(path))


def test_records_come_back_as_they_were() -> None:
    assert [from_line(to_line(record)) for record in RECORDS] == RECORDS


def test_columns_are_those_of_gnu_parallel() -> None:
    assert tsv_line(ENDED, "sh -c\ta\nb") == "1\tg\t7.500\t1.500\t0\t0\t3\t0\tsh -c a b\n"


def test_a_target_is_asked_about_until_something_is_known_of_it() -> None:
    def past(*records: AnyRecord) -> str:
        found = replay([*RECORDS[:2], *records]).steps["s"].by_key["k"]
        return f"{'sent' if found.sent else '-'} {found.ended.outcome if found.ended else '-'} {found.retries}"

    tried = Tried(time_ns=5, step="s", key="k", attempt=1, outcome="failed")
    unknown = Ended(time_ns=6, step="s", key="k", number=1, outcome="unknown")
    again = Reopened(time_ns=7, step="s", key="k")
    assert past(SENT) == "sent - 0"
    assert past(SENT, tried) == "- - 1"
    assert past(SENT, tried, SENT) == "sent - 1"
    assert past(SENT, ENDED) == "- failed 0"
    assert past(SENT, ENDED, again) == "- - 0"
    assert past(SENT, unknown, again) == "sent - 0"  # asked again before it is done again


PLAN = """
version: 1
steps:
- {name: a, op: ps, args: {container: c}, on_failure: continue}
- {name: b, op: ps, args: {container: c}, on_failure: run undo}
- {name: undo, op: ps, args: {container: c}}
- {name: c, op: ps, args: {container: c}}
"""


@pytest.mark.parametrize(
    ("ended", "following"),
    [
        ({}, "a"),
        ({"a": 3}, "b"),
        ({"a": 0, "b": 0}, "c"),
        ({"a": 0, "b": 2}, "undo"),
        ({"a": 0, "b": 2, "undo": 0}, None),
        ({"a": 0, "b": 0, "c": 1}, None),
    ],
)
def test_which_step_follows_depends_on_what_failed(ended: dict[str, int], following: str | None) -> None:
    plan: Plan = read_plan(PLAN)
    history: History = replay([StepEnded(time_ns=1, step=name, failures=count) for name, count in ended.items()])
    found = next_step(plan, history)
    assert (found.name if found else None) == following


def test_after_a_halt_nothing_follows() -> None:
    history = replay([StepEnded(time_ns=1, step="a", failures=1, halted=True)])
    assert next_step(read_plan(PLAN), history) is None


def test_request_ids_depend_on_run_target_and_attempt_and_on_nothing_else() -> None:
    ids = {request_id(run, key, attempt) for run in ("r1", "r2") for key in ("a", "b") for attempt in (1, 2)}
    assert len(ids) == 8
    assert request_id("r1", "a", 1) == request_id("r1", "a", 1)


def test_placeholders_are_filled_and_other_braces_left_alone() -> None:
    template = {"a": ["{} {n} {guest} {label.zone} {{}} ${X} {print $1} {unknown}", 7], "{}": None}
    assert fill(template, item="it's", number=3, guest="g1", labels={"zone": "b"}) == {
        "a": ["it's 3 g1 b {} ${X} {print $1} {unknown}", 7],
        "{}": None,
    }
    assert fill("{}", item="{guest}", number=1, guest="g", labels={}) == "{guest}"
    with pytest.raises(FillError):
        fill("{label.x}", item="a", number=1, guest="g", labels={})


def test_runs_have_directories_of_their_own_and_last_is_the_newest(tmp_path: Path) -> None:
    base = tmp_path / "runs"
    with pytest.raises(RunDirError, match="no last run"):
        find_run_dir("last", base)
    made = [make_run_dir(base, "nightly", PLAN.encode(), ".yaml", {"a": ["1"]}) for _ in range(2)]
    assert made[0].path != made[1].path
    assert find_run_dir("last", base).path == made[1].path
    assert (made[1].items("a"), made[1].items("b"), made[1].targets("a")) == (["1"], None, None)
    assert made[0].plan() == read_plan(PLAN)
    with pytest.raises(RunDirError, match="is not empty"):
        make_run_dir(base, "x", b"", ".yaml", {}, exact=made[0].path)
    with pytest.raises(RunDirError, match="no plan in it"):
        find_run_dir(str(base), base)


def test_a_link_called_last_that_is_somebody_else_s_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for target in ("photos", "/mnt/photos"):
        link = tmp_path / "last"
        link.symlink_to(target)
        make_run_dir(tmp_path, "p", b"", ".yaml", {}, exact=tmp_path / f"run-{len(target)}")
        assert str(link.readlink()) == target
        link.unlink()
    for name in ("one", "two"):
        make_run_dir(tmp_path, "p", b"", ".yaml", {}, exact=tmp_path / name)
        assert str((tmp_path / "last").readlink()) == name
