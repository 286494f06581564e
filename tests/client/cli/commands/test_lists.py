"""ps, processes, inspect, wait, logs, stats, events, guests, info, doctor and the acts, on real runc."""

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from corral_testkit.cli import Up

pytestmark = pytest.mark.runc


def lines(done: "subprocess.CompletedProcess[str]") -> list[dict[str, Any]]:
    """The JSON Lines that a command printed."""
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def sleeper(up: Up) -> Iterator[str]:
    """A container that sleeps."""
    path = up.background("sleep", "300")
    yield path
    up.corral("rm", "-f", path)


def test_ps_lists_what_runs_over_all_guests_as_json_lines(up: Up, sleeper: str) -> None:
    other = up.background("true", guest="g2")
    up.corral("wait", other)
    running = {record["path"]: record for record in lines(up.corral("ps"))}
    assert running[sleeper]["status"] == "running"
    assert other not in running
    everything = {record["path"]: record for record in lines(up.corral("ps", "-a"))}
    assert everything[other]["processes"][0]["exit"]["code"] == 0
    assert {record["guest"] for record in lines(up.corral("ps", "-a", "--guest", "g2"))} == {"g2"}
    up.corral("rm", other)


def test_a_table_can_be_asked_for_and_a_template(up: Up, sleeper: str) -> None:
    assert "CONTAINER" in up.corral("ps", "--format", "table").stdout
    assert f"{sleeper}\trunning" in up.corral("ps", "--format", "{path}\\t{status}").stdout.splitlines()
    wrong = up.corral("ps", "--format", "{nope}")
    assert wrong.returncode == 2
    assert "no field 'nope'" in wrong.stderr


def test_a_silent_guest_is_named_and_the_status_is_1(up: Up, sleeper: str) -> None:
    done = up.corral("ps", "--guest", "g1", "--guest", "g9")
    assert done.returncode == 1
    assert sleeper in [record["path"] for record in lines(done)]
    assert "guest g9 did not answer" in done.stderr


def test_processes_shows_pids_and_commands(up: Up, sleeper: str) -> None:
    (record,) = lines(up.corral("processes", sleeper))
    assert record["command"] == ["sleep", "300"]
    assert record["created_by_runtime"]
    assert record["process"] == "init"


def test_a_name_that_is_unique_needs_no_guest(up: Up) -> None:
    up.background("sleep", "60", guest="g2", flags=("--name", "unique-one"))
    (record,) = lines(up.corral("inspect", "unique-one"))
    assert record["path"] == "g2/unique-one"
    missed = up.corral("inspect", "unique-won")
    assert missed.returncode == 1
    assert "did you mean g2/unique-one?" in missed.stderr
    up.corral("rm", "-f", "unique-one")


def test_a_name_that_several_guests_have_is_ambiguous(up: Up) -> None:
    for guest in ("g1", "g2"):
        up.background("sleep", "60", guest=guest, flags=("--name", "twin"))
    done = up.corral("inspect", "twin")
    assert done.returncode == 1
    assert "name_ambiguous" in done.stderr
    assert "say which: g1/twin, g2/twin" in done.stderr
    assert lines(up.corral("inspect", "--guest", "g2", "twin"))[0]["guest"] == "g2"
    assert up.corral("rm", "-f", "g1/twin", "g2/twin").stdout == "g1/twin\ng2/twin\n"


def test_pause_resume_update_and_stop_echo_the_name(up: Up, sleeper: str) -> None:
    assert up.corral("pause", sleeper).stdout == f"{sleeper}\n"
    assert lines(up.corral("inspect", sleeper))[0]["status"] == "paused"
    refused = up.corral("exec", sleeper, "true")
    assert refused.returncode == 125
    assert "container_invalid_state" in refused.stderr
    assert up.corral("resume", sleeper).stdout == f"{sleeper}\n"
    assert up.corral("update", "--pids-limit", "77", sleeper).stdout == f"{sleeper}\n"
    assert up.corral("stop", "-t", "0.2", sleeper).stdout == f"{sleeper}\n"
    assert up.corral("wait", sleeper).stdout == "137\n"
    again = up.corral("kill", sleeper)
    assert again.returncode == 1
    assert "container_not_running" in again.stderr


def test_signal_zero_asks_whether_a_container_lives_and_stop_refuses_it(up: Up, sleeper: str) -> None:
    assert up.corral("kill", "-s", "0", sleeper).stdout == f"{sleeper}\n"
    refused = up.corral("stop", "-s", "0", sleeper)
    assert (refused.returncode, "is not a signal" in refused.stderr) == (2, True)
    assert up.corral("stop", "-t", "0.2", sleeper).stdout == f"{sleeper}\n"
    ended = up.corral("kill", "-s", "0", sleeper)
    assert (ended.returncode, "container_not_running" in ended.stderr) == (1, True)
    assert up.corral("kill", "--all", "-s", "0", sleeper).stdout == f"{sleeper}\n"


