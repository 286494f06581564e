"""Whoever floods is held to its own share: the others' commands do not wait until the flood has been worked off."""

import asyncio

import zmq

from corral import AsyncClient
from corral.keys import Keys as LibraryKeys
from corral_broker.access.quotas import TOLERATED_MIN
from corral_broker.state.shares import RESERVED
from corral_schemas import session
from corral_schemas.errors import CorralError
from corral_schemas.events import Started
from corral_schemas.frames import CommandHeader, encode_command, pack
from corral_schemas.keyfiles import ACCEPTED, AcceptedKey, accepted_file_name, text_of
from corral_schemas.limits import IN_FLIGHT_PER_GUEST_MAX
from corral_schemas.queries import GuestsReply, InfoReply, ListArgs, Nothing
from corral_testkit.wire_peers import Keys, RawClient, repeat_until
from hostile.keyed_broker import KeyedBroker, refused

FLOOD = 60_000
RATE_PER_S = 5


def counters(client: RawClient) -> dict[str, int]:
    info = client.call("info", Nothing())
    assert isinstance(info, InfoReply)
    return info.counters


def test_a_command_is_answered_long_before_another_clients_flood_is_worked_off(keyed: KeyedBroker) -> None:
    operator, other = keyed.several_keys(("op", "operator"), ("flood", "observer"))
    client = keyed.client(operator)
    before = counters(client)["taken_clients"]
    with RawClient(keyed.address, keys=other) as flooder:
        flooder.socket.sndhwm = 0
        flooder.hello()
        again = flooder.dial(zmq.DEALER, keyed.address, send_hwm=0)
        frames = encode_command(CommandHeader(id="flood", op="guests", timeout_ms=1_000), Nothing())
        for _ in range(FLOOD):
            again.send_multipart(frames)
        taken = counters(client)["taken_clients"] - before
    assert taken < FLOOD, "the flood was served first"


def test_a_key_that_asks_too_often_is_refused_and_counted_and_another_is_not(keyed: KeyedBroker) -> None:
    operator, slow = keyed.keys("op", "operator"), limited(keyed)
    client, other = keyed.client(slow), keyed.client(operator)
    repeat_until(lambda: None, lambda: refused(lambda: client.call("guests", Nothing())) == "guest_busy")
    for _ in range(10 * RATE_PER_S):
        other.call("guests", Nothing())
    found = counters(other)
    assert found["command_guest_busy"] >= 1
    assert found["answered_guest_busy"] == found["command_guest_busy"]
    assert any(line["key"] == "slow" and f"more than {RATE_PER_S} commands a second" in line["why"] for line in keyed.audit())


def test_a_key_that_floods_on_is_cut_turned_away_for_a_while_and_then_served_again(keyed: KeyedBroker) -> None:
    operator, slow = keyed.keys("op", "operator"), limited(keyed)
    client = keyed.client(operator)
    with RawClient(keyed.address, keys=slow) as flooder:
        again = flooder.dial(zmq.DEALER, keyed.address, send_hwm=0)
        for _ in range(2 * TOLERATED_MIN):
            again.send_multipart(encode_command(CommandHeader(id="flood", op="guests", timeout_ms=1_000), Nothing()))

        def read() -> None:  # else its connection's end does not come up behind the answers
            while again.poll(0):
                again.recv_multipart()

        repeat_until(read, lambda: counters(client).get("flood_turned_away", 0) >= 1)
    found = counters(client)
    assert found["flood_cut"] >= 1
    assert found["command_guest_busy"] > TOLERATED_MIN
    refusals = [line for line in keyed.audit() if line["key"] == "slow" and line["verdict"] == "refused"]
    assert len(refusals) < TOLERATED_MIN / 10, "a flood fills the audit log"
    late = keyed.client(slow)
    repeat_until(lambda: None, lambda: refused(lambda: late.call("guests", Nothing())) == "")


def test_a_guest_that_floods_with_events_is_cut_from_that_socket_alone_and_stays_registered(keyed: KeyedBroker) -> None:
    operator, slow = keyed.keys("op", "operator"), limited(keyed, "guest", "vm-1")
    client, worker = keyed.client(operator), keyed.worker(slow, "vm-1")
    worker.register()

    def publish() -> None:
        for _ in range(100):
            worker.seq += 1
            worker.publish_event("started", Started(pid=1), "c")

    repeat_until(publish, lambda: counters(client).get("flood_cut", 0) >= 1)
    found = counters(client)
    assert found["event_over_rate"] > TOLERATED_MIN
    assert found["events"] <= found["taken_events_in"] - TOLERATED_MIN
    client.send("list", ListArgs(), "vm-1")
    worker.answer(worker.command(), CorralError("runtime_failed", "x"))
    assert isinstance(client.reply("list")[1], CorralError)
    assert "guests_gone" not in found


