"""Which directories a service may keep what is its own in: none that somebody else could change under it."""

import stat

ROOT_UID = 0
GROUP_AND_OTHERS_WRITE, OTHERS_WRITE = 0o022, 0o002


def why_not_private(path: str, owners: tuple[int, ...], mode: int, mine: int) -> str:
    """Why a program of user `mine` must not use the directory; empty where it may.

    owners: of the directory, and of the link that names it if one does. mode: the directory's, as stat(2) gives it.
    """
    if mine == ROOT_UID and (others := [uid for uid in owners if uid != ROOT_UID]):
        return f"{path} belongs to user {others[0]}, who could change what root keeps there; give a directory of root's, or chown it"
    if mode & (GROUP_AND_OTHERS_WRITE if mine == ROOT_UID else OTHERS_WRITE):
        return f"others than its owner may write to {path} (mode {stat.S_IMODE(mode):04o}); chmod 700 it, or give another"
    return ""
