"""--format TEMPLATE: text with {field}, {outer.inner} and {list[0].inner} filled in from a record."""

import re
from typing import Any

import click

from corral.cli.text.output import Record, json_line

NOTHING = "-"
"""Printed for what a record may have and this one has not: a label, an item of a list."""
_PART = r"[\w\-/]+(?:\[\d+\])*"
_FIELD = re.compile(rf"\{{([A-Za-z_]\w*(?:\[\d+\])*(?:\.{_PART})*)\}}")
_MISTAKEN = re.compile(r"\{[A-Za-z_.][^{}]*\}?|\{\{|\{$")
_STEP = re.compile(r"\[(\d+)\]|([^.\[\]]+)")


def check_template(context: click.Context, parameter: click.Parameter, text: str | None) -> str | None:
    """Return the text of --format as it is. Raises click.BadParameter for braces that look like a field and are none."""
    if text is not None and (mistaken := _MISTAKEN.search(_FIELD.sub("", text))):
        hint = "; docker's {{.ID}} is {id} here" if "{{" in text else ""
        raise click.BadParameter(f"{mistaken[0]!r} is no field: write {{field}}, {{outer.inner}} or {{list[0].inner}}{hint}")
    return text


def fill(template: str, record: Record) -> str:
    """Replace each field by the record's value; `\\t` and `\\n` are a tab and a line break. Raises ValueError for a field no record has."""
    return _FIELD.sub(lambda match: _value(match[1], record), template.replace("\\t", "\t").replace("\\n", "\n"))


def _value(path: str, record: Record) -> str:
    found: Any = record
    for depth, (index, name) in enumerate(_STEP.findall(path)):
        if name and isinstance(found, dict) and name in found:
            found = found[name]
        elif index and isinstance(found, list) and int(index) < len(found):
            found = found[int(index)]
        elif depth == 0:
            raise ValueError(f"no field {path!r} here; there are: {', '.join(sorted(record))}")
        else:
            return NOTHING
    return found if isinstance(found, str) else json_line(found)
