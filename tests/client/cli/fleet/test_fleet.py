"""The same command for many guests: --select."""

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from corral_testkit.cli import Terminal, Up, end_up, start_up

pytestmark = pytest.mark.runc
CLOSING = re.compile(r"^corral: (\w+): (\d+) ok, (\d+) failed, (\d+) timeout, (\d+) unreachable$")


def closing(said: str) -> tuple[int, ...]:
    """ok, failed, timeout, unreachable of the last line."""
    match = CLOSING.match(said.splitlines()[-1])
    assert match, said
    return tuple(int(count) for count in match.groups()[1:])


@pytest.fixture
def pair(up: Up) -> Iterator[str]:
    """A container of one name in both guests."""
    done = up.corral("run", "-d", "--select", "all", "--name", "pair", "--rootfs", up.rootfs, "--", "sleep", "60")
    assert (done.returncode, sorted(done.stdout.splitlines())) == (0, ["g1/pair", "g2/pair"])
    assert closing(done.stderr) == (2, 0, 0, 0)
    yield "pair"
    up.corral("rm", "-f", "--select", "all", "pair")


def run_everywhere(up: Up, *flags: str, program: str) -> "subprocess.CompletedProcess[str]":
    return up.corral("run", "--rm", "--select", "all", *flags, "--rootfs", up.rootfs, "--", "sh", "-c", program)


def test_run_tags_both_streams_by_guest_and_counts(up: Up) -> None:
    done = run_everywhere(up, program="echo out; echo err >&2; printf end")
    assert done.returncode == 0
    assert sorted(done.stdout.splitlines()) == ["g1 | end", "g1 | out", "g2 | end", "g2 | out"]
    assert sorted(done.stderr.splitlines()[:-1]) == ["g1 | err", "g2 | err"]
    assert closing(done.stderr) == (2, 0, 0, 0)


def test_lines_of_two_guests_are_never_mixed(up: Up) -> None:
    writer = "i=0; while [ $i -lt 300 ]; do printf %s aaaaaaaa; printf '%s\\n' bbbbbbbb; i=$((i+1)); done"
    done = run_everywhere(up, program=writer)
    assert set(done.stdout.splitlines()) == {"g1 | aaaaaaaabbbbbbbb", "g2 | aaaaaaaabbbbbbbb"}
    assert len(done.stdout.splitlines()) == 600


def test_what_does_not_end_with_0_is_named_and_the_status_is_1(up: Up) -> None:
    up.corral("run", "-d", "-g", "g1", "--name", "half", "--rootfs", up.rootfs, "--", "sleep", "60")
    done = up.corral("exec", "--select", "all", "half", "--", "sh", "-c", "exit 3")
    assert done.returncode == 1
    assert "corral: g1/half: exited 3" in done.stderr
    assert "corral: g2/half: container_not_found" in done.stderr
    assert closing(done.stderr) == (0, 2, 0, 0)
    up.corral("rm", "-f", "g1/half")


def test_with_json_every_line_and_every_end_is_an_object_of_the_shape_logs_and_wait_have(up: Up, pair: str) -> None:
    done = run_everywhere(up, "--json", "--name", "told", program="hostname; echo no >&2; printf '\\377'; exit 3")
    assert (done.returncode, closing(done.stderr)) == (1, (0, 2, 0, 0))
    records = [json.loads(line) for line in done.stdout.splitlines()]
    for guest in ("g1", "g2"):
        *lines, end = [record for record in records if record["path"] == f"{guest}/told"]
        said = {(line["stream"], line["offset"]): line.get("text") or line["base64"] for line in lines}
        assert said == {("stdout", 0): "told\n", ("stderr", 0): "no\n", ("stdout", 5): "/w=="}
        assert {key: end[key] for key in ("guest", "container", "process", "status")} == {
            "guest": guest, "container": "told", "process": "init", "status": 3,
        }  # fmt: skip
        assert (end["exit"]["type"], end["exit"]["code"]) == ("exited", 3)
    execs = up.corral("exec", "--json", "--select", "all", "--process", "once", pair, "--", "true")
    assert sorted(json.loads(line)["path"] for line in execs.stdout.splitlines()) == ["g1/pair/once", "g2/pair/once"]
    up.corral("rm", "--select", "all", "pair/once")
    refused = up.corral("exec", "--json", f"g1/{pair}", "--", "true")
    assert (refused.returncode, refused.stdout) == (125, "")
    assert "--json goes with -d or --select" in refused.stderr


