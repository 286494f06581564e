"""Every method of the runtime interface, under its own names, on real runc."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from corral import CorralError, OciProcess, StdioOptions
from corral.runtime import Container, Process, Runtime
from corral_schemas.containers import ContainerProcessState
from corral_testkit.shim_driver import wait_until
from corral_testkit.system import CorralSystem

pytestmark = pytest.mark.runc

MakeBundle = Callable[..., Path]
INTERFACE = {
    Runtime: ("create_container", "list_container_states"),
    Container: (
        *("id", "exists", "start", "exec_process", "kill", "pause", "resume", "get_state", "get_running_processes"),
        *("get_all_processes", "get_init_process", "update", "wait", "pid", "delete", "tty", "pipe_relay"),
    ),
    Process: ("wait", "pid", "delete", "tty", "pipe_relay"),
}


class Sink(io.RawIOBase):
    """A file in memory that tells when a text has arrived in it."""

    def __init__(self) -> None:
        self.content = b""
        self._changed = threading.Condition()

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        with self._changed:
            self.content += bytes(data)  # type: ignore[call-overload]
            self._changed.notify_all()
        return len(data)  # type: ignore[arg-type]

    def wait_for(self, text: bytes, timeout_s: float = 10.0) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: text in self.content, timeout_s), f"{text!r} not in {self.content!r}"


@pytest.fixture
def runtime(corral: CorralSystem) -> Runtime:
    return Runtime(corral.client(), corral.names[0])


def code_of(work: Callable[..., object], *arguments: object) -> str:
    with pytest.raises(CorralError) as failure:
        work(*arguments)
    return failure.value.code


def test_it_has_every_name_of_the_interface() -> None:
    assert [(kind, name) for kind, names in INTERFACE.items() for name in names if not hasattr(kind, name)] == []


def test_a_container_from_create_to_delete(runtime: Runtime, bundle_dir: MakeBundle) -> None:
    bundle = bundle_dir("sh", "-c", "echo out; echo err >&2; exit 7")
    container = runtime.create_container("life", str(bundle))
    assert container.id == "life"
    assert container.exists()
    state = container.get_state()
    assert (state.id, state.status, state.bundle_path) == ("life", "created", str(bundle))
    assert state.oci_version == "1.0.2"
    assert Path(state.rootfs_path).is_dir()
    assert state.created.endswith("Z")
    assert state.pid == container.pid == container.get_init_process().pid
    assert Path(f"/proc/{state.pid}").exists()
    assert [one.id for one in runtime.list_container_states()] == ["life"]
    container.start()
    assert (container.wait().type, container.wait().code) == ("exited", 7)
    assert container.get_init_process().wait().code == 7
    assert container.pid == 0
    assert container.get_state().status == "stopped"
    relay = container.pipe_relay()
    assert relay is not None and container.tty() is None
    out, err = io.BytesIO(), io.BytesIO()
    relay.start(stdout=out, stderr=err)
    assert relay.wait(10)
    assert (out.getvalue(), err.getvalue()) == (b"out\n", b"err\n")
    container.delete()
    assert not container.exists()
    assert runtime.list_container_states() == []
    assert code_of(container.get_state) == "container_not_found"


def test_processes_are_listed_with_their_origin(runtime: Runtime, bundle_dir: MakeBundle) -> None:
    container = runtime.create_container("ps", str(bundle_dir("sh", "-c", "sleep 1000 & read line")), StdioOptions(stdin=True))
    container.start()
    done = container.exec_process(OciProcess(args=["true"]), id="done")
    assert done.wait().code == 0
    running = container.exec_process(OciProcess(args=["sleep", "500"]), id="running")

    def found() -> dict[tuple[str, ...], ContainerProcessState]:
        return {tuple(one.command[-2:]): one for one in container.get_running_processes()}

    wait_until(lambda: {("sleep", "500"), ("sleep", "1000")} <= found().keys(), "both have become what they were started as")
    seen = found()
    assert seen["sleep", "500"].created_by_runtime and seen["sleep", "500"].process == "running"
    assert seen["sleep", "500"].pid == running.pid
    assert not seen["sleep", "1000"].created_by_runtime
    assert {one.process for one in container.get_running_processes() if one.created_by_runtime} == {"init", "running"}
    assert {one.process for one in container.get_all_processes() if one.created_by_runtime} == {"init", "running", "done"}
    assert not any(one.is_zombie for one in container.get_running_processes())


def test_an_exec_has_an_environment_a_directory_and_a_user_of_its_own(runtime: Runtime, bundle_dir: MakeBundle) -> None:
    container = runtime.create_container("exec", str(bundle_dir("sleep", "1000")))
    container.start()
    script = 'echo "$WHO $(pwd) $(id -u):$(id -g)"; exit 3'
    process = container.exec_process(OciProcess(args=["sh", "-c", script], env=["WHO=me"], cwd="/tmp", user="5:6"))
    assert process.wait().code == 3
    relay, out = process.pipe_relay(), io.BytesIO()
    assert relay is not None
    relay.start(stdout=out)
    assert relay.wait(10)
    assert out.getvalue() == b"me /tmp 5:6\n"


def test_an_execs_id_is_free_again_after_its_delete(runtime: Runtime, bundle_dir: MakeBundle) -> None:
    container = runtime.create_container("ids", str(bundle_dir("sleep", "1000")))
    container.start()
    first = container.exec_process(OciProcess(args=["sh", "-c", "read x"]), StdioOptions(stdin=True), id="x")
    assert code_of(first.delete) == "container_not_stopped"
    assert code_of(lambda: container.exec_process(OciProcess(args=["true"]), id="x")) == "process_already_exists"
    relay = first.pipe_relay()
    assert relay is not None
    relay.start(stdin=io.BytesIO(b"done\n"))
    assert first.wait().code == 0
    first.delete()
    second = container.exec_process(OciProcess(args=["sh", "-c", "exit 4"]), id="x")
    assert second.wait().code == 4
    assert code_of(container.get_init_process().delete) == "bad_request"


def test_kill_pause_resume_and_update(runtime: Runtime, bundle_dir: MakeBundle) -> None:
    container = runtime.create_container("change", str(bundle_dir("sleep", "1000")))
    container.start()
    container.pause()
    assert container.get_state().status == "paused"
    container.resume()
    assert container.get_state().status == "running"
    container.update({"pids": {"limit": 33}})
    container.kill(9)
    assert (container.wait().type, container.wait().signal) == ("signalled", 9)


def test_wait_gives_up_when_told_to_and_the_process_goes_on(runtime: Runtime, bundle_dir: MakeBundle) -> None:
    container = runtime.create_container("slow", str(bundle_dir("sleep", "1000")))
    container.start()
    assert code_of(container.wait, 0.05) == "wait_timeout"
    assert container.get_state().status == "running"


def test_a_pipe_relay_carries_every_byte_both_ways(runtime: Runtime, bundle_dir: MakeBundle) -> None:
    data = os.urandom(2_000_000)
    container = runtime.create_container("cat", str(bundle_dir("sh", "-c", "cat; echo end >&2")), StdioOptions(stdin=True))
    relay, out, err = container.pipe_relay(), io.BytesIO(), io.BytesIO()
    assert relay is not None
    relay.start(stdin=io.BytesIO(data), stdout=out, stderr=err)
    container.start()
    assert container.wait().code == 0
    assert relay.wait(20)
    assert out.getvalue() == data
    assert err.getvalue() == b"end\n"


def test_a_tty_relay_carries_what_is_typed_and_the_size(runtime: Runtime, bundle_dir: MakeBundle) -> None:
    stdio = StdioOptions(tty=True, stdin=True, rows=11, columns=22)
    container = runtime.create_container("tty", str(bundle_dir("sh", tty=True)), stdio)
    container.start()
    relay, out = container.tty(), Sink()
    assert relay is not None and container.pipe_relay() is None
    reading, typing = os.pipe()
    with open(reading, "rb", buffering=0) as stdin, open(typing, "wb", buffering=0) as keys:
        relay.start(stdin=stdin, stdout=out)  # type: ignore[arg-type]
        keys.write(b"stty size; echo 1:$((40+2))\n")
        out.wait_for(b"1:42\r\n")
        assert b"11 22\r\n" in out.content
        relay.resize_console(33, 44)
        keys.write(b"stty size; echo 2:$((40+2))\n")
        out.wait_for(b"2:42\r\n")
        assert b"33 44\r\n" in out.content
        keys.write(b"exit 6\n")
        assert container.wait().code == 6
        assert relay.wait(10)
    assert code_of(relay.resize_console, 1, 1) == "process_not_found"


def test_an_exec_with_a_tty_is_resized_apart_from_its_container(runtime: Runtime, bundle_dir: MakeBundle) -> None:
    container = runtime.create_container("tty2", str(bundle_dir("sleep", "1000")))
    container.start()
    assert container.tty() is None
    process = container.exec_process(
        OciProcess(args=["sh", "-c", "read a; stty size"]), StdioOptions(tty=True, stdin=True, rows=5, columns=6)
    )
    relay, out = process.tty(), Sink()
    assert relay is not None
    relay.resize_console(7, 8)
    relay.start(stdin=io.BytesIO(b"go\n"), stdout=out)  # type: ignore[arg-type]
    assert process.wait().code == 0
    assert relay.wait(10)
    assert out.content.endswith(b"7 8\r\n")


def test_a_relay_says_what_went_wrong_with_its_file(runtime: Runtime, bundle_dir: MakeBundle) -> None:
    container = runtime.create_container("full", str(bundle_dir("echo", "hi")))
    container.start()
    relay = container.pipe_relay()
    assert relay is not None
    with open("/dev/full", "wb", buffering=0) as full:
        relay.start(stdout=full)
        with pytest.raises(OSError, match="No space left"):
            relay.wait(10)
