"""Detach keys, raw mode and the size of a terminal."""

import fcntl
import os
import pty
import struct
import termios

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.cli.text.terminal import DetachKeys, Size, parse_detach_keys, raw_mode, size_of

CTRL_P, CTRL_Q = b"\x10", b"\x11"


@pytest.mark.parametrize(
    ("text", "keys"),
    [("ctrl-p,ctrl-q", b"\x10\x11"), ("", b""), ("a", b"a"), ("ctrl-@", b"\0"), ("CTRL-A,x", b"\x01x"), ("ctrl-[", b"\x1b")],
)
def test_detach_keys_are_spelled_as_dockers(text: str, keys: bytes) -> None:
    assert parse_detach_keys(text) == keys


@pytest.mark.parametrize("text", ["ctrl-", "ctrl-1", "meta-x", "ab", ",", "ctrl-p,"])
def test_keys_that_do_not_exist_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a key"):
        parse_detach_keys(text)


def test_the_sequence_detaches_and_is_not_sent_on() -> None:
    keys = DetachKeys(CTRL_P + CTRL_Q)
    assert keys.feed(b"ls\r" + CTRL_P) == b"ls\r"
    assert not keys.detached
    assert keys.feed(CTRL_Q + b"more") == b""
    assert keys.detached


def test_a_beginning_that_leads_nowhere_is_sent_on() -> None:
    keys = DetachKeys(CTRL_P + CTRL_Q)
    assert keys.feed(CTRL_P) == b""
    assert keys.feed(b"x") == CTRL_P + b"x"
    assert keys.feed(CTRL_P + CTRL_P + b"y") == CTRL_P + CTRL_P + b"y"
    assert not keys.detached


def test_without_keys_everything_passes() -> None:
    assert DetachKeys(b"").feed(CTRL_P + CTRL_Q) == CTRL_P + CTRL_Q


@given(st.lists(st.binary(max_size=6).map(lambda b: bytes(c % 3 + 0x10 for c in b)), max_size=12))
def test_however_it_is_cut_what_is_typed_arrives_up_to_the_sequence(typed: list[bytes]) -> None:
    sequence = CTRL_P + CTRL_Q
    keys = DetachKeys(sequence)
    passed = b"".join(keys.feed(piece) for piece in typed)
    whole = b"".join(typed)
    if sequence in whole:
        assert keys.detached
        assert passed == whole[: whole.index(sequence)]
    else:
        assert not keys.detached
        assert whole in (passed, passed + CTRL_P)


def test_raw_mode_is_undone_also_after_a_failure() -> None:
    master, slave = pty.openpty()
    try:
        before = termios.tcgetattr(slave)
        with pytest.raises(RuntimeError), raw_mode(slave):
            assert not termios.tcgetattr(slave)[3] & (termios.ECHO | termios.ICANON | termios.ISIG)
            raise RuntimeError
        assert termios.tcgetattr(slave) == before
    finally:
        os.close(master)
        os.close(slave)


def test_the_size_is_that_of_the_first_terminal() -> None:
    master, slave = pty.openpty()
    read_end, write_end = os.pipe()
    try:
        assert size_of(read_end, write_end) is None
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 99, 0, 0))
        assert size_of(read_end, slave) == Size(33, 99)
    finally:
        for descriptor in (master, slave, read_end, write_end):
            os.close(descriptor)