def test_processes_of_many_guests_are_one_list(up: Up, pair: str) -> None:
    listed = up.corral("processes", "--select", "all", "--format", "{path} {process} {command}", "p*r")
    assert (listed.returncode, closing(listed.stderr)) == (0, (2, 0, 0, 0))
    assert listed.stdout.splitlines() == ['g1/pair init ["sleep", "60"]', 'g2/pair init ["sleep", "60"]']
    table = up.corral("processes", "--select", "all", "--format", "table", pair).stdout.splitlines()
    assert [line.split()[0] for line in table] == ["CONTAINER", "g1/pair", "g2/pair"]
    up.corral("rm", "-f", "g2/pair")
    partly = up.corral("processes", "--select", "all", "--format", "{path}", pair)
    assert (partly.returncode, partly.stdout) == (1, "g1/pair\n")
    assert "g2/pair: container_not_found" in partly.stderr


def test_what_takes_too_long_is_killed_and_counts_as_timeout(up: Up) -> None:
    done = run_everywhere(up, "--name", "slow", "--for", "500ms", program="echo begun; sleep 30")
    assert done.returncode == 1
    assert closing(done.stderr) == (0, 0, 2, 0)
    assert sorted(done.stdout.splitlines()) == ["g1 | begun", "g2 | begun"]
    up.until(lambda: "slow" not in up.corral("ps", "-q").stdout)


def test_exec_and_logs_and_wait_over_the_fleet(up: Up, pair: str) -> None:
    done = up.corral("exec", "--select", "g*", pair, "--", "hostname")
    assert (done.returncode, sorted(done.stdout.splitlines())) == (0, ["g1 | pair", "g2 | pair"])
    kept = up.corral("exec", "-d", "--process", "said", "--select", "all", pair, "--", "sh", "-c", "echo a; echo b")
    assert sorted(kept.stdout.splitlines()) == ["g1/pair/said", "g2/pair/said"]
    waited = up.corral("wait", "--select", "all", "pair/said")
    assert sorted(waited.stdout.splitlines()) == ["g1 | 0", "g2 | 0"]
    told = up.corral("logs", "--select", "all", "pair/said")
    assert sorted(told.stdout.splitlines()) == ["g1 | a", "g1 | b", "g2 | a", "g2 | b"]
    records = [json.loads(line) for line in up.corral("logs", "--json", "--select", "all", "pair/said").stdout.splitlines()]
    assert sorted((r["path"], r["text"]) for r in records)[0] == ("g1/pair/said", "a\n")
    states = up.corral("inspect", "--select", "all", "--format", "{path} {status}", pair)
    assert sorted(states.stdout.splitlines()) == ["g1/pair running", "g2/pair running"]


def test_patterns_hit_what_they_match_and_stop_asks_nobody_without_a_terminal(up: Up, pair: str) -> None:
    done = up.corral("stop", "-t", "0", "--select", "all", "pa*")
    assert (done.returncode, sorted(done.stdout.splitlines())) == (0, ["g1/pair", "g2/pair"])
    nothing = up.corral("kill", "--select", "all", "nosuch*")
    assert (nothing.returncode, "no container there is named nosuch*" in nothing.stderr) == (1, True)


def test_a_destroying_verb_asks_on_a_terminal(up: Up, pair: str) -> None:
    with Terminal("kill", "--select", "all", pair, environment=up.environment) as terminal:
        terminal.expect(b"kill 2 containers in 2 guests (g1/pair, g2/pair)? [y/N]:")
        terminal.type(b"n\r")
        assert terminal.end() == 1
        assert b"nothing was done" in terminal.shown
    with Terminal("rm", "-f", "--select", "all", pair, environment=up.environment) as terminal:
        terminal.expect(b"[y/N]:")
        terminal.type(b"\x03")
        assert terminal.end() == 130
    assert up.corral("ps", "-q", "--select", "all").stdout.count("pair") == 2
    with Terminal("kill", "--select", "all", "--yes", pair, environment=up.environment) as terminal:
        assert terminal.end() == 0
        assert b"2 ok" in terminal.shown
    with Terminal("rm", "--select", "all", pair, environment=up.environment) as terminal:
        terminal.expect(b"[y/N]:")
        terminal.type(b"y\r")
        assert terminal.end() == 0


def test_signals_go_to_all_and_a_third_detaches(up: Up) -> None:
    trapping = "trap 'echo got it' INT; echo ready; while :; do sleep 0.05; done"
    argv = ["run", "--rm", "--select", "all", "--name", "deaf", "--rootfs", up.rootfs, "--", "sh", "-c", trapping]
    running = up.start(*argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert sorted(running.stdout.readline() for _ in range(2)) == [b"g1 | ready\n", b"g2 | ready\n"]
    running.send_signal(signal.SIGINT)
    assert sorted(running.stdout.readline() for _ in range(2)) == [b"g1 | got it\n", b"g2 | got it\n"]
    running.send_signal(signal.SIGTERM)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=10)
    assert running.returncode == 130
    assert b"detached from 2, which go on: g1/deaf, g2/deaf" in said
    assert up.corral("rm", "-f", "--select", "all", "deaf").returncode == 0


