"""Users as docker's --user takes them, looked up in the container's own files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from corral_schemas.errors import CorralError
from corral_worker.runtime import users

PASSWD = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:44:web:/srv:/bin/sh\nbroken:x:notanumber:1::/:\nshort:x\n"
GROUP = "root:x:0:\nwww:x:44:\nlogs:x:55:web,root\naudio:x:66:web\n"


def resolve_user(text: str, directory: Path) -> dict[str, Any]:
    root = os.open(directory, os.O_PATH | os.O_DIRECTORY)
    try:
        return users.resolve_user(text, root)
    finally:
        os.close(root)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(PASSWD)
    (tmp_path / "etc/group").write_text(GROUP)
    return tmp_path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {"uid": 0, "gid": 0, "additionalGids": [55]}),
        ("0", {"uid": 0, "gid": 0, "additionalGids": [55]}),
        ("root", {"uid": 0, "gid": 0, "additionalGids": [55]}),
        ("33", {"uid": 33, "gid": 44, "additionalGids": [55, 66]}),
        ("0033", {"uid": 33, "gid": 44, "additionalGids": [55, 66]}),
        ("1000", {"uid": 1000, "gid": 0}),
        ("1000:1001", {"uid": 1000, "gid": 1001}),
        ("web", {"uid": 33, "gid": 44, "additionalGids": [55, 66]}),
        ("web:", {"uid": 33, "gid": 44, "additionalGids": [55, 66]}),
        ("web:www", {"uid": 33, "gid": 44}),
        ("web:logs", {"uid": 33, "gid": 55}),
        ("1000:logs", {"uid": 1000, "gid": 55}),
        (":55", {"uid": 0, "gid": 55}),
    ],
)
def test_a_user_is_a_number_or_a_name_with_or_without_a_group(root: Path, text: str, expected: dict[str, Any]) -> None:
    assert resolve_user(text, root) == expected


@pytest.mark.parametrize("text", ["nobody", "web:nogroup", "1000:nogroup", "broken", "short", "-1", "../etc", "²", "1000:²"])
def test_a_name_that_is_not_there_is_a_bad_request_that_names_it(root: Path, text: str) -> None:
    with pytest.raises(CorralError, match="give a number or another name") as refusal:
        resolve_user(text, root)
    assert refusal.value.code == "bad_request"


def test_numbers_need_no_files(tmp_path: Path) -> None:
    assert resolve_user("7:8", tmp_path) == {"uid": 7, "gid": 8}


@pytest.mark.parametrize(("link", "target"), [("etc/passwd", "/etc/passwd"), ("etc", "/etc")])
def test_a_link_out_of_the_root_filesystem_is_not_followed(tmp_path: Path, link: str, target: str) -> None:
    (tmp_path / link).parent.mkdir(exist_ok=True)
    (tmp_path / link).symlink_to(target)
    with pytest.raises(CorralError):
        resolve_user("daemon", tmp_path)


def test_a_link_within_the_root_filesystem_is(tmp_path: Path) -> None:
    (tmp_path / "usr/etc").mkdir(parents=True)
    (tmp_path / "usr/etc/passwd").write_text(PASSWD)
    (tmp_path / "etc").symlink_to("usr/etc")
    assert resolve_user("web", tmp_path) == {"uid": 33, "gid": 44}


@pytest.mark.parametrize("text", ["2147483648", "1000:2147483648", "9999999999"])
def test_a_number_out_of_range_is_a_bad_request(root: Path, text: str) -> None:
    with pytest.raises(CorralError, match="the largest is 2147483647") as refusal:
        resolve_user(text, root)
    assert refusal.value.code == "bad_request"


@pytest.mark.parametrize("kind", ["a pipe", "a directory", "a sparse file"])
def test_files_that_would_be_waited_for_or_fill_the_memory_are_refused_at_once(tmp_path: Path, kind: str) -> None:
    (tmp_path / "etc").mkdir()
    passwd = tmp_path / "etc/passwd"
    if kind == "a pipe":
        os.mkfifo(passwd)
    elif kind == "a directory":
        passwd.mkdir()
    else:
        passwd.touch()
        os.truncate(passwd, 400 << 20)
    with pytest.raises(CorralError, match=r"no regular file|larger than") as refusal:
        resolve_user("web", tmp_path)
    assert refusal.value.code == "bad_request"
