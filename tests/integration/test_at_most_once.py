"""A command is done once, whatever it is sent, repeated or cut off by; those on one container in their order."""

from __future__ import annotations

import secrets
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from corral import Client, CorralError, Event, Mount
from corral.sync.guest import Guest
from corral_schemas.base import Message
from corral_schemas.commands import ContainerTarget, CreateArgs, DeleteArgs, ExecArgs, KillArgs, RunArgs, StopArgs, UpdateArgs
from corral_schemas.containers import ContainerSpec, OciProcess
from corral_schemas.frames import decode_reply, reply_value
from corral_testkit.cursors import cursor_now
from corral_testkit.system import CorralSystem
from corral_testkit.wire_peers import RawClient

pytestmark = pytest.mark.runc


@pytest.fixture
def client(corral: CorralSystem) -> Client:
    return corral.client(retry_unreachable=True)


@pytest.fixture
def guest(corral: CorralSystem, client: Client) -> Guest:
    return client.guest(corral.names[0])


def witnessed(corral: CorralSystem, witness: Path, script: str = "") -> ContainerSpec:
    """A program that leaves a line in a file outside, then does something."""
    spec = corral.spec("sh", "-c", f"echo ran >> /witness/file; {script}")
    return ContainerSpec(rootfs=spec.rootfs, args=spec.args, mounts=[Mount(source=str(witness), destination="/witness")])


def runs(witness: Path) -> int:
    return (witness / "file").read_text().count("ran\n")


@pytest.fixture
def witness(tmp_path: Path) -> Path:
    (tmp_path / "file").write_text("")
    return tmp_path


@pytest.mark.guarantee(13)
def test_a_run_and_an_exec_sent_many_times_under_one_id_run_once(corral: CorralSystem, client: Client, guest: Guest, witness: Path) -> None:
    script = "trap 'echo ran >> /witness/file' USR1; while :; do sleep 0.02; done"
    spec, token = witnessed(corral, witness, script), secrets.token_hex(4)
    made = {guest.run("once", spec=spec, request_id=f"run-{token}").instance for _ in range(4)}
    container = guest.container("once", made.pop())
    assert made == set()
    args = ["sh", "-c", "echo ran >> /witness/file"]
    execs = {container.exec(args, process="x", request_id=f"exec-{token}").instance for _ in range(4)}
    assert len(execs) == 1
    assert container.process("x").wait().code == 0
    assert runs(witness) == 2
    for restarted in (False, True):
        if restarted:
            corral.restart_worker(guest.name)
        assert guest.run("once", spec=spec, request_id=f"run-{token}").instance == container.instance
        assert {container.exec(args, process="x", request_id=f"exec-{token}").instance} == execs
    assert runs(witness) == 2


@pytest.mark.guarantee(13)
def test_a_kill_sent_many_times_under_one_id_signals_once(corral: CorralSystem, client: Client, guest: Guest, witness: Path) -> None:
    script = "trap 'echo ran >> /witness/file; echo caught' USR1; echo ready; while :; do sleep 0.02; done"
    container = guest.run("signals", spec=witnessed(corral, witness, script))
    lines = container.init.stdout.lines()
    assert next(lines) == b"ready"
    args = KillArgs(container="signals", signal=signal.SIGUSR1)
    token = secrets.token_hex(4)
    for _ in range(5):
        client.call(guest.name, "kill", args, request_id=token)
    assert next(lines) == b"caught"
    corral.restart_worker(guest.name)
    client.call(guest.name, "kill", args, request_id=token)
    container.kill(signal.SIGUSR1)
    assert next(lines) == b"caught"
    assert runs(witness) == 3  # the start, and two signals


