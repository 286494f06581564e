"""The `corral` command: which commands there are, each imported only when it is named."""

import io
import sys
from importlib import import_module
from typing import Any

import click

from corral.cli.text.failures import USAGE, Failed, told

ENTRY_POINTS = "corral.commands"
"""Entry-point group in which other packages offer commands: `broker` and `worker` come from there."""

SECTIONS: dict[str, dict[str, tuple[str, str]]] = {
    "Services": {
        "up": ("up", "Start a broker and workers on this machine"),
        "broker": ("", "Forward commands and events between clients and guests"),
        "worker": ("", "Run containers in this guest"),
        "context": ("context", "Name brokers, and choose the one to talk to"),
        "keys": ("keys", "Make, accept and revoke the keys that TCP is served to"),
        "completion": ("completion", "Print a script that completes commands, guests and containers"),
        "doctor": ("doctor", "Check what Corral needs, and say what to do"),
    },
    "Containers and their processes": {
        "run": ("run", "Create and start a container, with its output here"),
        "create": ("run", "Create a container; start it later"),
        "start": ("start", "Start created containers"),
        "exec": ("exec", "Run one more process in a container"),
        "attach": ("attach", "Join a running process's input and output"),
        "logs": ("logs", "Show what a process wrote"),
        "wait": ("wait", "Wait for exits and print their codes"),
        "kill": ("lifecycle", "Send a signal"),
        "stop": ("lifecycle", "Send SIGTERM, then SIGKILL"),
        "pause": ("lifecycle", "Freeze all processes of containers"),
        "resume": ("lifecycle", "Resume paused containers"),
        "update": ("update", "Change the resources of containers"),
        "delete": ("lifecycle", "Delete containers (also: rm)"),
        "cp": ("cp", "Copy a file into a container or out of one"),
    },
    "Root file systems": {
        "bundle": ("bundle", "Push bundles to guests, list and remove them"),
    },
    "Fleets": {
        "batch": ("batch", "Run a plan, or a command for every item, on many guests"),
    },
    "Looking": {
        "ps": ("listing", "List containers over all guests"),
        "processes": ("listing", "List the processes in a container"),
        "inspect": ("listing", "Show the state of containers in full"),
        "stats": ("stats", "Show what containers use"),
        "top": ("top", "Watch guests, containers, exits and rates on the whole screen"),
        "events": ("events", "Follow what happens"),
        "guests": ("guests", "List guests, and forget those that left for good"),
        "info": ("fleet", "Show what a broker or a guest's worker is"),
    },
}
"""section → command → (module under corral.cli.commands; empty: from the entry points, one line of help)."""
ALIASES = {"rm": "delete", "unpause": "resume", "ls": "ps"}
EPILOG = """\b
Start here:
  corral up --guests 2
  corral run --guest g1 --rootfs /srv/busybox -- sh -c 'echo hello; exit 7'
  corral events

CONTAINER is GUEST/NAME[/EXEC], or NAME where it is unique. Each command tells more: corral COMMAND --help.

Completion: eval "$(corral completion bash)", or zsh; in fish: corral completion fish | source."""


class LazyGroup(click.Group):
    """Lists its commands from a table, and imports one when it is named."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for rows in SECTIONS.values() for name in rows]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        name = ALIASES.get(cmd_name, cmd_name)
        modules = {name: module for rows in SECTIONS.values() for name, (module, _) in rows.items()}
        if modules.get(name):
            found: click.Command = getattr(import_module(f"corral.cli.commands.{modules[name]}"), name)
            return found
        return _offered_elsewhere(name)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        word = args[0]
        found = self.get_command(ctx, word)
        if found is None and not ctx.resilient_parsing and not word.startswith("-"):
            raise _no_such_command(word, self.list_commands(ctx))
        if found is None:
            return super().resolve_command(ctx, args)
        return word, found, args[1:]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args and not ctx.resilient_parsing:
            click.echo(ctx.get_help(), err=True)
            ctx.exit(USAGE)
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as why:
            raise Failed(why.format_message().rstrip("."), status=USAGE, hint="corral --help") from why

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, rows in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(f"{name:<9}", line) for name, (_, line) in rows.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[Any]:
        from click.shell_completion import CompletionItem

        if incomplete.startswith("-"):
            return click.Command.shell_complete(self, ctx, incomplete)
        lines = {name: line for rows in SECTIONS.values() for name, (_, line) in rows.items()}
        return [CompletionItem(name, help=line) for name, line in lines.items() if name.startswith(incomplete)]


def _offered_elsewhere(name: str) -> click.Command | None:
    from importlib.metadata import entry_points

    for offer in entry_points(group=ENTRY_POINTS, name=name):
        found: click.Command = offer.load()
        return found
    return None


def _no_such_command(word: str, names: list[str]) -> Failed:
    from difflib import get_close_matches

    nearest = get_close_matches(word, [*names, *ALIASES], n=3)
    hint = f"did you mean {' or '.join(nearest)}?" if nearest else "corral --help lists the commands"
    return Failed(f"there is no command {word!r}", status=USAGE, hint=hint)


def _print_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"corral {version('corral')}")
        ctx.exit()


def _complete_contexts(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
    from corral.cli.shell.complete import contexts

    return contexts(incomplete)


@click.group(
    cls=LazyGroup,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    no_args_is_help=False,
)
@click.option("--broker", metavar="ADDRESS", help="Broker to talk to, for any command: tcp://HOST:PORT or ipc://PATH.")
@click.option(
    "--context",
    "context_name",
    metavar="NAME",
    shell_complete=_complete_contexts,
    help="Context whose broker to talk to (corral context list), for any command.",
)
@click.option("--version", is_flag=True, expose_value=False, is_eager=True, callback=_print_version, help="Print the version and exit.")
@click.pass_context
def corral(ctx: click.Context, broker: str | None, context_name: str | None) -> None:
    """Run OCI containers inside many guest VMs from one place.

    A broker forwards commands to one worker in each guest; the worker executes them with runc, stores all output and every exit on
    the guest's disk, and publishes events.
    """
    ctx.obj = broker
    if context_name and not broker:
        with told(USAGE):
            from corral.cli.shell.contexts import named

            ctx.obj = named(context_name).broker


def main() -> None:
    """Entry point of the console script. Text is UTF-8 whatever the locale says; bytes of names that are not go out as they came in."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="surrogateescape")
    corral(prog_name="corral")
