"""Completion, loaded into the real shells and used in them."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from corral_testkit.cli import Up
from corral_testkit.shells import Shell

pytestmark = pytest.mark.runc


@pytest.fixture(scope="module")
def running(up: Up) -> Iterator[Up]:
    up.run("-d", "--name", "zebra", "--", "sleep", "90")
    yield up
    up.corral("rm", "-f", "g1/zebra")


def needs(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"needs {shell}")


def with_path(up: Up) -> dict[str, str]:
    return {**up.environment, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def in_bash(up: Up, line: str) -> list[str]:
    words = line.split(" ")
    program = f"""
        eval "$(corral completion bash)" || exit 1
        complete -p corral >/dev/null || exit 1
        COMP_WORDS=({" ".join(f"'{word}'" for word in words)}); COMP_CWORD={len(words) - 1}
        COMP_LINE='{line}'; COMP_POINT=${{#COMP_LINE}}
        _corral_completion corral
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    return _words(up, ["bash", "-c", program])


def in_fish(up: Up, line: str) -> list[str]:
    needs("fish")
    return _words(up, ["fish", "--no-config", "-c", f"corral completion fish | source; complete -C '{line}'"])


def _words(up: Up, argv: list[str]) -> list[str]:
    done = subprocess.run(argv, env=with_path(up), capture_output=True, text=True, timeout=40, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return [line.split("\t")[0] for line in done.stdout.splitlines()]


CASES = [
    ("corral pro", "processes"),
    ("corral --cont", "--context"),
    ("corral stop g1/z", "g1/zebra"),
    ("corral logs --guest g1 z", "zebra"),
    ("corral run --guest ", "g2"),
    ("corral exec --select ", "all"),
    ("corral exec --select g1,", "g1,g2"),
    ("corral kill --signal SIGKI", "SIGKILL"),
    ("corral events --kind exit", "exit"),
    ("corral batch res", "resume"),
    ("corral context use loc", "local"),
    ("corral info g", "g1"),
]


@pytest.mark.parametrize("shell", [in_bash, in_fish])
@pytest.mark.timeout(180)
def test_words_are_completed(running: Up, shell: object) -> None:
    assert callable(shell)
    for line, word in CASES:
        found = shell(running, line)
        assert word in found, (line, found)


@pytest.mark.timeout(120)
def test_zsh_completes_commands_guests_and_containers_as_they_are_typed(running: Up, tmp_path: Path) -> None:
    needs("zsh")
    with Shell(["zsh", "-f", "-i"], {**running.environment, "HOME": str(tmp_path)}) as zsh:
        zsh.type(f"autoload -U compinit && compinit -u -d {tmp_path}/dump && eval \"$(corral completion zsh)\" && echo is' 'loaded\r")
        zsh.expect("is loaded")
        for typed, becomes in [
            ("corral proce\t", "corral processes"),
            ("corral stop g1/ze\t", "g1/zebra"),
            ("corral context use lo\t", "local"),
        ]:
            zsh.type(typed)
            zsh.expect(becomes)
            zsh.type("\x15")  # the line is not sent
        zsh.type("corral run --guest \t")
        zsh.expect("--guest g")
        zsh.type("\t")
        listed = zsh.expect("-- up")
        assert "g1" in listed
        assert "g2" in listed


def test_nothing_is_offered_and_nothing_said_where_no_broker_answers(up: Up, tmp_path: Path) -> None:
    environment = {**with_path(up), "CORRAL_BROKER": f"ipc://{tmp_path}/none", "_CORRAL_COMPLETE": "bash_complete"}
    environment |= {"COMP_WORDS": "corral stop g", "COMP_CWORD": "2"}
    done = subprocess.run(["corral"], env=environment, capture_output=True, text=True, timeout=20, check=False)
    assert (done.stdout.strip(), done.stderr) == ("", "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_takes_what_is_printed_for_it(up: Up, shell: str) -> None:
    needs(shell)
    done = subprocess.run(
        [shell, "-n"], input=up.corral("completion", shell).stdout, capture_output=True, text=True, timeout=20, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
