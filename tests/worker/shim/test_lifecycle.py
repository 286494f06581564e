"""One container's life through its shim, on real runc: create, start, exec, pause, update, kill, delete, and errors."""

from __future__ import annotations

import signal
import subprocess
import zlib
from pathlib import Path

import pytest

from corral_testkit.shim_driver import Guest, ShimDriver, new_instance, wait_until
from corral_worker.shim.ledger.record import read_record
from corral_worker.shim.spool.end_file import read_end

pytestmark = pytest.mark.runc

# These do not end a process.
HARMLESS = {
    signal.SIGCHLD, signal.SIGURG, signal.SIGWINCH, signal.SIGCONT,
    signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU,
}  # fmt: skip


def test_a_container_runs_and_its_exit_and_output_are_told_and_on_disk(shim: ShimDriver) -> None:
    init = shim.run(["sh", "-c", "echo out; echo err >&2; exit 3"])
    told = shim.notice("exit", init)
    assert told["exit"] == {"type": "exited", "code": 3}
    assert told["streams"]["1"] == {"state": "closed", "total": 4, "crc": zlib.crc32(b"out\n")}
    assert told["streams"]["2"] == {"state": "closed", "total": 4, "crc": zlib.crc32(b"err\n")}
    assert told["started_ns"] < told["exited_ns"]
    assert not told["oom_seen"]
    assert told["max_rss_kib"] > 0
    assert (shim.output(init, 1), shim.output(init, 2)) == (b"out\n", b"err\n")
    end = read_end(shim.directory / init / "end")
    assert end is not None
    assert (end["exit"]["type"], end["exit"]["code"]) == ("exited", 3)
    assert end["streams"]["1"] == {"offset": 4, "crc": zlib.crc32(b"out\n"), "open": False}


def test_delete_ends_the_shim_once_its_answer_is_acknowledged_and_the_files_stay(guest: Guest) -> None:
    shim = guest.fork()
    init = shim.run(["true"])
    shim.notice("exit", init)
    shim.verb("delete")
    shim.wait_gone()
    wait_until(lambda: shim.instance not in guest.ask({"t": "list"})["shims"], "the zygote knows of its end")
    assert not (guest.run_dir / "s" / f"{shim.instance}.sock").exists()
    assert (shim.directory / init / "end").exists()
    assert not [path for path in guest.cgroups() if path.name == shim.instance]
    assert all(message["t"] != "shim_gone" for message in guest.zygote.arrived())


def test_the_exit_of_a_fast_process_never_comes_before_the_answer_to_its_request(shim: ShimDriver) -> None:
    init = shim.create(["sleep", "1000"])
    shim.verb("start")
    for code in range(12):
        fields = shim.exec_request(["sh", "-c", f"echo {code}; exit {code}"])
        shim.request("exec", **fields)
        process = fields["process"]["instance"]
        arrived = [shim.wire.wait_for(lambda m: m["t"] in ("response", "exit")) for _ in range(2)]
        assert [message["t"] for message in arrived] == ["response", "exit"]
        assert arrived[1]["process"] == process
        assert arrived[1]["exit"] == {"type": "exited", "code": code}
        assert shim.output(process) == f"{code}\n".encode()
    assert shim.kill(init) == "delivered"


def test_the_exit_of_a_fast_init_comes_after_the_answer_to_start(shim: ShimDriver) -> None:
    init = shim.create(["true"])
    shim.request("start", argv=shim.runtime("start", shim.instance), log=str(shim.log), timeout_ms=5000)
    arrived = [shim.wire.wait_for(lambda m: m["t"] in ("response", "exit")) for _ in range(2)]
    assert [message["t"] for message in arrived] == ["response", "exit"]
    assert arrived[1]["process"] == init
    assert arrived[1]["started_ns"] == arrived[0]["ok"]["started_ns"]


