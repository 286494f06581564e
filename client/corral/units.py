"""Sizes, durations, times and signals: as people type them, and as people read them."""

import re
import signal as signals
import time
from datetime import UTC, datetime

_SIZE = re.compile(r"^(\d+(?:\.\d+)?)\s*([bkmgt]?)i?b?$", re.IGNORECASE)
_STEP = {"": 0, "b": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_size_bytes(text: str) -> int:
    """`64M`, `1.5g`, `4096` → bytes, in powers of 1024. Raises ValueError."""
    match = _SIZE.match(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a size such as 512k, 64M or 2g")
    return int(float(match[1]) * 1024 ** _STEP[match[2].lower()])


def parse_duration_s(text: str) -> float:
    """`10`, `1.5s`, `2m30s`, `500ms`, `1d` → seconds. Raises ValueError."""
    stripped = text.strip()
    if re.fullmatch(r"\d+(\.\d+)?", stripped):
        return float(stripped)
    parts = _DURATION_PART.findall(stripped)
    if not parts or "".join(number + unit for number, unit in parts) != stripped:
        raise ValueError(f"{text!r} is not a duration such as 10, 500ms, 10s, 2m30s or 1d")
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def parse_time_ns(text: str, now_ns: int) -> int:
    """A time (RFC 3339, or seconds since 1970) or a duration ago (`10m`) → nanoseconds since 1970. Raises ValueError."""
    stripped = text.strip()
    if re.fullmatch(r"\d{9,}(\.\d+)?", stripped):
        return int(float(stripped) * 1e9)
    try:
        moment = datetime.fromisoformat(stripped)
    except ValueError:
        try:
            return now_ns - int(parse_duration_s(stripped) * 1e9)
        except ValueError:
            raise ValueError(f"{text!r} is neither a time such as 2026-01-31T12:00:00Z nor a duration ago such as 10m") from None
    if moment.tzinfo is None:
        moment = moment.astimezone()
    return int(moment.timestamp() * 1e9)


def parse_signal(text: str) -> int:
    """`KILL`, `SIGKILL`, `9`, `RTMIN+1` → the number. Raises ValueError."""
    stripped = text.strip().upper()
    if stripped.isdigit() and 1 <= int(stripped) <= 64:
        return int(stripped)
    name, plus, offset = stripped.removeprefix("SIG").partition("+")
    number = {**{s.name[3:]: int(s) for s in signals.Signals}, "IOT": 6, "POLL": 29}.get(name)
    if number is not None and (not plus or (name == "RTMIN" and offset.isdigit())):
        number += int(offset or 0)
        if number <= 64:
            return number
    raise ValueError(f"{text!r} is not a signal such as TERM, SIGKILL, 9 or RTMIN+1")


def signal_names() -> list[str]:
    """Names without SIG, for completion."""
    return [s.name.removeprefix("SIG") for s in signals.Signals]


def size_text(count_bytes: int | None) -> str:
    """`1.5 MiB`; `-` for unknown."""
    if count_bytes is None:
        return "-"
    value = float(count_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def duration_text(seconds: float) -> str:
    """The two largest units: `3 d 4 h`, `2 m 5 s`, `0.3 s`."""
    if seconds < 10:
        return f"{max(seconds, 0.0):.1f} s"
    whole = int(seconds)
    units = [("d", 86400), ("h", 3600), ("m", 60), ("s", 1)]
    parts: list[str] = []
    for name, size in units:
        count, whole = divmod(whole, size)
        if count or parts:
            parts.append(f"{count} {name}")
        if len(parts) == 2:
            break
    return " ".join(part for part in parts if not part.startswith("0 "))


def rfc3339_text(time_ns: int) -> str:
    """UTC with nanoseconds, as docker writes timestamps: `2026-01-31T12:00:00.123456789Z`."""
    seconds, fraction_ns = divmod(time_ns, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{fraction_ns:09d}Z"


def clock_text(time_ns: int) -> str:
    """Local time of day with milliseconds, for a person following events."""
    return f"{datetime.fromtimestamp(time_ns / 1e9):%H:%M:%S.%f}"[:-3]


def ago_text(rfc3339: str) -> str:
    """How long ago an RFC 3339 time was; the text itself where it cannot be read."""
    try:
        return duration_text(time.time() - datetime.fromisoformat(rfc3339).timestamp()) + " ago"
    except ValueError:
        return rfc3339
