"""A broker's history as the library gives it: while it is followed, over a restart, and of two brokers at once."""

import signal
from collections.abc import Callable
from pathlib import Path

from broker.conftest import BrokerProcess
from corral import Client, Cursor, Event
from corral_testkit.wire_peers import FakeWorker, RawClient, repeat_until

Start = Callable[..., BrokerProcess]
OF_BROKERS = ["guest_up", "guest_down", "broker_started", "broker_stopped"]


def is_down(address: str, name: str) -> bool:
    with Client(address) as client:
        return [info.up for info in client.guests() if info.guest == name] == [False]


def come_and_go(address: str, name: str, why: str) -> None:
    with FakeWorker(address, name) as worker:
        worker.register()
        worker.goodbye(why)
    repeat_until(lambda: None, lambda: is_down(address, name))


def test_who_follows_over_a_kill_of_the_broker_misses_nothing_of_what_came_between(start_broker: Start, short_dir: Path) -> None:
    arguments = ("--bind", f"ipc://{short_dir}/b", "--state-dir", str(short_dir / "state"))
    broker = start_broker(*arguments)
    come_and_go(broker.address, "vm-1", "first")
    with Client(broker.address) as client, client.events(OF_BROKERS, after=Cursor()) as events:
        early = [next(events) for _ in range(3)]
        broker.end(signal.SIGKILL)
        broker = start_broker(*arguments)
        come_and_go(broker.address, "vm-1", "second")
        late = [next(events) for _ in range(3)]
        items = [*early, *late]
        assert all(isinstance(item, Event) for item in items), items
        told = [item for item in items if isinstance(item, Event)]
        assert [item.kind for item in told] == ["broker_started", "guest_up", "guest_down"] * 2
        assert [item.header.seq for item in told] == [1, 2, 3, 4, 5, 6]
        assert [event.header.seq for event in client.guest_history(after=told[3].cursor)] == [5, 6]
        assert client.keeps_history()
    with Client(broker.address) as client, client.events(OF_BROKERS, after=told[4].cursor) as events:
        item = next(events)
        assert isinstance(item, Event) and item.header.seq == 6


def test_two_brokers_are_asked_for_their_histories_and_told_to_forget(start_broker: Start, short_dir: Path) -> None:
    addresses = [start_broker("--bind", f"ipc://{short_dir}/{name}").address for name in ("a", "b")]
    for address, why in zip(addresses, ("of a", "of b"), strict=True):
        come_and_go(address, "vm-1", why)
    with Client(",".join(addresses)) as client:
        downs = [event.data["reason"] for event in client.guest_history() if event.kind == "guest_down"]
        assert downs == ["said goodbye: of a", "said goodbye: of b"]
        assert not client.keeps_history()
        assert client.forget_guests(["vm-1"]) == ["vm-1"]
    for address in addresses:
        with RawClient(address), Client(address) as client:
            assert client.guests() == []
