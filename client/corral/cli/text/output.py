"""What commands print: tables for people, JSON Lines for programs, a template for shells. Data on stdout, the rest on stderr."""

import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from corral.plain_text import one_line

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

Record = dict[str, Any]
WIDTH_IN_A_PIPE = 100_000


class Column(NamedTuple):
    """One column of a table."""

    title: str
    text: Callable[[Record], str]
    style: Callable[[Record], str] | str = ""
    wide: bool = False
    """May be cut where the terminal is narrow."""
    wraps: bool = False
    """May go on in the next line where the terminal is narrow."""


def chosen_format(asked: str | None) -> str:
    """`json`, `table` or a template; left out: a table on a terminal, JSON Lines elsewhere."""
    return asked or ("table" if sys.stdout.isatty() else "json")


def json_line(record: object) -> str:
    """One line of JSON; what is not JSON by nature (bytes, Structs) is turned into it by msgspec."""
    return json.dumps(record, ensure_ascii=False, separators=(", ", ": "), default=_plain)


def _plain(value: object) -> object:
    import msgspec

    return msgspec.to_builtins(value)


def as_record(message: object) -> Record:
    """A message of the contract as a plain dict with every field, defaults included, so that programs find each key always."""
    import msgspec

    if isinstance(message, msgspec.Struct):
        return {name: _whole(getattr(message, name)) for name in message.__struct_fields__}
    raise TypeError(f"{type(message).__name__} is not a message")


def _whole(value: object) -> Any:
    import msgspec

    if isinstance(value, msgspec.Struct):
        return as_record(value)
    if isinstance(value, list | tuple):
        return [_whole(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _whole(item) for key, item in value.items()}
    return msgspec.to_builtins(value)


def print_records(records: Iterable[Record], columns: Sequence[Column], asked: str | None) -> None:
    """Prints a list in the format asked for."""
    form = chosen_format(asked)
    if form == "table":
        console().print(table(records, columns), soft_wrap=False)
        return
    for record in records:
        click.echo(line_of(record, form))
    sys.stdout.flush()


def line_of(record: Record, form: str) -> str:
    """One record as JSON or through a template. Raises click.UsageError for a field the record lacks."""
    if form == "json":
        return json_line(record)
    from corral.cli.text.template import fill

    try:
        return fill(form, record)
    except ValueError as why:
        raise click.UsageError(f"--format: {why}") from why


def table(records: Iterable[Record], columns: Sequence[Column]) -> "Table":
    """A rich table without lines: headings, and one row per record. Control characters in a cell are shown, never sent to the terminal."""
    from rich.table import Table

    grid = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    rows = [[_cell(column, record) for column in columns] for record in records]
    for index, column in enumerate(columns):
        narrows = column.wide or column.wraps  # rich takes width only from columns that may wrap; the text itself says that it does not
        least = None if narrows else max([len(column.title), *(len(row[index]) for row in rows)])
        grid.add_column(column.title, no_wrap=not narrows, overflow="fold" if column.wraps else "ellipsis", min_width=least)
    for row in rows:
        grid.add_row(*row)
    return grid


def _cell(column: Column, record: Record) -> "Text":
    from rich.text import Text

    style = column.style(record) if callable(column.style) else column.style
    return Text(one_line(column.text(record)), style=style, no_wrap=not column.wraps, overflow="fold" if column.wraps else "ellipsis")


def console(*, stderr: bool = False) -> "Console":
    """A rich console: colour only on a terminal and without NO_COLOR, nothing in the text taken for markup.

    What is no terminal is as wide as it has to be, unless COLUMNS says otherwise: a program that reads a table reads whole cells.
    """
    from rich.console import Console

    is_terminal = (sys.stderr if stderr else sys.stdout).isatty()
    width = None if is_terminal or os.environ.get("COLUMNS", "").isdigit() else WIDTH_IN_A_PIPE
    return Console(
        stderr=stderr, highlight=False, markup=False, emoji=False, no_color=bool(os.environ.get("NO_COLOR")) or None, width=width
    )
