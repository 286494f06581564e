"""Output of many targets at once: whole lines, each with the name of where it came from."""

import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

import click

from corral.cli.foreground.pumps import DescriptorWriter
from corral.cli.text.lines import Line, LineSplitter
from corral.plain_text import one_line

if TYPE_CHECKING:
    from corral.cli.text.progress import Patience
    from corral_schemas.stdio import Chunk

COLOURS = ("cyan", "yellow", "green", "magenta", "blue", "bright_cyan", "bright_yellow", "bright_green", "bright_magenta", "bright_blue")
STDOUT, STDERR = 1, 2


class TaggedOutput:
    """Writes `TAG | LINE`: streams on their descriptors, one writer for both, never a part of a line. Made in a running event loop."""

    def __init__(self, tags: "list[str]", patience: "Patience") -> None:
        self._writer = DescriptorWriter()
        self._patience = patience
        self._width = max(map(len, tags), default=0)
        self._colour = {tag: COLOURS[number % len(COLOURS)] for number, tag in enumerate(tags)}
        self._coloured = {
            descriptor: stream.isatty() and not os.environ.get("NO_COLOR") for descriptor, stream in ((1, sys.stdout), (2, sys.stderr))
        }

    def close(self) -> None:
        """Once everything is written."""
        self._writer.close()

    async def lines(self, tag: str, data: bytes, descriptor: int = STDOUT) -> None:
        """Whole lines; the last one is ended where it is not."""
        prefix = self._prefix(tag, descriptor)
        rows = data.removesuffix(b"\n").split(b"\n")
        self._patience.hide()
        await self._writer.write(descriptor, b"".join(prefix + row + b"\n" for row in rows))

    async def stream(self, tag: str, stream: str, lines: "Sequence[Line]") -> None:
        """Lines of a process's stream, on the descriptor of that name."""
        whole = b"".join(line.data if line.data.endswith(b"\n") else line.data + b"\n" for line in lines)
        await self.lines(tag, whole, STDERR if stream == "stderr" else STDOUT)

    async def plain(self, line: str) -> None:
        """A line on stdout that says itself where it is from."""
        self._patience.hide()
        await self._writer.write(STDOUT, line.encode(errors="surrogateescape") + b"\n")

    async def say(self, message: str, hint: str = "") -> None:
        """`corral: MESSAGE` on stderr, and the hint below."""
        self._patience.hide()
        below = f"  hint: {one_line(hint)}\n" if hint else ""
        await self._writer.write(STDERR, f"corral: {one_line(message)}\n{below}".encode(errors="surrogateescape"))

    def _prefix(self, tag: str, descriptor: int) -> bytes:
        text = f"{tag:<{self._width}} |"
        return ((click.style(text, fg=self._colour.get(tag)) if self._coloured[descriptor] else text) + " ").encode()


class LineStreams:
    """The streams of one process, as they come, to whole lines; `write` takes a stream's name and its lines."""

    def __init__(self, write: "Callable[[str, list[Line]], Awaitable[None]]") -> None:
        self._write = write
        self._splitters: dict[str, LineSplitter] = {}

    async def chunk(self, chunk: "Chunk") -> None:
        splitter = self._splitters.setdefault(chunk.stream, LineSplitter())
        lines = list(splitter.feed(chunk.offset, chunk.time_ns, chunk.data))
        if lines:
            await self._write(chunk.stream, lines)

    async def rest(self) -> None:
        """Lines that have begun and will not be ended."""
        for stream, splitter in self._splitters.items():
            if lines := list(splitter.rest()):
                await self._write(stream, lines)
