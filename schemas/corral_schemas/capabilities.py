"""The capabilities of Linux, those that a container has by default, and docker's rules for more and fewer."""

from collections.abc import Iterable

ALL = "ALL"
PREFIX = "CAP_"
KNOWN = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
)
"""In the order of their numbers, from 0."""
DEFAULT = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
)
"""Docker's default set."""


def capability(text: str) -> str:
    """Return the name in full of a capability: `net_admin` is CAP_NET_ADMIN. ALL stays ALL. Raises ValueError."""
    name = text.upper()
    full = name if name == ALL or name.startswith(PREFIX) else PREFIX + name
    if full != ALL and full not in KNOWN:
        raise ValueError(f"{text!r} is no capability of Linux; give a name such as NET_ADMIN, or ALL")
    return full


def capability_set(add: Iterable[str], drop: Iterable[str]) -> list[str]:
    """Return what a container has. Dropping ALL leaves what is added, adding ALL gives all but what is dropped. Raises ValueError."""
    added, dropped = {capability(text) for text in add}, {capability(text) for text in drop}
    if ALL in added:
        return [name for name in KNOWN if name not in dropped]
    if ALL in dropped:
        return [name for name in KNOWN if name in added]
    return [name for name in KNOWN if name in added or (name in DEFAULT and name not in dropped)]
