"""Output, stdin and waits over real sockets."""

import asyncio
import os
import time

import pytest

import corral
from corral import process
from corral.core import pull
from corral.process import Process
from corral_schemas.errors import error
from corral_schemas.queries import WaitArgs
from corral_schemas.stdio import CloseStdinArgs, Done, ReadStdioArgs, WriteStdinArgs, WriteStdinReply
from corral_testkit.bounded import run
from corral_testkit.fake_broker import INSTANCE, Call, FakeBroker, Outcome
from corral_testkit.fake_guest import CONTAINER_INSTANCE, FakeGuest


def init_of(client: corral.AsyncClient) -> Process:
    return client.guest("g1").container("c", INSTANCE).init


def test_all_output_then_the_ends_then_the_exit(broker: FakeBroker, guest: FakeGuest) -> None:
    data = os.urandom(1 << 20) * 20

    async def work() -> None:
        async with corral.AsyncClient(broker.address) as client:
            broker.do(lambda: guest.write("stdout", data).write("stderr", b"oops").end(3))
            output = init_of(client).output()
            got = {"stdout": b"", "stderr": b""}
            async for piece in output:
                assert isinstance(piece, corral.Chunk)
                got[piece.stream] += piece.data
            assert got == {"stdout": data, "stderr": b"oops"}
            assert output.exit is not None and output.exit.code == 3
            assert output.next == {"stdout": len(data), "stderr": 4}
            assert output.ends["stdout"].total == len(data)

    run(work())


def test_output_is_handed_on_as_it_comes(broker: FakeBroker, guest: FakeGuest) -> None:
    async def work() -> None:
        async with corral.AsyncClient(broker.address) as client:
            lines = init_of(client).combined.lines()
            for number in range(10):
                broker.do(lambda number=number: guest.write("stdout", b"line %d\n" % number))  # type: ignore[misc]
                assert await anext(lines) == b"line %d" % number
            broker.do(lambda: guest.write("stdout", b"rest").end())
            assert [line async for line in lines] == [b"rest"]

    run(work())


def test_without_follow_it_stops_at_what_there_is(broker: FakeBroker, guest: FakeGuest) -> None:
    async def work() -> None:
        async with corral.AsyncClient(broker.address) as client:
            broker.do(lambda: guest.write("stdout", b"one\ntwo\nthree\n"))
            output = init_of(client).output(follow=False)
            assert b"".join([piece.data async for piece in output if isinstance(piece, corral.Chunk)]) == b"one\ntwo\nthree\n"
            assert output.exit is None
            tail = init_of(client).output(follow=False, tail_lines=2)
            assert b"".join([piece.data async for piece in tail if isinstance(piece, corral.Chunk)]) == b"two\nthree\n"

    run(work())


def test_bytes_that_are_gone_are_a_gap_here_and_an_error_there(broker: FakeBroker, guest: FakeGuest) -> None:
    async def work() -> None:
        async with corral.AsyncClient(broker.address) as client:
            broker.do(lambda: guest.kept_from.update({"stdout": 4}))
            broker.do(lambda: guest.write("stdout", b"0123456789").end())
            first = await anext(init_of(client).output())
            assert isinstance(first, corral.Gap) and (first.start, first.end) == (0, 4)
            with pytest.raises(corral.ResyncError) as caught:
                await init_of(client).stdout.read()
            assert caught.value.details == {"stream": "stdout", "start": 0, "end": 4}

    run(work())


def test_a_reader_survives_a_broker_restart_and_a_guest_away_for_a_moment(broker: FakeBroker, guest: FakeGuest) -> None:
    async def work() -> None:
        async with corral.AsyncClient(broker.address) as client:
            lines = init_of(client).stdout.lines()
            broker.do(lambda: guest.write("stdout", b"before\n"))
            assert await anext(lines) == b"before"
            waiting = asyncio.ensure_future(anext(lines))
            await asyncio.to_thread(broker.wait_for, lambda: len(guest.parked) > 0)
            broker.stop()
            away = broker.guests.pop("g1")
            broker.start()
            count = len(broker.seen("read_stdio"))
            await asyncio.to_thread(broker.wait_for, lambda: len(broker.seen("read_stdio")) >= count + 2)
            broker.do(lambda: broker.guests.update(g1=away))
            broker.do(lambda: guest.write("stdout", b"after\n"))
            assert await waiting == b"after"
            await lines.aclose()

    run(work())


