"""Output: how fast it comes out while it is written, how fast it is written when nobody reads, how fast it is read afterwards."""

import fcntl
import itertools
import os
import time
import zlib
from collections.abc import Callable
from pathlib import Path

from corral import AsyncClient
from corral_schemas.stdio import Chunk, StdioOptions
from kit.bare_runc import BareRunc, wait_for
from kit.bench import Bench, Row, pairs
from kit.figures import Figure

MEGABYTE = 1_000_000
LINE = b"the quick brown fox jumps over the lazy dog and runs back again, 80 bytes long.\n"
F_SETPIPE_SZ = 1031
READ_BYTES = 1 << 20
CAP_BYTES = 4 << 30
"""Nothing is dropped: every byte is kept."""
BASELINE = "runc run | cat (1 MiB reads, CRC-32)"


def _writer(bench: Bench, total_bytes: int) -> list[str]:
    """A program that writes that many bytes of 80-byte lines as fast as a container can: `cat` of one file, mounted from outside, many times."""
    path = bench.rootfs / "lines"
    block = LINE * ((4 << 20) // len(LINE))
    if not path.exists():
        path.write_bytes(block)
    times = -(-total_bytes // len(block))
    return ["sh", "-c", f"cat $(for i in $(seq {times}); do echo /lines; done)"]


def _bytes_of(bench: Bench, total_bytes: int) -> int:
    _writer(bench, total_bytes)
    block = (bench.rootfs / "lines").stat().st_size
    return -(-total_bytes // block) * block


async def pulled(bench: Bench) -> list[Figure]:
    """A client reads stdout while the container writes, every CRC checked; a pipe from runc run beside it."""
    total = 1 << 30 if bench.full else 256 << 20
    args, size = _writer(bench, total), _bytes_of(bench, total)
    bare = bench.bare()
    try:
        bare_bundle = bare.bundle("lines", args)
        async with bench.client() as client:
            bundle, names = bench.bundle(*args), itertools.count(1)
            ours, base = await pairs(
                lambda: _pull(client, bundle, f"s{next(names)}", size),
                lambda: _pipe(bare, bare_bundle, f"p{next(names)}", size),
                bench.rounds(3, 5),
                warm_up=1,
            )
        return [
            Figure(
                name=f"stdout, {size >> 20} MiB of 80-byte lines, pulled, CRC",
                unit="MB/s",
                samples=ours,
                baseline=BASELINE,
                baseline_samples=base,
                target="≥ 0.50 ×",
                ratio_min=0.5,
            )
        ]
    finally:
        bare.close()


async def _pull(client: AsyncClient, bundle: str, name: str, size: int) -> float:
    begun = time.perf_counter()
    container = await client.guest("g1").run(name, bundle=bundle, stdio=StdioOptions(cap_bytes=CAP_BYTES))
    got = 0
    async for piece in container.init.output(stderr=None):
        if not isinstance(piece, Chunk):
            raise ValueError(f"a gap in the output: {piece}")
        got += len(piece.data)
    rate = size / (time.perf_counter() - begun) / MEGABYTE
    if got != size:
        raise ValueError(f"{got} bytes in place of {size}")
    await container.delete()
    return rate


def _pipe(bare: BareRunc, bundle: Path, name: str, size: int, wrap: Callable[[int], None] | None = None) -> float:
    begun = time.perf_counter()
    read, write = os.pipe2(os.O_CLOEXEC)
    fcntl.fcntl(read, F_SETPIPE_SZ, READ_BYTES)
    pid = bare.spawn("run", "--bundle", str(bundle), name, stdout=write)
    os.close(write)
    got = _drain(read)
    os.close(read)
    rate = size / (time.perf_counter() - begun) / MEGABYTE
    if wait_for(pid) != 0 or got != size:
        raise ValueError(f"runc run gave {got} bytes in place of {size}")
    return rate


def _drain(fd: int) -> int:
    buffer, got, crc = bytearray(READ_BYTES), 0, 0
    view = memoryview(buffer)
    while length := os.readv(fd, [view]):
        crc = zlib.crc32(view[:length], crc)
        got += length
    return got


async def nobody_reading(bench: Bench) -> list[Figure]:
    """How fast the container gets rid of its output while every byte is kept, and nobody reads."""
    total = 1 << 30 if bench.full else 256 << 20
    bare = bench.bare()
    try:
        args, size = _writer(bench, total), _bytes_of(bench, total)
        bare_bundle = bare.bundle("lines", args)
        figures = []
        for what, cap in (("first touch: every byte kept", CAP_BYTES), ("warm segments: the newest 64 MiB kept", 64 << 20)):
            async with bench.client() as client:
                bundle, names = bench.bundle(*args), itertools.count(1)
                ours, base = await pairs(
                    lambda cap=cap, client=client, bundle=bundle, names=names: _unread(client, bundle, f"n{next(names)}", size, cap),  # type: ignore[misc]
                    lambda names=names: _pipe(bare, bare_bundle, f"q{next(names)}", size),  # type: ignore[misc]
                    bench.rounds(3, 5),
                    warm_up=1,
                )
            figures.append(
                Figure(
                    name=f"nobody reading, {what}",
                    unit="MB/s",
                    samples=ours,
                    baseline=BASELINE,
                    baseline_samples=base,
                    target="≥ 1.20 ×" if cap != CAP_BYTES else "",
                    ratio_min=1.2 if cap != CAP_BYTES else None,
                    note="timed from the start command to the exit known",
                )
            )
        return figures
    finally:
        bare.close()


async def _unread(client: AsyncClient, bundle: str, name: str, size: int, cap_bytes: int) -> float:
    begun = time.perf_counter()
    container = await client.guest("g1").run(name, bundle=bundle, stdio=StdioOptions(cap_bytes=cap_bytes))
    end = await container.init.wait()
    rate = size / (time.perf_counter() - begun) / MEGABYTE
    if end.streams["stdout"].total != size:
        raise ValueError(f"stdout ended at {end.streams['stdout'].total} in place of {size}")
    await container.delete()
    return rate


async def afterwards(bench: Bench) -> list[Figure]:
    """The output of a container that has ended, read from its first byte; `cat` of the same bytes from a file beside it."""
    total = 1 << 30 if bench.full else 256 << 20
    args, size = _writer(bench, total), _bytes_of(bench, total)
    file = bench.fresh("file")
    with file.open("wb") as out:
        block = (bench.rootfs / "lines").read_bytes()
        for _ in range(size // len(block)):
            out.write(block)
    async with bench.client() as client:
        container = await client.guest("g1").run("logs", bundle=bench.bundle(*args), stdio=StdioOptions(cap_bytes=CAP_BYTES))
        await container.init.wait()

        async def ours() -> float:
            begun, got = time.perf_counter(), 0
            async for piece in container.init.output(stderr=None):
                got += len(piece.data) if isinstance(piece, Chunk) else 0
            if got != size:
                raise ValueError(f"{got} bytes in place of {size}")
            return size / (time.perf_counter() - begun) / MEGABYTE

        taken, base = await pairs(ours, lambda: _cat(file, size), bench.rounds(3, 7), warm_up=1)
    file.unlink()
    return [
        Figure(
            name=f"logs of {size >> 20} MiB afterwards, CRC",
            unit="MB/s",
            samples=taken,
            baseline="cat of a file through a pipe (1 MiB reads, CRC-32)",
            baseline_samples=base,
            target="≥ 0.50 ×",
            ratio_min=0.5,
        )
    ]


def _cat(file: Path, size: int) -> float:
    begun = time.perf_counter()
    read, write = os.pipe2(os.O_CLOEXEC)
    fcntl.fcntl(read, F_SETPIPE_SZ, READ_BYTES)
    pid = os.posix_spawnp("cat", ["cat", str(file)], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, write, 1)])
    os.close(write)
    got = _drain(read)
    os.close(read)
    wait_for(pid)
    if got != size:
        raise ValueError(f"cat gave {got} bytes in place of {size}")
    return size / (time.perf_counter() - begun) / MEGABYTE


ROWS: dict[str, Row] = {"stdout": pulled, "unread": nobody_reading, "logs": afterwards}
