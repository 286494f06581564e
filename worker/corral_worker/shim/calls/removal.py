"""Removing a stopped container's runtime state without a run of the runtime, where that is all a run would do.

What `runc delete` does for a container whose processes have all ended: remove its cgroups, then its directory, then run
the poststop hooks. Without hooks no program is needed for that, and a whole process is saved. Whatever is not plainly
so is left to the runtime, which also finishes what was only begun here: the directory goes last.
"""

from __future__ import annotations

import json
import os

from corral_worker.shim.base.files import remove_tree
from corral_worker.shim.base.light import Any
from corral_worker.shim.base.linux import log
from corral_worker.shim.base.paths import ShimPaths
from corral_worker.shim.cgroup.cgroup import Cgroup, is_own


def remove_stopped(place: ShimPaths) -> bool:
    """Remove what runc has of a container in which nothing lives. False: (also) to be done by the runtime."""
    cgroups = _plain_cgroups(place)
    if cgroups is None:
        return False
    for path in set(cgroups.values()):
        try:
            os.rmdir(path)  # noqa: PTH106
        except FileNotFoundError:
            continue
        except OSError:  # cgroups below it, or somebody in it
            return _remove_slowly(Cgroup(cgroups)) and remove_tree(place.runtime_directory)
    return remove_tree(place.runtime_directory)


def _remove_slowly(cgroup: Cgroup) -> bool:
    try:
        return cgroup.kill() and cgroup.remove()
    except OSError as error:
        log(f"a cgroup could not be looked at: {error}")
        return False


def _plain_cgroups(place: ShimPaths) -> dict[str, str] | None:
    """Its cgroups by controller; None when there is more to undo than those, or this is no state of runc's that we know.

    Newer runc leaves out of its state what there is none of. Hooks are looked for in the bundle, too, where no runtime changes their name.
    """
    try:
        state = json.loads((place.runtime_directory / "state.json").read_bytes())
        config, cgroups = state["config"], state["cgroup_paths"]
        hooks = {**(config.get("Hooks") or {}), **(_bundle_config(place).get("hooks") or {})}
        systemd = (config.get("cgroups") or {}).get("Systemd")
        known = isinstance(cgroups, dict) and all(is_own(path, place.instance) for path in cgroups.values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    if systemd or state.get("intel_rdt_path") or any(hooks.values()) or not known:
        return None
    return dict(cgroups)


def _bundle_config(place: ShimPaths) -> dict[str, Any]:
    """Raises OSError or ValueError."""
    config = json.loads((place.directory / "bundle" / "config.json").read_bytes())
    return dict(config)
