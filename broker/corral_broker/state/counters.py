"""What the broker counts since its start, and the few lines a second of it that reach the log."""

from collections import Counter

NOTE_INTERVAL_S = 1.0
"""One reason is logged at most this often; the counter goes on counting."""

NOTE_CHARS_MAX = 300


class Counters:
    """Counts by reason; remembers which reasons are due for a line in the log."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.notes: list[tuple[str, str]] = []  # (reason, what happened), taken by take_notes
        self._noted_s: dict[str, float] = {}  # reason -> when it was last noted; as many entries as there are reasons in the code

    def add(self, reason: str, count: int = 1) -> None:
        self.counts[reason] += count

    def note(self, reason: str, what: str, now_s: float) -> None:
        """Counts a refusal or drop and puts it up for the log, at most once per NOTE_INTERVAL_S and reason."""
        self.counts[reason] += 1
        last_s = self._noted_s.get(reason)
        if last_s is None or now_s - last_s >= NOTE_INTERVAL_S:
            self._noted_s[reason] = now_s
            self.notes.append((reason, what))

    def take_notes(self) -> list[str]:
        """Lines for the log, reason first; each is given once."""
        taken, self.notes = self.notes, []
        return [f"{reason}: {_printable(what)} ({self.counts[reason]} so far)" for reason, what in taken]


def _printable(text: str) -> str:
    """What strangers sent goes into the log on one line and cut."""
    return "".join(char if char.isprintable() else "?" for char in text[:NOTE_CHARS_MAX])
