"""A container's cgroups, v1, v2 or hybrid: where they are, who is in them, kill, freeze, count OOM kills, remove.

Each is named after the container's instance: only in such a one does Corral kill and only such a one does it remove. Below a
cgroup that a bundle names, which may be anybody's, the container has a level of its own.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import signal
import zlib

from corral_worker.shim.base.light import Path
from corral_worker.shim.base.linux import log, send_signal

_CGROUP_PATHS = re.compile(rb'"cgroup_paths":(\{[^{}]*\})')
OWN_LEVEL = "corral-"
MADE_HERE = "trusted.corral"
"""Extended attribute of a cgroup that Corral made above a container's own: it goes with the last container in it."""
MAKE_TRIES_MAX = 10
_FREEZERS = {"freezer": "freezer.state", "": "cgroup.freeze"}
_FROZEN = ("FROZEN", "FREEZING", "1")
_KEYED_COUNT = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)
KILL_PASSES_MAX = 20


class Cgroup:
    """The directories one container has in the cgroup hierarchies. Absent ones are simply empty."""

    def __init__(self, paths: dict[str, str]) -> None:
        """``paths`` by controller, as in runc's state.json: "" is the unified hierarchy."""
        self._directories = sorted({Path(path) for path in paths.values()})
        self._unified = Path(paths[""]) if "" in paths else None
        self._freezer = Path(paths["freezer"]) if "freezer" in paths else None
        self.memory = Path(paths["memory"]) if "memory" in paths else self._unified

    def pids(self) -> set[int]:
        """Every process in them. A cgroup that we are in ourselves is not the container's: it does not count."""
        found: set[int] = set()
        for directory in self._directories:
            pids = _pids_below(directory)
            if os.getpid() not in pids:
                found |= pids
        return found

    def signal_all(self, number: int, first: int | None = None) -> set[int]:
        """Send a signal to every process, newcomers included; which got it.

        The process ``first`` gets it first: an init whose children are killed before it might still end by itself, with a code of its own.
        """
        sent: set[int] = set()
        for _ in range(KILL_PASSES_MAX):
            fresh = self.pids() - sent
            if not fresh:
                break
            for pid in sorted(fresh, key=lambda pid: pid != first):
                send_signal(pid, number)
            sent |= fresh
        if number == signal.SIGKILL:
            self.thaw()
        return sent

    def kill(self) -> bool:
        """One pass of killing every process, frozen or not; True once nothing is left alive."""
        pids = self.pids()
        if pids:
            self._kill_unified()
            for pid in pids:
                send_signal(pid, signal.SIGKILL)
            self.thaw()
        return not pids

    def is_frozen_v1(self) -> bool:
        """A v1 freezer holds it: not even SIGKILL acts before it thaws."""
        return self._freezer is not None and _read(self._freezer / "freezer.state").strip() in ("FROZEN", "FREEZING")

    def thaw(self) -> None:
        """Let a v1 freezer go (v2 needs none of this for SIGKILL)."""
        if self.is_frozen_v1():
            self._set_freezer("THAWED")

    def freeze_v1(self) -> None:
        """Freeze again after a thaw that was only there to let one process die."""
        self._set_freezer("FROZEN")

    def oom_kills(self) -> int:
        """How many processes the kernel killed for want of memory, 0 when that cannot be known."""
        if self.memory is None:
            return 0
        for name in ("memory.events", "memory.oom_control"):
            if match := _KEYED_COUNT.search(_read(self.memory / name)):
                return int(match[1])
        return 0

    def remove(self) -> bool:
        """Remove the directories, deepest first, and those made for them; True once none is left. Busy ones stay for another call."""
        for directory in self._directories:
            for path in [*sorted(_below(directory), reverse=True), directory]:
                with contextlib.suppress(OSError):  # still busy, or already gone: `exists` below decides
                    path.rmdir()
            _remove_made_above(str(directory))
        return not self.exists()

    def remove_own_level(self) -> None:
        """Remove what stays after the runtime deleted a container whose bundle names a cgroup: no runtime knows what was made for it."""
        if any(os.path.basename(directory).startswith(OWN_LEVEL) for directory in self._directories):  # noqa: PTH119
            self.remove()

    def exists(self) -> bool:
        """Any of the directories is there."""
        return any(directory.exists() for directory in self._directories)

    def _kill_unified(self) -> None:
        if self._unified is not None and os.getpid() not in _pids_below(self._unified):
            with contextlib.suppress(FileNotFoundError):  # a kernel before 5.14, or a cgroup just gone
                _write(self._unified / "cgroup.kill", "1")

    def _set_freezer(self, state: str) -> None:
        if self._freezer is not None:
            with contextlib.suppress(FileNotFoundError):  # the container went meanwhile
                _write(self._freezer / "freezer.state", state)


def find_cgroup(run_dir: Path, state_dir: Path, instance: str) -> Cgroup:
    """The cgroups that are a container's own."""
    paths = cgroup_paths(run_dir, state_dir, instance)
    return Cgroup({controller: path for controller, path in paths.items() if is_own(path, instance)})


def is_own(path: str, instance: str) -> bool:
    """Whether this cgroup is that of one container only. (An earlier Corral let containers into the very cgroup that a bundle named.)"""
    return instance in os.path.basename(path)  # noqa: PTH119


