"""The few Linux calls the standard library does not have."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import os
import resource
import sys

from corral_worker.shim.base.light import Path, dataclass

PR_SET_NAME = 15
PR_SET_CHILD_SUBREAPER = 36
FALLOC_FL_KEEP_SIZE = 1
SYNC_FILE_RANGE_WRITE = 2
# Places in /proc/PID/stat, counted from the state, the first field after the command's closing bracket.
STAT_STATE, STAT_PPID, STAT_SESSION, STAT_START, STAT_ARG_START, STAT_ARG_END = 0, 1, 3, 19, 45, 46
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EAGAIN)


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def become_subreaper() -> None:
    """Orphans of our descendants come to us. Not inherited over fork. Raises OSError."""
    if _libc().prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), "PR_SET_CHILD_SUBREAPER")


def set_title(title: str) -> None:
    """Show ``title`` in ps: the whole of it over our arguments (as far as they reach), 15 bytes as the name."""
    encoded = title.encode()
    _libc().prctl(PR_SET_NAME, ctypes.c_char_p(encoded[:15]), 0, 0, 0)
    start, room = _room_of_arguments()
    if start and room > 1:
        ctypes.memmove(start, encoded[: room - 1].ljust(room, b"\0"), room)


@functools.cache
def _room_of_arguments() -> tuple[int, int]:
    """Where our arguments lie, and their length in bytes; the same in every child of ours that runs no other program."""
    fields = _stat_fields(Path("/proc/self/stat"))
    if fields is None:
        return 0, 0
    start, end = int(fields[STAT_ARG_START]), int(fields[STAT_ARG_END])
    return start, end - start


def set_oom_score_adj(score: int) -> None:
    """Best effort: without CAP_SYS_RESOURCE the kernel refuses to lower it, and we live with that."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(score))


def reserve_space(fd: int, offset: int, length: int) -> None:
    """Take space on the disk, without a change of the file's size. Raises OSError where there is none left.

    A file system that knows no such thing takes none.
    """
    while _libc().fallocate(fd, FALLOC_FL_KEEP_SIZE, ctypes.c_int64(offset), ctypes.c_int64(length)) != 0:
        number = ctypes.get_errno()
        if number == errno.EOPNOTSUPP:
            return
        if number != errno.EINTR:
            raise OSError(number, os.strerror(number))


def start_writeback(fd: int, length: int) -> None:
    """Ask the kernel to begin writing the file's first ``length`` bytes, without waiting. A hint: no error matters."""
    _libc().sync_file_range(fd, ctypes.c_int64(0), ctypes.c_int64(length), SYNC_FILE_RANGE_WRITE)


@dataclass(frozen=True, slots=True)
class TableRow:
    """One process as /proc shows it; ``started_ticks``: clock ticks since boot."""

    parent: int
    session: int
    zombie: bool
    started_ticks: int


def process_table() -> dict[int, TableRow]:
    """Every process we can see, by pid."""
    table = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit() and (fields := _stat_fields(Path(entry.path, "stat"))) is not None:
            parent, session = int(fields[STAT_PPID]), int(fields[STAT_SESSION])
            zombie = fields[STAT_STATE] in (b"Z", b"X")
            table[int(entry.name)] = TableRow(parent, session, zombie, int(fields[STAT_START]))
    return table


def descendants(table: dict[int, TableRow], roots: set[int]) -> set[int]:
    """The processes below ``roots``, without the roots themselves."""
    below: dict[int, list[int]] = {}
    for pid, row in table.items():
        below.setdefault(row.parent, []).append(pid)
    found: set[int] = set()
    ahead = list(roots)
    while ahead:
        for child in below.get(ahead.pop(), ()):
            if child not in found:
                found.add(child)
                ahead.append(child)
    return found - roots


def runs_runtime(pid: int) -> bool:
    """The process is still runc's own "init", which is about to become the container's program."""
    try:
        with open(f"/proc/{pid}/comm", "rb") as file:
            return file.read().startswith(b"runc:[")
    except (FileNotFoundError, ProcessLookupError):
        return False


def send_signal(pid: int, number: int) -> bool:
    """kill(2); False when there is no such process any more."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def is_exhausted(error: OSError) -> bool:
    """Descriptors, processes or memory have run out; nothing is wrong with what was asked for, nor with the disk."""
    return error.errno in _EXHAUSTED


def close_inherited() -> None:
    """Close what we were started with beyond stdio: it is not ours to keep open for years. By what is there: the limit may be a billion."""
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208  (pathlib is not loaded in a shim)
        if int(name) > 2:
            with contextlib.suppress(OSError):  # the listing's own
                os.close(int(name))


def allow_open_files() -> None:
    """Raise the soft limit of open files to the hard one: a container and each of its processes take some."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def log(text: str) -> None:
    """One line to the log, which is wherever stderr points. A full log disk must not stop us."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)  # noqa: T201


def log_exception(what: str) -> None:
    """The exception that is being handled, with its traceback."""
    import traceback  # only now: it would cost every shim memory for what may never happen

    log(f"{what}: {traceback.format_exc()}")


def _stat_fields(path: Path) -> list[bytes] | None:
    try:
        content = path.read_bytes()
    except (FileNotFoundError, ProcessLookupError):  # it ended while we looked
        return None
    return content.rpartition(b")")[2].split()
