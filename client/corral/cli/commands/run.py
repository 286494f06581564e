"""corral run, corral create."""

from typing import TYPE_CHECKING, Any

import click

from corral.cli.fleet import container_options
from corral.cli.fleet.selecting import choice
from corral.cli.shell import options
from corral.cli.shell.command import command

if TYPE_CHECKING:
    from corral import AsyncClient, ContainerSpec
    from corral.cli.fleet.selecting import Choice
    from corral.cli.text.targets import Target
    from corral.container import Container
    from corral.process import Process

_ARGS = click.argument("args", nargs=-1, type=click.UNPROCESSED, metavar="[--] CMD [ARG...]")


@command(
    "run",
    process_status=True,
    interspersed=False,
    help_flags=("--help",),
    examples=[
        (
            "Both streams on the right descriptors, and the status of the command",
            "corral run --guest g1 --rootfs /srv/bb -- sh -c 'exit 9'",
        ),
        ("A shell, gone afterwards", "corral run -it --rm --rootfs /srv/bb sh"),
        ("In the background, with a limit", "corral run -d --name web --memory 64M --bundle /srv/web"),
        ("The same in many guests, a tenth of them at a time", "corral run --rm --select role=web --window 10% --rootfs /srv/bb -- df -h"),
        (
            "One value a guest, for a script",
            "corral run --rm --json --select all --rootfs /srv/bb -- nproc | jq -r 'select(.stream == \"stdout\") | .path, .text'",
        ),
        ("A pipe through a container", "tar c . | corral run -i --rm --rootfs /srv/bb -v /data:/data --rw tar x -C /data"),
    ],
)
@container_options.add_options
@choice()
@options.limit
@click.option("-d", "--detach", is_flag=True, help="Leave it running and print GUEST/NAME.")
@click.option(
    "--rm",
    "auto_delete",
    is_flag=True,
    help="Delete the container after its exit; its exit and output stay readable, as GUEST/NAME, for a day.",
)
@options.detach_keys
@options.signal_proxy
@options.json_only
@options.timeout
@options.broker
@_ARGS
def run(
    choice: "Choice | None",
    limit_s: float | None,
    detach: bool,
    auto_delete: bool,
    detach_keys: bytes,
    signal_proxy: bool,
    as_json: bool,
    timeout_s: float,
    broker: str | None,
    **what: Any,
) -> int:
    """Create and start a container in a guest, with its output here.

    Paths are paths in the guest. With --rootfs the guest makes the OCI bundle, its root read-only unless --rw is given; with --bundle
    the bundle defines everything.

    Without -d the command stays until the process has ended and all its output has arrived. Ctrl-C and SIGTERM go to the process; a
    third within 2 s detaches, as ctrl-p ctrl-q does on a terminal. If the reader of the output goes away (`| head`), the process is
    ended like one that writes into a broken pipe.

    With --select it runs in every guest selected, under the same name. Each line of output begins with its guest, each failure is
    named on stderr, a last line counts ok, failed, timeout and unreachable, and the status is 0 only if all are ok. Signals go to all
    of them. With --json every line of output is an object as `corral logs --json` prints it, and every end one as `corral wait
    --json` does, both on stdout.
    """
    from corral.cli.shell.session import with_client

    made = container_options.ContainerOptions.of(what)
    made.check()
    spec = made.spec()
    container_options.check_fleet(choice, limit_s, tty=made.tty, stdin=made.interactive, detach=detach, as_json=as_json)
    if not detach:
        container_options.check_terminal(tty=made.tty, stdin=made.interactive)

    async def body(client: "AsyncClient") -> int:
        if choice:
            return await _over_fleet(client, choice, made, spec, detach, auto_delete, as_json, signal_proxy, limit_s)
        if detach:
            guest = await container_options.chosen_guest(client, made.guest, ways="--guest or --select")
            container = await client.guest(guest).run(
                made.name, bundle=made.bundle or None, spec=spec, stdio=made.stdio(), auto_delete=auto_delete
            )
            click.echo(_made_text(container, as_json=as_json))
            return 0
        return await _in_foreground(client, made, spec, auto_delete=auto_delete, detach_keys=detach_keys, signal_proxy=signal_proxy)

    return with_client(broker, body, timeout_s=timeout_s)


