"""Children that are kept alive, with small programs in their directory."""

import asyncio
import itertools
import os
import stat
import sys
import time
from pathlib import Path

import pytest

from corral.cli.text.failures import Failed
from corral.cli.up.run_dir import RunDir
from corral.cli.up.supervisor import Child


def child(program: str) -> Child:
    return Child("the child", [sys.executable, "-S", "-c", program])


READY_THEN_WAIT = "import signal; print('ready', flush=True); signal.pause()"


def test_it_is_ready_when_it_says_so_and_ends_when_told() -> None:
    async def scenario() -> None:
        one = child(READY_THEN_WAIT)
        await one.start()
        assert one.pid
        await one.stop()
        assert not one.pid

    asyncio.run(scenario())


def test_one_that_ends_before_it_is_ready_is_a_failure() -> None:
    async def scenario() -> None:
        one = child("raise SystemExit(3)")
        try:
            with pytest.raises(Failed, match="the child ended with status 3 before it was ready"):
                await one.start()
        finally:
            await one.stop()

    asyncio.run(scenario())


def test_one_that_dies_is_started_again_at_once_and_then_with_growing_pauses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "starts"
    program = f"import time; open({str(log)!r}, 'a').write(f'{{time.time()}}\\n'); print('ready', flush=True)"

    async def scenario() -> None:
        one = child(program)
        await one.start()
        until_s = time.monotonic() + 20
        while len(log.read_text().splitlines()) < 5:
            assert time.monotonic() < until_s
            await asyncio.sleep(0.02)  # between two looks
        await one.stop()

    asyncio.run(scenario())
    starts = [float(line) for line in log.read_text().splitlines()]
    pauses = [later - earlier for earlier, later in itertools.pairwise(starts)]
    assert pauses[0] < 0.5
    assert pauses[1] >= 0.2
    assert pauses[2] >= 0.4
    assert pauses[3] >= 0.8
    assert "the child ended with status 0; it is started again" in capsys.readouterr().err


def test_output_after_the_ready_line_does_not_stop_it(tmp_path: Path) -> None:
    done = tmp_path / "done"
    flood = f"sys.stdout.write('x' * 300000); sys.stdout.flush(); open({str(done)!r}, 'w')"
    program = f"import sys; print('ready', flush=True); {flood}; {READY_THEN_WAIT}"

    async def scenario() -> None:
        one = child(program)
        await one.start()
        until_s = time.monotonic() + 20
        while not done.exists():
            assert time.monotonic() < until_s
            await asyncio.sleep(0.02)  # between two looks
        await one.stop()

    asyncio.run(scenario())


def test_a_place_is_held_by_one_and_left_clean(tmp_path: Path) -> None:
    directory, other = RunDir(tmp_path / "run"), RunDir(tmp_path / "run")
    directory.take()
    directory.announce("ipc:///x")
    assert (tmp_path / "run" / "address").read_text() == "ipc:///x\n"
    with pytest.raises(Failed, match=r"at work here already \(pid \d+"):
        other.take()
    other.leave()
    assert (tmp_path / "run" / "address").exists()
    directory.leave()
    assert list((tmp_path / "run").iterdir()) == []
    other.take()
    other.leave()


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a directory away needs root")
def test_root_takes_no_place_of_another_user_nor_by_another_user_s_link(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    os.chown(theirs, 4242, 4242)
    theirs.chmod(0o755)
    with pytest.raises(Failed, match=rf"{theirs} belongs to user 4242, who could change what root keeps there"):
        RunDir(theirs).take()
    assert stat.S_IMODE(theirs.stat().st_mode) == 0o755 and not list(theirs.iterdir())
    (tmp_path / "ours").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to("ours")
    os.chown(tmp_path / "link", 4242, 4242, follow_symlinks=False)
    with pytest.raises(Failed, match="link belongs to user 4242"):
        RunDir(tmp_path / "link").take()


def test_a_place_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(Failed, match=r"mode 0777\); chmod 700 it"):
        RunDir(tmp_path / "open").take()


def test_a_place_that_cannot_be_is_said_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Failed, match="cannot be used"):
        RunDir(tmp_path / "file" / "run").take()
