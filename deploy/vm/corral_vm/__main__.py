"""`python -m corral_vm`: guests in QEMU to try Corral with; `make vm-up` and the like call it."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from pathlib import Path

import click

from corral_vm.bundle import make_bundle
from corral_vm.channels import VmError
from corral_vm.fleet import Fleet
from corral_vm.image import Kind, ready_image
from corral_vm.shell import REPOSITORY, BuildError
from corral_vm.suites import chosen_suites
from corral_vm.template import ready_template
from corral_vm.wheels import OWN_PYTHON


def say(what: str) -> None:
    click.echo(f"vm: {what}", err=True)


@click.group()
def main() -> None:
    """Guests in QEMU, with a broker on this host."""


@main.command()
@click.option("--guests", default=3, show_default=True, type=click.IntRange(1, 8), help="How many.")
@click.option("--port", default=7700, show_default=True, help="The broker takes this port of 127.0.0.1 and the five behind it.")
def up(guests: int, port: int) -> None:
    """Start a broker with keys and guests vm1, vm2, …, enrolled by tokens. What runs already is left alone."""
    fleet = Fleet(say)
    started = fleet.up(guests, port)
    say(f"up: {', '.join(started)}" if started else "all of them were up already")
    say(f"now: . {_shown(fleet.environment_file)}    (which broker, and with which key)")


@main.command()
def down() -> None:
    """End them all; disks and keys are removed. Image and template stay cached."""
    ended = Fleet(say).down()
    say(f"ended: {', '.join(ended)}" if ended else "nothing was up")


def _on_guest(name: str, what: str, act: Callable[[Fleet, str], None], done: str) -> None:
    @main.command(name, help=what)
    @click.argument("guest")
    def command(guest: str) -> None:
        act(Fleet(say), guest)
        say(f"{guest}: {done}")


_on_guest("unplug", "Pull a guest's network cable.", lambda fleet, guest: fleet.plug(guest, plugged=False), "its cable is out")
_on_guest("plug", "Put a guest's network cable back in.", lambda fleet, guest: fleet.plug(guest, plugged=True), "its cable is in")
_on_guest("kill", "Cut a guest's power.", lambda fleet, guest: fleet.signal(guest, signal.SIGKILL), "its power is cut")
_on_guest("freeze", "Stop the whole machine.", lambda fleet, guest: fleet.signal(guest, signal.SIGSTOP), "frozen")
_on_guest("thaw", "Let a frozen machine go on.", lambda fleet, guest: fleet.signal(guest, signal.SIGCONT), "goes on")


@main.command()
@click.option("--kind", type=click.Choice(["test", "systemd"]), default="systemd", show_default=True)
def image(kind: Kind) -> None:
    """Build a guest image of the Debian that SUITE names, where it is not cached, and say where it is."""
    made = ready_image(kind)
    for name in ("kernel", "initrd", "root", "manifest"):
        click.echo(f"{name:<9}{_shown(getattr(made, name))}")


@main.command()
def prepare() -> None:
    """Make all that the tests on real guests need: of each Debian that SUITE names both images and the template."""
    for suite in chosen_suites():
        ready_template(ready_image("test", suite))
        ready_image("systemd", suite)


@main.command()
@click.option("--to", type=click.Path(file_okay=False, path_type=Path), default=REPOSITORY / "dist", show_default="dist", metavar="DIR")
@click.option("--python", default=OWN_PYTHON, show_default=True, metavar="X.Y", help="The Python of those VMs.")
def bundle(to: Path, python: str) -> None:
    """Make one tar of Corral and all it needs, for VMs without a network."""
    click.echo(_shown(make_bundle(to, python)))


def _shown(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


if __name__ == "__main__":
    try:
        main()
    except (VmError, BuildError) as why:
        say(str(why))
        sys.exit(1)