def test_a_guest_that_floods_its_session_is_cut_and_another_guest_is_served(keyed: KeyedBroker) -> None:
    operator, slow, calm = keyed.keys("op", "operator"), limited(keyed, "guest", "vm-1"), keyed.keys("calm", "guest", "vm-2")
    client, flooder, worker = keyed.client(operator), keyed.worker(slow, "vm-1"), keyed.worker(calm, "vm-2")
    flooder.register()
    worker.register()
    beat = [session.HEARTBEAT, pack(session.Heartbeat(epoch="e", seq=1))]

    def throw() -> None:
        for _ in range(100):
            if flooder.main.poll(0, zmq.POLLOUT):  # the broker may take fewer between two looks at its counters
                flooder.main.send_multipart(beat)
        while flooder.main.poll(0):
            flooder.main.recv_multipart()

    repeat_until(throw, lambda: counters(client).get("flood_cut", 0) >= 1)
    assert counters(client)["session_over_rate"] > TOLERATED_MIN
    client.send("list", ListArgs(), "vm-2")
    worker.answer(worker.command(), CorralError("runtime_failed", "x"))
    assert isinstance(client.reply("list")[1], CorralError)
    repeat_until(lambda: None, lambda: not up(client, "vm-1"))


def test_a_key_that_piles_up_commands_at_a_guest_leaves_room_for_others_and_is_told_so(keyed: KeyedBroker) -> None:
    operator, greedy = keyed.several_keys(("op", "operator"), ("greedy", "operator"))
    guest = keyed.keys("vm-1", "guest", "vm-1")
    client, piling, worker = keyed.client(operator), keyed.client(greedy), keyed.worker(guest, "vm-1")
    worker.register()
    for _ in range(IN_FLIGHT_PER_GUEST_MAX):
        piling.send("list", ListArgs(), "vm-1")
    told = [piling.reply("list")[1] for _ in range(RESERVED)]
    assert {(why.code, "send fewer at once" in why.message) for why in told if isinstance(why, CorralError)} == {("guest_busy", True)}
    asked = client.send("list", ListArgs(), "vm-1")
    commands = [worker.command() for _ in range(IN_FLIGHT_PER_GUEST_MAX - RESERVED + 1)]
    assert commands[-1].header.id == asked
    for command in commands:
        worker.answer(command, CorralError("runtime_failed", "x"))
    assert isinstance(client.reply("list")[1], CorralError)
    assert counters(client)["key_share_exceeded"] == RESERVED


async def ask_at_once(keyed: KeyedBroker, keys: Keys, count: int) -> int:
    """So many commands of one client of the library; how many were answered."""
    async with AsyncClient(keyed.address, keys=LibraryKeys(*keys), timeout_s=30) as client:
        return len(await asyncio.gather(*(client.guests() for _ in range(count))))


def test_a_client_of_the_library_keeps_to_its_keys_rate_however_much_it_is_given_at_once(keyed: KeyedBroker) -> None:
    operator, busy = keyed.keys("op", "operator"), limited(keyed, rate_per_s=500)
    assert asyncio.run(ask_at_once(keyed, busy, 3 * TOLERATED_MIN // 2)) == 1_500
    found = counters(keyed.client(operator))
    assert "command_guest_busy" not in found
    assert "flood_cut" not in found


def test_clients_of_the_library_that_share_a_key_lose_nothing_and_are_not_cut(keyed: KeyedBroker) -> None:
    operator, busy = keyed.keys("op", "operator"), limited(keyed, rate_per_s=500)

    async def two() -> list[int]:
        return await asyncio.gather(*(ask_at_once(keyed, busy, 750) for _ in range(2)))

    assert asyncio.run(two()) == [750, 750]
    found = counters(keyed.client(operator))
    assert found["command_guest_busy"] > 0, "they were never held back"
    assert "flood_cut" not in found


def up(client: RawClient, guest: str) -> bool:
    reply = client.call("guests", Nothing())
    assert isinstance(reply, GuestsReply)
    return any(one.guest == guest and one.up for one in reply.guests)


def limited(keyed: KeyedBroker, role: str = "operator", guest: str = "", rate_per_s: int = RATE_PER_S) -> Keys:
    """A key whose file states a rate of its own; accepted when this returns."""
    keys = keyed.new_keys()
    key = AcceptedKey(name="slow", public=keys.public, role=role, guest=guest, rate_per_s=rate_per_s)
    (keyed.directory / ACCEPTED / accepted_file_name("slow", keys.public)).write_text(text_of(key))
    keyed.until_known(keys)
    return keys
