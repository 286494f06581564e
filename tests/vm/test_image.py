"""Guest images: made of a fixed list of packages, and a build that cannot be done says why."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from corral_testkit.vms import VmFleet
from corral_vm.image import ready_image

GUEST = Path(__file__).resolve().parents[2] / "deploy" / "guest"
NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")


def build(script: str, *arguments: str, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*before, str(GUEST / script), *arguments], capture_output=True, text=True, timeout=120, check=False)


def test_images_hold_the_listed_packages_and_no_other(vms: VmFleet) -> None:
    for kind, image in (("test", vms.image), ("systemd", ready_image("systemd", vms.image.suite))):
        manifest = dict(line.split("=", 1) for line in image.manifest.read_text().splitlines())
        listed = GUEST / f"package-names.{image.suite}.{kind}"
        assert listed.exists() or image.suite == "sid", "only a release that still changes has no list"
        if listed.exists():
            assert set(manifest) - {"linux-image"} == set(listed.read_text().split())
        assert all(manifest.values())
        assert vms.machines["vm1"].shell("uname -r").strip() == manifest["linux-image"]


@pytest.mark.parametrize("script", ["build-base.sh", "build-image.sh"])
def test_a_build_without_root_says_so(script: str, tmp_path: Path) -> None:
    done = build(script, "test", str(tmp_path / "out"), str(tmp_path), str(tmp_path), str(tmp_path), before=NOBODY)
    assert (done.returncode, "needs root" in done.stderr) == (1, True), done.stderr
    assert not (tmp_path / "out").exists()


def test_a_build_without_network_says_so_and_leaves_no_root(tmp_path: Path) -> None:
    done = build("build-base.sh", "test", str(tmp_path / "out"), before=("unshare", "--net"))
    assert (done.returncode, "is the network there?" in done.stderr) == (1, True), done.stderr
    assert not (tmp_path / "out" / "root").exists()
