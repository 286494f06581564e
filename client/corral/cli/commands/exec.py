"""corral exec."""

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from corral.cli.fleet import container_options
from corral.cli.fleet.selecting import choice
from corral.cli.shell import options
from corral.cli.shell.command import command
from corral.cli.text.targets import Target, container_only, find_container, parse_target, path_of

if TYPE_CHECKING:
    from corral import AsyncClient
    from corral.cli.fleet.selecting import Choice
    from corral.cli.fleet.sweep import SweepOptions
    from corral.process import Process


@command(
    "exec",
    process_status=True,
    interspersed=False,
    examples=[
        ("A shell beside what runs", "corral exec -it g1/web sh"),
        ("One command and its status", "corral exec web test -f /run/ready && echo ready"),
        ("In the containers of that name, in many guests", "corral exec --select all --window 8 web -- uptime"),
        ("In the background; its exit later", "p=$(corral exec -d g1/web backup) && corral wait $p"),
    ],
)
@options.guest
@choice()
@options.limit
@click.option("-i", "--interactive", is_flag=True, help="Keep the process's stdin open, and send it yours.")
@click.option("-t", "--tty", is_flag=True, help="Give the process a terminal.")
@click.option("-d", "--detach", is_flag=True, help="Leave it running and print GUEST/NAME/EXEC.")
@click.option("--process", default=None, metavar="EXEC", help="Id of the process, unique in the container; without it, an id is generated.")
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
@click.option("--ignore-paused", is_flag=True, help="In a paused container, wait until it is resumed; without it, that is an error.")
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
    choice: "Choice | None",
    limit_s: float | None,
    timeout_s: float,
    broker: str | None,
    detach: bool,
    as_json: bool,
    tty: bool,
    interactive: bool,
    **rest: Any,
) -> int:
    """Run one more process in a running container.

    Without -d the command stays until the process has ended and all its output has arrived; it does not wait for a descendant that
    keeps the output open. A process without --process is forgotten by `inspect` once it has ended here; its output and exit stay in
    the guest for a day.

    With --select it is done in the container NAME of every guest selected (NAME may be a pattern such as 'web-*'): see `corral run`.
    """
    from corral.cli.fleet.sweep import SweepOptions, check_names
    from corral.cli.shell.session import with_client

    program = list(args[1:] if args[0] == "--" else args)
    if not program:
        raise click.UsageError("say what to run after --")
    container_options.check_fleet(choice, limit_s, tty=tty, stdin=interactive, detach=detach, as_json=as_json)
    if choice:
        check_names([container], processes=False)
    target = Target(container, "", container, "") if choice else container_only(parse_target(container, guest))
    if not detach:
        container_options.check_terminal(tty=tty, stdin=interactive)
    oci = _process_members(rest["process_json"])
    env = container_options.variables(rest["env"], rest["env_file"])

    async def start(client: "AsyncClient", target: Target) -> "Process":
        found = await find_container(client, target)
        return await found.exec(
            program,
            process=rest["process"],
            env=env,
            cwd=rest["workdir"],
            user=rest["user"],
            stdio=container_options.stdio_options(tty=tty, stdin=interactive),
            oci=oci,
            ignore_paused=rest["ignore_paused"],
        )

    async def body(client: "AsyncClient") -> int:
        if choice:
            fleet = SweepOptions("exec", [container])
            return await _over_fleet(client, choice, fleet, start, detach, as_json, rest["signal_proxy"], limit_s, bool(rest["process"]))
        if detach:
            click.echo(_started_text(await start(client, target), as_json=as_json))
            return 0
        return await _in_foreground(
            start(client, target),
            tty=tty,
            stdin=interactive,
            keys=rest["detach_keys"],
            proxy=rest["signal_proxy"],
            named=bool(rest["process"]),
        )

    return with_client(broker, body, timeout_s=timeout_s)


async def _over_fleet(
    client: "AsyncClient",
    choice: "Choice",
    manner: "SweepOptions",
    start: "Callable[[AsyncClient, Target], Awaitable[Process]]",
    detach: bool,
    as_json: bool,
    signal_proxy: bool,
    limit_s: float | None,
    named: bool,
) -> int:
    """One more process in each container of that name."""
    from corral.cli.fleet.attach_many import attach_many
    from corral.cli.fleet.sweep import sweep

    async def start_and_tell(target: Target, _: object) -> str:
        return _started_text(await start(client, target), as_json=as_json)

    if detach:
        return await sweep(client, choice, manner, start_and_tell)
    after = None if named else _forget
    return await attach_many(
        client,
        choice,
        manner,
        lambda target: start(client, target),
        signal_proxy=signal_proxy,
        limit_s=limit_s,
        after=after,
        as_json=as_json,
    )


async def _forget(process: "Process") -> None:
    """Frees the id nobody chose. It may be running still (detached), or the guest be away: then it just stays in the list."""
    import contextlib

    from corral import CorralError

    with contextlib.suppress(CorralError):
        await process.delete()


async def _in_foreground(starting: "Coroutine[Any, Any, Process]", *, tty: bool, stdin: bool, keys: bytes, proxy: bool, named: bool) -> int:
    from corral.cli.foreground.foreground import Foreground, ForegroundOptions
    from corral.cli.foreground.signals import SignalInbox

    with SignalInbox(passed_on=proxy) as inbox:
        process: Process = await inbox.during(starting, "the process")
        manner = ForegroundOptions(path=path_of(process.container, process.process), tty=tty, stdin=stdin, detach_keys=keys)
        status = await Foreground(process, manner, inbox).run()
        if not named:
            await _forget(process)
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


def _started_text(process: "Process", *, as_json: bool) -> str:
    from corral.cli.text.output import json_line

    container = process.container
    if not as_json:
        return path_of(container, process.process)
    record = {
        "guest": container.guest,
        "container": container.name,
        "instance": container.instance,
        "process": process.process,
        "process_instance": process.instance,
        "pid": process.pid,
    }
    return json_line(record)
