"""The runtime's command lines, as pure functions; nothing is run here. Works for runc and for runtimes with its command line (crun)."""

from dataclasses import dataclass, field
from pathlib import Path

SYSTEMD_CGROUPS = "--systemd-cgroup"
_ELF = b"\x7fELF"


def is_plain_runc(binary: Path, version: str, arguments: tuple[str, ...]) -> bool:
    """By its `--version`, and no script around it (which would be there to do something else as well), no systemd. Raises OSError."""
    with binary.open("rb") as file:
        return file.read(len(_ELF)) == _ELF and version.startswith("runc version ") and SYSTEMD_CGROUPS not in arguments


@dataclass(frozen=True)
class Runtime:
    """How to call one runtime: binary, further global arguments, its --root."""

    binary: str
    root: Path
    arguments: tuple[str, ...] = field(default=())
    is_plain_runc: bool = False
    """runc's own binary, its cgroups made by itself: what its `delete` does for a stopped container is known."""

    @property
    def has_systemd_cgroups(self) -> bool:
        """Containers are units of systemd, and cgroups are named as slice:prefix:name."""
        return SYSTEMD_CGROUPS in self.arguments

    def _verb(self, log: Path, verb: str, *rest: str) -> list[str]:
        return [self.binary, *self.arguments, "--root", str(self.root), "--log", str(log), "--log-format", "json", verb, *rest]

    def create(self, instance: str, bundle: Path, pid_file: Path, log: Path, console_socket: Path | None) -> list[str]:
        console = ["--console-socket", str(console_socket)] if console_socket else []
        return self._verb(log, "create", "--bundle", str(bundle), "--pid-file", str(pid_file), *console, instance)

    def run(self, instance: str, bundle: Path, pid_file: Path, log: Path, console_socket: Path | None) -> list[str]:
        """create and start in one call; returns when it is started."""
        console = ["--console-socket", str(console_socket)] if console_socket else []
        return self._verb(log, "run", "--detach", "--bundle", str(bundle), "--pid-file", str(pid_file), *console, instance)

    def start(self, instance: str, log: Path) -> list[str]:
        return self._verb(log, "start", instance)

    def exec(self, instance: str, process_json: Path, pid_file: Path, log: Path, console_socket: Path | None) -> list[str]:
        console = ["--console-socket", str(console_socket)] if console_socket else []
        return self._verb(log, "exec", "--detach", "--process", str(process_json), "--pid-file", str(pid_file), *console, instance)

    def pause(self, instance: str, log: Path) -> list[str]:
        return self._verb(log, "pause", instance)

    def resume(self, instance: str, log: Path) -> list[str]:
        return self._verb(log, "resume", instance)

    def update(self, instance: str, resources: Path, log: Path) -> list[str]:
        return self._verb(log, "update", "--resources", str(resources), instance)

    def delete(self, instance: str, log: Path, *, force: bool = False) -> list[str]:
        return self._verb(log, "delete", *(["--force"] if force else []), instance)
