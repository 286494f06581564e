"""What can be packed: a directory tree and a tar archive, each seen as entries and the bytes of their files."""

import contextlib
import os
import stat
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import BinaryIO, Protocol

from corral_schemas.bundle_rules import refusal
from corral_schemas.bundles import BundleEntry

DIRECTORY_MODE = 0o755
"""Of directories that an archive does not name, only what is in them."""
_XATTR_PAX = "SCHILY.xattr."


@dataclass(frozen=True)
class Found:
    """An entry whose chunks are not known yet, and how to open its bytes."""

    entry: BundleEntry
    open: Callable[[], BinaryIO] | None = None
    """Of a file: anew, at its beginning. Raises OSError."""


class Source(Protocol):
    """Where a root file system comes from."""

    def found(self) -> Iterator[Found]:
        """Everything in it, in any order but each directory before what is in it. Raises bundle_invalid, OSError."""
        ...


def excluded(path: str, patterns: Sequence[str]) -> bool:
    """Whether the path, or a directory above it, matches one of the patterns (`*` matches `/` too)."""
    parts = path.split("/")
    above = ["/".join(parts[: n + 1]) for n in range(len(parts))]
    return any(fnmatchcase(one, pattern.strip("/")) for pattern in patterns for one in above)


class DirectorySource:
    """A directory that becomes /. Links are taken as links, never followed."""

    def __init__(self, root: Path, exclude: Sequence[str] = ()) -> None:
        self._root, self._exclude = root, exclude

    def found(self) -> Iterator[Found]:
        first_of: dict[tuple[int, int], str] = {}  # (device, inode) -> path of the first name of a file with several
        yield self._one(".", os.lstat(self._root), first_of)
        for directory, names, files in os.walk(self._root, onerror=_raise):
            relative = Path(directory).relative_to(self._root)
            names.sort()
            kept = []
            for name in sorted([*names, *files]):
                path = str(relative / name)
                if excluded(path, self._exclude):
                    continue
                yield self._one(path, os.lstat(self._root / path), first_of)
                kept.append(name)
            names[:] = [name for name in names if name in set(kept)]

    def _one(self, path: str, about: os.stat_result, first_of: dict[tuple[int, int], str]) -> Found:
        _check_text(path)
        full = self._root / path
        entry = BundleEntry(path=path, mode=about.st_mode & 0o7777, uid=about.st_uid, gid=about.st_gid, mtime_ns=about.st_mtime_ns)
        if stat.S_ISLNK(about.st_mode):
            target = str(full.readlink())
            _check_text(target)
            return Found(_changed(entry, type="symlink", mode=0o777, target=target))
        if stat.S_ISDIR(about.st_mode):
            return Found(_changed(entry, type="directory", xattrs=_xattrs(full)))
        if not stat.S_ISREG(about.st_mode):
            raise special(path, about.st_mode)
        if about.st_nlink > 1:
            first = first_of.setdefault((about.st_dev, about.st_ino), path)
            if first != path:
                return Found(BundleEntry(path=path, type="hardlink", target=first))
        return Found(_changed(entry, size=about.st_size, xattrs=_xattrs(full)), lambda: full.open("rb"))


def _changed(entry: BundleEntry, **fields: object) -> BundleEntry:
    import msgspec

    return msgspec.structs.replace(entry, **fields)


def _raise(why: OSError) -> None:
    raise why


def _check_text(path: str) -> None:
    try:
        path.encode()
    except UnicodeEncodeError:
        raise refusal(os.fsencode(path).decode(errors="backslashreplace"), "names must be UTF-8") from None


def _xattrs(path: Path) -> dict[str, bytes]:
    names: list[str] = []
    with contextlib.suppress(OSError):  # a file system without them
        names = [name for name in os.listxattr(path) if name == "security.capability" or name.startswith("user.")]
    return {name: os.getxattr(path, name) for name in sorted(names)}


def special(path: str, mode: int) -> Exception:
    """The refusal of what is neither file, directory nor link."""
    kind = "a device node" if stat.S_ISBLK(mode) or stat.S_ISCHR(mode) else "a pipe" if stat.S_ISFIFO(mode) else "a socket"
    return refusal(path, f"{kind} has no place in a bundle (a container gets its own /dev); leave it out with --exclude {path!r}")


