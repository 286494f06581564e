"""Where shims are born: one is always forked beforehand and waits for its name."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable

from corral_worker.shim.light import Path
from corral_worker.shim.linux import become_subreaper, log_exception, set_title
from corral_worker.shim.place import ShimPlace
from corral_worker.shim.shim import run_shim

NAME_BYTES_MAX = 64 * 1024
BACKLOG = 16


class Nursery:
    """Forks shims. The spare one has no socket and no title of a shim, and ends when its channel is closed."""

    def __init__(self, leave_parent: Callable[[], None]) -> None:
        """``leave_parent`` is called in each child: it lets go of what is the parent's."""
        self._leave_parent = leave_parent
        self._spare: tuple[int, socket.socket] | None = None  # its pid, and our end of its channel

    @property
    def spare_pid(self) -> int | None:
        """The child that is no shim yet, if there is one."""
        return None if self._spare is None else self._spare[0]

    def new_shim(self, place: ShimPlace, name: str) -> int:
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
        if self._spare is not None:
            return
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
            self._spare = (pid, ours)

    def forget_spare(self) -> None:
        """It died without a name."""
        if self._spare is not None:
            self._spare[1].close()
            self._spare = None

    def _give_name(self, place: ShimPlace, name: str, listener: socket.socket) -> int:
        said = json.dumps([place.guest, place.instance, str(place.run_dir), str(place.state_dir), name]).encode()
        while True:
            fresh = self._spare is None
            self.prepare()
            assert self._spare is not None
            pid, channel = self._spare
            try:
                socket.send_fds(channel, [said], [listener.fileno()])
            except ConnectionError:  # it was killed while it waited
                if fresh:
                    raise
                continue
            finally:
                self.forget_spare()
            return pid

    def _be_child(self, channel: socket.socket) -> None:
        """Never returns."""
        status = 1
        try:
            self._leave_parent()
            os.setpgid(0, 0)  # no session of its own: that would be a scheduling group of its own, too
            become_subreaper()
            set_title("corral-spare")
            said, descriptors, _, _ = socket.recv_fds(channel, NAME_BYTES_MAX, 1)
            channel.close()
            if descriptors:
                _be_shim(said, socket.socket(fileno=descriptors[0]))
            status = 0
        except Exception:  # noqa: BLE001  (whatever it was, it must be in the log before the process ends)
            log_exception("a shim ended")
        finally:
            os._exit(status)


def _listen(place: ShimPlace) -> socket.socket:
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
    run_shim(ShimPlace(guest, instance, Path(run_dir), Path(state_dir)), listener)
