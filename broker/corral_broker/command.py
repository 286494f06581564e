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

from corral_broker.net.guard import KeyOptions
from corral_broker.net.peers import CONNECTIONS_PER_ADDRESS_MAX
from corral_broker.service import Service
from corral_broker.service_manager import ServiceManager
from corral_broker.state.addresses import BindError, parse_bind
from corral_schemas.keyfiles import AUDIT_LOG, BROKER_SECRET
from corral_schemas.memory import keep_large_blocks
from corral_schemas.private_directories import why_not_private

PRIVATE_UMASK = 0o077
"""Whatever a broker makes is for its owner alone."""


def default_bind() -> str:
    """A private Unix socket: under /run/corral for root, else under $XDG_RUNTIME_DIR/corral."""
    runtime = "/run" if os.geteuid() == 0 else os.environ.get("XDG_RUNTIME_DIR", f"/run/user/{os.geteuid()}")
    return f"ipc://{runtime}/corral/broker"


def default_state_dir() -> Path:
    """Where `corral keys` looks for a broker's keys unless told otherwise."""
    if os.geteuid() == 0:
        return Path("/var/lib/corral/broker")
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "corral" / "broker"


@click.command()
@click.option(
    "--bind",
    default=default_bind,
    show_default="ipc://…/corral/broker",
    metavar="ADDRESS",
    help="tcp://HOST:PORT (takes PORT to PORT+5; 0 lets the system choose) or ipc://PATH.",
)
@click.option("--advertise", default="", metavar="HOST", help="Host that clients and workers dial instead of the bound one.")
@click.option("--insecure", is_flag=True, help="Serve TCP to anyone who can reach it, without keys.")
@click.option(
    "--state-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Directory for what a restarted broker goes on with: its guests, and the history of which came and went.",
)
@click.option(
    "--keys",
    "key_dir",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Key directory: TCP is served to its keys alone (see `corral keys`). Default: `keys` in the state directory, if it exists.",
)
@click.option(
    "--audit-log",
    metavar="FILE|none",
    default="",
    help="Log of every command and its sender, as JSON Lines. Default with keys: audit.log beside the key directory.",
)
@click.option(
    "--connections-per-address",
    type=click.IntRange(8),
    default=CONNECTIONS_PER_ADDRESS_MAX,
    show_default=True,
    metavar="N",
    help="With keys: further ones are cut.",
)
@click.option(
    "--io-threads", type=click.IntRange(1, 64), default=1, show_default=True, metavar="N", help="Threads that encrypt, send and receive."
)
@click.option("--json", "as_json", is_flag=True, help="Print the ready line as JSON.")
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info", show_default=True, help="Least level to log."
)
def broker(
    bind: str,
    advertise: str,
    insecure: bool,
    state_dir: Path | None,
    key_dir: Path | None,
    audit_log: str,
    connections_per_address: int,
    io_threads: int,
    as_json: bool,
    log_level: str,
) -> None:
    """Forward commands to guests, answers to clients, and events to subscribers.

    Prints its address when it serves, and ends at SIGTERM or SIGINT. A Unix socket is protected by its file's permissions, TCP by keys.
    """
    logging.basicConfig(level=log_level.upper(), stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    allow_descriptors()
    keep_large_blocks()
    os.umask(PRIVATE_UMASK)
    try:
        check_private(state_dir)
        keys = key_options(state_dir, key_dir, audit_log, connections_per_address)
        check_private(keys.directory if keys is not None else None)
        service = open_service(bind, advertise, insecure, state_dir, keys, io_threads)
    except (BindError, OSError) as why:
        print_failure(str(why), as_json)
        sys.exit(1)
    if service.is_open_to_anyone:
        logging.getLogger(__name__).warning("insecure: %s is served without keys to anyone who can reach it", service.address)
    serve(service, as_json)


def check_private(directory: Path | None) -> None:
    """Raises BindError where a directory is one that somebody else could change under the broker; OSError."""
    if directory is None or not directory.exists():
        return
    target = directory.stat()
    if why := why_not_private(str(directory), (directory.lstat().st_uid, target.st_uid), target.st_mode, os.geteuid()):
        raise BindError(why)


def key_options(state_dir: Path | None, key_dir: Path | None, audit_log: str, connections_per_address: int) -> KeyOptions | None:
    """The key directory and what goes with it; None where there is none. Raises BindError for a directory without the broker's own key."""
    directory = key_dir or (state_dir / "keys" if state_dir is not None else None)
    if directory is None or (key_dir is None and not (directory / BROKER_SECRET).exists()):
        return None
    if not (directory / BROKER_SECRET).exists():
        raise BindError(f"{directory} holds no key of a broker; make one: corral keys new --broker --keys {directory}")
    log_path = None if audit_log == "none" else Path(audit_log) if audit_log else directory.parent / AUDIT_LOG
    return KeyOptions(directory, log_path, connections_per_address)


def open_service(
    bind: str, advertise: str, insecure: bool, state_dir: Path | None, keys: KeyOptions | None = None, io_threads: int = 1
) -> Service:
    """Raises BindError (also for TCP without keys or --insecure) and OSError."""
    address = parse_bind(bind)
    if address.transport == "ipc":
        keys = None
    elif insecure:
        if keys is not None:
            raise BindError(f"{keys.directory} holds keys, and --insecure would ignore them: give one or the other")
    elif keys is None:
        directory = (state_dir or default_state_dir()) / "keys"
        state = f" --state-dir {state_dir}" if state_dir is not None else ""
        raise BindError(
            f"{bind} would be served without keys to anyone who can reach it. Two commands put it right:\n"
            f"  corral keys new --broker --keys {directory}\n"
            f"  corral broker --bind {bind} --keys {directory}{state}\n"
            "(or bind to ipc://PATH; or type --insecure, where everybody may do everything)"
        )
    return Service(address, advertise=advertise, state_dir=state_dir, keys=keys, io_threads=io_threads)


def serve(service: Service, as_json: bool) -> None:
    """Serves until SIGTERM or SIGINT; the handlers found before are put back."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        service.stop()

    # Python runs a handler between two of its own instructions; the descriptor ends a wait that began just after the signal came.
    wakeup_before = signal.set_wakeup_fd(service.wake_descriptor, warn_on_full_buffer=False)
    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    manager = ServiceManager()
    ready = json.dumps({"ready": service.address, "pid": os.getpid()}) if as_json else f"corral broker ready at {service.address}"
    try:
        click.echo(ready)
        manager.ready()
        service.run(manager.turned)
    finally:
        manager.stopping()
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
