"""`make screens`: what a person sees, typed on a real terminal and drawn as pictures: client/screens/*.svg.

Commands are typed into tmux with a real `corral up` behind them; the screen is read with its colours. Look at the pictures afterwards.
"""

import argparse
import contextlib
import io
import os
import re
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.text import Text

sys.path.insert(0, str(Path(__file__).parents[1]))

from corral_testkit.bundles import make_rootfs
from corral_testkit.cli import Up, end_up, start_up
from corral_testkit.tmux import Tmux

HERE = Path(__file__).parents[2] / "client" / "screens"
COLUMNS = 110
FONTS = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)
"""rich's pictures name fonts on the network; without these they ask for nothing, and any monospace font will do."""

Scene = Callable[[Up, Tmux], None]


def draw(name: str, title: str, screen: str) -> None:
    """One picture, without the empty lines at its end."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, legacy_windows=False)
    console.print(Text.from_ansi(screen.rstrip()), soft_wrap=False, no_wrap=True, overflow="crop")
    svg = console.export_svg(title=title, unique_id=f"corral-{name}")
    (HERE / f"{name}.svg").write_text(FONTS.sub("", svg).replace("<svg ", '<svg xml:space="preserve" ', 1))


def run_it(up: Up, screen: Tmux) -> None:
    screen.type("corral run -it --rm --guest g1 --rootfs /srv/busybox sh")
    screen.wait_for("/ #")
    screen.type("uname -s; ps; ls -C")
    screen.wait_for("ps", "bin")
    screen.type("exit 3")
    screen.wait_for_prompt()
    screen.type("echo $?")
    screen.wait_for_prompt()


def guests(up: Up, screen: Tmux) -> None:
    os.kill(up.process.pid, signal.SIGSTOP)  # so that it does not start the worker again
    os.kill(up.worker_pid("g4"), signal.SIGKILL)
    try:
        up.until(lambda: up.corral("guests", "--select", "g4", "--format", "{up}").stdout == "false\n")
        screen.type("corral guests")
        screen.wait_for_prompt()
        screen.type("corral exec --select all web -- sh -c 'echo $(hostname) is well'")
        screen.wait_for("3 ok, 0 failed, 0 timeout, 1 unreachable")
    finally:
        os.kill(up.process.pid, signal.SIGCONT)


def top(up: Up, screen: Tmux) -> None:
    for guest, name, program in [
        ("g1", "counter", "i=0; while :; do echo $i; i=$((i+1)); sleep 0.02; done"),
        ("g2", "spinner", "while :; do :; done"),
        ("g3", "chatty", "while :; do head -c 20000 /dev/zero | tr '\\0' x; echo; sleep 0.1; done"),
    ]:
        up.run("-d", "--name", name, "--", "sh", "-c", program, guest=guest)
    screen.type("corral top --interval 500ms")
    screen.wait_for("spinner", "none since")
    for guest, code in (("g1", 0), ("g2", 3), ("g3", 0)):
        up.run("--rm", "--name", f"job-{code}", "--", "sh", "-c", f"exit {code}", guest=guest)
    screen.wait_for("2 ok, 1 other", "KiB/s out")
    while not re.search(r"[1-9][0-9]*\.[0-9] events/s", screen.shown()):
        up.run("--rm", "--", "true", guest="g4")


def batch(up: Up, screen: Tmux) -> None:
    screen.type("seq 60 | corral batch run --on any --window 4 --rootfs /srv/busybox -- sh -c 'sleep 0.2; test {} != 7'")
    screen.wait_for("1 failed", "/60")


def error(up: Up, screen: Tmux) -> None:
    for line in (
        "corral logs g1/wbe",
        "corral runn",
        "corral run --guest g1 --rootfs /srv/busybox -p 80:80 -- httpd",
        "corral run --guest g1 --rootfs /srv/busybox -- no-such-program",
    ):
        screen.type(line)
        screen.wait_for_prompt()
    screen.type("corral stop --select all web")
    screen.wait_for("[y/N]")


SCENES: dict[str, tuple[str, int, Scene]] = {
    "run": ("corral run -it", 24, run_it),
    "top": ("corral top", 26, top),
    "batch": ("corral batch run", 20, batch),
    "error": ("errors and questions", 24, error),
    "guests": ("a fleet, one guest of it down", 24, guests),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenes", nargs="*", default=list(SCENES), metavar="SCENE", help=f"of {', '.join(SCENES)}; default: all")
    chosen = parser.parse_args().scenes
    HERE.mkdir(exist_ok=True)
    directory = Path("/tmp/corral")
    directory.mkdir()
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, directory)
        rootfs = Path("/srv/busybox")
        if not rootfs.exists():
            make_rootfs(rootfs)
            stack.callback(shutil.rmtree, rootfs)
        up = start_up(directory, rootfs, "--label", "role=web", guests=4)
        stack.callback(end_up, up)
        up.corral("run", "-d", "--select", "all", "--name", "web", "--rootfs", rootfs, "--", "sleep", "600")
        for name in chosen:
            title, rows, scene = SCENES[name]
            with Tmux(up.environment, COLUMNS, rows) as screen:
                screen.type("cd $(mktemp -d); clear")
                up.until(lambda screen=screen: screen.shown().strip() == "$")  # type: ignore[misc]
                scene(up, screen)
                draw(name, title, screen.shown(colours=True))
                print(f"client/screens/{name}.svg")


if __name__ == "__main__":
    main()
