"""`corral worker`: checks what it needs, then runs the worker until SIGTERM or SIGINT."""

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click

from corral_schemas.errors import CorralError
from corral_schemas.frames import pack
from corral_schemas.keyfiles import KeyFileError
from corral_schemas.limits import LABELS_BYTES_MAX, LABELS_MAX
from corral_schemas.memory import keep_large_blocks
from corral_schemas.names import check_guest_name
from corral_worker import __version__
from corral_worker.base.durable import write_durably
from corral_worker.base.inherited import mend_inherited
from corral_worker.base.keys import Keys, load_keys
from corral_worker.base.paths import SOCKET_PATH_BYTES_MAX, GuestPaths, NotPrivateError
from corral_worker.containers.guest import Settings
from corral_worker.journal.store import JournalCorruptError
from corral_worker.runtime.runc import Runtime, is_plain_runc
from corral_worker.service import Worker, real_parts
from corral_worker.service_commands import install, zygote
from corral_worker.service_manager import ServiceManager
from corral_worker.shim.base.linux import is_exhausted
from corral_worker.shim.zygote.launch import ZygoteStartError
from corral_worker.shims.port import ShimVersionError

log = logging.getLogger("corral_worker")

STATE_VERSION = 1
LOCK_WAIT_S = 2.0
PRIVATE_UMASK = 0o077
"""Whatever a worker makes is for its owner alone."""


class StartError(Exception):
    """The worker cannot start; the message says what to do."""


@click.group(
    short_help="Run the worker of one guest, or install it as a service.",
    invoke_without_command=True,
    subcommand_metavar="| install …",
)
@click.option("--guest", metavar="NAME", help="Name of this guest, unique among all guests of a broker.")
@click.option("--broker", "brokers", multiple=True, metavar="ADDRESS", help="Broker address; repeat it for more.")
@click.option("--state-dir", type=click.Path(path_type=Path), metavar="DIR", help="Journal and output. [default: /var/lib/corral/NAME]")
@click.option("--run-dir", type=click.Path(path_type=Path), metavar="DIR", help="Sockets and runtime state. [default: /run/corral/NAME]")
@click.option("--label", "labels", multiple=True, metavar="K=V", help="A label of this guest, for selectors.")
@click.option("--runtime", default="runc", show_default=True, metavar="PATH", help="OCI runtime with runc's command line.")
@click.option("--runtime-arg", "runtime_args", multiple=True, metavar="ARG", help="Further global argument for the runtime.")
@click.option(
    "--durability",
    type=click.Choice(["power", "process"]),
    default="power",
    show_default=True,
    help="What a record must survive before it is reported: a power cut, or only the end of a process.",
)
@click.option(
    "--key",
    "key_file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Key of this guest, made if it is missing. [default: worker.key in the state directory]",
)
@click.option("--server-key", metavar="KEY|FILE", default="", help="Public key of the broker (its file broker.public), needed for TCP.")
@click.option(
    "--token-file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="One-time enrolment token (`corral keys token`), by which the broker accepts this guest's new key. Only its owner may read it.",
)
@click.option(
    "--allow-root",
    "allowed_roots",
    multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="Bundles, root file systems, mounts and cgroups that bundles name must lie below it; repeat it for more. [default: anywhere]",
)
@click.option(
    "--allow-privileged",
    is_flag=True,
    help="Allow --privileged; with --allow-root also added capabilities, devices and other system call filters.",
)
@click.option(
    "--zygote",
    type=click.Choice(["own", "unit"]),
    default="own",
    show_default=True,
    help="Who starts the parent of all shims: the worker, or the service manager (corral-zygote@NAME.service).",
)
@click.option("--insecure", is_flag=True, help="Take commands over TCP, without keys, from any broker at the address.")
@click.option("-v", "--verbose", is_flag=True, help="Log what is done, not only what is wrong.")
@click.pass_context
def worker(
    ctx: click.Context,
    guest: str | None,
    brokers: tuple[str, ...],
    state_dir: Path | None,
    run_dir: Path | None,
    labels: tuple[str, ...],
    runtime: str,
    runtime_args: tuple[str, ...],
    durability: str,
    key_file: Path | None,
    server_key: str,
    token_file: Path | None,
    allowed_roots: tuple[Path, ...],
    allow_privileged: bool,
    zygote: str,
    insecure: bool,
    verbose: bool,
) -> None:
    """Run the worker of one guest: register with brokers, execute their commands on containers, publish events.

    You may kill and restart it at any time: containers keep running, and the next worker takes them over. SIGTERM ends only the
    worker. Exit status: 0 stopped by a signal, 1 cannot start. `corral worker install` makes it a service of systemd.

    \b
    Example:
      corral worker --guest g1 --broker tcp://10.0.0.1:7700 --server-key broker.public
    """
    if ctx.invoked_subcommand is not None:
        return
    if guest is None or not brokers:
        raise click.UsageError(f"Missing option '{'--broker' if guest is not None else '--guest'}'.", ctx)
    os.umask(PRIVATE_UMASK)
    mend_inherited()
    level = logging.INFO if verbose else logging.WARNING
    logging.basicConfig(stream=sys.stderr, level=level, format=f"%(asctime)s %(levelname)s corral-worker[{guest}] %(message)s")
    paths = GuestPaths(state_dir or Path("/var/lib/corral") / guest, run_dir or Path("/run/corral") / guest)
    try:
        check_guest_name(guest)
        keep_large_blocks()
        version = _check_runtime(runtime, runtime_args)
        _prepare(paths, guest)
        settings = Settings(
            guest=guest,
            paths=GuestPaths(paths.state.resolve(), paths.run.resolve()),
            runtime=_runtime(runtime, paths.run.resolve() / "runc", runtime_args, version),
            labels=_parse_labels(labels),
            durability=durability,
            allowed_roots=tuple(root.resolve() for root in allowed_roots),
            allow_privileged=allow_privileged,
            zygote_is_unit=zygote == "unit",
            keys=_keys(brokers, key_file or paths.state / "worker.key", server_key, token_file, insecure),
        )
        with _locked(paths.lock):
            asyncio.run(_serve(settings, list(brokers), version))
    except (StartError, KeyFileError, CorralError, ZygoteStartError, ShimVersionError) as why:
        click.echo(f"corral worker: {why}", err=True)
        sys.exit(1)
    except OSError as why:
        if not is_exhausted(why):
            raise
        text = f"corral worker: {why}; raise the limit (LimitNOFILE= in the unit, or ulimit -Hn), or end what takes them; containers run on"
        click.echo(text, err=True)
        sys.exit(1)


