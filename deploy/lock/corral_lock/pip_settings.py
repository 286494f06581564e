"""pip's settings for uv, which reads none of them: a machine whose packages come from an index of its own has said so to pip."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping

NAMES = {
    "index-url": ("UV_DEFAULT_INDEX", "UV_INDEX_URL"),
    "cert": ("SSL_CERT_FILE",),
    "trusted-host": ("UV_INSECURE_HOST",),
    "no-index": ("UV_OFFLINE",),
    "find-links": ("UV_FIND_LINKS",),
}
"""A setting of pip → the variable that tells uv the same, and others that say it already."""
SECTIONS = ("global", "install", ":env:")
"""Where pip reads a setting, the strongest last."""


def for_uv(config_list: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Translate what `pip config list` prints into variables for uv; what the environment says to uv already stays as it is."""
    said: dict[str, str] = {}
    found = [match for line in config_list.splitlines() if (match := re.fullmatch(r"(global|install|:env:)\.([a-z-]+)=(.*)", line))]
    for section in SECTIONS:
        said |= {match[2]: _value(match[3]) for match in found if match[1] == section}
    return {
        variables[0]: " ".join(said[name].split())
        for name, variables in NAMES.items()
        if said.get(name) and not any(environment.get(variable) for variable in variables)
    }


def _value(written: str) -> str:
    """`pip config list` writes a value as Python's repr."""
    try:
        return str(ast.literal_eval(written))
    except (SyntaxError, ValueError):
        return written
