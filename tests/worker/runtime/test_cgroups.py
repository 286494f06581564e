"""What is read from cgroup directories of each kind (files as the kernel lays them out, in a directory of the test)."""

from __future__ import annotations

from pathlib import Path

import pytest

from corral_worker.runtime.cgroups import cgroup_version, is_frozen, pids_in, process_state, stats

V1 = {
    "memory/memory.usage_in_bytes": "4096\n",
    "memory/memory.limit_in_bytes": "9223372036854771712\n",
    "memory/memory.max_usage_in_bytes": "8192\n",
    "memory/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
    "pids/pids.current": "3\n",
    "pids/pids.max": "max\n",
    "cpuacct/cpuacct.usage": "123456\n",
}
V2 = {
    "unified/memory.current": "5\n",
    "unified/memory.max": "6\n",
    "unified/memory.peak": "7\n",
    "unified/memory.events": "low 0\noom 1\noom_kill 1\n",
    "unified/pids.current": "8\n",
    "unified/pids.max": "9\n",
    "unified/cpu.stat": "usage_usec 10\nuser_usec 4\n",
}


def laid_out(directory: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)


def test_v1_gives_every_figure_and_no_limit_is_none(tmp_path: Path) -> None:
    laid_out(tmp_path, V1)
    found = stats({name: tmp_path / name for name in ("memory", "pids", "cpuacct")})
    assert (found.memory_bytes, found.memory_limit_bytes, found.memory_max_usage_bytes) == (4096, None, 8192)
    assert (found.pids, found.pids_limit, found.cpu_ns, found.oom_kills) == (3, None, 123456, 2)


def test_v2_gives_every_figure(tmp_path: Path) -> None:
    laid_out(tmp_path, V2)
    found = stats({"": tmp_path / "unified"})
    assert (found.memory_bytes, found.memory_limit_bytes, found.memory_max_usage_bytes) == (5, 6, 7)
    assert (found.pids, found.pids_limit, found.cpu_ns, found.oom_kills) == (8, 9, 10_000, 1)


def test_with_both_mounted_each_figure_comes_from_where_its_controller_is(tmp_path: Path) -> None:
    laid_out(tmp_path, {**V1, "unified/cgroup.procs": ""})
    found = stats({"": tmp_path / "unified", "memory": tmp_path / "memory", "pids": tmp_path / "pids", "cpuacct": tmp_path / "cpuacct"})
    assert (found.memory_bytes, found.pids, found.cpu_ns, found.oom_kills) == (4096, 3, 123456, 2)
    laid_out(tmp_path, {"unified/memory.current": "77\n"})
    assert stats({"": tmp_path / "unified", "pids": tmp_path / "pids"}).memory_bytes == 77


def test_a_cgroup_that_is_gone_gives_no_figures(tmp_path: Path) -> None:
    for paths in ({}, {"": tmp_path / "gone"}, {"memory": tmp_path / "gone", "pids": tmp_path / "gone"}):
        found = stats(paths)
        assert (found.memory_bytes, found.pids, found.cpu_ns, found.oom_kills) == (None, None, None, 0)
        assert pids_in(paths) == []
        assert not is_frozen(paths)


def test_processes_of_cgroups_below_count(tmp_path: Path) -> None:
    laid_out(tmp_path, {"cgroup.procs": "5\n3\n", "a/cgroup.procs": "4\n", "a/b/cgroup.procs": "3\n"})
    assert pids_in({"": tmp_path}) == [3, 4, 5]


@pytest.mark.parametrize(("text", "frozen"), [("FROZEN\n", True), ("FREEZING\n", True), ("THAWED\n", False)])
def test_a_v1_freezer_is_asked_first(tmp_path: Path, text: str, frozen: bool) -> None:
    laid_out(tmp_path, {"freezer.state": text, "cgroup.freeze": "0\n"})
    assert is_frozen({"freezer": tmp_path, "": tmp_path}) is frozen


def test_v2_has_a_file_for_it(tmp_path: Path) -> None:
    laid_out(tmp_path, {"cgroup.freeze": "1\n"})
    assert is_frozen({"": tmp_path})


def test_the_kind_of_cgroups_is_told(tmp_path: Path) -> None:
    assert cgroup_version(tmp_path) == "none"
    (tmp_path / "pids").mkdir()
    assert cgroup_version(tmp_path) == "v1"
    laid_out(tmp_path, {"unified/cgroup.controllers": ""})
    assert cgroup_version(tmp_path) == "hybrid"
    laid_out(tmp_path, {"cgroup.controllers": ""})
    assert cgroup_version(tmp_path) == "v2"


def test_a_process_that_is_gone_has_no_state() -> None:
    assert process_state(1 << 30) is None
