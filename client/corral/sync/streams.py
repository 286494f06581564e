"""The streams of a process without `await`: each stands for the asynchronous one of the same name, which documents it."""

from collections.abc import Iterator

from corral.core.stitching import Piece
from corral.output import ByteStream as AsyncByteStream
from corral.output import Output as AsyncOutput
from corral.stdin import Stdin as AsyncStdin
from corral.sync.portal import Portal, PortalIterator
from corral_schemas.exits import Exit, StreamEnd


class Output(PortalIterator[Piece]):
    """See corral.output.Output."""

    def __init__(self, portal: Portal, output: AsyncOutput) -> None:
        super().__init__(portal, output)
        self._output = output

    @property
    def exit(self) -> Exit | None:
        """Return the process's exit, if it was seen here."""
        return self._output.exit

    @property
    def ends(self) -> dict[str, StreamEnd]:
        """Return the streams read to their end, each with that end."""
        return self._output.ends

    @property
    def next(self) -> dict[str, int]:
        """Return for each stream the offset to continue from: behind what was handed out, and after the iteration behind all that was
        read."""
        return self._output.next


class ByteStream:
    """See corral.output.ByteStream."""

    def __init__(self, portal: Portal, stream: AsyncByteStream) -> None:
        self._portal, self._stream = portal, stream

    def __iter__(self) -> Iterator[bytes]:
        return self._portal.iterate(aiter(self._stream))

    def pieces(self, offset: int = 0, *, follow: bool = True) -> Iterator[bytes]:
        """Yield pieces as they came, from `offset` (bytes since the stream began). follow: to the end, else only what there is now."""
        return self._portal.iterate(self._stream.pieces(offset, follow=follow))

    def lines(self, offset: int = 0, *, follow: bool = True) -> Iterator[bytes]:
        """Yield lines without their newline, the last one also if it has none. Lines of two streams are never mixed."""
        return self._portal.iterate(self._stream.lines(offset, follow=follow))

    def read(self, offset: int = 0, *, follow: bool = True) -> bytes:
        """Return all of it, when the stream has ended and the process has exited; without `follow` what there is now."""
        return self._portal.run(self._stream.read(offset, follow=follow))


class Stdin:
    """See corral.stdin.Stdin."""

    def __init__(self, portal: Portal, stdin: AsyncStdin) -> None:
        self._portal, self._stdin = portal, stdin

    @property
    def offset(self) -> int:
        """Return how many bytes the guest has taken."""
        return self._stdin.offset

    def write(self, data: bytes) -> None:
        """Write all of it, and return when the guest has taken it; that takes as long as the process does not read."""
        self._portal.run(self._stdin.write(data))

    def close(self) -> None:
        """Send end of file, after everything written so far."""
        self._portal.run(self._stdin.close())
