"""`corral broker`: starts a broker in the foreground."""

import json
import logging
import os
import resource
import signal
import sys
from pathlib import Path
from types import FrameType

import click

from corral_broker.addresses import BindError, parse_bind
from corral_broker.service import Service


def default_bind() -> str:
    """A private Unix socket: under /run/corral for root, else under $XDG_RUNTIME_DIR/corral."""
    runtime = "/run" if os.geteuid() == 0 else os.environ.get("XDG_RUNTIME_DIR", f"/run/user/{os.geteuid()}")
    return f"ipc://{runtime}/corral/broker"


@click.command()
@click.option(
    "--bind",
    default=default_bind,
    show_default="ipc://…/corral/broker",
    metavar="ADDRESS",
    help="tcp://HOST:PORT (takes PORT to PORT+5; 0 lets the system choose) or ipc://PATH.",
)
@click.option("--advertise", default="", metavar="HOST", help="Host that clients and workers are told to dial, in place of the bound one.")
@click.option("--insecure", is_flag=True, help="Serve TCP to anyone who can reach it, without keys.")
@click.option(
    "--state-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Directory for the last-seen file, by which a restarted broker knows its guests.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the ready line as JSON.")
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info", show_default=True, help="Least level to log."
)
def broker(bind: str, advertise: str, insecure: bool, state_dir: Path | None, as_json: bool, log_level: str) -> None:
    """Forward commands to guests, answers to clients, and events to whoever subscribes.

    Prints its address when it serves, and ends at SIGTERM or SIGINT.
    """
    logging.basicConfig(level=log_level.upper(), stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    allow_descriptors()
    try:
        service = open_service(bind, advertise, insecure, state_dir)
    except (BindError, OSError) as why:
        print_failure(str(why), as_json)
        sys.exit(1)
    if service.is_open_to_anyone:
        logging.getLogger(__name__).warning("insecure: %s is served without keys to anyone who can reach it", service.address)
    serve(service, as_json)


def open_service(bind: str, advertise: str, insecure: bool, state_dir: Path | None) -> Service:
    """Raises BindError (also for TCP without keys or --insecure) and OSError."""
    address = parse_bind(bind)
    if address.transport == "tcp" and not insecure:
        raise BindError(f"{bind} would be served without keys to anyone who can reach it: use ipc://PATH, or type --insecure")
    return Service(address, advertise=advertise, state_dir=state_dir)


def serve(service: Service, as_json: bool) -> None:
    """Serves until SIGTERM or SIGINT; the handlers found before are put back."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        service.stop()

    # Python runs a handler between two of its own instructions; the descriptor ends a wait that began just after the signal came.
    wakeup_before = signal.set_wakeup_fd(service.wake_descriptor, warn_on_full_buffer=False)
    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    ready = json.dumps({"ready": service.address, "pid": os.getpid()}) if as_json else f"corral broker ready at {service.address}"
    try:
        click.echo(ready)
        service.run()
    finally:
        signal.set_wakeup_fd(wakeup_before)
        for number, handler in before.items():
            signal.signal(number, handler)


def print_failure(why: str, as_json: bool) -> None:
    """One line on stderr."""
    click.echo(json.dumps({"error": {"message": why}}) if as_json else f"corral broker: {why}", err=True)


def allow_descriptors() -> None:
    """Raises the soft limit of open files to the hard one: each guest and each client is a few connections."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
