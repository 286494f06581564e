"""Containers made, used and deleted thousands of times: what is left of them, and whether anything grows. `make cycles CYCLES=10000`"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sqlite3
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from corral import AsyncClient, ContainerSpec
from corral_testkit.cli import processes_naming
from corral_testkit.remains import cgroups_of
from corral_testkit.shim_driver import wait_until
from corral_testkit.system import CorralSystem

JOBS = 4
LOGS = Path("chaos-runs")
SAMPLES = 50
FILLS = 80
"""Cycles before the first sample: a worker keeps the last 64 readers of output open."""
WARM_UP = 0.2
"""Share of the samples that does not count for the fit."""
QUIET_S = 20.0
TIDY_S = 90.0
"""In which some of what is past its time goes: the worker's janitor comes by once a minute."""
RETENTION_S = 2 * 86_400
"""After so long exits and output of deleted containers are past their time."""
GROWTH_KIB_MAX = {"worker": 2_048, "broker": 512, "zygote": 256}
"""Memory that a part may be larger by at the end, by the fitted line, whatever the number of cycles."""
DESCRIPTORS_MAX = 2.0


@dataclass(frozen=True)
class Sample:
    """One part of Corral at rest."""

    cycles: int
    descriptors: int
    anonymous_kib: int


@dataclass
class Findings:
    """Samples by part, what was left, and seconds it took."""

    samples: dict[str, list[Sample]] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)
    kept: int = 0
    """Directories of deleted containers at the end, before their time was over."""
    wrong: list[str] = field(default_factory=list)
    done: int = 0
    seconds: float = 0.0

    def growth(self, part: str, what: str) -> float:
        """By how much it is larger at the end than at the beginning, by the least-squares line through all samples after the warm-up."""
        samples = self.samples[part][int(len(self.samples[part]) * WARM_UP) :]
        at = [sample.cycles for sample in samples]
        return statistics.linear_regression(at, [getattr(sample, what) for sample in samples]).slope * (at[-1] - at[0])

    def judge(self) -> list[str]:
        """What is not as it should be."""
        wrong = [*self.wrong, *(f"left behind: {one}" for one in self.left)]
        for part in self.samples:
            if (grown := self.growth(part, "descriptors")) > DESCRIPTORS_MAX:
                wrong.append(f"{part} holds {grown:.1f} more descriptors")
            if (grown := self.growth(part, "anonymous_kib")) > GROWTH_KIB_MAX[part]:
                wrong.append(f"{part} grew by {grown:.0f} KiB")
        return wrong


