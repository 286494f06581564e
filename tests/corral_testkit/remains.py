"""What a Corral system may leave on a machine, found from outside: by open files, command lines, cgroups and mounts."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterable
from pathlib import Path

from corral_testkit.shim_driver import readable as readable
from corral_testkit.shim_driver import wait_until

CGROUPS = Path("/sys/fs/cgroup")


def processes_at(directory: Path) -> dict[int, str]:
    """pid → command line of every other process that names `directory` in its arguments, or has a file, socket or cwd in it."""
    found: dict[int, str] = {}
    sockets = _sockets_at(directory)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):  # it ended while we looked
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                if str(directory) in line or _uses(entry, str(directory), sockets):
                    found[int(entry.name)] = line
    return found


def cgroups_of(guest: str) -> list[Path]:
    """The cgroup directories of a guest's containers, in every hierarchy and of every state directory."""
    return [path for top in _guest_tops(guest) for path in top.glob("*/*") if path.is_dir()]


def mounts_at(directory: Path) -> list[str]:
    """Mount points below a directory, deepest first."""
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return sorted((point for point in points if point.startswith(f"{directory}/")), reverse=True)


def remains(directory: Path, guests: Iterable[str]) -> list[str]:
    """Everything of a system that is still there, a line each; empty as it should be."""
    found = [f"process {pid}: {line}" for pid, line in processes_at(directory).items()]
    found += [f"cgroup {path}" for guest in guests for path in cgroups_of(guest)]
    return found + [f"mount {point}" for point in mounts_at(directory)]


def sweep(directory: Path, guests: Iterable[str]) -> None:
    """Kills and removes by force whatever `remains` would name, and the guests' empty cgroups."""
    names = list(guests)
    for pid in processes_at(directory):
        kill_and_wait(pid)
    wait_until(lambda: sum(_kill_in(cgroup) for guest in names for cgroup in cgroups_of(guest)) == 0, "the containers' processes end")
    for point in mounts_at(directory):
        subprocess.run(["umount", "--lazy", point], check=True)
    for guest in names:
        for top in _guest_tops(guest):
            for path in sorted([top, *_below(top)], reverse=True):
                with contextlib.suppress(FileNotFoundError):  # the same hierarchy under another name
                    wait_until(lambda path=path: _rmdir(path), f"{path} can be removed")  # type: ignore[misc]


def kill_and_wait(pid: int, timeout_s: float = 10.0) -> None:
    """SIGKILL to a process that need not be a child, and its end. AssertionError when it does not end in time."""
    with contextlib.suppress(ProcessLookupError):  # it ended by itself
        pidfd = os.pidfd_open(pid)
        try:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            assert readable(pidfd, timeout_s), f"process {pid} did not end"
        finally:
            os.close(pidfd)


def _uses(entry: Path, directory: str, sockets: set[str]) -> bool:
    links = [entry / "cwd", *(entry / "fd").iterdir()]
    for link in links:
        with contextlib.suppress(OSError):  # closed while we looked
            target = os.readlink(link)  # noqa: PTH115
            if target.startswith(directory) or target in sockets:
                return True
    return False


def _sockets_at(directory: Path) -> set[str]:
    lines = Path("/proc/net/unix").read_text().splitlines()[1:]
    return {f"socket:[{fields[6]}]" for line in lines if len(fields := line.split()) > 7 and fields[7].startswith(str(directory))}


def _guest_tops(guest: str) -> list[Path]:
    tops = [CGROUPS / "corral" / guest, *(mount / "corral" / guest for mount in CGROUPS.iterdir() if mount.is_dir())]
    return [top for top in tops if top.is_dir()]


def _below(top: Path) -> list[Path]:
    return [path for path in top.rglob("*") if path.is_dir()]


def _kill_in(cgroup: Path) -> int:
    """One pass; how many were there to kill."""
    pids: set[int] = set()
    for directory in [cgroup, *_below(cgroup)]:
        with contextlib.suppress(OSError):  # the cgroup went meanwhile
            pids |= {int(line) for line in (directory / "cgroup.procs").read_text().split()}
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):  # it ended meanwhile
            os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(OSError):  # no v1 freezer here
        (cgroup / "freezer.state").write_text("THAWED")
    return len(pids)


def _rmdir(path: Path) -> bool:
    try:
        path.rmdir()
    except FileNotFoundError:
        return True
    except OSError:  # busy for another moment
        return False
    return True
