"""Whatever is killed, whenever: what was running is gone, what was promised is known, the rest lives on."""

from __future__ import annotations

import os
import random
import select
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from corral_testkit.remains import readable
from corral_testkit.shim_driver import Guest, ShimDriver, Wire, wait_until
from corral_worker.shim.base.linux import process_table, send_signal
from corral_worker.shim.ledger.record import read_record
from corral_worker.shim.zygote.launch import start_zygote

pytestmark = pytest.mark.runc

ROUNDS = int(os.environ.get("CORRAL_TEST_ROUNDS", "12"))
# Runs its arguments, then hangs with what it started still there.
HANGING = "#!/bin/sh\nsleep 1000 &\nsleep 1000\n"


def _hanging_runtime(directory: Path) -> str:
    path = directory / "hanging"
    path.write_text(HANGING)
    path.chmod(0o755)
    return str(path)


def _pids_in(shim: ShimDriver) -> set[str]:
    return {str(pid) for pid in shim.guest.container_pids(shim.instance)}


def _kill(pids: set[str]) -> set[str]:
    for pid in pids:
        send_signal(int(pid), signal.SIGKILL)
    return pids


def _children(pid: int) -> set[int]:
    """Without the zygote's spare, which is there before and after."""
    children = {child for child, row in process_table().items() if row.parent == pid}
    return {child for child in children if _name(child) != "corral-spare"}


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _wait_for_end(pid: int) -> None:
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    assert readable(pidfd, 10)
    os.close(pidfd)


def test_a_runtime_that_hangs_is_killed_at_the_deadline_with_all_it_started(shim: ShimDriver, tmp_path: Path) -> None:
    fields = {**shim.create_request(["true"]), "argv": [_hanging_runtime(tmp_path)], "timeout_ms": 150}
    answer = shim.response(shim.request("create", **fields), timeout_s=2)
    assert answer["error"]["kind"] == "timeout"
    assert answer["error"]["details"] == {}
    assert _children(shim.pid) == set()
    shim.run(["sleep", "1000"])


def test_a_call_that_never_got_its_turn_ends_by_its_deadline_too(shim: ShimDriver, tmp_path: Path) -> None:
    hanging = _hanging_runtime(tmp_path)
    log = str(shim.log)
    first = shim.request("update", argv=[hanging], log=log, timeout_ms=400)
    second = shim.request("update", argv=[str(tmp_path / "never")], log=log, timeout_ms=100)
    assert shim.response(second, timeout_s=1)["error"]["kind"] == "timeout"
    assert shim.response(first)["error"]["kind"] == "timeout"


def test_a_cancelled_call_ends_at_once(shim: ShimDriver, tmp_path: Path) -> None:
    request = shim.request("update", argv=[_hanging_runtime(tmp_path)], log=str(shim.log), timeout_ms=20_000)
    shim.wire.send({"t": "cancel", "id": request})
    assert shim.response(request, timeout_s=2)["error"]["kind"] == "cancelled"
    assert _children(shim.pid) == set()


@pytest.mark.guarantee(15)
def test_create_cut_off_at_any_millisecond_leaves_nothing(guest: Guest) -> None:
    shim = guest.fork()
    chance = random.Random(1)
    for _ in range(ROUNDS):
        fields = {**shim.create_request(["sleep", "1000"]), "timeout_ms": chance.randrange(1, 60)}
        answer = shim.response(shim.request("create", **fields))
        if "ok" in answer:
            shim.verb("delete", "--force")
            shim.wait_gone()
            shim = guest.fork()
            continue
        assert answer["error"]["kind"] == "timeout"
        assert answer["error"]["details"] == {}
        assert not (guest.run_dir / "runc" / shim.instance).exists()
        assert not [path for path in guest.cgroups() if path.name == shim.instance]
        assert _children(shim.pid) == set()
    shim.verb("delete", "--force")
    shim.wait_gone()


