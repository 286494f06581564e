"""`python -m corral_vm`: guests in QEMU to try Corral with."""

from __future__ import annotations

import sys

import click

from corral_vm.channels import VmError
from corral_vm.fleet import Fleet
from corral_vm.image import BuildError


@click.group()
def main() -> None:
    """Guests in QEMU, with a broker on this host."""


@main.command()
@click.option("--guests", default=3, show_default=True, type=click.IntRange(1, 8), help="How many.")
@click.option("--port", default=7700, show_default=True, help="The broker takes this port of 127.0.0.1 and the five behind it.")
def up(guests: int, port: int) -> None:
    """Start a broker and guests vm1, vm2, …; an image is built where none is cached."""
    names = Fleet().up(guests, port)
    click.echo(f"{', '.join(names)}: up. A root file system for containers is /srv/busybox in each. Now:", err=True)
    click.echo(f"export CORRAL_BROKER={Fleet().address}")


@main.command()
def down() -> None:
    """End them all; their disks are removed."""
    Fleet().down()


@main.command()
@click.argument("name")
def unplug(name: str) -> None:
    """Pull a guest's network cable."""
    Fleet().plug(name, plugged=False)


@main.command()
@click.argument("name")
def plug(name: str) -> None:
    """Put it back in."""
    Fleet().plug(name, plugged=True)


if __name__ == "__main__":
    try:
        main()
    except (VmError, BuildError) as why:
        click.echo(f"corral_vm: {why}", err=True)
        sys.exit(1)
