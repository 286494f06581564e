"""Who is signalled first, where all are."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from corral_worker.shim.cgroup import cgroup as cgroups
from corral_worker.shim.cgroup.cgroup import Cgroup


@pytest.mark.parametrize("init", [1001, 1004, 1008, 1023])
def test_init_comes_first_since_it_may_end_by_itself_once_its_children_are_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, init: int
) -> None:
    pids = range(1000, 1024)
    (tmp_path / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in pids))
    signalled: list[int] = []
    monkeypatch.setattr(cgroups, "send_signal", lambda pid, number: signalled.append(pid))
    assert Cgroup({"": str(tmp_path)}).signal_all(signal.SIGTERM, init) == set(pids)
    assert signalled[0] == init
    assert sorted(signalled) == list(pids)
