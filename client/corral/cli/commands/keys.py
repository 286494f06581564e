"""corral keys: the key directory of a broker, on the broker's host; and key files for whoever dials one."""

from pathlib import Path
from typing import Any

import click

from corral.cli.shell.command import CommandGroup, command
from corral.cli.shell.options import DURATION, formats
from corral.cli.text.failures import Failed


def _default_directory() -> Path:
    from corral.cli.up.run_dir import default_state_dir

    return default_state_dir() / "broker" / "keys"


def _directory(function: Any) -> Any:
    return click.option(
        "--keys",
        "directory",
        type=click.Path(file_okay=False, path_type=Path),
        default=_default_directory,
        show_default="broker/keys in the state directory",
        metavar="DIR",
        envvar="CORRAL_KEYS",
        show_envvar=True,
        help="Key directory of the broker.",
    )(function)


def _audit(function: Any) -> Any:
    return click.option(
        "--audit-log",
        default="",
        metavar="FILE|none",
        envvar="CORRAL_AUDIT_LOG",
        show_envvar=True,
        help="Log of changes, with the user who made each. Default: audit.log beside the key directory, which is the broker's.",
    )(function)


ROLE_HELP = "operator (everything), observer (reading), guest (a worker; with --guest), or policy:NAME (DIR/policies/NAME.toml)."


