"""The witness: a file that every process of the workload writes to, mounted into its container. It is not Corral, and it is what counts."""

from __future__ import annotations

import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

LINE = "{token} line {number} of the generated stream, which is the same for everyone who knows the token"


@dataclass(frozen=True)
class Job:
    """One process: what it will do is known before it starts."""

    token: str
    """Unique; stands in every line it prints and in what it tells the witness."""
    lines: int
    sleep_s: float
    code: int
    waits: bool = False
    """It ends only once it was told to (see `Witness.release`): an init that must outlive its execs."""

    def script(self) -> str:
        """For busybox sh, with the witness mounted at /witness."""
        line = LINE.format(token=self.token, number="$i")
        loop = f'i=0; while [ $i -lt {self.lines} ]; do echo "{line}"; i=$((i+1)); done'
        begin, end = (f"echo {word} {self.token} >> /witness/log" for word in ("start", "end"))
        return f"{begin}; {loop}; sleep {self.sleep_s}; {self._wait()}{end}; exit {self.code}"

    def _wait(self) -> str:
        return f"while [ ! -e /witness/go.{self.token} ]; do sleep 0.05; done; " if self.waits else ""

    def output(self) -> bytes:
        """Every byte it prints on stdout, if nothing ends it early."""
        return b"".join(LINE.format(token=self.token, number=number).encode() + b"\n" for number in range(self.lines))

    def crc(self) -> int:
        return zlib.crc32(self.output())


class Witness:
    """Reads what the processes wrote."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir()
        (directory / "log").touch()

    def release(self, job: Job) -> None:
        """Lets a job that waits come to its end."""
        (self.directory / f"go.{job.token}").touch()

    def counts(self) -> tuple[Counter[str], Counter[str]]:
        """(starts, ends) by token."""
        starts: Counter[str] = Counter()
        ends: Counter[str] = Counter()
        for line in (self.directory / "log").read_text().splitlines():
            word, _, token = line.partition(" ")
            (starts if word == "start" else ends)[token] += 1
        return starts, ends
