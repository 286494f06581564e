"""What containers do that is not plain: hold on to their output, run out of memory, share namespaces, are changed behind Corral's back."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from corral import Chunk, Client, ContainerSpec, CorralError, Event, StdioOptions
from corral.sync.client import Events
from corral.sync.container import Container
from corral.sync.guest import Guest
from corral_schemas.commands import ExecArgs, ExecReply
from corral_schemas.containers import OciProcess
from corral_schemas.events import StdioHeader
from corral_schemas.frames import unpack
from corral_schemas.topics import stdio_prefix, stdio_topic
from corral_testkit.system import CorralSystem
from corral_testkit.wire_peers import RawClient, repeat_until

pytestmark = pytest.mark.runc

HELD_EXIT_S = 0.5
"""An exit is told within this, whoever still holds its streams."""


@pytest.fixture
def client(corral: CorralSystem) -> Client:
    return corral.client()


@pytest.fixture
def guest(corral: CorralSystem, client: Client) -> Guest:
    return client.guest(corral.names[0])


def next_of(events: Events, kind: str, container: Container | None = None) -> Event:
    """The next event of a kind."""
    for item in events:
        assert isinstance(item, Event), item
        if item.kind == kind and (container is None or item.header.instance == container.instance):
            return item
    raise AssertionError("the stream of events ended")


# -- a child that holds stdout --------------------------------------------------------------------------------------------------------


@pytest.mark.guarantee(6)
def test_a_child_that_keeps_stdout_open_delays_nothing(corral: CorralSystem, client: Client, guest: Guest) -> None:
    keeper = guest.run("keeper", spec=corral.spec("sh", "-c", "mkfifo /tmp/go; echo ready; sleep 1000"))
    assert next(keeper.init.stdout.lines()) == b"ready"
    process = keeper.exec(["sh", "-c", "(read x < /tmp/go; echo late) & echo hi; exit 3"])
    began_s = time.monotonic()
    end = process.wait()
    assert time.monotonic() - began_s < HELD_EXIT_S
    assert (end.code, end.streams["stdout"].state, end.streams["stderr"].state) == (3, "open", "open")
    assert end.streams["stdout"].total == 3
    lines = process.stdout.lines()
    assert next(lines) == b"hi"
    with client.events(guests=[guest.name], broker_events=False) as events:
        assert keeper.exec(["sh", "-c", "echo > /tmp/go"]).wait().code == 0
        assert next(lines) == b"late"
        ended = next_of(events, "stdio_end")
        while ended.header.process_instance != process.instance or ended.data["stream"] != "stdout":
            ended = next_of(events, "stdio_end")
        assert ended.data["total"] == 8
    assert list(lines) == []
    output = process.output()
    assert b"".join(piece.data for piece in output if isinstance(piece, Chunk)) == b"hi\nlate\n"
    assert output.ends["stdout"].total == 8


def test_the_example_of_a_background_sleep(corral: CorralSystem, guest: Guest) -> None:
    keeper = guest.run("keeper", spec=corral.spec("sleep", "1000"))
    process = keeper.exec(["sh", "-c", "sleep 60 & echo hi"])
    began_s = time.monotonic()
    assert process.wait().code == 0
    assert next(process.stdout.lines()) == b"hi"
    assert time.monotonic() - began_s < HELD_EXIT_S


# -- memory ----------------------------------------------------------------------------------------------------------------------------


def small(corral: CorralSystem, script: str) -> ContainerSpec:
    return ContainerSpec(rootfs=str(corral.rootfs), args=["sh", "-c", script], memory_bytes=16 << 20, pids_limit=20)


def test_an_init_killed_for_want_of_memory_says_so(corral: CorralSystem, client: Client, guest: Guest) -> None:
    with client.events(guests=[guest.name], broker_events=False) as events:
        container = guest.run("oom", spec=small(corral, "exec tail /dev/zero"))
        assert next_of(events, "oom", container).data == {"kills": 1}
        end = container.wait()
    assert (end.type, end.signal, end.oom_seen) == ("signalled", signal.SIGKILL, True)


def test_a_child_killed_for_want_of_memory_is_seen_while_init_goes_on(corral: CorralSystem, client: Client, guest: Guest) -> None:
    with client.events(guests=[guest.name], broker_events=False) as events:
        container = guest.run("oom", spec=small(corral, "tail /dev/zero; read x < /dev/zero; exit 4"))
        assert next_of(events, "oom", container).data == {"kills": 1}
    container.kill(signal.SIGKILL)
    assert container.wait().oom_seen


@pytest.mark.parametrize("auto_delete", [False, True])
def test_a_poststop_hook_that_fails_does_not_keep_its_container(
    client: Client, guest: Guest, bundle_dir: Callable[..., Path], auto_delete: bool
) -> None:
    """Newer runc ends with an error then, though nothing is left: its text is a warning."""
    hook = {"path": "/bin/sh", "args": ["sh", "-c", "echo nobody listens >&2; exit 7"]}
    container_bundle = str(bundle_dir("true", hooks={"poststop": [hook]}))
    with client.events(guests=[guest.name], kinds=["deleted"]) as events:
        container = guest.run("hooked", bundle=container_bundle, auto_delete=auto_delete)
        container.wait()
        if not auto_delete:
            container.delete()
        event = next(events)
    assert isinstance(event, Event) and event.header.instance == container.instance
    assert "poststop" in event.data.get("warning", "poststop")
    assert guest.list().containers == []


def test_a_bind_mount_of_a_bundle_may_be_relative_to_the_bundle(guest: Guest, bundle_dir: Callable[..., Path]) -> None:
    bundle = bundle_dir("cat", "/mounted/file", mounts=[{"destination": "/mounted", "source": "beside", "options": ["bind"]}])
    (bundle / "beside").mkdir()
    (bundle / "beside" / "file").write_text("found")
    process = guest.run("c", bundle=str(bundle)).init
    assert list(process.stdout.lines()) == [b"found"]
    assert process.wait().code == 0


def test_stats_are_those_of_the_containers_cgroup(corral: CorralSystem, guest: Guest) -> None:
    work = "i=0; while [ $i -lt 9999 ]; do i=$((i+1)); done"
    container = guest.run("stats", spec=small(corral, f"printf 12345; {work}; echo >&2; sleep 1000"))
    assert next(container.init.stderr.lines()) == b""
    process = container.exec(["sleep", "1000"])
    found = container.stats()
    assert found.memory_bytes is not None and 0 < found.memory_bytes <= 16 << 20
    assert found.memory_limit_bytes == 16 << 20
    assert found.memory_max_usage_bytes is not None and found.memory_max_usage_bytes >= found.memory_bytes
    assert found.cpu_ns is not None and found.cpu_ns > 0
    assert (found.pids, found.pids_limit, found.oom_kills) == (2, 20, 0)
    assert (found.stdout_bytes, found.stderr_bytes) == (5, 1)
    container.update({"memory": {"limit": 12 << 20}, "pids": {"limit": 30}})
    assert (container.stats().memory_limit_bytes, container.stats().pids_limit) == (12 << 20, 30)
    process.kill(signal.SIGKILL)


# -- namespaces ------------------------------------------------------------------------------------------------------------------------


def test_in_a_shared_pid_namespace_the_rest_is_killed_when_init_exits(guest: Guest, bundle_dir: Callable[..., Path]) -> None:
    bundle = bundle_dir("sh", "-c", "sleep 1000 & echo $!; setsid sleep 1001 & echo $!; read x; exit 3", shared_pid_namespace=True)
    container = guest.run("shared", bundle=str(bundle), stdio=StdioOptions(stdin=True))
    lines = container.init.stdout.lines()
    pids = [int(next(lines)), int(next(lines))]
    process = container.exec(["sleep", "1002"])
    assert {*pids, process.pid} <= {one.pid for one in container.ps()}
    container.init.stdin.write(b"x\n")
    assert container.wait().code == 3
    assert process.wait().signal == signal.SIGKILL
    assert list(lines) == []  # nobody holds it any more
    assert container.ps() == []
    assert [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []


# -- done by hand ----------------------------------------------------------------------------------------------------------------------


def test_what_somebody_does_with_the_runtime_by_hand_becomes_events(
    corral: CorralSystem, client: Client, guest: Guest, bundle_dir: Callable[..., Path]
) -> None:
    def by_hand(verb: str, container: Container, *more: str) -> None:
        root = str(corral.run_dir(guest.name) / "runc")
        subprocess.run(["runc", "--root", root, verb, container.instance, *more], check=True, timeout=10, capture_output=True)

    bundle = str(bundle_dir("sleep", "1000"))
    running, paused, created = (guest.create(name, bundle=bundle) for name in ("running", "paused", "created"))
    doomed, ended = (guest.run(name, bundle=bundle) for name in ("doomed", "ended"))
    running.start()
    paused.start()
    paused.pause()
    ended.kill(signal.SIGKILL)
    ended.wait()
    with client.events(guests=[guest.name], broker_events=False) as events:
        by_hand("pause", running)
        by_hand("resume", paused)
        by_hand("start", created)
        by_hand("kill", doomed, "KILL")
        by_hand("delete", ended)
        wanted = {
            *(("paused", running.instance), ("resumed", paused.instance), ("started", created.instance)),
            *(("exit", doomed.instance), ("deleted", ended.instance)),
        }
        seen: set[tuple[str, str]] = set()
        while not wanted <= seen:
            item = next(events)
            assert isinstance(item, Event)
            seen.add((item.kind, item.header.instance))
            if item.kind == "deleted":
                assert item.data["reason"] == "drift"
        assert seen == wanted
    assert [one.state().status for one in (running, paused, created, doomed)] == ["paused", "running", "running", "stopped"]
    with pytest.raises(CorralError) as failure:
        ended.state()
    assert failure.value.code == "container_not_found"
    assert ended.wait().signal == signal.SIGKILL
    running.resume()
    assert running.state().status == "running"


# -- output as it is written --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tty", [False, True])
def test_a_subscriber_gets_output_as_it_is_written(corral: CorralSystem, guest: Guest, tty: bool) -> None:
    with RawClient(corral.address) as raw, raw.subscriber(stdio_prefix(guest.name), stdio=True) as subscriber:
        script = "echo ready; while read line; do echo got $line; done"
        container = guest.run("feed", spec=corral.spec("sh", "-c", script), stdio=StdioOptions(stdin=True, tty=tty))
        offset, content, line = 0, b"", 0
        repeat_until(lambda: container.init.stdin.write(b"x\n"), lambda: bool(subscriber.socket.poll(100)))
        while line < 5:
            topic, header, data = subscriber.next()
            told = unpack(StdioHeader, header)
            assert topic == stdio_topic(guest.name, "feed", "init", "stdout")
            assert told.instance == container.instance
            assert told.offset == offset if content else told.offset >= 0
            offset, content = told.offset + len(data), content + data
            container.init.stdin.write(b"%d\n" % line)
            line += 1
    used_us = cpu_us(corral.workers[guest.name].pid)
    assert container.exec(["sleep", "0.5"]).wait().code == 0
    assert cpu_us(corral.workers[guest.name].pid) - used_us < 250_000, "the worker spins while nothing is written"


def cpu_us(pid: int) -> int:
    """Processor time a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * 1_000_000 // os.sysconf("SC_CLK_TCK")


# -- an exit that is known before the start is answered ------------------------------------------------------------------------------


def test_the_exit_that_comes_with_the_answer_to_an_exec_is_the_one_that_a_wait_gives(corral: CorralSystem, guest: Guest) -> None:
    """A short process may have ended by then; whoever asked for it need not ask again."""
    container = guest.run("short", spec=corral.spec("sleep", "1000"))
    told = 0
    with RawClient(corral.address) as raw:
        for number in range(60):
            args = ExecArgs(container="short", process=f"x{number}", spec=OciProcess(args=["sh", "-c", f"exit {number}"]))
            reply = raw.call("exec", args, guest.name)
            assert isinstance(reply, ExecReply)
            end = container.process(f"x{number}").wait()
            assert end.code == number
            if reply.exit is not None:
                assert reply.exit == end
                told += 1
    container.delete(force=True)
    assert told, "no process of 60 was over in time: the answer never carries an exit"