def cgroup_paths(run_dir: Path, state_dir: Path, instance: str) -> dict[str, str]:
    """Where a container's cgroups should be: what its bundle asks for (runc may have died before saying, others say nothing), and what
    runc says (with systemd only that is known)."""
    paths = _asked_for(state_dir / "instances" / instance / "bundle" / "config.json")
    with contextlib.suppress(FileNotFoundError):  # not created, or deleted
        content = (run_dir / "runc" / instance / "state.json").read_bytes()
        if match := _CGROUP_PATHS.search(content):
            paths |= json.loads(match[1])
    return paths


def make_cgroup(path: str) -> None:
    """Make a cgroup in every hierarchy, and what is missing above it, marked. Best effort: the runtime says what it cannot do without.

    Since the container's own level is there before the runtime is asked, the end of another container takes nothing from under it.
    """
    for mount in set(hierarchies().values()):
        for _ in range(MAKE_TRIES_MAX):
            try:
                _make_below(mount, path)
            except FileNotFoundError:  # the last container in it ended just now
                continue
            except OSError as error:
                log(f"cgroup {mount}{path} cannot be made: {error}")
            break


def occupied_unified(path: str) -> str:
    """The cgroup at or above this one in which processes of others are, so that on cgroup v2 none with controllers can be below; or ""."""
    mounts = hierarchies()
    if set(mounts) != {""}:  # hybrid: the runtime uses the controllers of the others
        return ""
    mount, above = mounts[""], ""
    for name in path.strip("/").split("/"):
        above += f"/{name}"
        try:
            if (Path(mount + above) / "cgroup.procs").read_text().strip():
                return above
        except FileNotFoundError:
            return ""
        except OSError:  # a threaded one, which does not even tell
            return above
    return ""


def frozen_at(path: str) -> str:
    """The cgroup at or above this one that is frozen, so that nothing can start below it (nor end, before it thaws); or ""."""
    mounts, above = hierarchies(), ""
    for name in path.strip("/").split("/"):
        above += f"/{name}"
        if any(_read(Path(mounts[one] + above) / file).strip() in _FROZEN for one, file in _FREEZERS.items() if one in mounts):
            return above
    return ""


def cgroup_at(path: str) -> Cgroup:
    """The cgroup of this path in every hierarchy."""
    return Cgroup({controller: mount + path for controller, mount in hierarchies().items()})


def guest_cgroup(guest: str, state_dir: Path) -> str:
    """The cgroup in which a guest's containers have theirs, as a path in every hierarchy.

    The state directory is in it: a machine may have several guests of one name (two `corral up`, each with a g1), and what
    one of them does not know must not be taken for a leftover by the other.
    """
    place = os.path.realpath(state_dir).encode(errors="surrogateescape")
    return f"/corral/{guest}/{zlib.crc32(place):08x}"


def remove_guest_cgroups(guest: str, state_dir: Path) -> None:
    """Remove the directories that containers of a guest were in, if none is left: nothing else ever would."""
    own = guest_cgroup(guest, state_dir)
    for mount in set(hierarchies().values()):
        for directory in (Path(mount + own), Path(mount, "corral", guest), Path(mount, "corral")):
            with contextlib.suppress(OSError):  # not there, or a container (or another guest) is
                directory.rmdir()


def _asked_for(config: Path) -> dict[str, str]:
    try:
        asked = json.loads(config.read_bytes()).get("linux", {}).get("cgroupsPath", "")
    except (FileNotFoundError, ValueError, AttributeError):
        return {}
    if not isinstance(asked, str) or not asked.strip("/") or not asked.startswith("/"):
        return {}
    return {controller: mount + asked for controller, mount in hierarchies().items()}


def _make_below(mount: str, path: str) -> None:
    above = mount
    for name in path.strip("/").split("/"):
        above += f"/{name}"
        try:
            os.mkdir(above)  # noqa: PTH102
        except FileExistsError:
            continue
        os.chmod(above, 0o755)  # noqa: PTH101
        with contextlib.suppress(OSError):  # a kernel that keeps none here: then it stays
            os.setxattr(above, MADE_HERE, b"1")


def _remove_made_above(directory: str) -> None:
    above = os.path.dirname(directory)  # noqa: PTH120
    with contextlib.suppress(OSError):  # not made by Corral, or somebody has something in it, or it is gone
        while os.getxattr(above, MADE_HERE):
            os.rmdir(above)  # noqa: PTH106
            above = os.path.dirname(above)  # noqa: PTH120


def hierarchies() -> dict[str, str]:
    """Controller (or name=…, or "" for the unified hierarchy) -> where its hierarchy is mounted."""
    mounts: dict[str, str] = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        where = before.split(" ")[4]
        if kind == "cgroup2":
            mounts.setdefault("", where)
        elif kind == "cgroup":
            for option in options.split(","):
                if option not in ("rw", "ro", "xattr", "none", "clone_children", "noprefix"):
                    mounts.setdefault(option, where)
    return mounts


def _below(directory: Path) -> list[Path]:
    found: list[Path] = []
    ahead = [directory]
    while ahead:
        try:
            children = [Path(entry.path) for entry in os.scandir(ahead.pop()) if entry.is_dir(follow_symlinks=False)]
        except OSError:  # it went while we walked
            continue
        found += children
        ahead += children
    return found


def _pids_below(directory: Path) -> set[int]:
    pids: set[int] = set()
    for path in [directory, *_below(directory)]:
        pids |= {int(line) for line in _read(path / "cgroup.procs").split()}
    return pids - {0}


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP, errno.ENOTDIR):
            return ""
        raise


def _write(path: Path, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
