"""Where a container's cgroup is when its bundle names one."""

from __future__ import annotations

from pathlib import Path

import pytest

from corral_schemas.errors import CorralError
from corral_worker.runtime import named_cgroup
from corral_worker.runtime.named_cgroup import cgroup_below
from corral_worker.shim.cgroup import cgroup

INSTANCE = "01k9vw2zzzq5t8m2hxj7r4c0ad"
OWN = f"/corral/g1/0123abcd/{INSTANCE}"


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        (None, OWN),
        ("", OWN),
        ("/a/b", f"/a/b/corral-{INSTANCE}"),
        ("a/b", f"/a/b/corral-{INSTANCE}"),
        ("/", f"/corral-{INSTANCE}"),
        ("../../a/../b/", f"/b/corral-{INSTANCE}"),
        ("//a", f"/a/corral-{INSTANCE}"),
        ("/corralled", f"/corralled/corral-{INSTANCE}"),
        ("a.slice:b:c", f"/a.slice:b:c/corral-{INSTANCE}"),
    ],
)
def test_it_is_one_level_below(asked: str | None, given: str) -> None:
    assert cgroup_below(asked, OWN, ()) == given


def test_with_systemd_it_is_a_unit_of_its_own_in_the_slice_that_is_named() -> None:
    assert cgroup_below("a.slice:b:c", OWN, (), systemd=True) == f"a.slice:b:c-corral-{INSTANCE}"


@pytest.mark.parametrize("asked", ["/corral", "/corral/g1", "corral/x", "/a/../corral/x", f"/a/corral-{INSTANCE}/b", 7, ["/a"], "/a\0b"])
def test_what_is_corrals_or_no_path_is_refused(asked: object) -> None:
    with pytest.raises(CorralError) as refusal:
        cgroup_below(asked, OWN, ())
    assert refusal.value.code == "bundle_invalid"


def test_with_allowed_roots_it_lies_below_one_in_every_hierarchy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(named_cgroup, "hierarchies", lambda: {"pids": "/cg/pids", "memory": "/cg/memory"})
    roots = (Path("/srv"), Path("/cg/pids/tenant"), Path("/cg/memory/tenant"))
    assert cgroup_below("/tenant/x", OWN, roots) == f"/tenant/x/corral-{INSTANCE}"
    assert cgroup_below(None, OWN, roots) == OWN
    for asked in ("/tenants", "/", "/tenant/../x"):
        with pytest.raises(CorralError, match="outside the roots allowed"):
            cgroup_below(asked, OWN, roots)
    with pytest.raises(CorralError, match="outside the roots allowed"):
        cgroup_below("/tenant", OWN, roots[:2])


def test_on_v2_alone_one_that_has_processes_of_others_is_refused_for_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "cgroup.procs").write_text("")
    (tmp_path / "a" / "b" / "cgroup.procs").write_text("7\n")
    monkeypatch.setattr(cgroup, "hierarchies", lambda: {"": str(tmp_path)})
    assert cgroup_below("/a", OWN, ()) == f"/a/corral-{INSTANCE}"
    assert cgroup_below("/new/b", OWN, ()) == f"/new/b/corral-{INSTANCE}"
    for asked in ("/a/b", "/a/b/c/d"):
        with pytest.raises(CorralError, match="in /a/b are processes of others") as refusal:
            cgroup_below(asked, OWN, ())
        assert refusal.value.code == "bundle_invalid"
    monkeypatch.setattr(cgroup, "hierarchies", lambda: {"": str(tmp_path), "pids": str(tmp_path)})
    assert cgroup_below("/a/b", OWN, ()) == f"/a/b/corral-{INSTANCE}"


@pytest.mark.parametrize(("controller", "file", "state"), [("freezer", "freezer.state", "FROZEN\n"), ("", "cgroup.freeze", "1\n")])
def test_one_that_is_frozen_is_refused_for_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, controller: str, file: str, state: str
) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / file).write_text(state)
    monkeypatch.setattr(cgroup, "hierarchies", lambda: {controller: str(tmp_path), "pids": str(tmp_path)})
    assert cgroup_below("/a", OWN, ()) == f"/a/corral-{INSTANCE}"
    for asked in ("/a/b", "/a/b/c"):
        with pytest.raises(CorralError, match="/a/b is frozen") as refusal:
            cgroup_below(asked, OWN, ())
        assert refusal.value.code == "bundle_invalid"


def test_only_one_that_is_named_after_the_instance_is_a_containers_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an earlier Corral let a container into is read, but nobody in it is signalled."""
    monkeypatch.setattr(cgroup, "hierarchies", lambda: {"": str(tmp_path)})
    (tmp_path / "named").mkdir()
    (tmp_path / "named" / "cgroup.procs").write_text("7\n")
    bundle = tmp_path / "instances" / INSTANCE / "bundle"
    bundle.mkdir(parents=True)
    (bundle / "config.json").write_text('{"linux": {"cgroupsPath": "/named"}}')
    assert cgroup.cgroup_paths(tmp_path, tmp_path, INSTANCE) == {"": f"{tmp_path}/named"}
    found = cgroup.find_cgroup(tmp_path, tmp_path, INSTANCE)
    assert (found.pids(), found.exists()) == (set(), False)
