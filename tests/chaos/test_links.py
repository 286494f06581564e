"""What a broken connection costs whoever asks next: nothing that lasts."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest

from chaos.proxy import BACK, FRONT, Proxy, free_port
from corral import Client, ContainerSpec, Event
from corral_testkit.system import CorralSystem


@pytest.mark.runc
@pytest.mark.timeout(25)
def test_output_is_read_at_once_though_the_second_connection_broke_while_nothing_went_over_it() -> None:
    port = free_port(random.Random("links"))
    with (
        Proxy(port, 1) as proxy,
        CorralSystem(1, bind=f"tcp://{BACK}:{port}", address=f"tcp://{FRONT}:{port}") as system,
        Client(system.bind) as client,
        client.events(kinds=["guest_down", "guest_up"]) as changes,
    ):
        (guest,) = system.names
        container = client.guest(guest).run("ended", spec=ContainerSpec(rootfs=str(system.rootfs), args=["echo", "here"]))
        container.wait()
        assert container.init.stdout.read() == b"here\n"
        proxy.cut()
        _until(changes, "guest_down")
        proxy.heal()
        _until(changes, "guest_up")
        assert container.init.stdout.read() == b"here\n"


def _until(changes: Iterable[object], kind: str) -> None:
    for item in changes:
        if isinstance(item, Event) and item.kind == kind:
            return
