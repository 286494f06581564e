"""One command over a fleet: its targets, so many at a time, each outcome said as it comes, and a closing line."""

import asyncio
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import click

from corral.cli.fleet.away import Away
from corral.cli.fleet.selecting import WINDOW_DEFAULT, Choice
from corral.cli.fleet.tagged import TaggedOutput
from corral.cli.text.failures import FAILED, Failed, hint_of
from corral.cli.text.progress import waiting
from corral.cli.text.targets import Target
from corral.plain_text import count_text

if TYPE_CHECKING:
    from corral import AsyncClient, CorralError

ALWAYS_TOLD = ("ok", "failed", "timeout", "unreachable")
NAMED_MAX = 8
"""Targets named in a question or while waiting."""
LOOK_FOR_CTRL_C_S = 0.1
_WILD = frozenset("*?[")


class NotOkError(Exception):
    """It was done, but did not end well; the text says how. `outcome` is what it counts as."""

    def __init__(self, text: str, outcome: str = "failed") -> None:
        super().__init__(text)
        self.outcome = outcome


Act = Callable[[Target, TaggedOutput], Awaitable[str | None]]
"""Does it to one target; gives the line to print on stdout, None for none. Raises CorralError, NotOkError."""


@dataclass(frozen=True)
class SweepOptions:
    """What is swept with."""

    verb: str
    names: Sequence[str]
    """NAME or NAME/EXEC; in NAME * ? [abc] stand for containers of that pattern, unless `literal`."""
    destroys: bool = False
    """On a terminal a person is asked before more than one target is hit."""
    at_once: bool = False
    """No window unless one was asked for."""
    literal: bool = False
    reads: bool = False
    """It only looks: guests that are down are left out and told, unless they were asked for by name."""


async def sweep(client: "AsyncClient", choice: Choice, manner: SweepOptions, act: Act) -> int:
    """The status: 0 if every target ended ok, 1 otherwise. Raises Failed where the person says no, CorralError where no guest is meant."""
    async with waiting("asking which guests there are"):
        away = Away(select=choice.selector)
        targets, silent = await _targets(client, choice, manner, away)
    away.say()
    if not targets and not silent and not away.any:
        raise Failed(f"no container there is named {' or '.join(manner.names)}", hint="corral ps -a")
    if manner.destroys and not choice.yes and len(targets) > 1:
        _ask(manner.verb, targets)
    return await _Sweep(choice, manner, targets, silent, act).run()


async def _targets(
    client: "AsyncClient", choice: Choice, manner: SweepOptions, away: Away
) -> "tuple[list[Target], dict[str, CorralError]]":
    """What is to be done, by guest; and guests that cannot tell which of their containers match, with the reason."""
    from corral.fleet_map import meant

    known = meant(choice.selector, await client.guests())
    left_out = away.left_out([info.guest for info in known if not info.up]) if manner.reads else set()
    guests = [info.guest for info in known if info.guest not in left_out]
    patterns = [name for name in manner.names if not manner.literal and _WILD & set(name)]
    fleet = await client.list(guests) if patterns else None
    found: list[Target] = []
    for guest in guests:
        ids = [state.id for state in fleet.containers if state.guest == guest] if fleet else []
        for name in manner.names:
            container, _, process = name.partition("/")
            names = [one for one in ids if fnmatchcase(one, container)] if name in patterns else [container]
            found += [Target("/".join(filter(None, (guest, one, process))), guest, one, process) for one in names]
    return list(dict.fromkeys(found)), dict(fleet.silent) if fleet else {}


def check_names(names: Sequence[str], *, processes: bool = True) -> None:
    """With --select a container is NAME (or, where processes are meant, NAME/EXEC): the guests are chosen elsewhere.

    Raises click.BadParameter.
    """
    for name in names:
        if not all(name.split("/")) or name.count("/") > int(processes):
            raise click.BadParameter(f"{name!r} is not {'NAME or NAME/EXEC' if processes else 'NAME'}: with --select the guests are its")


