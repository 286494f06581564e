"""Output and input of real containers: whole, checked, bounded, with every gap told."""

from __future__ import annotations

import os
import subprocess
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from corral_testkit.shim_driver import Guest, ShimDriver, read_all, wait_until
from corral_worker.shim.base.wire import Message
from corral_worker.shim.process.input import WRITERS_MAX
from corral_worker.shim.spool.reader import SpoolReader

pytestmark = pytest.mark.runc

MIB = 1024 * 1024


@pytest.mark.guarantee(4)
@pytest.mark.parametrize("size", [0, 1, 65_536, MIB - 1, MIB, MIB + 1, 16 * MIB + 1])
def test_all_output_is_in_the_spool_when_the_exit_is_reported(shim: ShimDriver, size: int) -> None:
    init = shim.run(["head", "-c", str(size), "/dev/urandom"])
    told = shim.notice("exit", init, timeout_s=30)
    data = shim.output(init)
    assert told["streams"]["1"] == {"state": "closed", "total": size, "crc": zlib.crc32(data)}
    assert len(data) == size


def test_a_child_that_holds_stdout_holds_up_no_exit_and_its_end_is_told_by_itself(shim: ShimDriver) -> None:
    shim.run(["sh", "-c", "mkfifo /tmp/go; sleep 1000"])
    wait_until(lambda: (shim.guest.rootfs / "tmp/go").exists(), "the fifo is there")
    begun = time.monotonic()
    process = shim.exec(["sh", "-c", "(read line < /tmp/go; echo later) & echo hi"])
    told = shim.notice("exit", process)
    assert time.monotonic() - begun < 1
    assert told["exit"] == {"type": "exited", "code": 0}
    assert told["streams"]["1"] == {"state": "open", "offset": 3, "crc": zlib.crc32(b"hi\n")}
    shim.wire.send({"t": "arm", "process": process, "after": {"1": 3}, "exited": True})
    (shim.guest.rootfs / "tmp/go").write_text("go\n")
    assert shim.wire.wait_for(lambda m: m["t"] == "grew")["streams"]["1"]["offset"] == 9
    ends = [shim.notice("stream_end", process) for _ in range(2)]
    assert {(end["stream"], end["total"], end["crc"]) for end in ends} == {(1, 9, zlib.crc32(b"hi\nlater\n")), (2, 0, 0)}
    assert shim.output(process) == b"hi\nlater\n"
    (shim.guest.rootfs / "tmp/go").unlink()


def test_a_descendant_that_floods_for_ever_does_not_hold_the_exit(shim: ShimDriver) -> None:
    shim.run(["sleep", "1000"])
    process = shim.exec(["sh", "-c", "yes & exit 7"], cap_bytes=4 * MIB)
    told = shim.notice("exit", process, timeout_s=5)
    assert told["exit"] == {"type": "exited", "code": 7}
    assert told["streams"]["1"]["state"] == "open"


def test_at_the_cap_gaps_are_told_and_with_the_bytes_make_the_total(shim: ShimDriver) -> None:
    init = shim.run(["head", "-c", str(60 * MIB), "/dev/zero"], cap_bytes=MIB)
    told = shim.notice("exit", init, timeout_s=30)
    data, gaps = read_all(shim.directory / init)
    assert told["streams"]["1"]["total"] == 60 * MIB
    assert told["streams"]["1"]["crc"] == zlib.crc32(bytes(60 * MIB))
    assert [(gap.start, gap.reason) for gap in gaps] == [(0, "cap")]
    assert gaps[0].end + len(data) == 60 * MIB
    notices = [message for message in shim.wire.arrived() if message["t"] == "gap"]
    at = 0
    for notice in notices:
        assert (notice["process"], notice["stream"], notice["from"], notice["reason"]) == (init, 1, at, "cap")
        at = notice["to"]
    assert at == gaps[0].end


