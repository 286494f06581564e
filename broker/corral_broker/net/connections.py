"""Which worker's connection has closed.

A ROUTER does not say when a peer leaves, and the socket monitor's DISCONNECTED names a file descriptor, not a peer. But every received
message knows the descriptor it came in by, so a session's is noted when it registers. Descriptors are reused, therefore the monitor only
raises a suspicion: a message to that routing id (ROUTER_MANDATORY) decides. Libzmq may learn of the end a moment after the monitor has told
it, so a suspect that still takes messages is tried again a few times.
"""

from collections.abc import Callable
from dataclasses import dataclass

import zmq
from zmq.utils.monitor import parse_monitor_message

RETRY_AFTER_S = (0.0, 0.002, 0.02, 0.2)
"""When a suspect is tried, counted from the suspicion."""


@dataclass(slots=True)
class Suspect:
    """A routing id whose connection may have closed."""

    identity: bytes
    since_s: float
    tried: int = 0

    @property
    def due_s(self) -> float:
        return self.since_s + RETRY_AFTER_S[self.tried]


class Connections:
    """Descriptors of workers' sessions, and the suspects among them."""

    def __init__(self, monitor: "zmq.Socket[bytes]") -> None:
        self._monitor = monitor
        self._by_descriptor: dict[str, bytes] = {}  # descriptor -> routing id that last registered over it
        self._suspects: list[Suspect] = []

    def registered(self, frame: zmq.Frame, identity: bytes, now_s: float) -> None:
        """Notes the connection that a frame of a register message came in by."""
        try:
            descriptor = str(frame.get("__fd"))
        except zmq.ZMQError:  # a transport without descriptors
            return
        before = self._by_descriptor.get(descriptor)
        if before is not None and before != identity:
            self._suspects.append(Suspect(before, now_s))
        self._by_descriptor[descriptor] = identity

    def read_monitor(self, now_s: float) -> None:
        """Turns what the monitor has to say into suspects."""
        while True:
            try:
                event = parse_monitor_message(self._monitor.recv_multipart(zmq.NOBLOCK))
            except zmq.Again:
                return
            self.closed(int(event["value"]), now_s)

    def closed(self, descriptor: int, now_s: float) -> None:
        """The monitor has told that the connection with this descriptor is closed."""
        identity = self._by_descriptor.pop(str(descriptor), None)
        if identity is not None:
            self._suspects.append(Suspect(identity, now_s))

    def try_suspects(self, now_s: float, is_gone: Callable[[bytes], bool]) -> list[bytes]:
        """Routing ids found to be gone. Call it when the workers' messages that had come have been read: they still count."""
        gone: list[bytes] = []
        remaining: list[Suspect] = []
        for suspect in self._suspects:
            if suspect.due_s > now_s:
                remaining.append(suspect)
            elif is_gone(suspect.identity):
                gone.append(suspect.identity)
            else:
                suspect.tried += 1
                if suspect.tried < len(RETRY_AFTER_S):
                    remaining.append(suspect)
        self._suspects = remaining
        return gone

    def next_due_s(self) -> float | None:
        return min((suspect.due_s for suspect in self._suspects), default=None)
