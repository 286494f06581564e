"""Guests that a broker is told to forget."""

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from broker.conftest import BrokerProcess
from corral import Client, CorralError
from corral_broker.state.last_seen import LastSeenFile
from corral_schemas.cursor import Place
from corral_testkit.wire_peers import FakeWorker

Start = Callable[..., BrokerProcess]
KNOWN = 50_000


def test_what_was_forgotten_is_so_after_the_broker_was_killed(start_broker: Start, short_dir: Path) -> None:
    arguments = ("--bind", f"ipc://{short_dir}/b", "--state-dir", str(short_dir / "state"))
    broker = start_broker(*arguments)
    with Client(broker.address) as client:
        for name in ("vm-7", "vm-8"):
            with FakeWorker(broker.address, name) as worker:
                worker.register()
        with FakeWorker(broker.address, "vm-9") as worker:
            worker.register()
            with pytest.raises(CorralError) as refused:
                client.forget_guests(["vm-8", "vm-9"])
            assert (refused.value.code, refused.value.details["guests"]) == ("guest_connected", ["vm-9"])
        assert client.forget_guests(["vm-7", "nobody"]) == ["vm-7"]
    broker.end(signal.SIGKILL)
    with Client(start_broker(*arguments).address) as client:
        assert [info.guest for info in client.guests()] == ["vm-8", "vm-9"]


def test_fifty_thousand_that_left_are_listed_and_forgotten(start_broker: Start, short_dir: Path) -> None:
    names = [f"vm-{number}" for number in range(KNOWN)]
    LastSeenFile(short_dir / "state").write({name: Place(epoch="e", seq=1) for name in names}, 0.0)
    broker = start_broker("--bind", f"ipc://{short_dir}/b", "--state-dir", str(short_dir / "state"))
    with Client(broker.address) as client:
        began_s = time.monotonic()
        assert len(client.guests()) == KNOWN
        fleet = client.list()
        assert len(fleet.silent) == KNOWN and not fleet.containers
        assert len(client.forget_guests(names[1:])) == KNOWN - 1
        assert [info.guest for info in client.guests()] == ["vm-0"]
        assert time.monotonic() - began_s < 20
    assert [name for name, _ in LastSeenFile(short_dir / "state").read()] == ["vm-0"]
