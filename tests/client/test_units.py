"""Sizes, durations, times and signals as people type them."""

import signal
from datetime import UTC, datetime

import pytest

from corral import units


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("0", 0),
        ("4096", 4096),
        ("64M", 64 << 20),
        ("64m", 64 << 20),
        ("64MiB", 64 << 20),
        ("1.5g", 3 << 29),
        ("512k", 512 << 10),
        ("2T", 2 << 40),
    ],
)
def test_a_size_is_read_in_powers_of_1024(text: str, count: int) -> None:
    assert units.parse_size_bytes(text) == count


@pytest.mark.parametrize("text", ["", "M", "-1", "1x", "64 MM", "1e3", "nan"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size such as"):
        units.parse_size_bytes(text)


@pytest.mark.parametrize(("text", "seconds"), [("10", 10), ("1.5", 1.5), ("500ms", 0.5), ("2m30s", 150), ("1h", 3600), ("1d", 86400)])
def test_a_duration_is_read_in_seconds(text: str, seconds: float) -> None:
    assert units.parse_duration_s(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "s", "-5", "5 apples", "1m-2s", "10x"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration such as"):
        units.parse_duration_s(text)


def test_a_time_is_a_moment_or_a_duration_ago() -> None:
    now_ns = 1_800_000_000_000_000_000
    assert units.parse_time_ns("10m", now_ns) == now_ns - 600 * 10**9
    assert units.parse_time_ns("1700000000", now_ns) == 1_700_000_000 * 10**9
    moment = datetime(2026, 1, 31, 12, tzinfo=UTC)
    assert units.parse_time_ns("2026-01-31T12:00:00Z", now_ns) == int(moment.timestamp()) * 10**9
    assert units.parse_time_ns("2026-01-31T12:00:00+00:00", now_ns) == int(moment.timestamp()) * 10**9
    with pytest.raises(ValueError, match="neither a time"):
        units.parse_time_ns("yesterday", now_ns)


@pytest.mark.parametrize(
    ("text", "number"),
    [("KILL", 9), ("SIGKILL", 9), ("sigterm", 15), ("9", 9), ("64", 64), ("RTMIN", 34), ("SIGRTMIN+1", 35), ("RTMAX", 64)],
)
def test_a_signal_is_a_name_or_a_number(text: str, number: int) -> None:
    assert units.parse_signal(text) == number


@pytest.mark.parametrize("text", ["", "0", "65", "NOPE", "TERM+1", "RTMIN+x", "RTMAX+1", "-9"])
def test_what_is_no_signal_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a signal such as"):
        units.parse_signal(text)


def test_every_signal_name_reads_back() -> None:
    assert {units.parse_signal(name) for name in units.signal_names()} == {int(s) for s in signal.Signals}


def test_sizes_and_durations_are_told_briefly() -> None:
    assert [units.size_text(n) for n in (None, 0, 1023, 1 << 10, 3 << 19, 5 << 30, 1 << 45)] == [
        "-", "0 B", "1023 B", "1.0 KiB", "1.5 MiB", "5.0 GiB", "32.0 TiB",
    ]  # fmt: skip
    assert [units.duration_text(s) for s in (0, 0.25, 12, 125, 3600, 90061)] == ["0.0 s", "0.2 s", "12 s", "2 m 5 s", "1 h", "1 d 1 h"]


def test_a_timestamp_has_nanoseconds_and_says_utc() -> None:
    assert units.rfc3339_text(1_700_000_000_000_000_042) == "2023-11-14T22:13:20.000000042Z"
