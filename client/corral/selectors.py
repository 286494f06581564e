"""Selectors: which guests are meant, in one line of text.

    all                      every guest
    g1,g2                    by name
    web-*                    by pattern (* ? [abc])
    role=web,zone!=b         by label; `!=` and `notin` also hold where there is no such label
    role in (web,db)         one of several values; `zone notin (a,b)`
    web-*,zone=a             a name that matches, and every condition on labels

Names are alternatives, conditions on labels must all hold.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from corral_schemas.errors import error

if TYPE_CHECKING:
    from corral_schemas.errors import CorralError
    from corral_schemas.queries import GuestInfo

SELECTOR_CHARS_MAX = 65_536
_ALL = "all"
_TOKEN = re.compile(r"\s*(?:(?P<mark>!=|==|=|,|\(|\))|(?P<word>[^\s,()=!]+))")
_WILD = frozenset("*?[")
_NAME = re.compile(r"[A-Za-z0-9_+.\-*?\[\]!]+")


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition on one label."""

    label: str
    values: frozenset[str]
    wanted: bool
    """Whether the label must have one of the values, or none of them."""

    def holds(self, labels: Mapping[str, str]) -> bool:
        return (labels.get(self.label) in self.values) is self.wanted


@dataclass(frozen=True, slots=True)
class Selector:
    """A selector that was read. Without names and conditions it is `all`."""

    text: str
    names: tuple[str, ...] = ()
    """Names and patterns; none: any name."""
    conditions: tuple[Condition, ...] = ()

    @property
    def plain(self) -> bool:
        """Nothing but names: no pattern, no label."""
        return bool(self.names) and not self.conditions and not any(_WILD & set(name) for name in self.names)

    def may_match(self, name: str) -> bool:
        """Whether a guest of that name is meant as far as names go."""
        return not self.names or any(fnmatchcase(name, pattern) for pattern in self.names)

    def matches(self, name: str, labels: Mapping[str, str]) -> bool:
        """Whether a guest is meant."""
        return self.may_match(name) and all(condition.holds(labels) for condition in self.conditions)

    def select(self, guests: "Iterable[GuestInfo]") -> "list[GuestInfo]":
        """Those meant, up or down, by name."""
        return sorted((info for info in guests if self.matches(info.guest, info.labels)), key=lambda info: info.guest)

    def unknown(self, guests: "Iterable[GuestInfo]") -> dict[str, list[str]]:
        """Names without wildcards that no guest has → the nearest names there are."""
        known = [info.guest for info in guests]
        plain = [name for name in self.names if not _WILD & set(name) and name not in known]
        return {name: get_close_matches(name, known, 3) for name in plain}


def parse_selector(text: str) -> Selector:
    """Raises bad_request, with details.position (characters from the beginning) where the text goes wrong."""
    return _Parser(text).selector()


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens: list[tuple[str, int]] = []
        self._next = 0
        if len(text) > SELECTOR_CHARS_MAX:
            raise self._wrong(0, f"longer than {SELECTOR_CHARS_MAX} characters")
        position = 0
        while text[position:].strip():
            match = _TOKEN.match(text, position)
            if match is None:
                raise self._wrong(position, f"unexpected {text[position:].strip()[0]!r}")
            self._tokens.append((match["mark"] or match["word"], match.end() - len(match["mark"] or match["word"])))
            position = match.end()

    def selector(self) -> Selector:
        names: list[str] = []
        conditions: list[Condition] = []
        everything = False
        while True:
            word, position = self._word("a guest name, a pattern or a label")
            following = self._peek()
            if following in ("=", "==", "!=", "in", "notin"):
                conditions.append(self._condition(word))
            elif word == _ALL:
                everything = True
            elif not _NAME.fullmatch(word):
                raise self._wrong(position, f"{word!r} is neither a guest name nor a pattern")
            else:
                names.append(word)
            if self._peek() == "":
                break
            self._expect(",")
        return Selector(self._text.strip(), () if everything else tuple(names), tuple(conditions))

    def _condition(self, label: str) -> Condition:
        operator = self._take()
        if operator in ("in", "notin"):
            return Condition(label, frozenset(self._values()), operator == "in")
        value, _ = self._word(f"a value for {label}")
        return Condition(label, frozenset([value]), operator != "!=")

    def _values(self) -> list[str]:
        self._expect("(")
        values = [self._word("a value")[0]]
        while self._peek() == ",":
            self._take()
            values.append(self._word("a value")[0])
        self._expect(")")
        return values

    def _peek(self) -> str:
        return self._tokens[self._next][0] if self._next < len(self._tokens) else ""

    def _take(self) -> str:
        self._next += 1
        return self._tokens[self._next - 1][0]

    def _position(self) -> int:
        return self._tokens[self._next][1] if self._next < len(self._tokens) else len(self._text)

    def _word(self, what: str) -> tuple[str, int]:
        position, token = self._position(), self._peek()
        if not token or token in ("=", "==", "!=", ",", "(", ")"):
            raise self._wrong(position, f"{what} is expected {f'instead of {token!r}' if token else 'at the end'}")
        return self._take(), position

    def _expect(self, mark: str) -> None:
        if self._peek() != mark:
            found = self._peek()
            raise self._wrong(self._position(), f"{mark!r} is expected {f'instead of {found!r}' if found else 'at the end'}")
        self._take()

    def _wrong(self, position: int, why: str) -> "CorralError":
        shown = self._text if len(self._text) <= 80 else self._text[:77] + "..."
        return error("bad_request", f"selector {shown!r}, character {position + 1}: {why}", position=position, selector=shown)
