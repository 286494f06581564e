"""exec of true to its exit, and a keystroke's way through `exec -it`."""

import itertools
import os
import select
import signal
import sys
import time

from corral import AsyncClient
from corral.container import Container
from corral_schemas.stdio import StdioOptions
from kit.bench import MILLISECONDS, Bench, Row, pairs
from kit.figures import Figure

SLEEPER = ["sleep", "100000"]
ECHO_S_MAX = 20.0


async def exec_true(bench: Bench) -> list[Figure]:
    """exec of true through an open client until its exit is known, beside `runc exec`."""
    bare = bench.bare()
    try:
        bare.start("sleeper", SLEEPER)
        async with bench.client() as client:
            container = await client.guest("g1").run("sleeper", bundle=bench.bundle(*SLEEPER))
            names = itertools.count(1)

            async def ours() -> None:
                process = await container.exec(["true"], process=f"x{next(names)}")
                await process.wait()

            taken, base = await pairs(ours, lambda: _bare(bare.exec("sleeper", "true")), bench.rounds(40, 100))
            await container.delete(force=True)
        return [
            Figure(
                name="exec true, exit known (open client)",
                unit="ms",
                samples=taken,
                baseline="runc exec",
                baseline_samples=base,
                target="≤ 1.10 ×",
                ratio_max=1.10,
            )
        ]
    finally:
        bare.close()


def _bare(status: int) -> None:
    if status != 0:
        raise ValueError(f"runc exec of true ended with {status}")


async def keystroke(bench: Bench) -> list[Figure]:
    """From a byte written to the terminal of `corral exec -it … cat` to its echo there (the pty in the container echoes)."""
    with bench.fleet() as fleet:
        async with AsyncClient(fleet.address) as client:
            await bench.guests_up(client, 1)
            container = await client.guest("g1").run("sleeper", bundle=bench.bundle(*SLEEPER))
            by_command = _echoes_ms(fleet.address, bench.rounds(100, 500))
            by_library = await _library_echoes_ms(container, bench.rounds(100, 500), tty=True)
            by_pipes = await _library_echoes_ms(container, bench.rounds(100, 500), tty=False)
            await container.delete(force=True)
    return [
        Figure(name="keystroke echo, corral exec -it", unit="ms", samples=by_command, target="p50 ≤ 3 ms", value_max=3.0),
        Figure(name="keystroke echo, library (tty, write_stdin)", unit="ms", samples=by_library),
        Figure(name="a byte into cat's stdin until it is read from its stdout, library", unit="ms", samples=by_pipes),
    ]


def _echoes_ms(address: str, count: int) -> list[float]:
    command = [sys.executable, "-c", "from corral.cli.main import main; main()", "--broker", address, "exec", "-it", "g1/sleeper", "cat"]
    pid, master = os.forkpty()
    if pid == 0:
        os.execv(command[0], command)
    try:
        _first_echo(master)
        took = []
        for number in range(count):
            key = b"%c" % (ord("a") + number % 26)
            begun = time.perf_counter()
            os.write(master, key)
            _read_until(master, key)
            took.append((time.perf_counter() - begun) * MILLISECONDS)
        return took
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(master)


def _first_echo(master: int) -> None:
    """Until the exec runs nothing in the container echoes, the local terminal does: only output after a newline shows that it does."""
    until_s = time.monotonic() + ECHO_S_MAX
    seen = b""
    while seen.count(b"ready") < 2:
        if time.monotonic() > until_s:
            raise TimeoutError(f"no echo from the container: {seen[-300:]!r}")
        if not seen.endswith(b"\n"):
            os.write(master, b"ready\n")
        seen += _read_some(master, 1.0)
    while _read_some(master, 0.5):
        pass


def _read_some(master: int, timeout_s: float) -> bytes:
    ready, _, _ = select.select([master], [], [], timeout_s)
    return os.read(master, 4096) if ready else b""


def _read_until(master: int, key: bytes) -> None:
    while key not in _read_some(master, ECHO_S_MAX):
        pass


async def _library_echoes_ms(container: Container, count: int, *, tty: bool) -> list[float]:
    """Stdin and output of one `cat`: a terminal echoes by itself, through pipes the bytes go through the process."""
    process = await container.exec(["cat"], process=f"echo-{'tty' if tty else 'pipes'}", stdio=StdioOptions(tty=tty, stdin=True))
    output, took = process.output(stderr=None), []
    for number in range(count):
        begun = time.perf_counter()
        await process.stdin.write(b"%c" % (ord("a") + number % 26))
        await anext(output)
        took.append((time.perf_counter() - begun) * MILLISECONDS)
    await output.aclose()
    return took


ROWS: dict[str, Row] = {"exec": exec_true, "echo": keystroke}
