"""Options of run and create that set one member of a spec each, as tables; each group has a file of its own."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from corral.cli.shell.options import Parsed

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class SpecOption:
    """An option of docker's and the member of a ContainerSpec that it sets."""

    flags: tuple[str, ...]
    member: str
    """Empty: `read` returns (member, value)."""
    help: str
    metavar: str = ""
    """Empty: it is a flag."""
    read: Callable[[str], Any] = str
    """Reads its value. Raises ValueError with a sentence, which becomes wrong usage of this option."""
    multiple: bool = False

    @property
    def parameter(self) -> str:
        """Return the name under which click gives its value."""
        return "spec_" + self.flags[-1].lstrip("-").replace("-", "_")

    def added_to(self, function: F) -> F:
        """Return the function with this option."""
        if not self.metavar:
            return click.option(*self.flags, self.parameter, is_flag=True, help=self.help)(function)
        kind = Parsed(self.metavar, self.read)
        decorate = click.option(
            *self.flags, self.parameter, type=kind, multiple=self.multiple, metavar=self.metavar, default=None, help=self.help
        )
        return decorate(function)

    def is_given(self, value: Any) -> bool:
        """Whether it was on the command line."""
        return bool(value) if self.multiple or not self.metavar else value is not None


def spec_members(options: Sequence[SpecOption], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the members of a spec that the options given set; lists and tables of several options come together."""
    members: dict[str, Any] = {}
    for option in options:
        value: Any = given.get(option.parameter)
        if not option.is_given(value):
            continue
        values = list(value) if option.multiple else [value]
        if not option.member:
            for member, one in values:
                _merge(members, member, one)
        else:
            _merge(members, option.member, values if option.multiple else value)
    return members


def _merge(members: dict[str, Any], member: str, value: Any) -> None:
    before = members.get(member)
    if isinstance(before, list):
        value = [*before, *value]
    elif isinstance(before, dict) and isinstance(value, dict):
        value = {**before, **value}
    members[member] = value
