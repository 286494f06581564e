"""Which of several brokers carries a command: the first that answered hello, another when it falls silent. No I/O."""

from dataclasses import dataclass, field


@dataclass
class _Link:
    up: bool = False
    answered: bool = False
    heard_s: float = 0.0


@dataclass
class Links:
    """Brokers by their position in the list of addresses."""

    count: int
    active: int = 0
    """The one in use."""
    _links: list[_Link] = field(init=False)

    def __post_init__(self) -> None:
        self._links = [_Link() for _ in range(self.count)]

    def on_up(self, link: int) -> None:
        self._links[link].up = True

    def on_down(self, link: int) -> None:
        self._links[link].up = False
        if link == self.active:
            self._move_on(not_to=link)

    def on_hello(self, link: int) -> None:
        """It answered hello: it may carry commands. The first to do so becomes the active one."""
        self._links[link].answered = True
        active = self._links[self.active]
        if not (active.answered and active.up):
            self.active = link

    def on_heard(self, link: int, now_s: float) -> None:
        self._links[link].heard_s = now_s

    def is_up(self, link: int) -> bool:
        return self._links[link].up

    def suspect(self, link: int, since_s: float) -> None:
        """A command sent at `since_s` has no answer: a broker not heard since then gives way to another."""
        if link == self.active and self._links[link].heard_s <= since_s:
            self._move_on(not_to=link)

    def choose(self, refused: set[int]) -> int | None:
        """The link for a command that those in `refused` could not deliver; None: none is there now."""
        order = [self.active, *(link for link in range(self.count) if link != self.active)]
        usable = [link for link in order if self._links[link].up and self._links[link].answered]
        return next((link for link in usable if link not in refused), usable[0] if usable else None)

    def untried(self, refused: set[int]) -> bool:
        """Whether there is a link that has not refused yet."""
        return any(link.up and link.answered and number not in refused for number, link in enumerate(self._links))

    def _move_on(self, not_to: int) -> None:
        for link in [*range(not_to + 1, self.count), *range(not_to)]:
            if self._links[link].up and self._links[link].answered:
                self.active = link
                return