@pytest.mark.guarantee(2)
@pytest.mark.parametrize("number", sorted(set(signal.valid_signals()) - HARMLESS))
def test_every_signal_is_delivered_and_reported_as_itself(signalled: ShimDriver, number: int) -> None:
    process = signalled.exec(["sleep", "1000"])
    assert signalled.kill(process, number) == "delivered"
    told = signalled.notice("exit", process)
    assert told["exit"]["type"] == "signalled"
    assert told["exit"]["signal"] == number
    assert signalled.kill(process, number) == "already_exited"


@pytest.fixture(scope="module")
def signalled(guest: Guest) -> ShimDriver:
    shim = guest.fork()
    shim.run(["sleep", "1000"])
    return shim


def test_signals_say_whether_there_was_anything_to_signal(shim: ShimDriver) -> None:
    init = shim.run(["sleep", "1000"])
    assert shim.kill(new_instance()) == "not_found"
    assert shim.kill(init, 0) == "delivered"
    bad = shim.response(shim.request("signal", process=init, signal=99, all=False))
    assert bad["error"]["kind"] == "bad_request"
    others = [shim.exec(["sleep", "1000"]) for _ in range(2)]
    assert shim.kill(init, signal.SIGKILL, everyone=True) == "delivered"
    for process in (*others, init):
        assert shim.notice("exit", process)["exit"]["signal"] == signal.SIGKILL
    assert shim.kill(init) == "already_exited"


def test_a_paused_container_is_killed_and_one_of_its_processes_alone_leaves_it_paused(shim: ShimDriver) -> None:
    init = shim.run(["sleep", "1000"])
    process = shim.exec(["sleep", "1000"])
    shim.verb("pause")
    assert shim.kill(process) == "delivered"
    assert shim.notice("exit", process)["exit"]["signal"] == signal.SIGKILL
    state = subprocess.run(shim.runtime("state", shim.instance), capture_output=True, text=True, check=True).stdout
    assert '"paused"' in state
    assert shim.kill(init) == "delivered"
    assert shim.notice("exit", init)["exit"]["signal"] == signal.SIGKILL


def test_pause_resume_and_update_go_through(shim: ShimDriver) -> None:
    shim.run(["sleep", "1000"])
    shim.verb("pause")
    shim.verb("resume")
    shim.verb("update", "--pids-limit", "50")
    again = shim.runtime("resume", shim.instance)
    refused = shim.response(shim.request("resume", argv=again, log=str(shim.log), timeout_ms=5000))
    assert refused["error"]["kind"] == "runtime"
    assert refused["error"]["exit_status"] == 1
    assert "not paused" in refused["error"]["text"]


def test_what_the_runtime_says_of_a_failed_create_or_exec_is_answered(shim: ShimDriver) -> None:
    fields = shim.create_request(["/no/such"])
    failed = shim.response(shim.request("create", **fields))
    assert failed["error"]["kind"] == "runtime"
    assert "/no/such" in failed["error"]["text"]
    assert not (shim.guest.run_dir / "runc" / shim.instance).exists()
    assert not [path for path in shim.guest.cgroups() if path.name == shim.instance]
    init = shim.run(["sleep", "1000"])
    failed = shim.response(shim.request("exec", **shim.exec_request(["/no/such"])))
    assert failed["error"]["kind"] == "runtime"
    assert failed["error"]["exit_status"] == 255
    again = shim.response(shim.request("create", **shim.create_request(["true"])))
    assert "already exists" in again["error"]["text"]
    assert shim.kill(init, 0) == "delivered"


def test_a_missing_runtime_is_a_spawn_error(shim: ShimDriver, tmp_path: Path) -> None:
    for path in (tmp_path / "missing", tmp_path):
        fields = {**shim.create_request(["true"]), "argv": [str(path), "create"]}
        answer = shim.response(shim.request("create", **fields))
        assert answer["error"]["kind"] == "spawn"


