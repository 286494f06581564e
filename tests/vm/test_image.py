"""The guest image: made of a fixed list of packages, and a build that cannot be done says why."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from corral_testkit.vms import VmFleet

GUEST = Path(__file__).resolve().parents[2] / "deploy" / "guest"
NOBODY = "65534"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "site").mkdir()
    yield tmp_path / "site"
    assert not (tmp_path / "out" / "root.erofs").exists(), "a build that failed left an image"


def build(out: Path, site: Path, *before: str) -> subprocess.CompletedProcess[str]:
    argv = [*before, str(GUEST / "build-image.sh"), str(out), str(site)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)


def test_an_image_holds_the_listed_packages_and_no_other(vms: VmFleet) -> None:
    manifest = dict(line.split("=", 1) for line in vms.image.manifest.read_text().splitlines())
    assert set(manifest) - {"linux-image"} == set((GUEST / "package-names").read_text().split())
    assert all(manifest.values())
    assert vms.machines["vm1"].shell("uname -r").strip() == manifest["linux-image"]


def test_a_build_without_root_says_so(site: Path, tmp_path: Path) -> None:
    done = build(tmp_path / "out", site, "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
    assert (done.returncode, "needs root" in done.stderr) == (1, True), done.stderr


def test_a_build_without_network_says_so_and_leaves_no_image(site: Path, tmp_path: Path) -> None:
    done = build(tmp_path / "out", site, "unshare", "--net")
    assert (done.returncode, "mmdebstrap could not make the root file system" in done.stderr) == (1, True), done.stderr
