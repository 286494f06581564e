"""Files are put where they were named, and what is there beside plain files stays what it is."""

import contextlib
import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from corral.placing import placed


def put(path: Path, text: str) -> None:
    with placed(path) as file:
        file.write(text.encode())


def test_a_file_is_made_and_replaced_whole_with_nothing_beside_it(tmp_path: Path) -> None:
    place = tmp_path / ("n" * 255)
    put(place, "one\n")
    before = place.stat()
    put(place, "two\n")
    assert place.read_text() == "two\n" and place.stat().st_ino != before.st_ino
    with contextlib.suppress(ZeroDivisionError), placed(place) as file:
        file.write(b"half")
        raise ZeroDivisionError
    assert [path.read_text() for path in tmp_path.iterdir()] == ["two\n"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_program_that_is_killed_while_it_fills_a_file_leaves_nothing_beside_it(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "place").write_text("before\n")
    script = """
import sys
from pathlib import Path
from corral.placing import placed
with placed(Path(sys.argv[1])) as file:
    file.write(b"half")
    file.flush()
    print("filling", flush=True)
    sys.stdin.read()
"""
    argv = [sys.executable, "-c", script, str(tmp_path / "place")]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as filling:
        assert filling.stdout is not None and filling.stdout.readline() == "filling\n"
        filling.send_signal(number)
        assert filling.wait(20) == -number
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"place": "before\n"}


@pytest.mark.parametrize("there", [True, False])
def test_links_are_followed_and_stay_links(tmp_path: Path, there: bool) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    real = tmp_path / "deep" / "real"
    if there:
        real.write_text("old\n")
    (tmp_path / "deep" / "er" / "second").symlink_to("../real")
    (tmp_path / "directory").symlink_to("deep/er")
    (tmp_path / "first").symlink_to("directory/second")
    put(tmp_path / "first", "new\n")
    assert real.read_text() == "new\n"
    assert (tmp_path / "first").readlink() == Path("directory/second") and (tmp_path / "deep" / "er" / "second").is_symlink()
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OSError, match="symbolic links"):
        put(tmp_path / "loop", "x")


def test_a_pipe_is_written_into_and_stays_one(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    (tmp_path / "link").symlink_to("pipe")
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    put(tmp_path / "link", "into\n" * 50_000)
    reader.join(10)
    assert read == [b"into\n" * 50_000] and stat.S_ISFIFO(pipe.stat().st_mode)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make devices")
def test_a_device_is_written_into_and_what_it_refuses_is_told(tmp_path: Path) -> None:
    for name, minor in (("null", 3), ("full", 7)):  # not the ones of this machine, which a fault would cost it
        os.mknod(tmp_path / name, stat.S_IFCHR | 0o666, os.makedev(1, minor))
    (tmp_path / "link").symlink_to("null")
    put(tmp_path / "link", "gone\n")
    with pytest.raises(OSError, match="No space left"):
        put(tmp_path / "full", "x")
    assert stat.S_ISCHR((tmp_path / "link").stat().st_mode) and stat.S_ISCHR((tmp_path / "full").stat().st_mode)
    with pytest.raises(IsADirectoryError):
        put(tmp_path, "x")


def test_a_file_with_two_names_keeps_both(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("a longer text\n")
    os.link(tmp_path / "one", tmp_path / "two")
    put(tmp_path / "one", "short\n")
    assert (tmp_path / "two").read_text() == "short\n" and (tmp_path / "two").stat().st_nlink == 2


@pytest.mark.parametrize("leads_to", ["/proc/self/fd/1", "/proc/thread-self/fd/1", "/dev/fd/1"])
def test_an_open_descriptor_is_written_from_where_it_stands(tmp_path: Path, leads_to: str) -> None:
    name = tmp_path / "stdout"
    name.symlink_to(leads_to)
    program = f"import sys; sys.path.insert(0, {str(Path(__file__).parents[2] / 'client')!r}); from pathlib import Path\n"
    program += f"from corral.placing import placed\nwith placed(Path({str(name)!r})) as file: file.write(b'two ')"
    script = 'printf "one "; "$0" -c "$1"; printf three'
    out = tmp_path / "out"
    out.write_text("zero ")
    with out.open("ab") as file:
        assert subprocess.run(["sh", "-c", script, sys.executable, program], stdout=file, check=False, timeout=30).returncode == 0
    assert out.read_text() == "zero one two three" and sorted(path.name for path in tmp_path.iterdir()) == ["out", "stdout"]
    piped = subprocess.run(["sh", "-c", script, sys.executable, program], capture_output=True, text=True, check=False, timeout=30)
    assert (piped.returncode, piped.stdout) == (0, "one two three"), piped.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can have files of others")
def test_a_file_of_somebody_else_stays_theirs(tmp_path: Path) -> None:
    (tmp_path / "theirs").write_text("x")
    os.chown(tmp_path / "theirs", 1234, 2345)
    put(tmp_path / "theirs", "y")
    assert ((tmp_path / "theirs").stat().st_uid, (tmp_path / "theirs").stat().st_gid) == (1234, 2345)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs mounts")
def test_a_file_that_is_mounted_by_itself_is_written_into(tmp_path: Path) -> None:
    for name in ("source", "place"):
        (tmp_path / name).write_text("a longer text\n")
    program = f"import sys; sys.path.insert(0, {str(Path(__file__).parents[2] / 'client')!r}); from pathlib import Path\n"
    program += "from corral.placing import placed\nwith placed(Path('place')) as file: file.write(b'new')"
    script = 'mount --bind source place && "$0" -c "$1"'
    done = subprocess.run(["unshare", "--mount", "sh", "-c", script, sys.executable, program], cwd=tmp_path, check=False, timeout=30)
    assert done.returncode == 0 and (tmp_path / "source").read_text() == "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["place", "source"]
