"""The live view, on a real terminal."""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator

import pytest

from corral_testkit.cli import CORRAL, Up, processes_naming
from corral_testkit.tmux import Tmux

pytestmark = pytest.mark.runc


@pytest.fixture
def screen(up: Up) -> Iterator[Tmux]:
    if shutil.which("tmux") is None:
        pytest.skip("needs tmux")
    with Tmux(up.environment, 130, 30) as tmux:
        yield tmux


@pytest.mark.timeout(120)
def test_top_shows_guests_containers_rates_and_exits_and_gives_the_terminal_back(up: Up, screen: Tmux) -> None:
    loud = up.background("sh", "-c", "while :; do echo 0123456789; sleep 0.01; done", flags=("--name", "loud"))
    quiet = up.background("sleep", "90", guest="g2", flags=("--name", "quiet"))
    screen.type(
        "cd $(mktemp -d); stty -a > before; echo earlier; corral top --interval 300ms; echo status $?; stty -a | diff before - && echo same"
    )
    screen.wait_for("corral top", "2 of 2 guests up", loud, quiet, "KiB", "none since top was started", " q  quit")
    up.run("--rm", "--name", "short", "--", "sh", "-c", "exit 3", guest="g2")
    screen.wait_for("g2/short", "exited 3", "0 ok, 1 other")
    screen.key("n")
    assert re.search(r"by name", screen.wait_for("by name"))
    screen.key("r")
    shown = screen.wait_for("by name, reversed")
    assert shown.index(quiet) < shown.index(loud)
    screen.resize(90, 20)
    screen.wait_for(" q  quit", "by name")
    screen.key("q")
    screen.wait_for("status 0")
    screen.type("stty -a | diff before - && echo same")
    after = screen.wait_for("earlier", "same")
    assert "corral top " not in after.replace("corral top --interval", "")
    up.corral("rm", "-f", loud, quiet)


@pytest.mark.parametrize(("key", "status"), [("C-c", 130), ("SIGTERM", 0)])
def test_however_it_ends_the_terminal_is_as_before(up: Up, screen: Tmux, key: str, status: int) -> None:
    screen.type("cd $(mktemp -d); stty -a > before; corral top; echo status $?; stty -a | diff before - && echo same")
    screen.wait_for("guests up")
    if key == "SIGTERM":
        (pid,) = [pid for pid, line in processes_naming("/corral top") if "python" in line]
        os.kill(pid, signal.SIGTERM)
    else:
        screen.key(key)
    screen.wait_for(f"status {status}", "same")


def test_without_a_terminal_it_says_what_to_use_instead(up: Up) -> None:
    done = subprocess.run([*CORRAL, "top"], env=up.environment, capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "corral stats --no-stream" in done.stderr