def test_block_stops_the_container_until_its_consumer_has_the_bytes(shim: ShimDriver) -> None:
    init = shim.run(["head", "-c", str(10 * MIB), "/dev/zero"], cap_bytes=MIB, policy="block")
    reader = SpoolReader(shim.directory / init, verify=True)
    offsets = {1: 0}
    assert shim.notice("blocked", init)["since_ns"] is not None
    shim.connect()
    assert shim.state["processes"][0]["blocked_since_ns"] is not None
    while offsets[1] < 10 * MIB:
        items, offsets = reader.read(offsets, MIB)
        assert all(hasattr(item, "data") for item in items)
        shim.wire.send({"t": "consumed", "process": init, "streams": {"1": offsets[1]}})
        if offsets[1] < 10 * MIB:
            shim.wire.send({"t": "arm", "process": init, "after": {"1": offsets[1]}})
            shim.wire.wait_for(lambda m: m["t"] == "grew")
    ended = shim.notice("exit", init)["streams"]["1"]
    if ended["state"] == "open":  # it exited while its last bytes waited in the pipe
        ended = shim.end_of_stream(init, 1)
    assert (ended["total"], ended["crc"]) == (10 * MIB, zlib.crc32(bytes(10 * MIB)))
    assert not [message for message in shim.wire.arrived() if message["t"] == "gap"]
    reader.close()


def test_streams_that_were_blocked_at_the_exit_end_by_themselves_each_whole(shim: ShimDriver) -> None:
    size = MIB + MIB // 2  # more than the spool takes, and no more than it and the pipe
    init = shim.run(["head", "-c", str(size), "/dev/zero"], cap_bytes=MIB, policy="block")
    shim.notice("blocked", init)
    told = shim.notice("exit", init)["streams"]
    assert [(end["state"], 0 < end["offset"] <= MIB) for end in told.values()] == [("open", True), ("open", False)]
    shim.wire.send({"t": "consumed", "process": init, "streams": {"1": told["1"]["offset"]}})
    assert {stream: shim.end_of_stream(init, stream)["total"] for stream in (1, 2)} == {1: size, 2: 0}


def test_a_consumer_whose_lease_ends_holds_up_nothing(shim: ShimDriver) -> None:
    init = shim.run(["head", "-c", str(10 * MIB), "/dev/zero"], cap_bytes=MIB, policy="block", lease_ms=300)
    assert shim.notice("blocked", init)["since_ns"] is not None
    assert shim.notice("blocked", init)["since_ns"] is None
    told = shim.notice("exit", init)
    assert told["streams"]["1"]["total"] == 10 * MIB
    assert shim.notice("gap", init)["reason"] == "cap"


@pytest.mark.guarantee(25)
def test_a_process_that_was_silent_for_longer_than_its_consumers_lease_still_waits_for_it(shim: ShimDriver) -> None:
    init = shim.run(["sh", "-c", "sleep 1.7; exec head -c 2097152 /dev/zero"], cap_bytes=MIB, policy="block", lease_ms=1_500)
    assert shim.notice("blocked", init)["since_ns"] is not None
    reader, offsets = SpoolReader(shim.directory / init, verify=True), {1: 0}
    while offsets[1] < 2 * MIB:
        _, offsets = reader.read(offsets, MIB)
        shim.wire.send({"t": "consumed", "process": init, "streams": {"1": offsets[1]}})
        shim.wire.send({"t": "arm", "process": init, "after": {"1": offsets[1]}})
        shim.wire.wait_for(lambda m: m["t"] == "grew")
    shim.notice("exit", init)
    assert not [message for message in shim.wire.arrived() if message["t"] == "gap"]
    reader.close()


def test_a_killed_process_that_is_blocked_still_has_its_exit_told(shim: ShimDriver) -> None:
    init = shim.run(["sh", "-c", "yes"], cap_bytes=MIB, policy="block")
    shim.notice("blocked", init)
    shim.kill(init)
    told = shim.notice("exit", init)
    assert told["exit"]["signal"] == 9
    assert told["streams"]["1"]["state"] == "open"
    shim.wire.send({"t": "consumed", "process": init, "streams": {"1": 1 << 50, "2": 1 << 50}})
    assert shim.notice("stream_end", init)["process"] == init


