"""What a container and its processes look like from outside."""

from typing import Annotated, Any, Literal

from msgspec import Meta

from corral_schemas.base import ContainerName, Count, GuestName, Instance, Message, Pid, ProcessName, TimeNs
from corral_schemas.exits import Exit

Status = Annotated[
    Literal["creating", "created", "running", "paused", "stopped"],
    Meta(description="OCI runtime state; `paused` is runc's addition"),
]


TMPFS_OPTION = (
    "^(ro|rw|(no)?(exec|suid|dev|atime|diratime)|relatime|strictatime|sync|dirsync"
    "|(size|mode|uid|gid|nr_inodes|nr_blocks)=[0-9]+[kmgKMG%]?)$"
)
TmpfsOption = Annotated[str, Meta(pattern=TMPFS_OPTION)]
UlimitName = Annotated[
    Literal[
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    ],
    Meta(description="As in setrlimit(2), without RLIMIT_"),
]
Cpus = Annotated[str, Meta(pattern="^[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*$|^$")]


Propagation = Literal["rprivate", "private", "rslave", "slave", "rshared", "shared"]


class Mount(Message, frozen=True, kw_only=True):
    """A bind mount; both are paths in the guest and in the container."""

    source: Annotated[str, Meta(description="Path in the guest", min_length=1)]
    destination: Annotated[str, Meta(description="Path in the container", min_length=1)]
    readonly: Annotated[bool, Meta(description="The container may not write to it")] = False
    propagation: Annotated[
        Propagation,
        Meta(description="Whether mounts made later, in the guest or the container, appear on the other side"),
    ] = "rprivate"


class Tmpfs(Message, frozen=True, kw_only=True):
    """A file system in memory."""

    destination: Annotated[str, Meta(description="Path in the container", min_length=1)]
    options: Annotated[
        list[TmpfsOption], Meta(description="size=64m, mode=1777, ro, exec, …; noexec, nosuid and nodev unless the opposite is given")
    ] = []


class Ulimit(Message, frozen=True, kw_only=True):
    """A limit of each process; -1 is no limit."""

    name: UlimitName
    soft: Annotated[int, Meta(description="The limit to begin with", ge=-1)]
    hard: Annotated[int, Meta(description="The highest that a process may give itself", ge=-1)]


class Device(Message, frozen=True, kw_only=True):
    """A device of the guest in a container."""

    source: Annotated[str, Meta(description="Path of the device in the guest, or of a directory of devices", min_length=1)]
    destination: Annotated[str, Meta(description="Path in the container; empty: the same")] = ""
    permissions: Annotated[str, Meta(description="What it may do: r, w, m (mknod)", pattern="^[rwm]{1,3}$")] = "rwm"


class ContainerSpec(Message, frozen=True, kw_only=True):
    """A container made from a root file system, or from a bundle that was pushed (one of them): the worker writes the OCI bundle."""

    rootfs: Annotated[str, Meta(description="Directory in the guest that becomes /")] = ""
    image: Annotated[str, Meta(max_length=330, description="Pushed bundle whose root file system becomes /, instead of rootfs")] = ""
    args: Annotated[
        list[str], Meta(description="Program and its arguments; with an image: what follows its entrypoint, instead of cmd")
    ] = []
    entrypoint: Annotated[list[str] | None, Meta(description="Instead of the image's; its cmd is left out then too")] = None
    env: Annotated[list[str], Meta(description="NAME=VALUE, added to PATH and HOSTNAME; with a tty TERM is xterm unless given")] = []
    cwd: Annotated[str, Meta(description="Working directory in the container; empty: the image's, or /")] = ""
    user: Annotated[str, Meta(description="UID, UID:GID, or a name[:group] looked up in the rootfs; empty: the image's, or root")] = ""
    mounts: Annotated[list[Mount], Meta(description="Bind mounts")] = []
    memory_bytes: Annotated[Count | None, Meta(description="Memory limit; swap gets none beyond it")] = None
    cpus: Annotated[Annotated[float, Meta(gt=0)] | None, Meta(description="Processor time per time, as a CFS quota")] = None
    pids_limit: Annotated[
        Annotated[int, Meta(ge=-1)] | None, Meta(description="Most processes and threads; 0 or -1: no limit; nil: 2,048")
    ] = None
    network: Annotated[Literal["none", "host"], Meta(description="`none`: a namespace with only loopback")] = "none"
    writable: Annotated[
        bool, Meta(description="Write to the rootfs itself (an image: as overlay); otherwise read-only with a tmpfs on /tmp")
    ] = False
    overlay: Annotated[bool, Meta(description="Writes go to a layer of this container's own, gone with it; the rootfs stays as it is")] = (
        False
    )
    hostname: Annotated[str, Meta(description="Host name in the container; empty: the container's id")] = ""
    tmpfs: Annotated[list[Tmpfs], Meta(description="File systems in memory")] = []
    shm_bytes: Annotated[Annotated[int, Meta(ge=1)] | None, Meta(description="Size of /dev/shm; nil: 64 MiB")] = None
    memory_swap_bytes: Annotated[
        Annotated[int, Meta(ge=-1)] | None, Meta(description="Memory and swap together; -1: no limit; nil: swap adds nothing")
    ] = None
    memory_reservation_bytes: Annotated[Count | None, Meta(description="What it keeps when the guest runs short of memory")] = None
    cpu_shares: Annotated[Annotated[int, Meta(ge=2, le=262_144)] | None, Meta(description="Weight among containers; 1024 is usual")] = None
    cpuset_cpus: Annotated[Cpus, Meta(description="Processors to run on: 0-2,7; empty: all")] = ""
    cpuset_mems: Annotated[Cpus, Meta(description="Memory nodes to use; empty: all")] = ""
    oom_score_adj: Annotated[int, Meta(description="How soon the kernel ends it for want of memory", ge=-1000, le=1000)] = 0
    cgroup_parent: Annotated[str, Meta(description="Cgroup, from the top, in which the container gets one; empty: Corral's")] = ""
    ulimits: Annotated[list[Ulimit], Meta(description="Limits of each process")] = []
    sysctls: Annotated[dict[str, str], Meta(description="Kernel settings of its own namespaces: net.*, fs.mqueue.*, kernel.shm*")] = {}
    groups: Annotated[list[str], Meta(description="Further groups, by number or by name in the rootfs")] = []
    pid: Annotated[
        str, Meta(pattern="^(host|container:.+)?$", description="Process namespace: empty: its own; host; container:NAME: of that one")
    ] = ""
    ipc: Annotated[Literal["", "host"], Meta(description="System V and shared memory: empty: its own; host")] = ""
    uts: Annotated[Literal["", "host"], Meta(description="Host name: empty: its own; host")] = ""
    cap_add: Annotated[list[str], Meta(description="Capabilities beside docker's default ones: NET_ADMIN or CAP_NET_ADMIN; ALL")] = []
    cap_drop: Annotated[list[str], Meta(description="Capabilities that the container does not get; ALL: all but those of cap_add")] = []
    privileged: Annotated[
        bool, Meta(description="Every capability and device, nothing hidden or filtered; refused unless the worker allows it")
    ] = False
    devices: Annotated[list[Device], Meta(description="Devices of the guest")] = []
    no_new_privileges: Annotated[bool, Meta(description="Set-id programs and file capabilities give nothing")] = False
    seccomp: Annotated[
        Literal["default", "unconfined"] | dict[str, Any],
        Meta(description="Filter of system calls: the default, none, or a profile in the form of docker or the OCI"),
    ] = "default"


