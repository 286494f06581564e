"""What is done to the key directory stands in the audit log: who, what, whose key, and how it went; never a secret."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
from pathlib import Path
from typing import Any

import pytest
import zmq

from corral.cli.keys import key_directory
from corral_schemas.keyfiles import ACCEPTED, PENDING, AcceptedKey, PendingKey, accepted_file_name, fingerprint, parse, text_of
from corral_schemas.queries import ListArgs
from corral_testkit.cli import CORRAL
from hostile.keyed_broker import KeyedBroker, refused


class Directory:
    """A key directory, and `corral keys` on it as a user types it."""

    def __init__(self, directory: Path) -> None:
        self.keys, self.log, self._at = directory / "keys", directory / "audit.log", directory
        key_directory.make_broker_key(self.keys)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [*CORRAL, "keys", arguments[0], "--keys", str(self.keys), *arguments[1:]]
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=self._at, timeout=60)

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def waiting(self, name: str) -> str:
        """A pending guest's key."""
        public = zmq.curve_keypair()[0].decode()
        (self.keys / PENDING / f"{fingerprint(public)}.toml").write_text(text_of(PendingKey(public=public, kind="guest", name=name)))
        return public


@pytest.fixture
def at(tmp_path: Path) -> Directory:
    return Directory(tmp_path)


def test_every_change_of_keys_is_a_line_with_the_local_user_the_op_the_key_and_the_verdict(at: Directory) -> None:
    seven, eight = at.waiting("vm-7"), at.waiting("vm-8")
    said = [
        at.run("accept", fingerprint(seven)),
        at.run("reject", fingerprint(eight), "--bar"),
        at.run("new", "alice", "--role", "operator"),
        at.run("rotate", "alice"),
        at.run("revoke", "vm-7"),
        at.run("token", "--guest", "vm-9", "--ttl", "10m"),
    ]
    assert [one.returncode for one in said] == [0] * 6, [one.stderr for one in said]
    lines = at.lines()
    assert [(line["op"], line["guest"], line["verdict"]) for line in lines] == [
        ("keys accept", "vm-7", "allowed"),
        ("keys reject", "vm-8", "allowed"),
        ("keys new", "", "allowed"),
        ("keys rotate", "", "allowed"),
        ("keys revoke", "vm-7", "allowed"),
        ("keys token", "vm-9", "allowed"),
    ]
    assert [line["target"].split()[0] for line in lines] == ["vm-7", "vm-8", "alice", "alice", "vm-7", "a"]
    assert lines[0]["target"] == lines[4]["target"] == f"vm-7 {fingerprint(seven)}"
    assert {(line["user"], line["uid"], line["address"]) for line in lines} == {(pwd.getpwuid(os.getuid()).pw_name, os.getuid(), "local")}
    assert said[5].stdout.strip() not in at.log.read_text(), "a token is a secret"
    assert at.log.stat().st_mode & 0o777 == 0o600


def test_a_token_in_a_file_is_its_owners_alone_and_no_file_is_overwritten(at: Directory, tmp_path: Path) -> None:
    token = tmp_path / "vm-9.token"
    assert at.run("token", "--guest", "vm-9", "--file", str(token)).stdout == f"made {token}\n"
    assert token.stat().st_mode & 0o777 == 0o600 and len(token.read_text().strip()) > 20
    before = token.read_text()
    again = at.run("token", "--guest", "vm-9", "--file", str(token))
    assert again.returncode == 1 and "is there already" in again.stderr and token.read_text() == before
    assert at.run("token", "--guest", "no name", "--file", str(tmp_path / "other")).returncode == 1
    assert not (tmp_path / "other").exists()


def test_a_change_that_fails_is_a_line_too_and_says_why(at: Directory) -> None:
    assert at.run("revoke", "nobody").returncode == 1
    assert at.run("rotate", "nobody").returncode == 1
    assert [(line["op"], line["target"], line["verdict"], line["why"]) for line in at.lines()] == [
        ("keys revoke", "nobody", "failed", "no accepted key nobody"),
        ("keys rotate", "nobody", "failed", "no accepted key nobody"),
    ]


def test_a_log_that_cannot_be_written_stops_the_change_and_says_what_to_do(at: Directory) -> None:
    at.run("new", "alice", "--role", "operator")
    at.log.unlink()
    at.log.mkdir()
    said = at.run("revoke", "alice")
    assert said.returncode == 1
    assert "--audit-log" in said.stderr
    assert len(list((at.keys / ACCEPTED).iterdir())) == 1, "nothing was changed"
    assert at.run("revoke", "alice", "--audit-log", "none").returncode == 0


def test_a_rotated_key_may_do_as_much_as_the_one_before(at: Directory) -> None:
    public = zmq.curve_keypair()[0].decode()
    key = AcceptedKey(name="ci", public=public, role="operator", rate_per_s=9_000, in_flight_max=7)
    (at.keys / ACCEPTED / accepted_file_name("ci", public)).write_text(text_of(key))
    assert at.run("rotate", "ci").returncode == 0
    keys = [parse(AcceptedKey, path.read_text()) for path in (at.keys / ACCEPTED).iterdir()]
    assert sorted((one.rate_per_s, one.in_flight_max, bool(one.expires)) for one in keys) == [(9_000, 7, False), (9_000, 7, True)]


def test_brokers_and_peoples_lines_stand_in_one_log(keyed: KeyedBroker) -> None:
    operator = keyed.keys("op", "operator")
    watcher = keyed.keys("watch", "observer")
    refused(lambda: keyed.client(watcher).call("kill", ListArgs(), "vm-1"))
    command = [*CORRAL, "keys", "revoke", "watch", "--keys", str(keyed.directory)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    refused(lambda: keyed.client(operator).call("delete", ListArgs(), "vm-1"))
    lines = keyed.audit(last=lambda line: line["op"] == "delete")
    assert [line["op"] for line in lines if line["op"] != "guests"] == ["kill", "keys revoke", "delete"]
