"""Terminals that cannot move their cursor, such as an editor's shell: what would be drawn over is left out, what was asked for is shown."""

from pathlib import Path

from corral_testkit.cli import Terminal, Up


def test_a_wait_of_seconds_leaves_nothing_but_the_answer(short_directory: Path) -> None:
    nowhere = f"ipc://{short_directory}/nowhere"
    with Terminal("ps", "--broker", nowhere, environment={}, term="dumb") as terminal:
        assert terminal.end() == 255
        assert terminal.shown.decode().splitlines()[0] == f"corral: no broker answered at {nowhere} within 5 s"


def test_stats_shows_one_table_after_the_other(up: Up) -> None:
    name = up.background("sleep", "100")
    with Terminal("stats", "--interval", "0.2", name, environment=up.environment, term="dumb") as terminal:
        shown = [terminal.expect(name.encode()) for _ in range(3)]
        assert b"\x1b" not in b"".join(shown)
    assert up.corral("delete", "--force", name).returncode == 0


def test_top_says_what_shows_figures_there(up: Up) -> None:
    with Terminal("top", environment=up.environment, term="dumb") as terminal:
        assert terminal.end() == 2
        assert b"top needs a terminal" in terminal.shown


def test_a_batch_says_how_each_step_ended(up: Up, tmp_path: Path) -> None:
    asked = ("batch", "run", "--run-dir", tmp_path / "run", "--select", "all", "--rootfs", up.rootfs, "--", "true")
    with Terminal(*asked, environment=up.environment, term="dumb") as terminal:
        assert terminal.end() == 0
        first, second = terminal.shown.decode().splitlines()
        assert first.startswith("run: 2 ok in ") and second.startswith("corral: ") and second.endswith(": 2 ok")
