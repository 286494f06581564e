"""corral logs."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from corral.cli.fleet.selecting import choice
from corral.cli.shell import options
from corral.cli.shell.command import command
from corral.cli.text.failures import say
from corral.cli.text.targets import find_process, parse_target

if TYPE_CHECKING:
    from corral import AsyncClient, Chunk, Gap
    from corral.cli.fleet.selecting import Choice
    from corral.cli.fleet.tagged import TaggedOutput
    from corral.cli.text.bounds import Bound
    from corral.cli.text.lines import Line, LineSplitter
    from corral.cli.text.targets import Target
    from corral.process import Process


@command(
    "logs",
    examples=[
        ("What it wrote, both streams on their descriptors", "corral logs g1/web"),
        ("The last lines, and on", "corral logs -f --tail 20 g1/web"),
        ("With times, from ten minutes ago", "corral logs -t --since 10m g1/web"),
        ("The same container in many guests, each line with its guest", "corral logs -f --select role=web web"),
        ("stderr of an exec", "corral logs --stderr g1/web/backup"),
    ],
    statuses=(("0", "done"), ("1", "failed"), ("2", "wrong usage"), ("130", "interrupted"), ("255", "no broker answered within 5 s")),
)
@options.guest
@choice(at_once=True)
@click.option("-f", "--follow", is_flag=True, help="Go on to the end of the process.")
@click.option("-n", "--tail", default="all", metavar="N|all", show_default=True, help="Begin with the last N lines.")
@click.option(
    "--since",
    "since_ns",
    type=options.TIME,
    default=None,
    metavar="TIME|DURATION",
    help="Only output since a time, or a duration ago such as 10m.",
)
@click.option("-t", "--timestamps", is_flag=True, help="Before each line the time at which it was written.")
@click.option("--stdout", "only_stdout", is_flag=True, help="Only stdout.")
@click.option("--stderr", "only_stderr", is_flag=True, help="Only stderr.")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="JSON Lines: an object for each line with path, stream, offset, time_ns and text (base64 where it is not UTF-8).",
)
@options.timeout
@options.broker
@options.container_argument
def logs(
    container: str,
    guest: str,
    choice: "Choice | None",
    follow: bool,
    tail: str,
    since_ns: int | None,
    timestamps: bool,
    only_stdout: bool,
    only_stderr: bool,
    as_json: bool,
    timeout_s: float,
    broker: str | None,
) -> int:
    """Show what a process wrote: stdout on stdout, stderr on stderr.

    Output stays readable after the process has ended and, for a day, after its container was deleted. Bytes that the guest had to drop
    are announced on stderr, with their number.
    """
    from corral.cli.shell.session import with_client

    if tail != "all" and not tail.isdecimal():
        raise click.UsageError(f"--tail: {tail!r} is neither a number nor all")
    wanted = _Wanted(follow, tail, since_ns, timestamps, _hidden(only_stdout, only_stderr), as_json)
    if choice:
        from corral.cli.fleet.sweep import check_names

        check_names([container])
        return with_client(broker, lambda client: _over_fleet(client, choice, container, wanted), timeout_s=timeout_s)
    target = parse_target(container, guest)

    async def body(client: "AsyncClient") -> int:
        from corral.cli.foreground.pumps import DescriptorWriter

        writer = DescriptorWriter()

        async def write(stream: str, data: bytes) -> None:
            await writer.write(2 if stream == "stderr" else 1, data)

        async def tell(message: str) -> None:
            say(message)

        await _print(client, await find_process(client, target), wanted, _Sink(write, tell))
        return 0

    return with_client(broker, body, timeout_s=timeout_s)


async def _over_fleet(client: "AsyncClient", choice: "Choice", container: str, wanted: "_Wanted") -> int:
    from corral.cli.fleet.sweep import SweepOptions, sweep, tag_of

    manner = SweepOptions("logs", [container], at_once=True, reads=True)

    async def act(target: "Target", output: "TaggedOutput") -> None:
        async def write(stream: str, data: bytes) -> None:
            if wanted.as_json:
                await output.plain(data.decode().removesuffix("\n"))
            else:
                await output.lines(tag_of(target, manner), data, 2 if stream == "stderr" else 1)

        async def tell(message: str) -> None:
            await output.say(f"{target.text}: {message}")

        await _print(client, await find_process(client, target), wanted, _Sink(write, tell, by_line=True))

    return await sweep(client, choice, manner, act)


def _hidden(only_stdout: bool, only_stderr: bool) -> frozenset[str]:
    return frozenset() if only_stdout == only_stderr else frozenset(["stderr" if only_stdout else "stdout"])


@dataclass(frozen=True)
class _Wanted:
    """What the options said."""

    follow: bool
    tail: str
    since_ns: int | None
    timestamps: bool
    hidden: frozenset[str]
    as_json: bool


@dataclass(frozen=True)
class _Sink:
    """Where it goes."""

    write: Callable[[str, bytes], Awaitable[None]]
    """Takes a stream's name and bytes."""
    tell: Callable[[str], Awaitable[None]]
    by_line: bool = False
    """Only whole lines are written, and what was begun at the end."""