@pytest.mark.guarantee(25)
def test_a_reader_by_name_learns_at_once_which_process_it_reads_and_stays_with_it(broker: FakeBroker, guest: FakeGuest) -> None:
    async def work() -> None:
        async with corral.AsyncClient(broker.address) as client:
            lines = client.guest("g1").container("c").init.stdout.lines()
            waiting = asyncio.ensure_future(anext(lines))
            await asyncio.to_thread(broker.wait_for, lambda: len(guest.parked) > 0)
            broker.do(lambda: guest.write("stdout", b"late\n"))
            assert await waiting == b"late"
            asked = [call.args for call in broker.seen("read_stdio") if isinstance(call.args, ReadStdioArgs)]
            assert [(one.wait_ms > 0, one.instance, one.process_instance) for one in asked[:2]] == [
                (False, "", ""),
                (True, CONTAINER_INSTANCE, INSTANCE),
            ]
            await lines.aclose()

    run(work())


@pytest.mark.guarantee(25)
@pytest.mark.parametrize(("trouble", "lasts_s"), [("silence", 2.5), ("guest_busy", 2.5), ("deadline_exceeded", 0.3)])
def test_who_reads_or_waits_asks_on_when_a_poll_had_no_answer_or_found_no_place(
    broker: FakeBroker, guest: FakeGuest, monkeypatch: pytest.MonkeyPatch, trouble: str, lasts_s: float
) -> None:
    monkeypatch.setattr(pull, "LONG_POLL_S_MAX", 0.2)
    monkeypatch.setattr(process, "LONG_POLL_S_MAX", 0.2)
    until_s = time.monotonic() + lasts_s
    served = {op: broker.guest_handlers["g1", op] for op in ("read_stdio", "wait")}

    def troubled(call: Call) -> Outcome:
        assert isinstance(call.args, ReadStdioArgs | WaitArgs)
        polls = call.args.wait_ms if isinstance(call.args, ReadStdioArgs) else call.args.timeout_ms
        if time.monotonic() < until_s and (polls or trouble == "guest_busy"):
            return None if trouble == "silence" else error(trouble, "not now", sent=trouble != "guest_busy")
        return served[call.header.op](call)

    for op in served:
        broker.guest_handlers["g1", op] = troubled

    async def work() -> None:
        async with corral.AsyncClient(broker.address, timeout_s=1.0) as client:
            reading, waiting = asyncio.create_task(init_of(client).stdout.read()), asyncio.create_task(init_of(client).wait())
            while time.monotonic() < until_s:
                await asyncio.sleep(0.05)
                assert not reading.done() and not waiting.done()
            broker.do(lambda: guest.write("stdout", b"at last").end(3))
            assert (await reading, (await waiting).code) == (b"at last", 3)

    run(work())


def test_a_reader_of_a_guest_that_nobody_answers_for_is_told_so(
    broker: FakeBroker, guest: FakeGuest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pull, "LONG_POLL_S_MAX", 0.2)

    async def work() -> None:
        async with corral.AsyncClient(broker.address, timeout_s=0.3) as client:
            for way in ("silent guest", "no broker"):
                reading = asyncio.create_task(init_of(client).stdout.read())
                await asyncio.to_thread(broker.wait_for, lambda: len(guest.parked) > 0)
                if way == "silent guest":
                    broker.guest_handlers["g1", "read_stdio"] = lambda call: None
                    broker.do(guest.parked.clear)
                    with pytest.raises(corral.DeadlineError, match="no answer from guest g1"):
                        await reading
                    broker.guest_handlers["g1", "read_stdio"] = guest._read_stdio
                else:
                    broker.stop()
                    with pytest.raises(corral.RetryError, match="no broker could be reached"):
                        await reading

    run(work())


def test_a_second_connection_that_comes_back_with_nothing_to_ask_says_hello(broker: FakeBroker, guest: FakeGuest) -> None:
    """A broker with keys cuts a connection that says nothing for 10 s: an idle client would connect anew for ever."""

    async def work() -> None:
        async with corral.AsyncClient(broker.address) as client:
            broker.do(lambda: guest.write("stdout", b"x").end())
            assert await init_of(client).stdout.read() == b"x"
            before = len(broker.seen("hello"))
            broker.stop()
            broker.start()
            await asyncio.to_thread(broker.wait_for, lambda: len({call.identity for call in broker.seen("hello")[before:]}) == 2)

    run(work())


