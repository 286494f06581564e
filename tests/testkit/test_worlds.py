"""What faults are made of does what it says: a clock that jumps, a disk that is full, a proxy that half-closes."""

from __future__ import annotations

import gc
import os
import random
import socket
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chaos.proxy import BACK, FRONT, Proxy, free_port
from corral import Event
from corral_testkit.skewed import SkewFile
from corral_testkit.small_disk import SmallDisk
from corral_testkit.system import CorralSystem

DAY_S = 86_400.0


@pytest.fixture
def ends() -> Iterator[tuple[Proxy, socket.socket, socket.socket]]:
    """A proxy, and both ends of a connection through it: that of the dialler, that of the broker."""
    port = free_port(random.Random(os.getpid()))
    with socket.create_server((BACK, port)) as server, Proxy(port, seed=1) as proxy, socket.create_connection((FRONT, port)) as dialled:
        accepted, _ = server.accept()
        with accepted:
            for end in (dialled, accepted):
                end.settimeout(10)
            yield proxy, dialled, accepted


@pytest.mark.runc
def test_a_jump_of_the_clock_reaches_workers_and_brokers_that_run(new_corral: Callable[..., CorralSystem], tmp_path: Path) -> None:
    clock = SkewFile(tmp_path / "clock")
    system = new_corral(launcher=["corral_testkit.skewed", str(clock.path)])
    clock.set(-DAY_S)
    client = system.client()
    with client.events(broker_events=False) as events:
        client.guest(system.names[0]).run(spec=system.spec("true"), auto_delete=True).wait()
        event = next(events)
        assert isinstance(event, Event)
        assert abs(event.header.time_ns / 1e9 - (time.time() - DAY_S)) < 60


@pytest.mark.runc
def test_a_full_disk_takes_nothing_more_until_it_is_freed(tmp_path: Path) -> None:
    with SmallDisk(tmp_path / "disk", 1 << 20) as disk:
        (disk.directory / "before").write_bytes(b"x")
        disk.fill()
        with pytest.raises(OSError, match="No space left"):
            (disk.directory / "full").write_bytes(b"x" * 5_000)
        disk.free()
        (disk.directory / "after").write_bytes(b"x" * 5_000)


def test_a_proxy_that_ends_while_connections_come_leaves_none_of_them_open() -> None:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for number in range(20):
            port = free_port(random.Random(number))
            with socket.create_server((BACK, port)), Proxy(port, seed=1):
                dialled = [socket.create_connection((FRONT, port)) for _ in range(5)]
            for one in dialled:
                one.close()
            gc.collect()
    assert [str(one.message) for one in told if one.category is ResourceWarning] == []


def test_a_link_that_is_half_closed_ends_one_way_and_goes_on_the_other(ends: tuple[Proxy, socket.socket, socket.socket]) -> None:
    proxy, dialled, accepted = ends
    dialled.sendall(b"there")
    assert accepted.recv(5) == b"there"
    closed: set[str] = set()
    while not closed:  # it takes half of the connections, at random
        proxy.half_close()
        for name, end in (("from broker", dialled), ("to broker", accepted)):
            end.settimeout(0.1)
            try:
                assert end.recv(1) == b""
                closed.add(name)
            except TimeoutError:
                continue
    assert len(closed) == 1
    sender, receiver = (dialled, accepted) if closed == {"from broker"} else (accepted, dialled)
    receiver.settimeout(10)
    sender.sendall(b"still")
    assert receiver.recv(5) == b"still"


def test_a_link_silent_one_way_holds_back_what_goes_there_until_it_is_healed(ends: tuple[Proxy, socket.socket, socket.socket]) -> None:
    proxy, dialled, accepted = ends
    proxy.stall("to broker")
    accepted.sendall(b"back")
    assert dialled.recv(4) == b"back"  # by now the proxy has stalled the other way
    dialled.sendall(b"there")
    accepted.settimeout(0.3)
    with pytest.raises(TimeoutError):
        accepted.recv(5)
    proxy.heal()
    accepted.settimeout(10)
    assert accepted.recv(5) == b"there"


def test_a_link_that_is_cut_ends_both_ways_and_takes_nobody_until_it_is_healed(ends: tuple[Proxy, socket.socket, socket.socket]) -> None:
    proxy, dialled, accepted = ends
    proxy.cut()
    assert [_ended(end) for end in (dialled, accepted)] == [True, True]
    with socket.create_connection(dialled.getpeername()) as another:
        another.settimeout(10)
        assert _ended(another)


def _ended(end: socket.socket) -> bool:
    try:
        return end.recv(1) == b""
    except ConnectionResetError:
        return True
