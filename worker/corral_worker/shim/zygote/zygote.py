"""The zygote: imports once what every shim needs, forks shims, and cleans up after one that dies."""

from __future__ import annotations

import fcntl
import gc
import os
import signal
import socket
import sys

from corral_worker.shim.base.acceptor import Acceptor
from corral_worker.shim.base.light import Path
from corral_worker.shim.base.linux import (
    allow_open_files,
    become_subreaper,
    close_inherited,
    log,
    process_table,
    send_signal,
    set_oom_score_adj,
    set_title,
)
from corral_worker.shim.base.loop import READABLE, Loop
from corral_worker.shim.base.paths import ShimPaths
from corral_worker.shim.base.wire import VERSION, FrameReader, Message, WireError, encode
from corral_worker.shim.cgroup.cgroup import find_cgroup, remove_guest_cgroups
from corral_worker.shim.listener import pid_of_listener
from corral_worker.shim.zygote.nursery import Nursery
from corral_worker.shim.zygote.rehearsal import rehearse

OOM_SCORE_ADJ = -900
UMASK = 0o022
"""The runtime hands it on to what is exec'd in a container: it must not depend on whose shell or unit started the worker."""
KILL_AGAIN_S = 0.005
SPARE_LATER_S = 0.02
ZYGOTE_SOCKET = "zygote.sock"
ZYGOTE_LOCK = "zygote.lock"
ZYGOTE_LOG = "zygote.log"
REHEARSAL = "rehearsal"


class Zygote:
    """Single-threaded. Shims are its children, or those of an earlier zygote, which it found by their sockets."""

    def __init__(self, run_dir: Path, state_dir: Path, guest: str, lock_fd: int) -> None:
        """Raises OSError."""
        self._run_dir, self._state_dir, self._guest = run_dir, state_dir, guest
        self._lock_fd = lock_fd
        self._loop = Loop(self._reap)
        self._nursery = Nursery(self._loop, self._leave_zygote, self._shim_free)
        self._shims: dict[str, int] = {}  # instance -> pid, alive
        self._adopted: dict[str, int] = {}  # instance -> pidfd, of shims that are not our children
        self._dying: set[str] = set()  # instances whose container is being killed
        self._connections: dict[int, tuple[socket.socket, FrameReader]] = {}
        (run_dir / "s").mkdir(mode=0o700, exist_ok=True)
        path = run_dir / ZYGOTE_SOCKET
        path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        path.chmod(0o600)
        self._listener.listen(16)
        Acceptor(self._loop, self._listener, self._connected)
        for name in sorted(entry.name for entry in os.scandir(run_dir / "s")):
            if name.endswith(".sock"):
                self._adopt(name.removesuffix(".sock"))

    def run(self) -> None:
        """Until told to quit."""
        self._loop.later(0, self._prepare_spare)
        self._loop.run()
        (self._run_dir / ZYGOTE_SOCKET).unlink(missing_ok=True)

    def _connected(self, connection: socket.socket) -> None:
        fd = connection.fileno()
        self._connections[fd] = (connection, FrameReader())
        self._loop.watch(fd, READABLE, lambda _events: self._read(fd))

    def _read(self, fd: int) -> None:
        connection, reader = self._connections[fd]
        try:
            data = connection.recv(65536)
            messages = reader.feed(data) if data else []
        except BlockingIOError:
            return
        except (OSError, WireError) as error:
            log(f"zygote closed a connection: {error}")
            data, messages = b"", []
        if not data:
            self._close(fd)
        for message, _blob in messages:
            self._on_message(fd, message)

    def _on_message(self, fd: int, message: Message) -> None:
        kind = message.get("t")
        if kind == "fork":
            self._send(fd, self._fork(str(message.get("instance")), str(message.get("name", ""))))
        elif kind == "list":
            self._send(fd, {"t": "shims", "shims": self._shims})
        elif kind == "quit":
            self._loop.stop()
        else:
            log(f"zygote ignored a message of unknown type {kind!r}")

    def _send(self, fd: int, message: Message) -> None:
        """Messages are small and few; who does not read even those is cut off."""
        if fd in self._connections:
            try:
                self._connections[fd][0].sendall(encode(message))
            except OSError as error:
                log(f"zygote closed a connection: {error}")
                self._close(fd)

    def _close(self, fd: int) -> None:
        if fd in self._connections:
            self._loop.unwatch(fd)
            self._connections.pop(fd)[0].close()

    def _fork(self, instance: str, name: str) -> Message:
        if instance in self._dying:
            return {"t": "fork_failed", "instance": instance, "reason": "its last shim died just now"}
        if instance not in self._shims:
            if not instance.isalnum():
                return {"t": "fork_failed", "instance": instance, "reason": "not an instance"}
            try:
                self._shims[instance] = self._nursery.new_shim(self._place(instance), name)
            except OSError as error:
                return {"t": "fork_failed", "instance": instance, "reason": str(error), "errno": error.errno}
            finally:
                self._loop.later(SPARE_LATER_S, self._prepare_spare)
        return {"t": "forked", "instance": instance, "pid": self._shims[instance], "version": VERSION}

    def _prepare_spare(self) -> None:
        try:
            self._nursery.prepare()
        except OSError as error:
            log(f"no spare shim: {error}")

    def _place(self, instance: str) -> ShimPaths:
        return ShimPaths(self._guest, instance, self._run_dir, self._state_dir)

    def _leave_zygote(self) -> None:
        """In a child: let go of all that is the zygote's, its sockets, its loop, the lock."""
        for connection, _ in self._connections.values():
            connection.close()
        for pidfd in self._adopted.values():
            os.close(pidfd)
        self._listener.close()
        self._loop.close()
        os.close(self._lock_fd)

    def _adopt(self, instance: str) -> None:
        """A shim of an earlier zygote: watch it like our own. A socket nobody listens on is that of one that died."""
        pid = pid_of_listener(self._run_dir / "s" / f"{instance}.sock")
        if pid is None:
            self._died(instance, None)
            return
        pidfd = os.pidfd_open(pid)
        self._shims[instance], self._adopted[instance] = pid, pidfd
        self._loop.watch(pidfd, READABLE, lambda _events: self._adopted_ended(instance))

    def _adopted_ended(self, instance: str) -> None:
        pidfd = self._adopted.pop(instance)
        self._loop.unwatch(pidfd)
        os.close(pidfd)
        del self._shims[instance]
        # Its exit status went to another parent; a clean end removes the socket, a death does not.
        if (self._run_dir / "s" / f"{instance}.sock").exists():
            self._died(instance, None)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self._nursery.ended(pid)
            instance = self._forget_shim(pid)
            if instance is not None and status != 0:
                self._died(instance, status)

    def _shim_free(self, pid: int) -> None:
        """See Nursery: its container was deleted."""
        self._forget_shim(pid)

    def _forget_shim(self, pid: int) -> str | None:
        """Whose shim it was; None for a spare, and for an orphan of a shim that died."""
        instance = next((instance for instance, shim in self._shims.items() if shim == pid), None)
        if instance is not None:
            del self._shims[instance]
        return instance

    def _died(self, instance: str, status: int | None) -> None:
        """Kill what it left, then say so."""
        log(f"shim {instance} died, wait status {status}")
        self._dying.add(instance)
        self._kill_container(instance, status)

    def _kill_container(self, instance: str, status: int | None) -> None:
        self._kill_orphans()
        if not find_cgroup(self._run_dir, self._state_dir, instance).kill():
            self._loop.later(KILL_AGAIN_S, lambda: self._kill_container(instance, status))
            return
        self._dying.discard(instance)
        for leftover in ("sock", "tty", "pid"):
            (self._run_dir / "s" / f"{instance}.{leftover}").unlink(missing_ok=True)
        for fd in list(self._connections):
            self._send(fd, {"t": "shim_gone", "instance": instance, "status": status})

    def _kill_orphans(self) -> None:
        """Our children that are no shims came to us when their shim died: a runtime at work, processes of a container."""
        own = os.getpid()
        for pid, row in process_table().items():
            ours = (*self._shims.values(), *self._nursery.spare_pids)
            if row.parent == own and pid not in ours and not row.zombie:
                send_signal(pid, signal.SIGKILL)


