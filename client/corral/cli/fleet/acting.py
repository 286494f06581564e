"""The same act on each container named, or on those of that name in every guest selected."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from corral.cli.text.targets import Target, container_only, parse_target

if TYPE_CHECKING:
    from corral import AsyncClient
    from corral.cli.fleet.selecting import Choice
    from corral.cli.fleet.sweep import SweepOptions

Act = Callable[["AsyncClient", Target], Awaitable[str | None]]
"""Gives the line to print; None or an empty one: none."""


@dataclass(frozen=True)
class Whom:
    """What the command line said."""

    texts: Sequence[str]
    guest: str
    choice: "Choice | None"
    broker: str | None
    timeout_s: float


def act_on(
    whom: Whom,
    verb: str,
    act: Act,
    *,
    processes: bool = False,
    destroys: bool = False,
    tagged: bool = False,
    reads: bool = False,
) -> int:
    """The command's status. processes: GUEST/NAME/EXEC is meant too. destroys: see `sweep`. tagged: with --select each line says where
    it is from, which it does not say itself. reads: see `SweepOptions`. Raises click.BadParameter."""
    from corral.cli.fleet.sweep import SweepOptions
    from corral.cli.shell.session import each, with_client

    if whom.choice is None:
        parsed = [parse_target(text, whom.guest) for text in whom.texts]
        targets = parsed if processes else [container_only(target) for target in parsed]
        return with_client(whom.broker, lambda client: each(targets, lambda one: act(client, one), doing=verb), timeout_s=whom.timeout_s)
    manner = SweepOptions(verb, whom.texts, destroys=destroys, at_once=verb == "wait", reads=reads)
    return with_client(whom.broker, _over_fleet(whom, whom.choice, manner, act, processes, tagged), timeout_s=whom.timeout_s)


def _over_fleet(
    whom: Whom, choice: "Choice", manner: "SweepOptions", act: Act, processes: bool, tagged: bool
) -> "Callable[[AsyncClient], Awaitable[int]]":
    from corral.cli.fleet.sweep import check_names, sweep, tag_of
    from corral.cli.fleet.tagged import TaggedOutput

    check_names(whom.texts, processes=processes)

    async def body(client: "AsyncClient") -> int:
        async def act_and_tag(target: Target, output: TaggedOutput) -> str | None:
            line = await act(client, target)
            if line and tagged:
                await output.lines(tag_of(target, manner), line.encode(errors="surrogateescape"))
                return None
            return line

        return await sweep(client, choice, manner, act_and_tag)

    return body
