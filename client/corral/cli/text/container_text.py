"""How a container reads in a table: the colour of its status, and its command line."""

from collections.abc import Sequence

STATUS_STYLES = {"running": "green", "paused": "yellow", "created": "cyan", "creating": "cyan"}


def command_text(args: Sequence[str]) -> str:
    """Return an argument vector as a person would type it, on one line."""
    import shlex

    return shlex.join(args).replace("\n", "\\n")
