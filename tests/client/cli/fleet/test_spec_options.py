"""Docker's options that set one member of a spec each: what they mean, and what is wrong usage of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from corral import ContainerSpec
from corral.cli.fleet.container_options import SPEC_OPTIONS, ContainerOptions
from corral.cli.main import corral
from corral_schemas.containers import Device


@pytest.fixture
def spec(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Reads the options of `corral create` into the spec that they mean."""
    made: list[ContainerSpec | None] = []
    whole = ContainerOptions.spec

    def kept(self: ContainerOptions) -> ContainerSpec | None:
        made.append(whole(self))
        raise KeyboardInterrupt  # nothing is sent

    monkeypatch.setattr(ContainerOptions, "spec", kept)

    def read(*options: str) -> ContainerSpec:
        CliRunner().invoke(corral, ["create", "-g", "g1", "--rootfs", "/r", *options, "true"])
        assert made[-1] is not None
        return made[-1]

    return read


def refused(*options: str) -> Result:
    return CliRunner().invoke(corral, ["create", "--rootfs", "/r", *options, "true"])


def test_capabilities_are_named_with_or_without_cap(spec: Any) -> None:
    made = spec("--cap-add", "net_admin", "--cap-add", "CAP_SYS_TIME", "--cap-drop", "ALL")
    assert (made.cap_add, made.cap_drop) == (["CAP_NET_ADMIN", "CAP_SYS_TIME"], ["ALL"])


@pytest.mark.parametrize(
    ("given", "member", "value"),
    [
        ("no-new-privileges", "no_new_privileges", True),
        ("no-new-privileges:true", "no_new_privileges", True),
        ("no-new-privileges=false", "no_new_privileges", False),
        ("seccomp=unconfined", "seccomp", "unconfined"),
        ("seccomp:unconfined", "seccomp", "unconfined"),
        ("seccomp=builtin", "seccomp", "default"),
    ],
)
def test_security_options_are_spelled_as_dockers(spec: Any, given: str, member: str, value: object) -> None:
    assert getattr(spec("--security-opt", given), member) == value


def test_a_seccomp_profile_is_read_from_a_file_here(spec: Any, tmp_path: Path) -> None:
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": []}
    (tmp_path / "profile.json").write_text(json.dumps(profile))
    assert spec("--security-opt", f"seccomp={tmp_path}/profile.json").seccomp == profile


def test_devices_and_privileges(spec: Any) -> None:
    made = spec("--privileged", "--device", "/dev/kvm", "--device", "/dev/a:/dev/b:r", "--device", "/dev/c:w")
    assert made.privileged
    assert made.devices == [
        Device(source="/dev/kvm"),
        Device(source="/dev/a", destination="/dev/b", permissions="r"),
        Device(source="/dev/c", permissions="w"),
    ]


WRONG = [
    ("--cap-add", "NOPE"),
    ("--cap-drop", ""),
    ("--security-opt", "apparmor=x"),
    ("--security-opt", "no-new-privileges=maybe"),
    ("--security-opt", "seccomp"),
    ("--security-opt", "seccomp=/none"),
    ("--security-opt", "seccomp=/etc/hostname"),
    ("--device", "kvm"),
    ("--device", "/dev/kvm:x"),
    ("--device", "/a:/b:rw:x"),
]


@pytest.mark.parametrize(("flag", "value"), WRONG)
def test_a_wrong_value_is_wrong_usage_of_its_option(flag: str, value: str) -> None:
    said = refused(flag, value)
    assert said.exit_code == 2
    assert said.stderr.startswith(f"corral: Invalid value for '{flag}': ")


def test_in_a_bundle_they_change_nothing_and_are_refused() -> None:
    for option in SPEC_OPTIONS:
        if not option.metavar:
            said = CliRunner().invoke(corral, ["create", "--bundle", "/b", option.flags[-1]])
            assert (said.exit_code, f"{option.flags[-1]} changes nothing in a bundle" in said.stderr) == (2, True)
