"""Bundles: what Corral makes of a user's bundle or of a spec, and what it says of a bad one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from corral_schemas.commands import CreateArgs
from corral_schemas.containers import ContainerSpec, Mount, OciProcess
from corral_schemas.errors import CorralError
from corral_schemas.limits import FRAME_BYTES_MAX, PIDS_LIMIT_DEFAULT
from corral_schemas.stdio import StdioOptions
from corral_worker.runtime.bundles import Bundle, exec_process, make_bundle
from corral_worker.runtime.resources import can_limit_pids, can_limit_swap

GOOD: dict[str, Any] = {
    "ociVersion": "1.0.2",
    "process": {"args": ["true"], "cwd": "/", "env": ["A=1"], "user": {"uid": 1, "gid": 1}},
    "root": {"path": "rootfs"},
    "linux": {"namespaces": [{"type": "pid"}, {"type": "mount"}]},
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A good bundle, to be spoilt."""
    directory = tmp_path / "bundle"
    (directory / "rootfs" / "tmp").mkdir(parents=True)
    (directory / "config.json").write_text(json.dumps(GOOD))
    return directory


def made(source: Path | ContainerSpec, tmp_path: Path, **stdio: Any) -> tuple[Bundle, dict[str, Any]]:
    options = StdioOptions(**stdio)
    is_bundle = isinstance(source, Path)
    args = CreateArgs(container="c1", bundle=str(source) if is_bundle else "", spec=None if is_bundle else source, stdio=options)  # type: ignore[arg-type]
    bundle = make_bundle(args, tmp_path / "own", "/corral/g1/i1")
    return bundle, json.loads((tmp_path / "own" / "config.json").read_bytes())


def changed(**members: Any) -> Callable[[Path], object]:
    return written(json.dumps({**GOOD, **members}).encode())


def written(content: bytes) -> Callable[[Path], object]:
    return lambda bundle: (bundle / "config.json").write_bytes(content)


def without_config(bundle: Path) -> None:
    (bundle / "config.json").unlink()


def with_a_directory_in_its_place(bundle: Path) -> None:
    without_config(bundle)
    (bundle / "config.json").mkdir()


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config.json": (without_config, "No such file"),
    "config.json is a directory": (with_a_directory_in_its_place, "Is a directory"),
    "broken JSON": (written(b'{"process": '), "is not JSON"),
    "empty": (written(b""), "is not JSON"),
    "not UTF-8": (written(b"\xff\xfe{}"), "is not JSON"),
    "nested too deep": (written(b"[" * 100_000), "is not JSON"),
    "a list": (written(b"[]"), "holds no object"),
    "too large": (written(b" " * (FRAME_BYTES_MAX + 1)), "larger than"),
    "no process": (changed(process=None), "no `process` object"),
    "no args": (changed(process={"cwd": "/"}), "process.args"),
    "empty args": (changed(process={"args": []}), "process.args"),
    "args of numbers": (changed(process={"args": [1]}), "process.args"),
    "no root": (changed(root="rootfs"), "no `root` object"),
    "no root.path": (changed(root={}), "root.path"),
    "rootfs not there": (lambda bundle: (bundle / "rootfs").rename(bundle / "elsewhere"), "is not a directory"),
    "rootfs is a file": (changed(root={"path": "config.json"}), "is not a directory"),
    "linux is a list": (changed(linux=[]), "`linux` is no object"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_bundle_is_bundle_invalid_and_says_what_is_wrong(source: Path, tmp_path: Path, what: str) -> None:
    spoil, said = BAD[what]
    spoil(source)
    with pytest.raises(CorralError, match=said) as refusal:
        made(source, tmp_path)
    assert refusal.value.code == "bundle_invalid"
    assert not (tmp_path / "own" / "config.json").exists()


def test_a_relative_bundle_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorralError, match="not an absolute path") as refusal:
        make_bundle(CreateArgs(container="c1", bundle="bundle"), tmp_path / "own", "/c")
    assert refusal.value.code == "bundle_invalid"


@pytest.mark.parametrize("rootfs", ["relative", "/no/such/directory", "/etc/hostname"])
def test_a_spec_needs_an_absolute_directory_as_rootfs(tmp_path: Path, rootfs: str) -> None:
    with pytest.raises(CorralError, match="not an absolute path of a directory") as refusal:
        made(ContainerSpec(rootfs=rootfs, args=["true"]), tmp_path)
    assert refusal.value.code == "bundle_invalid"


@pytest.mark.parametrize("both", [True, False])
def test_bundle_and_spec_exclude_each_other(source: Path, tmp_path: Path, both: bool) -> None:
    spec = ContainerSpec(rootfs=str(source / "rootfs"), args=["true"]) if both else None
    with pytest.raises(CorralError) as refusal:
        make_bundle(CreateArgs(container="c1", bundle=str(source) if both else "", spec=spec), tmp_path / "own", "/c")
    assert refusal.value.code == "bad_request"


