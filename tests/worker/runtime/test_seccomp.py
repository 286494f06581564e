"""The filter of system calls: the default one by capability and machine, and profiles in docker's form."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from corral_schemas.capabilities import DEFAULT as CAPABILITIES
from corral_schemas.errors import CorralError
from corral_worker.runtime.seccomp import default_filter, filter_of_profile, kernel_version


def denied(filtered: dict[str, Any]) -> set[str]:
    """Calls that are refused whatever their arguments."""
    return {name for rule in filtered["syscalls"] if "args" not in rule for name in rule["names"]}


@pytest.mark.parametrize(
    ("capability", "call"),
    [
        ("CAP_SYS_ADMIN", "mount"),
        ("CAP_SYS_ADMIN", "bpf"),
        ("CAP_BPF", "bpf"),
        ("CAP_SYS_ADMIN", "clone3"),
        ("CAP_SYS_TIME", "clock_settime"),
        ("CAP_SYS_BOOT", "reboot"),
        ("CAP_PERFMON", "perf_event_open"),
    ],
)
def test_a_call_is_denied_until_the_container_has_the_capability_for_it(capability: str, call: str) -> None:
    assert call in denied(default_filter(CAPABILITIES))
    assert call not in denied(default_filter([*CAPABILITIES, capability]))


def test_keyrings_and_io_uring_are_denied_whatever_the_capabilities() -> None:
    everything = [*CAPABILITIES, "CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "CAP_BPF"]
    assert {"keyctl", "add_key", "io_uring_setup", "userfaultfd", "kexec_load"} <= denied(default_filter(everything))


@pytest.mark.parametrize(
    ("machine", "architectures", "flags_at"),
    [
        ("x86_64", ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"], 0),
        ("aarch64", ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"], 0),
        ("s390x", ["SCMP_ARCH_S390X", "SCMP_ARCH_S390"], 1),
        ("riscv64", None, 0),
    ],
)
def test_a_machine_has_its_own_calls_and_its_32_bit_ones(machine: str, architectures: list[str] | None, flags_at: int) -> None:
    made = default_filter(CAPABILITIES, machine)
    assert made.get("architectures") == architectures
    assert {rule["args"][0]["index"] for rule in made["syscalls"] if rule["names"] == ["clone"]} == {flags_at}


DOCKERS = {
    "defaultAction": "SCMP_ACT_ERRNO",
    "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}, {"architecture": "SCMP_ARCH_AARCH64"}],
    "syscalls": [
        {"names": ["read"], "action": "SCMP_ACT_ALLOW", "comment": "x", "includes": {}, "excludes": {}, "args": None},
        {"name": "write", "action": "SCMP_ACT_ALLOW"},
        {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
        {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_CHOWN"]}},
        {"names": ["arch_prctl"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["amd64"]}},
        {"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}},
        {"names": ["later"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "99.0"}},
        {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.ENOSYS},
    ],
}


def test_a_profile_of_dockers_keeps_what_holds_here() -> None:
    made = filter_of_profile(DOCKERS, CAPABILITIES, "x86_64")
    assert [rule["names"] for rule in made["syscalls"]] == [["read"], ["write"], ["arch_prctl"], ["ptrace"], ["clone3"]]
    assert made["architectures"] == ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]
    assert made["syscalls"][0] == {"names": ["read"], "action": "SCMP_ACT_ALLOW"}
    assert made["syscalls"][-1]["errnoRet"] == errno.ENOSYS
    other = filter_of_profile(DOCKERS, ["CAP_SYS_ADMIN"], "aarch64")
    assert [rule["names"] for rule in other["syscalls"]] == [["read"], ["write"], ["mount"], ["clone"], ["ptrace"], ["clone3"]]
    assert other["architectures"] == ["SCMP_ARCH_AARCH64"]


def test_a_profile_of_the_oci_stays_as_it_is() -> None:
    rule = {"names": ["getcwd"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1, "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]}
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1, "architectures": ["SCMP_ARCH_X86"], "syscalls": [rule]}
    assert filter_of_profile(profile, CAPABILITIES) == profile


@pytest.mark.parametrize(
    "profile",
    [
        {},
        {"defaultAction": 1},
        {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": {}},
        {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": ["read"]},
        {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "includes": []}, {"includes": [1]}]},
    ],
)
def test_what_is_no_profile_is_a_bad_request(profile: dict[str, Any]) -> None:
    with pytest.raises(CorralError, match="seccomp profile") as refusal:
        filter_of_profile(profile, CAPABILITIES)
    assert refusal.value.code == "bad_request"


def test_the_kernels_version_is_two_numbers() -> None:
    assert len(kernel_version()) == 2 and kernel_version() >= (4, 8)
