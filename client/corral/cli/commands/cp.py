"""corral cp."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from corral.cli.shell import options
from corral.cli.shell.command import command

if TYPE_CHECKING:
    from corral import AsyncClient


@command(
    "cp",
    examples=[
        ("Into a container, as /etc/app.conf", "corral cp app.conf g1/web:/etc/app.conf"),
        ("Out of one, into this directory", "corral cp web:/var/log/app.log ."),
        ("Out of one, into a pipe", "corral cp web:/etc/app.conf /dev/stdout | diff app.conf -"),
    ],
)
@options.guest
@options.timeout
@options.broker
@click.argument("source", metavar="SRC|CONTAINER:SRC")
@click.argument("destination", metavar="CONTAINER:DST|DST")
def cp(source: str, destination: str, guest: str, timeout_s: float, broker: str | None) -> int:
    """Copy a single file into a container, or out of one, as the container sees it: running, paused or stopped.

    One of the two names a container: CONTAINER:PATH. A directory as destination keeps the file's name. Mode and time are kept; in the
    container the file belongs to root. The file is there whole or not at all, and no link in the container leads out of it. On this
    machine links are followed; a pipe, a device and a file with several names are written into and stay what they are. A path of this
    machine that has a `:` begins with ./ or /.
    """
    from corral.cli.shell.session import with_client
    from corral.cli.text.targets import container_only, find_container, parse_target

    ours, theirs = _split(source), _split(destination)
    if (ours is None) == (theirs is None):
        raise click.UsageError("one of the two, and only one, is CONTAINER:PATH")
    name, path = ours or theirs or ("", "")
    if not path:
        raise click.UsageError(f"{name}: has no path: CONTAINER:PATH")
    target = container_only(parse_target(name, guest))

    async def body(client: "AsyncClient") -> int:
        container = await find_container(client, target)
        try:
            if ours is None:
                await container.copy_in(Path(source), path)
            else:
                await container.copy_out(path, Path(destination))
        except BrokenPipeError:  # what reads our output has ended
            raise
        except OSError as why:  # of this machine's own file
            from corral.cli.text.failures import Failed

            raise Failed(f"{why.filename or destination}: {why.strerror or why}") from why
        return 0

    return with_client(broker, body, timeout_s=timeout_s)


def _split(text: str) -> tuple[str, str] | None:
    """(container, path); None for a path of this machine. Raises click.UsageError for `-`."""
    if text == "-":
        raise click.UsageError("single files are copied: `-` (a tar) is not taken; use /dev/stdout, or `corral run -i … tar x`")
    name, colon, path = text.partition(":")
    return (name, path) if colon and not text.startswith((".", "/")) else None
