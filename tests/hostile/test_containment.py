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
    linux = {"namespaces": [{"type": "mount"}, {"type": "pid"}]}
    config = {"ociVersion": "1.0.2", "process": {"args": ["true"]}, "root": {"path": "rootfs"}, "linux": linux, **changes}
    (bundle / "config.json").write_text(json.dumps(config))


def make(inside: Path, args: CreateArgs, *, privileged: bool = False) -> dict[str, Any]:
    directory = inside.parent / "made"
    make_bundle(args, directory, "/cg", (inside.resolve(),), privileged=privileged)
    made: dict[str, Any] = json.loads((directory / "config.json").read_text())
    return made


def assert_refused(inside: Path, args: CreateArgs, code: str = "bundle_invalid", said: str = "") -> None:
    with pytest.raises(CorralError) as caught:
        make(inside, args)
    assert caught.value.code == code and said in caught.value.message, caught.value
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
        {"destination": "/x", "type": "overlay", "source": "/etc/hosts", "options": ["ro", "lowerdir=/etc"]},
        {"destination": "/x", "type": "bind", "source": "/etc/hosts", "options": ["bind", "ro"]},
        {"destination": "/x", "type": "overlay", "options": ["lowerdir=/etc:/srv", "upperdir=/srv/u", "workdir=/srv/w"]},
        {"destination": "/x", "type": ["bind"], "source": "/etc"},
        {"destination": "/x", "type": "tmpfs", "source": ["/etc"]},
        {"destination": "/x", "type": "tmpfs", "source": "tmpfs", "options": {"bind": 1}},
        {"destination": "/x", "type": "bind", "source": "/etc\0"},
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


def test_a_bind_mount_of_another_type_is_given_on_as_a_bind_mount(inside: Path) -> None:
    mount = {"destination": "/x", "type": "overlay", "source": str(inside), "options": ["rbind", "lowerdir=/etc"]}
    write_config(inside / "bundle", {"mounts": [mount]})
    [made] = make(inside, CreateArgs(container="c", bundle=str(inside / "bundle")))["mounts"]
    assert (made["type"], made["source"]) == ("bind", str(inside.resolve()))


OTHER_SPELLINGS: list[tuple[dict[str, Any], str]] = [
    ({"Hooks": {"prestart": [{"path": "/bin/sh"}]}}, "'Hooks' is spelt 'hooks'"),
    ({"mount\u017f": []}, "is spelt 'mounts'"),
    ({"MOUNTS": []}, "'MOUNTS' is spelt 'mounts'"),
    ({"hoo\u212as": {}}, "is spelt 'hooks'"),
    ({"root": {"path": "rootfs", "Path": "/"}}, "'root.Path' is spelt 'path'"),
    ({"mounts": [{"destination": "/x", "type": "tmpfs", "source": "tmpfs", "Source": "/etc"}]}, "'mounts.Source' is spelt 'source'"),
    ({"linux": {"CgroupsPath": "/x"}}, "'linux.CgroupsPath' is spelt 'cgroupsPath'"),
    ({"linux": {"resources": {"rdma": {"mlx": {"HCAHandles": 1}}}}}, "is spelt 'hcaHandles'"),
]


@pytest.mark.parametrize(("changes", "said"), OTHER_SPELLINGS)
def test_a_member_in_other_letter_cases_is_refused_with_and_without_roots(inside: Path, changes: dict[str, Any], said: str) -> None:
    write_config(inside / "bundle", changes)
    args = CreateArgs(container="c", bundle=str(inside / "bundle"))
    assert_refused(inside, args, said=said)
    with pytest.raises(CorralError, match=r"bundle_invalid.*spelt"):
        make_bundle(args, inside.parent / "made", "/cg")


