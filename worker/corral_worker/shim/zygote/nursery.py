"""Where shims are born, and where one whose container is gone waits for its next.

A fork costs twice: in itself, and then in a page fault for each page that either side writes to. So a child is always
forked beforehand and waits for its name, and one that has served a container to its end serves another: its pages are
its own already. While it waits it has no socket and no title of a shim, and it ends when its channel is closed.
"""

from __future__ import annotations

import gc
import json
import os
import socket
from collections.abc import Callable

from corral_worker.shim.base.light import Path
from corral_worker.shim.base.linux import become_subreaper, log_exception, set_title
from corral_worker.shim.base.loop import READABLE, Loop, Timer
from corral_worker.shim.base.paths import ShimPaths
from corral_worker.shim.shim import run_shim

NAME_BYTES_MAX = 64 * 1024
BACKLOG = 16
# Whatever might grow in a process over time ends with it: this many containers, one after the other.
LIVES_MAX = 100
SPARES_MAX = 8
SPARES_KEPT = 1
SPARE_IDLE_S = 5.0
_FREE = b"free"


class Nursery:
    """Forks shims, and gives out those that are free again."""

    def __init__(self, loop: Loop, leave_parent: Callable[[], None], on_free: Callable[[int], None]) -> None:
        """``leave_parent`` is called in each child: it lets go of what is the parent's.

        ``on_free`` is told the pid of a shim whose container's life ended: it is that container's shim no longer.
        """
        self._loop = loop
        self._leave_parent = leave_parent
        self._on_free = on_free
        self._channels: dict[int, socket.socket] = {}  # pid -> our end, of every child of ours
        self._spares: list[int] = []  # pids of those without a container, the last one freed last
        self._trim_timer: Timer | None = None

    @property
    def spare_pids(self) -> list[int]:
        """The children that are no shims now."""
        return self._spares

    def new_shim(self, place: ShimPaths, name: str) -> int:
        """Its pid. Its socket listens when this returns: who connects waits in its backlog. Raises OSError."""
        listener = _listen(place)
        try:
            return self._give_name(place, name, listener)
        except OSError:
            place.socket_path.unlink(missing_ok=True)
            raise
        finally:
            listener.close()

    def prepare(self) -> None:
        """Have a spare. Raises OSError."""
        if not self._spares:
            self._fork()

    def ended(self, pid: int) -> None:
        """It was reaped."""
        self._close_channel(pid)

    def _fork(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                pid = os.fork()
            except OSError:
                ours.close()
                raise
            if pid == 0:
                ours.close()
                self._be_child(theirs)
        self._channels[pid] = ours
        self._spares.append(pid)
        self._loop.watch(ours.fileno(), READABLE, lambda _events: self._hear(pid))

    def _give_name(self, place: ShimPaths, name: str, listener: socket.socket) -> int:
        said = json.dumps([place.guest, place.instance, str(place.run_dir), str(place.state_dir), name]).encode()
        while True:
            fresh = not self._spares
            self.prepare()
            pid = self._spares.pop()
            try:
                socket.send_fds(self._channels[pid], [said], [listener.fileno()])
            except ConnectionError:  # it was killed while it waited
                self._close_channel(pid)
                if fresh:
                    raise
                continue
            return pid

    def _hear(self, pid: int) -> None:
        """Its container's life has ended, or its own."""
        channel = self._channels[pid]
        try:
            free = channel.recv(len(_FREE), socket.MSG_DONTWAIT) == _FREE
        except BlockingIOError:
            return
        except ConnectionError:
            free = False
        if not free:
            self._close_channel(pid)
            return
        self._on_free(pid)
        if len(self._spares) < SPARES_MAX:
            self._spares.append(pid)
            if self._trim_timer is None:
                self._trim_timer = self._loop.later(SPARE_IDLE_S, self._trim)
        else:
            self._close_channel(pid)

    def _trim(self) -> None:
        """Quiet times need few: the oldest goes, and the next one a little later."""
        self._trim_timer = None
        if len(self._spares) > SPARES_KEPT:
            self._close_channel(self._spares[0])
            self._trim_timer = self._loop.later(SPARE_IDLE_S / SPARES_MAX, self._trim)

    def _close_channel(self, pid: int) -> None:
        """Nothing is given to it any more, and it ends."""
        if pid in self._spares:
            self._spares.remove(pid)
        channel = self._channels.pop(pid, None)
        if channel is not None:
            self._loop.unwatch(channel.fileno())
            channel.close()

    def _be_child(self, channel: socket.socket) -> None:
        """Never returns."""
        status = 1
        try:
            for other in self._channels.values():
                other.close()
            self._leave_parent()
            os.setpgid(0, 0)  # no session of its own: that would be a scheduling group of its own, too
            become_subreaper()
            lives = 0
            while _serve_one(channel):
                lives += 1
                # in its last life it says nothing: whoever is free may be given a name at once, and would take it along
                if lives == LIVES_MAX or not _is_free(channel):
                    break
            status = 0
        except Exception:  # noqa: BLE001  (whatever it was, it must be in the log before the process ends)
            log_exception("a shim ended")
        finally:
            os._exit(status)


def _serve_one(channel: socket.socket) -> bool:
    """Wait for a name, be that container's shim to the end; True when it can be another's."""
    set_title("corral-spare")
    said, descriptors, _, _ = socket.recv_fds(channel, NAME_BYTES_MAX, 1)
    if not descriptors:
        return False
    _be_shim(said, socket.socket(fileno=descriptors[0]))
    return not _has_children()  # what a hook left running, say: it must not come to be among another container's


def _is_free(channel: socket.socket) -> bool:
    """Tell the zygote; False where there is none any more."""
    try:
        channel.send(_FREE)
    except ConnectionError:
        return False
    gc.collect()
    return True


def _has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _listen(place: ShimPaths) -> socket.socket:
    place.socket_path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(place.socket_path))
        place.socket_path.chmod(0o600)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _be_shim(said: bytes, listener: socket.socket) -> None:
    guest, instance, run_dir, state_dir, name = json.loads(said)
    os.set_inheritable(listener.fileno(), False)
    listener.listen(BACKLOG)  # once more: from now on it is us that who connects sees at the other end
    set_title(f"corral-shim {guest} {name}")
    run_shim(ShimPaths(guest, instance, Path(run_dir), Path(state_dir)), listener)
