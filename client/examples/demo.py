"""What Corral does, in under a minute: `make demo`, or `python client/examples/demo.py [--table FILE]` as root.

A broker and two guests on this machine, real containers in both, events as they come, and a table of how everything ended. The table
is also written to a file as JSON Lines. Nothing else is left behind. Exit status 0 when everything ended as it should.
"""

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.table import Table

from corral import AsyncClient, ContainerSpec, Event, Exit, InvalidError, StdioOptions, shell_status
from corral.process import Process
from corral_schemas.events import ExitEvent
from corral_schemas.exits import describe

READY_TIMEOUT_S = 20.0
END_TIMEOUT_S = 20.0
GUESTS = ("north", "south")
BUSYBOX = Path("/bin/busybox")
PLAIN = StdioOptions()
COLOURS = {"exit": "yellow", "paused": "magenta", "resumed": "magenta", "deleted": "bright_black", "worker_started": "red"}


@dataclass(frozen=True)
class Row:
    """How one process ended, beside how it was to end."""

    guest: str
    container: str
    process: str
    story: str
    end: str
    type: str
    status: int
    expected_status: int
    stdout: str
    stderr: str
    as_expected: bool


class Services:
    """A broker and one worker for each guest, as processes of their own below one private directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.address = f"ipc://{directory}/broker"
        self._processes: dict[str, subprocess.Popen[str]] = {}

    def start_broker(self) -> None:
        self._start("broker", "corral_broker", "--bind", self.address)

    def start_worker(self, guest: str) -> None:
        home = self._directory / guest
        places = ("--state-dir", str(home / "state"), "--run-dir", str(home / "run"))
        self._start(guest, "corral_worker", "--guest", guest, "--broker", self.address, *places)

    def kill_worker(self, guest: str) -> None:
        """kill -9."""
        process = self._processes.pop(guest)
        process.kill()
        process.communicate()

    def stop(self) -> None:
        """Workers first, then the broker."""
        for _, process in reversed(self._processes.items()):
            process.terminate()
            process.communicate(timeout=END_TIMEOUT_S)

    def _start(self, name: str, *arguments: str) -> None:
        process = subprocess.Popen([sys.executable, "-m", *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        self._processes[name] = process
        if process.stdout is None or not process.stdout.readline():  # each says one line when it is ready
            raise SystemExit(f"demo: {arguments[0]} did not start; what it said is above")


class Demo:
    """The acts, and what came of them."""

    def __init__(self, client: AsyncClient, services: Services, rootfs: Path, console: Console) -> None:
        self._client, self._services, self._rootfs, self._console = client, services, rootfs, console
        self.rows: list[Row] = []

    async def streams(self) -> None:
        self._say("north/streams prints on both streams, and exits 7")
        init = await self._run("north", "streams", ["sh", "-c", "echo to stdout; echo to stderr >&2; exit 7"])
        await self._record(init, "prints on both streams, exits 7", 7)

    async def killed(self) -> None:
        self._say("south/killed would sleep for an hour; it is killed")
        init = await self._run("south", "killed", ["sleep", "3600"])
        await init.kill(9)
        await self._record(init, "killed by SIGKILL", 137)

    async def terminal(self) -> None:
        self._say("north/terminal has a terminal, which is made larger while it runs")
        stdio = StdioOptions(tty=True, stdin=True, rows=24, columns=80)
        init = await self._run("north", "terminal", ["sh", "-c", "stty size; read line; stty size; exit 3"], stdio)
        await _until_printed(init, b"24 80")
        await init.resize(50, 132)
        await init.stdin.write(b"go on\n")
        await self._record(init, "a terminal, resized to 50 by 132", 3)

    async def paused_with_exec(self) -> None:
        self._say("south/service: one more process runs in it and reads our input; then it is paused, resumed and stopped")
        init = await self._run("south", "service", ["sh", "-c", "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.1; done"])
        await _until_printed(init, b"up")
        counter = await init.container.exec(["sh", "-c", "wc -c; exit 5"], process="counter", stdio=StdioOptions(stdin=True))
        await counter.stdin.write(b"x" * 100_000)
        await counter.stdin.close()
        await self._record(counter, "an exec: counts 100000 bytes of stdin, exits 5", 5)
        await init.container.pause()
        self._say(f"south/service is {(await init.container.state()).status}")
        await init.container.resume()
        await init.container.stop(grace_s=5)
        await self._record(init, "paused, resumed, then stopped by SIGTERM", 0)

    async def not_there(self) -> None:
        self._say("north/nowhere names a program that does not exist: that is an error, and nothing is left of it")
        try:
            await self._run("north", "nowhere", ["/no/such/program"])
        except InvalidError as why:
            end = Exit(type="start_failed", reason=why.code)
            self._add("north", "nowhere", "init", "a program that does not exist", end, 127, b"", b"")

    async def worker_killed(self) -> None:
        self._say("south/counting prints 1 to 3000; meanwhile the worker of its guest is killed with kill -9")
        script = "i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo $i; [ $((i % 10)) = 0 ] && usleep 2000; done; exit 11"
        init = await self._run("south", "counting", ["sh", "-c", script])
        await _until_printed(init, b"100\n")
        await asyncio.to_thread(self._services.kill_worker, "south")
        self._say("the worker is dead, the container prints on; now another worker is started")
        await asyncio.to_thread(self._services.start_worker, "south")
        await self._record(init, "its worker killed meanwhile: every line is there", 11, "".join(f"{i}\n" for i in range(1, 3001)).encode())

    async def _run(self, guest: str, name: str, args: Sequence[str], stdio: StdioOptions = PLAIN) -> Process:
        spec = ContainerSpec(rootfs=str(self._rootfs), args=list(args))
        return (await self._client.guest(guest).run(name, spec=spec, stdio=stdio)).init

    async def _record(self, process: Process, story: str, status: int, stdout: bytes | None = None) -> None:
        """Reads all it wrote, waits for its end, and adds both to the table."""
        (out, err), end = await asyncio.gather(_both_streams(process), process.wait())
        where = process.container
        self._add(where.guest, where.name, process.process, story, end, status, out, err, complete=stdout in (None, out))

    def _add(
        self, guest: str, name: str, process: str, story: str, end: Exit, expected: int, out: bytes, err: bytes, *, complete: bool = True
    ) -> None:
        status = shell_status(end)
        well = status == expected and complete
        self.rows.append(Row(guest, name, process, story, describe(end), end.type, status, expected, _shown(out), _shown(err), well))

    def _say(self, text: str) -> None:
        self._console.print(f"[bold]» {text}[/bold]")


async def _until_printed(process: Process, wanted: bytes) -> None:
    seen = b""
    async for data in process.stdout:
        seen += data
        if wanted in seen:
            return
    raise SystemExit(f"demo: {process!r} ended without printing {wanted!r}, only {seen!r}")


async def _both_streams(process: Process) -> tuple[bytes, bytes]:
    parts: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
    async for piece in process.output():
        parts[piece.stream].append(getattr(piece, "data", b"<gap>"))
    return b"".join(parts["stdout"]), b"".join(parts["stderr"])


async def _show_events(client: AsyncClient, console: Console, live: asyncio.Event) -> None:
    async with client.events(broker_events=False) as events:
        live.set()
        async for item in events:
            if not isinstance(item, Event):
                console.print(f"  [red]missing events: {item}[/red]")
                continue
            subject = "/".join(part for part in (item.header.guest, item.header.container, item.header.process) if part)
            detail = describe(item.payload.exit) if isinstance(item.payload, ExitEvent) else ""
            console.print(f"  [{COLOURS.get(item.kind, 'cyan')}]{item.kind:<14}[/] {subject:<24} {detail}", highlight=False)


def _shown(data: bytes) -> str:
    """Its words; of many only the first and the last."""
    words = data.decode(errors="replace").split()
    return " ".join(words) if len(words) <= 10 else f"{words[0]} … {words[-1]} ({len(words)} words)"


def _exits(rows: Sequence[Row]) -> Table:
    table = Table(title="How everything ended")
    table.add_column("process", no_wrap=True)
    for title in ("what it did", "end", "status", "output"):
        table.add_column(title, justify="right" if title == "status" else "left")
    for row in rows:
        place = "/".join([row.guest, row.container, *([row.process] if row.process != "init" else [])])
        status = f"[green]{row.status}[/green]" if row.as_expected else f"[red]{row.status}, not as it should be[/red]"
        table.add_row(place, row.story, row.end, status, " ".join(filter(None, (row.stdout, row.stderr))))
    return table


def _make_rootfs(directory: Path) -> Path:
    """A root file system with busybox in it."""
    for name in ("bin", "dev", "etc", "proc", "sys", "tmp"):
        (directory / name).mkdir(parents=True)
    shutil.copy2(BUSYBOX, directory / "bin" / "busybox")
    for applet in subprocess.run([BUSYBOX, "--list"], check=True, capture_output=True, text=True).stdout.split():
        with contextlib.suppress(FileExistsError):  # busybox itself
            (directory / "bin" / applet).symlink_to("busybox")
    return directory


async def _play(services: Services, rootfs: Path, console: Console) -> list[Row]:
    async with AsyncClient(services.address, retry_unreachable=True) as client:
        live = asyncio.Event()
        watching = asyncio.create_task(_show_events(client, console, live))
        await live.wait()
        demo = Demo(client, services, rootfs, console)
        try:
            for act in (demo.streams, demo.killed, demo.terminal, demo.paused_with_exec, demo.not_there, demo.worker_killed):
                await act()
        finally:
            console.print("[bold]» everything is deleted[/bold]")
            for state in (await client.list()).containers:
                await client.guest(state.guest).container(state.id).delete(force=True)
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        return demo.rows


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


def main() -> int:
    """Plays all acts; the exit status."""
    parser = argparse.ArgumentParser(description="Corral in under a minute.")
    parser.add_argument("--table", type=Path, default=Path("corral-runs/demo.jsonl"), help="where the table goes, as JSON Lines")
    table: Path = parser.parse_args().table
    if os.geteuid() != 0:
        raise SystemExit("demo: containers need root: run it as root, or with sudo")
    signal.signal(signal.SIGTERM, _leave)  # by way of every `finally`
    console = Console()
    directory = Path(tempfile.mkdtemp(prefix="corral-demo-", dir="/tmp"))  # short: socket paths end at 107 bytes
    services = Services(directory)
    try:
        services.start_broker()
        for guest in GUESTS:
            services.start_worker(guest)
        rows = asyncio.run(_play(services, _make_rootfs(directory / "rootfs"), console))
    finally:
        services.stop()
        shutil.rmtree(directory)
    console.print(_exits(rows))
    table.parent.mkdir(parents=True, exist_ok=True)
    table.write_text("".join(json.dumps(asdict(row)) + "\n" for row in rows))
    console.print(f"The table as JSON Lines: {table.absolute()}", soft_wrap=True)
    return 0 if all(row.as_expected for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
