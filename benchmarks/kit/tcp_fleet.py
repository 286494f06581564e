"""A fleet over tcp on this machine, with keys or without: all else is alike."""

import os
import secrets
import socket
import sys
from pathlib import Path

import zmq

from corral.cli.keys import key_directory
from corral.keys import Keys
from corral_schemas.keyfiles import ACCEPTED, AcceptedKey, accepted_file_name, text_of
from kit.fleet import Daemon, Fleet

PORTS = 6
FIRST_PORTS = range(20_000, 32_000, 10)
RATE_PER_S = 1_000_000
"""Of the key whose commands are timed: what keys cost is measured, not what a key may ask."""


class TcpFleet(Fleet):
    """Use as a context manager; `client_keys` are an operator's, None without keys."""

    def __init__(self, directory: Path, *, keyed: bool, guests: int = 1, io_threads: int = 1, own_sessions: bool = True) -> None:
        super().__init__(directory, guests=guests)
        directory.mkdir(parents=True)
        self._io_threads, self._own_sessions, self._key_directory = io_threads, own_sessions, directory / "keys"
        self.address = f"tcp://127.0.0.1:{_free_port()}"
        self.server_key = key_directory.make_broker_key(self._key_directory).public if keyed else ""
        self.client_keys = self.accepted("op", "operator", rate_per_s=RATE_PER_S) if keyed else None

    def accepted(self, name: str, role: str, guest: str = "", rate_per_s: int = 0) -> Keys:
        """Keys that the broker accepts; to be made before it starts."""
        public, secret = (key.decode() for key in zmq.curve_keypair())
        key = AcceptedKey(name=name, public=public, role=role, guest=guest, rate_per_s=rate_per_s)
        (self._key_directory / ACCEPTED / accepted_file_name(name, public)).write_text(text_of(key))
        return Keys(public, secret, self.server_key)

    def _security(self) -> list[str]:
        return ["--keys", str(self._key_directory)] if self.client_keys is not None else ["--insecure"]

    def _broker(self) -> Daemon:
        argv = [sys.executable, "-m", "corral_broker", "--bind", self.address, "--io-threads", str(self._io_threads), *self._security()]
        return Daemon(argv, self._directory / "broker.log", own_session=self._own_sessions)

    def _worker(self, number: int) -> Daemon:
        guest = f"g{number}"
        argv = [sys.executable, "-m", "corral_worker", "--guest", guest, "--broker", self.address, *self._options]
        argv += ["--state-dir", str(self.state_dir(guest)), "--run-dir", str(self.run_dir(guest))]
        if self.client_keys is None:
            argv += ["--insecure"]
        else:
            token = self._directory / f"{guest}.token"
            token.write_text(key_directory.make_token(self._key_directory, guest, 600))
            argv += ["--server-key", self.server_key, "--token-file", str(token)]
        return Daemon(argv, self._directory / f"worker-{guest}.log", own_session=self._own_sessions)


def _free_port() -> int:
    """The first of six that are free."""
    for first in secrets.SystemRandom().sample(FIRST_PORTS, len(FIRST_PORTS)):
        opened = [socket.socket() for _ in range(PORTS)]
        try:
            for number, one in enumerate(opened):
                one.bind(("127.0.0.1", first + number))
        except OSError:
            continue
        finally:
            for one in opened:
                one.close()
        return first
    raise OSError(os.strerror(98))
