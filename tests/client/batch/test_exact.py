"""Guarantee 19: one terminal record per target, the window never exceeded, nothing run twice however often the runner is killed."""

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from corral_testkit import simulated_guests
from corral_testkit.cli import CORRAL, Terminal
from corral_testkit.system import CorralSystem

GUESTS = 200
WINDOW = 16
KILLS_AFTER = (15, 50, 90, 130, 165)
"""Targets that have ended when the runner is killed."""

pytestmark = [pytest.mark.timeout(150)]


class Fleet:
    """A real broker with simulated guests."""

    def __init__(self, address: str, directory: Path, count: int) -> None:
        self.directory = directory
        self.environment = {**os.environ, "CORRAL_BROKER": address}
        self.witness = directory / "witness.jsonl"
        argv = [sys.executable, simulated_guests.__file__, address, str(self.witness), str(count)]
        path = os.pathsep.join([str(Path(simulated_guests.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
        self._guests = subprocess.Popen(argv, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": path})
        assert self._guests.stdout is not None
        readable, _, _ = select.select([self._guests.stdout], [], [], 30)
        assert readable
        assert self._guests.stdout.readline() == b"ready\n"

    def close(self) -> None:
        self._guests.kill()
        self._guests.wait()
        if self._guests.stdout is not None:
            self._guests.stdout.close()

    def batch(self, *args: object) -> "subprocess.Popen[str]":
        argv = [*CORRAL, "batch", *map(str, args)]
        return subprocess.Popen(argv, cwd=self.directory, env=self.environment, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)

    def finish(self, process: "subprocess.Popen[str]", within_s: float = 90) -> tuple[int, str]:
        _, said = process.communicate(timeout=within_s)
        return process.returncode, said

    def joblog(self, run: Path) -> list[dict[str, Any]]:
        path = run / "joblog.jsonl"
        lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
        return [json.loads(line) for line in lines]

    def ended(self, run: Path) -> list[dict[str, Any]]:
        return [record for record in self.joblog(run) if record["type"] == "end"]

    def seen(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.witness.read_text().splitlines()]


def until(true: Callable[[], bool], within_s: float = 60) -> None:
    end_s = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < end_s, "it never became so"
        time.sleep(0.005)  # between two looks


def until_ended(fleet: Fleet, run: Path, process: "subprocess.Popen[str]", count: int) -> None:
    until(lambda: len(fleet.ended(run)) >= count or process.poll() is not None)
    assert process.poll() is None, process.communicate()


@pytest.fixture
def make_fleet(new_corral: Callable[..., CorralSystem]) -> Iterator[Callable[[int], Fleet]]:
    made: list[Fleet] = []
    directory = Path(tempfile.mkdtemp(prefix="corral-batch-", dir="/tmp"))

    def make(count: int) -> Fleet:
        made.append(Fleet(new_corral(guests=0).address, directory, count))
        return made[-1]

    yield make
    for fleet in made:
        fleet.close()
    shutil.rmtree(directory)


PLAN = f"""
version: 1
steps:
  - name: all
    op: run
    args: {{spec: {{rootfs: /r, args: [work, "{{guest}}"]}}}}
    window: {WINDOW}
    on_failure: continue
  - name: after
    op: run
    select: "parity=even"
    items: {{range: [1, 60]}}
    on: any
    args: {{spec: {{rootfs: /r, args: [after, "{{}}"]}}}}
    window: {WINDOW}
"""


@pytest.mark.guarantee(19)
def test_killed_five_times_among_dead_and_slow_guests_nothing_runs_twice_and_nothing_is_left_out(
    make_fleet: Callable[[int], Fleet],
) -> None:
    fleet = make_fleet(GUESTS)
    (fleet.directory / "plan.yaml").write_text(PLAN)
    run = fleet.directory / "run"
    process = fleet.batch("run", "--run-dir", run, "--patience", "1s", "plan.yaml")
    for count in KILLS_AFTER:
        until_ended(fleet, run, process, count)
        process.kill()
        fleet.finish(process)
        process = fleet.batch("resume", run, "--patience", "1s")
    status, said = fleet.finish(process)

    ends = fleet.ended(run)
    first = [record for record in ends if record["step"] == "all"]
    assert Counter(record["key"] for record in ends).most_common(1)[0][1] == 1
    assert sorted(record["guest"] for record in first) == [f"sim-{number:03}" for number in range(GUESTS)]
    assert Counter(record["step"] for record in ends) == {"all": GUESTS, "after": 60}

    begun = [record for record in fleet.seen() if record["what"] == "begin"]
    by_words = Counter(tuple(record["words"]) for record in begun)
    assert by_words.most_common(1)[0][1] == 1, "something ran twice"
    assert max(record["active"] for record in begun) <= WINDOW
    outcome = {record["guest"]: record["outcome"] for record in first}
    for number in range(GUESTS):
        name, kind = f"sim-{number:03}", number % 20
        ran = ("work", name) in by_words
        if kind == 7:
            assert not ran
            # Where the runner was killed before the broker's answer came, nobody can say that it was not taken.
            assert outcome[name] in ("unreachable", "unknown")
        elif kind == 13:
            assert outcome[name] == "unknown"
        else:
            assert (outcome[name], ran) == ("ok", True)
    assert {words[1] for words in by_words if words[0] == "after"} == {str(n) for n in range(1, 61)}
    assert all(record["outcome"] == "ok" for record in ends if record["step"] == "after")
    assert status == sum(record["outcome"] != "ok" for record in ends) == 20, said
    assert sum(record["type"] == "resumed" for record in fleet.joblog(run)) == len(KILLS_AFTER)


def test_ctrl_c_drains_a_second_one_stops_and_either_way_the_run_goes_on(make_fleet: Callable[[int], Fleet]) -> None:
    fleet = make_fleet(20)
    run = fleet.directory / "run"
    command = ("--select", "sim-003,sim-011", "--on", "any", "--window", 4, "--rootfs", "/r", "--", "work", "{}")
    items = "".join(f"{n}\n" for n in range(16))
    argv = [*CORRAL, "batch", "run", "--run-dir", str(run), *map(str, command)]
    process = subprocess.Popen(argv, env=fleet.environment, cwd=fleet.directory, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdin is not None
    process.stdin.write(items)
    process.stdin.close()
    process.stdin = None
    until(lambda: sum(record["type"] == "sent" for record in fleet.joblog(run)) == 4)
    process.send_signal(signal.SIGINT)
    status, said = fleet.finish(process)
    assert status == 255
    assert "no more targets are begun" in said
    assert f"corral batch resume {run}" in said
    assert [record["outcome"] for record in fleet.ended(run)] == ["ok"] * 4

    process = fleet.batch("resume", run)
    until(lambda: sum(record["type"] == "sent" for record in fleet.joblog(run)) == 8)
    begun_s = time.monotonic()
    process.send_signal(signal.SIGINT)
    until(lambda: fleet_said(process))
    process.send_signal(signal.SIGTERM)
    status, said = fleet.finish(process)
    assert (status, len(fleet.ended(run))) == (255, 4)
    assert "stopped; what is under way goes on in its guests" in said
    assert time.monotonic() - begun_s < 2

    status, said = fleet.finish(fleet.batch("resume", run))
    assert status == 0, said
    assert sorted(record["item"] for record in fleet.ended(run)) == sorted(map(str, range(16)))
    assert Counter(tuple(record["words"]) for record in fleet.seen() if record["what"] == "begin").most_common(1)[0][1] == 1


def fleet_said(process: "subprocess.Popen[str]") -> bool:
    """Whether it has said something on stderr that was not read yet."""
    assert process.stderr is not None
    return bool(select.select([process.stderr], [], [], 0)[0])


def test_what_failed_is_done_again_only_when_asked_for(make_fleet: Callable[[int], Fleet]) -> None:
    fleet = make_fleet(20)
    run = fleet.directory / "run"
    command = ("--select", "sim-000,sim-007,sim-013", "--rootfs", "/r", "--", "false")
    status, said = fleet.finish(fleet.batch("run", "--run-dir", run, "--patience", "1s", *command))
    assert status == 3, said
    outcomes = {record["guest"]: record["outcome"] for record in fleet.ended(run)}
    assert outcomes == {"sim-000": "failed", "sim-007": "unreachable", "sim-013": "unknown"}
    before = len(fleet.joblog(run))
    status, said = fleet.finish(fleet.batch("resume", run))
    assert (status, len(fleet.joblog(run))) == (3, before + 1), said  # only that it was resumed
    status, said = fleet.finish(fleet.batch("resume", "--resume-failed", "--patience", "1s", run))
    assert status == 3
    assert sorted(record["guest"] for record in fleet.ended(run)[3:]) == ["sim-000", "sim-007"]
    status, said = fleet.finish(fleet.batch("resume", "--retry-unknown", "--patience", "1s", run))
    assert fleet.ended(run)[-1]["outcome"] == "unreachable", said  # asked again, nobody knows, done again: the guest is gone
    words = Counter((record["guest"], *record["words"]) for record in fleet.seen() if record["what"] == "begin")
    assert words == {("sim-000", "false"): 2}


def test_two_runners_never_meet_in_one_run_nor_under_one_lock(make_fleet: Callable[[int], Fleet]) -> None:
    fleet = make_fleet(20)
    runs = [fleet.directory / name for name in ("one", "two")]
    lock = fleet.directory / "locks" / "nightly"
    step = 'name: s, op: run, select: sim-003, window: 1, items: {range: [1, 60]}, args: {spec: {rootfs: /r, args: [work, "{}"]}}'
    (fleet.directory / "plan.yaml").write_text(f"version: 1\nsteps: [{{{step}}}]\n")
    first = fleet.batch("run", "--lock", lock, "--run-dir", runs[0], "plan.yaml")
    until(lambda: bool(fleet.joblog(runs[0])))
    for args in (("resume", runs[0]), ("run", "--lock", lock, "--run-dir", runs[1], "plan.yaml")):
        status, said = fleet.finish(fleet.batch(*args))
        assert status == 255
        assert f"(pid {first.pid})" in said
    first.send_signal(signal.SIGTERM)
    assert fleet.finish(first)[0] == 255
    status, said = fleet.finish(fleet.batch("run", "--lock", lock, "--run-dir", runs[1], "--dry-run", "plan.yaml"))
    assert status == 0, said


def test_another_run_in_a_directory_of_the_same_name_is_another_run(make_fleet: Callable[[int], Fleet]) -> None:
    fleet = make_fleet(20)
    for place in ("one", "two"):
        (fleet.directory / place).mkdir()
        command = ("--run-dir", fleet.directory / place / "run", "--select", "sim-000", "--rootfs", "/r", "--", "work")
        status, said = fleet.finish(fleet.batch("run", *command))
        assert status == 0, said
    assert sum(record["what"] == "begin" for record in fleet.seen()) == 2


def test_on_a_terminal_progress_is_live_and_names_who_takes_longest(make_fleet: Callable[[int], Fleet]) -> None:
    fleet = make_fleet(20)
    run = fleet.directory / "run"
    command = ("--patience", "6s", "--select", "sim-000,sim-013", "--rootfs", "/r", "--", "work")
    with Terminal("batch", "run", "--run-dir", run, *command, environment=fleet.environment, columns=100) as terminal:
        terminal.expect(b"1/2")
        terminal.expect(b"  sim-013: ", within_s=30)
        terminal.expect(b"1 ok, 1 unknown", within_s=30)
        assert terminal.end(within_s=30) == 1
