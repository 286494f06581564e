"""The witness: files that every process of the workload writes to, mounted into its container. It is not Corral, and it is what counts."""

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
    nudged: bool = False
    """A client sends it SIGUSR1 once, which it tells the witness."""
    blocks: bool = False
    """Its output waits where it cannot be stored (policy `block`); the others' is given up then, with notice."""

    def script(self) -> str:
        """For busybox sh, with the witness mounted at /witness."""
        line = LINE.format(token=self.token, number="$i")
        loop = f'i=0; while [ $i -lt {self.lines} ]; do echo "{line}"; i=$((i+1)); done'
        begin, end, nudge = (f"echo {word} {self.token} >> /witness/log" for word in ("start", "end", "nudge"))
        trap = f"trap '{nudge}' USR1; : > /witness/up.{self.token}; " if self.nudged else ""
        return f"{trap}{begin}; {loop}; sleep {self.sleep_s}; {self._wait()}{end}; exit {self.code}"

    def _wait(self) -> str:
        return f"while [ ! -e /witness/go.{self.token} ]; do sleep 0.05; done; " if self.waits or self.nudged else ""

    def output(self) -> bytes:
        """Every byte it prints on stdout, if nothing ends it early."""
        return b"".join(LINE.format(token=self.token, number=number).encode() + b"\n" for number in range(self.lines))

    def crc(self) -> int:
        return zlib.crc32(self.output())


class Witness:
    """Reads what the processes wrote; one directory for all, in whatever process of the test."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(exist_ok=True)
        (directory / "log").touch()

    def release(self, job: Job) -> None:
        """Lets a job that waits come to its end."""
        (self.directory / f"go.{job.token}").touch()

    def listens(self, job: Job) -> bool:
        """A job that is nudged can take its signal now."""
        return (self.directory / f"up.{job.token}").exists()

    def counts(self) -> dict[str, Counter[str]]:
        """`start`, `end` and `nudge` → how often, by token."""
        counts: dict[str, Counter[str]] = {"start": Counter(), "end": Counter(), "nudge": Counter()}
        for line in (self.directory / "log").read_text().splitlines():
            word, _, token = line.partition(" ")
            counts[word][token] += 1
        return counts
