"""run, create, start, exec, attach without a terminal, on real runc."""

import contextlib
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from corral_testkit.bundles import make_bundle
from corral_testkit.cli import Up

pytestmark = pytest.mark.runc


def test_run_prints_both_streams_and_ends_with_the_code(up: Up) -> None:
    done = up.run("sh", "-c", "echo out; echo err >&2; exit 9")
    assert (done.returncode, done.stdout, done.stderr) == (9, "out\n", "err\n")


@pytest.mark.parametrize(
    ("program", "status"),
    [
        (("true",), 0),
        (("/no/such",), 127),
        (("/etc",), 126),
        (("sh", "-c", "sh -c 'kill -9 $$'; exit $?"), 137),
        (("sh", "-c", "exit 255"), 255),
    ],
)
def test_the_status_is_the_process_s(up: Up, program: tuple[str, ...], status: int) -> None:
    assert up.run("--rm", *program).returncode == status


def test_a_process_killed_by_a_signal_has_128_and_the_signal(up: Up) -> None:
    running = up.start(
        "run", "-g", "g1", "--rootfs", up.rootfs, "--name", "victim", "sh", "-c", "echo up; sleep 60", stdout=subprocess.PIPE
    )
    assert running.stdout.readline() == b"up\n"
    assert up.corral("kill", "-s", "KILL", "g1/victim").stdout == "g1/victim\n"
    assert running.wait(10) == 137
    running.stdout.close()
    assert up.corral("wait", "g1/victim").stdout == "137\n"