class OciProcess(Message, frozen=True, kw_only=True):
    """The `process` of an OCI config (or `runc exec --process`), for exec."""

    args: Annotated[list[str], Meta(description="Program and its arguments", min_length=1)]
    env: Annotated[list[str], Meta(description="NAME=VALUE, added to the container's own environment")] = []
    cwd: Annotated[str, Meta(description="Empty: the container's working directory")] = ""
    user: Annotated[str, Meta(description="As in a ContainerSpec; empty: the container's user")] = ""
    oci: Annotated[dict[str, Any], Meta(description="Further members of the OCI process object, taken as they are")] = {}


class ProcessInfo(Message, frozen=True, kw_only=True):
    """One process that Corral started."""

    process: ProcessName
    instance: Instance
    pid: Pid
    tty: Annotated[bool, Meta(description="It has a terminal")] = False
    args: Annotated[list[str], Meta(description="Program and its arguments")] = []
    started_ns: TimeNs = 0
    exit: Annotated[Exit | None, Meta(description="How it ended; nil: it has not")] = None
    blocked_since_ns: Annotated[int | None, Meta(description="Since when a `block` process waits for its consumer")] = None


class ContainerState(Message, frozen=True, kw_only=True):
    """A container's state; the first seven fields are those of the runtime interface."""

    oci_version: Annotated[str, Meta(description="Version of the OCI runtime specification")]
    id: ContainerName
    pid: Pid
    bundle_path: Annotated[str, Meta(description="OCI bundle directory in the guest")]
    rootfs_path: Annotated[str, Meta(description="Its root file system in the guest")]
    status: Status
    created: Annotated[str, Meta(description="When it was created, RFC 3339, UTC")]
    instance: Instance
    guest: GuestName = ""
    auto_delete: Annotated[bool, Meta(description="It is deleted after its exit and the end of its output")] = False
    processes: Annotated[list[ProcessInfo], Meta(description="init first, then execs by age")] = []


class ContainerProcessState(Message, frozen=True, kw_only=True):
    """A process seen in the container, also one that Corral did not start."""

    pid: Pid
    command: Annotated[list[str], Meta(description="Its argument vector; empty for a zombie")]
    created_by_runtime: Annotated[bool, Meta(description="Started by Corral: init or an exec")] = False
    is_zombie: Annotated[bool, Meta(description="It has ended and is not reaped yet")] = False
    process: Annotated[str, Meta(description="Process id where Corral started it")] = ""


class ContainerStats(Message, frozen=True, kw_only=True):
    """Figures from the container's cgroup; a figure the guest's cgroups do not give is null."""

    time_ns: TimeNs
    cpu_ns: Annotated[int | None, Meta(description="Processor time used, nanoseconds")] = None
    memory_bytes: Annotated[int | None, Meta(description="Memory used now")] = None
    memory_limit_bytes: Annotated[int | None, Meta(description="null: no limit")] = None
    memory_max_usage_bytes: Annotated[int | None, Meta(description="Most memory used so far")] = None
    pids: Annotated[int | None, Meta(description="Processes and threads now")] = None
    pids_limit: Annotated[int | None, Meta(description="nil: no limit")] = None
    oom_kills: Annotated[Count, Meta(description="Processes killed for want of memory")] = 0
    stdout_bytes: Annotated[Count, Meta(description="Bytes of init's stdout so far")] = 0
    stderr_bytes: Annotated[Count, Meta(description="Bytes of init's stderr so far")] = 0
