"""Which arguments that several commands share a broker has been sent over which connection. No I/O."""

from collections import OrderedDict

KEPT_MAX = 64
"""Names remembered of one connection: a broker keeps no more, and says so where it kept less."""

Connection = tuple[int, bool]
"""A link, and whether it is the second connection, for what is full of bytes."""


class SharedSent:
    """Names by connection. What is wrong here costs one round trip: the broker answers `args_unknown`."""

    def __init__(self) -> None:
        self._used: set[int] = set()  # links to brokers that keep shared arguments
        self._sent: dict[Connection, OrderedDict[str, None]] = {}

    def on_hello(self, link: int, *, shares_args: bool) -> None:
        (self._used.add if shares_args else self._used.discard)(link)

    def on_connection(self, link: int, *, bulk: bool) -> None:
        """A new one: its broker knows nothing yet."""
        self._sent.pop((link, bulk), None)

    def is_used(self, link: int) -> bool:
        return link in self._used

    def is_there(self, link: int, bulk: bool, name: str) -> bool:
        """Whether the arguments of that name went over this connection before; from now on they did."""
        names = self._sent.setdefault((link, bulk), OrderedDict())
        there = name in names
        names[name] = None
        if len(names) > KEPT_MAX:
            names.popitem(last=False)
        return there

    def forget(self, link: int, bulk: bool, name: str) -> None:
        self._sent.get((link, bulk), OrderedDict()).pop(name, None)
