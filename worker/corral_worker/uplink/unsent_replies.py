"""Replies that wait for a broker to take them."""

import logging
from collections import deque
from collections.abc import Callable

log = logging.getLogger(__name__)

REPLIES_KEPT_MAX = 1_000
"""Beyond, the oldest is dropped and counted: the journal has it, for `result` and repeats."""
DROPS_SAID_S = 1.0
"""Dropped replies are logged at most this often, with their number."""


class UnsentReplies:
    """Of one broker, in the order in which they were given."""

    def __init__(self, broker: str) -> None:
        self._broker = broker
        self._waiting: deque[list[bytes]] = deque()  # at most REPLIES_KEPT_MAX
        self.dropped = 0
        """Of those that waited too long, since the worker began."""
        self._said, self._say_again_s = 0, 0.0  # how many of them the log knows of, when it may be told again

    def keep(self, frames: list[bytes], now_s: float) -> None:
        """Until the broker takes replies again."""
        self._waiting.append(frames)
        if len(self._waiting) <= REPLIES_KEPT_MAX:
            return
        self._waiting.popleft()
        self.dropped += 1
        if now_s >= self._say_again_s:
            count, self._said = self.dropped - self._said, self.dropped
            self._say_again_s = now_s + DROPS_SAID_S
            text = "broker %s: takes no replies; %d of the oldest dropped (%d so far); who asks again gets them"
            log.warning(text, self._broker, count, self.dropped)

    def send_by(self, send: Callable[[list[bytes]], bool]) -> None:
        """Sends them until `send` takes no more."""
        while self._waiting and send(self._waiting[0]):
            self._waiting.popleft()

    def clear(self) -> None:
        """The broker that asked is gone: nobody can take them any more."""
        self._waiting.clear()