def _ask(verb: str, targets: Sequence[Target]) -> None:
    """Raises Failed unless a person says yes. Without a terminal nobody is asked: whoever writes a script has decided."""
    import select
    import signal

    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return
    guests = len({target.guest for target in targets})
    shown = ", ".join(target.text for target in targets[:NAMED_MAX]) + (", …" if len(targets) > NAMED_MAX else "")
    former = signal.signal(signal.SIGINT, signal.default_int_handler)  # asyncio's own would let the question stand
    try:
        question = f"{verb} {count_text(len(targets), 'container')} in {count_text(guests, 'guest')} ({shown})? [y/N]: "
        click.echo(question, nl=False, err=True)
        while not select.select([sys.stdin], [], [], LOOK_FOR_CTRL_C_S)[0]:  # a read would not end by a Ctrl-C from just before it
            continue
        answer = sys.stdin.readline()
    except KeyboardInterrupt:
        click.echo(err=True)
        raise
    finally:
        signal.signal(signal.SIGINT, former)
    if answer.strip().lower() not in ("y", "yes"):
        raise Failed("nothing was done")


@dataclass
class _Sweep:
    choice: Choice
    manner: SweepOptions
    targets: list[Target]
    silent: "dict[str, CorralError]"
    act: Act
    outcomes: Counter[str] = field(default_factory=Counter)
    under_way: dict[str, None] = field(default_factory=dict)
    """Targets begun and not ended, oldest first."""
    hinted: set[str] = field(default_factory=set)
    """Hints given: each once, however many targets it is for."""

    async def run(self) -> int:
        async with waiting(self._standing) as patience:
            output = TaggedOutput([tag_of(target, self.manner) for target in self.targets], patience)
            try:
                for guest, why in self.silent.items():
                    await self._failed(f"guest {guest}", why, output)
                await self._all(output)
                await output.say(f"{self.manner.verb}: {self._tally()}")
            finally:
                output.close()
        return 0 if set(self.outcomes) <= {"ok"} else FAILED

    async def _all(self, output: TaggedOutput) -> None:
        gate = asyncio.Semaphore(self._window())

        async def gated(target: Target) -> None:
            async with gate:
                await self._one(target, output)

        tasks = [asyncio.create_task(gated(target)) for target in self.targets]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _one(self, target: Target, output: TaggedOutput) -> None:
        from corral import CorralError

        self.under_way[target.text] = None
        try:
            line = await self.act(target, output)
        except CorralError as why:
            await self._failed(target.text, why, output)
        except NotOkError as why:
            self.outcomes[why.outcome] += 1
            if str(why):
                await output.say(f"{target.text}: {why}")
        else:
            self.outcomes["ok"] += 1
            if line is not None:
                await output.plain(line)
        finally:
            del self.under_way[target.text]

    async def _failed(self, what: str, why: "CorralError", output: TaggedOutput) -> None:
        from corral.fleet_map import outcome_of

        self.outcomes[outcome_of(why)] += 1
        hint = hint_of(why)
        await output.say(f"{what}: {why}", "" if hint in self.hinted else hint)
        self.hinted.add(hint)

    def _window(self) -> int:
        from corral.batch.plan import parse_window

        if self.choice.window is None and self.manner.at_once:
            return max(1, len(self.targets))
        return (self.choice.window or parse_window(WINDOW_DEFAULT)).of(len(self.targets))

    def _tally(self) -> str:
        more = sorted(set(self.outcomes) - set(ALWAYS_TOLD))
        return ", ".join(f"{self.outcomes[outcome]} {outcome}" for outcome in (*ALWAYS_TOLD, *more))

    def _standing(self) -> str:
        waited_for = list(self.under_way)
        shown = ", ".join(waited_for[:NAMED_MAX]) + (", …" if len(waited_for) > NAMED_MAX else "")
        return f"{self.manner.verb}: {sum(self.outcomes.values())} of {len(self.targets)}, waiting for {shown}"


def tag_of(target: Target, manner: SweepOptions) -> str:
    """The guest; the whole path where a guest may have several."""
    one = len(manner.names) == 1 and (manner.literal or not _WILD & set(manner.names[0]))
    return target.guest if one else target.text
