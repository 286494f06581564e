"""Events as lines: which are wanted, as JSON records, and for people."""

import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from corral.plain_text import one_line

if TYPE_CHECKING:
    from corral import Event, EventGap, Resync

COLOURS = {
    "exit": "yellow",
    "created": "cyan",
    "started": "green",
    "exec_started": "green",
    "deleted": "bright_black",
    "oom": "red",
    "guest_up": "green",
    "guest_down": "red",
    "storage_full": "red",
    "stdio_gap": "red",
    "journal_reset": "red",
    "gap": "red",
    "resync": "red",
}


@dataclass(frozen=True)
class Wanted:
    """Which events to show; an empty set is no restriction. Words of one kind widen, words of different kinds narrow."""

    kinds: frozenset[str]
    guests: frozenset[str]
    containers: frozenset[str]
    since_ns: int

    @staticmethod
    def read(kinds: Sequence[str], guests: Sequence[str], containers: Sequence[str], filters: Sequence[str], since_ns: int) -> "Wanted":
        """Raises click.UsageError for a filter or a kind that does not exist."""
        from corral_schemas.events import EVENT_KINDS

        sets = {"kind": set(kinds), "guest": set(guests), "container": set(containers)}
        for text in filters:
            key, _, value = text.partition("=")
            if key not in sets or not value:
                raise click.UsageError(f"--filter {text!r} is not kind=, guest= or container= with a value")
            sets[key].add(value)
        for kind in sets["kind"]:
            if kind not in EVENT_KINDS:
                raise click.UsageError(f"there is no event of kind {kind!r}; kinds: {', '.join(EVENT_KINDS)}")
        for name in list(sets["container"]):
            if "/" in name:
                guest, _, container = name.partition("/")
                sets["guest"].add(guest)
                sets["container"] = sets["container"] - {name} | {container}
        return Wanted(frozenset(sets["kind"]), frozenset(sets["guest"]), frozenset(sets["container"]), since_ns)

    def admits_any_of(self, kinds: Collection[str]) -> bool:
        """Whether events of one of these kinds, about no container, can be wanted."""
        return not self.containers and (not self.kinds or bool(self.kinds & set(kinds)))

    def admits(self, item: "Event | EventGap | Resync") -> bool:
        """Word of missing events is always wanted from the guests that are."""
        from corral import Event

        if not isinstance(item, Event):
            return not self.guests or not item.guest or item.guest in self.guests
        header = item.header
        return (
            (not self.kinds or header.kind in self.kinds)
            and (not self.guests or header.guest in self.guests)
            and (not self.containers or header.container in self.containers)
            and header.time_ns >= self.since_ns
        )


def record_of(item: "Event | EventGap | Resync") -> dict[str, Any]:
    """The JSON object of one item."""
    from corral import Event, EventGap

    if isinstance(item, EventGap):
        return {"guest": item.guest, "epoch": item.epoch, "kind": "gap", "start": item.start, "end": item.end, "reason": item.reason}
    if not isinstance(item, Event):
        return {"guest": item.guest, "epoch": item.place.epoch, "seq": item.place.seq, "kind": "resync", "reason": item.reason}
    header = item.header
    names = ("guest", "epoch", "seq", "prev", "time_ns", "kind", "container", "process", "instance", "process_instance")
    return {**{name: getattr(header, name) for name in names}, "data": item.data, "cursor": item.cursor}


def line_for_people(item: "Event | EventGap | Resync") -> str:
    """Time, guest, kind, what it is about, and what matters of its data."""
    from corral.units import clock_text

    record = record_of(item)
    subject = "/".join(part for part in (record.get("container", ""), record.get("process", "")) if part)
    when = clock_text(record["time_ns"]) if "time_ns" in record else " " * 12
    kind = f"{record['kind']:<14}"
    if not os.environ.get("NO_COLOR"):
        kind = click.style(kind, fg=COLOURS.get(record["kind"]))
    return f"{when}  {record['guest'] or '-':<12} {kind} {subject:<28} {one_line(_detail(record))}".rstrip()


def _detail(record: dict[str, Any]) -> str:
    tell = _DETAILS.get(record["kind"])
    return tell(record.get("data", record)) if tell else ""


def _exit(data: dict[str, Any]) -> str:
    import msgspec

    from corral_schemas.exits import Exit, describe

    try:
        return describe(msgspec.convert(data["exit"], Exit))
    except (KeyError, msgspec.ValidationError):  # from a newer peer: as it came
        return str(data)


def _args(data: dict[str, Any]) -> str:
    import shlex

    return f"pid {data.get('pid', 0)}  {shlex.join(data.get('args', []))}"


def _pid(data: dict[str, Any]) -> str:
    return f"pid {data.get('pid', 0)}"


def _reason(data: dict[str, Any]) -> str:
    return ": ".join(str(data[name]) for name in ("reason", "warning") if data.get(name))


def _began(data: dict[str, Any]) -> str:
    from corral.units import clock_text

    said = {"stopped": "the one before was stopped", "died": "the one before died"}.get(data.get("previous", ""), "")
    alive_ns = data.get("alive_ns", 0)
    return f"{said} after {clock_text(alive_ns)}" if said and alive_ns else said


_DETAILS: dict[str, Callable[[dict[str, Any]], str]] = {
    "exit": _exit,
    "created": _pid,
    "started": _pid,
    "exec_started": _args,
    "stdio_end": lambda data: f"{data.get('stream')} ended at {data.get('total', 0)} bytes",
    "stdio_gap": lambda data: f"{data.get('stream')} lost bytes {data.get('start')} to {data.get('end')}: {data.get('reason')}",
    "oom": lambda data: f"{data.get('kills')} killed",
    "updated": lambda data: str(data.get("resources", "")),
    "deleted": _reason,
    "guest_up": lambda data: ",".join(f"{key}={value}" for key, value in sorted(data.get("labels", {}).items())),
    "guest_down": _reason,
    "broker_started": _began,
    "journal_reset": _reason,
    "resync": _reason,
    "worker_started": lambda data: f"{data.get('adopted', 0)} adopted, {data.get('lost', 0)} lost",
    "gap": lambda data: f"events {data['start']} to {data['end']} are missing: {data['reason']}",
}
