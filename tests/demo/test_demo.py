"""The demo, as a person runs it: its table tells how everything ended, and nothing but the table is left."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from corral_testkit.remains import cgroups_of

DEMO = Path(__file__).parents[2] / "client" / "examples" / "demo.py"
WITHIN_S = 60

pytestmark = [pytest.mark.runc, pytest.mark.timeout(WITHIN_S + 30)]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict[str, dict[str, Any]]]]:
    """What the demo printed, and its table by GUEST/CONTAINER/PROCESS."""
    table = tmp_path_factory.mktemp("demo") / "table.jsonl"
    temporary = tmp_path_factory.mktemp("tmp")
    before = set(Path("/tmp").glob("corral-demo-*"))
    done = subprocess.run(
        [sys.executable, DEMO, "--table", table], cwd=temporary, capture_output=True, text=True, timeout=WITHIN_S, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert str(table) in done.stdout
    assert set(Path("/tmp").glob("corral-demo-*")) <= before
    rows = [json.loads(line) for line in table.read_text().splitlines()]
    yield done.stdout, {f"{row['guest']}/{row['container']}/{row['process']}": row for row in rows}


@pytest.mark.parametrize(
    ("process", "type", "status"),
    [
        ("north/streams/init", "exited", 7),
        ("south/killed/init", "signalled", 137),
        ("north/terminal/init", "exited", 3),
        ("south/service/counter", "exited", 5),
        ("south/service/init", "exited", 0),
        ("north/nowhere/init", "start_failed", 127),
        ("south/counting/init", "exited", 11),
    ],
)
def test_every_process_ended_as_the_table_says(played: tuple[str, dict[str, dict[str, Any]]], process: str, type: str, status: int) -> None:
    row = played[1][process]
    assert (row["type"], row["status"], row["as_expected"]) == (type, status, True)


def test_output_is_told_by_stream(played: tuple[str, dict[str, dict[str, Any]]]) -> None:
    _, rows = played
    assert (rows["north/streams/init"]["stdout"], rows["north/streams/init"]["stderr"]) == ("to stdout", "to stderr")
    assert rows["north/terminal/init"]["stdout"] == "24 80 go on 50 132"
    assert rows["south/service/counter"]["stdout"] == "100000"
    assert rows["south/counting/init"]["stdout"] == "1 … 3000 (3000 words)"


def test_events_are_shown_as_they_come(played: tuple[str, dict[str, dict[str, Any]]]) -> None:
    shown, _ = played
    kinds = {line.split()[0] for line in shown.splitlines() if line.startswith("  ") and line.split()}
    assert {"created", "started", "exec_started", "exit", "paused", "resumed", "worker_started", "deleted"} <= kinds


def test_nothing_of_it_runs_on(played: tuple[str, dict[str, dict[str, Any]]]) -> None:
    assert [*cgroups_of("north"), *cgroups_of("south")] == []
    lines = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert [line for line in lines if b"corral-demo-" in line or line.startswith((b"corral-zygote north", b"corral-zygote south"))] == []
