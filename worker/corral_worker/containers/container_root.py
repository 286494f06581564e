"""A container's root as the container sees it, opened: whatever is looked up from there stays in it (see safe_path)."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from corral_schemas.errors import error
from corral_worker.containers.guest import Guest
from corral_worker.journal.records import ContainerRecord
from corral_worker.runtime import cgroups, overlay


@contextmanager
def root_of(guest: Guest, container: ContainerRecord) -> Iterator[int]:
    """A descriptor of the container's root: through its init while that lives (so with all its mounts), else its files on the disk."""
    directory = guest.settings.paths.bundle(container.instance)
    descriptor = _root_by_init(guest, container)
    if descriptor < 0 and overlay.has_overlay(directory):
        if not overlay.may_mount():
            why = f"container {container.name} has no process, and this hardened worker may not mount its layer: copy while it runs"
            raise error("container_not_running", why, container=container.name)
        descriptor = overlay.open_detached(directory)
    elif descriptor < 0:
        descriptor = os.open(container.rootfs_path, os.O_PATH | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _root_by_init(guest: Guest, container: ContainerRecord) -> int:
    """Of a container whose init lives; else -1."""
    init = guest.processes[container.instance][container.init]
    if not init.pid or init.exit is not None:
        return -1
    try:
        descriptor = os.open(f"/proc/{init.pid}/root", os.O_PATH | os.O_DIRECTORY)
    except OSError:  # it has just ended
        return -1
    paths = cgroups.cgroup_paths(guest.settings.paths, container.instance)
    if paths and init.pid not in cgroups.pids_in(paths):  # it has, and another process of the guest may have got its number
        os.close(descriptor)
        return -1
    return descriptor
