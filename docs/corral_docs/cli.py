"""The page of commands, from the same objects that `corral COMMAND --help` prints."""

import inspect
import re
from collections.abc import Iterator

import click

from corral.cli.main import EPILOG, SECTIONS, corral
from corral.cli.shell.command import ENVIRONMENT, CorralCommand
from corral_docs.text import bullet, fence, paragraphs

HEAD = """# Commands

`corral COMMAND --help` prints the same. CONTAINER is `GUEST/NAME[/EXEC]`, or `NAME` if only one guest has it. DURATION is a number with a
unit, such as `10s` or `2h`; SIZE is a number of bytes, or one with a unit, such as `64M`.
"""


def page() -> str:
    """Return the text of cli.md."""
    group = corral
    lines = [HEAD, "\n", *paragraphs(_help(group)), "## Options of every command\n\n", *map(_option, _options(group)), "\n"]
    lines += [fence(EPILOG.removeprefix("\b\n").partition("\n\n")[0] + "\n")]
    lines += ["## Environment\n\n", *(bullet(name, text) for name, text in ENVIRONMENT), "\n"]
    context = click.Context(group)
    for title, rows in SECTIONS.items():
        lines.append(f"## {title}\n\n")
        for name in rows:
            found = group.get_command(context, name)
            assert found is not None, name
            lines += _command(found, f"corral {name}", 3)
    return "".join(lines).rstrip() + "\n"


def _command(command: click.Command, called: str, level: int) -> Iterator[str]:
    yield f"{'#' * level} {called}\n\n"
    yield f"Usage: `{_usage(command, called)}`\n\n"
    yield from paragraphs(_help(command))
    if options := [_option(option) for option in _options(command)]:
        yield "Options:\n\n"
        yield from options
        yield "\n"
    if isinstance(command, CorralCommand):
        if command.statuses and not isinstance(command, click.Group):
            yield "Exit status:\n\n"
            yield from (bullet(status, text) for status, text in command.statuses)
            yield "\n"
        for text, line in command.examples:
            yield f"{text}:\n\n{fence(line)}" if text else fence(line)
    if isinstance(command, click.Group):
        for name, below in command.commands.items():
            yield from _command(below, f"{called} {name}", level + 1)


def _help(command: click.Command) -> str:
    return inspect.cleandoc(command.help or "").partition("\f")[0]


def _options(command: click.Command) -> list[click.Option]:
    return [option for option in command.params if isinstance(option, click.Option) and not option.hidden and option.name != "help"]


def _usage(command: click.Command, called: str) -> str:
    options = ["[OPTIONS]"] if _options(command) else []
    arguments = [_argument(argument) for argument in command.params if isinstance(argument, click.Argument)]
    return " ".join([called, *options, *(["COMMAND"] if isinstance(command, click.Group) else arguments)])


def _argument(argument: click.Argument) -> str:
    if argument.metavar:
        return argument.metavar
    name = str(argument.name).upper()
    name = name if argument.required else f"[{name}]"
    return f"{name}..." if argument.nargs == -1 else name


def _option(option: click.Option) -> str:
    spelt = ", ".join(option.opts) + "".join(f" / {name}" for name in option.secondary_opts)
    text = re.sub(r"\[default: (.*?)\]", r"Default: \1.", re.sub(r"\s+", " ", option.help or "").strip())
    default = option.show_default if isinstance(option.show_default, str) else option.default if option.show_default is True else None
    if isinstance(default, str | int | float) and not isinstance(default, bool) and "Default:" not in text:
        text += f" Default: {default}."
    return bullet(f"{spelt} {_value(option)}".strip(), text)


def _value(option: click.Option) -> str:
    if option.is_flag or option.count:
        return ""
    if option.metavar:
        return option.metavar
    if isinstance(option.type, click.Choice):
        return "|".join(map(str, option.type.choices))
    return {"integer": "N", "float": "X", "integer range": "N", "float range": "X"}.get(option.type.name, option.type.name.upper())
