"""What a guest is told of itself at its first boot, from three places (deploy/guest/first_boot.py)."""

from __future__ import annotations

import importlib.util
import json
import stat
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "deploy" / "guest" / "first_boot.py"
TOLD = {"guest": "vm-7", "broker": ["tcp://10.0.0.1:7700"], "server-key": "k" * 40, "token": "t0", "label": ["role=web"]}


@pytest.fixture
def first_boot() -> ModuleType:
    spec = importlib.util.spec_from_file_location("first_boot", SOURCE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_three_places_say_the_same_in_their_own_words(first_boot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = "quiet corral.agent corral.guest=vm-7 corral.broker=tcp://10.0.0.1:7700 corral.label=role=web"
    told = first_boot.from_kernel_command_line([*words.split(), "corral.server-key=" + "k" * 40])
    assert {**told, "token": "t0"} == TOLD
    monkeypatch.setattr(first_boot, "FW_CFG", tmp_path / "raw")
    assert first_boot.from_fw_cfg() == {}
    (tmp_path / "raw").write_text(json.dumps({**TOLD, "broker": "tcp://10.0.0.1:7700", "label": {"role": "web"}}))
    assert first_boot.from_fw_cfg() == TOLD
    seed = f"""#cloud-config
packages: [vim]
corral:
  broker: tcp://10.0.0.1:7700
  server_key: {"k" * 40}
  token: t0
  label: {{role: web}}
"""
    assert first_boot.read_seed(seed, "local-hostname: vm-7\n", "/dev/vdd1") == TOLD
    assert first_boot.read_seed("#cloud-config\npackages: [vim]\n", "", "/dev/vdd1") == {}


@pytest.mark.parametrize("word", ["corral.token=t0", "corral.token"])
def test_a_token_on_the_kernel_command_line_is_refused_because_containers_read_it(first_boot: Any, word: str) -> None:
    with pytest.raises(first_boot.IdentityError, match=r"corral.token is refused.*fw_cfg or on a seed disk") as failure:
        first_boot.from_kernel_command_line(["corral.guest=vm-7", word])
    assert "t0" not in str(failure.value)


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"guest": "a", "brocker": "x"}, "seed: unknown field 'brocker'; there are guest"),
        ({"guest": 7}, "seed: guest is 7; wanted: str"),
        ({"broker": ["x", 1]}, "seed: broker is"),
        ({"insecure": "yes"}, "seed: insecure is 'yes'; wanted: bool"),
        (["guest"], "seed: a map of fields is wanted"),
    ],
)
def test_what_cannot_be_used_is_said_with_its_place(first_boot: Any, told: object, said: str) -> None:
    with pytest.raises(first_boot.IdentityError, match=said):
        first_boot.checked(told, "seed")


def test_text_that_is_no_json_or_yaml_is_said(first_boot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_boot, "FW_CFG", tmp_path / "raw")
    (tmp_path / "raw").write_text("{")
    with pytest.raises(first_boot.IdentityError, match="no JSON"):
        first_boot.from_fw_cfg()
    with pytest.raises(first_boot.IdentityError, match="no YAML"):
        first_boot.read_seed("a: [", "", "/dev/vdd1")


def test_the_worker_is_given_it_all_and_the_token_in_a_file(first_boot: Any, tmp_path: Path) -> None:
    arguments = first_boot.worker_arguments(TOLD, tmp_path)
    token = tmp_path / "vm-7.token"
    assert (token.read_text(), stat.S_IMODE(token.stat().st_mode)) == ("t0\n", 0o600)
    given = ["--guest=vm-7", "--broker=tcp://10.0.0.1:7700", "--label=role=web", "--server-key=" + "k" * 40, f"--token-file={token}"]
    assert arguments == given
    token.chmod(0o644)
    first_boot.worker_arguments(TOLD, tmp_path)
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert first_boot.worker_arguments({"guest": "a", "insecure": True}, tmp_path) == ["--guest=a", "--insecure"]


def test_any_other_option_of_the_worker_can_be_told_too(first_boot: Any, tmp_path: Path) -> None:
    told = first_boot.from_kernel_command_line(["corral.guest=a", "corral.worker-option=--runtime=crun", "corral.insecure"])
    assert told == {"guest": "a", "worker-option": ["--runtime=crun"], "insecure": True}
    assert first_boot.checked({"worker_option": "--runtime=crun"}, "seed") == {"worker-option": ["--runtime=crun"]}
    assert first_boot.worker_arguments(told, tmp_path) == ["--guest=a", "--insecure"]  # `worker install` takes them in another form
