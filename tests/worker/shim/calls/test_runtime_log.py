"""The runtime's log: its last error is found however the runtime lays its JSON out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from corral_worker.shim.calls.runtime_log import TAIL_BYTES, last_error

WARNING = {"level": "warning", "msg": "freezing takes long", "time": "2026-11-30T08:00:00Z"}
ERROR = {"level": "error", "msg": 'executable file `nosuch` not found: "$PATH" {was} empty', "time": "2026-11-30T08:00:01Z"}


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log.json"


@pytest.mark.parametrize("indent", [None, 2], ids=["a line each, as runc", "over several lines, as crun"])
def test_the_last_error_is_found(log: Path, indent: int | None) -> None:
    earlier = {**ERROR, "msg": "an earlier one"}
    log.write_text("".join(json.dumps(entry, indent=indent) + "\n" for entry in (earlier, ERROR, WARNING)))
    assert last_error(log, 0) == ERROR["msg"]
    assert last_error(log, log.stat().st_size) == ""


@pytest.mark.parametrize("indent", [None, 2])
def test_it_is_found_behind_what_is_no_json_and_behind_the_middle_of_an_entry(log: Path, indent: int | None) -> None:
    long = json.dumps({**WARNING, "msg": "x" * TAIL_BYTES}, indent=indent)
    log.write_text(f"{long}\nfatal error: 'newosproc'\n[{{\n12 tail: }}\n{json.dumps(ERROR, indent=indent)}\n")
    assert last_error(log, 0) == ERROR["msg"]


def test_a_log_that_says_nothing_or_is_not_there_gives_nothing(log: Path) -> None:
    assert last_error(log, 0) == ""
    log.write_text('{"level": "error", "ms')
    assert last_error(log, 0) == ""
    log.write_text("[" * 10_000 + "\n")
    assert last_error(log, 0) == ""