def test_grew_tells_once_per_arm(shim: ShimDriver) -> None:
    init = shim.run(["sh", "-c", "echo one; read line; echo two; sleep 1000"], stdin=True)
    shim.wire.send({"t": "arm", "process": init, "after": {"1": 0}})
    assert shim.wire.wait_for(lambda m: m["t"] == "grew")["streams"]["1"] == {"offset": 4, "open": True}
    shim.wire.send({"t": "arm", "process": init, "after": {"1": 4}})
    shim.wire.send({"t": "ping"})
    shim.wire.wait_for(lambda m: m["t"] == "pong")
    assert not [message for message in shim.wire.arrived() if message["t"] == "grew"]
    shim.do("stdin", process=init, offset=0, blob=b"go\n")
    assert shim.wire.wait_for(lambda m: m["t"] == "grew")["streams"]["1"]["offset"] == 8


def test_writers_of_one_input_have_offsets_to_themselves(shim: ShimDriver) -> None:
    init = shim.run(["cat"], stdin=True)
    for number in range(3):
        for writer in ("one", "two"):
            line = f"{writer} {number}\n".encode()
            taken = shim.do("stdin", process=init, offset=number * len(line), writer=writer, blob=line)["offset"]
            again = shim.do("stdin", process=init, offset=number * len(line), writer=writer, blob=line)["offset"]
            assert taken == again == (number + 1) * len(line)
    gap = shim.response(shim.request("stdin", process=init, offset=1, writer="three", blob=b"x"))
    assert (gap["error"]["kind"], gap["error"]["details"]["offset"]) == ("stdin_gap", 0)
    assert shim.do("stdin", process=init, offset=36, blob=b"")["offset"] == 36  # without a name: the bytes of all
    shim.do("close_stdin", process=init, offset=18, writer="two")
    assert shim.notice("exit", init)["exit"] == {"type": "exited", "code": 0}
    assert shim.output(init) == b"".join(b"one %d\ntwo %d\n" % (number, number) for number in range(3))


def test_more_writers_than_are_kept_are_told_of_a_gap_and_no_byte_is_taken_twice(shim: ShimDriver) -> None:
    init = shim.run(["cat"], stdin=True)
    for number in range(WRITERS_MAX + 1):
        shim.do("stdin", process=init, offset=0, writer=f"writer-{number}", blob=b"x")
    forgotten = shim.response(shim.request("stdin", process=init, offset=1, writer="writer-0", blob=b"y"))
    assert forgotten["error"]["kind"] == "stdin_gap"
    assert shim.do("stdin", process=init, offset=1, writer="writer-1", blob=b"y")["offset"] == 2
    shim.do("close_stdin", process=init, offset=None)
    assert shim.notice("exit", init)["exit"] == {"type": "exited", "code": 0}
    assert shim.output(init) == b"x" * (WRITERS_MAX + 1) + b"y"


def test_input_arrives_once_whatever_is_sent_twice(shim: ShimDriver) -> None:
    init = shim.run(["cat"], stdin=True)
    data = os.urandom(700_000)
    position = 0
    while position < len(data):
        start = max(0, position - 1000)  # some of it was sent before
        chunk = data[start : position + 90_000]
        position = shim.do("stdin", process=init, offset=start, blob=chunk)["offset"]
        assert position == start + len(chunk)
    gap = shim.response(shim.request("stdin", process=init, offset=position + 5, blob=b"x"))
    assert (gap["error"]["kind"], gap["error"]["details"]["offset"]) == ("stdin_gap", position)
    shim.do("close_stdin", process=init, offset=position)
    shim.do("close_stdin", process=init, offset=None)
    closed = shim.response(shim.request("stdin", process=init, offset=position, blob=b"x"))
    assert closed["error"]["kind"] == "stdin_closed"
    assert shim.do("stdin", process=init, offset=position - 10, blob=data[-10:])["offset"] == position  # a repeat, all of it taken
    assert shim.notice("exit", init)["exit"] == {"type": "exited", "code": 0}
    assert shim.output(init) == data


