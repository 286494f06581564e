"""UID, UID:GID, or names looked up in the container's own /etc/passwd and /etc/group (the forms of docker's --user)."""

from pathlib import Path
from typing import Any

from corral_schemas.errors import error


def resolve_user(text: str, rootfs: Path) -> dict[str, Any]:
    """The OCI `user` object for a user string; empty means root. Raises bad_request for a name that is not there."""
    user, _, group = text.partition(":")
    uid, gid, groups = 0, 0, []
    if user.isdigit():
        uid = int(user)
        row = _row(rootfs, "etc/passwd", 2, user)
        gid = int(row[3]) if row else 0
    elif user:
        row = _row(rootfs, "etc/passwd", 0, user)
        if row is None:
            raise error("bad_request", f"user {user!r} is not in the container's /etc/passwd; give a number or another name", user=user)
        uid, gid = int(row[2]), int(row[3])
        groups = _groups_of(rootfs, user)
    if group:
        row = None if group.isdigit() else _row(rootfs, "etc/group", 0, group)
        if row is None and not group.isdigit():
            raise error("bad_request", f"group {group!r} is not in the container's /etc/group; give a number or another name", group=group)
        gid = int(row[2]) if row else int(group)
    found: dict[str, Any] = {"uid": uid, "gid": gid}
    if groups:
        found["additionalGids"] = groups
    return found


def _rows(rootfs: Path, name: str) -> list[list[str]]:
    file = rootfs / name
    try:
        if not file.resolve().is_relative_to(rootfs.resolve()):  # links in it lead to the guest's own files
            return []
        lines = file.read_text(errors="replace").splitlines()
    except OSError:
        return []
    return [line.split(":") for line in lines if line.count(":") >= 3]


def _row(rootfs: Path, name: str, column: int, value: str) -> list[str] | None:
    rows = [row for row in _rows(rootfs, name) if row[column] == value]
    return rows[0] if rows and rows[0][2].isdigit() and (len(rows[0]) < 5 or rows[0][3].isdigit()) else None


def _groups_of(rootfs: Path, user: str) -> list[int]:
    return [int(row[2]) for row in _rows(rootfs, "etc/group") if row[2].isdigit() and user in row[3].split(",")]
