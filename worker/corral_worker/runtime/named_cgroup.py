"""The cgroup that a bundle names: the container gets a level of its own below it, so that it is never mixed with what else is there."""

import os
from pathlib import Path
from typing import Any

from corral_schemas.errors import error
from corral_schemas.names import is_instance
from corral_worker.runtime.containment import Roots
from corral_worker.shim.cgroup.cgroup import OWN_LEVEL, frozen_at, hierarchies, occupied_unified

CORRALS = "corral"
"""The cgroup, at the top of every hierarchy, in which Corral makes those of containers whose bundles name none."""
_SYSTEMD_PARTS = 3


def cgroup_below(asked: Any, own: str, roots: Roots, *, systemd: bool = False) -> str:
    """The `cgroupsPath` for the runtime. `asked`: the bundle's; `own`: what Corral gives where it names none. Raises bundle_invalid.

    A relative path is one from the top of the hierarchies. With systemd the unit is the container's own, in the slice that is named.
    """
    if asked is None or asked == "":
        return own
    if not isinstance(asked, str) or "\0" in asked:
        raise error("bundle_invalid", "linux.cgroupsPath is no path")
    instance = Path(own).name
    if systemd and asked.count(":") == _SYSTEMD_PARTS - 1:
        _check_roots(f"/{asked}", roots)
        return f"{asked}-{OWN_LEVEL}{instance}"
    named = os.path.normpath("/" + asked.lstrip("/"))
    if named.split("/")[1] == CORRALS:
        raise error("bundle_invalid", f"linux.cgroupsPath {asked}: what is below /{CORRALS} is Corral's; name another, or none")
    if any(name.startswith(OWN_LEVEL) and is_instance(name.removeprefix(OWN_LEVEL)) for name in named.split("/")):
        raise error("bundle_invalid", f"linux.cgroupsPath {asked} is inside the cgroup of another container")
    _check_roots(named, roots)
    if others := occupied_unified(named):
        text = f"linux.cgroupsPath {asked}: in {others} are processes of others, so that on cgroup v2 no container can be below it"
        raise error("bundle_invalid", text)
    if frozen := frozen_at(named):
        raise error("bundle_invalid", f"linux.cgroupsPath {asked}: {frozen} is frozen, so that no container can start below it")
    return f"{named.rstrip('/')}/{OWN_LEVEL}{instance}"


def _check_roots(named: str, roots: Roots) -> None:
    """With allowed roots a bundle may name a cgroup only where its directories, in every hierarchy, lie below one."""
    if not roots:
        return
    outside = [mount for mount in hierarchies().values() if not any(Path(mount + named).is_relative_to(root) for root in roots)]
    if outside:
        text = f"linux.cgroupsPath: {outside[0]}{named} lies outside the roots allowed in this guest"
        raise error("bundle_invalid", text, path=outside[0] + named)
