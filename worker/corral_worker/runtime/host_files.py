"""The files by which a container knows its name and those of others: /etc/hosts, /etc/hostname and, with a network, /etc/resolv.conf."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from corral_schemas.containers import ContainerSpec
from corral_worker.runtime.safe_path import open_in

HOSTS = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
_MADE = ("hosts", "hostname")
_GUESTS_HOSTS, _GUESTS_RESOLVER = Path("/etc/hosts"), Path("/etc/resolv.conf")


def name_mounts(spec: ContainerSpec, hostname: str, directory: Path, rootfs: Path, *, layered: bool) -> list[dict[str, Any]]:
    """Write the files into `directory`; return their mounts. A file that the spec mounts itself is left to it.

    Without a layer of the container's, only what `rootfs` has a file for: to make one would change the directory of the guest. They may
    be written where the root may. Raises OSError.
    """
    files = dict(zip(_MADE, (_hosts(spec, hostname), f"{hostname}\n".encode()), strict=True))
    given = {os.path.normpath(mount.destination) for mount in spec.mounts}
    mounts = []
    for file, content in files.items():
        name = f"/etc/{file}"
        if name not in given and (layered or _has_file(rootfs, name)):
            source = directory / file
            source.write_bytes(content)
            source.chmod(0o644)
            mounts.append(_mount(str(source), name, readonly=not (spec.writable or spec.overlay)))
    resolver = str(_GUESTS_RESOLVER)
    if spec.network == "host" and _GUESTS_RESOLVER.is_file() and resolver not in given and (layered or _has_file(rootfs, resolver)):
        mounts.append(_mount(resolver, resolver, readonly=True))  # the guest's own, so that changes are seen
    return mounts


def remove_name_files(directory: Path) -> None:
    """Remove the files: the container may have written any amount to them. Safe to repeat."""
    for name in _MADE:
        (directory / name).unlink(missing_ok=True)


def _hosts(spec: ContainerSpec, hostname: str) -> bytes:
    """With the guest's network the names that the guest knows; the container's own always."""
    known = HOSTS.encode()
    if spec.network == "host" and _GUESTS_HOSTS.is_file():
        known = _GUESTS_HOSTS.read_bytes()
        known += b"" if known.endswith(b"\n") or not known else b"\n"
    return known + f"127.0.1.1\t{hostname}\n".encode()


def _mount(source: str, destination: str, *, readonly: bool) -> dict[str, Any]:
    return {"destination": destination, "type": "bind", "source": source, "options": ["rbind", "rprivate", "ro" if readonly else "rw"]}


def _has_file(rootfs: Path, name: str) -> bool:
    """Whether the root file system has the file, by its own links."""
    with opened(rootfs) as root:
        try:
            found = open_in(root, name, os.O_PATH)
        except OSError:
            return False
        try:
            return stat.S_ISREG(os.fstat(found).st_mode)
        finally:
            os.close(found)


@contextmanager
def opened(rootfs: Path) -> Iterator[int]:
    """A descriptor of a directory, closed afterwards."""
    descriptor = os.open(rootfs, os.O_PATH | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
