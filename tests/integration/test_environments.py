"""Environments are often secrets: on the guest's disk they are gone once the runtime needs them no more."""

from __future__ import annotations

import secrets
from pathlib import Path

import msgspec
import pytest

from corral import CorralError
from corral_testkit.system import CorralSystem

pytestmark = pytest.mark.runc


def holders(state: Path, word: str) -> list[str]:
    """Files below the state directory that hold the word. The journal's newest pages (-wal) are written over by later ones."""
    files = [path for path in state.rglob("*") if path.is_file() and not path.name.endswith(("-wal", "-shm"))]
    return sorted(path.name for path in files if word.encode() in path.read_bytes())


def test_a_deleted_container_leaves_no_environment_on_disk(corral: CorralSystem) -> None:
    word, guest = f"marker{secrets.token_hex(8)}", corral.names[0]
    container = corral.client().guest(guest).run("c", spec=msgspec.structs.replace(corral.spec("sleep", "60"), env=[f"TOKEN={word}"]))
    assert holders(corral.state_dir(guest), word) == ["config.json"], "the runtime reads it for execs"
    assert container.run(["sh", "-c", "echo ${#TOKEN}"]).stdout == b"%d\n" % len(word)
    container.delete(force=True)
    assert holders(corral.state_dir(guest), word) == []


def test_an_exec_leaves_no_environment_on_disk_whether_it_started_or_not(corral: CorralSystem) -> None:
    word, guest = f"marker{secrets.token_hex(8)}", corral.names[0]
    container = corral.client().guest(guest).run("c", spec=corral.spec("sleep", "60"))
    process = container.exec(["sh", "-c", "sleep 60"], env=[f"TOKEN={word}"])
    with pytest.raises(CorralError):
        container.exec(["/no/such"], env=[f"TOKEN={word}"])
    assert holders(corral.state_dir(guest), word) == []
    process.kill(9)
    assert process.wait().signal == 9
    container.delete(force=True)


def test_a_container_whose_environment_is_gone_still_has_its_output(corral: CorralSystem) -> None:
    container = corral.client().guest(corral.names[0]).run("c", spec=corral.spec("sh", "-c", "echo kept"))
    assert container.wait().code == 0
    container.delete()
    assert container.init.stdout.read() == b"kept\n"
