"""corral top."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import click

from corral.cli.fleet.selecting import select
from corral.cli.shell import options
from corral.cli.shell.command import command
from corral.cli.text.failures import USAGE, Failed

if TYPE_CHECKING:
    from corral import AsyncClient
    from corral.cli.top.board import Board, Order
    from corral.selectors import Selector

STATS_MAX = 100
"""Containers whose figures are read at each interval: those at the top."""
STATS_AT_ONCE_MAX = 32
ORDERS: "dict[str, Order]" = {"c": "cpu", "m": "memory", "o": "output", "n": "name"}


@command(
    "top",
    examples=[
        ("Everything, until q is pressed", "corral top"),
        ("Some guests, every five seconds", "corral top --select 'role=web' --interval 5s"),
        ("Over ssh, with a terminal", "ssh -t hub corral top"),
    ],
    statuses=(
        ("0", "ended by q, or SIGTERM"),
        ("2", "wrong usage, or no terminal"),
        ("130", "interrupted"),
        ("255", "no broker answered within 5 s"),
    ),
)
@select
@click.option(
    "--interval", "interval_s", type=options.DURATION, default="1s", show_default=True, metavar="DURATION", help="Between readings."
)
@options.timeout
@options.broker
def top(select: "Selector | None", interval_s: float, timeout_s: float, broker: str | None) -> int:
    """Watch guests, containers, exits, and the rates of events and output, on the whole screen.

    Keys: q quits; c, m, o and n sort containers by processor, memory, output or name, r the other way round; space holds the picture
    still. Guests that are down or silent come first. Figures are read of the 100 containers at the top.
    """
    from corral.cli.shell.session import with_client
    from corral.cli.text.terminal import can_redraw

    if not can_redraw(sys.stdout):
        raise Failed("top needs a terminal", status=USAGE, hint="for a script: corral stats --no-stream, corral guests, corral events")
    return with_client(broker, lambda client: _Top(client, select, interval_s).run(), timeout_s=timeout_s)


class _Top:
    """The board, what feeds it, and the screen."""

    def __init__(self, client: "AsyncClient", select: "Selector | None", interval_s: float) -> None:
        from corral.cli.top.board import Board

        self._client, self._select, self._interval_s = client, select, interval_s
        self._board: Board = Board()
        self._held = False
        self._changed = asyncio.Event()
        self._over = asyncio.Event()

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        with contextlib.ExitStack() as stack:
            for number in (signal.SIGTERM, signal.SIGHUP):
                loop.add_signal_handler(number, self._over.set)
                stack.callback(loop.remove_signal_handler, number)
            loop.add_signal_handler(signal.SIGWINCH, self._changed.set)
            stack.callback(loop.remove_signal_handler, signal.SIGWINCH)
            if sys.stdin.isatty():
                stack.enter_context(_keys(self._key))
            await self._watch()
        return 0

    async def _watch(self) -> None:
        tasks = [asyncio.create_task(act()) for act in (self._read, self._follow, self._draw, self._over.wait)]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _key(self, typed: bytes) -> None:
        for key in typed.decode(errors="ignore"):
            if key == "q":
                self._over.set()
            elif key in ORDERS:
                self._board.order = ORDERS[key]
            elif key == "r":
                self._board.reverse = not self._board.reverse
            elif key == " ":
                self._held = not self._held
        self._changed.set()

    async def _draw(self) -> None:
        from rich.live import Live

        from corral.cli.text.output import console
        from corral.cli.top.view import view

        screen = console()
        with Live(console=screen, screen=True, auto_refresh=False) as live:
            while True:
                live.update(view(self._board, self._client.address, screen.size.height, held=self._held), refresh=True)
                await self._changed.wait()
                self._changed.clear()

    async def _read(self) -> None:
        """Guests, containers and what they use, again and again; what fails is shown, and tried again."""
        from corral import CorralError

        while True:
            if not self._held:
                try:
                    await self._read_once(self._board)
                    self._board.trouble = ""
                except CorralError as why:
                    self._board.trouble = str(why)
                self._board.tick(time.monotonic())
                self._changed.set()
            await asyncio.sleep(self._interval_s)

    async def _read_once(self, board: "Board") -> None:
        guests = sorted(await self._client.guests(), key=lambda guest: guest.guest)
        board.guests = self._select.select(guests) if self._select else guests
        fleet = await self._client.list([guest.guest for guest in board.guests if guest.up])
        board.silent = {name: str(why) for name, why in fleet.silent.items()}
        board.containers(fleet.containers)
        self._changed.set()
        gate = asyncio.Semaphore(STATS_AT_ONCE_MAX)
        shown = [row for row in board.rows() if row.state.status in ("running", "paused")][:STATS_MAX]
        await asyncio.gather(*(self._read_stats(row.path, row.state.guest, row.state.id, row.state.instance, gate) for row in shown))

    async def _read_stats(self, path: str, guest: str, name: str, instance: str, gate: asyncio.Semaphore) -> None:
        from corral import CorralError

        async with gate:
            with contextlib.suppress(CorralError):  # it has ended meanwhile, or its guest is silent: the next list says so
                self._board.used(path, await self._client.guest(guest).container(name, instance).stats())

    async def _follow(self) -> None:
        from corral import Event, EventGap
        from corral_schemas.events import ExitEvent

        async with self._client.events(select=self._select) as stream:
            async for item in stream:
                if isinstance(item, Event):
                    header = item.header
                    end = item.payload.exit if isinstance(item.payload, ExitEvent) else None
                    path = "/".join(filter(None, (header.guest, header.container, "" if header.process == "init" else header.process)))
                    self._board.event(header.guest, header.kind, path, header.time_ns, end)
                elif isinstance(item, EventGap):
                    self._board.gaps += 1


@contextlib.contextmanager
def _keys(on_key: Callable[[bytes], None]) -> Iterator[None]:
    """Each key at once and unseen. Ctrl-C interrupts as ever; Ctrl-Z does nothing, for it would leave the screen as it is."""
    import termios
    import tty

    loop = asyncio.get_running_loop()
    former = termios.tcgetattr(0)
    tty.setcbreak(0, termios.TCSANOW)
    quiet = termios.tcgetattr(0)
    quiet[6][termios.VSUSP] = b"\0"
    termios.tcsetattr(0, termios.TCSANOW, quiet)
    loop.add_reader(0, lambda: on_key(_typed()))
    try:
        yield
    finally:
        loop.remove_reader(0)
        with contextlib.suppress(termios.error):  # the terminal has gone
            termios.tcsetattr(0, termios.TCSADRAIN, former)


def _typed() -> bytes:
    try:
        return os.read(0, 64) or b"q"
    except OSError:  # the terminal has gone
        return b"q"