async def _print(client: "AsyncClient", process: "Process", wanted: _Wanted, sink: _Sink) -> None:
    from corral.cli.foreground.positions import offsets_now
    from corral.cli.text.bounds import LineBound, OffsetBound

    tail_lines = None if wanted.tail == "all" else int(wanted.tail)
    bound: Bound | None = None
    if not wanted.follow and tail_lines is None:
        bound = OffsetBound({name: at for name, at in (await offsets_now(client, process)).items() if name not in wanted.hidden})
    elif not wanted.follow:
        bound = LineBound(tail_lines or 0)
    output = process.output(
        stdout=None if "stdout" in wanted.hidden else 0,
        stderr=None if "stderr" in wanted.hidden else 0,
        follow=wanted.follow,
        tail_lines=tail_lines,
        since_ns=wanted.since_ns if tail_lines is None else None,
    )
    async with contextlib.aclosing(output):
        await _Printer(process, wanted, sink, bound).print(output)


class _Printer:
    """Writes chunks as they are, or line by line where something goes before each line."""

    def __init__(self, process: "Process", wanted: _Wanted, sink: _Sink, bound: "Bound | None") -> None:
        self._process = process
        self._wanted, self._sink, self._bound = wanted, sink, bound
        self._since_ns = wanted.since_ns or 0
        self._by_line = sink.by_line or wanted.timestamps or wanted.as_json
        self._splitters: dict[str, LineSplitter] = {}

    async def print(self, items: "AsyncIterator[Chunk | Gap]") -> None:
        """Everything, to the end of `items`, or up to the bound: a process that writes without pause has no end to wait for."""
        from corral import Gap

        async for piece in items:
            item = self._bound.cut(piece) if self._bound else piece
            if isinstance(item, Gap):
                await self._rest(item.stream)
                await self._sink.tell(str(item))
            elif item.time_ns >= self._since_ns:
                await self._chunk(item)
            if self._bound and self._bound.reached:
                break
        for stream in self._splitters:
            await self._rest(stream)

    async def _chunk(self, chunk: "Chunk") -> None:
        from corral.cli.text.lines import LineSplitter

        if not self._by_line:
            await self._sink.write(chunk.stream, chunk.data)
            return
        splitter = self._splitters.setdefault(chunk.stream, LineSplitter())
        await self._lines(chunk.stream, list(splitter.feed(chunk.offset, chunk.time_ns, chunk.data)))

    async def _rest(self, stream: str) -> None:
        if stream in self._splitters:
            await self._lines(stream, list(self._splitters[stream].rest()))

    async def _lines(self, stream: str, lines: "list[Line]") -> None:
        if not lines:
            return
        if self._wanted.as_json:
            from corral.cli.text.output import json_line
            from corral.cli.text.records import line_record

            records = [line_record(self._process, stream, line) for line in lines]
            await self._sink.write("stdout", "".join(json_line(record) + "\n" for record in records).encode())
            return
        from corral.units import rfc3339_text

        stamped = self._wanted.timestamps
        rows = [rfc3339_text(line.time_ns).encode() + b" " + line.data if stamped else line.data for line in lines]
        await self._sink.write(stream, b"".join(rows))
