"""Words for the shell's completion. It never complains: a broker that does not answer in a moment means no words."""

import click
from click.shell_completion import CompletionItem

PATIENCE_S = 1.5


def containers(ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    """GUEST/NAME of every container, or NAME after --guest."""
    from corral import Client, CorralError

    chosen = ctx.params.get("guest") or None
    try:
        with Client(_broker(ctx), timeout_s=PATIENCE_S, connect_timeout_s=PATIENCE_S) as client:
            states = client.list([chosen] if isinstance(chosen, str) else None).containers
    except (CorralError, OSError):
        return []
    words = [(s.id if chosen else f"{s.guest}/{s.id}", s.status) for s in states]
    return [CompletionItem(word, help=status) for word, status in sorted(words) if word.startswith(incomplete)]


def guests(ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    """Names of all guests the broker knows."""
    from corral import Client, CorralError

    try:
        with Client(_broker(ctx), timeout_s=PATIENCE_S, connect_timeout_s=PATIENCE_S) as client:
            known = client.guests()
    except (CorralError, OSError):
        return []
    return [CompletionItem(g.guest, help="up" if g.up else "down") for g in known if g.guest.startswith(incomplete)]


def selectors(ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    """The last name of a selector: `all`, or a guest."""
    before, comma, last = incomplete.rpartition(",")
    items = [CompletionItem(before + comma + item.value, help=item.help) for item in guests(ctx, last)]
    return [*([CompletionItem("all", help="every guest")] if "all".startswith(incomplete) else []), *items]


def contexts(incomplete: str) -> list[CompletionItem]:
    """Names in config.toml."""
    from corral import CorralError
    from corral.cli.shell.contexts import known

    try:
        return [CompletionItem(one.name, help=one.broker) for one in known() if one.name.startswith(incomplete)]
    except CorralError:
        return []


def signals(incomplete: str) -> list[CompletionItem]:
    from corral.units import signal_names

    prefix = "SIG" if incomplete.upper().startswith("SIG") else ""
    words = [prefix + name for name in signal_names()]
    return [CompletionItem(word) for word in words if word.startswith(incomplete.upper())]


def _broker(ctx: click.Context) -> str | None:
    given = ctx.params.get("broker") or ctx.find_root().obj
    return given if isinstance(given, str) else None
