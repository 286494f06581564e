"""From docker's flags to what makes a container: the options of run and create, and the spec and streams they mean."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from corral.cli.fleet import spec_inside, spec_limits, spec_security
from corral.cli.fleet.env_file import variables_of
from corral.cli.fleet.spec_options import SpecOption, spec_members
from corral.cli.shell.options import SIZE, complete_guests

if TYPE_CHECKING:
    from corral import AsyncClient, ContainerSpec, Mount, StdioOptions
    from corral.cli.fleet.selecting import Choice

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS: list[Callable[[F], F]] = [
    click.option(
        "-g",
        "--guest",
        default="",
        metavar="GUEST",
        shell_complete=complete_guests,
        help="Guest to run in. May be left out while only one is up.",
    ),
    click.option("--rootfs", default="", metavar="DIR", help="Directory in the guest that becomes the container's root file system."),
    click.option(
        "--image",
        default="",
        metavar="NAME",
        help="Bundle that was pushed (`corral bundle push`): NAME[:TAG], or sha256:…; instead of --rootfs. CMD may be left out.",
    ),
    click.option("--bundle", default="", metavar="DIR", help="OCI bundle (config.json and rootfs) in the guest, instead of --rootfs."),
    click.option("--name", default=None, metavar="NAME", help="Name of the container; without it, a name is generated."),
    click.option("-i", "--interactive", is_flag=True, help="Keep the process's stdin open, and send it yours."),
    click.option("-t", "--tty", is_flag=True, help="Give the process a terminal."),
    click.option("-e", "--env", multiple=True, metavar="K=V", help="Set a variable; K alone takes its value from here. Repeatable."),
    click.option(
        "--env-file",
        multiple=True,
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        metavar="FILE",
        help="Read variables from a file here, one K=V a line.",
    ),
    click.option("-w", "--workdir", default="", metavar="DIR", help="Working directory in the container."),
    click.option("-u", "--user", default="", metavar="USER", help="UID[:GID] or NAME[:GROUP] looked up in the rootfs."),
    click.option(
        "-v", "--volume", "volumes", multiple=True, metavar="SRC:DST[:ro]", help="Mount a directory or file of the guest. Repeatable."
    ),
    click.option("-m", "--memory", type=SIZE, default=None, metavar="SIZE", help="Memory limit, such as 64M; swap adds nothing to it."),
    click.option("--cpus", type=click.FloatRange(min=0, min_open=True), default=None, metavar="X", help="Processor limit, such as 0.5."),
    click.option(
        "--pids-limit", type=click.IntRange(min=-1), default=None, metavar="N", help="Most processes; -1: no limit. Default: 2048."
    ),
    click.option(
        "--network",
        "--net",
        type=click.Choice(["none", "host"]),
        default=None,
        help="none: only loopback (the default). host: the guest's network.",
    ),
    click.option("--entrypoint", default=None, metavar="PROG", help="With --image: replaces its entrypoint and its command."),
    click.option("-h", "--hostname", default="", metavar="NAME", help="Host name in the container."),
    click.option(
        "--rw/--read-only",
        "writable",
        default=None,
        help="Let the container write to the rootfs itself. Default: read-only, with a tmpfs on /tmp; with --image as --overlay.",
    ),
    click.option(
        "--overlay",
        is_flag=True,
        help="Let it write to its own layer, deleted with the container; the rootfs does not change. The default with --image.",
    ),
]


SPEC_OPTIONS: tuple[SpecOption, ...] = (*spec_limits.OPTIONS, *spec_inside.OPTIONS, *spec_security.OPTIONS)
"""Options that set one member of a spec each."""


def add_options(function: F) -> F:
    """All options that say what to make; they arrive as keyword arguments for `ContainerOptions.of`."""
    for spec_option in reversed(SPEC_OPTIONS):
        function = spec_option.added_to(function)
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


@dataclass(frozen=True)
class ContainerOptions:
    """What the options said."""

    guest: str
    rootfs: str
    image: str
    bundle: str
    name: str | None
    interactive: bool
    tty: bool
    env: Sequence[str]
    env_file: Sequence[Path]
    workdir: str
    user: str
    volumes: Sequence[str]
    memory: int | None
    cpus: float | None
    pids_limit: int | None
    network: str | None
    entrypoint: str | None
    hostname: str
    writable: bool | None
    overlay: bool
    args: Sequence[str]
    more: Mapping[str, Any] = field(default_factory=dict)
    """Values of SPEC_OPTIONS."""

    @classmethod
    def of(cls, what: Mapping[str, Any]) -> "ContainerOptions":
        """From the keyword arguments of a command with these options."""
        more = {option.parameter: what[option.parameter] for option in SPEC_OPTIONS}
        return cls(**{name: value for name, value in what.items() if name not in more}, more=more)

    def check(self) -> None:
        """Raises click.UsageError for options that do not go together."""
        if sum(map(bool, (self.rootfs, self.bundle, self.image))) != 1:
            raise click.UsageError(
                "give one of them: --image NAME (a bundle that was pushed), or --rootfs DIR or --bundle DIR (in the guest)"
            )
        directory = self.rootfs or self.bundle
        if directory and not directory.startswith("/"):
            raise click.UsageError(f"{directory!r} must be an absolute path, in the guest")
        if self.overlay and self.writable is False:
            raise click.UsageError("--overlay lets the container write, --read-only does not: give one")
        if self.hostname and self.more.get("spec_uts") == "host":
            raise click.UsageError("--uts host is the guest's host name, --hostname another: give one")
        if self.more.get("spec_memory_swap") is not None and self.memory is None:
            raise click.UsageError("--memory-swap is the limit of memory and swap together: give --memory too")
        if self.bundle:
            self._check_bundle()
        elif self.image:
            self._check_image()
        elif self.entrypoint is not None:
            raise click.UsageError("--entrypoint goes with --image; with --rootfs put the program first in CMD")
        elif not self.args:
            raise click.UsageError("with --rootfs, say what to run, after the options: -- CMD [ARG...]")

    def _check_image(self) -> None:
        from corral_schemas.errors import CorralError
        from corral_schemas.names import bundle_ref

        try:
            bundle_ref(self.image)
        except CorralError as why:
            raise click.UsageError(f"--image: {why.message}") from why

    def _check_bundle(self) -> None:
        if self.args:
            raise click.UsageError("a bundle says itself what to run (config.json: process.args); CMD goes with --rootfs")
        given = {
            "--env": self.env,
            "--env-file": self.env_file,
            "--workdir": self.workdir,
            "--user": self.user,
            "--volume": self.volumes,
            "--memory": self.memory is not None,
            "--cpus": self.cpus is not None,
            "--pids-limit": self.pids_limit is not None,
            "--network": self.network,
            "--hostname": self.hostname,
            "--rw": self.writable is not None,
            "--overlay": self.overlay,
            "--entrypoint": self.entrypoint is not None,
            **{option.flags[-1]: option.is_given(self.more.get(option.parameter)) for option in SPEC_OPTIONS},
        }
        for flag, value in given.items():
            if value:
                raise click.UsageError(f"{flag} changes nothing in a bundle: write it into its config.json, or use --rootfs")

    def spec(self) -> "ContainerSpec | None":
        """None with a bundle. Raises click.UsageError for a malformed variable or mount."""
        import msgspec

        from corral import ContainerSpec

        if self.bundle:
            return None
        made = ContainerSpec(
            rootfs=self.rootfs,
            image=self.image,
            entrypoint=None if self.entrypoint is None else [self.entrypoint] if self.entrypoint else [],
            args=list(self.args),
            env=variables(self.env, self.env_file),
            cwd=self.workdir,
            user=self.user,
            mounts=[mount(text) for text in self.volumes],
            memory_bytes=self.memory,
            cpus=self.cpus,
            pids_limit=self.pids_limit,
            network="host" if self.network == "host" else "none",
            writable=bool(self.writable) and not self.overlay,
            overlay=self.overlay or (bool(self.image) and self.writable is not False),
            hostname=self.hostname,
        )
        more = spec_members(SPEC_OPTIONS, self.more)
        return msgspec.structs.replace(made, **{**more, "mounts": [*made.mounts, *more.get("mounts", [])]})

    def stdio(self) -> "StdioOptions":
        return stdio_options(tty=self.tty, stdin=self.interactive)


def stdio_options(*, tty: bool, stdin: bool) -> "StdioOptions":
    """With a tty it begins at the size of our terminal, where we have one."""
    from corral import StdioOptions
    from corral.cli.text.terminal import size_of

    size = size_of(0, 1, 2) if tty else None
    return StdioOptions(tty=tty, stdin=stdin, rows=size.rows, columns=size.columns) if size else StdioOptions(tty=tty, stdin=stdin)


def check_terminal(*, tty: bool, stdin: bool) -> None:
    """Raises click.UsageError for -it whose input is no terminal: raw keys cannot come from there."""
    if tty and stdin and not os.isatty(0):
        raise click.UsageError("-t with -i needs a terminal as stdin; for piped input use -i without -t")


def check_fleet(choice: "Choice | None", limit_s: float | None, *, tty: bool, stdin: bool, detach: bool, as_json: bool) -> None:
    """Raises click.UsageError for options that do not go with --select, or only with it."""
    if choice is None and limit_s is not None:
        raise click.UsageError("--for goes with --select; for one container use `corral run -d` and `corral wait --for`")
    if choice is not None and (tty or stdin):
        raise click.UsageError("one terminal and one stdin are not for many guests: --select goes without -i and -t")
    if choice is not None and detach and limit_s is not None:
        raise click.UsageError("--for needs a run in the foreground: leave out -d")
    if choice is None and as_json and not detach:
        raise click.UsageError("--json goes with -d or --select: output in the foreground is the process's own; see `corral logs --json`")


def variables(given: Sequence[str], files: Sequence[Path] = ()) -> list[str]:
    """NAME=VALUE for each, those of files first; a NAME alone gets its value from our environment, or is left out where we have none."""
    found = [variable for file in files for variable in variables_of(file)]
    for text in given:
        name, separator, _ = text.partition("=")
        if not name:
            raise click.UsageError(f"--env {text!r} is not K=V")
        if separator:
            found.append(text)
        elif name in os.environ:
            found.append(f"{name}={os.environ[name]}")
    return found


def mount(text: str) -> "Mount":
    """SRC:DST[:ro|rw], both absolute. Raises click.UsageError."""
    from corral import Mount

    parts = text.split(":")
    if len(parts) not in (2, 3) or not all(p.startswith("/") for p in parts[:2]) or (len(parts) == 3 and parts[2] not in ("ro", "rw")):
        raise click.UsageError(f"-v {text!r} is not SRC:DST[:ro] with absolute paths (SRC in the guest)")
    return Mount(source=parts[0], destination=parts[1], readonly=parts[2:] == ["ro"])


async def chosen_guest(client: "AsyncClient", asked: str, *, ways: str = "--guest") -> str:
    """The guest asked for, else the only one that is up. Raises guest_unreachable where none is, and where several are click.UsageError,
    which names the options that say which (`ways`).
    """
    from corral_schemas.errors import error

    if asked:
        return asked
    known = await client.guests()
    up = sorted(guest.guest for guest in known if guest.up)
    if len(up) == 1:
        return up[0]
    if up:
        more = ", …" if len(up) > 8 else ""
        raise click.UsageError(f"{len(up)} guests are up ({', '.join(up[:8])}{more}): say which with {ways}")
    raise error("guest_unreachable", "no guest is up" + (f" ({len(known)} known, all down)" if known else ""))