async def _over_fleet(
    client: "AsyncClient",
    choice: "Choice",
    made: container_options.ContainerOptions,
    spec: "ContainerSpec | None",
    detach: bool,
    auto_delete: bool,
    as_json: bool,
    signal_proxy: bool,
    limit_s: float | None,
) -> int:
    """A container of the same name in each guest."""
    from corral.cli.fleet.attach_many import attach_many
    from corral.cli.fleet.sweep import SweepOptions, sweep
    from corral.words import generated_name

    manner = SweepOptions("run", [made.name or generated_name()], literal=True)

    async def make(target: "Target") -> "Container":
        guest = client.guest(target.guest)
        return await guest.run(target.container, bundle=made.bundle or None, spec=spec, stdio=made.stdio(), auto_delete=auto_delete)

    async def start(target: "Target") -> "Process":
        return (await make(target)).init

    async def make_and_tell(target: "Target", _: object) -> str:
        return _made_text(await make(target), as_json=as_json)

    if detach:
        return await sweep(client, choice, manner, make_and_tell)
    return await attach_many(client, choice, manner, start, signal_proxy=signal_proxy, limit_s=limit_s, as_json=as_json)


async def _in_foreground(
    client: "AsyncClient",
    made: container_options.ContainerOptions,
    spec: "ContainerSpec | None",
    *,
    auto_delete: bool,
    detach_keys: bytes,
    signal_proxy: bool,
) -> int:
    from corral.cli.foreground.foreground import Foreground, ForegroundOptions
    from corral.cli.foreground.signals import SignalInbox
    from corral.words import generated_name

    guest = await container_options.chosen_guest(client, made.guest, ways="--guest or --select")
    name = made.name or generated_name()
    with SignalInbox(passed_on=signal_proxy) as inbox:
        starting = client.guest(guest).run(name, bundle=made.bundle or None, spec=spec, stdio=made.stdio(), auto_delete=auto_delete)
        container = await inbox.during(starting, f"{guest}/{name}")
        manner = ForegroundOptions(path=f"{guest}/{name}", tty=made.tty, stdin=made.interactive, detach_keys=detach_keys)
        return await Foreground(container.init, manner, inbox).run()


@command(
    "create",
    interspersed=False,
    help_flags=("--help",),
    examples=[
        ("Make it now, run it later", "corral create --name job --rootfs /srv/bb -- sh -c 'exit 3' && corral start -a g1/job"),
    ],
)
@container_options.add_options
@options.json_only
@options.timeout
@options.broker
@_ARGS
def create(as_json: bool, timeout_s: float, broker: str | None, **what: Any) -> int:
    """Create a container whose process waits for `corral start`, and print GUEST/NAME.

    The options are those of `corral run`; -i and -t say what streams the process will get.
    """
    from corral.cli.shell.session import with_client

    made = container_options.ContainerOptions.of(what)
    made.check()
    spec = made.spec()

    async def body(client: "AsyncClient") -> int:
        guest = await container_options.chosen_guest(client, made.guest)
        container = await client.guest(guest).create(made.name, bundle=made.bundle or None, spec=spec, stdio=made.stdio())
        click.echo(_made_text(container, as_json=as_json))
        return 0

    return with_client(broker, body, timeout_s=timeout_s)


def _made_text(container: "Container", *, as_json: bool) -> str:
    from corral.cli.text.output import json_line
    from corral.cli.text.targets import path_of

    if not as_json:
        return path_of(container)
    record = {"guest": container.guest, "container": container.name, "instance": container.instance, "pid": container.init.pid}
    return json_line(record)
