"""Files that are not what Corral wrote, and messages to a shim that no worker sends: refused or told as missing, and nothing breaks."""

import random
import socket
import sqlite3
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral_testkit.shim_driver import Guest, guest_in_temporary_directory
from corral_worker.journal.store import JournalCorruptError, SqliteStore
from corral_worker.shim.base.wire import encode
from corral_worker.shim.spool.end_file import END_FILE_NAME, read_end
from corral_worker.shim.spool.reader import Chunk, Gap, SpoolReader
from corral_worker.shim.spool.writer import SpoolWriter

READS_MAX = 10_000
DAMAGE = st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=40)), min_size=1, max_size=8)


def damage(path: Path, places: list[tuple[float, bytes]]) -> None:
    """Writes over parts of a file."""
    with path.open("r+b") as file:
        size = path.stat().st_size
        for share, content in places:
            file.seek(int(share * max(0, size - len(content))))
            file.write(content)


def read_to_the_end(directory: Path) -> dict[int, int]:
    """What can be had of both streams: contiguous bytes and gaps. Raises AssertionError when there is no end."""
    reader, offsets = SpoolReader(directory, verify=True), {1: 0, 2: 0}
    try:
        for _ in range(READS_MAX):
            items, after = reader.read(offsets, 64 << 10)
            if not items:
                return offsets
            for item in items:
                assert isinstance(item, Chunk | Gap)
            assert after != offsets, "it goes on without an end"
            offsets = after
    finally:
        reader.close()
    raise AssertionError("no end of reading")


@settings(max_examples=80, deadline=None)
@given(places=DAMAGE)
def test_a_damaged_spool_is_read_to_an_end(places: list[tuple[float, bytes]]) -> None:
    with tempfile.TemporaryDirectory(prefix="crl") as name:
        directory = Path(name)
        writer = SpoolWriter(directory, cap_bytes=1 << 20, policy="drop", on_gap=lambda *gap: None)
        for number in range(40):
            writer.append(1 + number % 2, bytes([number]) * 700, 1_000 + number)
        writer.close()
        damage(next(directory.glob("*.spool")), places)
        read_to_the_end(directory)


@settings(max_examples=80, deadline=None)
@given(content=st.binary(max_size=600), end=st.binary(max_size=300))
def test_any_bytes_in_place_of_a_spool_and_its_end_are_read_to_an_end(content: bytes, end: bytes) -> None:
    with tempfile.TemporaryDirectory(prefix="crl") as name:
        directory = Path(name)
        (directory / "000001.spool").write_bytes(content)
        (directory / END_FILE_NAME).write_bytes(end)
        read_to_the_end(directory)
        assert read_end(directory / END_FILE_NAME) is None


@settings(max_examples=30, deadline=None)
@given(places=DAMAGE)
def test_a_damaged_journal_is_opened_or_said_to_be_corrupt(places: list[tuple[float, bytes]]) -> None:
    with tempfile.TemporaryDirectory(prefix="crl") as name:
        path = Path(name) / "journal.sqlite"
        store = SqliteStore(path, "process", lambda position: None, lambda full: None)
        rows = [("INSERT OR REPLACE INTO meta VALUES (?, ?)", (f"key{number}", b"x" * 200)) for number in range(50)]
        store.append(rows)  # type: ignore[arg-type]
        store.close()
        damage(path, places)
        try:
            SqliteStore(path, "process", lambda position: None, lambda full: None).close()
        except (JournalCorruptError, sqlite3.OperationalError):
            return


ODD: list[dict[str, Any]] = [
    {},
    {"t": None},
    {"t": "request"},
    {"t": "request", "id": 7, "step": ["x"]},
    {"t": "request", "id": "x", "step": "no_such_step"},
    {"t": "request", "id": "x", "step": "stdin", "process": "../../etc", "offset": -1},
    {"t": "request", "id": "x", "step": "run", "argv": "rm", "timeout_ms": "soon"},
    {"t": "ack", "n": -1},
    {"t": "ack_response", "id": {}, "step": []},
    {"t": "arm", "process": 1, "after": 7},
    {"t": "hello", "generation": "high", "guest": "x"},
    {"t": "hello", "generation": -5, "guest": None},
    {"t": "hello", "generation": 1, "guest": "another"},
    {"t": "\u0000" * 50},
]


@pytest.fixture(scope="module")
def guest() -> Iterator[Guest]:
    with guest_in_temporary_directory() as made:
        yield made
        assert "Traceback" not in made.log, made.log


def throw(path: Path, content: bytes) -> None:
    """Says it to a socket, as root of this guest could, and hangs up."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as one:
        one.connect(str(path))  # without a timeout: it waits where the backlog is full
        one.settimeout(5)
        try:
            one.sendall(content)
        except OSError:  # it was hung up on while it spoke
            return


@pytest.mark.runc
@pytest.mark.parametrize("seed", range(3))
def test_whatever_is_said_to_a_shim_and_a_zygote_they_go_on_serving_their_worker(guest: Guest, seed: int) -> None:
    rng, shim = random.Random(seed), guest.fork()
    sockets = (guest.run_dir / "s" / f"{shim.instance}.sock", guest.run_dir / "zygote.sock")
    for number in range(150):
        odd = rng.choice(ODD)
        content = rng.choice(
            [
                rng.randbytes(rng.randrange(200)),
                encode(odd, rng.randbytes(rng.randrange(50))),
                encode({"t": "hello", "generation": 0, "guest": guest.name}) + encode(odd),
                struct.pack("!II", 1 << 31, 5),
                encode(odd)[: rng.randrange(1, 30)],
            ]
        )
        throw(sockets[number % 2], content)
    shim.connect()
    assert shim.state["t"] == "state"
    shim.verb("delete", "--force")
    shim.wait_gone()
    other = guest.fork()
    other.verb("delete", "--force")
    other.wait_gone()