def test_a_reader_that_goes_away_ends_all_of_them_quietly(up: Up) -> None:
    argv = up.start_argv(
        "run", "--rm", "--select", "all", "--name", "cut", "--rootfs", up.rootfs, "--", "sh", "-c", "while :; do echo x; done"
    )
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{subprocess.list2cmdline(argv)} | head -1"],
        env=up.environment,
        capture_output=True,
        timeout=20,
        check=False,
    )
    assert (done.returncode, done.stderr) == (141, b"")
    up.until(lambda: "cut" not in up.corral("ps", "-q").stdout)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["ps", "--select", "role="], "a value for role is expected"),
        (["stop", "--select", "all", "g1/x"], "is not NAME"),
        (["kill", "--window", "2", "g1/x"], "--window goes with --select"),
        (["stop", "--select", "all", "--window", "0", "x"], "is not a number from 1 on"),
        (["stop", "--select", "all", "--guest", "g1", "x"], "give one"),
        (["ps", "--select", "g11"], "did you mean g1?"),
        (["ps", "--select", "role=none"], "selects none of 2 guests"),
        (["run", "-it", "--select", "all", "--rootfs", "/x", "sh"], "--select goes without -i and -t"),
        (["exec", "--for", "1s", "g1/x", "--", "sh"], "--for goes with --select"),
    ],
)
def test_wrong_usage_is_said_before_anything_is_done(up: Up, args: list[str], says: str) -> None:
    done = up.corral(*args)
    assert done.returncode in (1, 2, 125)
    assert says in done.stderr
    assert done.stderr.count("\n") <= 2


def test_lists_take_selectors(up: Up, pair: str) -> None:
    assert up.corral("ps", "-q", "--select", "g2").stdout.splitlines() == ["g2/pair"]
    assert up.corral("guests", "--select", "g1", "--format", "{guest}").stdout == "g1\n"
    events = up.corral("events", "--no-follow", "--select", "g2", "--format", "{guest}").stdout
    assert set(events.splitlines()) == {"g2"}
    stats = up.corral("stats", "--no-stream", "--select", "g1", "--format", "{path}").stdout
    assert stats.splitlines() == ["g1/pair"]


@pytest.mark.timeout(90)
def test_a_guest_that_is_away_is_named_and_the_others_are_listed(short_directory: Path, rootfs: Path) -> None:
    up = start_up(short_directory, rootfs)
    try:
        up.run("-d", "--name", "here", "--", "sleep", "60")
        os.kill(up.process.pid, signal.SIGSTOP)  # it starts no worker again meanwhile
        os.kill(up.worker_pid("g2"), signal.SIGKILL)
        up.until(lambda: json.loads(up.corral("guests", "--select", "g2").stdout)["up"] is False)
        for reading in (
            ("ps", "-q"),
            ("ps", "-q", "--select", "g*"),
            ("stats", "--no-stream", "--format", "{path}"),
            ("inspect", "--select", "all", "--format", "{path}", "here"),
            ("processes", "--select", "all", "--format", "{path}", "h*"),
        ):
            listed = up.corral(*reading)
            assert (listed.returncode, listed.stdout) == (0, "g1/here\n"), listed.stderr
            assert "1 guest away: g2" in listed.stderr
        assert up.corral("logs", "--select", "all", "here").returncode == up.corral("bundle", "list", "--select", "all").returncode == 0
        for by_name in (("--guest", "g1", "--guest", "g2"), ("--select", "g1,g2")):
            listed = up.corral("ps", "-q", *by_name)
            assert (listed.returncode, listed.stdout) == (1, "g1/here\n")
            assert "guest g2 did not answer: guest_unreachable" in listed.stderr
        assert up.corral("inspect", "--select", "g2", "here").returncode == 1
        for verb in (("delete", "--force"), ("delete",), ("kill",), ("stop",), ("wait",)):
            unknown = up.corral(*verb, "there")
            assert (unknown.returncode, unknown.stdout) == (1, ""), verb
            assert "guest_unreachable" in unknown.stderr and "g2" in unknown.stderr, verb
        done = up.corral("exec", "--select", "all", "here", "--", "true")
        assert done.returncode == 1
        assert closing(done.stderr) == (1, 0, 0, 1)
    finally:
        os.kill(up.process.pid, signal.SIGCONT)
        end_up(up)
