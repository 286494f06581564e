"""The system calls that a container may not use by default. The effect is that of docker's default, the form is another.

The rule: denied is what docker's profile denies to a container with docker's default capabilities, of calls that Linux still has and that
change something outside the process. Calls that no kernel has any more and old 32-bit calls that only repeat a permitted one are left
out. So is personality, since Linux emulates no other systems any more.

Docker lists the 360 calls that are permitted. This lists those that are not, because runc 1.1 needs 14 ms to load that list and 2 ms for
this one. So a call that is newer than this list is permitted here: it meets the kernel's own checks alone.
"""

ALWAYS = (
    "add_key",
    "keyctl",
    "request_key",  # keyrings are not namespaced
    "io_uring_enter",
    "io_uring_register",
    "io_uring_setup",  # past every filter of calls
    "kexec_file_load",
    "kexec_load",
    "migrate_pages",
    "move_pages",
    "nfsservctl",
    "pivot_root",
    "swapoff",
    "swapon",
    "sysfs",
    "_sysctl",
    "userfaultfd",
    "uselib",
    "ustat",
    "vm86",
    "vm86old",
)
"""Denied whatever the capabilities."""

UNLESS: dict[str, tuple[str, ...]] = {
    "CAP_SYS_ADMIN": (
        "fanotify_init",
        "fsconfig",
        "fsmount",
        "fsopen",
        "fspick",
        "lookup_dcookie",
        "lsm_get_self_attr",
        "lsm_list_modules",
        "lsm_set_self_attr",
        "mount",
        "mount_setattr",
        "move_mount",
        "open_tree",
        "quotactl",
        "quotactl_fd",
        "setdomainname",
        "sethostname",
        "setns",
        "umount",
        "umount2",
        "unshare",
    ),
    "CAP_DAC_READ_SEARCH": ("open_by_handle_at",),
    "CAP_SYS_BOOT": ("reboot",),
    "CAP_SYS_MODULE": ("delete_module", "finit_module", "init_module"),
    "CAP_SYS_NICE": ("get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node"),
    "CAP_SYS_PACCT": ("acct",),
    "CAP_SYS_PTRACE": ("kcmp", "pidfd_getfd", "process_madvise"),
    "CAP_SYS_RAWIO": ("ioperm", "iopl"),
    "CAP_SYS_TIME": ("clock_settime", "clock_settime64", "settimeofday", "stime"),
    "CAP_SYS_TTY_CONFIG": ("vhangup",),
}
"""Denied without the capability that the calls are for."""

UNLESS_ANY: dict[str, frozenset[str]] = {
    "bpf": frozenset({"CAP_SYS_ADMIN", "CAP_BPF"}),
    "perf_event_open": frozenset({"CAP_SYS_ADMIN", "CAP_PERFMON"}),
    "syslog": frozenset({"CAP_SYS_ADMIN", "CAP_SYSLOG"}),
}
"""Denied without one of the capabilities."""

NAMESPACE_FLAGS = (0x0002_0000, 0x0200_0000, 0x0400_0000, 0x0800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000)
"""Of clone: new mount, cgroup, uts, ipc, user, pid and network namespaces."""
SOCKET_FAMILIES = (38, 40)
"""AF_ALG, and AF_VSOCK, by which a guest talks to its host."""
