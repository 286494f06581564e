"""corral context: brokers by name."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from corral.cli.shell import options
from corral.cli.shell.command import CommandGroup, command
from corral.cli.text.failures import Failed

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from corral.cli.shell.contexts import Context
    from corral.cli.text.output import Column, Record

STATUSES = (("0", "done"), ("1", "failed"), ("2", "wrong usage"))


def _complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> "list[CompletionItem]":
    from corral.cli.shell.complete import contexts

    return contexts(incomplete)


@click.group(
    "context",
    cls=CommandGroup,
    statuses=STATUSES,
    aliases={"ls": "list", "remove": "rm"},
    examples=[
        (
            "A broker by tcp, with keys, from now on",
            "corral context add prod tcp://hub:7700 --key ~/alice.key --server-key broker.public --use",
        ),
        ("Back to the one on this machine", "corral context use local"),
        ("One command elsewhere", "corral --context prod ps"),
        ("All contexts", "corral context list"),
    ],
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
def context() -> None:
    """Name brokers and the keys they are dialled with, and choose the one that commands talk to.

    Contexts are kept in ~/.config/corral/config.toml ($XDG_CONFIG_HOME), which may be edited by hand. --broker and CORRAL_BROKER go
    before the current context. `corral up` writes the context `local`, and does not change the current one.
    """


@command(
    "context add",
    statuses=STATUSES,
    examples=[
        ("Without keys, for one machine", "corral context add here ipc:///run/corral/broker.sock"),
        ("Two brokers that serve the same guests", "corral context add pair tcp://a:7700,tcp://b:7700 --key k --server-key b.public --use"),
    ],
)
@click.argument("name")
@click.argument("broker", metavar="ADDRESS")
@click.option("--key", default="", metavar="FILE", help="Key file to dial it with: corral keys new.")
@click.option("--server-key", default="", metavar="KEY|FILE", help="The broker's public key, or a file that holds it.")
@click.option("--use", "current", is_flag=True, help="Make it the current one.")
@click.option("--force", is_flag=True, help="Replace one of that name.")
def add(name: str, broker: str, key: str, server_key: str, current: bool, force: bool) -> int:
    """Add a context: a NAME for the broker at ADDRESS (tcp://HOST:PORT or ipc://PATH, comma separated for several)."""
    from corral.cli.shell import contexts

    if not name.replace("-", "").replace("_", "").replace(".", "").isalnum():
        raise click.UsageError(f"{name!r} is not a name of letters, digits, '-', '_' and '.'")
    if bool(key) != bool(server_key):
        raise click.UsageError("--key and --server-key go together: ours, and the broker's")
    if not force and any(one.name == name for one in contexts.known()):
        raise Failed(f"there is a context {name!r} already", hint="--force replaces it")
    contexts.put(contexts.Context(name, broker, _absolute(key), _absolute(server_key), current))
    click.echo(name)
    return 0


def _absolute(file: str) -> str:
    """A file's path from anywhere; a key as it is."""
    whole = Path(file).expanduser().absolute()
    return str(whole) if file and whole.exists() else file


@command("context use", statuses=STATUSES, examples=[("From now on", "corral context use prod"), ("None", "corral context use --none")])
@click.argument("name", default="", shell_complete=_complete)
@click.option("--none", "nothing", is_flag=True, help="Have no current context: commands look for the address file of `corral up`.")
def use(name: str, nothing: bool) -> int:
    """Make a context the current one: all commands talk to its broker, unless --broker or CORRAL_BROKER say otherwise."""
    from corral.cli.shell import contexts

    if bool(name) == nothing:
        raise click.UsageError("say which context, or --none")
    contexts.use(name)
    click.echo(name or "no current context")
    return 0


@command(
    "context list",
    statuses=STATUSES,
    examples=[("All", "corral context list"), ("The current one's name", "corral context list --json | jq -r 'select(.current) | .name'")],
)
@options.formats
def list_contexts(form: str | None) -> int:
    """List contexts; the current one has a star."""
    from corral.cli.shell import contexts
    from corral.cli.text.output import print_records

    print_records([_record(one) for one in contexts.known()], _columns(), form)
    return 0


@command("context show", statuses=STATUSES, examples=[("The current one", "corral context show"), ("One", "corral context show prod")])
@options.formats
@click.argument("name", default="", shell_complete=_complete)
def show(name: str, form: str | None) -> int:
    """Show the context NAME, or the current one."""
    from corral.cli.shell import contexts
    from corral.cli.text.output import chosen_format, line_of

    current = next((one.name for one in contexts.known() if one.current), "")
    if not name and not current:
        raise Failed("there is no current context", hint="corral context use NAME, or corral context list")
    record = _record(contexts.named(name or current))
    if chosen_format(form) != "table":
        click.echo(line_of(record, chosen_format(form)))
        return 0
    for key, value in record.items():
        if value not in ("", False):
            click.echo(f"{click.style(key, bold=True)}: {value if value is not True else 'yes'}")
    return 0


@command("context rm", statuses=STATUSES, examples=[("Forget it", "corral context rm prod")])
@click.argument("names", nargs=-1, required=True, metavar="NAME...", shell_complete=_complete)
def rm(names: tuple[str, ...]) -> int:
    """Remove contexts from the file. Keys and brokers stay as they are."""
    from corral.cli.shell import contexts

    for name in names:
        contexts.remove(name)
        click.echo(name)
    return 0


for _command, _word in ((add, "add"), (use, "use"), (list_contexts, "list"), (show, "show"), (rm, "rm")):
    context.add_command(_command, _word)


def _record(one: "Context") -> "Record":
    return {"name": one.name, "current": one.current, "broker": one.broker, "key": one.key, "server_key": one.server_key}


def _columns() -> "list[Column]":
    from corral.cli.text.output import Column

    return [
        Column("", lambda r: "*" if r["current"] else " ", "green"),
        Column("CONTEXT", lambda r: r["name"], "bold"),
        Column("BROKER", lambda r: r["broker"]),
        Column("KEY", lambda r: r["key"] or "-", wide=True),
    ]
