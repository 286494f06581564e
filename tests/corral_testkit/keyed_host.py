"""A broker with keys on this host, for guests that enrol with tokens."""

from __future__ import annotations

import tomllib
from pathlib import Path
from types import TracebackType

from corral import Client
from corral.cli.keys import key_directory
from corral.keys import load_keys
from corral_testkit.system import Service
from corral_testkit.vms import free_ports
from corral_vm.argv import HOST_IN_GUEST

TOKEN_TTL_S = 900.0


class KeyedHost:
    """A context manager. Its keys, tokens and broker are in a directory of the test's."""

    def __init__(self, directory: Path) -> None:
        self._state = directory / "broker"
        self.keys = self._state / "keys"
        key_directory.make_broker_key(self.keys)
        operator = key_directory.make_key_file(directory / "operator.key", "operator")
        key_directory.accept(self.keys, operator.public, name="operator", role="operator", guest="")
        port = free_ports(6)
        self.address, self.address_in_guest = f"tcp://127.0.0.1:{port}", f"tcp://{HOST_IN_GUEST}:{port}"
        self._broker = Service(
            ["corral_broker", "--bind", self.address, "--state-dir", str(self._state)], "corral broker ready at ", directory / "broker.log"
        )
        self._client_keys = load_keys(str(directory / "operator.key"), str(self.keys / "broker.public"))
        self.server_key: str = tomllib.loads((self.keys / "broker.public").read_text())["public"]

    def __enter__(self) -> KeyedHost:
        self._broker.start()
        self.client = Client(self.address, keys=self._client_keys).__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.client.__exit__(None, None, None)
        self._broker.kill()

    def token(self, guest: str) -> str:
        return key_directory.make_token(self.keys, guest, TOKEN_TTL_S)

    def worker_of(self, guest: str) -> str:
        """Instance of the worker that has registered, empty where none is up."""
        return next((info.worker for info in self.client.guests() if info.guest == guest and info.up), "")