@pytest.mark.guarantee(15)
def test_exec_cut_off_at_any_millisecond_leaves_nothing_running(shim: ShimDriver) -> None:
    init = shim.run(["sleep", "1000"])
    before = _pids_in(shim)
    chance = random.Random(2)
    for _ in range(ROUNDS):
        fields = shim.exec_request(["sh", "-c", "sleep 500 & sleep 501"], timeout_ms=chance.randrange(1, 60))
        answer = shim.response(shim.request("exec", **fields))
        if "ok" in answer:
            shim.kill(fields["process"]["instance"])
            wait_until(lambda: not _kill(_pids_in(shim) - before), "we ended what was allowed to run", timeout_s=2)
        else:
            assert answer["error"]["kind"] == "timeout"
        wait_until(lambda: _pids_in(shim) <= before, "nothing of the exec is left", timeout_s=2)
        assert len(_children(shim.pid)) <= 2
    assert shim.kill(init, 0) == "delivered"


def test_a_killed_shim_takes_its_container_along_and_the_zygote_says_so(own_guest: Guest) -> None:
    shim = own_guest.fork()
    init = shim.run(["sh", "-c", "sleep 1000 & sleep 1000"])
    shim.exec(["sleep", "1000"])
    other = own_guest.fork()
    lives = other.run(["sleep", "1000"])
    shim.verb("pause")
    os.kill(shim.pid, signal.SIGKILL)
    gone = own_guest.zygote.wait_for(lambda m: m["t"] == "shim_gone")
    assert (gone["instance"], gone["status"]) == (shim.instance, signal.SIGKILL)
    assert _pids_in(shim) == set()
    assert own_guest.ask({"t": "list"})["shims"] == {other.instance: other.pid}
    assert other.kill(lives, 0) == "delivered"
    entries = read_record(shim.directory / "record")
    assert sorted(step for _, step in entries) == ["create", "exec", "pause", "start"]
    assert (shim.directory / init / "end").exists()
    subprocess.run(shim.runtime("delete", "--force", shim.instance), check=True)
    other.end()


def test_a_shim_killed_at_any_moment_of_a_create_leaves_nothing_running(own_guest: Guest) -> None:
    chance = random.Random(3)
    for _ in range(ROUNDS):
        shim = own_guest.fork()
        shim.request("create", **shim.create_request(["sleep", "1000"]))
        with_delay = chance.random() * 0.05
        select.select([], [], [], with_delay)
        os.kill(shim.pid, signal.SIGKILL)
        own_guest.zygote.wait_for(lambda m, instance=shim.instance: m["t"] == "shim_gone" and m["instance"] == instance)  # type: ignore[misc]
        wait_until(lambda: _children(own_guest.zygote_pid) == set(), "the zygote has reaped its orphans", timeout_s=3)
        assert _pids_in(shim) == set()
        subprocess.run(shim.runtime("delete", "--force", shim.instance), check=False, capture_output=True)
        shim.wire.close()


def test_shims_outlive_their_zygote_and_the_next_one_looks_after_them(own_guest: Guest) -> None:
    shim = own_guest.fork()
    init = shim.run(["sleep", "1000"])
    dies_meanwhile = own_guest.fork()
    dies_meanwhile.run(["sleep", "1000"])
    zygote = own_guest.zygote_pid
    os.kill(zygote, signal.SIGKILL)
    _wait_for_end(zygote)
    own_guest.zygote.close()
    os.kill(dies_meanwhile.pid, signal.SIGKILL)
    _wait_for_end(dies_meanwhile.pid)
    assert shim.kill(init, 0) == "delivered"
    own_guest.start()
    assert own_guest.ask({"t": "list"})["shims"] == {shim.instance: shim.pid}
    assert own_guest.ask({"t": "fork", "instance": shim.instance, "name": "web"})["pid"] == shim.pid
    wait_until(lambda: _pids_in(dies_meanwhile) == set(), "its container was killed")
    os.kill(shim.pid, signal.SIGKILL)
    gone = own_guest.zygote.wait_for(lambda m: m["t"] == "shim_gone" and m["instance"] == shim.instance)
    assert gone["status"] is None
    assert _pids_in(shim) == set()
    for driver in (shim, dies_meanwhile):
        subprocess.run(driver.runtime("delete", "--force", driver.instance), check=True)