def test_input_that_nobody_reads_waits_and_its_answer_with_it(shim: ShimDriver) -> None:
    init = shim.run(["sh", "-c", "trap 'cat > /dev/null; exit 0' USR1; echo ready; while true; do sleep 0.05; done"], stdin=True)
    wait_until(lambda: shim.output(init) == b"ready\n", "its trap is set (the first process of a container ignores what it has none for)")
    requests = [shim.request("stdin", process=init, offset=index * MIB, blob=bytes(MIB)) for index in range(4)]
    assert shim.response(requests[0])["ok"]["offset"] == MIB
    assert shim.response(requests[1])["ok"]["offset"] == 2 * MIB
    shim.wire.send({"t": "ping"})
    shim.wire.wait_for(lambda m: m["t"] == "pong")
    assert not [message for message in shim.wire.arrived() if message["t"] == "response"]
    shim.connect()
    assert [pending["id"] for pending in shim.state["pending"]] == requests[2:]
    shim.kill(init, 10)
    for index in (2, 3):
        assert shim.response(requests[index])["ok"]["offset"] == (index + 1) * MIB
    shim.do("close_stdin", process=init, offset=4 * MIB)
    assert shim.notice("exit", init)["exit"] == {"type": "exited", "code": 0}


def test_input_nobody_asked_for_is_refused(shim: ShimDriver) -> None:
    init = shim.run(["cat"])
    assert shim.notice("exit", init)["exit"] == {"type": "exited", "code": 0}
    refused = shim.response(shim.request("stdin", process=init, offset=0, blob=b"x"))
    assert refused["error"]["kind"] == "stdin_closed"
    unknown = shim.response(shim.request("stdin", process="nobody", offset=0, blob=b"x"))
    assert unknown["error"]["kind"] == "process_not_found"


def test_a_terminal_has_its_size_from_the_start_and_is_resized(shim: ShimDriver) -> None:
    init = shim.run(
        ["sh", "-c", "trap 'stty size; again=1' WINCH; stty size; while read line || [ $again ]; do again=; echo got $line; done"],
        tty=True, stdin=True, rows=33, columns=111,
    )  # fmt: skip
    _await_output(shim, init, b"33 111\r\n")
    shim.do("resize", process=init, rows=50, columns=132)
    _await_output(shim, init, b"50 132\r\n")
    shim.do("stdin", process=init, offset=0, blob=b"hello\n")
    _await_output(shim, init, b"got hello\r\n")
    shim.do("close_stdin", process=init, offset=6)
    told = shim.notice("exit", init)
    assert told["exit"] == {"type": "exited", "code": 0}
    assert list(told["streams"]) == ["1"]
    assert told["streams"]["1"]["state"] == "closed"


def test_a_terminal_of_an_exec_is_taken_and_its_last_output_kept(shim: ShimDriver) -> None:
    shim.run(["sleep", "1000"])
    for _ in range(5):
        process = shim.exec(["sh", "-c", "seq 1 2000; exit 5"], tty=True)
        told = shim.notice("exit", process)
        assert told["exit"] == {"type": "exited", "code": 5}
        assert shim.output(process) == b"".join(b"%d\r\n" % number for number in range(1, 2001))
    assert not list((shim.guest.run_dir / "s").glob("*.tty"))
    plain = shim.exec(["sleep", "1000"])
    refused = shim.response(shim.request("resize", process=plain, rows=1, columns=1))
    assert refused["error"]["kind"] == "not_a_tty"


def test_a_terminal_nobody_has_open_is_looked_at_without_spinning(shim: ShimDriver) -> None:
    init = shim.run(["sh", "-c", "exec 3<>/dev/tty; exec <&- >&- 2>&- 3>&-; sleep 1; echo back > /dev/pts/0; sleep 1000"], tty=True)
    before = _cpu_ticks(shim.pid)
    _await_output(shim, init, b"back\r\n")
    assert _cpu_ticks(shim.pid) - before < 20
    shim.kill(init)
    assert shim.notice("exit", init)["streams"]["1"]["state"] == "closed"


@pytest.fixture
def small_disk(guest: Guest) -> Iterator[ShimDriver]:
    """A shim whose state is on a disk of 3 MiB."""
    shim = guest.fork()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "small", shim.directory], check=True)
    try:
        yield shim
    finally:
        shim.connect()
        shim.verb("delete", "--force")
        shim.wait_gone()
        wait_until(lambda: subprocess.run(["umount", shim.directory], capture_output=True).returncode == 0, "umount")


