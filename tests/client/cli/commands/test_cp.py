"""`corral cp` out of a container: what the path names stays what it is.

Devices and links to stdout are made here like those in /dev: a fault must not cost this machine its own.
"""

import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from corral_testkit.cli import Up

pytestmark = [pytest.mark.runc, pytest.mark.timeout(60)]
TEXT = "seen in the container\n"


@pytest.fixture(scope="module")
def file(up: Up) -> Iterator[str]:
    """CONTAINER:PATH of a file that holds TEXT."""
    path = up.background("sh", "-c", f"echo {TEXT.strip()} > /tmp/f; sleep 300")
    up.until(lambda: up.corral("exec", path, "--", "cat", "/tmp/f").stdout == TEXT)
    yield f"{path}:/tmp/f"
    up.corral("delete", "-f", path)


def listed(*paths: Path | str) -> str:
    shown = subprocess.run(["ls", "-dln", "--time-style=+", *paths], capture_output=True, text=True, check=True).stdout
    return "\n".join(" ".join(line.split()[:4]) + line.partition("/")[2] for line in shown.splitlines())


def device(path: Path, minor: int) -> Path:
    """1:3 is /dev/null, 1:7 /dev/full."""
    os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, minor))
    return path


def in_shell(up: Up, script: str, *args: object) -> "subprocess.CompletedProcess[str]":
    """`$CORRAL` in the script is the command."""
    corral = " ".join(f"'{word}'" for word in up.start_argv())
    return subprocess.run(
        ["sh", "-c", script.replace("$CORRAL", corral), "sh", *map(str, args)],
        env=up.environment, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip


def test_links_pipes_and_devices_are_the_same_before_and_after(up: Up, file: str, tmp_path: Path) -> None:
    link, pipe, hanging, inside = tmp_path / "link", tmp_path / "pipe", tmp_path / "hanging", tmp_path / "directory" / "f"
    null, full = device(tmp_path / "null", 3), device(tmp_path / "full", 7)
    (tmp_path / "real").write_text("old\n")
    link.symlink_to("real")
    hanging.symlink_to("to-come")
    os.mkfifo(pipe)
    inside.parent.mkdir()
    inside.symlink_to("../real-too")
    places = [link, hanging, pipe, inside, null, full]
    before = listed(*places)
    for place in (link, hanging, inside.parent, null):
        done = up.corral("cp", file, place)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    read = in_shell(up, 'cat "$1" & $CORRAL cp "$2" "$1" && wait', pipe, file)
    assert (read.returncode, read.stdout) == (0, TEXT), read.stderr
    refused = up.corral("cp", file, full)
    assert refused.returncode == 1 and f"{full}: No space left on device" in refused.stderr
    assert listed(*places) == before
    assert [(tmp_path / name).read_text() for name in ("real", "to-come", "real-too")] == [TEXT] * 3


def test_stdout_is_written_where_it_stands(up: Up, file: str, tmp_path: Path) -> None:
    (tmp_path / "stdout").symlink_to("/proc/self/fd/1")
    script = 'printf "one\\n"; $CORRAL cp "$1" "$2"; printf "three\\n"'
    assert in_shell(up, f"{{ {script}; }} | cat", file, tmp_path / "stdout").stdout == f"one\n{TEXT}three\n"
    assert in_shell(up, f'{{ {script}; }} > "$3"', file, tmp_path / "stdout", tmp_path / "out").returncode == 0
    assert (tmp_path / "out").read_text() == f"one\n{TEXT}three\n" and (tmp_path / "stdout").is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "stdout"]


def test_a_pipe_that_nobody_reads_is_left_with_one_ctrl_c(up: Up, file: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    done = in_shell(up, 'timeout --preserve-status -s INT 3 $CORRAL cp "$1" "$2"', file, tmp_path / "pipe")
    assert done.returncode == 130, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]