def test_an_adopted_shim_that_ends_well_is_not_called_dead(own_guest: Guest) -> None:
    shim = own_guest.fork()
    init = shim.run(["true"])
    zygote = own_guest.zygote_pid
    own_guest.zygote.send({"t": "quit"})
    _wait_for_end(zygote)
    own_guest.zygote.close()
    own_guest.start()
    shim.notice("exit", init)
    shim.verb("delete")
    shim.wait_gone()
    wait_until(lambda: own_guest.ask({"t": "list"})["shims"] == {}, "its end was seen")
    assert own_guest.zygote.arrived() == []


def test_a_second_zygote_leaves_the_first_alone(own_guest: Guest) -> None:
    first = own_guest.zygote_pid
    start_zygote(own_guest.run_dir, own_guest.state_dir, own_guest.name)
    assert own_guest.zygote_pid == first
    again = subprocess.run(
        [sys.executable, "-m", "corral_worker.shim.zygote.zygote", "--run-dir", own_guest.run_dir, "--state-dir",
         own_guest.state_dir, "--guest", own_guest.name],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "already" in again.stderr
    shim = own_guest.fork()
    os.kill(first, signal.SIGKILL)
    _wait_for_end(first)
    own_guest.zygote.close()
    own_guest.start()  # the shim must not hold the first one's lock
    assert own_guest.ask({"t": "list"})["shims"] == {shim.instance: shim.pid}


def test_forking_twice_gives_the_same_shim(guest: Guest, shim: ShimDriver) -> None:
    answer = guest.ask({"t": "fork", "instance": shim.instance, "name": "web"})
    assert (answer["t"], answer["pid"]) == ("forked", shim.pid)
    refused = guest.ask({"t": "fork", "instance": "../../x", "name": "web"})
    assert refused["t"] == "fork_failed"


def test_only_the_highest_generation_is_heard(shim: ShimDriver) -> None:
    init = shim.run(["sleep", "1000"])
    path = shim.guest.run_dir / "s" / f"{shim.instance}.sock"
    old = shim.wire
    newer = Wire(path)
    newer.send({"t": "hello", "generation": shim.generation + 5, "guest": shim.guest.name})
    state = newer.wait_for(lambda m: m["t"] == "state")
    assert [process["instance"] for process in state["processes"]] == [init]
    with pytest.raises(ConnectionError):
        old.wait_for(lambda _: False)
    for generation, guest in ((shim.generation + 5, shim.guest.name), (1, shim.guest.name), (99, "other")):
        late = Wire(path)
        late.send({"t": "hello", "generation": generation, "guest": guest})
        assert late.wait_for(lambda m: m["t"] == "refused")["generation"] == shim.generation + 5
        late.close()
    newer.close()
    shim.generation += 5
    shim.connect()


def test_noise_costs_the_connection_and_nothing_else(shim: ShimDriver) -> None:
    init = shim.run(["sleep", "1000"])
    path = shim.guest.run_dir / "s" / f"{shim.instance}.sock"
    for noise in (b"GET / HTTP/1.0\r\n\r\n", b"\xff" * 100, bytes(8) + b"x"):
        stranger = Wire(path)
        stranger.socket.sendall(noise)
        with pytest.raises((ConnectionError, TimeoutError)):
            stranger.wait_for(lambda _: False, timeout_s=0.3)
        stranger.close()
    for message in ({"t": "ack"}, {"t": "request"}, {"t": "arm", "process": 5}, {"t": 7}, {}, {"t": "cancel", "id": []}):
        shim.wire.send(message)
    good = shim.exec_request(["true"])
    for fields in (
        {"argv": "x"},
        {**good, "argv": []},
        {**good, "timeout_ms": "soon"},
        {**good, "process": {}},
        {**good, "process": {**good["process"], "policy": "maybe"}},
        {**good, "process": {**good["process"], "instance": "../../x"}},
        {key: value for key, value in good.items() if key != "log"},
    ):
        bad = shim.response(shim.request("exec", **fields))
        assert bad["error"]["kind"] == "bad_request"
    shim.do("exec", **good)
    assert shim.kill(init, 0) == "delivered"


def test_notices_come_again_until_they_are_acknowledged(shim: ShimDriver) -> None:
    init = shim.run(["sh", "-c", "exit 9"])
    first = shim.wire.wait_for(lambda m: m["t"] == "exit")
    shim.connect()
    assert shim.wire.wait_for(lambda m: m["t"] == "exit") == first
    assert shim.state["processes"][0]["exit"]["code"] == 9
    assert first["process"] == init
    shim.wire.send({"t": "ack", "n": first["n"]})
    shim.connect()
    shim.wire.send({"t": "ping"})
    shim.wire.wait_for(lambda m: m["t"] == "pong")
    assert [message for message in shim.wire.arrived() if message["t"] == "exit"] == []


def test_exits_and_output_without_any_worker_are_there_for_the_next_one(shim: ShimDriver) -> None:
    shim.run(["sleep", "1000"])
    fields = [shim.exec_request(["sh", "-c", f"sleep 0.05; echo {code}; exit {code}"]) for code in range(5)]
    for request in fields:
        shim.request("exec", **request)
    shim.wire.send({"t": "ping"})
    shim.wire.wait_for(lambda m: m["t"] == "pong")
    shim.wire.close()
    instances = [request["process"]["instance"] for request in fields]
    wait_until(lambda: all((shim.directory / name / "000001.spool").exists() for name in instances), "all wrote")
    shim.connect()
    for code, name in enumerate(instances):
        assert shim.notice("exit", name)["exit"] == {"type": "exited", "code": code}
        assert shim.output(name) == f"{code}\n".encode()
    assert len({response["id"] for response in shim.state["responses"]} | {p["id"] for p in shim.state["pending"]}) >= 1


@pytest.mark.guarantee(20)
def test_many_execs_leave_no_descriptor_zombie_or_memory_behind(shim: ShimDriver) -> None:
    init = shim.run(["sleep", "1000"])

    def run_some(count: int) -> None:
        for _ in range(count):
            shim.notice("exit", shim.exec(["echo", "x"]))
        for message in shim.wire.arrived():
            if message["t"] == "stream_end":  # of streams that, on a busy machine, ended well before their process
                shim.notice("stream_end", message["process"])
        shim.wire.send({"t": "ping"})  # answered after the last acknowledgement was taken in
        shim.wire.wait_for(lambda m: m["t"] == "pong")

    run_some(3)
    descriptors = len(os.listdir(f"/proc/{shim.pid}/fd"))  # noqa: PTH208
    run_some(2 * ROUNDS)
    assert len(os.listdir(f"/proc/{shim.pid}/fd")) == descriptors  # noqa: PTH208
    assert len(_children(shim.pid)) == 1
    shim.connect()
    assert [process["instance"] for process in shim.state["processes"]] == [init]


def test_shims_have_the_fast_checksum_where_it_is_installed(shim: ShimDriver) -> None:
    assert ("isal_zlib" in Path(f"/proc/{shim.pid}/maps").read_text()) == (find_spec("isal") is not None)


def test_processes_are_named_for_what_they_are(guest: Guest, shim: ShimDriver) -> None:
    assert Path(f"/proc/{shim.pid}/cmdline").read_bytes().rstrip(b"\0") == b"corral-shim g1 web"
    assert Path(f"/proc/{guest.zygote_pid}/cmdline").read_bytes().rstrip(b"\0") == b"corral-zygote g1"
    assert Path(f"/proc/{shim.pid}/comm").read_text().startswith("corral-shim")
    os.kill(shim.pid, signal.SIGTERM)
    shim.wire.send({"t": "ping"})
    shim.wire.wait_for(lambda m: m["t"] == "pong")


def test_nothing_that_was_open_where_the_zygote_was_started_stays_open_in_it(own_guest: Guest) -> None:
    zygote = own_guest.zygote_pid
    own_guest.zygote.send({"t": "quit"})
    _wait_for_end(zygote)
    own_guest.zygote.close()
    held, other = os.pipe()
    os.set_inheritable(other, True)
    own_guest.start()
    os.close(other)
    assert readable(held, 5)
    os.close(held)
