"""Where a guest's things live: STATE survives a reboot, RUN (tmpfs) does not."""

import os
from dataclasses import dataclass
from pathlib import Path

from corral_schemas.private_directories import why_not_private

SOCKET_PATH_BYTES_MAX = 107
"""sun_path of unix(7) less its closing NUL."""


class NotPrivateError(Exception):
    """A directory that somebody else could change under the worker; the text says what to do."""


@dataclass(frozen=True)
class GuestPaths:
    """Paths of one guest. Nothing a user chose stands in them below STATE and RUN, only instances."""

    state: Path
    run: Path

    @property
    def journal(self) -> Path:
        return self.state / "journal.sqlite"

    @property
    def lock(self) -> Path:
        return self.state / "lock"

    @property
    def version(self) -> Path:
        return self.state / "version"

    @property
    def instances(self) -> Path:
        return self.state / "instances"

    @property
    def bundles(self) -> Path:
        """Bundles that were pushed. Made by the first push."""
        return self.state / "bundles"

    @property
    def runtime_root(self) -> Path:
        """The runtime's --root."""
        return self.run / "runc"

    @property
    def sockets(self) -> Path:
        return self.run / "s"

    @property
    def memory(self) -> Path:
        """A random word that lives as long as what this guest's memory holds. Made when first asked for."""
        return self.run / "memory"

    @property
    def zygote_socket(self) -> Path:
        return self.run / "zygote.sock"

    def container(self, instance: str) -> Path:
        return self.instances / instance

    def bundle(self, instance: str) -> Path:
        return self.instances / instance / "bundle"

    def shim_record(self, instance: str) -> Path:
        return self.instances / instance / "record"

    def process(self, instance: str, process_instance: str) -> Path:
        return self.instances / instance / process_instance

    def shim_socket(self, instance: str) -> Path:
        return self.sockets / f"{instance}.sock"

    def pid_file(self, instance: str) -> Path:
        """Where the runtime writes the pid of what it creates, a call at a time: not on the state's disk, which may be full by then."""
        return self.sockets / f"{instance}.pid"

    def console_socket(self, process_instance: str) -> Path:
        return self.sockets / f"{process_instance}.tty"

    def make(self) -> None:
        """Makes the directories, private to their owner. Raises OSError where that cannot be, NotPrivateError."""
        for directory in (self.state, self.run, self.instances, self.runtime_root, self.sockets):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            target = directory.stat()
            why = why_not_private(str(directory), (directory.lstat().st_uid, target.st_uid), target.st_mode, os.geteuid())
            if why:
                raise NotPrivateError(why)

    def longest_socket_path(self) -> int:
        """Bytes of the longest socket path made under RUN (an instance has 26 characters)."""
        return len(bytes(self.shim_socket("0" * 26)))
