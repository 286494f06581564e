"""A layer of a container's own over a root file system that stays as it is: an overlay, or where the guest has none, a copy.

The overlay is mounted in a mount namespace of the runtime call alone, which the container's own is made from: the guest's namespace never
has it, so that nothing is left to unmount, whatever is killed when. It is there as long as the container is.
"""

import ctypes
import errno
import logging
import os
import shutil
from pathlib import Path

from corral_schemas.errors import error

log = logging.getLogger(__name__)

UNSPEAKABLE = ",:\\"
"""Signs that mean something else in an overlay's options."""
ROOTFS, UPPER, WORK = "rootfs", "upper", "work"
_FSOPEN, _FSCONFIG, _FSMOUNT = 430, 431, 432
_SET_STRING, _CREATE = 1, 6
_CLOEXEC = 1
_CAP_SYS_ADMIN = 21
_libc = ctypes.CDLL(None, use_errno=True)

# exec keeps the pid, so that what the shim watches and kills is the runtime itself
_SCRIPT = """mount -t overlay -o "$1" overlay "$2" || {
printf '{"level":"error","msg":"the overlay of this container cannot be mounted (mount ended with %s)"}\\n' $? >>"$3"; exit 1; }
shift 3; exec "$@"
"""


def make_layer(directory: Path, lower: Path, *, overlays: bool) -> Path:
    """Makes what a container's layer needs in its bundle directory; → its root file system there (empty for an overlay: see `argv_in`).

    `overlays`: see `available`; without, all of `lower` is copied. Raises bundle_invalid for a path that no overlay can take, OSError.
    """
    rootfs = directory / ROOTFS
    if not overlays:
        shutil.copytree(lower, rootfs, symlinks=True, dirs_exist_ok=True, copy_function=_copy)
        _own_like(lower, rootfs)
        return rootfs
    if any(sign in str(lower) for sign in UNSPEAKABLE):
        raise error("bundle_invalid", f"rootfs {lower} has a sign in its path that no overlay can take (, : or \\)", rootfs=str(lower))
    for name in (ROOTFS, UPPER, WORK):
        (directory / name).mkdir(mode=0o700, parents=True, exist_ok=True)
    shutil.copystat(lower, directory / UPPER)  # the root's own mode is that of the upper layer
    found = lower.stat()
    os.chown(directory / UPPER, found.st_uid, found.st_gid)
    (directory / "lower").unlink(missing_ok=True)
    (directory / "lower").symlink_to(lower)
    return rootfs


def has_overlay(directory: Path) -> bool:
    """Whether the container with this bundle directory has an overlay (and not a copy, or no layer)."""
    return (directory / UPPER).is_dir()


def has_layer(directory: Path) -> bool:
    """Whether the container with this bundle directory has a layer of its own, overlay or copy."""
    return (directory / ROOTFS).is_dir()


def argv_in(directory: Path, argv: list[str], log_path: Path) -> list[str]:
    """A call of the runtime that makes a container, with the container's overlay mounted for it. A mount that fails says so in the log."""
    if not has_overlay(directory):
        return argv
    options = ",".join(f"{name}={value}" for name, value in _options(directory).items())
    script = ["sh", "-c", _SCRIPT, "overlay", options, str(directory / ROOTFS), str(log_path)]
    return ["unshare", "--mount", "--propagation", "slave", *script, *argv]


def remove_layer(directory: Path) -> None:
    """What the container wrote goes. Safe to repeat."""
    for name in (ROOTFS, UPPER, WORK):
        shutil.rmtree(directory / name, ignore_errors=True)


def open_detached(directory: Path) -> int:
    """A descriptor of the container's overlay, mounted nowhere: for a container that has no process. Raises OSError."""
    return _detached_mount(_options(directory))


def _options(directory: Path) -> dict[str, str]:
    lower = str((directory / "lower").readlink())
    return {"lowerdir": lower, "upperdir": str(directory / UPPER), "workdir": str(directory / WORK)}


def available(directory: Path) -> bool:
    """Whether this guest can mount an overlay whose layers are on the file system of this directory: it is tried, mounted nowhere."""
    if shutil.which("unshare") is None or shutil.which("mount") is None or any(sign in str(directory) for sign in UNSPEAKABLE):
        return False
    if not may_mount():  # a hardened worker: the zygote's shims mount, and a mount that fails is told by the create that needed it
        return True
    probe = directory / "overlay-probe"
    try:
        for name in ("lower", "upper", "work"):
            (probe / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(_detached_mount({"lowerdir": str(probe / "lower"), "upperdir": str(probe / "upper"), "workdir": str(probe / "work")}))
    except OSError as why:
        log.warning("no overlays in %s (%s): layers of containers are copies", directory, why)
        return False
    finally:
        shutil.rmtree(probe, ignore_errors=True)
    return True


def may_mount() -> bool:
    """Whether this process may mount at all. Where a system call filter is in force it is not tried: that could end the process."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["Seccomp"]) == 0 and bool(int(status["CapEff"], 16) >> _CAP_SYS_ADMIN & 1)


def _detached_mount(options: dict[str, str]) -> int:
    context = _call(_FSOPEN, b"overlay", _CLOEXEC)
    try:
        for key, value in options.items():
            _call(_FSCONFIG, context, _SET_STRING, key.encode(), os.fsencode(value), 0)
        _call(_FSCONFIG, context, _CREATE, None, None, 0)
        return _call(_FSMOUNT, context, _CLOEXEC, 0)
    finally:
        os.close(context)


def _call(number: int, *args: object) -> int:
    made = [ctypes.c_long(one) if isinstance(one, int) else ctypes.c_char_p(one) if one is not None else None for one in args]  # type: ignore[arg-type]
    found = int(_libc.syscall(ctypes.c_long(number), *made))
    if found < 0:
        why = ctypes.get_errno() or errno.EINVAL
        raise OSError(why, os.strerror(why))
    return found


def _copy(source: str, target: str) -> None:
    shutil.copy2(source, target, follow_symlinks=False)


def _own_like(lower: Path, copy: Path) -> None:
    """Owners as in the original: copytree keeps modes and times alone."""
    for root, directories, files, descriptor in os.fwalk(lower, follow_symlinks=False):
        for name in [".", *directories, *files]:
            found = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
            target = copy / Path(root).relative_to(lower) / name
            os.chown(target, found.st_uid, found.st_gid, follow_symlinks=False)
            if not target.is_symlink():
                target.chmod(found.st_mode & 0o7777)  # chown takes set-id bits away