worker.add_command(install)
worker.add_command(zygote)


def _keys(brokers: tuple[str, ...], key_file: Path, server_key: str, token_file: Path | None, insecure: bool) -> Keys | None:
    """The keys for tcp; None where no broker is dialled by tcp, or --insecure was typed. Raises StartError and KeyFileError."""
    by_tcp = [address for address in brokers if address.startswith("tcp://")]
    if not by_tcp:
        return None
    if not server_key:
        if insecure:
            log.warning("insecure: commands are taken without keys from any broker at %s", ", ".join(by_tcp))
            return None
        raise StartError(
            f"{by_tcp[0]}: without keys anyone on the way could give commands here; give --server-key FILE (broker.public from the "
            "broker's key directory), or type --insecure"
        )
    return load_keys(key_file, server_key, token_file)


def _parse_labels(labels: tuple[str, ...]) -> dict[str, str]:
    found = dict(label.partition("=")[::2] for label in labels)
    if bad := [label for label in labels if "=" not in label]:
        raise StartError(f"label {bad[0]!r} is not K=V")
    if len(found) > LABELS_MAX:
        raise StartError(f"{len(found)} labels; a guest has at most {LABELS_MAX}")
    if (size := len(pack(found))) > LABELS_BYTES_MAX:
        longest = max(found, key=lambda name: len(name) + len(found[name]))
        raise StartError(f"labels of {size} bytes together, {LABELS_BYTES_MAX} at most; the longest is {longest[:40]!r}")
    return found