def test_names_that_the_caller_chooses_may_be_spelt_as_he_likes(inside: Path) -> None:
    linux = {"namespaces": [{"type": "mount"}, {"type": "pid"}], "sysctl": {"Kernel": "1"}, "resources": {"unified": {"CPU": "1"}}}
    write_config(inside / "bundle", {"annotations": {"Root": "x", "HOOKS": "y"}, "linux": linux})
    made = make(inside, CreateArgs(container="c", bundle=str(inside / "bundle")))
    assert made["annotations"] == {"Root": "x", "HOOKS": "y"} and made["linux"]["sysctl"] == {"Kernel": "1"}


OWN = [{"type": "mount"}, {"type": "pid"}]
DISK = {"type": "b", "major": 8, "minor": 0}
BEYOND: list[tuple[dict[str, Any], str]] = [
    ({"linux": {"namespaces": [*OWN, {"type": "network", "path": "/proc/1/ns/net"}]}}, "the network namespace at /proc/1/ns/net"),
    ({"linux": {"namespaces": [{"type": "mount"}]}}, "without a pid namespace of its own"),
    ({"linux": {"namespaces": [{"type": "pid"}]}}, "without a mount namespace of its own"),
    ({"linux": {"namespaces": OWN, "devices": [{"path": "/dev/sda", **DISK}]}}, "linux.devices /dev/sda"),
    ({"linux": {"namespaces": OWN, "resources": {"devices": [{"allow": True, "access": "rwm"}]}}}, "linux.resources.devices"),
    ({"linux": {"namespaces": OWN, "resources": {"devices": [{"allow": True, "access": "r", **DISK}]}}}, "linux.resources.devices"),
    ({"linux": {"namespaces": OWN, "netDevices": {"eth0": {}}}}, "linux.netDevices"),
    ({"linux": {"namespaces": OWN, "rootfsPropagation": "shared"}}, "linux.rootfsPropagation"),
    ({"linux": {"namespaces": OWN, "seccomp": {"listenerPath": "/run/x.sock"}}}, "linux.seccomp.listenerPath"),
    ({"linux": {"namespaces": OWN, "ofTomorrow": {"path": "/etc"}}}, "linux.ofTomorrow"),
    ({"ofTomorrow": [1]}, "ofTomorrow"),
    ({"annotations": {"run.oci.handler": "krun"}}, "annotation run.oci.handler"),
    ({"process": {"args": ["true"], "capabilities": {"bounding": ["CAP_CHOWN", "CAP_SYS_ADMIN"]}}}, "capability CAP_SYS_ADMIN"),
    ({"process": {"args": ["true"], "apparmorProfile": "unconfined"}}, "process.apparmorProfile"),
]


@pytest.mark.parametrize(("changes", "said"), BEYOND)
def test_what_reaches_beyond_the_container_is_refused_by_name_unless_the_worker_allows_privileged_ones(
    inside: Path, changes: dict[str, Any], said: str
) -> None:
    write_config(inside / "bundle", changes)
    args = CreateArgs(container="c", bundle=str(inside / "bundle"))
    assert_refused(inside, args, "unauthorized", said)
    make(inside, args, privileged=True)


def test_what_every_container_has_is_no_reason_to_refuse_it(inside: Path) -> None:
    devices = [
        {"allow": False, "access": "rwm"},
        {"allow": True, "type": "c", "access": "m"},
        {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rwm"},
        {"allow": True, "type": "c", "major": 136, "access": "rwm"},
    ]
    null = {"path": "/dev/null", "type": "c", "major": 1, "minor": 3}
    write_config(inside / "bundle", {"hooks": {}, "linux": {"namespaces": OWN, "devices": [null], "resources": {"devices": devices}}})
    make(inside, CreateArgs(container="c", bundle=str(inside / "bundle")))


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
        assert why.code in ("bundle_invalid", "bad_request", "unauthorized")


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=300))
def test_any_bytes_in_place_of_a_configuration_are_refused(inside: Path, content: bytes) -> None:
    (inside / "bundle" / "config.json").write_bytes(content)
    with pytest.raises(CorralError) as caught:
        make(inside, CreateArgs(container="c", bundle=str(inside / "bundle")))
    assert caught.value.code == "bundle_invalid"
