"""The worker's key: made once, whole on disk before it is used."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from corral_schemas.keyfiles import KeyFileError
from corral_worker.base.keys import load_keys

SERVER = "s" * 40


def written(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def test_a_key_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    first = load_keys(tmp_path / "worker.key", SERVER, None)
    assert load_keys(tmp_path / "worker.key", SERVER, None) == first
    assert stat.S_IMODE((tmp_path / "worker.key").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["worker.key"]


def test_a_key_and_a_token_may_be_kept_as_links(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    for name in ("worker.key", "token"):
        (tmp_path / name).symlink_to(f"kept/{name}")
    written(tmp_path / "kept" / "token", "spend me\n")
    first = load_keys(tmp_path / "worker.key", SERVER, tmp_path / "token")
    assert first.token == "spend me" and load_keys(tmp_path / "worker.key", SERVER, tmp_path / "token") == first
    assert (tmp_path / "worker.key").is_symlink() and (tmp_path / "token").is_symlink()
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["token", "worker.key"]


def test_a_key_is_on_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power cut right after the first start, when the broker knows the key already, must not cost it."""
    done: list[str] = []
    real_fsync, real_link = os.fsync, os.link

    def fsync(descriptor: int) -> None:
        done.append("fsync")
        real_fsync(descriptor)

    def link(source: Path, target: Path) -> None:
        done.append("named")
        real_link(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "link", link)
    load_keys(tmp_path / "worker.key", SERVER, None)
    assert done == ["fsync", "named", "fsync"]


@pytest.mark.parametrize("text", ["", 'public = "short"\n', "nonsense"])
def test_a_damaged_key_says_what_to_do(tmp_path: Path, text: str) -> None:
    written(tmp_path / "worker.key", text)
    with pytest.raises(KeyFileError, match=r"is no key of a worker .*remove it to have another made"):
        load_keys(tmp_path / "worker.key", SERVER, None)
    assert (tmp_path / "worker.key").read_text() == text


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620])
def test_a_key_or_a_token_that_others_may_open_is_refused_with_what_to_run(tmp_path: Path, mode: int) -> None:
    load_keys(tmp_path / "worker.key", SERVER, None)
    (tmp_path / "worker.key").chmod(mode)
    with pytest.raises(KeyFileError, match=rf"its mode {mode:04o} opens it to more than its owner: chmod 600 {tmp_path}/worker.key$"):
        load_keys(tmp_path / "worker.key", SERVER, None)
    (tmp_path / "worker.key").chmod(0o400)
    token = written(tmp_path / "a token", "spend me\n", mode)
    with pytest.raises(KeyFileError, match=rf"chmod 600 '{token}'$"):
        load_keys(tmp_path / "worker.key", SERVER, token)
    token.chmod(0o600)
    assert load_keys(tmp_path / "worker.key", SERVER, token).token == "spend me"


def test_a_token_may_come_by_a_pipe(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    os.write(write_end, b"spend me\n")
    os.close(write_end)
    try:
        assert load_keys(tmp_path / "worker.key", SERVER, Path(f"/proc/self/fd/{read_end}")).token == "spend me"
    finally:
        os.close(read_end)
