"""What `corral doctor` finds on a machine."""

import os
from pathlib import Path

import pytest

from corral.cli.up import checks

V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = "".join(f"3{n} 23 0:2{n} / /cg/{name} rw - cgroup cgroup rw,{name}\n" for n, name in enumerate(("memory", "cpu,cpuacct", "pids")))


@pytest.mark.parametrize(
    ("mountinfo", "verdict", "says"),
    [("", "fail", "no cgroup file system"), (V1, "ok", "v1"), (V1.replace("pids", "freezer"), "warn", "without pids")],
)
def test_cgroups_of_every_kind(mountinfo: str, verdict: str, says: str) -> None:
    finding = checks.check_cgroups(mountinfo)
    assert finding.verdict == verdict
    assert says in finding.found
    assert bool(finding.advice) == (verdict != "ok")


def test_cgroups_beside_v2_are_hybrid() -> None:
    assert "hybrid" in checks.check_cgroups(V1 + V2.replace("/sys/fs/cgroup", "/none")).found


def test_a_runtime_is_tried_out(tmp_path: Path) -> None:
    program = tmp_path / "runtime"
    assert checks.check_runtime(str(program)).found.endswith("is not there")
    program.write_text("#!/bin/sh\nexit 3\n")
    assert "is not executable" in checks.check_runtime(str(program)).found
    program.chmod(0o755)
    assert "ends with status 3" in checks.check_runtime(str(program)).found
    program.write_text("#!/bin/sh\necho mine 1.0\n")
    assert checks.check_runtime(str(program)) == checks.Finding("runtime", "ok", f"{program}: mine 1.0")


def test_directories_sockets_disk_and_files(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert checks.check_directory("state directory", tmp_path / "file" / "x", "--state-dir").verdict == "fail"
    assert checks.check_directory("state directory", tmp_path / "new" / "x", "--state-dir").verdict == "ok"
    assert checks.check_socket_paths(Path("/run/corral")).verdict == "ok"
    assert checks.check_socket_paths(Path("/tmp/" + 80 * "x")).verdict == "fail"
    assert checks.check_disk(tmp_path / "new").found.endswith(f"for {tmp_path / 'new'}")
    assert [checks.check_open_files(256, hard).verdict for hard in (1 << 20, 4096, 256)] == ["ok", "warn", "fail"]
    assert checks.check_user(0).verdict == "ok"
    assert checks.check_user(1000).verdict == "warn"


def test_every_finding_that_is_not_ok_says_what_to_do(tmp_path: Path) -> None:
    for finding in checks.machine_findings("/no/such/runtime", tmp_path, tmp_path):
        assert finding.verdict == "ok" or finding.advice, finding


def test_the_clock_is_looked_at_without_setting_it() -> None:
    before = os.times().elapsed
    assert checks.check_clock().verdict in ("ok", "warn")
    assert os.times().elapsed - before < 5
