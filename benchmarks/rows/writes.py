"""Output by the size of the container's own writes: pulled by a client, and kept while nobody reads."""

import itertools

from kit.bench import Bench, Row, turns
from kit.figures import Figure
from rows.stdio import BASELINE, KEEP_ALL, pipe_rate, pull_all, unread_rate

WRITE_BYTES = {"1 MiB": 1 << 20, "64 KiB": 64 << 10, "4 KiB": 4 << 10, "80 B": 80}
PULLED_MIN = {"1 MiB": 0.6, "64 KiB": 0.6, "4 KiB": 1.0, "80 B": 1.2}
UNREAD_MIN = {"1 MiB": 1.5, "64 KiB": 1.2}
WARM_CAP_BYTES = 64 << 20
SMALL_WRITES_PART = 16
"""Of 80-byte writes the total is so much smaller: each costs the container two system calls."""


async def by_write_size(bench: Bench) -> list[Figure]:
    """`dd` writes zeros in blocks of each size; `runc run | cat` beside it, with the same `dd`."""
    figures = []
    for called, block in WRITE_BYTES.items():
        total = (1 << 30 if bench.full else 256 << 20) // (SMALL_WRITES_PART if block < 1 << 10 else 1)
        figures += await _one(bench, called, block, total // block)
    return figures


async def _one(bench: Bench, called: str, block: int, count: int) -> list[Figure]:
    args, size = ["dd", "if=/dev/zero", f"bs={block}", f"count={count}"], block * count
    bare = bench.bare()
    try:
        bare_bundle = bare.bundle(f"dd{block}", args)
        async with bench.client() as client:
            bundle, names = bench.bundle(*args), itertools.count(1)
            pulled, unread, base = await turns(
                [
                    lambda: pull_all(client, bundle, f"w{block}-{next(names)}", size, KEEP_ALL),
                    lambda: unread_rate(client, bundle, f"u{block}-{next(names)}", size, WARM_CAP_BYTES),
                    lambda: pipe_rate(bare, bare_bundle, f"p{block}-{next(names)}", size),
                ],
                bench.rounds(3, 5),
                warm_up=1,
            )
    finally:
        bare.close()
    return [
        _figure(f"writes of {called}, {size >> 20} MiB, pulled, CRC", pulled, base, PULLED_MIN.get(called)),
        _figure("  the same, nobody reading, the newest 64 MiB kept", unread, base, UNREAD_MIN.get(called)),
    ]


def _figure(name: str, samples: list[float], base: list[float], ratio_min: float | None) -> Figure:
    target = f"≥ {ratio_min:.2f} ×" if ratio_min is not None else ""
    return Figure(name=name, unit="MB/s", samples=samples, baseline=BASELINE, baseline_samples=base, target=target, ratio_min=ratio_min)


ROWS: dict[str, Row] = {"writes": by_write_size}