def test_a_users_bundle_is_copied_with_what_corral_needs_and_itself_not_changed(source: Path, tmp_path: Path) -> None:
    before = (source / "config.json").read_bytes()
    bundle, config = made(source, tmp_path)
    assert (source / "config.json").read_bytes() == before
    assert bundle == Bundle(str(source), str(source / "rootfs"), "1.0.2", ["true"], "/corral/g1/i1", shares_pid_namespace=False)
    assert config["root"]["path"] == str(source / "rootfs")
    assert config["linux"]["cgroupsPath"] == "/corral/g1/i1"
    assert (config["process"]["terminal"], config["process"]["oomScoreAdj"]) == (False, 0)


@pytest.mark.parametrize("how", [{"type": "bind"}, {"options": ["rbind", "ro"]}, {"type": "none", "options": ["bind"]}])
def test_a_bind_mounts_source_is_relative_to_the_users_bundle(source: Path, tmp_path: Path, how: dict[str, Any]) -> None:
    mounts = [{"destination": "/a", "source": "data/../here", **how}, {"destination": "/b", "source": "/srv/x", **how}]
    others = [{"destination": "/proc", "type": "proc", "source": "proc"}, "no mount"]
    changed(mounts=[*mounts, *others])(source)
    assert [one["source"] for one in made(source, tmp_path)[1]["mounts"][:2]] == [str(source / "here"), "/srv/x"]
    assert made(source, tmp_path)[1]["mounts"][2:] == others


def test_what_the_user_chose_stays(source: Path, tmp_path: Path) -> None:
    changed(process={"args": ["x"], "oomScoreAdj": 7}, linux={"cgroupsPath": "/mine"})(source)
    bundle, config = made(source, tmp_path, tty=True, rows=3, columns=4)
    assert config["linux"]["cgroupsPath"] == bundle.cgroup == "/mine/corral-i1"
    assert config["process"]["oomScoreAdj"] == 7
    assert config["process"]["terminal"] is True
    assert config["process"]["consoleSize"] == {"height": 3, "width": 4}
    assert bundle.shares_pid_namespace


@pytest.mark.parametrize(
    ("namespaces", "shared"),
    [([{"type": "pid"}], False), ([{"type": "pid", "path": "/proc/1/ns/pid"}], True), ([], True), (None, True), (["pid"], True)],
)
def test_a_pid_namespace_that_is_not_its_own_is_seen(source: Path, tmp_path: Path, namespaces: Any, shared: bool) -> None:
    changed(linux={"namespaces": namespaces})(source)
    assert made(source, tmp_path)[0].shares_pid_namespace is shared


def test_a_spec_becomes_what_docker_would_give(source: Path, tmp_path: Path) -> None:
    spec = ContainerSpec(
        rootfs=str(source / "rootfs"), args=["sh"], env=["B=2"], cwd="/srv", user="5:6", memory_bytes=1 << 20, cpus=0.5, pids_limit=9
    )
    config = made(spec, tmp_path)[1]
    assert config["process"]["args"] == ["sh"]
    assert config["process"]["env"][1:] == ["HOSTNAME=c1", "B=2"]
    assert config["process"]["env"][0].startswith("PATH=")
    assert (config["process"]["cwd"], config["process"]["user"]) == ("/srv", {"uid": 5, "gid": 6})
    assert config["process"]["noNewPrivileges"] is False, "as docker: set-id programs work"
    assert config["root"] == {"path": str(source / "rootfs"), "readonly": True}
    resources = config["linux"]["resources"]
    assert resources["memory"]["limit"] == resources["memory"].get("swap", 1 << 20) == 1 << 20
    assert resources["cpu"] == {"period": 100_000, "quota": 50_000}
    assert resources["pids"] == {"limit": 9}
    assert {one["type"] for one in config["linux"]["namespaces"]} - {"cgroup"} == {"pid", "ipc", "uts", "mount", "network"}
    assert "/tmp" in [mount["destination"] for mount in config["mounts"]]


def test_a_writable_spec_has_no_tmpfs_and_the_hosts_network_no_namespace(source: Path, tmp_path: Path) -> None:
    config = made(ContainerSpec(rootfs=str(source / "rootfs"), args=["sh"], writable=True, network="host"), tmp_path)[1]
    assert config["root"]["readonly"] is False
    assert "/tmp" not in [mount["destination"] for mount in config["mounts"]]
    assert "network" not in {one["type"] for one in config["linux"]["namespaces"]}


