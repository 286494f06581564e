"""corral attach."""

from typing import TYPE_CHECKING

import click

from corral.cli.shell import options
from corral.cli.shell.command import command
from corral.cli.text.targets import find_container, parse_target, path_of

if TYPE_CHECKING:
    from corral import AsyncClient


@command(
    "attach",
    process_status=True,
    examples=[
        ("Join a shell again after detaching", "corral attach g1/web"),
        ("Watch without typing into it", "corral attach --no-stdin g1/web"),
        ("Join an exec", "corral attach g1/web/shell"),
    ],
)
@options.guest
@click.option("--no-stdin", is_flag=True, help="Do not send it your stdin.")
@options.detach_keys
@options.signal_proxy
@options.timeout
@options.broker
@options.container_argument
def attach(container: str, guest: str, no_stdin: bool, detach_keys: bytes, signal_proxy: bool, timeout_s: float, broker: str | None) -> int:
    """Join the input and output of a running process, and end with its status.

    It shows output from now on; `corral logs` has earlier output. Your stdin goes to the process if it was made with -i.
    """
    from corral.cli.shell.session import with_client

    target = parse_target(container, guest)

    async def body(client: "AsyncClient") -> int:
        from corral.cli.foreground.foreground import Foreground, ForegroundOptions
        from corral.cli.foreground.positions import offsets_now
        from corral.cli.foreground.signals import SignalInbox

        found = await find_container(client, target)
        wanted = target.process or "init"
        info = next((p for p in (await found.state()).processes if p.process == wanted), None)
        process = found.process(wanted, info.instance if info else "")
        manner = ForegroundOptions(
            path=path_of(found, wanted),
            tty=bool(info and info.tty),
            stdin=not no_stdin,
            detach_keys=detach_keys,
            owned=False,
            begin=await offsets_now(client, process),
        )
        with SignalInbox(passed_on=signal_proxy) as inbox:
            return await Foreground(process, manner, inbox).run()

    return with_client(broker, body, timeout_s=timeout_s)
