"""Drives real zygotes and shims in tests, the way a worker does, but by hand and without a journal."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from corral_testkit.bundles import make_bundle, make_process, make_rootfs
from corral_testkit.shim_messages import INCOMING, OUTGOING, checked
from corral_worker.shim.base.wire import VERSION, FrameReader, Message, encode
from corral_worker.shim.cgroup.cgroup import hierarchies
from corral_worker.shim.listener import pid_of_listener
from corral_worker.shim.spool.reader import Chunk, Gap, SpoolReader
from corral_worker.shim.zygote.launch import start_zygote

CAP_BYTES = 256 * 1024 * 1024
ANSWER_S = 20.0
_CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"


def new_instance() -> str:
    """26 characters, different each time."""
    number = int.from_bytes(os.urandom(17), "big")
    return "".join(_CROCKFORD[(number >> (5 * place)) & 31] for place in range(26))


class Wire:
    """A blocking client of a shim's or the zygote's socket."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(str(path))
        self._reader = FrameReader()
        self._arrived: list[Message] = []

    def send(self, message: Message, blob: bytes = b"") -> None:
        """One frame."""
        self.socket.sendall(encode(message, blob))

    def wait_for(self, wanted: Callable[[Message], bool], timeout_s: float = ANSWER_S) -> Message:
        """The first message that is wanted, taken out; others stay. TimeoutError; ConnectionError when closed."""
        deadline = time.monotonic() + timeout_s
        while True:
            for index, message in enumerate(self._arrived):
                if wanted(message):
                    return self._arrived.pop(index)
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"not within {timeout_s} s; there is {self._arrived}")
            self.socket.settimeout(left)
            try:
                data = self.socket.recv(1 << 20)
            except TimeoutError:
                continue
            if not data:
                raise ConnectionError("closed by the other side")
            self._arrived += [checked(message, INCOMING) for message, _ in self._reader.feed(data)]

    def arrived(self) -> list[Message]:
        """What came and was not taken out (after reading what is there now)."""
        self.socket.settimeout(0)
        with contextlib.suppress(BlockingIOError):
            while data := self.socket.recv(1 << 20):
                self._arrived += [checked(message, INCOMING) for message, _ in self._reader.feed(data)]
        return list(self._arrived)

    def close(self) -> None:
        """Hang up."""
        self.socket.close()