@pytest.mark.parametrize(("asked", "limit"), [(None, PIDS_LIMIT_DEFAULT), (0, -1), (-1, -1), (7, 7)])
def test_a_container_has_a_limit_of_processes_unless_none_is_asked_for(source: Path, tmp_path: Path, asked: int | None, limit: int) -> None:
    config = made(ContainerSpec(rootfs=str(source / "rootfs"), args=["sh"], pids_limit=asked), tmp_path)[1]
    assert config["linux"]["resources"]["pids"] == {"limit": limit}


@pytest.mark.parametrize(
    ("hierarchies", "file", "counts"),
    [
        ({"memory": "m"}, "m/memory.memsw.limit_in_bytes", True),
        ({"memory": "m"}, "m/memory.limit_in_bytes", False),
        ({"": "u"}, "u/init.scope/memory.swap.max", True),
        ({"": "u"}, "u/init.scope/memory.max", False),
        ({}, "x", False),
    ],
)
def test_swap_is_limited_only_where_the_guest_counts_it(tmp_path: Path, hierarchies: dict[str, str], file: str, counts: bool) -> None:
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).touch()
    assert can_limit_swap({name: str(tmp_path / path) for name, path in hierarchies.items()}) is counts


@pytest.mark.parametrize(
    ("hierarchies", "controllers", "counts"),
    [({"pids": "p"}, "", True), ({"": "u"}, "cpu memory pids", True), ({"": "u"}, "cpu memory", False), ({"memory": "m"}, "pids", False)],
)
def test_processes_are_limited_only_where_the_guest_counts_them(
    tmp_path: Path, hierarchies: dict[str, str], controllers: str, counts: bool
) -> None:
    (tmp_path / "u").mkdir()
    (tmp_path / "u" / "cgroup.controllers").write_text(f"{controllers}\n")
    assert can_limit_pids({name: str(tmp_path / path) for name, path in hierarchies.items()}) is counts


@pytest.mark.parametrize(("env", "term"), [([], ["TERM=xterm"]), (["TERM=vt100"], ["TERM=vt100"])])
def test_a_terminal_has_the_term_that_is_asked_for(source: Path, tmp_path: Path, env: list[str], term: list[str]) -> None:
    made(ContainerSpec(rootfs=str(source / "rootfs"), args=["sh"], env=env), tmp_path)
    for spec in (OciProcess(args=["sh"]), OciProcess(args=["sh"], env=env)):
        process = exec_process(tmp_path / "own", spec, None, tty=True, rows=1, columns=2)
        assert set(term) == {one for one in process["env"] if one.startswith("TERM=")}


def test_mounts_come_last_and_say_whether_they_may_be_written(source: Path, tmp_path: Path) -> None:
    mounts = [Mount(source="/etc", destination="/host", readonly=True), Mount(source="/var", destination="/var")]
    config = made(ContainerSpec(rootfs=str(source / "rootfs"), args=["sh"], mounts=mounts), tmp_path)[1]
    assert [(mount["destination"], mount["options"][-1]) for mount in config["mounts"][-2:]] == [("/host", "ro"), ("/var", "rw")]


@pytest.mark.parametrize(("inside", "outside"), [("/x", "relative"), ("relative", "/etc"), ("/x", "/no/such/path")])
def test_a_mount_that_cannot_be_is_a_bad_request(source: Path, tmp_path: Path, inside: str, outside: str) -> None:
    spec = ContainerSpec(rootfs=str(source / "rootfs"), args=["sh"], mounts=[Mount(source=outside, destination=inside)])
    with pytest.raises(CorralError) as refusal:
        made(spec, tmp_path)
    assert refusal.value.code == "bad_request"


def test_an_exec_has_the_containers_environment_and_what_it_says_itself(source: Path, tmp_path: Path) -> None:
    made(source, tmp_path, tty=True)
    spec = OciProcess(args=["sh"], env=["B=2"], cwd="/srv", user="5", oci={"noNewPrivileges": True})
    process = exec_process(tmp_path / "own", spec, {"uid": 5, "gid": 0}, tty=False, rows=1, columns=2)
    assert process["args"] == ["sh"]
    assert process["env"] == ["A=1", "B=2"]
    assert (process["cwd"], process["user"], process["terminal"]) == ("/srv", {"uid": 5, "gid": 0}, False)
    assert process["noNewPrivileges"] is True
    assert "consoleSize" not in process


def test_an_exec_that_says_nothing_is_as_the_container(source: Path, tmp_path: Path) -> None:
    made(source, tmp_path)
    process = exec_process(tmp_path / "own", OciProcess(args=["sh"]), None, tty=True, rows=1, columns=2)
    assert (process["cwd"], process["user"]) == ("/", {"uid": 1, "gid": 1})
    assert process["env"] == ["A=1", "TERM=xterm"]
    assert process["consoleSize"] == {"height": 1, "width": 2}