def test_delete_wants_a_stopped_container_or_force(up: Up, sleeper: str) -> None:
    refused = up.corral("delete", sleeper)
    assert refused.returncode == 1
    assert "container_not_stopped" in refused.stderr
    assert "--force" in refused.stderr
    assert up.corral("rm", "-f", sleeper).stdout == f"{sleeper}\n"
    assert up.corral("delete", sleeper).returncode == 1
    assert up.corral("delete", "-f", sleeper).returncode == 0


def test_wait_prints_one_code_a_line_in_the_order_given(up: Up) -> None:
    slow = up.background("sh", "-c", "sleep 0.5; exit 4")
    quick = up.background("sh", "-c", "exit 2")
    done = up.corral("wait", slow, quick)
    assert (done.returncode, done.stdout) == (0, "4\n2\n")
    assert lines(up.corral("wait", "--json", quick))[0]["exit"]["code"] == 2
    up.corral("rm", slow, quick)


def test_wait_gives_up_after_the_time_given(up: Up, sleeper: str) -> None:
    done = up.corral("wait", "--for", "300ms", sleeper)
    assert (done.returncode, done.stdout) == (1, "")
    assert "wait_timeout" in done.stderr


@pytest.mark.parametrize("command", ["wait", "logs -f", "events"])
def test_an_interrupt_ends_what_waits_quietly_with_130(up: Up, sleeper: str, command: str) -> None:
    name, *flags = command.split()
    targets = [] if name == "events" else [sleeper]
    waiting = up.start(name, *flags, *targets, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    up.until(lambda: b"libzmq" in up.maps_of(waiting.pid))
    time.sleep(0.2)  # nothing tells from outside that the wait has begun; before that an interrupt ends it quietly just so
    waiting.send_signal(signal.SIGINT)
    said = waiting.communicate(timeout=10)
    assert (waiting.returncode, said) == (130, (b"", b""))


def test_logs_shows_streams_on_their_descriptors_tails_and_times(up: Up) -> None:
    path = up.background("sh", "-c", "for i in 1 2 3 4 5; do echo line $i; done; echo oops >&2; printf end")
    up.corral("wait", path)
    whole = up.corral("logs", path)
    assert (whole.stdout, whole.stderr) == ("".join(f"line {n}\n" for n in range(1, 6)) + "end", "oops\n")
    assert up.corral("logs", "--stdout", "-n", "2", path).stdout == "line 5\nend"
    assert up.corral("logs", "--stderr", path).stdout == ""
    stamped = up.corral("logs", "-t", "--stdout", path).stdout.splitlines()
    assert [line.split(" ", 1)[1] for line in stamped] == [*(f"line {n}" for n in range(1, 6)), "end"]
    assert all(line[:4].isdigit() and line.split(" ")[0].endswith("Z") for line in stamped)
    records = lines(up.corral("logs", "--json", path))
    assert {(r["stream"], r["text"]) for r in records} >= {("stderr", "oops\n"), ("stdout", "line 3\n"), ("stdout", "end")}
    assert up.corral("logs", "--since", "1h", "--stdout", path).stdout == whole.stdout
    assert up.corral("logs", "--since", "2099-01-01", path).stdout == ""
    up.corral("rm", path)
    assert up.corral("logs", path).stdout == whole.stdout


def test_logs_of_a_process_that_writes_without_pause_come_to_an_end(up: Up) -> None:
    path = up.background("yes")
    up.until(lambda: len(up.corral("logs", "-n", "2", path).stdout) == 4)
    assert up.corral("logs", "-n", "5", "--stdout", path).stdout == "y\n" * 5
    assert up.corral("logs", path).returncode == 0
    up.corral("rm", "-f", path)


def test_logs_end_quietly_when_their_reader_goes_away(up: Up) -> None:
    path = up.background("sh", "-c", "while :; do echo line; sleep 0.02; done")
    head = f"{subprocess.list2cmdline(up.start_argv('logs', '-f', path))} | head -1"
    cut = subprocess.run(["bash", "-o", "pipefail", "-c", head], env=up.environment, capture_output=True, timeout=20, check=False)
    assert (cut.returncode, cut.stdout, cut.stderr) == (141, b"line\n", b"")
    assert json.loads(up.corral("inspect", path).stdout)["status"] == "running"
    up.corral("rm", "-f", path)


def test_logs_f_goes_on_to_the_end(up: Up) -> None:
    path = up.background("sh", "-c", "echo a; sleep 0.5; echo b")
    assert up.corral("logs", "-f", path).stdout == "a\nb\n"
    up.corral("rm", path)


def test_stats_are_read_once_or_again_and_again(up: Up, sleeper: str) -> None:
    (record,) = lines(up.corral("stats", "--no-stream", sleeper))
    assert record["path"] == sleeper
    assert record["cpu_ns"] > 0
    assert up.corral("stats", "--no-stream", "g1/none").returncode == 1
    streaming = up.start("stats", "--interval", "100ms", sleeper, stdout=subprocess.PIPE)
    assert [json.loads(streaming.stdout.readline())["path"] for _ in range(3)] == [sleeper] * 3
    streaming.send_signal(signal.SIGINT)
    assert streaming.wait(10) == 130
    streaming.stdout.close()


def test_events_follow_a_life_and_go_on_after_a_cursor(up: Up) -> None:
    path = up.background("sh", "-c", "exit 7", flags=("--name", "eventful"))
    up.corral("wait", path)
    up.corral("rm", path)
    up.until(lambda: "deleted" in up.corral("events", "--no-follow", "-c", "eventful", "--format", "{kind}").stdout)
    life = lines(up.corral("events", "--no-follow", "--container", "eventful"))
    assert [event["kind"] for event in life if event["kind"] != "stdio_end"] == ["created", "started", "exit", "deleted"]
    assert {"guest", "epoch", "seq", "prev", "time_ns", "kind", "container", "process", "instance", "data", "cursor"} <= set(life[0])
    assert next(e for e in life if e["kind"] == "exit")["data"]["exit"]["code"] == 7
    rest = lines(up.corral("events", "--no-follow", "--container", "eventful", "--after", life[0]["cursor"]))
    assert [event["seq"] for event in rest] == [event["seq"] for event in life[1:]]
    assert lines(up.corral("events", "--no-follow", "-c", "eventful", "-k", "exit", "--since", "1h"))[0]["kind"] == "exit"


def test_events_are_followed_live(up: Up) -> None:
    following = up.start("events", "--kind", "exit", "-c", "live", "--since", "1s", stdout=subprocess.PIPE)
    up.background("sh", "-c", "exit 3", flags=("--rm", "--name", "live"))
    event = json.loads(following.stdout.readline())
    assert (event["container"], event["data"]["exit"]["code"]) == ("live", 3)
    following.terminate()
    following.wait(10)
    following.stdout.close()


def test_guests_and_info_and_doctor_see_everything(up: Up) -> None:
    assert [(g["guest"], g["up"]) for g in lines(up.corral("guests"))] == [("g1", True), ("g2", True)]
    assert lines(up.corral("info"))[0]["kind"] == "broker"
    about = lines(up.corral("info", "g1"))[0]
    assert (about["kind"], about["guest"]) == ("worker", "g1")
    assert about["limits"]["STOP_GRACE_S"] == 10
    assert up.corral("info", "g9").returncode == 1
    findings = {f["check"]: f["verdict"] for f in lines(up.corral("doctor"))}
    assert findings["guest g1"] == findings["guest g2"] == findings["broker"] == findings["runtime"] == "ok"
    wrong = up.corral("doctor", "--runtime", "/no/such/runtime")
    assert wrong.returncode == 1
    assert next(f for f in lines(wrong) if f["check"] == "runtime")["advice"]


def test_a_closed_stdout_ends_a_list_quietly(up: Up, sleeper: str) -> None:
    program = f"{subprocess.list2cmdline(up.start_argv('stats', '--interval', '50ms', sleeper))} | head -1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", program], env=up.environment, capture_output=True, timeout=20, check=False)
    assert done.stdout.count(b"\n") == 1
    assert done.stderr == b""
    assert done.returncode == 141


def test_completion_knows_containers_guests_and_signals(up: Up, sleeper: str) -> None:
    def words(line: str) -> list[str]:
        environment = {
            **up.environment,
            "_CORRAL_COMPLETE": "bash_complete",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(line.split(" ")) - 1),
        }
        done = subprocess.run(up.start_argv(), env=environment, capture_output=True, text=True, timeout=20, check=False)
        return [word.partition(",")[2] for word in done.stdout.splitlines()]

    assert sleeper in words("corral stop g")
    assert words("corral run --guest ") == ["g1", "g2"]
    assert words("corral kill --signal SIGKI") == ["SIGKILL"]
    assert words("corral pro") == ["processes"]
    assert "--signal" in words("corral kill --s")
