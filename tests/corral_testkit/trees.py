"""Root file systems for tests of bundles, and archives that no bundle may be made of."""

from __future__ import annotations

import io
import os
import random
import tarfile
from collections.abc import Callable
from pathlib import Path


def make_tree(directory: Path) -> Path:
    """A small tree with everything a bundle may have: modes, owners, times, links of both kinds, empty and sparse files."""
    (directory / "bin").mkdir(parents=True)
    (directory / "etc").mkdir()
    (directory / "etc" / "motd").write_text("hello\n")
    (directory / "etc" / "same").write_text("hello\n")
    (directory / "etc" / "empty").write_text("")
    (directory / "etc" / "shadow").write_text("secret\n")
    (directory / "etc" / "shadow").chmod(0o640)
    (directory / "bin" / "tool").write_bytes(random.Random(7).randbytes(300_000))
    (directory / "bin" / "tool").chmod(0o4755)
    (directory / "bin" / "other").hardlink_to(directory / "bin" / "tool")
    (directory / "etc" / "link").symlink_to("motd")
    (directory / "etc" / "absolute").symlink_to("/etc/motd")
    (directory / "etc" / "up").symlink_to("../bin/tool")
    (directory / "etc" / "ärger").write_text("umlaut\n")
    with (directory / "sparse").open("wb") as file:
        file.truncate(3 << 20)
        file.seek(2 << 20)
        file.write(b"end")
    os.chown(directory / "etc" / "shadow", 7, 8)
    os.utime(directory / "etc" / "motd", ns=(1_500_000_000_000_000_000, 1_500_000_000_123_456_789))
    os.utime(directory / "etc", ns=(1_400_000_000_000_000_000, 1_400_000_000_000_000_001))
    return directory


def described(root: Path) -> dict[str, tuple[object, ...]]:
    """Path → everything a bundle keeps of it: two trees are alike when these are equal."""
    found: dict[str, tuple[object, ...]] = {}
    inodes: dict[int, str] = {}
    for path in [root, *sorted(root.rglob("*"))]:
        about = path.lstat()
        name = str(path.relative_to(root))
        content: object = None
        if path.is_symlink():
            found[name] = ("symlink", str(path.readlink()), about.st_uid, about.st_gid)
            continue
        if path.is_file():
            content = (path.read_bytes(), inodes.setdefault(about.st_ino, name))
        found[name] = (content, about.st_mode, about.st_uid, about.st_gid, about.st_mtime_ns)
    return found


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.size = kind, link, size
    return made


_WRONG: dict[str, list[tarfile.TarInfo]] = {
    "a path that leads out": [member("../evil", size=4)],
    "a path that leads out further in": [member("etc/../../evil", size=4)],
    "an absolute path": [member("/etc/evil", size=4)],
    "a symlink that escapes": [member("way", tarfile.SYMTYPE, "../../etc")],
    "an absolute symlink that escapes": [member("way", tarfile.SYMTYPE, "/../etc")],
    "a file below a symlink": [member("way", tarfile.SYMTYPE, "/etc"), member("way/evil", size=4)],
    "a hard link out": [member("way", tarfile.LNKTYPE, "../../../etc/passwd")],
    "an absolute hard link": [member("way", tarfile.LNKTYPE, "/etc/passwd")],
    "a hard link to nothing": [member("way", tarfile.LNKTYPE, "nowhere")],
    "a character device": [member("dev/null", tarfile.CHRTYPE)],
    "a block device": [member("dev/sda", tarfile.BLKTYPE)],
    "a pipe": [member("pipe", tarfile.FIFOTYPE)],
    "a file where a directory is": [member("etc/a", size=4), member("etc/a/b", size=4)],
}


def hostile_tars(directory: Path) -> dict[str, Path]:
    """What is wrong with it → a tar that has it, beside a file as it should be."""
    made = {}
    for number, (what, members) in enumerate(_WRONG.items()):
        path = directory / f"hostile-{number}.tar"
        with tarfile.open(path, "w") as archive:
            for one in [member("good", size=4), *members]:
                archive.addfile(one, io.BytesIO(b"evil"))
        made[what] = path
    return made | {what: write(directory) for what, write in _OTHERS.items()}


def _cut(directory: Path) -> Path:
    path = directory / "cut.tar"
    with tarfile.open(path, "w") as archive:
        about = tarfile.TarInfo("long")
        about.size = 1 << 20
        archive.addfile(about, io.BytesIO(bytes(1 << 20)))
    os.truncate(path, 4096)
    return path


def _sparse_bomb(directory: Path) -> Path:
    """A few hundred bytes that say they are a terabyte."""
    path = directory / "bomb.tar"
    about = tarfile.TarInfo("bomb")
    about.size = 1 << 40
    path.write_bytes(about.tobuf(tarfile.GNU_FORMAT) + bytes(10_240))
    return path


def _no_tar(directory: Path) -> Path:
    path = directory / "none.tar"
    path.write_bytes(random.Random(1).randbytes(20_000))
    return path


_OTHERS: dict[str, Callable[[Path], Path]] = {"cut off": _cut, "a terabyte of nothing": _sparse_bomb, "no tar at all": _no_tar}

HOSTILE_TARS = [*_WRONG, *_OTHERS]
