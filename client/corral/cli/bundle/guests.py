"""Which guests a command on bundles is for, and the same asked of each, each outcome as it comes."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

import click

from corral.cli.fleet.selecting import WINDOW, WINDOW_DEFAULT, select
from corral.cli.shell import options
from corral.cli.text.failures import FAILED, hint_of, say

if TYPE_CHECKING:
    from corral import AsyncClient
    from corral.batch.plan import Window
    from corral.fleet_map import Mapped
    from corral.guest import Guest
    from corral.selectors import Selector

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., object])


def where(*, everywhere: bool = False) -> Callable[[F], F]:
    """--select, --guest and --window. Without the first two: all guests that are up (everywhere), or the only one."""
    guests = options.several_guests("all" if everywhere else "the only one that is up; where several are, say which")
    window = click.option(
        "--window", type=WINDOW, default=None, metavar="N|N%", help=f"So many guests at a time. Default: {WINDOW_DEFAULT}."
    )
    return lambda function: select(guests(window(function)))


async def selection(client: "AsyncClient", names: Sequence[str], select: "Selector | None", *, everywhere: bool = False) -> "Selector":
    """The guests meant. Without either: all that are up (everywhere), or the only one. Raises click.UsageError, guest_unreachable."""
    from corral.cli.fleet.container_options import chosen_guest
    from corral.selectors import Selector

    if select is not None:
        if names:
            raise click.UsageError("--select and --guest are two ways to say where: give one")
        return select
    if names:
        return Selector(",".join(names), tuple(names))
    if everywhere:
        up = [info.guest for info in await client.guests() if info.up]
        return Selector("all", tuple(up))
    name = await chosen_guest(client, "", ways="--guest or --select")
    return Selector(name, (name,))


async def ask_each(
    client: "AsyncClient", where: "Selector", act: "Callable[[Guest], Awaitable[T]]", window: "Window | None" = None
) -> "AsyncIterator[Mapped[T]]":
    """Each outcome as it comes."""
    async for one in client.map(where, act, window=window_text(window)):
        yield one


def window_text(window: "Window | None") -> str:
    """As the library takes it."""
    return WINDOW_DEFAULT if window is None else f"{window.percent:g}%" if window.percent else str(window.count)


def say_failure(one: "Mapped[T]") -> None:
    """A guest's failure, on stderr."""
    assert one.error is not None
    say(f"{one.guest}: {one.error}", hint=hint_of(one.error))


def status_of(failed: int) -> int:
    return FAILED if failed else 0
