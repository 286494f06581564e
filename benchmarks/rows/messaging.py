"""Round trips through what people use for messages to workers today, measured only where it is installed."""

import asyncio
import importlib.util
import os
import shutil
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kit.bare_runc import wait_for
from kit.bench import Bench, Row
from kit.figures import Figure, MissingError

IN_FLIGHT = 256
NATS_PORT, REDIS_PORT = 14222, 14379
PATIENCE_S = 30.0
HERE = Path(__file__).parent.parent


async def nats(bench: Bench) -> list[Figure]:
    """Requests a second, one responder in the same event loop."""
    if importlib.util.find_spec("nats") is None or shutil.which("nats-server") is None:
        raise MissingError("nats-py and nats-server (nothing stands in for them)")
    import nats  # type: ignore[import-not-found,unused-ignore]

    with _server("nats-server", "-a", "127.0.0.1", "-p", str(NATS_PORT)):
        await _listening(NATS_PORT)
        connection: Any = await nats.connect(f"nats://127.0.0.1:{NATS_PORT}", allow_reconnect=False)

        async def respond(message: Any) -> None:
            await message.respond(b"x" * 100)

        await connection.subscribe("bench", cb=respond)
        rates = []
        for _ in range(3):
            left = iter(range(bench.rounds(10_000, 50_000)))

            async def lane(left: Iterator[int] = left) -> int:
                done = 0
                for _ in left:
                    await connection.request("bench", b"x" * 100, timeout=PATIENCE_S)
                    done += 1
                return done

            begun = time.perf_counter()
            done = sum(await asyncio.gather(*(lane() for _ in range(IN_FLIGHT))))
            rates.append(done / (time.perf_counter() - begun))
        await connection.close()
    return [Figure(name=f"nats-py request-reply, {IN_FLIGHT} in flight", unit="per s", samples=rates)]


async def celery(bench: Bench) -> list[Figure]:
    """Tasks a second whose results are fetched, over redis, one worker process with as many children as there are cores."""
    missing = [name for name in ("celery", "redis") if importlib.util.find_spec(name) is None]
    missing += [program for program in ("redis-server",) if shutil.which(program) is None]
    if missing:
        raise MissingError(f"{', '.join(missing)} (nothing stands in for them)")
    return await asyncio.to_thread(_celery, bench)


def _celery(bench: Bench) -> list[Figure]:
    store = f"redis://127.0.0.1:{REDIS_PORT}/0"
    os.environ["CELERY_BENCH_STORE"] = store
    from kit.celery_app import answer, app

    argv = [sys.executable, "-m", "celery", "-A", "kit.celery_app", "worker", "--loglevel", "ERROR"]
    with (
        _server("redis-server", "--bind", "127.0.0.1", "--port", str(REDIS_PORT), "--save", "", "--dir", str(bench.fresh("r").parent)),
        _server(*argv, environment={"CELERY_BENCH_STORE": store, "PYTHONPATH": str(HERE), "C_FORCE_ROOT": "1"}),
    ):
        try:
            answer.delay("x").get(timeout=PATIENCE_S)
            rates = [_tasks_per_s(answer, bench.rounds(1_500, 10_000)) for _ in range(3)]
        finally:
            app.close()
    return [Figure(name=f"Celery over redis, results fetched, {IN_FLIGHT} in flight", unit="per s", samples=rates)]


def _tasks_per_s(task: Any, count: int) -> float:
    begun, under_way = time.perf_counter(), deque[Any]()
    for _ in range(count):
        if len(under_way) == IN_FLIGHT:
            under_way.popleft().get(timeout=PATIENCE_S)
        under_way.append(task.delay("x" * 100))
    while under_way:
        under_way.popleft().get(timeout=PATIENCE_S)
    return count / (time.perf_counter() - begun)


async def _listening(port: int) -> None:
    """Until the server accepts. Raises OSError when it does not in time."""
    end_s = time.monotonic() + PATIENCE_S
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            if time.monotonic() > end_s:
                raise
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return


@contextmanager
def _server(*argv: str, environment: dict[str, str] | None = None) -> Iterator[None]:
    quiet: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(argv, env={**os.environ, **(environment or {})}, **quiet)
    try:
        yield
    finally:
        process.terminate()
        wait_for(process.pid)


ROWS: dict[str, Row] = {"nats": nats, "celery": celery}
