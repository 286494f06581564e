"""One runtime call from bundle to running container, and what is true of it as of create and start."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from corral_testkit.shim_driver import Guest, ShimDriver, wait_until
from corral_worker.shim.base.wire import FrameReader
from corral_worker.shim.ledger.record import read_record
from corral_worker.shim.spool.end_file import read_end

pytestmark = pytest.mark.runc


def _fields(shim: ShimDriver, argv: list[str], **others: Any) -> dict[str, Any]:
    fields = shim.create_request(argv, **others)
    at = fields["argv"].index("create")
    fields["argv"][at : at + 1] = ["run", "--detach"]
    return fields


def test_a_run_is_answered_before_its_exit_however_short_it_is(guest: Guest) -> None:
    for code in range(4):
        shim = guest.fork()
        fields = _fields(shim, ["sh", "-c", f"echo {code}; exit {code}"])
        request = shim.request("run", **fields)
        init = fields["process"]["instance"]
        arrived = [shim.wire.wait_for(lambda m: m["t"] in ("response", "exit")) for _ in range(2)]
        assert [message["t"] for message in arrived] == ["response", "exit"]
        assert arrived[0]["id"] == request
        assert arrived[0]["ok"]["started_ns"] == arrived[1]["started_ns"]
        assert arrived[1]["exit"] == {"type": "exited", "code": code}
        assert shim.output(init) == f"{code}\n".encode()
        assert read_record(shim.directory / "record")[(request, "run")]["intent"]["process"] == init
        end = read_end(shim.directory / init / "end")
        assert end is not None
        assert end["exit"]["started_ns"] == arrived[0]["ok"]["started_ns"]
        shim.wire.send({"t": "ack", "n": arrived[1]["n"]})
        shim.verb("delete")
        shim.wait_gone()


def test_an_exec_whose_process_has_ended_meanwhile_is_answered_and_told_of_in_one_write(shim: ShimDriver) -> None:
    """So that a worker knows the exit when it answers, and nobody has to ask for it."""
    shim.run(["sleep", "1000"])
    shim.wire.arrived()
    fields = shim.exec_request(["true"])
    fields["argv"] = ["sh", "-c", 'kill -STOP $PPID; exec "$@"', "sh", *fields["argv"]]
    shim.request("exec", **fields)
    try:
        wait_until(lambda: _zombies_of(shim.pid) == 2, "runc and what it ran have ended")
    finally:
        os.kill(shim.pid, signal.SIGCONT)
    shim.wire.socket.settimeout(10.0)
    read = shim.wire.socket.recv(1 << 20)
    assert [message["t"] for message, _ in FrameReader().feed(read)] == ["response", "exit"]


def _zombies_of(parent: int) -> int:
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return sum(Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] == "Z" for child in children)


def test_what_was_run_can_be_signalled_joined_and_not_run_again(shim: ShimDriver) -> None:
    fields = _fields(shim, ["sleep", "1000"])
    ok = shim.do("run", **fields)
    init = fields["process"]["instance"]
    assert Path(f"/proc/{ok['pid']}").exists()
    process = shim.exec(["true"])
    assert shim.notice("exit", process)["exit"] == {"type": "exited", "code": 0}
    again = shim.response(shim.request("run", **_fields(shim, ["true"])))
    assert again["error"]["kind"] == "runtime"
    assert "already exists" in again["error"]["text"]
    assert shim.kill(init) == "delivered"
    assert shim.notice("exit", init)["exit"]["signal"] == signal.SIGKILL


def test_a_run_that_fails_or_is_cut_off_leaves_nothing(shim: ShimDriver, tmp_path: Path) -> None:
    failed = shim.response(shim.request("run", **_fields(shim, ["/no/such"])))
    assert failed["error"]["kind"] == "runtime"
    assert "/no/such" in failed["error"]["text"]
    assert _nothing_is_left(shim)
    for timeout_ms in (1, 12, 25):
        fields = _fields(shim, ["sleep", "1000"], timeout_ms=timeout_ms)
        answer = shim.response(shim.request("run", **fields))
        if "ok" in answer:  # a quick machine
            shim.kill(fields["process"]["instance"])
            shim.notice("exit")
            return
        assert answer["error"]["kind"] == "timeout"
        assert "leftovers" not in answer["error"]["details"]
        assert _nothing_is_left(shim)


def _nothing_is_left(shim: ShimDriver) -> bool:
    directory = shim.guest.run_dir / "runc" / shim.instance
    return not directory.exists() and not [path for path in shim.guest.cgroups() if path.name == shim.instance]


def test_the_rest_of_a_short_run_with_a_shared_pid_namespace_dies_with_its_init(shim: ShimDriver) -> None:
    argv = ["sh", "-c", "sleep 1000 & exit 4"]
    fields = _fields(shim, argv, bundle={"shared_pid_namespace": True}, kill_rest_on_init_exit=True)
    shim.do("run", **fields)
    assert shim.notice("exit", fields["process"]["instance"])["exit"] == {"type": "exited", "code": 4}
    wait_until(lambda: not shim.guest.container_pids(shim.instance), "the rest was killed")


def test_an_oom_kill_right_at_the_start_of_a_run_is_seen(shim: ShimDriver) -> None:
    bundle = {"memory_limit_bytes": 24 * 1024 * 1024}
    fields = _fields(shim, ["sh", "-c", "x=a; while true; do x=$x$x; done"], bundle=bundle)
    shim.do("run", **fields)
    assert shim.notice("exit", fields["process"]["instance"])["oom_seen"]
    assert shim.notice("oom")["count"] >= 1


def test_a_run_with_a_terminal_has_its_size_before_it_begins(shim: ShimDriver) -> None:
    fields = _fields(shim, ["stty", "size"], tty=True, rows=33, columns=77)
    shim.do("run", **fields)
    init = fields["process"]["instance"]
    assert shim.notice("exit", init)["exit"] == {"type": "exited", "code": 0}
    assert shim.output(init) == b"33 77\r\n"
    assert not os.path.exists(shim.guest.run_dir / "s" / f"{init}.tty")  # noqa: PTH110
