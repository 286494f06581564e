"""`corral worker install` and `corral worker zygote`: the worker as services of systemd."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import click

from corral_schemas.errors import CorralError
from corral_schemas.keyfiles import KeyFileError
from corral_worker.base.keys import read_secret
from corral_worker.base.paths import GuestPaths, NotPrivateError
from corral_worker.install import Installation, InstallError, install_units, start_units
from corral_worker.shim.zygote.launch import zygote_argv


@click.command()
@click.option("--guest", metavar="NAME", help="Name of this guest, unique among all guests of the broker. [default: the host name]")
@click.option("--broker", "brokers", multiple=True, required=True, metavar="ADDRESS", help="Broker address; repeat it for more.")
@click.option("--server-key", metavar="KEY|FILE", default="", help="Public key of the broker (its file broker.public), needed for TCP.")
@click.option(
    "--token-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="One-time enrolment token (`corral keys token`), for a key not known yet. A file that only its owner can read.",
)
@click.option("--label", "labels", multiple=True, metavar="K=V", help="A label of this guest, for selectors.")
@click.option("--insecure", is_flag=True, help="Take commands over TCP, without keys, from any broker at the address.")
@click.option(
    "--worker-option", "more", multiple=True, metavar="OPTION", help="Any other option of `corral worker`, such as --allow-root=/srv."
)
@click.option(
    "--root",
    type=click.Path(file_okay=False, path_type=Path),
    default="/",
    metavar="DIR",
    help="Install into the root file system of an image; nothing is started. [default: this machine]",
)
@click.option("--no-start", is_flag=True, help="Write and enable the units, but start nothing.")
def install(
    guest: str | None,
    brokers: tuple[str, ...],
    server_key: str,
    token_file: Path | None,
    labels: tuple[str, ...],
    insecure: bool,
    more: tuple[str, ...],
    root: Path,
    no_start: bool,
) -> None:
    """Make the worker of this guest a service of systemd, and start it.

    Writes corral-zygote@NAME.service (parent of the containers) and corral-worker@NAME.service (the worker, hardened) below
    /etc/systemd/system. It replaces units installed under that name; containers keep running.

    \b
    Example:
      corral worker install --broker tcp://10.0.0.1:7700 --server-key broker.public --token-file vm-8.token
    """
    try:
        wanted = Installation(
            guest=guest or socket.gethostname().partition(".")[0],
            brokers=brokers,
            server_key=server_key,
            token=read_secret(token_file).strip() if token_file is not None else "",
            labels=labels,
            insecure=insecure,
            more=more,
            program=str(Path(sys.prefix) / "bin" / "corral"),
        )
        for path in install_units(wanted, root):
            click.echo(f"wrote {path}")
        if root == Path("/") and not no_start:
            start_units(wanted.guest)
            click.echo(f"corral-worker@{wanted.guest}.service runs; its log: journalctl -u corral-worker@{wanted.guest}")
    except (InstallError, KeyFileError, CorralError) as why:
        click.echo(f"corral worker install: {why}", err=True)
        sys.exit(1)


@click.command(hidden=True)
@click.option("--guest", required=True, metavar="NAME", help="Name of the guest.")
@click.option("--state-dir", type=click.Path(path_type=Path), metavar="DIR", help="As of the worker. [default: /var/lib/corral/NAME]")
@click.option("--run-dir", type=click.Path(path_type=Path), metavar="DIR", help="As of the worker. [default: /run/corral/NAME]")
def zygote(guest: str, state_dir: Path | None, run_dir: Path | None) -> None:
    """Be the parent of all shims of a guest; for corral-zygote@NAME.service, whose worker runs with `--zygote unit`."""
    paths = GuestPaths(state_dir or Path("/var/lib/corral") / guest, run_dir or Path("/run/corral") / guest)
    try:
        paths.make()
    except OSError as why:
        click.echo(f"corral worker zygote: cannot use {why.filename}: {why.strerror}", err=True)
        sys.exit(1)
    except NotPrivateError as why:
        click.echo(f"corral worker zygote: {why}", err=True)
        sys.exit(1)
    argv = zygote_argv(paths.run, paths.state, guest)
    os.execv(argv[0], argv)
