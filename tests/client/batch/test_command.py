"""`corral batch` as a person types it, on real guests and real containers."""

import json
import os
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from corral_testkit.cli import CORRAL
from corral_testkit.shim_driver import wait_until
from corral_testkit.system import CorralSystem

pytestmark = [pytest.mark.runc, pytest.mark.timeout(120)]

Batch = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def batch(corral: CorralSystem, tmp_path: Path) -> Batch:
    """`corral batch ARGS` in an empty directory."""

    def run(*args: object, stdin: str = "") -> "subprocess.CompletedProcess[str]":
        environment = {**os.environ, "CORRAL_BROKER": corral.address}
        argv = [*CORRAL, "batch", *map(str, args)]
        return subprocess.run(argv, input=stdin, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=60, check=False)

    return run


def lines(done: "subprocess.CompletedProcess[str]") -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_each_item_runs_once_and_its_output_and_status_are_kept(corral: CorralSystem, batch: Batch, tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    witness.mkdir()
    words = ["sh", "-c", 'echo {} >>/w/{}; echo "out {}"; echo err >&2; test {} != 13']
    items = "".join(f"{n}\n" for n in range(24))
    done = batch("run", "--on", "any", "--window", 6, "--rootfs", corral.rootfs, "-v", f"{witness}:/w", "--", *words, stdin=items)
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    assert "13: failed: exited 1" in done.stderr
    assert "23 ok, 1 failed" in done.stderr
    assert {path.name: path.read_text() for path in witness.iterdir()} == {str(n): f"{n}\n" for n in range(24)}
    results = tmp_path / "corral-runs" / "last" / "results" / "run"
    assert (results / "5.out").read_text() == "out 4\n"
    assert (results / "5.err").read_text() == "err\n"
    assert json.loads((results / "14.json").read_text())["exit"]["code"] == 1
    rows = lines(batch("status", "--targets"))
    assert Counter(row["outcome"] for row in rows) == {"ok": 23, "failed": 1}
    assert {row["guest"] for row in rows} == set(corral.names)
    (row,) = lines(batch("status"))
    assert (row["state"], row["ok"], row["failed"], row["open"]) == ("ended", 23, 1, 0)
    assert corral.client().list().containers == []


def test_a_plan_of_several_steps_in_order_with_execs_and_labels(corral: CorralSystem, batch: Batch, tmp_path: Path) -> None:
    spec = {"rootfs": str(corral.rootfs), "args": ["sleep", "1000"]}
    steps = [
        {"name": "start", "op": "run", "detach": True, "args": {"container": "app", "spec": spec}},
        {"name": "ask", "op": "exec", "args": {"container": "app", "spec": {"args": ["sh", "-c", "echo {guest}; exit {}"]}},
         "items": [0, 3], "on_failure": "continue"},
        {"name": "look", "op": "state", "args": {"container": "app"}},
        {"name": "end", "op": "delete", "args": {"container": "app", "force": True}},
    ]  # fmt: skip
    (tmp_path / "plan.yaml").write_text(json.dumps({"version": 1, "steps": steps}))
    done = batch("run", "--json", "plan.yaml")
    assert done.returncode == 2, done.stderr
    rows = lines(done)
    assert [row["step"] for row in rows] == ["start"] * 2 + ["ask"] * 4 + ["look"] * 2 + ["end"] * 2
    assert sorted((row["item"], row["status"]) for row in rows if row["step"] == "ask") == [("0", 0)] * 2 + [("3", 3)] * 2
    outs = {path.read_text() for path in (tmp_path / "corral-runs" / "last" / "results" / "ask").glob("*.out")}
    assert outs == {f"{name}\n" for name in corral.names}
    again = batch("resume")
    assert (again.returncode, again.stdout) == (2, "")


def test_what_takes_too_long_is_killed_and_what_is_tried_again_starts_afresh(corral: CorralSystem, batch: Batch, tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    witness.mkdir()
    slow = "echo x >>/w/$$-{guest}; echo begun; exec sleep 1000"
    command = ("--rootfs", corral.rootfs, "-v", f"{witness}:/w", "--", "sh", "-c", slow)
    done = batch("run", "--target-timeout", "1s", "--retries", 1, "--select", corral.names[0], *command)
    assert done.returncode == 1, done.stderr
    assert "timeout: not done after 1 s (after 2 attempts)" in done.stderr
    assert sum(len(path.read_text().splitlines()) for path in witness.iterdir()) == 2
    assert (tmp_path / "corral-runs" / "last" / "results" / "run" / "1.out").read_text() == "begun\n"
    assert corral.client().list().containers == []


def test_a_worker_killed_on_the_way_costs_nothing(corral: CorralSystem, batch: Batch, tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    witness.mkdir()
    name = corral.names[0]
    argv = [*CORRAL, "batch", "run", "--select", name, "--on", "any", "--window", "4", "--rootfs", str(corral.rootfs)]
    argv += ["-v", f"{witness}:/w", "--", "sh", "-c", "echo {} >>/w/{}; usleep 300000"]
    process = subprocess.Popen(
        argv, cwd=tmp_path, env={**os.environ, "CORRAL_BROKER": corral.address}, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    process.stdin.write("".join(f"{n}\n" for n in range(20)))
    process.stdin.close()
    process.stdin = None
    for _ in range(2):
        corral.restart_worker(name)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert {path.name: path.read_text() for path in witness.iterdir()} == {str(n): f"{n}\n" for n in range(20)}


def test_all_mistakes_are_said_with_their_lines_and_nothing_runs(batch: Batch, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("version: 1\nsteps:\n- name: a\n  op: run\n  windw: 3\n- name: a\n  op: sleep\n")
    for command in ("check", "run"):
        done = batch(command, "bad.yaml")
        assert done.returncode == 255
        assert done.stdout == ""
        assert "bad.yaml:5: steps[0].windw: unknown key; did you mean 'window'?" in done.stderr
        assert "bad.yaml:6: steps[1].name: there is a step 'a' already" in done.stderr
        assert "bad.yaml:7: steps[1].op: invalid enum value 'sleep'" in done.stderr
        assert "nothing was run" in done.stderr
    assert not (tmp_path / "corral-runs").exists()


@pytest.mark.parametrize(
    ("args", "why"),
    [
        (("run", "--select", "nobody-*", "--rootfs", "/r", "--", "true"), "selects none of 2 guests"),
        (("run", "--select", "role in", "--rootfs", "/r", "--", "true"), "selector 'role in'"),
        (("run", "--rootfs", "/r"), "say what to run"),
        (("run", "--", "true", "false"), "name a plan; or say where"),
        (("run", "no-such.yaml"), "No such file"),
        (("run", "--halt", "often", "--rootfs", "/r", "--", "true"), "--halt"),
        (("run", "--window", "many", "--rootfs", "/r", "--", "true"), "is not a number from 1 on"),
        (("run", "--on", "any", "--rootfs", "/r", "--", "true"), "there are none"),
        (("resume",), "no last run"),
        (("status", "/no/such"), "no directory"),
        (("runn",), "did you mean corral batch run?"),
        (("run", "--windo", "3"), "did you mean"),
    ],
)
def test_wrong_usage_is_255_so_that_it_is_never_a_count_of_targets(batch: Batch, args: tuple[str, ...], why: str) -> None:
    done = batch(*args)
    assert (done.returncode, done.stdout) == (255, "")
    assert why in done.stderr


def test_a_dry_run_says_what_would_be_sent_and_sends_nothing(corral: CorralSystem, batch: Batch, tmp_path: Path) -> None:
    done = batch("run", "--dry-run", "--rootfs", corral.rootfs, "--", "echo", "{}", stdin="a b\nü\n")
    rows = lines(done)
    assert [(row["guest"], row["item"]) for row in rows] == [(name, item) for item in ("a b", "ü") for name in sorted(corral.names)]
    assert rows[2]["args"]["spec"]["args"] == ["echo", "ü"]
    assert not (tmp_path / "corral-runs").exists()


def test_halting_skips_the_rest_and_columns_go_to_a_file(corral: CorralSystem, batch: Batch, tmp_path: Path) -> None:
    tsv = tmp_path / "jobs.tsv"
    items = "".join(f"{n}\n" for n in range(30))
    command = ("--on", "any", "--window", 2, "--rootfs", corral.rootfs, "--", "sh", "-c", "exit 4 # {}")
    done = batch("run", "--halt", "soon,fail=2", "--joblog-tsv", tsv, *command, stdin=items)
    assert done.returncode == 30
    assert "28 skipped" in done.stderr or "27 skipped" in done.stderr
    head, *rows = tsv.read_text().splitlines()
    assert head.split("\t") == ["Seq", "Host", "Starttime", "JobRuntime", "Send", "Receive", "Exitval", "Signal", "Command"]
    assert len(rows) == 30
    assert "sh -c exit 4 # 0" in tsv.read_text()


def test_a_reader_that_goes_away_ends_it_quietly(corral: CorralSystem, batch: Batch, tmp_path: Path) -> None:
    items = "".join(f"{n}\n" for n in range(12))
    shell = f"{' '.join(map(repr, CORRAL))} batch run --json --on any --window 2 --rootfs {corral.rootfs} -- true {{}} | head -n 1"
    environment = {**os.environ, "CORRAL_BROKER": corral.address}
    done = subprocess.run(
        shell, shell=True, input=items, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=60, check=False
    )
    assert len(done.stdout.splitlines()) == 1
    assert "Traceback" not in done.stderr
    assert batch("resume").returncode == 0


def test_a_resume_over_a_lost_journal_runs_nothing_a_second_time(new_corral: Callable[..., CorralSystem], tmp_path: Path) -> None:
    system = new_corral()
    (name,) = system.names
    environment = {**os.environ, "CORRAL_BROKER": system.address}
    witness = tmp_path / "witness"
    witness.mkdir()
    command = ["--rootfs", str(system.rootfs), "-v", f"{witness}:/w", "--", "sh", "-c", "echo ran >>/w/file; sleep 1000"]
    runner = subprocess.Popen([*CORRAL, "batch", "run", "--select", name, *command], cwd=tmp_path, env=environment, stderr=subprocess.PIPE)
    wait_until(lambda: (witness / "file").exists(), "it runs", 20.0)
    runner.kill()
    runner.communicate()
    system.workers[name].kill()
    for file in system.state_dir(name).glob("journal.sqlite*"):
        file.unlink()
    system.restart_worker(name)
    again = subprocess.run(
        [*CORRAL, "batch", "resume", "--json"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
    )
    assert [(row["outcome"], row["reason"]) for row in lines(again)] == [("unknown", f"{name} has lost its records since it was sent")]
    assert (witness / "file").read_text() == "ran\n"
