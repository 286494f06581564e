"""Output: how fast it comes out while it is written, how fast it is written when nobody reads, how fast it is read afterwards."""

import fcntl
import itertools
import os
import time
import zlib
from pathlib import Path
from typing import Any

from corral import AsyncClient
from corral_schemas.stdio import Chunk, StdioOptions
from kit.bare_runc import BareRunc, wait_for
from kit.bench import Bench, Row, Timed, pairs, turns
from kit.figures import Figure

MEGABYTE = 1_000_000
LINE = b"the quick brown fox jumps over the lazy dog and runs back again, 80 bytes long.\n"
F_SETPIPE_SZ = 1031
READ_BYTES = 1 << 20
CAP_BYTES = 4 << 30
"""Nothing is dropped: every byte is kept."""
BASELINE = "runc run | cat"
RAW_PIPE = "runc run into a raw 1 MiB pipe, 1 MiB reads, CRC-32"


def writer(bench: Bench, total_bytes: int) -> list[str]:
    """A program that writes that many bytes of 80-byte lines as fast as a container can: `cat` of one file, again and again."""
    path = bench.rootfs / "lines"
    block = LINE * ((4 << 20) // len(LINE))
    if not path.exists():
        path.write_bytes(block)
    times = -(-total_bytes // len(block))
    return ["sh", "-c", f"cat $(for i in $(seq {times}); do echo /lines; done)"]


def bytes_of(bench: Bench, total_bytes: int) -> int:
    writer(bench, total_bytes)
    block = (bench.rootfs / "lines").stat().st_size
    return -(-total_bytes // block) * block


KEEP_ALL = StdioOptions(cap_bytes=CAP_BYTES)
LOSSLESS = StdioOptions(cap_bytes=64 << 20, policy="block", consumer="bench")


async def pulled(bench: Bench) -> list[Figure]:
    """A client reads stdout while the container writes, every CRC checked; `runc run | cat` and a raw pipe beside it."""
    total = 1 << 30 if bench.full else 256 << 20
    args, size = writer(bench, total), bytes_of(bench, total)
    bare = bench.bare()
    try:
        bare_bundle = bare.bundle("lines", args)
        async with bench.client() as client:
            bundle, names, rounds = bench.bundle(*args), itertools.count(1), bench.rounds(3, 5)

            async def pull(stdio: StdioOptions) -> float:
                return await pull_all(client, bundle, f"s{next(names)}", size, stdio)

            def pipe() -> float:
                return pipe_rate(bare, bare_bundle, f"p{next(names)}", size)

            def raw_pipe() -> float:
                return _raw_pipe(bare, bare_bundle, f"r{next(names)}", size)

            acts: list[Timed] = [lambda: pull(KEEP_ALL), pipe, lambda: pull(LOSSLESS), raw_pipe]
            ours, base, lossless, raw = await turns(acts, rounds, warm_up=1)
        name = f"stdout, {size >> 20} MiB of 80-byte lines, pulled, CRC"
        reach: dict[str, Any] = {"target": "≥ 0.50 ×", "ratio_min": 0.5}
        return [
            Figure(name=name, unit="MB/s", samples=ours, baseline=BASELINE, baseline_samples=base, **reach),
            Figure(name="  the same, policy block", unit="MB/s", samples=lossless, baseline=BASELINE, baseline_samples=base),
            Figure(name=f"  {RAW_PIPE}", unit="MB/s", samples=raw, baseline=BASELINE, baseline_samples=base),
        ]
    finally:
        bare.close()


async def pull_all(client: AsyncClient, bundle: str, name: str, size: int, stdio: StdioOptions) -> float:
    begun = time.perf_counter()
    container = await client.guest("g1").run(name, bundle=bundle, stdio=stdio)
    got = 0
    async for piece in container.init.output(stderr=None, consumer=stdio.consumer):
        if not isinstance(piece, Chunk):
            raise ValueError(f"a gap in the output: {piece}")
        got += len(piece.data)
    rate = size / (time.perf_counter() - begun) / MEGABYTE
    if got != size:
        raise ValueError(f"{got} bytes in place of {size}")
    await container.delete()
    return rate


def pipe_rate(bare: BareRunc, bundle: Path, name: str, size: int) -> float:
    """`runc run … | cat > /dev/null`, as a shell would do it; MB/s from its start to the end of both."""
    begun = time.perf_counter()
    read, write = os.pipe2(os.O_CLOEXEC)
    runtime = bare.spawn("run", "--bundle", str(bundle), name, stdout=write)
    os.close(write)
    cat = _spawn_cat([], stdin=read)
    os.close(read)
    if wait_for(cat) != 0 or wait_for(runtime) != 0:
        raise ValueError(f"runc run | cat failed for {name}")
    return size / (time.perf_counter() - begun) / MEGABYTE


def _spawn_cat(arguments: list[str], *, stdin: int | None = None, stdout: int | None = None) -> int:
    actions: list[tuple[int, int, int] | tuple[int, int, str, int, int]] = []
    if stdin is not None:
        actions.append((os.POSIX_SPAWN_DUP2, stdin, 0))
    actions.append((os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0) if stdout is None else (os.POSIX_SPAWN_DUP2, stdout, 1))
    return os.posix_spawnp("cat", ["cat", *arguments], os.environ, file_actions=actions)


def _raw_pipe(bare: BareRunc, bundle: Path, name: str, size: int) -> float:
    """The best a reader of a pipe can do: 1 MiB pipe, 1 MiB reads, and the checksum."""
    begun = time.perf_counter()
    read, write = os.pipe2(os.O_CLOEXEC)
    fcntl.fcntl(read, F_SETPIPE_SZ, READ_BYTES)
    pid = bare.spawn("run", "--bundle", str(bundle), name, stdout=write)
    os.close(write)
    got = _drain(read)
    os.close(read)
    if wait_for(pid) != 0 or got != size:
        raise ValueError(f"runc run gave {got} bytes in place of {size}")
    return size / (time.perf_counter() - begun) / MEGABYTE


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
        args, size = writer(bench, total), bytes_of(bench, total)
        bare_bundle = bare.bundle("lines", args)
        figures = []
        for what, cap in (("first touch: every byte kept", CAP_BYTES), ("warm segments: the newest 64 MiB kept", 64 << 20)):
            async with bench.client() as client:
                bundle, names = bench.bundle(*args), itertools.count(1)
                ours, base = await pairs(
                    lambda cap=cap, client=client, bundle=bundle, names=names: unread_rate(client, bundle, f"n{next(names)}", size, cap),
                    lambda names=names: pipe_rate(bare, bare_bundle, f"q{next(names)}", size),
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


async def unread_rate(client: AsyncClient, bundle: str, name: str, size: int, cap_bytes: int) -> float:
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
    args, size = writer(bench, total), bytes_of(bench, total)
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

        taken, base = await pairs(ours, lambda: _cat(file, size), bench.rounds(3, 5), warm_up=1)
    file.unlink()
    return [
        Figure(
            name=f"logs of {size >> 20} MiB afterwards, CRC",
            unit="MB/s",
            samples=taken,
            baseline="cat FILE | cat",
            baseline_samples=base,
            target="≥ 0.50 ×",
            ratio_min=0.5,
        )
    ]


def _cat(file: Path, size: int) -> float:
    """`cat FILE | cat > /dev/null`."""
    begun = time.perf_counter()
    read, write = os.pipe2(os.O_CLOEXEC)
    first = _spawn_cat([str(file)], stdout=write)
    os.close(write)
    second = _spawn_cat([], stdin=read)
    os.close(read)
    if wait_for(first) != 0 or wait_for(second) != 0:
        raise ValueError("cat | cat failed")
    return size / (time.perf_counter() - begun) / MEGABYTE


ROWS: dict[str, Row] = {"stdout": pulled, "unread": nobody_reading, "logs": afterwards}