def _check_runtime(runtime: str, arguments: tuple[str, ...]) -> str:
    """The runtime's name and version. Raises StartError where it cannot be run."""
    path = shutil.which(runtime)
    if path is None:
        state = "is not executable" if Path(runtime).exists() else "is not there"
        raise StartError(f"runtime_unavailable: runtime {runtime!r} {state}; install runc (apt-get install runc) or give --runtime PATH")
    try:
        done = subprocess.run([path, *arguments, "--version"], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError) as why:
        raise StartError(f"runtime_unavailable: {path} --version failed: {why}") from why
    return done.stdout.splitlines()[0] if done.stdout else path


def _runtime(name: str, root: Path, arguments: tuple[str, ...], version: str) -> Runtime:
    binary = shutil.which(name) or name
    return Runtime(binary, root, arguments, is_plain_runc(Path(binary), version, arguments))


def _prepare(paths: GuestPaths, guest: str) -> None:
    """Directories and version file. Raises StartError, and touches nothing of a newer version."""
    if paths.longest_socket_path() > SOCKET_PATH_BYTES_MAX:
        raise StartError(
            f"run directory {paths.run} is too long for socket paths (over {SOCKET_PATH_BYTES_MAX} bytes); give a shorter --run-dir"
        )
    try:
        if paths.version.exists() and paths.version.stat().st_size:  # a power cut may leave an empty one
            found = json.loads(paths.version.read_text())
            if found["version"] > STATE_VERSION:
                raise StartError(f"{paths.state} was written by a newer Corral (state version {found['version']}); use that one")
            if found["guest"] != guest:
                raise StartError(f"{paths.state} belongs to guest {found['guest']!r}, not {guest!r}; give another --state-dir")
        paths.make()
        if not paths.version.exists() or not paths.version.stat().st_size:
            content = json.dumps({"version": STATE_VERSION, "guest": guest}) + "\n"
            write_durably(paths.version, content.encode())
    except NotPrivateError as why:
        raise StartError(str(why)) from why
    except OSError as why:
        raise StartError(f"cannot use {why.filename}: {why.strerror}; give a writable --state-dir and --run-dir") from why
    except (ValueError, KeyError, TypeError) as why:
        raise StartError(f"{paths.version} cannot be read ({why}); it should hold the state version and the guest") from why


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Holds the state directory's lock. Raises StartError where another worker has it."""
    with path.open("a+") as file:
        until_s = time.monotonic() + LOCK_WAIT_S
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until_s:  # a worker that was just killed lets go within moments
                    file.seek(0)
                    holder = file.read().strip() or "unknown"
                    raise StartError(f"{path}: another worker (pid {holder}) uses this state directory; stop it first") from None
                time.sleep(0.02)
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


async def _serve(settings: Settings, brokers: list[str], runtime_version: str) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    manager = ServiceManager()
    told = loop.create_task(manager.keep_told(stop))

    def ready() -> None:
        click.echo(f"corral worker ready: guest {settings.guest}, version {__version__}, {runtime_version}")
        manager.ready()

    await _open_worker(settings, brokers, runtime_version).run(stop, ready)
    await told


def _open_worker(settings: Settings, brokers: list[str], runtime_version: str) -> Worker:
    """Opens the journal; one that cannot be read is moved aside, loudly, and a new epoch begins."""
    try:
        return Worker(settings, brokers, runtime_version, real_parts(settings))
    except JournalCorruptError as why:
        journal = Path(os.path.realpath(settings.paths.journal))  # where a link leads: SQLite's other files are there too
        aside = journal.with_name(f"journal.corrupt-{time.time_ns()}")
        log.error("the journal is corrupt (%s); moved to %s; a new epoch begins, requests and events of the old one are gone", why, aside)
        journal.rename(aside)
        for suffix in ("-wal", "-shm"):
            Path(f"{journal}{suffix}").unlink(missing_ok=True)
        return Worker(settings, brokers, runtime_version, real_parts(settings))
    except sqlite3.Error as why:
        raise StartError(f"cannot open {settings.paths.journal}: {why}") from why
