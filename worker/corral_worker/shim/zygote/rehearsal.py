"""A container's life played through before the first fork, so that shims share what the interpreter makes on the way.

Python writes into its own code while it warms up, caches hashes, attributes and small objects. Each shim that did this
for itself would have its own copy of those pages. Here the whole path runs in the zygote, with the shell in place of
the runtime.
"""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable

from corral_worker.shim.base.files import remove_tree
from corral_worker.shim.base.light import Any, Path
from corral_worker.shim.base.linux import log
from corral_worker.shim.base.loop import READABLE
from corral_worker.shim.base.paths import ShimPaths
from corral_worker.shim.base.wire import FrameReader, Message, encode
from corral_worker.shim.shim import Shim

# The interpreter rewrites a function at its eighth call; most of the rest is there after the first life.
LIVES = 8
STUCK_S = 2.0
# Leaves a child behind, as the runtime does, which lives until it is sent a line.
_RUNTIME = 'exec 3<&0; { read line; echo out; } <&3 & echo $! > "$0"'
_BUNDLE = '{"linux": {"cgroupsPath": "/corral-rehearsal/%s"}}'  # which does not exist
_FIELDS = {"tty": False, "rows": 24, "columns": 80, "cap_bytes": 1 << 20, "policy": "drop", "lease_ms": 1000}


def rehearse(directory: Path, guest: str) -> None:
    """Play it. ``directory`` is made, and removed again. Best effort: whatever fails is only logged."""
    remove_tree(directory)  # of a zygote that was killed at it
    try:
        for life in range(LIVES):
            _Worker(ShimPaths(guest, f"rehearsal{life}", directory, directory)).play()
    except OSError as error:
        log(f"the rehearsal broke off: {error}")
    finally:
        remove_tree(directory)


class _Worker:
    """Plays the worker's part in the same loop: what it hears leads to what it asks next."""

    def __init__(self, place: ShimPaths) -> None:
        place.directory.mkdir(parents=True)
        place.socket_path.parent.mkdir(exist_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(place.socket_path))
        listener.listen()
        self._shim = Shim(place, listener)
        self._loop = self._shim.loop
        self._place = place
        self._reader = FrameReader()
        self._connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._connection.connect(str(place.socket_path))
        (place.directory / "bundle").mkdir()
        (place.directory / "bundle" / "config.json").write_text(_BUNDLE % place.instance)
        self._log = str(place.directory / "log")
        self._next: dict[tuple[str, str], Callable[[], None]] = {
            ("state", ""): self._run,
            ("response", "run"): self._speak_to_init,
            ("exit", "init"): self._exec,
            ("response", "exec"): self._speak_to_second,
            ("exit", "second"): self._delete,
        }

    def play(self) -> None:
        """From hello to the end."""
        self._loop.watch(self._connection.fileno(), READABLE, self._on_readable)
        stuck = self._loop.later(STUCK_S, self._break_off)
        self._send({"t": "hello", "generation": 1, "guest": self._place.guest})
        self._shim.run()
        stuck.cancel()
        self._connection.close()

    def _break_off(self) -> None:
        log("the rehearsal is stuck: it goes without the rest of this life")
        self._loop.stop()

    def _on_readable(self, _: int) -> None:
        for message, _blob in self._reader.feed(self._connection.recv(65536)):
            kind = message["t"]
            if kind == "response":
                self._send({"t": "ack_response", "id": message["id"], "step": message["step"]})
            elif "n" in message:
                self._send({"t": "ack", "n": message["n"]})
            follow = self._next.get((kind, message.get("step") or message.get("process") or ""))
            if follow is not None:
                follow()

    def _run(self) -> None:
        self._start("run", "init")

    def _speak_to_init(self) -> None:
        self._request("signal", process="init", signal=signal.SIGCONT, all=False)
        self._request("stdin", b"\n", process="init", offset=0)

    def _exec(self) -> None:
        self._start("exec", "second")
        self._send({"t": "arm", "process": "second", "after": {"1": 0, "2": 0}})
        self._send({"t": "ping"})

    def _speak_to_second(self) -> None:
        self._request("stdin", b"\n", process="second", offset=0)

    def _delete(self) -> None:
        self._request("delete", argv=["/bin/sh", "-c", ""], log=self._log, timeout_ms=1000)

    def _start(self, step: str, instance: str) -> None:
        pid_file = str(self._place.directory / f"{instance}.pid")
        process = {**_FIELDS, "instance": instance, "id": instance, "stdin": True, "pid_file": pid_file}
        self._request(step, argv=["/bin/sh", "-c", _RUNTIME, pid_file], process=process, log=self._log, timeout_ms=1000)

    def _request(self, step: str, blob: bytes = b"", **fields: Any) -> None:
        self._send({"t": "request", "id": step + str(fields.get("process", "")), "step": step, **fields}, blob)

    def _send(self, message: Message, blob: bytes = b"") -> None:
        self._connection.sendall(encode(message, blob))
