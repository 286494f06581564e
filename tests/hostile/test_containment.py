"""Paths in commands: with allowed roots nothing outside them gets in, by whatever way it is named."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corral_schemas.commands import CreateArgs
from corral_schemas.containers import ContainerSpec, Mount
from corral_schemas.errors import CorralError
from corral_worker.runtime.bundles import make_bundle


@pytest.fixture
def inside(tmp_path: Path) -> Path:
    """An allowed root with a bundle in it; beside it lies what must not be reached."""
    bundle = tmp_path / "allowed" / "bundle"
    (bundle / "rootfs").mkdir(parents=True)
    (tmp_path / "outside" / "rootfs").mkdir(parents=True)
    write_config(bundle, {})
    write_config(tmp_path / "outside", {})
    return tmp_path / "allowed"


def write_config(bundle: Path, changes: dict[str, Any]) -> None:
    config = {"ociVersion": "1.0.2", "process": {"args": ["true"]}, "root": {"path": "rootfs"}, **changes}
    (bundle / "config.json").write_text(json.dumps(config))


def make(inside: Path, args: CreateArgs) -> dict[str, Any]:
    directory = inside.parent / "made"
    make_bundle(args, directory, "/cg", (inside.resolve(),))
    made: dict[str, Any] = json.loads((directory / "config.json").read_text())
    return made


def assert_refused(inside: Path, args: CreateArgs) -> None:
    with pytest.raises(CorralError) as caught:
        make(inside, args)
    assert caught.value.code == "bundle_invalid"
    assert not (inside.parent / "made" / "config.json").exists()


def test_what_lies_inside_is_taken_under_its_resolved_path(inside: Path) -> None:
    (inside / "link").symlink_to("bundle")
    made = make(inside, CreateArgs(container="c", bundle=str(inside / "link")))
    assert made["root"]["path"] == str((inside / "bundle" / "rootfs").resolve())


@pytest.mark.parametrize("way", ["outside", "allowed/../outside", "allowed/link", "allowed/bundle/../../outside", "allowed-but-not"])
def test_no_way_to_a_bundle_outside(inside: Path, way: str) -> None:
    (inside / "link").symlink_to("../outside")
    (inside.parent / "allowed-but-not").symlink_to("outside")
    assert_refused(inside, CreateArgs(container="c", bundle=str(inside.parent / way)))


@pytest.mark.parametrize("rootfs", ["../../outside/rootfs", "/", "link"])
def test_no_way_to_a_rootfs_outside(inside: Path, rootfs: str) -> None:
    (inside / "bundle" / "link").symlink_to("/")
    write_config(inside / "bundle", {"root": {"path": rootfs}})
    assert_refused(inside, CreateArgs(container="c", bundle=str(inside / "bundle")))
    assert_refused(inside, CreateArgs(container="c", spec=ContainerSpec(rootfs=str(inside / "bundle" / rootfs), args=["true"])))


@pytest.mark.parametrize(
    "mount",
    [
        {"destination": "/x", "type": "bind", "source": "/etc"},
        {"destination": "/x", "type": "none", "source": "/etc", "options": ["rbind"]},
        {"destination": "/x", "source": "/etc"},
        {"destination": "/x", "type": "ext4", "source": "/dev/sda1"},
        {"destination": "/x", "type": "overlay", "source": "overlay", "options": ["lowerdir=/etc"]},
        {"destination": "/x", "type": "bind", "source": "../../etc"},
        "a string",
    ],
)
def test_no_mount_from_outside(inside: Path, mount: Any) -> None:
    write_config(inside / "bundle", {"mounts": [mount]})
    assert_refused(inside, CreateArgs(container="c", bundle=str(inside / "bundle")))


def test_no_mount_of_a_spec_from_outside(inside: Path) -> None:
    spec = ContainerSpec(rootfs=str(inside / "bundle" / "rootfs"), args=["true"], mounts=[Mount(source="/etc", destination="/x")])
    assert_refused(inside, CreateArgs(container="c", spec=spec))


def test_no_hooks(inside: Path) -> None:
    write_config(inside / "bundle", {"hooks": {"prestart": [{"path": "/bin/sh"}]}})
    assert_refused(inside, CreateArgs(container="c", bundle=str(inside / "bundle")))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
MEMBERS = st.sampled_from(["process", "root", "mounts", "linux", "hooks", "hostname", "ociVersion"])


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.dictionaries(MEMBERS, JSON, max_size=4))
def test_any_configuration_is_taken_or_refused_and_never_breaks(inside: Path, changes: dict[str, Any]) -> None:
    write_config(inside / "bundle", changes)
    try:
        make(inside, CreateArgs(container="c", bundle=str(inside / "bundle")))
    except CorralError as why:
        assert why.code in ("bundle_invalid", "bad_request")


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=300))
def test_any_bytes_in_place_of_a_configuration_are_refused(inside: Path, content: bytes) -> None:
    (inside / "bundle" / "config.json").write_bytes(content)
    with pytest.raises(CorralError) as caught:
        make(inside, CreateArgs(container="c", bundle=str(inside / "bundle")))
    assert caught.value.code == "bundle_invalid"
