"""Options that several commands share, each spelled and explained once."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    _ParamType = click.ParamType[Any]
else:
    _ParamType = click.ParamType  # not generic before click 8.4

F = TypeVar("F", bound=Callable[..., Any])


class Parsed(_ParamType):
    """A value read by a function that raises ValueError with a sentence."""

    def __init__(self, name: str, parse: Callable[[str], Any]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except ValueError as why:
            self.fail(str(why), param, ctx)


def _size(text: str) -> int:
    from corral.units import parse_size_bytes

    return parse_size_bytes(text)


def _duration(text: str) -> float:
    from corral.units import parse_duration_s

    return parse_duration_s(text)


def _signal(text: str) -> int:
    from corral.units import parse_signal

    return parse_signal(text)


def _signal_or_zero(text: str) -> int:
    return 0 if text.strip() == "0" else _signal(text)


def _time(text: str) -> int:
    import time

    from corral.units import parse_time_ns

    return parse_time_ns(text, time.time_ns())


def _detach_keys(text: str) -> bytes:
    from corral.cli.text.terminal import parse_detach_keys

    return parse_detach_keys(text)


SIZE = Parsed("SIZE", _size)
DURATION = Parsed("DURATION", _duration)
SIGNAL = Parsed("SIGNAL", _signal)
SIGNAL_OR_ZERO = Parsed("SIGNAL", _signal_or_zero)
TIME = Parsed("TIME", _time)
KEYS = Parsed("KEYS", _detach_keys)


def complete_containers(ctx: click.Context, param: click.Parameter, incomplete: str) -> "list[CompletionItem]":
    from corral.cli.shell.complete import containers

    return containers(ctx, incomplete)


def complete_guests(ctx: click.Context, param: click.Parameter, incomplete: str) -> "list[CompletionItem]":
    from corral.cli.shell.complete import guests

    return guests(ctx, incomplete)


def complete_signals(ctx: click.Context, param: click.Parameter, incomplete: str) -> "list[CompletionItem]":
    from corral.cli.shell.complete import signals

    return signals(incomplete)


def _broker_given(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """The command's own --broker, else that given before the command's name."""
    given = value if value is not None else ctx.find_root().obj
    return given if isinstance(given, str) else None


def broker(function: F) -> F:
    return click.option(
        "--broker",
        metavar="ADDRESS",
        callback=_broker_given,
        help="Broker to talk to: tcp://HOST:PORT or ipc://PATH, comma separated for several. Default: CORRAL_BROKER, the current context, "
        "then the address file of `corral up`.",
    )(function)


def timeout(function: F) -> F:
    return click.option(
        "--timeout",
        "timeout_s",
        type=DURATION,
        metavar="DURATION",
        default="30s",
        show_default=True,
        help="Deadline of each command sent.",
    )(function)


def guest(function: F) -> F:
    return click.option(
        "-g",
        "--guest",
        default="",
        metavar="GUEST",
        shell_complete=complete_guests,
        help="Guest that has it. Without, CONTAINER is GUEST/NAME, or a NAME that only one guest has.",
    )(function)


def several_guests(default: str = "all") -> Callable[[F], F]:
    """`default`: which guests are meant where none is named."""
    return click.option(
        "-g",
        "--guest",
        "guest_names",
        multiple=True,
        metavar="GUEST",
        shell_complete=complete_guests,
        help=f"Only this guest; may be given several times. Default: {default}.",
    )


def _check_template(context: click.Context, parameter: click.Parameter, text: str | None) -> str | None:
    if text in (None, "json", "table"):  # most calls: nothing more is to be imported for them
        return text
    from corral.cli.text.template import check_template

    return check_template(context, parameter, text)


def formats(function: F) -> F:
    """--format FORMAT and --json; the parameter is `form` (None: left out)."""
    function = click.option("--json", "form", flag_value="json", help="Short for --format json.")(function)
    return click.option(
        "--format",
        "form",
        metavar="json|table|TEMPLATE",
        callback=_check_template,
        help="json: JSON Lines, one object a line (the default where stdout is not a terminal). table: for people. "
        "TEMPLATE: text with {field}, {outer.inner} and {list[0].inner} filled in; `-` stands for what a record has not.",
    )(function)


def json_only(function: F) -> F:
    """--json of commands that are no lists."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON instead of plain text.")(function)


def limit(function: F) -> F:
    """--for of run and exec; the parameter is `limit_s`."""
    return click.option(
        "--for",
        "limit_s",
        type=DURATION,
        default=None,
        metavar="DURATION",
        help="With --select: kill what has not ended by then; it counts as timeout.",
    )(function)


def container_argument(function: F) -> F:
    return click.argument("container", metavar="CONTAINER", shell_complete=complete_containers)(function)


def containers_argument(function: F) -> F:
    return click.argument("containers", metavar="CONTAINER...", nargs=-1, required=True, shell_complete=complete_containers)(function)


def detach_keys(function: F) -> F:
    return click.option(
        "--detach-keys",
        type=KEYS,
        default="ctrl-p,ctrl-q",
        metavar="KEYS",
        show_default=True,
        help="Keys that detach from a terminal and leave the process running; '' for none.",
    )(function)


def signal_proxy(function: F) -> F:
    return click.option(
        "--sig-proxy",
        "signal_proxy",
        type=bool,
        default=True,
        show_default=True,
        metavar="BOOL",
        help="Pass signals on to the process; a third Ctrl-C within 2 s detaches.",
    )(function)
