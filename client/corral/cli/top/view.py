"""How `corral top` looks: a board and the size of the screen → something rich can draw."""

from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.rule import Rule
from rich.text import Text

from corral.cli.text.container_text import STATUS_STYLES, command_text
from corral.cli.text.output import Column, Record, table
from corral.plain_text import count_text
from corral.units import clock_text, duration_text, size_text

if TYPE_CHECKING:
    from rich.console import RenderableType

    from corral.cli.top.board import Board, ExitLine, Row

KEYS = (("q", "quit"), ("c", "by cpu"), ("m", "by memory"), ("o", "by output"), ("n", "by name"), ("r", "reverse"), ("space", "hold still"))
FRAME_LINES = 10
"""Two lines of head, foot, three rules and three headings, and one line left free."""


def view(board: "Board", address: str, height: int, *, held: bool) -> "RenderableType":
    """As many rows as fit: guests and exits take a quarter each at most, containers the rest."""
    rows = board.rows()
    room = max(3, height - FRAME_LINES)
    guest_lines = min(max(1, len(board.guests)), max(1, room // 4))
    exit_lines = min(max(1, len(board.exits)), max(1, room // 4))
    container_lines = max(1, room - guest_lines - exit_lines)
    order = f"by {board.order}{', reversed' if board.reverse else ''}"
    return Group(
        _head(board, address, held=held),
        _figures(board),
        _rule(f"guests ({len(board.guests)})", len(board.guests) - guest_lines),
        _guests(board, guest_lines),
        _rule(f"containers ({len(rows)}), {order}", len(rows) - container_lines),
        _containers(rows[:container_lines]),
        *([Text("")] * max(0, container_lines - len(rows))),
        _rule("last exits", 0),
        _exits(list(board.exits)[:exit_lines]),
        _foot(),
    )


def _head(board: "Board", address: str, *, held: bool) -> Text:
    head = Text(no_wrap=True, overflow="ellipsis").append("corral top", "bold").append(f"   {address}", "bright_black")
    if held:
        head.append("   held still", "reverse")
    if board.trouble:
        head.append(f"   {board.trouble}", "bold red")
    return head


def _figures(board: "Board") -> Text:
    up = sum(guest.up for guest in board.guests)
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append(f"{up} of {count_text(len(board.guests), 'guest')} up", "green" if up == len(board.guests) else "red")
    line.append(f"   {board.running} running   {sum(board.events_s.values()):.1f} events/s   {size_text(int(board.output_bytes_s))}/s out")
    line.append(f"   exits: {board.exits_well} ok, ").append(f"{board.exits_other} other", "red" if board.exits_other else "")
    if board.gaps:
        line.append(f"   {board.gaps} gaps in events", "red")
    return line


def _rule(title: str, more: int) -> Rule:
    return Rule(Text(f"{title}{f', {more} more' if more > 0 else ''}", style="bold"), align="left", style="bright_black")


def _guests(board: "Board", lines: int) -> "RenderableType":
    records: list[Record] = [
        {"info": info, "rate": board.events_s.get(info.guest, 0.0), "silent": board.silent.get(info.guest, "")} for info in board.guests
    ]
    records.sort(key=lambda r: (bool(r["info"].up) and not r["silent"], r["info"].guest))  # trouble first
    columns = [
        Column("GUEST", lambda r: r["info"].guest, "bold"),
        Column("STATE", _guest_state, lambda r: "green" if _guest_state(r) == "up" else "red"),
        Column("RUNNING", lambda r: f"{r['info'].load.running} of {r['info'].load.containers}"),
        Column("BUSY", lambda r: f"{r['info'].load.runtime_calls}+{r['info'].load.queued}"),
        Column("EVENTS/S", lambda r: f"{r['rate']:.1f}"),
        Column("HEARD", lambda r: duration_text(r["info"].heard_ms / 1000) + " ago"),
        Column("LABELS", lambda r: ",".join(f"{k}={v}" for k, v in sorted(r["info"].labels.items())) or "-", wide=True),
    ]
    return table(records[:lines], columns)


def _guest_state(record: dict[str, Any]) -> str:
    info = record["info"]
    if not info.up:
        return f"down: {info.reason}" if info.reason else "down"
    return "; ".join(filter(None, ["up", *info.warnings, "silent" if record["silent"] else ""]))


def _containers(rows: "list[Row]") -> "RenderableType":
    def known(value: Any, text: Any) -> str:
        return "-" if value is None else str(text(value))

    columns = [
        Column("CONTAINER", lambda r: r["row"].path, "bold"),
        Column("STATUS", lambda r: r["row"].state.status, lambda r: STATUS_STYLES.get(r["row"].state.status, "bright_black")),
        Column("CPU", lambda r: known(r["row"].cpu_percent, lambda v: f"{v:.1f} %")),
        Column("MEMORY", lambda r: known(r["row"].memory_bytes, size_text)),
        Column("OUTPUT/S", lambda r: known(r["row"].output_bytes_s, lambda v: size_text(int(v)))),
        Column("OUTPUT", lambda r: known(r["row"].output_bytes, size_text)),
        Column("EXECS", lambda r: str(sum(p.exit is None for p in r["row"].state.processes[1:]) or "-")),
        Column("COMMAND", lambda r: command_text(r["row"].state.processes[0].args) if r["row"].state.processes else "", wide=True),
    ]
    return table([{"row": row} for row in rows], columns)


def _exits(lines: "list[ExitLine]") -> "RenderableType":
    if not lines:
        return Text("none since top was started", "bright_black")
    columns = [
        Column("TIME", lambda r: clock_text(r["line"].time_ns)),
        Column("PROCESS", lambda r: r["line"].path, "bold"),
        Column("END", lambda r: r["line"].text, lambda r: "green" if r["line"].well else "red", wide=True),
    ]
    return table([{"line": line} for line in lines], columns)


def _foot() -> Text:
    foot = Text(no_wrap=True, overflow="ellipsis")
    for key, what in KEYS:
        foot.append(f" {key} ", "reverse").append(f" {what}   ")
    return foot
