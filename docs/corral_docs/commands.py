"""Commands that pages mention in passing: each names a command and options that exist."""

import re
import shlex
from collections.abc import Iterator

import click

from corral.cli.main import corral
from corral.cli.shell.docker_flags import FLAGS
from corral_docs.links import markdown_files
from corral_docs.places import ROOT
from corral_docs.text import escaped

_FENCE = re.compile(r"^```\w*\n.*?^```$", re.DOTALL | re.MULTILINE)
_SPAN = re.compile(r"`(?P<code>[^`\n]*\bcorral [^`\n]+)`")


def problems() -> list[str]:
    """Return a line for each command or option in backticks that `corral` does not have."""
    return [f"{page.relative_to(ROOT)}: {wrong}" for page in markdown_files() for wrong in wrong_in(page.read_text())]


def wrong_in(text: str) -> Iterator[str]:
    """Yield what is wrong with the commands mentioned in a Markdown text."""
    for match in _SPAN.finditer(_FENCE.sub("", text)):
        for part in re.split(r"\\?\||&&|;", match["code"]):
            words = _words(part)
            if words[:1] == ["corral"] and len(words) > 1:
                yield from _wrong(words[1:], part.strip())


def _words(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError:
        return line.split()


def _wrong(words: list[str], shown: str) -> Iterator[str]:
    command: click.Command = corral
    known = _options(command)
    context = click.Context(corral)
    is_value = False
    for word in words:
        if is_value:
            is_value = False
        elif word == "--":
            return
        elif word.startswith("-"):
            name, given, _ = word.partition("=")
            if name not in known and (name.startswith("--") or len(name) == 2):
                yield f"`{shown}`: no option {name}"
            is_value = known.get(name, False) and not given
        elif isinstance(command, click.Group) and word.isalpha() and word.islower():
            below = command.get_command(context, word)
            if below is None:
                yield f"`{shown}`: no command {word}"
                return
            command = below
            known = known | _options(command)
        elif not command.context_settings.get("allow_interspersed_args", True):
            return  # what follows is the program's


def _options(command: click.Command) -> dict[str, bool]:
    """Return each spelling of an option, and whether a value follows it."""
    found = dict.fromkeys(("--help", "-h"), False)
    for option in command.params:
        if isinstance(option, click.Option):
            found |= dict.fromkeys((*option.opts, *option.secondary_opts), not (option.is_flag or option.count))
    return found


def docker_table() -> str:
    """Return the table of docker's flags that Corral lacks, each with what to use."""
    advice: dict[str, dict[str, list[str]]] = {}
    for command, flags in FLAGS.items():
        for flag, text in flags.items():
            advice.setdefault(text, {}).setdefault(flag, []).append(command)
    rows = []
    for text, spelt in advice.items():
        commands = sorted({command for names in spelt.values() for command in names}, key=list(FLAGS).index)
        cell = re.sub(r"(?<!\\)\|", r"\\|", escaped(text))
        rows.append(f"| {', '.join(commands)} | {', '.join(f'`{flag}`' for flag in spelt)} | {cell} |\n")
    return "".join(["| Command | Flags | Instead |\n|---|---|---|\n", *rows])