def cycles(count: int, jobs: int = JOBS, *, until_tidied: bool = True, seconds_max: float = float("inf")) -> Findings:
    """Runs a container, an exec in it, and deletes it, `count` times, `jobs` at a time; looks at all parts between batches.

    until_tidied: at the end RETENTION_S of worker time are added, and the janitor is waited for. seconds_max: no batch begins after so
    long; the findings say how many cycles were done.
    """
    findings = Findings()
    began_s = time.monotonic()
    with CorralSystem() as system, _logs_kept(system, findings):
        asyncio.run(_batch(system, -FILLS, FILLS, jobs, findings))
        batch, done = max(jobs, count // SAMPLES), 0
        while done < count and time.monotonic() - began_s < seconds_max:
            asyncio.run(_batch(system, done, min(batch, count - done), jobs, findings))
            done += min(batch, count - done)
            print(f"{done} cycles after {time.monotonic() - began_s:.0f} s", file=sys.stderr, flush=True)
            _settle(system, findings)
            for part, pid in _parts(system).items():
                findings.samples.setdefault(part, []).append(Sample(done, _descriptors(pid), _anonymous_kib(pid)))
        findings.done, findings.seconds = done, time.monotonic() - began_s
        instances = system.state_dir(system.names[0]) / "instances"
        findings.kept = len(list(instances.iterdir()))
        if until_tidied:
            _let_time_pass(system)
            _until_tidied(instances, findings)
    return findings


def _let_time_pass(system: CorralSystem) -> None:
    """Retention counts the time that workers lived, and their journal has the sum of it."""
    (name,) = system.names
    system.workers[name].terminate()
    with contextlib.closing(sqlite3.connect(system.state_dir(name) / "journal.sqlite")) as journal, journal:
        (row,) = journal.execute("SELECT value FROM meta WHERE key = 'worker_ms'").fetchone()
        journal.execute("UPDATE meta SET value = ? WHERE key = 'worker_ms'", (b"%d" % (int(row) + RETENTION_S * 1000),))
    system.restart_worker(name)


def _until_tidied(instances: Path, findings: Findings) -> None:
    """As long as it takes, if only it goes on."""
    left = len(list(instances.iterdir()))
    try:
        while left:
            wait_until(lambda left=left: len(list(instances.iterdir())) < left, "what is past its time is removed", TIDY_S)  # type: ignore[misc]
            left = len(list(instances.iterdir()))
    except AssertionError:
        findings.left.append(f"{left} directories past their time")


@contextlib.contextmanager
def _logs_kept(system: CorralSystem, findings: Findings) -> Iterator[None]:
    """Where something went wrong, what tells of it stays below LOGS."""
    failure: BaseException | None = None
    try:
        yield
    except BaseException as why:
        failure = why
        raise
    finally:
        if failure is not None or findings.judge():
            kept = LOGS / f"cycles-{time.strftime('%m%d-%H%M%S')}"
            system.keep_logs(kept)
            findings.wrong.append(f"logs: {kept.absolute()}")
            if failure is not None:
                failure.add_note(f"logs: {kept.absolute()}")


async def _batch(system: CorralSystem, first: int, count: int, jobs: int, findings: Findings) -> None:
    numbers = iter(range(first, first + count))
    async with system.async_client(timeout_s=60.0) as client:
        await asyncio.gather(*(_cycle_all(client, system, numbers, findings) for _ in range(jobs)))


async def _cycle_all(client: AsyncClient, system: CorralSystem, numbers: Iterator[int], findings: Findings) -> None:
    guest = client.guest(system.names[0])
    spec = ContainerSpec(rootfs=str(system.rootfs), args=["sleep", "1000"])
    for number in numbers:
        container = await guest.run(f"cycle-{number}", spec=spec)
        process = await container.exec(["sh", "-c", f"echo {number}; exit {abs(number) % 100}"])
        said, end = await process.stdout.read(), await process.wait()
        if (said, end.type, end.code) != (b"%d\n" % number, "exited", abs(number) % 100):
            findings.wrong.append(f"cycle {number}: {said!r}, {end}")
        await container.delete(force=True)


def _settle(system: CorralSystem, findings: Findings) -> None:
    """Deleted containers' shims end within moments; then nothing of any container is left but what is kept on purpose."""
    (name,) = system.names
    try:
        wait_until(lambda: not _left(system, name), "nothing is left of deleted containers", QUIET_S)
    except AssertionError:
        findings.left += _left(system, name)


def _left(system: CorralSystem, name: str) -> list[str]:
    run_dir = system.run_dir(name)
    found = [f"shim {line}" for _, line in processes_naming(f"corral-shim {name} ")]
    found += [str(path) for path in (*cgroups_of(name), *(run_dir / "runc").iterdir(), *(run_dir / "s").iterdir())]
    return found + [f"zombie {line}" for line in _zombies()]


def _zombies() -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                name, _, rest = (entry / "stat").read_text().partition("(")[2].rpartition(")")
            except OSError:  # it ended while we looked
                continue
            if rest.split()[0] == "Z" and name != "python":
                found.append(f"{entry.name} {name}")
    return found


def _parts(system: CorralSystem) -> dict[str, int]:
    (name,) = system.names
    zygote = system.zygote_pid(name)
    assert zygote is not None, "no zygote"
    return {"worker": system.workers[name].pid, "broker": system.broker.pid, "zygote": zygote}


def _descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def _anonymous_kib(pid: int) -> int:
    """Memory of its own. Not only what nobody shares: a zygote shares more or less of its with the shims there happen to be."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon:"))


def report(findings: Findings, jobs: int) -> str:
    """The figures."""
    rate = findings.done / findings.seconds
    rows = [f"{findings.done} cycles of run, exec and delete, {jobs} at a time: {findings.seconds:.0f} s, {rate:.1f}/s"]
    for part, samples in findings.samples.items():
        first, last = samples[0], samples[-1]
        descriptors, anonymous_kib = (findings.growth(part, what) for what in ("descriptors", "anonymous_kib"))
        rows.append(
            f"  {part:7} descriptors {first.descriptors} → {last.descriptors} (fitted {descriptors:+.2f}), "
            f"memory {first.anonymous_kib} → {last.anonymous_kib} KiB (fitted {anonymous_kib:+.0f} KiB)"
        )
    rows.append(f"  fitted: least squares without the first {WARM_UP:.0%}, from its first sample to the last")
    rows.append(f"  directories of deleted containers kept for their time: {findings.kept}; left behind: {len(findings.left)}")
    return "\n".join([*rows, *(f"  WRONG: {text}" for text in findings.judge()[:40])])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cycles", type=int, default=10_000)
    parser.add_argument("--jobs", type=int, default=JOBS)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="Begin no more after so long.")
    options = parser.parse_args()
    findings = cycles(options.cycles, options.jobs, seconds_max=options.seconds)
    print(report(findings, options.jobs))
    return 1 if findings.judge() else 0


if __name__ == "__main__":
    sys.exit(main())
