"""The members of an OCI configuration by name: one that is spelt in other letter cases is refused.

runc takes a member whatever its letter cases are, crun only as the specification spells it; what Corral looks at must be what either takes.
"""

from collections.abc import Iterator
from typing import Any

from corral_schemas.errors import error

_TEXT = """
ociVersion process root hostname domainname mounts hooks linux annotations terminal consoleSize height width user uid gid umask
additionalGids username args commandLine env cwd capabilities bounding effective inheritable permitted ambient rlimits type hard soft
noNewPrivileges apparmorProfile oomScoreAdj scheduler policy nice priority flags runtime deadline period selinuxLabel ioPriority class
execCPUAffinity initial final path readonly destination source options uidMappings gidMappings containerID hostID size prestart
createRuntime createContainer startContainer poststart poststop timeout sysctl resources cgroupsPath namespaces devices major minor
fileMode netDevices seccomp rootfsPropagation maskedPaths readonlyPaths mountLabel intelRdt personality timeOffsets memoryPolicy mode
nodes name allow access memory limit reservation swap kernel kernelTCP swappiness disableOOMKiller useHierarchy checkBeforeUpdate cpu
shares quota burst realtimeRuntime realtimePeriod cpus mems idle pids blockIO weight leafWeight weightDevice throttleReadBpsDevice
throttleWriteBpsDevice throttleReadIOPSDevice throttleWriteIOPSDevice rate hugepageLimits pageSize network classID priorities rdma
hcaHandles hcaObjects unified defaultAction defaultErrnoRet architectures listenerPath listenerMetadata syscalls names action errnoRet
index value valueTwo op closID l3CacheSchema memBwSchema schemata enableCMT enableMBM enableMonitoring domain secs nanosecs
"""
"""As the specification spells its members."""
_SPELT = frozenset(_TEXT.split())
_SPELLINGS: dict[str, frozenset[str]] = {
    folded: frozenset(name for name in _SPELT if name.casefold() == folded) for folded in {name.casefold() for name in _SPELT}
}
"""As a runtime folds a name → the names that are right. Folding takes also letters beyond ASCII for those of it."""
_FREE = {("annotations",), ("linux", "sysctl"), ("linux", "netDevices"), ("linux", "resources", "unified"), ("linux", "resources", "rdma")}
"""Members whose own members have names that the caller chooses."""


def check_spelling(config: dict[str, Any], at: tuple[str, ...] = ()) -> None:
    """Raise bundle_invalid for a member that is one of the specification's in other letter cases. at: where the object stands."""
    for place, name in _members(config, at):
        right = _SPELLINGS.get(name.casefold())
        if right and name not in right:
            where, spelt = ".".join((*place, name))[:200], " or ".join(sorted(right))
            raise error("bundle_invalid", f"{where!r} is spelt {spelt!r}: runtimes differ in what they make of it")


def _members(value: Any, at: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Each member's name that the specification chooses, with the members above it."""
    if isinstance(value, list):
        for one in value:
            yield from _members(one, at)
    elif isinstance(value, dict):
        for name, inner in value.items():
            if at not in _FREE:
                yield at, name
            yield from _members(inner, (*at, name))
