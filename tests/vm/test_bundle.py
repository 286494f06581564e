"""The tar of `make bundle`: it installs on a machine without a network, into a prefix of its own, and says what hinders it."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

from corral_vm.bundle import make_bundle

CLOUD_INIT = Path(__file__).resolve().parents[2] / "deploy" / "bundle" / "cloud-init.yaml"
PYTHON = str(Path(sys.base_prefix) / "bin" / f"python{sys.version_info[0]}.{sys.version_info[1]}")


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("bundle")
    subprocess.run(["tar", "-C", directory, "-xf", make_bundle(directory)], check=True, timeout=60)
    [tree] = [path for path in directory.iterdir() if path.is_dir()]
    return tree


def install(unpacked: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PYTHON": PYTHON}
    argv = ["unshare", "--net", str(unpacked / "install.sh"), *words]
    return subprocess.run(argv, capture_output=True, text=True, env=environment, timeout=120, check=False)


def test_it_installs_without_a_network_and_installs_the_worker_as_a_service(unpacked: Path, tmp_path: Path) -> None:
    prefix, root = tmp_path / "corral", tmp_path / "root"
    done = install(unpacked, "--prefix", str(prefix))
    assert (done.returncode, f"is in {prefix}/bin/corral" in done.stdout) == (0, True), done.stderr
    for page in ("README.md", "docs/keys.md", "schemas/PROTOCOL.md"):
        assert (prefix / "share/doc/corral" / page).exists(), page
    words = ["worker", "install", "--root", str(root), "--guest", "vm-7", "--broker", "ipc:///run/b"]
    subprocess.run([str(prefix / "bin" / "corral"), *words], check=True, timeout=60, capture_output=True)
    drop_in = root / "etc/systemd/system/corral-worker@vm-7.service.d/guest.conf"
    assert f"ExecStart={prefix}/bin/corral worker --guest vm-7" in drop_in.read_text()
    again = install(unpacked, f"--prefix={prefix}")
    assert again.returncode == 0, again.stderr


def test_what_hinders_it_is_said(unpacked: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    for prefix, said in (
        (str(tmp_path / "other"), "is there already and is no installation of Corral"),
        ("relative", "an absolute path is wanted"),
        ("/proc/never", "cannot be made: run this as root"),
    ):
        done = install(unpacked, "--prefix", prefix)
        assert (done.returncode, said in done.stderr) == (1, True), done.stderr
    tag = unpacked / "python"
    right = tag.read_text()
    tag.write_text("3.99 linux-z80\n")
    done = install(unpacked, "--prefix", str(tmp_path / "never"))
    tag.write_text(right)
    assert (done.returncode, "this bundle is for Python 3.99 linux-z80" in done.stderr) == (1, True), done.stderr
    assert not (tmp_path / "never").exists()


@pytest.mark.parametrize("is_right", [True, False])
def test_cloud_init_installs_only_the_bundle_whose_checksum_it_holds(tmp_path: Path, is_right: bool) -> None:
    (tmp_path / "served" / "corral").mkdir(parents=True)
    (tmp_path / "served" / "corral" / "install.sh").write_text(f"#!/bin/sh\ntouch {tmp_path}/installed\n")
    (tmp_path / "served" / "corral" / "install.sh").chmod(0o755)
    tar = tmp_path / "served" / "corral-bundle.tar.gz"
    subprocess.run(["tar", "-C", tmp_path / "served", "-czf", tar, "corral"], check=True, timeout=60)
    digest = hashlib.sha256(tar.read_bytes() if is_right else b"another").hexdigest()
    [script] = [words[2] for words in yaml.safe_load(CLOUD_INIT.read_text())["runcmd"] if words[0] == "sh"]
    for stands, taken in (("https://YOUR-SERVER", f"file://{tar.parent}"), ("SHA256", digest), ("/run/corral-bundle", f"{tmp_path}/run")):
        assert stands in script
        script = script.replace(stands, taken)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "curl").write_text('#!/bin/sh\ncp "${6#file://}" "$5"\n')  # what a VM has, a build machine need not
    (tmp_path / "bin" / "curl").chmod(0o755)
    environment = {"PATH": f"{tmp_path}/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    done = subprocess.run(["sh", "-ec", script], capture_output=True, text=True, env=environment, timeout=60, check=False)
    assert ((tmp_path / "installed").exists(), done.returncode == 0) == (is_right, is_right), done.stderr
    assert is_right or "did NOT match" in done.stderr


def test_a_wheel_that_is_not_the_one_of_the_lock_is_not_installed(unpacked: Path, tmp_path: Path) -> None:
    [wheel] = (unpacked / "wheels").glob("click-*.whl")
    right = wheel.read_bytes()
    with zipfile.ZipFile(wheel, "a") as packed:
        packed.writestr("click/another.py", "")
    done = install(unpacked, "--prefix", str(tmp_path / "corral"))
    wheel.write_bytes(right)
    assert (done.returncode, "DO NOT MATCH THE HASHES" in done.stderr) == (1, True), done.stderr
    assert not (tmp_path / "corral" / "bin" / "corral").exists()
