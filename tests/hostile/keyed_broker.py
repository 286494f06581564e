"""A broker on TCP with keys, as a process; keys are made and accepted by the command line's own functions."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import zmq

from corral.cli.keys import key_directory
from corral_schemas.errors import CorralError
from corral_schemas.keyfiles import Policy, text_of
from corral_schemas.queries import InfoReply, Nothing
from corral_testkit.wire_peers import FakeWorker, Keys, Peer, RawClient, Subscriber, joined, repeat_until

READY = "corral broker ready at "


class KeyedBroker:
    """Use as a context manager; a broker that did not serve to the end, or left a traceback, fails the test."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        self.directory = directory / "keys"
        self.audit_path = directory / "audit.log"
        self.log_path = directory / "broker.log"
        self._arguments = arguments
        self.server = key_directory.make_broker_key(self.directory).public
        self._opened = contextlib.ExitStack()

    def __enter__(self) -> "KeyedBroker":
        command = [sys.executable, "-m", "corral_broker", "--bind", "tcp://127.0.0.1:0", "--keys", str(self.directory), *self._arguments]
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith(READY), line
        self.address = line.removeprefix(READY).strip()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._opened.close()
        self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=20)
        log = self.log()
        if kind is None:
            assert self.process.returncode == 0, log
            assert "Traceback" not in log, log

    def new_keys(self) -> Keys:
        """Keys that the broker does not know."""
        public, secret = zmq.curve_keypair()
        return Keys(public.decode(), secret.decode(), self.server)

    def keys(self, name: str, role: str, guest: str = "", **more: Any) -> Keys:
        """Accepted keys; the broker knows them when this returns."""
        made = self.new_keys()
        key_directory.accept(self.directory, made.public, name=name, role=role, guest=guest, **more)
        self.until_known(made)
        return made

    def until_known(self, keys: Keys) -> None:
        """Until the broker has read the file that accepts them."""
        with RawClient(self.address, keys=keys) as asker:
            repeat_until(lambda: None, lambda: not _is_unknown(asker))

    def several_keys(self, *wanted: tuple[str, ...]) -> list[Keys]:
        """Accepted keys for each (name, role[, guest]), at once."""
        made = [self.new_keys() for _ in wanted]
        for keys, (name, role, *guest) in zip(made, wanted, strict=True):
            key_directory.accept(self.directory, keys.public, name=name, role=role, guest="".join(guest))
        for keys in made:
            self.until_known(keys)
        return made

    def policy(self, name: str, policy: Policy) -> None:
        (self.directory / "policies" / f"{name}.toml").write_text(text_of(policy) if not policy.allow else _policy_text(policy))

    def client(self, keys: Keys | None) -> RawClient:
        return self._opened.enter_context(RawClient(self.address, keys=keys))

    def worker(self, keys: Keys, guest: str, **more: Any) -> FakeWorker:
        return self._opened.enter_context(FakeWorker(self.address, guest, keys=keys, **more))

    def subscriber(self, keys: Keys, *prefixes: bytes, timeout_s: float = 10.0) -> Subscriber:
        hello = self.client(keys).hello()
        return self._opened.enter_context(Subscriber(joined(self.address, hello.events_out), *prefixes, timeout_s=timeout_s, keys=keys))

    def peer(self, keys: Keys) -> Peer:
        return self._opened.enter_context(Peer(keys=keys))

    def endpoint(self, name: str) -> str:
        """Where one of the six sockets is: `clients`, or a field of hello."""
        if name == "clients":
            return self.address
        return joined(self.address, str(getattr(self.client(self.new_keys()).hello(), name)))

    def info(self, operator: Keys) -> InfoReply:
        reply = self.client(operator).call("info", Nothing())
        assert isinstance(reply, InfoReply)
        return reply

    def count(self, operator: Keys, counter: str) -> int:
        return self.info(operator).counters.get(counter, 0)

    def log(self) -> str:
        """What the broker has logged so far."""
        return self.log_path.read_text()

    def audit(self, last: Callable[[dict[str, str]], bool] = lambda line: True) -> list[dict[str, str]]:
        """Its lines, once there is one that is the last; a broker writes those of a turn at its end, when the answers are out already."""
        lines: list[dict[str, str]] = []

        def read() -> None:
            lines[:] = [json.loads(line) for line in self.audit_path.read_text().splitlines()]

        repeat_until(read, lambda: any(last(line) for line in lines))
        return lines

    def rss_bytes(self) -> int:
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")


def refused(act: Callable[[], object]) -> str:
    """The code of the CorralError that the act raises; empty when it raises none."""
    try:
        act()
    except CorralError as why:
        return why.code
    return ""


def _is_unknown(client: RawClient) -> bool:
    try:
        client.call("guests", Nothing())
    except CorralError as why:
        return "pending" in why.message
    return False


def _policy_text(policy: Policy) -> str:
    rules = "".join(
        f"[[allow]]\nops = {json.dumps(rule.ops)}\nguests = {json.dumps(rule.guests)}\nexec_members = {json.dumps(rule.exec_members)}\n"
        for rule in policy.allow
    )
    return f"events = {json.dumps(policy.events)}\n{rules}"
