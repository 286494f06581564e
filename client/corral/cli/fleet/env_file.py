"""--env-file, by docker's rules: a line each, NAME=VALUE or NAME, # for a comment, nothing in a value is interpreted."""

import os
from collections.abc import Iterator
from pathlib import Path

import click


def variables_of(path: Path) -> Iterator[str]:
    """Yield NAME=VALUE for each line; a NAME alone has the value of our environment, and is left out where that has none.

    Raises click.UsageError, with the line, for what is not UTF-8, has no name, or a name with blanks.
    """
    try:
        content = path.read_bytes()
    except OSError as why:
        raise click.UsageError(f"--env-file {path}: {why.strerror or why}") from why
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        where = f"--env-file {path}, line {number}"
        try:
            text = line.removesuffix(b"\r").decode()
        except UnicodeDecodeError as why:
            raise click.UsageError(f"{where}: not UTF-8") from why
        text = text.lstrip()
        if not text or text.startswith("#"):
            continue
        name, separator, _ = text.partition("=")
        if not name:
            raise click.UsageError(f"{where}: no name before the `=`")
        if any(sign.isspace() for sign in name):
            raise click.UsageError(f"{where}: the name {name!r} has a blank in it")
        if separator:
            yield text
        elif name in os.environ:
            yield f"{name}={os.environ[name]}"
