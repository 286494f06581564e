"""The last-seen file."""

from pathlib import Path

import pytest

from corral_broker.state.last_seen import FILE_NAME, WRITE_INTERVAL_S, LastSeenFile
from corral_schemas.cursor import Place

PLACES = {"vm-1": Place(epoch="e1", seq=7), "vm-2": Place(epoch="e2", seq=0)}


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    LastSeenFile(tmp_path / "made").write(PLACES, 0.0)
    assert dict(LastSeenFile(tmp_path / "made").read()) == PLACES
    assert [path.name for path in (tmp_path / "made").iterdir()] == [FILE_NAME]


def test_it_is_not_due_again_before_the_interval(tmp_path: Path) -> None:
    file = LastSeenFile(tmp_path)
    assert file.next_write_s <= 100.0
    file.write(PLACES, 100.0)
    assert file.next_write_s >= 100.0 + WRITE_INTERVAL_S


def test_without_a_file_nothing_is_remembered(tmp_path: Path) -> None:
    assert LastSeenFile(tmp_path).read() == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"format":2,"guests":{}}',
        b'{"format":1,"guests":{"a/b":["e",1]}}',
        b'{"format":1,"guests":{"vm":["e"]}}',
        b'{"format":1,"guests":{"v\xff":["e",1]}}',
        b'{"format":1,"guests":{"vm-1":["\\ud800",1]}}',
    ],
)
def test_a_file_that_cannot_be_read_is_said_and_taken_as_empty(tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    assert LastSeenFile(tmp_path).read() == []
    assert "last_seen_unreadable" in caplog.text


def test_a_failure_to_write_is_said_and_nothing_more(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = LastSeenFile(tmp_path / "state")
    (tmp_path / "state").rmdir()
    file.write(PLACES, 0.0)
    assert "last_seen_unwritable" in caplog.text
