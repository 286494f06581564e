"""--select, --window and --yes: the same command for many guests."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from corral.cli.shell.options import Parsed

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from corral import AsyncClient
    from corral.batch.plan import Window
    from corral.selectors import Selector

F = TypeVar("F", bound=Callable[..., Any])
WINDOW_DEFAULT = "16"


@dataclass(frozen=True)
class Choice:
    """Which guests, how many at a time, and whether to ask before something is destroyed."""

    selector: "Selector"
    window: "Window | None"
    """None: not said."""
    yes: bool


def _selector(text: str) -> "Selector":
    from corral.selectors import parse_selector
    from corral_schemas.errors import CorralError

    try:
        return parse_selector(text)
    except CorralError as why:
        raise ValueError(why.message) from why


def _window(text: str) -> "Window":
    from corral.batch.plan import parse_window

    return parse_window(text)


def _complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> "list[CompletionItem]":
    from corral.cli.shell.complete import selectors

    return selectors(ctx, incomplete)


SELECTOR = Parsed("EXPR", _selector)
WINDOW = Parsed("N|N%", _window)


def _select_option(help_start: str) -> Callable[[F], F]:
    return click.option(
        "--select",
        "select",
        type=SELECTOR,
        default=None,
        metavar="EXPR",
        shell_complete=_complete,
        help=f"{help_start}: all; names and patterns (web-*,g7); labels (role=web,zone!=b; role in (web,db)).",
    )


def select(function: F) -> F:
    """--select alone, for lists; the parameter is `select`: a Selector, or None."""
    return _select_option("Only guests selected")(function)


async def guests_asked(client: "AsyncClient", names: Sequence[str], select: "Selector | None") -> list[str] | None:
    """Names of the guests that a list is asked of; None: all there are. Raises click.UsageError, guest_unreachable where none is meant."""
    if select is None:
        return list(names) or None
    if names:
        raise click.UsageError("--select and --guest are two ways to say where: give one")
    from corral.fleet_map import meant

    return [info.guest for info in meant(select, await client.guests())]


def choice(*, destroys: bool = False, at_once: bool = False) -> Callable[[F], F]:
    """--select and --window, with --yes for what destroys; they arrive as `choice`: a Choice, or None without --select.

    at_once: unless --window is given, all targets at the same time (for what goes on until it is interrupted).
    """

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def chosen(*args: Any, select: "Selector | None", window: "Window | None", yes: bool = False, **rest: Any) -> Any:
            if select is None and (window is not None or yes):
                raise click.UsageError(f"{'--window' if window is not None else '--yes'} goes with --select")
            if select is not None and (rest.get("guest") or rest.get("guest_names")):
                raise click.UsageError("--select and --guest are two ways to say where: give one")
            return function(*args, choice=None if select is None else Choice(select, window, yes), **rest)

        options = [
            _select_option("In every guest selected, output tagged by guest"),
            click.option(
                "--window",
                type=WINDOW,
                default=None,
                metavar="N|N%",
                help=f"With --select: so many at a time. Default: {'all' if at_once else WINDOW_DEFAULT}.",
            ),
        ]
        if destroys:
            options.append(click.option("-y", "--yes", is_flag=True, help="With --select: do not ask for confirmation on a terminal."))
        decorated: Any = chosen
        for option in reversed(options):
            decorated = option(decorated)
        return decorated  # type: ignore[no-any-return]

    return decorate
