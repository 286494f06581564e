"""Texts of runtimes → codes: those of runc 1.1.5 and crun 1.8.1 as the programs say them, those of later runc from its users'
reports, those of later crun from its source."""

from __future__ import annotations

import pytest

from corral_schemas.errors import TABLE
from corral_worker.runtime.runtime_errors import code_for, error_for

CREATE = "runc create failed: unable to start container process: "
IN_INIT = f"{CREATE}error during container init: "
"""As runc says it since 1.2."""

RUNC_1_1 = [
    ("container does not exist", "container_not_found"),
    ("runc create failed: invalid container ID format", "invalid_container_id"),
    ("runc create failed: container with given ID already exists", "container_already_exists"),
    ("cannot start a container in the paused state", "container_still_running"),
    ("cannot start an already running container", "container_still_running"),
    ("cannot start a container that has stopped", "container_not_running"),
    ("container not paused", "container_invalid_state"),
    ("container not running", "container_not_running"),
    ("container still running", "container_still_running"),
    ("exec failed: cannot exec in a paused container (use --ignore-paused to override)", "container_invalid_state"),
    ("exec failed: cannot exec in a stopped container", "container_not_running"),
    ("cannot delete container x that is not stopped: running", "container_not_stopped"),
    ("cannot delete container x that is not stopped: paused", "container_not_stopped"),
    ('exec failed: unable to start container process: exec: "nosuch": executable file not found in $PATH', "command_not_found"),
    (
        CREATE + 'exec: "/no/such": stat /no/such: no such file or directory',
        "command_not_found",
    ),
    (CREATE + 'exec: "/etc/passwd": permission denied', "command_not_executable"),
    ('exec failed: unable to start container process: exec: "/etc": permission denied', "command_not_executable"),
    (
        'exec failed: unable to start container process: chdir to cwd ("/nope") set in config.json failed: no such file or directory',
        "bad_request",
    ),
    ("runc create failed: invalid rootfs: stat /b/rootfs: no such file or directory", "bundle_invalid"),
    ("json: cannot unmarshal string into Go struct field LinuxResources.memory of type specs.LinuxMemory", "bundle_invalid"),
    ("JSON specification file config.json not found", "bundle_invalid"),
    ("write /run/runc/x/state.json: no space left on device", "storage_full"),
]
RUNC_1_2_AND_1_3 = [
    (IN_INIT + 'exec: "sh": executable file not found in $PATH', "command_not_found"),
    (IN_INIT + 'exec: "/bin/sh": stat /bin/sh: no such file or directory', "command_not_found"),
    (IN_INIT + 'exec: "/entrypoint.sh": permission denied', "command_not_executable"),
    (IN_INIT + 'exec: "/etc": is a directory', "command_not_executable"),
    ("runc exec failed: cannot exec in a stopped container", "container_not_running"),
]
CRUN = [
    ("error opening file `/run/crun/x/status`: No such file or directory", "container_not_found"),
    ("container `x` already exists", "container_already_exists"),
    ("cannot open `/run/crun/x/exec.fifo`: No such file or directory", "container_invalid_state"),
    ("the container `x` is not in `created` or `stopped` state", "container_not_stopped"),
    ("executable file `nosuch` not found in $PATH: No such file or directory", "command_not_found"),
    ("executable file `/no/such` not found in $PATH: No such file or directory", "command_not_found"),
    ("open executable: Permission denied", "command_not_executable"),
    ("open executable: Operation not permitted", "command_not_executable"),
    ("exec: Exec format error", "command_not_executable"),
    ("chdir `/nope`: No such file or directory", "bad_request"),
    ("make `rootfs` private: No such file or directory", "bundle_invalid"),
]
CRUN_1_21_TO_1_28 = [
    ("the path `/etc/passwd` exists but it is not executable: Operation not permitted", "command_not_executable"),
    ("the path `/etc` is not a regular file: Operation not permitted", "command_not_executable"),
    ("executable file `/no/such` not found: No such file or directory", "command_not_found"),
    ("chdir to `/nope`: No such file or directory", "bad_request"),
    ("the container `x` is paused", "container_invalid_state"),
    ("the container `x` is not running", "container_not_running"),
    ("the rootfs path `/b/rootfs` does not exist: No such file or directory", "bundle_invalid"),
    ("invalid character `/` in the container ID `a/b`", "invalid_container_id"),
]
UNKNOWN = [
    "",
    "cgroups in hybrid mode not supported, drop all controllers from cgroupv2",
    "cannot pause the container without a cgroup",
    "some sentence that no runtime has said yet",
    'user "nobody" does not exist',
    "fail startup",
]


@pytest.mark.guarantee(18)
@pytest.mark.parametrize(("text", "code"), RUNC_1_1 + RUNC_1_2_AND_1_3 + CRUN + CRUN_1_21_TO_1_28)
def test_a_known_text_has_its_code(text: str, code: str) -> None:
    assert code_for(text) == code
    assert code in TABLE


@pytest.mark.parametrize("text", UNKNOWN)
def test_an_unknown_text_is_runtime_failed(text: str) -> None:
    assert code_for(text) == "runtime_failed"


def test_the_text_and_the_status_are_kept() -> None:
    failure = error_for("some sentence that no runtime has said yet", 77)
    assert failure.code == "runtime_failed"
    assert failure.message == "some sentence that no runtime has said yet"
    assert failure.details["exit_status"] == 77
    assert failure.hresult == 0x80004005 - (1 << 32)


def test_a_runtime_that_says_nothing_still_gives_a_sentence() -> None:
    assert error_for("", -9).message == "the runtime ended with status -9 and said nothing"