def test_a_repeat_is_answered_from_memory_and_runs_nothing(shim: ShimDriver) -> None:
    init = shim.run(["sleep", "1000"])
    fields = shim.exec_request(["sh", "-c", "echo ran >> /tmp/ran"])
    for _ in range(3):
        shim.request("exec", id="same", **fields)
    first = shim.wire.wait_for(lambda m: m["t"] == "response" and m["id"] == "same")
    shim.notice("exit", fields["process"]["instance"])
    shim.connect()
    assert first in shim.state["responses"]
    shim.request("exec", id="same", **fields)
    assert shim.response("same") == first
    counted = shim.exec(["wc", "-l", "/tmp/ran"])
    shim.notice("exit", counted)
    assert shim.output(counted).split()[0] == b"1"
    entry = read_record(shim.directory / "record")[("same", "exec")]
    assert entry["result"] == {"ok": first["ok"]}
    assert entry["intent"]["process"] == fields["process"]["instance"]
    assert shim.kill(init, 0) == "delivered"


def test_calls_run_in_order_and_a_kill_does_not_wait_behind_them(shim: ShimDriver, tmp_path: Path) -> None:
    init = shim.run(["sleep", "1000"])
    slow = tmp_path / "slow"
    slow.write_text("#!/bin/sh\nread line < $1/go\necho $2 >> $1/order\n")
    slow.chmod(0o755)
    subprocess.run(["mkfifo", tmp_path / "go"], check=True)
    first = shim.request("update", argv=[str(slow), str(tmp_path), "1"], log=str(shim.log), timeout_ms=20_000)
    second = shim.request("pause", argv=[str(slow), str(tmp_path), "2"], log=str(shim.log), timeout_ms=20_000)
    third = shim.request("resume", argv=[str(slow), str(tmp_path), "3"], log=str(shim.log), timeout_ms=20_000)
    assert shim.kill(init) == "delivered"
    assert shim.notice("exit", init)["exit"]["signal"] == signal.SIGKILL
    shim.wire.send({"t": "cancel", "id": third})
    assert shim.response(third)["error"]["kind"] == "cancelled"
    for request in (first, second):
        (tmp_path / "go").write_text("go\n")
        assert "ok" in shim.response(request)
    assert (tmp_path / "order").read_text().split() == ["1", "2"]


def test_with_a_shared_pid_namespace_the_rest_dies_with_the_init(shim: ShimDriver) -> None:
    init = shim.run(
        ["sh", "-c", "sleep 1000 & sleep 1000 & exit 4"],
        bundle={"shared_pid_namespace": True},
        kill_rest_on_init_exit=True,
    )
    assert shim.notice("exit", init)["exit"] == {"type": "exited", "code": 4}
    wait_until(lambda: not shim.guest.container_pids(shim.instance), "the rest was killed")


def test_an_oom_kill_is_seen(shim: ShimDriver) -> None:
    bundle = {"memory_limit_bytes": 24 * 1024 * 1024}
    init = shim.run(["sh", "-c", "x=a; while true; do x=$x$x; done"], bundle=bundle)
    told = shim.notice("exit", init)
    assert told["oom_seen"] or told["exit"]["type"] == "exited"
    assert shim.notice("oom")["count"] >= 1
    assert told["exit"] == {"type": "signalled", "signal": 9, "core": False}
    assert told["oom_seen"]


def test_the_container_has_its_own_oom_score_and_no_ignored_signals(shim: ShimDriver) -> None:
    init = shim.run(["cat", "/proc/self/oom_score_adj", "/proc/self/status"])
    shim.notice("exit", init)
    lines = shim.output(init).decode().splitlines()
    assert lines[0] == "0"
    ignored = next(int(line.split()[1], 16) for line in lines if line.startswith("SigIgn"))
    assert not [number for number in signal.valid_signals() if ignored & 1 << (number - 1)]
    may_lower = subprocess.run(["sh", "-c", "echo -900 > /proc/self/oom_score_adj"], capture_output=True).returncode == 0
    score = int(Path(f"/proc/{shim.pid}/oom_score_adj").read_text())
    assert score == (-900 if may_lower else int(Path("/proc/self/oom_score_adj").read_text()))