class ShimDriver:
    """One container's shim: builds the argv a worker would build and speaks the protocol."""

    def __init__(self, guest: Guest, instance: str, pid: int) -> None:
        self.guest, self.instance, self.pid = guest, instance, pid
        self.generation = 0
        self.init: str | None = None
        self._next_request = 0
        self.wire, self.state = self.connect()

    @property
    def directory(self) -> Path:
        """STATE/instances/<instance>."""
        return self.guest.state_dir / "instances" / self.instance

    def connect(self) -> tuple[Wire, Message]:
        """Hang up, say hello with the next generation; the connection and the state."""
        self.generation += 1
        if hasattr(self, "wire"):
            self.wire.close()
        self.wire = Wire(self.guest.run_dir / "s" / f"{self.instance}.sock")
        self.wire.send(checked({"t": "hello", "generation": self.generation, "guest": self.guest.name, "version": VERSION}, OUTGOING))
        self.state = self.wire.wait_for(lambda message: message["t"] in ("state", "refused"))
        return self.wire, self.state

    def request(self, step: str, *, blob: bytes = b"", id: str | None = None, **fields: Any) -> str:
        """Send a request; its id."""
        self._next_request += 1
        request_id = id or f"r{self._next_request}-{os.urandom(4).hex()}"
        self.wire.send({"t": "request", "id": request_id, "step": step, **fields}, blob)
        return request_id

    def response(self, request_id: str, timeout_s: float = ANSWER_S) -> Message:
        """Wait for a response and acknowledge it."""
        message = self.wire.wait_for(lambda m: m["t"] == "response" and m["id"] == request_id, timeout_s)
        self.wire.send({"t": "ack_response", "id": request_id, "step": message["step"]})
        return message

    def do(self, step: str, *, blob: bytes = b"", **fields: Any) -> Message:
        """Request and response; AssertionError when it is an error."""
        message = self.response(self.request(step, blob=blob, **fields))
        assert "ok" in message, message
        ok: Message = message["ok"]
        return ok

    def notice(self, kind: str, process: str | None = None, timeout_s: float = ANSWER_S) -> Message:
        """Wait for a notice and acknowledge it."""
        message = self.wire.wait_for(lambda m: m["t"] == kind and "n" in m and process in (None, m.get("process")), timeout_s)
        self.wire.send({"t": "ack", "n": message["n"]})
        return message

    def end_of_stream(self, process: str, stream: int) -> Message:
        """Wait for the notice that tells the end of this stream by itself; those of a process come in any order."""
        message = self.wire.wait_for(lambda m: (m["t"], m.get("process"), m.get("stream")) == ("stream_end", process, stream), ANSWER_S)
        self.wire.send({"t": "ack", "n": message["n"]})
        return message

    def runtime(self, *arguments: str) -> list[str]:
        """argv of the runtime with its log in this container's directory."""
        log = str(self.log)
        return [self.guest.runtime, "--root", str(self.guest.run_dir / "runc"), "--log", log, "--log-format", "json", *arguments]

    @property
    def log(self) -> Path:
        """The runtime's JSON log."""
        return self.directory / "runc.log"

    def parameters(self, instance: str, **others: Any) -> Message:
        """A request's ``process``."""
        defaults = {
            "instance": instance,
            "id": instance[:4],
            "tty": False,
            "stdin": False,
            "rows": 24,
            "columns": 80,
            "cap_bytes": CAP_BYTES,
            "policy": "drop",
            "lease_ms": 60_000,
            "pid_file": str(self.directory / f"{instance}.pid"),
        }
        return {**defaults, **others}

    def create_request(self, argv: list[str], *, bundle: dict[str, Any] | None = None, **others: Any) -> Message:
        """Write the bundle; the fields of a create request."""
        instance = others.pop("instance", None) or new_instance()
        request_fields: Message = {key: others.pop(key) for key in ("timeout_ms", "kill_rest_on_init_exit") if key in others}
        process = self.parameters(instance, **others)
        cgroup = f"{self.guest.cgroup}/{self.instance}"
        settings: dict[str, Any] = {"rootfs": self.guest.rootfs, "cgroups_path": cgroup, **(bundle or {})}
        make_bundle(self.directory / "bundle", argv, tty=process["tty"], **settings)
        run = ["create", "--bundle", str(self.directory / "bundle"), "--pid-file", process["pid_file"]]
        return {
            "argv": self.runtime(*run, *self._console(process), self.instance),
            "process": process,
            "log": str(self.log),
            "timeout_ms": 30_000,
            "cleanup_argv": self.runtime("delete", "--force", self.instance),
            "kill_rest_on_init_exit": False,
            **request_fields,
        }

    def exec_request(self, argv: list[str], **others: Any) -> Message:
        """Write the process file; the fields of an exec request."""
        instance = others.pop("instance", None) or new_instance()
        timeout_ms = others.pop("timeout_ms", 30_000)
        process = self.parameters(instance, **others)
        (self.directory / instance).mkdir(exist_ok=True)
        process_file = self.directory / instance / "process.json"
        process_file.write_text(json.dumps(make_process(argv, tty=process["tty"])))
        run = ["exec", "--detach", "--process", str(process_file), "--pid-file", process["pid_file"]]
        return {
            "argv": self.runtime(*run, *self._console(process), self.instance),
            "process": process,
            "log": str(self.log),
            "timeout_ms": timeout_ms,
        }

    def create(self, argv: list[str], **others: Any) -> str:
        """Create the container; the init's process instance."""
        fields = self.create_request(argv, **others)
        self.do("create", **fields)
        self.init = fields["process"]["instance"]
        return self.init

    def exec(self, argv: list[str], **others: Any) -> str:
        """Run a process in it; its process instance."""
        fields = self.exec_request(argv, **others)
        self.do("exec", **fields)
        instance: str = fields["process"]["instance"]
        return instance

    def verb(self, verb: str, *arguments: str, timeout_ms: int = 30_000) -> Message:
        """start, pause, resume, update or delete."""
        argv = self.runtime(verb, *arguments, self.instance)
        return self.do(verb, argv=argv, log=str(self.log), timeout_ms=timeout_ms)

    def run(self, argv: list[str], **others: Any) -> str:
        """Create and start; the init's process instance."""
        instance = self.create(argv, **others)
        self.verb("start")
        return instance

    def kill(self, process: str, number: int = signal.SIGKILL, *, everyone: bool = False) -> str:
        """Signal; the outcome."""
        outcome: str = self.do("signal", process=process, signal=int(number), all=everyone)["outcome"]
        return outcome

    def end(self) -> None:
        """Kill and delete whatever there is; waits for the shim's end."""
        if self.init is not None:
            self.kill(self.init, everyone=True)
            self.notice("exit", self.init)
        self.verb("delete", "--force")
        self.wait_gone()

    def wait_gone(self, timeout_s: float = ANSWER_S) -> None:
        """Until the shim hung up."""
        with contextlib.suppress(ConnectionError):
            self.wire.wait_for(lambda _message: False, timeout_s)
        self.wire.close()

    def output(self, process: str, stream: int = 1) -> bytes:
        """All bytes of a stream that are in the spool, each checked; AssertionError on a gap."""
        data, gaps = read_all(self.directory / process, stream)
        assert not gaps, gaps
        return data

    def _console(self, process: Message) -> list[str]:
        if not process["tty"]:
            return []
        return ["--console-socket", str(self.guest.run_dir / "s" / f"{process['instance']}.tty")]