def test_stdin_goes_in_byte_for_byte_and_its_end_too(up: Up) -> None:
    data = os.urandom(3_000_000)
    done = subprocess.run(
        [*up.start_argv("run", "-i", "--rm", "-g", "g1", "--rootfs", up.rootfs, "cat")], input=data, capture_output=True,
        env=up.environment, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 0
    assert done.stdout == data


def test_without_i_stdin_is_empty(up: Up) -> None:
    assert up.run("--rm", "sh", "-c", "cat; echo end", stdin="never read").stdout == "end\n"


def test_flags_reach_the_container(up: Up, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mounted\n")
    tmp_path.chmod(0o755)
    done = up.run(
        "--rm", "-e", "A=b c", "-w", "/tmp", "-u", "12:34", "-h", "heidi", "-v", f"{tmp_path}:/mnt:ro", "--pids-limit", "50",
        "sh", "-c", "echo $A; pwd; id -u; id -g; hostname; cat /mnt/file; touch /mnt/x || echo ro; touch /x || echo root ro",
    )  # fmt: skip
    assert done.stdout.splitlines() == ["b c", "/tmp", "12", "34", "heidi", "mounted", "ro", "root ro"]


def test_a_bundle_runs_as_it_is(up: Up, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle", ["sh", "-c", "echo from a bundle; exit 4"], rootfs=up.rootfs)
    done = up.corral("run", "--rm", "-g", "g2", "--bundle", bundle)
    assert (done.returncode, done.stdout) == (4, "from a bundle\n")


@pytest.mark.parametrize("content", [None, "{"])
def test_a_bundle_that_is_none_is_said_to_be(up: Up, tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    done = up.corral("run", "-g", "g1", "--bundle", tmp_path)
    assert done.returncode == 125
    assert "bundle_invalid" in done.stderr


def test_run_d_prints_the_name_and_rm_leaves_nothing_in_the_list(up: Up) -> None:
    path = up.background("sh", "-c", "echo kept; exit 3", flags=("--rm", "--name", "brief"))
    assert path == "g1/brief"
    assert up.corral("wait", path).stdout == "3\n"
    assert up.corral("logs", path).stdout == "kept\n"
    up.until(lambda: path not in up.corral("ps", "-a", "-q").stdout.split())


def test_json_of_run_d_says_what_was_made(up: Up) -> None:
    made = json.loads(up.run("-d", "--rm", "--json", "--name", "jason", "true").stdout)
    assert (made["guest"], made["container"]) == ("g1", "jason")
    assert len(made["instance"]) == 26


def test_several_guests_up_and_none_named_is_an_error_that_names_them(up: Up) -> None:
    done = up.corral("run", "--rootfs", up.rootfs, "true")
    assert done.returncode == 125
    assert "2 guests are up (g1, g2): say which with --guest or --select" in done.stderr


def test_create_then_start_attached(up: Up) -> None:
    made = up.corral("create", "-g", "g1", "--name", "later", "-i", "--rootfs", up.rootfs, "sh", "-c", "cat; exit 5")
    assert made.stdout == "g1/later\n"
    assert "created" in up.corral("ps", "-a", "--format", "{path} {status}").stdout
    done = up.corral("start", "-a", "-i", "later", stdin="fed\n")
    assert (done.returncode, done.stdout) == (5, "fed\n")
    again = up.corral("start", "g1/later")
    assert again.returncode == 1
    assert "container_not_running" in again.stderr
    assert up.corral("rm", "g1/later").stdout == "g1/later\n"


def test_start_echoes_each_name_and_goes_on_after_a_failure(up: Up) -> None:
    up.corral("create", "-g", "g1", "--name", "one", "--rootfs", up.rootfs, "sleep", "60")
    done = up.corral("start", "g1/none", "g1/one")
    assert (done.returncode, done.stdout) == (1, "g1/one\n")
    assert "g1/none: container_not_found" in done.stderr
    up.corral("rm", "-f", "g1/one")


def test_exec_has_streams_status_and_surroundings(up: Up) -> None:
    path = up.background("sleep", "60")
    done = up.corral("exec", "-i", "-e", "A=1", "-w", "/tmp", path, "sh", "-c", "cat; echo $A; pwd; echo err >&2; exit 6", stdin="in\n")
    assert (done.returncode, done.stdout, done.stderr) == (6, "in\n1\n/tmp\n", "err\n")
    assert up.corral("exec", path, "/no/such").returncode == 127
    assert up.corral("exec", f"{path}x", "true").returncode == 125
    assert json.loads(up.corral("inspect", path).stdout)["processes"][1:] == []
    up.corral("rm", "-f", path)


def test_exec_d_names_a_process_that_can_be_waited_for_and_killed(up: Up) -> None:
    path = up.background("sleep", "60")
    process = up.corral("exec", "-d", "--process", "job", path, "sleep", "50").stdout.strip()
    assert process == f"{path}/job"
    assert up.corral("kill", "-s", "TERM", process).stdout == f"{process}\n"
    assert up.corral("wait", process).stdout == "143\n"
    assert json.loads(up.corral("inspect", process).stdout)["exit"]["signal"] == 15
    assert up.corral("delete", process).returncode == 0
    up.corral("rm", "-f", path)


def test_a_descendant_that_holds_stdout_holds_nothing_up(up: Up) -> None:
    path = up.background("sleep", "60")
    began_s = time.monotonic()
    done = up.corral("exec", path, "sh", "-c", "sleep 50 & echo hi")
    assert (done.returncode, done.stdout) == (0, "hi\n")
    assert time.monotonic() - began_s < 10
    up.corral("rm", "-f", path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_signals_are_passed_on(up: Up, number: signal.Signals) -> None:
    program = f"trap 'echo got; exit 7' {number.name[3:]}; echo up; while :; do sleep 0.05; done"
    running = up.start("run", "--rm", "-g", "g1", "--rootfs", up.rootfs, "sh", "-c", program, stdout=subprocess.PIPE)
    assert running.stdout.readline() == b"up\n"
    running.send_signal(number)
    assert running.communicate(timeout=15)[0] == b"got\n"
    assert running.returncode == 7


def test_the_third_signal_within_two_seconds_detaches_and_says_the_name(up: Up) -> None:
    running = up.start(
        "run", "-g", "g1", "--name", "stubborn", "--rootfs", up.rootfs, "sh", "-c", "trap '' INT; echo up; sleep 60",
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert running.stdout.readline() == b"up\n"
    for _ in range(3):
        running.send_signal(signal.SIGINT)
        time.sleep(0.1)  # signals of one number that are pending together are one
    _, said = running.communicate(timeout=15)
    assert running.returncode == 0
    assert b"detached from g1/stubborn, which goes on" in said
    assert json.loads(up.corral("inspect", "g1/stubborn").stdout)["status"] == "running"
    up.corral("rm", "-f", "g1/stubborn")


def test_a_reader_that_goes_away_ends_the_process_too(up: Up) -> None:
    running = up.start("run", "--name", "fire", "-g", "g1", "--rootfs", up.rootfs, "yes", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert running.stdout.read(4) == b"y\ny\n"
    running.stdout.close()
    assert running.wait(15) in (137, 141)
    assert running.stderr.read() == b""
    running.stderr.close()
    assert json.loads(up.corral("inspect", "g1/fire").stdout)["status"] == "stopped"
    up.corral("rm", "g1/fire")


def test_attach_shows_what_comes_and_ends_with_the_code(up: Up) -> None:
    path = up.background("sh", "-c", "echo before; read line; echo after $line; exit 8", flags=("-i",))
    up.until(lambda: up.corral("logs", path).stdout == "before\n")
    done = up.corral("attach", path, stdin="hello\n")
    assert (done.returncode, done.stdout) == (8, "after hello\n")
    up.corral("rm", path)


def test_attach_after_the_end_gives_the_code(up: Up) -> None:
    path = up.background("sh", "-c", "exit 3")
    up.corral("wait", path)
    assert up.corral("attach", path).returncode == 3
    up.corral("rm", path)


@pytest.mark.guarantee(8)
def test_a_worker_killed_in_the_middle_costs_no_byte(up: Up) -> None:
    running = up.start(
        "run", "--rm", "-g", "g2", "--rootfs", up.rootfs, "sh", "-c", "for i in $(seq 60); do echo $i; sleep 0.05; done; exit 5",
        stdout=subprocess.PIPE,
    )  # fmt: skip
    assert running.stdout.readline() == b"1\n"
    with contextlib.suppress(ProcessLookupError):
        os.kill(up.worker_pid("g2"), signal.SIGKILL)
    rest, _ = running.communicate(timeout=30)
    assert rest.split() == [b"%d" % n for n in range(2, 61)]
    assert running.returncode == 5
