"""Files of a broker that somebody keeps as links, and an audit log that is no file."""

import os
import threading
from pathlib import Path

import pytest

from corral_broker.access import audit
from corral_broker.state.last_seen import FILE_NAME, LastSeenFile
from corral_broker.state.senders import ANYONE
from corral_schemas.cursor import Place


def test_a_file_that_is_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / FILE_NAME).symlink_to("../kept.json")
    for seq in (1, 2):
        LastSeenFile(tmp_path / "state").write({"vm-1": Place(epoch="e", seq=seq)}, 0.0)
        assert dict(LastSeenFile(tmp_path / "state").read()) == {"vm-1": Place(epoch="e", seq=seq)}
    assert (tmp_path / "state" / FILE_NAME).is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept.json", "state"]


def test_an_audit_log_that_is_a_link_is_turned_over_where_it_leads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "FILE_BYTES_MAX", 100)
    (tmp_path / "logs").mkdir()
    (tmp_path / "audit.log").symlink_to("logs/audit.log")
    log = audit.Audit(tmp_path / "audit.log")
    for name in ("first", "second"):
        log.registration(name, ANYONE, "vm-1", "")
        log.flush()
    log.close()
    assert (tmp_path / "audit.log").is_symlink()
    assert "second" in (tmp_path / "logs" / "audit.log.1").read_text() and (tmp_path / "logs" / "audit.log").read_text() == ""


def test_an_audit_log_may_be_a_pipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(audit, "FILE_BYTES_MAX", 100)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    log = audit.Audit(pipe)
    for _ in range(3):
        log.registration("guest", ANYONE, "vm-1", "")
        log.flush()
    log.close()
    reader.join(10)
    assert read[0].count("\n") == 3 and pipe.is_fifo() and "audit_unwritable" not in caplog.text
