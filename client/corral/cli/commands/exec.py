"""corral exec."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from corral.cli import making, options
from corral.cli.command import command
from corral.cli.targets import container_only, find_container, parse_target, path_of

if TYPE_CHECKING:
    from corral import AsyncClient
    from corral.process import Process


@command(
    "exec",
    process_status=True,
    interspersed=False,
    examples=[
        ("A shell beside what runs", "corral exec -it g1/web sh"),
        ("One command and its status", "corral exec web test -f /run/ready && echo ready"),
        ("In the background; its exit later", "p=$(corral exec -d g1/web backup) && corral wait $p"),
    ],
)
@options.guest
@click.option("-i", "--interactive", is_flag=True, help="Keep the process's stdin open, and feed it ours.")
@click.option("-t", "--tty", is_flag=True, help="Give the process a terminal.")
@click.option("-d", "--detach", is_flag=True, help="Leave it running and print GUEST/NAME/EXEC.")
@click.option("--process", default=None, metavar="EXEC", help="Id of the process, unique in the container; left out, one is made up.")
@click.option("-e", "--env", multiple=True, metavar="K=V", help="Add a variable; K alone takes its value from here. Repeatable.")
@click.option(
    "--env-file",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Read variables from a file here, one K=V a line.",
)
@click.option("-w", "--workdir", default="", metavar="DIR", help="Working directory in the container.")
@click.option("-u", "--user", default="", metavar="USER", help="UID[:GID] or NAME[:GROUP] looked up in the container's rootfs.")
@click.option(
    "--process-json",
    type=click.File("rb"),
    default=None,
    metavar="FILE",
    help="Further members of the OCI process object (capabilities, rlimits, …), from a JSON file here; - for stdin.",
)
@options.detach_keys
@options.signal_proxy
@options.json_only
@options.timeout
@options.broker
@click.argument("container", metavar="CONTAINER", shell_complete=options.complete_containers)
@click.argument("args", nargs=-1, required=True, type=click.UNPROCESSED, metavar="[--] CMD [ARG...]")
def exec(
    container: str,
    args: Sequence[str],
    guest: str,
    timeout_s: float,
    broker: str | None,
    detach: bool,
    as_json: bool,
    tty: bool,
    interactive: bool,
    **rest: Any,
) -> int:
    """Run one more process in a running container.

    Without -d the command stays until the process has ended and everything it wrote is here; a descendant that still holds its output
    is not waited for. A process without --process is forgotten by `inspect` once it has ended here; its output and exit stay in the
    guest for a day.
    """
    from corral.cli.session import with_client

    target = container_only(parse_target(container, guest))
    program = list(args[1:] if args[0] == "--" else args)
    if not program:
        raise click.UsageError("say what to run after --")
    if not detach:
        making.check_terminal(tty=tty, stdin=interactive)
    oci = _process_members(rest["process_json"])
    env = making.variables(rest["env"], rest["env_file"])

    async def start(client: "AsyncClient") -> "Process":
        found = await find_container(client, target)
        return await found.exec(
            program,
            process=rest["process"],
            env=env,
            cwd=rest["workdir"],
            user=rest["user"],
            stdio=making.stdio_options(tty=tty, stdin=interactive),
            oci=oci,
        )

    async def body(client: "AsyncClient") -> int:
        if detach:
            _print_started(await start(client), as_json=as_json)
            return 0
        return await _in_foreground(
            client, start, tty=tty, stdin=interactive, keys=rest["detach_keys"], proxy=rest["signal_proxy"], named=bool(rest["process"])
        )

    return with_client(broker, body, timeout_s=timeout_s)


async def _in_foreground(client: "AsyncClient", start: Any, *, tty: bool, stdin: bool, keys: bytes, proxy: bool, named: bool) -> int:
    import contextlib

    from corral import CorralError
    from corral.cli.foreground import Foreground, Manner
    from corral.cli.signals import SignalInbox

    with SignalInbox(passed_on=proxy) as inbox:
        process: Process = await inbox.during(start(client), "the process")
        manner = Manner(path=path_of(process.container, process.process), tty=tty, stdin=stdin, detach_keys=keys)
        status = await Foreground(process, manner, inbox).run()
        if not named:
            # It may be running still (detached), or the guest be away: then it just stays in the list.
            with contextlib.suppress(CorralError):
                await process.delete()
        return status


def _process_members(file: Any) -> dict[str, Any] | None:
    import json

    if file is None:
        return None
    try:
        members = json.load(file)
    except ValueError as why:
        raise click.UsageError(f"--process-json: not JSON: {why}") from why
    if not isinstance(members, dict):
        raise click.UsageError("--process-json: a JSON object is wanted")
    return members


def _print_started(process: "Process", *, as_json: bool) -> None:
    from corral.cli.output import json_line

    container = process.container
    if not as_json:
        click.echo(path_of(container, process.process))
        return
    record = {
        "guest": container.guest,
        "container": container.name,
        "instance": container.instance,
        "process": process.process,
        "process_instance": process.instance,
        "pid": process.pid,
    }
    click.echo(json_line(record))