def main(arguments: list[str] | None = None) -> int:
    """``python -m corral_worker.shim.zygote.zygote --run-dir R --state-dir S --guest G [--detach]``."""
    run_dir, state_dir, guest, detach = _options(sys.argv[1:] if arguments is None else arguments)
    close_inherited()
    lock_fd = os.open(run_dir / ZYGOTE_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        log(f"a zygote serves {run_dir} already")
        return 0
    return _detached(run_dir, state_dir, guest, lock_fd) if detach else _serve(run_dir, state_dir, guest, lock_fd, None)


def _options(arguments: list[str]) -> tuple[Path, Path, str, bool]:
    """Its run and state directories, the guest, whether to go on in the background once the socket accepts."""
    detach = arguments[-1:] == ["--detach"]
    names, values = arguments[: len(arguments) - detach : 2], arguments[1::2]
    given = dict(zip(names, values, strict=False))
    if set(given) != {"--run-dir", "--state-dir", "--guest"}:
        raise SystemExit("usage: corral-zygote --run-dir DIR --state-dir DIR --guest NAME [--detach]")
    return Path(given["--run-dir"]).absolute(), Path(given["--state-dir"]).absolute(), given["--guest"], detach


def _detached(run_dir: Path, state_dir: Path, guest: str, lock_fd: int) -> int:
    """Fork; the parent ends when the child accepts connections, or with 1 when it does not come to that."""
    ready_read, ready_write = os.pipe2(os.O_CLOEXEC)
    if os.fork() == 0:
        os.close(ready_read)
        os.setsid()
        os._exit(_serve(run_dir, state_dir, guest, lock_fd, ready_write))
    os.close(ready_write)
    with open(ready_read, "rb") as ready:
        return 0 if ready.read() else 1


def _serve(run_dir: Path, state_dir: Path, guest: str, lock_fd: int, ready: int | None) -> int:
    os.chdir("/")
    os.umask(UMASK)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    allow_open_files()
    become_subreaper()
    set_oom_score_adj(OOM_SCORE_ADJ)
    set_title(f"corral-zygote {guest}")
    zygote = Zygote(run_dir, state_dir, guest, lock_fd)
    if ready is not None:
        os.write(ready, b"ready")
        os.close(ready)
    rehearse(run_dir / REHEARSAL, guest)
    gc.collect()
    gc.freeze()
    zygote.run()
    remove_guest_cgroups(guest, state_dir)
    return 0


if __name__ == "__main__":
    sys.exit(main())