@click.command(
    "keys",
    cls=CommandGroup,
    statuses=(("0", "done"), ("1", "failed"), ("2", "wrong usage")),
    examples=[
        ("The broker's own key, once", "corral keys new --broker"),
        ("A key for an operator on this host, accepted at once", "corral keys new alice --role operator"),
        ("Accept a waiting guest", "corral keys list && corral keys accept 5f1d8a90c3b27e64 --guest vm-7"),
        ("Revoke a key now", "corral keys revoke vm-7"),
    ],
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
def keys() -> None:
    """Make, list, accept and revoke the keys of a broker that is served over TCP.

    Commands that change the key directory run on the broker's host; a running broker follows within a second. Every file there is
    small, plain TOML, and may be edited or removed by hand.
    """


@command(
    "keys new",
    statuses=(("0", "made"), ("1", "failed; nothing is overwritten"), ("2", "wrong usage")),
    examples=[
        ("The broker's own key, once", "corral keys new --broker"),
        ("A key file for the present user; its public key is printed, to be accepted on the broker's host", "corral keys new alice"),
        ("On the broker's host, accepted at once", "corral keys new alice --role operator"),
    ],
)
@click.argument("name", default="")
@click.option("--broker", "for_broker", is_flag=True, help="Make the broker's own key in the key directory.")
@click.option("--file", "path", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Key file. Default: NAME.key here.")
@click.option("--role", default="", metavar="ROLE", help=f"Accept the new key in the key directory: {ROLE_HELP}")
@click.option("--guest", default="", metavar="GUEST", help="Guest that a key with the role guest speaks for.")
@_directory
@_audit
def new(name: str, for_broker: bool, path: Path | None, role: str, guest: str, directory: Path, audit_log: str) -> int:
    """Make a key: a file that only its owner can read."""
    from corral.cli.keys import key_directory as store
    from corral.cli.keys.key_audit import Act, audited
    from corral_schemas.keyfiles import BROKER_SECRET, fingerprint

    with store.failures_told():
        if for_broker:
            if name or path or role or guest:
                raise click.UsageError("--broker goes with --keys alone")
            pair = store.make_broker_key(directory)
            click.echo(f"made {directory / BROKER_SECRET}; clients and workers need broker.public beside it (or its content):")
            click.echo(pair.public)
            return 0
        if not name:
            raise click.UsageError("give the key a name, or --broker")
        if role or guest:
            store.check_broker_key(directory)
        made_at = path or Path(f"{name}.key")
        pair = store.make_key_file(made_at, name)
        click.echo(f"made {made_at}, fingerprint {fingerprint(pair.public)}, public key:")
        click.echo(pair.public)
        if role or guest:
            told = fingerprint(pair.public)
            with audited(directory, audit_log, Act("keys new", f"{name} {told}", guest, {"role": role or "guest"})):
                accepted = store.accept(directory, pair.public, name=name, role=role or "guest", guest=guest)
            click.echo(f"accepted: {accepted}")
    return 0


@command(
    "keys list",
    statuses=(("0", "listed"), ("1", "the directory cannot be read"), ("2", "wrong usage")),
    examples=[("All keys, the waiting ones first", "corral keys list"), ("Those that wait", "corral keys list --json | grep pending")],
)
@formats
@_directory
def list_(form: str | None, directory: Path) -> int:
    """List keys: pending, accepted and revoked. Names of pending keys are unverified."""
    from corral.cli.keys import key_directory as store
    from corral.cli.text.output import Column, print_records

    with store.failures_told():
        records = store.records(directory)
    styles = {"pending": "yellow", "accepted": "green", "revoked": "red"}
    print_records(
        records,
        [
            Column("STATE", lambda r: r["state"], lambda r: styles[r["state"]]),
            Column("NAME", lambda r: r["name"] or "-", "bold"),
            Column("ROLE", lambda r: r["role"]),
            Column("GUEST", lambda r: r["guest"] or "-"),
            Column("FINGERPRINT", lambda r: r["fingerprint"]),
            Column("ADDRESS", lambda r: r["address"] or "-"),
            Column("SINCE", lambda r: r["since"] or "-"),
            Column("EXPIRES", lambda r: r["expires"] or "never"),
        ],
        form,
    )
    return 0


@command(
    "keys show",
    statuses=(("0", "shown"), ("1", "no such key"), ("2", "wrong usage")),
    examples=[("All about one key", "corral keys show vm-7"), ("The broker's public key", "corral keys show --broker")],
)
@click.argument("which", metavar="[NAME|FINGERPRINT]", default="")
@click.option("--broker", "for_broker", is_flag=True, help="The broker's own public key.")
@_directory
def show(which: str, for_broker: bool, directory: Path) -> int:
    """Show a key as JSON, its public key included; or the broker's public key."""
    from corral.cli.keys import key_directory as store
    from corral.cli.text.output import json_line

    with store.failures_told():
        if for_broker:
            click.echo(store.check_broker_key(directory).public)
            return 0
        if not which:
            raise click.UsageError("give a name, a fingerprint, or --broker")
        for record in store.find(directory, which):
            click.echo(json_line(record))
    return 0


@command(
    "keys accept",
    statuses=(("0", "accepted"), ("1", "no such key"), ("2", "wrong usage")),
    examples=[
        ("A guest that waits", "corral keys accept 5f1d8a90c3b27e64 --guest vm-7"),
        ("A public key that somebody sent", "corral keys accept --name alice --role operator 'PUBLIC KEY'"),
    ],
)
@click.argument("which", metavar="FINGERPRINT|PUBLIC")
@click.option("--name", default="", metavar="NAME", help="Name of the key. Default: the guest's, or the one it claims.")
@click.option("--role", default="", metavar="ROLE", help=f"What it may do: {ROLE_HELP}")
@click.option("--guest", default="", metavar="GUEST", help="The guest it speaks for (role guest). Default: the one it claims.")
@click.option("--expires-in", "expires_in_s", type=DURATION, metavar="DURATION", help="Until when. Default: for ever.")
@_directory
@_audit
def accept(which: str, name: str, role: str, guest: str, expires_in_s: float | None, directory: Path, audit_log: str) -> int:
    """Accept a key. Its name is unverified: compare the fingerprint with the one that its owner sees."""
    from corral.cli.keys import key_directory as store
    from corral.cli.keys.key_audit import Act, audited
    from corral_schemas.keyfiles import fingerprint

    with store.failures_told():
        pending = store.find_pending(directory, which)
        if pending is not None and pending.kind == "guest" and not role:
            role, guest = "guest", guest or pending.name
        role = role or ("guest" if guest else "")
        if not role:
            raise click.UsageError("give --role, or --guest for the key of a worker")
        public = pending.public if pending is not None else which
        name = name or guest or (pending.name if pending is not None else "")
        if not name:
            raise click.UsageError("give --name")
        with audited(directory, audit_log, Act("keys accept", f"{name} {fingerprint(public)}", guest, {"role": role})):
            path = store.accept(directory, public, name=name, role=role, guest=guest, expires_in_s=expires_in_s)
        click.echo(f"accepted: {path}")
    return 0


@command(
    "keys reject",
    statuses=(("0", "removed"), ("1", "no such key"), ("2", "wrong usage")),
    examples=[("Take a key off the pending list", "corral keys reject 5f1d8a90c3b27e64"), ("For ever", "corral keys reject --bar 5f1d8a")],
)
@click.argument("which", metavar="FINGERPRINT")
@click.option("--bar", is_flag=True, help="Also refuse it from now on.")
@_directory
@_audit
def reject(which: str, bar: bool, directory: Path, audit_log: str) -> int:
    """Take a key off the pending list."""
    from corral.cli.keys import key_directory as store
    from corral.cli.keys.key_audit import Act, audited

    with store.failures_told(), audited(directory, audit_log, Act("keys reject", which)) as act:
        pending = store.reject(directory, which, bar=bar)
        act.target, act.guest = store.told_of(pending), pending.name if pending.kind == "guest" else ""
        act.details["barred"] = "yes" if bar else "no"
    return 0


@command(
    "keys revoke",
    statuses=(("0", "revoked"), ("1", "no such key"), ("2", "wrong usage")),
    examples=[("All keys of that name", "corral keys revoke vm-7"), ("One of two", "corral keys revoke 5f1d8a90c3b27e64")],
)
@click.argument("which", metavar="NAME|FINGERPRINT")
@_directory
@_audit
def revoke(which: str, directory: Path, audit_log: str) -> int:
    """Revoke a key: its connections are cut within two seconds, and later ones are refused."""
    from corral.cli.keys import key_directory as store
    from corral.cli.keys.key_audit import Act, audited

    with store.failures_told(), audited(directory, audit_log, Act("keys revoke", which)) as act:
        revoked = store.revoke(directory, which)
        act.target = ", ".join(store.told_of(key) for _, key in revoked)
        act.guest = revoked[0][1].guest
    for path, _ in revoked:
        click.echo(f"revoked: {path}")
    return 0


@command(
    "keys rotate",
    statuses=(("0", "made and accepted"), ("1", "failed"), ("2", "wrong usage")),
    examples=[("A new key for an operator; the old one works for another day", "corral keys rotate alice --file alice-2.key")],
)
@click.argument("name")
@click.option("--file", "path", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Default: NAME.new.key.")
@click.option(
    "--keep",
    "keep_s",
    type=DURATION,
    default="1d",
    show_default=True,
    metavar="DURATION",
    help="How long keys that the name has now go on working.",
)
@_directory
@_audit
def rotate(name: str, path: Path | None, keep_s: float, directory: Path, audit_log: str) -> int:
    """Make a second key for a name, with the same role, and let the first one expire: nothing is interrupted."""
    from corral.cli.keys import key_directory as store
    from corral.cli.keys.key_audit import Act, audited

    made_at = path or Path(f"{name}.new.key")
    with store.failures_told(), audited(directory, audit_log, Act("keys rotate", name)) as act:
        accepted, key = store.rotate(directory, name, made_at, keep_s)
        act.target, act.guest, act.details["role"] = store.told_of(key), key.guest, key.role
    click.echo(f"made {made_at}; accepted: {accepted}")
    return 0


@command(
    "keys token",
    statuses=(("0", "made"), ("1", "failed"), ("2", "wrong usage")),
    examples=[("For an unattended guest", "corral keys token --guest vm-7 --ttl 10m --file vm-7.token")],
)
@click.option("--guest", required=True, metavar="GUEST", help="The guest whose new key it lets in.")
@click.option("--ttl", "ttl_s", type=DURATION, default="1h", show_default=True, metavar="DURATION", help="How long it can be used.")
@click.option(
    "--file", "path", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="New file for it (0600), instead of stdout."
)
@_directory
@_audit
def token(guest: str, ttl_s: float, path: Path | None, directory: Path, audit_log: str) -> int:
    """Make a one-time token for unattended enrolment: the broker accepts the key of a worker started with `--token-file`.

    A worker refuses a token file that others than its owner may open.
    """
    from corral.cli.keys import key_directory as store
    from corral.cli.keys.key_audit import Act, audited

    with store.failures_told(), audited(directory, audit_log, Act("keys token", "a token", guest, {"ttl_s": f"{ttl_s:g}"})):
        if path is None:
            click.echo(store.make_token(directory, guest, ttl_s))
        else:
            store.make_token_file(directory, guest, ttl_s, path)
            click.echo(f"made {path}")
    return 0


for _made in (new, list_, show, accept, reject, revoke, rotate, token):
    if _made.name is None:
        raise Failed("a command about keys has no name")
    keys.add_command(_made, _made.name.removeprefix("keys "))