def test_a_full_disk_loses_nothing_without_a_word(small_disk: ShimDriver) -> None:
    shim = small_disk
    init = shim.create(["head", "-c", str(20 * MIB), "/dev/zero"])
    fields = shim.exec_request(["true"])
    shim.verb("start")
    told = shim.notice("exit", init)
    assert shim.notice("storage")["full"] is True
    assert told["streams"]["1"] == {"state": "closed", "total": 20 * MIB, "crc": zlib.crc32(bytes(20 * MIB))}
    lost = _told_gaps(shim, init)
    data, gaps = read_all(shim.directory / init)
    assert len(data) + sum(gap.end - gap.start for gap in gaps) == 20 * MIB
    assert sum(end - start for start, end in lost) == sum(gap.end - gap.start for gap in gaps) > 0
    refused = shim.response(shim.request("exec", **fields))
    assert refused["error"]["kind"] == "storage_full"


def test_when_the_disk_has_room_again_output_goes_on_after_a_marked_gap(small_disk: ShimDriver) -> None:
    shim = small_disk
    filler = shim.directory / "filler"
    init = shim.run(["sh", "-c", "while read size; do head -c $size /dev/zero; done"], stdin=True)
    with filler.open("wb", buffering=0) as file, pytest.raises(OSError):
        while True:
            file.write(bytes(4096))
    _ask_for(shim, init, 0, MIB)
    assert shim.notice("storage")["full"] is True
    shim.wire.send({"t": "arm", "process": init, "after": {"1": MIB - 1}})
    shim.wire.wait_for(lambda m: m["t"] == "grew")
    filler.unlink()
    _ask_for(shim, init, 1, 1000)
    assert shim.notice("storage")["full"] is False
    gap = shim.notice("gap", init)
    assert (gap["reason"], gap["to"]) == ("disk_full", MIB)
    data, gaps = read_all(shim.directory / init)
    assert [(found.start, found.end, found.reason) for found in gaps] == [(gap["from"], MIB, "disk_full")]
    assert len(data) == gap["from"] + 1000


@pytest.mark.guarantee(22)
def test_under_block_a_full_disk_stops_the_container_until_there_is_room(small_disk: ShimDriver) -> None:
    shim = small_disk
    filler = shim.directory / "filler"
    with filler.open("wb", buffering=0) as file:
        file.write(bytes(MIB))
    init = shim.run(["head", "-c", str(2 * MIB), "/dev/zero"], policy="block")
    assert shim.notice("storage")["full"] is True
    assert shim.notice("blocked", init)["since_ns"] is not None
    filler.unlink()
    assert shim.notice("storage")["full"] is False
    told = shim.notice("exit", init)
    if told["streams"]["1"]["state"] == "open":
        assert shim.end_of_stream(init, 1)["total"] == 2 * MIB
    assert shim.output(init) == bytes(2 * MIB)


def _ask_for(shim: ShimDriver, init: str, already: int, size: int) -> None:
    line = b"%08d\n" % size
    shim.do("stdin", process=init, offset=already * len(line), blob=line)


def _told_gaps(shim: ShimDriver, process: str) -> list[tuple[int, int]]:
    shim.wire.send({"t": "ping"})
    shim.wire.wait_for(lambda m: m["t"] == "pong")
    gaps = [message for message in shim.wire.arrived() if message["t"] == "gap" and message["process"] == process]
    return [(gap["from"], gap["to"]) for gap in gaps]


def _await_output(shim: ShimDriver, process: str, wanted: bytes) -> Message:
    """Until the bytes are in the first stream."""
    grew: Message = {}
    while wanted not in (data := shim.output(process)):
        shim.wire.send({"t": "arm", "process": process, "after": {"1": len(data)}})
        grew = shim.wire.wait_for(lambda m: m["t"] == "grew")
        assert grew["streams"]["1"]["open"], f"it ended, with {data!r}"
    return grew


def _cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
