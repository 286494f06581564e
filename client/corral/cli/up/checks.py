"""What Corral needs of a machine, looked at: each check says what it found and, where that is not right, what to do."""

import ctypes
import os
import resource
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

RUNTIME_PATIENCE_S = 5.0
DISK_BYTES_GOOD, DISK_BYTES_LEAST = 1 << 30, 64 << 20
OPEN_FILES_GOOD, OPEN_FILES_LEAST = 16_384, 1_024
SOCKET_PATH_BYTES_MAX = 107
LONGEST_SOCKET_SUFFIX = "/g64/s/" + 26 * "x" + ".sock"
EARLIEST_SANE_TIME_S = 1_704_067_200
STA_UNSYNC = 0x0040


class Finding(NamedTuple):
    """One line of `corral doctor`."""

    check: str
    verdict: Literal["ok", "warn", "fail"]
    found: str
    advice: str = ""


def machine_findings(runtime: str, state_dir: Path, run_dir: Path) -> Iterator[Finding]:
    """Everything that concerns this machine alone."""
    yield check_runtime(runtime)
    yield check_cgroups(Path("/proc/self/mountinfo").read_text())
    yield check_user(os.geteuid())
    yield check_directory("state directory", state_dir, "--state-dir")
    yield check_directory("run directory", run_dir, "--run-dir")
    yield check_socket_paths(run_dir)
    yield check_disk(state_dir)
    yield check_clock()
    yield check_open_files(*resource.getrlimit(resource.RLIMIT_NOFILE))


def check_runtime(runtime: str) -> Finding:
    path = shutil.which(runtime)
    if path is None:
        there = Path(runtime).exists()
        found = f"{runtime} is not executable" if there else f"{runtime} is not there"
        return Finding("runtime", "fail", found, f"chmod +x {runtime}" if there else "apt-get install runc, or give --runtime PATH")
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=RUNTIME_PATIENCE_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as why:
        return Finding("runtime", "fail", f"{path} --version: {why}", "install a working one, or give --runtime PATH")
    version = done.stdout.partition("\n")[0].strip()
    if done.returncode or not version:
        return Finding(
            "runtime", "fail", f"{path} --version ends with status {done.returncode}", "install a working one, or give --runtime PATH"
        )
    return Finding("runtime", "ok", f"{path}: {version}")


def check_cgroups(mountinfo: str) -> Finding:
    """`mountinfo`: the text of /proc/self/mountinfo."""
    v1: set[str] = set()
    v2 = ""
    for line in mountinfo.splitlines():
        before, separator, after = line.partition(" - ")
        words = after.split()
        if separator and words[0] == "cgroup":
            v1.update(words[-1].split(","))
        elif separator and words[0] == "cgroup2":
            v2 = before.split()[4]
    offered = set(v1)
    if v2 and (Path(v2) / "cgroup.controllers").exists():
        offered |= set((Path(v2) / "cgroup.controllers").read_text().split())
    kind = "hybrid (v1 and v2)" if v1 & {"memory", "cpu", "pids"} and v2 else "v2" if v2 else "v1"
    missing = sorted({"memory", "cpu", "pids"} - offered)
    if not v1 and not v2:
        return Finding("cgroups", "fail", "no cgroup file system is mounted", "mount -t cgroup2 none /sys/fs/cgroup")
    if missing:
        return Finding(
            "cgroups", "warn", f"{kind}, without {', '.join(missing)}", f"limits on {', '.join(missing)} need that controller enabled"
        )
    return Finding("cgroups", "ok", f"{kind}, with memory, cpu and pids")


def check_user(uid: int) -> Finding:
    if uid == 0:
        return Finding("user", "ok", "root")
    return Finding("user", "warn", f"uid {uid}, not root", "workers run containers as root: sudo corral up (clients need no root)")


def check_directory(name: str, path: Path, flag: str) -> Finding:
    """Whether the directory can be written, or could be made."""
    existing = _existing(path)
    if not existing.is_dir():
        return Finding(name, "fail", f"{existing} is not a directory", f"give {flag} DIR")
    if not os.access(existing, os.W_OK | os.X_OK):
        return Finding(name, "fail", f"{existing} cannot be written by uid {os.geteuid()}", f"run as root, or give {flag} DIR")
    return Finding(name, "ok", f"{path}" + ("" if existing == path else " (to be made)"))


def check_socket_paths(run_dir: Path) -> Finding:
    length = len(os.fsencode(run_dir)) + len(LONGEST_SOCKET_SUFFIX)
    if length > SOCKET_PATH_BYTES_MAX:
        return Finding(
            "socket paths", "fail", f"{length} bytes below {run_dir}, {SOCKET_PATH_BYTES_MAX} at most", "give a shorter --run-dir"
        )
    return Finding("socket paths", "ok", f"{length} of {SOCKET_PATH_BYTES_MAX} bytes at most")


def check_disk(state_dir: Path) -> Finding:
    where = _existing(state_dir)
    room = os.statvfs(where)
    free_bytes = room.f_bavail * room.f_frsize
    found = f"{free_bytes / (1 << 30):.1f} GiB free for {state_dir}"
    if room.f_files and room.f_favail * 100 < room.f_files:
        return Finding("disk", "warn", f"{found}, but {room.f_favail} inodes", "remove small files, or give --state-dir on another disk")
    if free_bytes >= DISK_BYTES_GOOD:
        return Finding("disk", "ok", found)
    verdict: Literal["warn", "fail"] = "warn" if free_bytes >= DISK_BYTES_LEAST else "fail"
    return Finding("disk", verdict, found, "make room, or give --state-dir on another disk: output that does not fit is dropped")


def check_clock() -> Finding:
    if time.time() < EARLIEST_SANE_TIME_S:
        return Finding("clock", "fail", f"it says {time.strftime('%Y-%m-%d')}", "set it: timedatectl set-ntp true")
    synchronised = _kernel_says_synchronised()
    if synchronised is False:
        return Finding(
            "clock", "warn", "not synchronised, as the kernel knows", "timedatectl set-ntp true (times in events are the guests')"
        )
    return Finding("clock", "ok", "synchronised" if synchronised else "the kernel does not tell whether it is synchronised")


def _kernel_says_synchronised() -> bool | None:
    """None where the kernel does not tell (adjtimex refused)."""
    buffer = ctypes.create_string_buffer(512)  # struct timex, modes 0: only read; larger than it is anywhere
    if ctypes.CDLL(None, use_errno=True).adjtimex(buffer) < 0:
        return None
    status_offset = 4 * ctypes.sizeof(ctypes.c_long) + ctypes.sizeof(ctypes.c_long)  # modes (padded), offset, freq, maxerror, esterror
    return not int.from_bytes(buffer.raw[status_offset : status_offset + 4], "little") & STA_UNSYNC


def check_open_files(soft: int, hard: int) -> Finding:
    """Brokers and workers raise the soft limit to the hard one themselves."""
    most = float("inf") if hard == resource.RLIM_INFINITY else hard
    found = f"{soft} now, {'unlimited' if hard == resource.RLIM_INFINITY else hard} at most"
    if most >= OPEN_FILES_GOOD:
        return Finding("open files", "ok", found)
    verdict: Literal["warn", "fail"] = "warn" if most >= OPEN_FILES_LEAST else "fail"
    return Finding("open files", verdict, found, f"raise the hard limit to {OPEN_FILES_GOOD}: LimitNOFILE= in the unit, or limits.conf")


def _existing(path: Path) -> Path:
    """The path, or its nearest parent that exists."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path
