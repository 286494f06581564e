"""The units of systemd: without mistakes, and as closed as can be."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from corral_worker.install import Installation, install_units

BROKER = Path(__file__).resolve().parents[2] / "deploy" / "systemd" / "corral-broker.service"
PROGRAM = str(Path(sys.executable).with_name("corral"))


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """As installed, with the program of this environment."""
    install_units(Installation(guest="vm-7", brokers=("ipc:///run/corral/b",), program=PROGRAM), tmp_path)
    found = tmp_path / "etc/systemd/system"
    (found / BROKER.name).write_text(BROKER.read_text().replace("/opt/corral/bin/corral", PROGRAM))
    return found


def analyze(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *words], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("name", ["corral-broker.service", "corral-worker@vm-7.service", "corral-zygote@vm-7.service"])
def test_systemd_finds_no_mistake(units: Path, name: str) -> None:
    template = units / re.sub("@.*", "@.service", name) if "@" in name else units / name
    instance = units / name
    if "@" in name:
        instance.write_text(template.read_text())
    done = analyze("verify", "--man=no", "--recursive-errors=no", str(instance))
    assert (done.returncode, [line for line in done.stderr.splitlines() if "corral" in line]) == (0, []), done.stderr


@pytest.mark.parametrize(("name", "exposure_max"), [("corral-broker.service", 2.0), ("corral-worker@.service", 4.0)])
def test_broker_and_worker_are_hardened(units: Path, name: str, exposure_max: float) -> None:
    done = analyze("security", "--offline=true", "--no-pager", f"--threshold={round(exposure_max * 10)}", str(units / name))
    assert done.returncode == 0, done.stdout


def test_the_zygote_is_left_open_and_leaves_its_shims_alone(units: Path) -> None:
    text = (units / "corral-zygote@.service").read_text()
    for line in ("KillMode=process", "Delegate=yes", "OOMPolicy=continue"):
        assert line in text.splitlines()
    assert not re.search("^(NoNewPrivileges|SystemCallFilter|Protect|Restrict|CapabilityBoundingSet)", text, re.MULTILINE)