def test_a_named_consumer_acknowledges_only_what_was_taken(broker: FakeBroker, guest: FakeGuest) -> None:
    async def work() -> None:
        async with corral.AsyncClient(broker.address) as client:
            broker.do(lambda: guest.write("stdout", bytes(200_000)))
            output = init_of(client).output(consumer="me", stderr=None)
            await anext(output)
            assert [offset_of(call) for call in broker.seen("read_stdio")] == [0]
            await output.aclose()

    run(work())


def offset_of(call: Call) -> int | None:
    assert isinstance(call.args, ReadStdioArgs)
    return call.args.stdout


def test_a_wait_is_a_repeatable_read_with_its_own_timeout(broker: FakeBroker, guest: FakeGuest) -> None:
    async def work() -> None:
        async with corral.AsyncClient(broker.address) as client:
            with pytest.raises(corral.DeadlineError, match="wait_timeout"):
                await init_of(client).wait(timeout_s=0.1)
            waiters = [asyncio.create_task(init_of(client).wait()) for _ in range(50)]
            by_name = [asyncio.create_task(client.guest("g1").container("c").wait()) for _ in range(2)]
            await asyncio.to_thread(broker.wait_for, lambda: len(guest.parked) == 3)
            for given_up in waiters[:20]:
                given_up.cancel()
            await asyncio.wait(waiters[:20])
            broker.do(lambda: guest.end(9))
            waiters = waiters[20:] + by_name
            assert {end.code for end in await asyncio.gather(*waiters)} == {9}
            assert (await init_of(client).wait(timeout_s=5)).code == 9

    run(work())


def test_who_waits_for_one_process_shares_a_poll_and_each_gets_an_error_of_his_own(broker: FakeBroker, guest: FakeGuest) -> None:
    async def work() -> None:
        async with corral.AsyncClient(broker.address) as client:
            waiters = [asyncio.create_task(init_of(client).wait()) for _ in range(5)]
            await asyncio.to_thread(broker.wait_for, lambda: len(guest.parked) == 1)
            (call, _, _) = guest.parked[0]
            broker.do(lambda: broker.answer(call, error("process_not_found", "its records were lost", process="init")))
            errors = await asyncio.gather(*waiters, return_exceptions=True)
            assert {str(one) for one in errors} == {"process_not_found: its records were lost"}
            assert len({id(one) for one in errors}) == 5
            late = [asyncio.create_task(init_of(client).wait()) for _ in range(2)]
            await asyncio.to_thread(broker.wait_for, lambda: len(broker.seen("wait")) == 2 and len(guest.parked) == 2)
            for waiter in late:
                waiter.cancel()
            await asyncio.wait(late)
            await client.guests()
            assert asyncio.all_tasks() == {asyncio.current_task()}, "the last of them ends the wait"
            broker.do(lambda: guest.end(3))
            assert (await init_of(client).wait()).code == 3

    run(work())


def test_stdin_is_written_once_whatever_is_lost_and_however_little_is_taken_at_a_time(broker: FakeBroker, guest: FakeGuest) -> None:
    taken = bytearray()
    closed: list[int | None] = []

    def write(call: Call) -> Outcome:
        args = call.args
        assert isinstance(args, WriteStdinArgs)
        if args.offset > len(taken):
            return error("bad_request", "a hole in stdin")
        taken.extend(args.data[len(taken) - args.offset :][:100_000])
        if len(taken) == 100_000 and not call.copy:
            return None  # this reply is lost
        return WriteStdinReply(offset=len(taken))

    def close(call: Call) -> Outcome:
        assert isinstance(call.args, CloseStdinArgs)
        closed.append(call.args.offset)
        return Done()

    broker.guest_handlers["g1", "write_stdin"] = write
    broker.guest_handlers["g1", "close_stdin"] = close
    data = os.urandom(700_000)

    async def work() -> None:
        async with corral.AsyncClient(broker.address) as client:
            stdin = init_of(client).stdin
            await asyncio.gather(stdin.write(data[:400_000]), stdin.write(data[400_000:]))
            assert stdin.offset == len(data)
            await stdin.close()

    run(work())
    assert bytes(taken) == data
    assert closed == [len(data)]


def test_reading_given_up_leaves_nothing_behind(broker: FakeBroker, guest: FakeGuest) -> None:
    async def work() -> None:
        async with corral.AsyncClient(broker.address) as client:
            broker.do(lambda: guest.write("stdout", b"x"))
            async for _ in init_of(client).stdout:
                break
            output = init_of(client).output()
            await anext(output)
            del output
            for _ in range(3):
                await client.guests()
            assert asyncio.all_tasks() == {asyncio.current_task()}

    run(work())