@pytest.mark.parametrize("op", ["create", "start", "pause", "resume", "update", "stop", "delete"])
def test_every_other_command_answers_a_repeat_as_it_did_the_first_time(
    corral: CorralSystem, client: Client, guest: Guest, bundle_dir: Callable[..., Path], op: str
) -> None:
    name, token = f"r-{secrets.token_hex(3)}", secrets.token_hex(4)
    create = CreateArgs(container=name, bundle=str(bundle_dir("sleep", "1000")))
    target = ContainerTarget(container=name)
    before = {"start": ["create"], "pause": ["create", "start"], "resume": ["create", "start", "pause"], "update": ["create"]}
    before |= {"stop": ["create", "start"], "delete": ["create"]}
    args: dict[str, Message] = {
        "create": create,
        "update": UpdateArgs(container=name, resources={}),
        "stop": StopArgs(container=name, grace_ms=0),
    }
    args |= {"delete": DeleteArgs(container=name)}
    for step in before.get(op, []):
        client.call(guest.name, step, args.get(step, target))
    cursor = cursor_now(client, guest.name)
    first = client.call(guest.name, op, args.get(op, target), request_id=token)
    with client.events(after=cursor, guests=[guest.name], broker_events=False) as events:
        assert next(events)
        place = events.cursor
    for _ in range(3):
        assert client.call(guest.name, op, args.get(op, target), request_id=token) == first
    corral.restart_worker(guest.name)
    assert client.call(guest.name, op, args.get(op, target), request_id=token) == first
    with client.events(after=place, guests=[guest.name], broker_events=False) as events:
        repeated = []
        for item in events:
            assert isinstance(item, Event)
            if item.kind == "worker_started":
                break
            repeated.append(item.kind)
    assert repeated in ([], ["exit"], ["deleted"])  # what the first one itself brought


def kill_and_restart(corral: CorralSystem, name: str) -> None:
    corral.workers[name].kill()
    corral.restart_worker(name)


def test_a_command_under_way_when_the_worker_is_killed_is_done_once(
    corral: CorralSystem, client: Client, guest: Guest, witness: Path
) -> None:
    """The kill comes at another moment of `run` each time."""
    for delay_ms in (10, 25, 45):
        (witness / "file").write_text("")
        name, token = f"mid-{delay_ms}", secrets.token_hex(4)
        args = RunArgs(container=name, spec=witnessed(corral, witness, "exit 3"))
        restarter = threading.Timer(delay_ms / 1000, kill_and_restart, (corral, guest.name))
        restarter.start()
        try:
            client.call(guest.name, "run", args, request_id=token)
            assert guest.container(name).wait().code == 3
            assert runs(witness) == 1
        except CorralError as why:
            assert why.code in ("outcome_unknown", "container_already_exists")
            assert runs(witness) <= 1
        finally:
            restarter.join()


def test_commands_on_one_container_take_effect_in_the_order_they_came(
    corral: CorralSystem, guest: Guest, bundle_dir: Callable[..., Path]
) -> None:
    name = f"order-{secrets.token_hex(3)}"
    target = ContainerTarget(container=name)
    steps: list[tuple[str, Message]] = [
        ("create", CreateArgs(container=name, bundle=str(bundle_dir("sleep", "1000")))),
        ("start", target),
        ("pause", target),
        ("resume", target),
        ("exec", ExecArgs(container=name, process="x", spec=OciProcess(args=["true"]))),
        ("pause", target),
        ("resume", target),
        ("delete", DeleteArgs(container=name, force=True)),
        ("create", CreateArgs(container=name, bundle=str(bundle_dir("sleep", "1000")))),
        ("start", target),
    ]
    with RawClient(corral.address, timeout_s=20.0) as raw:
        ops = {raw.send(op, args, guest.name): op for op, args in steps}
        answered = []
        for _ in steps:
            header, body = decode_reply(raw.receive(raw.socket))
            reply_value(ops[header.id], body)
            answered.append(header.id)
    assert answered == list(ops)
    assert guest.container(name).state().status == "running"


def test_kill_does_not_wait_behind_another_command(corral: CorralSystem, client: Client, guest: Guest) -> None:
    container = guest.run("busy", spec=corral.spec("sleep", "1000"))
    stopping = threading.Thread(target=lambda: container.stop(grace_s=30))
    stopping.start()
    began_s = time.monotonic()
    container.kill(signal.SIGKILL)
    assert container.wait().signal == signal.SIGKILL
    stopping.join(10)
    assert time.monotonic() - began_s < 2.0