class Guest:
    """A zygote with directories and a cgroup of its own; `close` leaves nothing."""

    def __init__(self, directory: Path, rootfs: Path, *, runtime: str = "runc") -> None:
        self.name = "g1"
        self.runtime = runtime
        self.run_dir, self.state_dir, self.rootfs = directory / "run", directory / "state", rootfs
        self.cgroup = f"/corral-test-{os.urandom(4).hex()}"
        self.shims: list[ShimDriver] = []
        self.start()

    def start(self) -> None:
        """Start the zygote (again) and connect."""
        start_zygote(self.run_dir, self.state_dir, self.name)
        self.zygote = Wire(self.run_dir / "zygote.sock")

    @property
    def zygote_pid(self) -> int:
        """Of the one that serves now."""
        pid = pid_of_listener(self.run_dir / "zygote.sock")
        assert pid is not None
        return pid

    @property
    def log(self) -> str:
        """What zygote and shims wrote to their log."""
        return (self.run_dir / "zygote.log").read_text()

    def fork(self, instance: str | None = None) -> ShimDriver:
        """A new shim, connected."""
        instance = instance or new_instance()
        answer = self.ask({"t": "fork", "instance": instance, "name": "web"})
        assert answer["t"] == "forked", answer
        driver = ShimDriver(self, instance, answer["pid"])
        self.shims.append(driver)
        return driver

    def ask(self, message: Message) -> Message:
        """A message to the zygote and its answer."""
        self.zygote.send(message)
        return self.zygote.wait_for(lambda answer: answer["t"] != "shim_gone")

    @property
    def cgroup_tops(self) -> list[Path]:
        """The directory of its cgroup in every hierarchy, there or not."""
        return [Path(mount + self.cgroup) for mount in sorted(set(hierarchies().values()))]

    def container_pids(self, instance: str = "") -> set[int]:
        """Every process in any cgroup of this guest, or of one of its containers."""
        pids: set[int] = set()
        for top in self.cgroup_tops:
            for procs in (top / instance).glob("**/cgroup.procs"):
                with contextlib.suppress(OSError):
                    pids |= {int(line) for line in procs.read_text().split()}
        return pids

    def cgroups(self) -> list[Path]:
        """The containers' cgroup directories that are there."""
        return [path for top in self.cgroup_tops for path in top.glob("*") if path.is_dir()]

    def close(self) -> None:
        """Kill everything of this guest, remove its cgroups."""
        for shim in self.shims:
            shim.wire.close()
        pids = [self.zygote_pid, *self.ask({"t": "list"})["shims"].values()]
        self.zygote.close()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                pidfd = os.pidfd_open(pid)
                os.kill(pid, signal.SIGKILL)
                readable(pidfd, 5)
                os.close(pidfd)
        wait_until(lambda: not self._kill_containers(), "containers end")
        for root in self.cgroup_tops:
            for path in sorted(root.glob("**/"), reverse=True):
                wait_until(lambda path=path: remove(path), f"{path} can be removed")  # type: ignore[misc]

    def _kill_containers(self) -> bool:
        pids = self.container_pids()
        for top in self.cgroup_tops:
            for frozen in top.glob("*/freezer.state"):
                frozen.write_text("THAWED")
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return bool(pids)


def remove(path: Path) -> bool:
    """rmdir; True when it is gone."""
    with contextlib.suppress(OSError):
        path.rmdir()
    return not path.exists()


def readable(descriptor: int, timeout_s: float) -> bool:
    """Whether there is something to read (or an end) within the time. By poll: select knows no descriptor above 1023."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(max(0.0, timeout_s) * 1000))


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float = ANSWER_S) -> None:
    """Look until it is so (for what gives no event). AssertionError when it is not in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        select.select([], [], [], 0.002)


def read_all(directory: Path, stream: int = 1, *, start: int = 0) -> tuple[bytes, list[Gap]]:
    """Everything a spool has of one stream from ``start`` on, with the checksums checked, and the gaps in it."""
    reader = SpoolReader(directory, verify=True)
    parts: list[bytes] = []
    gaps: list[Gap] = []
    offsets = {stream: start}
    crc: int | None = None
    while True:
        items, offsets = reader.read(offsets, 1 << 20)
        if not items:
            reader.close()
            return b"".join(parts), gaps
        for item in items:
            if isinstance(item, Chunk):
                assert crc is None or item.crc_before == crc
                crc = zlib.crc32(item.data, item.crc_before)
                assert crc == item.crc
                parts.append(bytes(item.data))
            else:
                gaps.append(item)
                crc = None


@contextlib.contextmanager
def guest_in_temporary_directory(*, runtime: str = "runc") -> Iterator[Guest]:
    """A guest that leaves nothing behind."""
    directory = Path(tempfile.mkdtemp(prefix="corral-shim-"))
    try:
        guest = Guest(directory, make_rootfs(directory / "rootfs"), runtime=runtime)
        try:
            yield guest
        finally:
            guest.close()
    finally:
        shutil.rmtree(directory)
