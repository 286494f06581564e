"""corral bundle: push, list, inspect, rm, gc."""

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from corral.cli.bundle.guests import say_failure, selection, status_of, where, window_text
from corral.cli.bundle.kept import DIGEST_SHOWN, STATUSES, gc, inspect, list_, rm
from corral.cli.shell import options
from corral.cli.shell.command import CommandGroup, command

if TYPE_CHECKING:
    from corral import AsyncClient, Packed, Pushed
    from corral.batch.plan import Window
    from corral.fleet_map import Mapped
    from corral.selectors import Selector


NICENESS = 5
"""Of a push: commands come before it where the processor is wanted."""


@click.group(
    "bundle",
    cls=CommandGroup,
    statuses=STATUSES,
    aliases={"ls": "list", "remove": "rm", "prune": "gc"},
    examples=[
        ("A root file system to all guests, and a container from it", "corral bundle push /srv/busybox --select all"),
        ("", "corral run --guest g1 --image busybox sh -c 'echo hello'"),
        ("An image from a registry, by way of an OCI layout", "skopeo copy docker://alpine:3.20 oci:alpine:3.20"),
        ("", "corral bundle push alpine:3.20 --select role=web"),
        ("What is where", "corral bundle list"),
    ],
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
def bundle() -> None:
    """Push root file systems to guests, for `corral run --image NAME`.

    A bundle is kept under the digest of its content, and shared by all containers made from it, which cannot change it. Only content
    that a guest lacks is sent.
    """


@command(
    "bundle push",
    statuses=STATUSES,
    examples=[
        ("A directory that becomes /", "corral bundle push /srv/busybox --select all"),
        ("A tar of one, under another name", "corral bundle push web.tar.gz --name web:1.2 -g g1 -g g2"),
        ("An image of an OCI layout", "corral bundle push ./layout:3.20 --name alpine:3.20 --select role=web"),
        ("A tree made by debootstrap, without its devices", "corral bundle push /srv/debian --exclude 'dev/*' --select all"),
    ],
)
@click.argument("what", metavar="DIR|TAR|LAYOUT[:TAG]")
@click.option("--name", "names", multiple=True, metavar="NAME[:TAG]", help="Its name; repeatable. Default: after WHAT.")
@click.option("--exclude", multiple=True, metavar="PATTERN", help="Leave out paths that match, relative to the root ('dev/*'). Repeatable.")
@where()
@options.json_only
@options.timeout
@options.broker
def push(
    what: str,
    names: Sequence[str],
    exclude: Sequence[str],
    guest_names: Sequence[str],
    select: "Selector | None",
    window: "Window | None",
    as_json: bool,
    timeout_s: float,
    broker: str | None,
) -> int:
    """Push a root file system to guests, and print the outcome of each.

    DIR is a root file system, or an OCI bundle, whose config.json then says what runs by default. TAR is one of a root file system (gzip,
    xz and bzip2 are unpacked), or of an OCI image layout. LAYOUT is an OCI image layout, unpacked by umoci; environment, entrypoint,
    command, user and working directory of the image become those of its containers.

    An interrupted push resumes by itself for a minute, and later when typed again. Devices, pipes and sockets, links and paths out of
    the tree, and content that does not fit on a guest's disk are refused: nothing of them stays there.
    """
    from corral import pack_bundle
    from corral.bundle.opening import default_name
    from corral.cli.shell.session import with_client
    from corral_schemas.names import bundle_name

    os.nice(NICENESS)
    called = [bundle_name(name) for name in names or [default_name(what)]]

    async def body(client: "AsyncClient") -> int:
        import asyncio
        from contextlib import ExitStack

        meant = await selection(client, guest_names, select)
        with ExitStack() as stack:
            packed = await asyncio.to_thread(stack.enter_context, pack_bundle(what, exclude))
            return await _push(client, meant, packed, called, window, as_json=as_json)

    return with_client(broker, body, timeout_s=timeout_s)


async def _push(
    client: "AsyncClient", meant: "Selector", packed: "Packed", names: list[str], window: "Window | None", *, as_json: bool
) -> int:
    from contextlib import nullcontext

    from corral.cli.bundle.push_progress import PushBars
    from corral.cli.text.output import console
    from corral.cli.text.terminal import can_redraw

    bars = PushBars(console(stderr=True)) if can_redraw(sys.stderr) else None
    failed = 0
    with bars or nullcontext():
        pushes = client.push(meant, packed, names, window=window_text(window), on_progress=bars.told if bars else None)
        async for outcome in pushes:
            if not outcome.ok:
                failed += 1
                say_failure(outcome)
            else:
                _print_pushed(outcome, as_json=as_json)
    return status_of(failed)


def _print_pushed(outcome: "Mapped[Pushed]", *, as_json: bool) -> None:
    from corral.cli.text.output import json_line
    from corral.units import size_text

    pushed = outcome.value
    assert pushed is not None
    if as_json:
        record = {
            "guest": pushed.guest,
            "digest": pushed.digest,
            "names": pushed.names,
            "sent_bytes": pushed.sent_bytes,
            "total_bytes": pushed.total_bytes,
        }
        click.echo(json_line(record))
    else:
        sent = f"{size_text(pushed.sent_bytes)} sent of {size_text(pushed.total_bytes)}" if pushed.sent_bytes else "was there"
        click.echo(f"{pushed.guest}  {','.join(pushed.names)}  {pushed.digest[:DIGEST_SHOWN]}  {sent}")


for _name, _one in {"push": push, "list": list_, "inspect": inspect, "rm": rm, "gc": gc}.items():
    bundle.add_command(_one, _name)
