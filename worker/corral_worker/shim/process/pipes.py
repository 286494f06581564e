"""The pipes between a process and its shim, one megabyte each where the kernel lets us."""

from __future__ import annotations

import contextlib
import fcntl
import os

PIPE_BYTES = 1024 * 1024


class Pipes:
    """Standard input (if wanted), output and error. The container holds its ends itself: no copy in between."""

    def __init__(self, *, with_input: bool) -> None:
        """Raises OSError."""
        self.input: int | None = None
        self.output: dict[int, int] = {}
        self.child_side = (-1, -1, -1)
        opened: list[int] = []
        try:
            child_in = -1
            if with_input:
                child_in, self.input = self._pipe(opened)
            self.output[1], child_out = self._pipe(opened)
            self.output[2], child_err = self._pipe(opened)
        except OSError:
            for fd in opened:
                os.close(fd)
            raise
        self.child_side = (child_in, child_out, child_err)

    def close_child_side(self) -> None:
        """The child has its own copies: with ours open no end of file would ever come."""
        for fd in self.child_side:
            if fd >= 0:
                os.close(fd)
        self.child_side = (-1, -1, -1)

    @staticmethod
    def _pipe(opened: list[int]) -> tuple[int, int]:
        read_end, write_end = os.pipe2(os.O_CLOEXEC)
        opened += (read_end, write_end)
        with contextlib.suppress(PermissionError):  # beyond the user's limit: a smaller pipe is only slower
            fcntl.fcntl(read_end, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        return read_end, write_end