class TarSource:
    """An archive of a root file system, not compressed. Read in place; nothing is unpacked."""

    def __init__(self, archive: Path, exclude: Sequence[str] = ()) -> None:
        self._archive, self._exclude = archive, exclude

    def found(self) -> Iterator[Found]:
        members: dict[str, tarfile.TarInfo] = {}
        try:
            with tarfile.open(self._archive, "r:") as archive:
                for member in archive:
                    path = _member_path(member.name)
                    if not excluded(path, self._exclude):
                        members.pop(path, None)  # of two of one name the later one counts
                        members[path] = member
                size = self._archive.stat().st_size
        except tarfile.TarError as why:
            raise refusal("", f"{self._archive} cannot be read as tar: {why}") from why
        for path in [path for path in members if path != "."]:
            for parent in _parents(path):
                members.setdefault(parent, _plain_directory(parent))
        members.setdefault(".", _plain_directory("."))
        for path in sorted(members, key=lambda one: one.split("/") if one != "." else []):
            yield self._one(path, members[path], members, size)

    def _one(self, path: str, member: tarfile.TarInfo, members: dict[str, tarfile.TarInfo], archive_bytes: int) -> Found:
        entry = BundleEntry(
            path=path, mode=member.mode & 0o7777, uid=member.uid, gid=member.gid, mtime_ns=int(float(member.mtime) * 1e9) // 1_000 * 1_000
        )
        if member.isdir():
            return Found(_changed(entry, type="directory", xattrs=_pax_xattrs(member)))
        if member.issym():
            return Found(_changed(entry, type="symlink", mode=0o777, target=member.linkname))
        if member.islnk():
            target = _member_path(member.linkname)
            if target not in members or not members[target].isreg():
                raise refusal(path, f"a hard link to {member.linkname!r}, which is no file of this archive")
            return Found(BundleEntry(path=path, type="hardlink", target=target))
        if not member.isreg():
            raise special(path, {tarfile.BLKTYPE: stat.S_IFBLK, tarfile.CHRTYPE: stat.S_IFCHR}.get(member.type, stat.S_IFIFO))
        if not member.issparse() and member.offset_data + member.size > archive_bytes:
            raise refusal(path, "the archive ends in the middle of it")
        return Found(_changed(entry, size=member.size, xattrs=_pax_xattrs(member)), lambda: self._open(member))

    def _open(self, member: tarfile.TarInfo) -> BinaryIO:
        if member.issparse():
            archive = tarfile.open(self._archive, "r:")  # noqa: SIM115 - closed with the member that is read from it
            content = archive.extractfile(member)
            assert content is not None
            return content  # type: ignore[return-value]
        file = self._archive.open("rb")
        file.seek(member.offset_data)
        return _Part(file, member.size)  # type: ignore[return-value]


class _Part:
    """A stretch of a file, as a file that can be read and sought."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size, self._start, self._at = file, size, file.tell(), 0

    def read(self, size: int = -1) -> bytes:
        left = self._size - self._at
        data = self._file.read(left if size < 0 else min(size, left))
        self._at += len(data)
        return data

    def readinto(self, room: memoryview) -> int:
        count: int = self._file.readinto(room[: self._size - self._at])  # type: ignore[attr-defined]
        self._at += count
        return count

    def seek(self, offset: int) -> int:
        self._at = min(offset, self._size)
        self._file.seek(self._start + self._at)
        return self._at

    def __enter__(self) -> "_Part":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _member_path(name: str) -> str:
    """A member's path in a manifest. Raises bundle_invalid for one that leads out of the archive's own tree."""
    _check_text(name)
    if name.startswith("/"):
        raise refusal(name, "an absolute path in an archive")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise refusal(name, "a path that leads out of the archive")
    return "/".join(parts) or "."


def _parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:n]) for n in range(1, len(parts))]


def _plain_directory(path: str) -> tarfile.TarInfo:
    made = tarfile.TarInfo(path)
    made.type, made.mode = tarfile.DIRTYPE, DIRECTORY_MODE
    return made


def _pax_xattrs(member: tarfile.TarInfo) -> dict[str, bytes]:
    found = {
        name.removeprefix(_XATTR_PAX): value.encode("utf-8", "surrogateescape")
        for name, value in member.pax_headers.items()
        if name.startswith(_XATTR_PAX)
    }
    return {name: value for name, value in sorted(found.items()) if name == "security.capability" or name.startswith("user.")}


def owned_by_root(source: Source) -> Source:
    """The same, with what belongs to the present user given to root: for trees that were unpacked without being root."""
    return _Owned(source, os.getuid(), os.getgid())


@dataclass(frozen=True)
class _Owned:
    source: Source
    uid: int
    gid: int

    def found(self) -> Iterator[Found]:
        for one in self.source.found():
            entry = one.entry
            uid, gid = (0 if entry.uid == self.uid else entry.uid), (0 if entry.gid == self.gid else entry.gid)
            yield replace(one, entry=_changed(entry, uid=uid, gid=gid))
