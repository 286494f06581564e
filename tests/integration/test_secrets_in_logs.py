"""What is given to a container (environment, arguments, input) is in no log of broker, worker or zygote, however the command ends."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from corral import ContainerSpec, CorralError
from corral.sync.guest import Guest
from corral_testkit.cli import CORRAL
from corral_testkit.system import CorralSystem, busybox_rootfs

pytestmark = [pytest.mark.runc, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def talkative() -> Iterator[CorralSystem]:
    """Broker and worker log all from info on, and nothing of other tests."""
    with busybox_rootfs() as rootfs, CorralSystem(rootfs=rootfs, worker_options=["--verbose"]) as system:
        yield system


@pytest.fixture
def secret(talkative: CorralSystem) -> Iterator[str]:
    """A word that must be in none of the logs afterwards, though the logs have been written."""
    word = f"marker{secrets.token_hex(8)}"
    yield word
    logs = {path: path.read_text(errors="replace") for path in talkative.directory.rglob("*.log")}
    names = {path.name for path in logs}
    assert {"broker.log", f"{talkative.names[0]}.log"} <= names, names
    assert "registered with" in logs[talkative.directory / f"{talkative.names[0]}.log"], "nothing was looked at"
    assert [str(path) for path, text in logs.items() if word in text] == []


@pytest.fixture
def guest(talkative: CorralSystem) -> Guest:
    return talkative.client().guest(talkative.names[0])


def hidden(system: CorralSystem, word: str, *args: str, **fields: object) -> ContainerSpec:
    return msgspec.structs.replace(system.spec(*args), env=[f"TOKEN={word}"], **fields)


def corral_does(system: CorralSystem, directory: Path, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "CORRAL_BROKER": system.address}
    argv = [*CORRAL, *words]
    return subprocess.run(argv, input=stdin, capture_output=True, text=True, cwd=directory, env=environment, timeout=60, check=False)


def test_commands_that_succeed(talkative: CorralSystem, guest: Guest, secret: str) -> None:
    container = guest.run(spec=hidden(talkative, secret, "sleep", "60"))
    done = container.run(["sh", "-c", 'echo "$TOKEN" "$1"; cat', "sh", secret], env=[f"TOKEN={secret}"], stdin=secret.encode())
    assert done.stdout.count(secret.encode()) == 3, "the container has got it"
    container.delete(force=True)


FAILING: dict[str, Callable[[CorralSystem, Guest, str], object]] = {
    "no_such_program": lambda s, g, word: g.run(spec=hidden(s, word, "/no/such", word)),
    "exit_status": lambda s, g, word: g.run(spec=hidden(s, word, "sh", "-c", "exit 3", word)).wait(),
    "no_such_user": lambda s, g, word: g.run(spec=hidden(s, word, "true", word, user="nobody-here")),
    "no_such_directory": lambda s, g, word: g.run(spec=hidden(s, word, "true", word, cwd="/no/such")),
    "no_such_rootfs": lambda s, g, word: g.run(spec=hidden(s, word, "true", word, rootfs="/no/such")),
    "bad_environment": lambda s, g, word: g.run(spec=hidden(s, word, "true", hostname=word * 20)),
    "too_late": lambda s, g, word: g.run(spec=hidden(s, word, "true", word), timeout_s=0.001),
    "same_id": lambda s, g, word: [g.run(spec=hidden(s, word, "true", word, hostname=name), request_id=f"id-{word[-5:]}") for name in "ab"],
}


@pytest.mark.parametrize("how", FAILING)
def test_runs_that_fail(talkative: CorralSystem, guest: Guest, secret: str, how: str) -> None:
    with contextlib.suppress(CorralError):
        FAILING[how](talkative, guest, secret)


def test_execs_that_fail(talkative: CorralSystem, guest: Guest, secret: str) -> None:
    container = guest.run(spec=talkative.spec("sleep", "60"))
    for args, more in [
        (["/no/such", secret], {}),
        (["sh", "-c", "kill -9 $$", secret], {}),
        (["true", secret], {"user": "nobody-here"}),
        (["true", secret], {"cwd": "/no/such"}),
        (["sh", "-c", "sleep 60", secret], {"timeout_s": 0.2}),
    ]:
        with contextlib.suppress(CorralError, TimeoutError):
            container.run(args, env=[f"TOKEN={secret}"], **more)  # type: ignore[arg-type]
    container.delete(force=True)


def test_the_command_line_and_a_batch(talkative: CorralSystem, guest: Guest, secret: str, tmp_path: Path) -> None:
    rootfs, given = str(talkative.rootfs), ["-e", f"TOKEN={secret}"]
    ran = corral_does(talkative, tmp_path, "run", "--rm", "--rootfs", rootfs, *given, "sh", "-c", "exit 5", secret)
    assert ran.returncode == 5, ran.stderr
    batch = ["batch", "run", "--on", "any", "--rootfs", rootfs, "--", "sh", "-c", 'test "$1" = good', "sh", "{}", secret]
    done = corral_does(talkative, tmp_path, *batch, stdin=f"good\n{secret}\n")
    assert "1 ok, 1 failed" in done.stderr, done.stderr


def test_a_worker_that_takes_up_what_was_under_way(talkative: CorralSystem, guest: Guest, secret: str) -> None:
    container = guest.run(spec=hidden(talkative, secret, "sh", "-c", "sleep 60", secret))
    container.exec(["sh", "-c", "sleep 60", secret], env=[f"TOKEN={secret}"])
    talkative.restart_worker(talkative.names[0])
    talkative.restart_broker()
    end_s = time.monotonic() + 20
    while container.state().status != "running":
        assert time.monotonic() < end_s
    container.delete(force=True)
