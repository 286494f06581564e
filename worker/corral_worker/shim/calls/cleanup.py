"""After a runtime call was cut off: nothing of it is left, no process, no directory, no cgroup."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

from corral_worker.shim.base.files import remove_tree
from corral_worker.shim.base.light import Path, dataclass
from corral_worker.shim.base.linux import descendants, process_table, send_signal
from corral_worker.shim.base.loop import Loop
from corral_worker.shim.calls.spawn import spawn
from corral_worker.shim.cgroup.cgroup import Cgroup
from corral_worker.shim.ledger.answers import RequestError

LOOK_AGAIN_S = 0.005
GIVE_UP_S = 10.0
CLEANUP_ARGV_S = 5.0


@dataclass(frozen=True, slots=True)
class Leftovers:
    """What may be left.

    ``runtime``: the runtime's pid while it runs. ``shim``: our own pid. ``known``: children that stay. ``since_ticks``:
    when the runtime was started (children from before are none of it). For a create also the runtime's own way to undo
    it, its directory, and the function that finds the cgroups.
    """

    runtime: int | None
    shim: int
    known: frozenset[int]
    since_ticks: int
    cleanup_argv: tuple[str, ...] = ()
    directory: Path | None = None
    find_cgroup: Callable[[], Cgroup] | None = None


class Cleanup:
    """Looks every few milliseconds until all is gone: kill what is left, undo, remove by hand what undo left."""

    def __init__(self, loop: Loop, left: Leftovers, done: Callable[[bool], None]) -> None:
        """``done`` is called with True, or with False when something could not be removed."""
        self.pid: int | None = None  # of the undoing runtime, while it runs
        self._loop = loop
        self._left = left
        self._done = done
        self._runtime_alive = left.runtime is not None
        self._undone = not left.cleanup_argv
        self._give_up_at = time.monotonic() + GIVE_UP_S
        self._sessions: set[int] = set()  # of processes that were killed: what they left behind is killed with them
        self._undo_started = 0.0

    def begin(self) -> None:
        """Kill the runtime, with everything below it, and go on from there."""
        runtime = self._left.runtime
        if runtime is not None:
            send_signal(runtime, signal.SIGSTOP)  # so that it starts nothing while we look
            below = descendants(process_table(), {runtime}) - self._left.known
            self._sessions |= below  # each may have begun a session of its own, or be about to
            for pid in below | {runtime}:
                send_signal(pid, signal.SIGKILL)
        self._look()

    def runtime_ended(self) -> None:
        """The runtime was reaped: its children are ours now."""
        self._runtime_alive = False

    def argv_ended(self, _status: int) -> None:
        """The undoing runtime was reaped. Whether it did is seen by looking, not by its status."""
        self.pid = None
        self._undone = True

    def _look(self) -> None:
        late = time.monotonic() > self._give_up_at
        if late or (self._step()):
            self._done(not late)
        else:
            self._loop.later(LOOK_AGAIN_S, self._look)

    def _step(self) -> bool:
        """One look; True when nothing is left."""
        if self._runtime_alive:
            return False
        if self.pid is not None:
            if time.monotonic() > self._undo_started + CLEANUP_ARGV_S:
                send_signal(self.pid, signal.SIGKILL)
            return False
        if self._kill_strays():
            return False
        if not self._undone:
            return self._undo()
        return self._remove_by_hand()

    def _kill_strays(self) -> bool:
        """Kill our children that came with the call, and what they left; True when there were any."""
        table = process_table()
        roots = {
            pid
            for pid, row in table.items()
            if row.parent == self._left.shim and pid not in self._left.known and row.started_ticks >= self._left.since_ticks
        }
        for pid in roots:
            send_signal(pid, signal.SIGSTOP)
        table = process_table()
        own_sessions = {table[pid].session for pid in {self._left.shim, *self._left.known} if pid in table}
        self._sessions |= roots | {table[pid].session for pid in roots if pid in table} - own_sessions - {0}
        victims = roots | descendants(table, roots)
        victims |= {pid for pid, row in table.items() if row.session in self._sessions}
        victims = {pid for pid in victims - self._left.known if pid in table and not table[pid].zombie}
        for pid in victims:
            send_signal(pid, signal.SIGKILL)
        return bool(victims)

    def _undo(self) -> bool:
        try:
            self.pid = spawn(list(self._left.cleanup_argv))
            self._undo_started = time.monotonic()
        except RequestError:
            self._undone = True
        return False

    def _remove_by_hand(self) -> bool:
        if self._left.find_cgroup is not None:
            cgroup = self._left.find_cgroup()
            if not cgroup.kill() or not cgroup.remove():
                return False
        if self._left.directory is not None:
            return remove_tree(self._left.directory)
        return True
