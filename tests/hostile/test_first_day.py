"""Corral put on a network on its first day: what refuses to start, and a real guest from enrolment to revocation."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from corral import AsyncClient, ContainerSpec, CorralError
from corral.cli.keys import key_directory
from corral.keys import Keys, load_keys
from hostile.keyed_broker import KeyedBroker

WAIT_S = 25.0


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-m", *arguments], capture_output=True, text=True, timeout=30, check=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1"])
def test_tcp_without_keys_is_refused_with_the_two_commands_that_put_it_right(host: str) -> None:
    refused = run("corral_broker", "--bind", f"tcp://{host}:0")
    assert refused.returncode == 1
    assert "corral keys new --broker --keys" in refused.stderr
    assert f"corral broker --bind tcp://{host}:0 --keys" in refused.stderr


def test_a_key_directory_without_the_brokers_key_and_keys_beside_insecure_are_refused(tmp_path: Path) -> None:
    assert "corral keys new --broker" in run("corral_broker", "--bind", "tcp://127.0.0.1:0", "--keys", str(tmp_path)).stderr
    key_directory.make_broker_key(tmp_path / "keys")
    both = run("corral_broker", "--bind", "tcp://127.0.0.1:0", "--keys", str(tmp_path / "keys"), "--insecure")
    assert "one or the other" in both.stderr


def test_a_worker_takes_no_commands_over_tcp_from_a_broker_it_cannot_know(tmp_path: Path) -> None:
    places = ["--state-dir", str(tmp_path / "s"), "--run-dir", str(tmp_path / "r"), "--runtime", "/bin/true"]
    refused = run("corral_worker", "--guest", "g1", "--broker", "tcp://127.0.0.1:1", *places)
    assert refused.returncode == 1
    assert "--server-key" in refused.stderr


def test_key_files_are_their_owners_alone(tmp_path: Path) -> None:
    key_directory.make_broker_key(tmp_path / "keys")
    key_directory.make_key_file(tmp_path / "a.key", "a")
    for path in (tmp_path / "keys" / "broker.secret", tmp_path / "a.key"):
        assert path.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("name", "mode", "said"),
    [
        ("broker.secret", 0o640, "its mode 0640 opens it to more than its owner: chmod 600 {}"),
        ("broker.secret", 0o604, "its mode 0604 opens it to more than its owner: chmod 600 {}"),
        ("accepted", 0o720, "its mode 0720 lets others than its owner add some: chmod 700 {}"),
        ("", 0o702, "mode 0702); chmod 700 it" if os.geteuid() == 0 else "its mode 0702 lets others than its owner add some: chmod 700 {}"),
    ],
)
def test_a_broker_refuses_keys_that_others_may_read_or_add_to(tmp_path: Path, name: str, mode: int, said: str) -> None:
    key_directory.make_broker_key(tmp_path / "keys")
    (tmp_path / "keys" / name).chmod(mode)
    refused = run("corral_broker", "--bind", "tcp://127.0.0.1:0", "--keys", str(tmp_path / "keys"))
    assert refused.returncode == 1 and said.format(tmp_path / "keys" / name) in refused.stderr, refused.stderr


def test_a_client_refuses_a_key_that_others_may_read(tmp_path: Path) -> None:
    pair = key_directory.make_key_file(tmp_path / "a.key", "a")
    assert load_keys(str(tmp_path / "a.key"), pair.public).public == pair.public
    (tmp_path / "a.key").chmod(0o644)
    with pytest.raises(CorralError, match=rf"mode 0644 opens it to more than its owner: chmod 600 {tmp_path}/a.key$") as failure:
        load_keys(str(tmp_path / "a.key"), pair.public)
    assert failure.value.code == "bad_request"


@pytest.mark.runc
def test_a_guest_enrols_by_token_runs_a_container_and_is_out_once_revoked(keyed: KeyedBroker, rootfs: Path) -> None:
    operator = keyed.keys("op", "operator")
    home = keyed.directory.parent
    key_directory.make_token_file(keyed.directory, "g1", 600, home / "token")
    places = ["--state-dir", str(home / "s"), "--run-dir", str(home / "r"), "--durability", "process"]
    keys = ["--server-key", str(keyed.directory / "broker.public"), "--token-file", str(home / "token")]
    command = [sys.executable, "-m", "corral_worker", "--guest", "g1", "--broker", keyed.address, *places, *keys]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as worker:
        try:
            asyncio.run(_use(keyed, Keys(operator.public, operator.secret, operator.server), rootfs))
        finally:
            worker.terminate()
            worker.wait(WAIT_S)
    lines = [json.dumps(line) for line in keyed.audit()]
    assert any('"op": "run"' in line and '"key": "op"' in line and '"verdict": "allowed"' in line for line in lines)
    assert not any("secret-argument" in line for line in lines), "arguments are in no log"


async def _use(keyed: KeyedBroker, keys: Keys, rootfs: Path) -> None:
    async with AsyncClient(keyed.address, keys=keys, retry_unreachable=True, timeout_s=WAIT_S) as client:
        spec = ContainerSpec(rootfs=str(rootfs), args=["sh", "-c", "echo out; exit 3", "secret-argument"])
        container = await client.guest("g1").run(spec=spec)
        assert (await container.wait()).code == 3
        await container.delete()
        key_directory.revoke(keyed.directory, "g1")
        async with asyncio.timeout(5.0):
            while any(guest.up for guest in await client.guests()):
                await asyncio.sleep(0)
