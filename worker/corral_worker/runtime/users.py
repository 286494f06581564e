"""UID, UID:GID, or names looked up in the container's own /etc/passwd and /etc/group, by docker's rules for --user.

A user that /etc/passwd has gets the groups that /etc/group lists him in, unless a group is given: then that one alone.
"""

import os
import re
import stat
from typing import Any

from corral_schemas.errors import error
from corral_worker.runtime.safe_path import open_in, refused

ID_MAX = (1 << 31) - 1
"""Largest user or group number, as docker has it."""
FILE_BYTES_MAX = 1 << 20
"""Largest /etc/passwd or /etc/group that is read: whoever writes in a container decides how long they are."""
_NUMBER = re.compile(r"[0-9]{1,10}", re.ASCII)


def resolve_user(text: str, root: int) -> dict[str, Any]:
    """Return the OCI `user` object for a user string; empty means root.

    root: a descriptor of the container's root directory. Raises bad_request for a name that is not there, a number out of range, and files
    that are no regular ones or over FILE_BYTES_MAX.
    """
    user, _, group = text.partition(":")
    wanted = user or "0"
    row = _row(root, "/etc/passwd", wanted, numbers=(2, 3))
    if row is None and not _NUMBER.fullmatch(wanted):
        raise error("bad_request", f"user {user!r} is not in the container's /etc/passwd; give a number or another name", user=user)
    found: dict[str, Any] = {"uid": _id(row[2] if row else wanted), "gid": _id(row[3]) if row else 0}
    if group:
        group_row = _row(root, "/etc/group", group, numbers=(2,))
        if group_row is None and not _NUMBER.fullmatch(group):
            raise error("bad_request", f"group {group!r} is not in the container's /etc/group; give a number or another name", group=group)
        found["gid"] = _id(group_row[2] if group_row else group)
    elif row is not None and (groups := _groups_of(root, row[0])):
        found["additionalGids"] = groups
    return found


def with_groups(user: dict[str, Any], groups: list[str], root: int) -> dict[str, Any]:
    """Return the OCI `user` with further groups, by number or name. Raises bad_request."""
    if not groups:
        return user
    found = [*user.get("additionalGids", [])]
    for group in groups:
        row = _row(root, "/etc/group", group, numbers=(2,))
        if row is None and not _NUMBER.fullmatch(group):
            raise error("bad_request", f"group {group!r} is not in the container's /etc/group; give a number or another name", group=group)
        found.append(_id(row[2] if row else group))
    return {**user, "additionalGids": list(dict.fromkeys(found))}


def _id(text: str) -> int:
    number = int(text)
    if number > ID_MAX:
        raise error("bad_request", f"{text} is no user or group number: the largest is {ID_MAX}")
    return number


def _rows(root: int, path: str) -> list[list[str]]:
    """The lines of the file, split; none where it is not there. A pipe there is not waited for, a device not read."""
    try:
        descriptor = open_in(root, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as why:
        raise refused(why, path) from why
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise error("bad_request", f"the container's {path} is no regular file", path=path)
        content = os.read(descriptor, FILE_BYTES_MAX + 1)
    finally:
        os.close(descriptor)
    if len(content) > FILE_BYTES_MAX:
        raise error("bad_request", f"the container's {path} is larger than {FILE_BYTES_MAX} bytes", path=path, limit=FILE_BYTES_MAX)
    lines = content.decode(errors="replace").split("\n")
    return [line.split(":") for line in lines if line.count(":") >= 3]


def _row(root: int, path: str, wanted: str, *, numbers: tuple[int, ...]) -> list[str] | None:
    """The first line of a name or number whose own numbers are some."""
    column = 2 if _NUMBER.fullmatch(wanted) else 0
    for row in _rows(root, path):
        if all(_NUMBER.fullmatch(row[at]) for at in numbers) and (row[column] == wanted or (column and int(row[2]) == int(wanted))):
            return row
    return None


def _groups_of(root: int, user: str) -> list[int]:
    return [int(row[2]) for row in _rows(root, "/etc/group") if _NUMBER.fullmatch(row[2]) and user in row[3].split(",")]
