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
from corral_schemas.containers import Device, Mount, Tmpfs, Ulimit


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


def test_limits_are_spelled_as_dockers(spec: Any) -> None:
    made = spec(
        *("-m", "64m", "--memory-swap", "128m", "--memory-reservation", "32m", "-c", "512", "--cpuset-cpus", "0-1,3", "--cpuset-mems", "0"),
        *("--shm-size", "1g", "--oom-score-adj", "-500", "--cgroup-parent", "/tenants/a", "--ulimit", "nofile=9:10", "--ulimit", "core=-1"),
    )
    assert (made.memory_swap_bytes, made.memory_reservation_bytes, made.cpu_shares) == (128 << 20, 32 << 20, 512)
    assert (made.cpuset_cpus, made.cpuset_mems, made.shm_bytes) == ("0-1,3", "0", 1 << 30)
    assert (made.oom_score_adj, made.cgroup_parent) == (-500, "/tenants/a")
    assert made.ulimits == [Ulimit(name="nofile", soft=9, hard=10), Ulimit(name="core", soft=-1, hard=-1)]
    assert spec("-m", "64m", "--memory-swap", "-1").memory_swap_bytes == -1


def test_what_it_has_inside_is_spelled_as_dockers(spec: Any) -> None:
    made = spec(
        *("-v", "/a:/b", "--mount", "type=bind,src=/c,dst=/d,readonly,bind-propagation=rslave", "--mount", "type=tmpfs,target=/e"),
        *("--tmpfs", "/run:size=64m,mode=755,exec", "--sysctl", "net.core.somaxconn=9", "--sysctl", "net/ipv4/ip_forward=1"),
        *("--group-add", "audio", "--group-add", "7", "--pid", "container:web", "--ipc", "host", "--uts", "private"),
    )
    assert made.mounts == [Mount(source="/a", destination="/b"), Mount(source="/c", destination="/d", readonly=True, propagation="rslave")]
    assert made.tmpfs == [Tmpfs(destination="/e"), Tmpfs(destination="/run", options=["size=64m", "mode=755", "exec"])]
    assert made.sysctls == {"net.core.somaxconn": "9", "net.ipv4.ip_forward": "1"}
    assert (made.groups, made.pid, made.ipc, made.uts) == (["audio", "7"], "container:web", "host", "")


WRONG = [
    ("--memory-swap", "0"),
    ("--cpu-shares", "1"),
    ("--cpuset-cpus", "one"),
    ("--shm-size", "0"),
    ("--shm-size", "x"),
    ("--ulimit", "nofile"),
    ("--ulimit", "files=1"),
    ("--ulimit", "nofile=2:1"),
    ("--ulimit", "nofile=1:2:3"),
    ("--oom-score-adj", "1001"),
    ("--oom-score-adj", "x"),
    ("--mount", "type=volume,target=/x"),
    ("--mount", "source=/a,target=/x"),
    ("--mount", "type=bind,source=a,target=/x"),
    ("--mount", "type=bind,source=/a,target=x"),
    ("--mount", "type=bind,source=/a,src=/a,target=/x"),
    ("--mount", "type=bind,source=/a,target=/x,ro=perhaps"),
    ("--mount", "type=bind,source=/a,target=/x,colour=red"),
    ("--mount", "type=bind,source=/a,target=/x,bind-propagation=up"),
    ("--mount", "type=tmpfs,target=/x,tmpfs-size=big"),
    ("--mount", "type=tmpfs,target=/x,tmpfs-mode=rwx"),
    ("--tmpfs", "run"),
    ("--tmpfs", "/run:lowerdir=/etc"),
    ("--sysctl", "net.core.somaxconn"),
    ("--sysctl", "=1"),
    ("--pid", "mine"),
    ("--pid", "container:"),
    ("--ipc", "container:web"),
    ("--uts", "web"),
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
    assert said.stderr.startswith("corral: Invalid value for '")
    assert f"'{flag}': " in said.stderr.splitlines()[0]


@pytest.mark.parametrize("options", [("--memory-swap", "1g"), ("--uts", "host", "-h", "web")], ids=lambda options: options[0])
def test_options_that_do_not_go_together_are_wrong_usage(options: tuple[str, ...]) -> None:
    said = refused(*options)
    assert said.exit_code == 2
    assert options[0] in said.stderr


def test_in_a_bundle_they_change_nothing_and_are_refused() -> None:
    for option in SPEC_OPTIONS:
        if not option.metavar:
            said = CliRunner().invoke(corral, ["create", "--bundle", "/b", option.flags[-1]])
            assert (said.exit_code, f"{option.flags[-1]} changes nothing in a bundle" in said.stderr) == (2, True)
