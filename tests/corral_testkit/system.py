"""A whole Corral for tests: a real broker, real workers and real runc, in a private directory, with nothing left of it afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from corral import AsyncClient, Client, ContainerSpec, CorralError
from corral_testkit.bundles import make_rootfs
from corral_testkit.remains import readable, remains, sweep
from corral_testkit.shim_driver import wait_until
from corral_worker.shim.listener import pid_of_listener
from corral_worker.shim.zygote.zygote import ZYGOTE_SOCKET

START_S = 60.0
END_S = 20.0
TESTS = str(Path(__file__).parents[1])
"""Where processes of their own find the test kit."""


class Service:
    """A broker, a worker or a test's own client as a process of its own."""

    def __init__(self, argv: Sequence[str], ready: str, log: Path) -> None:
        """argv: a module (of the test kit's too) and its arguments."""
        self._argv, self._ready, self._log = [sys.executable, "-m", *argv], ready, log
        self._process: subprocess.Popen[bytes] | None = None
        self._frozen = False

    @property
    def pid(self) -> int:
        """Of the process that was started last."""
        assert self._process is not None, "not started"
        return self._process.pid

    @property
    def started(self) -> bool:
        return self._process is not None

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def running(self) -> bool:
        """Alive and not frozen."""
        return self.alive and not self._frozen

    @property
    def log(self) -> str:
        """What it wrote to stderr, over all its lives."""
        return self._log.read_text() if self._log.exists() else ""

    def start(self) -> None:
        """Starts it; returns once it says that it is ready."""
        assert not self.alive, "it runs already"
        with self._log.open("ab") as log:
            self._frozen = False
            environment = {**os.environ, "PYTHONPATH": TESTS}
            self._process = subprocess.Popen(self._argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, env=environment)
        assert self._process.stdout is not None
        said = readable(self._process.stdout.fileno(), START_S)
        line = self._process.stdout.readline().decode() if said else ""
        if not line.startswith(self._ready):
            self.kill()
            raise AssertionError(f"{self._argv[2:]} said {line!r}, not {self._ready!r}; its log:\n{self.log}")

    def kill(self) -> None:
        """SIGKILL, and its end."""
        self._end(signal.SIGKILL)

    def join(self, timeout_s: float) -> int:
        """Its exit status once it ends by itself. AssertionError, with its log, when it does not end in time."""
        assert self._process is not None and self._process.stdout is not None, "not started"
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self._argv[2:]} did not end within {timeout_s} s; its log:\n{self.log}") from None
        finally:
            self._process.stdout.close()

    def terminate(self) -> int:
        """SIGTERM, and its exit status."""
        return self._end(signal.SIGTERM)

    def freeze(self) -> None:
        """SIGSTOP; returns once it is stopped."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED)
        self._frozen = True

    def thaw(self) -> None:
        """SIGCONT. Does nothing to one that runs."""
        os.kill(self.pid, signal.SIGCONT)
        self._frozen = False

    def _end(self, number: int) -> int:
        assert self._process is not None and self._process.stdout is not None, "not started"
        self._process.send_signal(number)
        try:
            return self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise AssertionError(f"{self._argv[2:]} did not end; its log:\n{self.log}") from None
        finally:
            self._process.stdout.close()


class CorralSystem:
    """A broker and workers on ipc; a context manager. Names of guests are the system's own (`names`), so that systems can run side by side.

    On leaving, what was killed or frozen is brought back, so that Corral itself removes its containers; then everything ends, and
    AssertionError says what was left (it is removed by force then).
    """

    def __init__(
        self,
        guests: int = 1,
        *,
        rootfs: Path | None = None,
        worker_options: Sequence[str] = (),
        bind: str = "",
        address: str = "",
        launcher: Sequence[str] = (),
        states: Path | None = None,
        worker_tree: Path | None = None,
    ) -> None:
        """bind: the broker's address (tcp is served without keys); "" for ipc. address: what workers and clients dial, where a proxy of
        the caller's leads to `bind`. launcher: a module (and its arguments) that runs broker and workers. states: where guests have their
        STATE; None for the system's own directory. worker_tree: a checkout of another version, whose workers are run; None: today's."""
        self.directory = Path(tempfile.mkdtemp(prefix="corral-", dir="/tmp"))
        token = secrets.token_hex(2)
        self.names = [f"g{number}-{token}" for number in range(1, guests + 1)]
        self.rootfs = rootfs or make_rootfs(self.directory / "rootfs")
        self.bind = bind or f"ipc://{self.directory}/b"
        self.address = address or self.bind
        self._launcher, self._states = list(launcher), states or self.directory
        self._insecure = ["--insecure"] if self.bind.startswith("tcp:") else []
        broker = [*self._launcher, "corral_broker", "--bind", self.bind, "--state-dir", str(self.directory / "broker"), *self._insecure]
        self.broker = Service(broker, "corral broker ready at ", self.directory / "broker.log")
        self._worker_options = worker_options
        self.workers: dict[str, Service] = {}
        self.run_workers_from(worker_tree)
        self._registered: dict[str, str] = {}  # guest -> instance of the worker that registered last
        self._open = contextlib.ExitStack()

    def __enter__(self) -> CorralSystem:
        try:
            self.broker.start()
            self._start_workers(self.names)
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.close_clients()
        try:
            self.restore()
            left = self._end()
        except BaseException:
            self._remove()
            raise
        self._remove()
        assert not left, f"left behind: {left}"

    def client(self, **options: float) -> Client:
        """An open client, closed with the system, or by `close_clients`."""
        return self._open.enter_context(Client(self.address, **options))  # type: ignore[arg-type]

    def close_clients(self) -> None:
        """Closes what `client` gave. A test that shares the system with others is to leave none: each holds a dozen descriptors."""
        self._open.close()

    def async_client(self, **options: float) -> AsyncClient:
        """To be used with `async with`."""
        return AsyncClient(self.address, **options)  # type: ignore[arg-type]

    def spec(self, *args: str) -> ContainerSpec:
        """A program in the busybox rootfs."""
        return ContainerSpec(rootfs=str(self.rootfs), args=list(args))

    def state_dir(self, name: str) -> Path:
        """STATE of a guest."""
        return self._states / name / "state"

    def run_dir(self, name: str) -> Path:
        """RUN of a guest."""
        return self.directory / name / "run"

    def keep_logs(self, to: Path) -> None:
        """Copies the logs of all parts, and every journal."""
        to.mkdir(parents=True, exist_ok=True)
        for path in self.directory.glob("*.log"):
            shutil.copy(path, to)
        for name in self.names:
            for path in [self.run_dir(name) / "zygote.log", *self.state_dir(name).glob("journal*")]:
                if path.exists():
                    shutil.copy(path, to / f"{name}-{path.name}")

    def shim_pid(self, name: str, instance: str) -> int:
        """pid of the shim of a container, by its instance. AssertionError when there is none."""
        pid = pid_of_listener(self.run_dir(name) / "s" / f"{instance}.sock")
        assert pid is not None, f"no shim of {instance}"
        return pid

    def zygote_pid(self, name: str) -> int | None:
        """pid of a guest's zygote, None when there is none."""
        return pid_of_listener(self.run_dir(name) / ZYGOTE_SOCKET)

    def restart_worker(self, name: str) -> None:
        """kill -9 where it still runs, and a new one; returns once it has registered."""
        if self.workers[name].alive:
            self.workers[name].kill()
        self._start_workers([name])

    def restart_broker(self) -> None:
        """kill -9 where it still runs, and a new one; returns once all workers that run have registered with it."""
        if self.broker.alive:
            self.broker.kill()
        self.broker.start()
        asyncio.run(self._wait_until_up({name: "" for name, worker in self.workers.items() if worker.running}))

    def restore(self) -> None:
        """Thaws what is frozen, starts what is down, deletes every container: as a new system."""
        for service in [self.broker, *self.workers.values()]:
            if service.alive and not service.running:
                service.thaw()
        if not self.broker.alive:
            self.broker.start()
        self._start_workers([name for name, worker in self.workers.items() if not worker.alive])
        asyncio.run(self._wait_until_up(dict.fromkeys(self.names, "")))
        with Client(self.address) as client:
            for state in client.list().containers:
                with contextlib.suppress(CorralError):  # it was just deleted by itself; what stays is found at the end
                    client.guest(state.guest).container(state.id, state.instance).delete(force=True)

    def _start_workers(self, names: Sequence[str]) -> None:
        for name in names:
            self.workers[name].start()
        asyncio.run(self._wait_until_up({name: self._registered.get(name, "") for name in names}))

    async def _wait_until_up(self, former: Mapping[str, str]) -> None:
        """Until the broker has these guests up, each with another worker instance than the former one."""
        async with asyncio.timeout(START_S), self.async_client() as client, client.events(kinds=["guest_up"]) as changes:
            while True:
                found = {info.guest: info.worker for info in await client.guests() if info.up}
                if all(found.get(name, instance) != instance for name, instance in former.items()):
                    self._registered |= {name: found[name] for name in former}
                    return
                await anext(changes)

    def run_workers_from(self, tree: Path | None) -> None:
        """Workers that are started from now on are those of another checkout; None: today's. None may run."""
        launcher = self._launcher if tree is None else ["corral_testkit.another_version", str(tree)]
        self.workers = {name: self._worker(name, launcher, self._worker_options) for name in self.names}

    def _worker(self, name: str, launcher: Sequence[str], options: Sequence[str]) -> Service:
        argv = [*launcher, "corral_worker", "--guest", name, "--broker", self.address, *self._insecure]
        argv += ["--state-dir", str(self.state_dir(name)), "--run-dir", str(self.run_dir(name)), *options]
        return Service(argv, "corral worker ready: ", self.directory / f"{name}.log")

    def _end(self) -> list[str]:
        """Ends every service; what is left then, and what went wrong."""
        wrong = [f"worker of {name}: status {status}" for name, worker in self.workers.items() if (status := worker.terminate())]
        if status := self.broker.terminate():
            wrong.append(f"broker: status {status}")
        wrong += [service.log for service in [self.broker, *self.workers.values()] if "Traceback" in service.log]
        with contextlib.suppress(AssertionError):  # then they are named below
            wait_until(lambda: not remains(self.directory, self.names), "everything ends", 2.0)
        return wrong + remains(self.directory, self.names)

    def _remove(self) -> None:
        for service in [self.broker, *self.workers.values()]:
            if service.started:
                service.kill()
        sweep(self.directory, self.names)
        shutil.rmtree(self.directory)


@contextlib.contextmanager
def busybox_rootfs() -> Iterator[Path]:
    """A busybox root filesystem in a private directory."""
    directory = Path(tempfile.mkdtemp(prefix="corral-rootfs-", dir="/tmp"))
    try:
        yield make_rootfs(directory / "rootfs")
    finally:
        shutil.rmtree(directory)
