"""The shim's record: what was promised fits, a torn line was never written."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from corral_worker.shim.ledger.record import LINES_BYTES_MAX, RESERVE_BYTES, TRUNCATE_ABOVE_BYTES, Record, read_record


@settings(max_examples=60, deadline=None)
@given(steps=st.lists(st.tuples(st.text(min_size=1, max_size=5), st.booleans()), max_size=20), torn=st.integers(0, 60))
def test_what_was_written_is_read_and_a_torn_line_is_not(steps: list[tuple[str, bool]], torn: int) -> None:
    with tempfile.TemporaryDirectory(prefix="corral-record-") as name:
        path = Path(name) / "record"
        record = Record(path)
        expected = {}
        for index, (step, answered) in enumerate(steps):
            key = (f"r{index}", step)
            record.intent(*key, {"at_ns": index})
            if answered:
                record.result(*key, {"ok": {"index": index}})
            expected[key] = {"intent": {"at_ns": index}, "result": {"ok": {"index": index}} if answered else None}
        record.close()
        assert read_record(path) == expected
        content = path.read_bytes()
        written = len(content.rstrip(b"\0"))
        path.write_bytes(content[: max(0, written - torn)])
        fewer = read_record(path)
        assert set(fewer) <= set(expected)
        assert all(entry["result"] in (None, expected[key]["result"]) for key, entry in fewer.items())
        again = Record(path)
        again.intent("after", "start", {})
        again.close()
        assert set(read_record(path)) == {*fewer, ("after", "start")}


def test_space_for_the_result_is_taken_with_the_intent(tmp_path: Path) -> None:
    record = Record(tmp_path / "record")
    for index in range(100):
        record.intent(f"r{index}", "exec", {"at_ns": 1})
        assert (tmp_path / "record").stat().st_size >= (index + 1) * LINES_BYTES_MAX
    record.close()


def test_a_large_record_begins_again_once_all_is_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "record"
    record = Record(path)
    for index in range(TRUNCATE_ABOVE_BYTES // 2000 + 10):
        record.intent(f"r{index}", "exec", {})
        record.result(f"r{index}", "exec", {"ok": {"text": "x" * 2000}})
    record.forget_all()
    assert read_record(path) == {}
    assert path.stat().st_size == RESERVE_BYTES
    record.intent("next", "exec", {})
    assert set(read_record(path)) == {("next", "exec")}
    record.close()


def test_an_absent_record_is_empty(tmp_path: Path) -> None:
    assert read_record(tmp_path / "record") == {}
