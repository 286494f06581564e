"""A reader of events that may be killed at any moment: `python -m chaos.consumer`, started again, goes on behind its last cursor."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence
from pathlib import Path

from chaos.diary import Diary, Fact, facts_in
from corral import AsyncClient, CorralError, Event, EventGap, Resync
from corral.event_stream import EventStream
from corral_schemas.exits import Exit, describe

PATIENCE_S = 90.0


async def _read(options: argparse.Namespace) -> None:
    cursors = [fact["cursor"] for fact in facts_in(options.diary) if "cursor" in fact]
    cursor: str | None = cursors[-1] if cursors else None
    diary = Diary(options.diary)
    if cursor is not None:
        print("ready", flush=True)
    while True:
        try:
            async with (
                AsyncClient(options.broker, timeout_s=PATIENCE_S, connect_timeout_s=PATIENCE_S) as client,
                client.events(kinds=options.kinds, after=cursor, broker_events=False) as stream,
            ):
                if cursor is None:
                    cursor = stream.cursor
                    diary.note("live", cursor=cursor)
                    print("ready", flush=True)
                async for item in stream:
                    cursor = stream.cursor
                    _note(diary, item, stream)
        except CorralError as why:
            diary.note("broken", code=why.code, text=why.message)


def _note(diary: Diary, item: Event | EventGap | Resync, stream: EventStream) -> None:
    if isinstance(item, EventGap):
        details: Fact = {"guest": item.guest, "epoch": item.epoch, "start": item.start, "end": item.end, "reason": item.reason}
        diary.note("event gap", cursor=stream.cursor, **details)
    elif isinstance(item, Resync):
        diary.note("resync", cursor=stream.cursor, guest=item.guest, reason=item.reason, epoch=item.place.epoch, seq=item.place.seq)
    else:
        header = item.header
        end = describe(item.payload.exit) if isinstance(getattr(item.payload, "exit", None), Exit) else ""  # type: ignore[union-attr]
        place: Fact = {"guest": header.guest, "epoch": header.epoch, "seq": header.seq, "prev": header.prev, "what": header.kind}
        reason = item.data.get("reason", "") if header.kind == "stdio_gap" else ""
        diary.note("event", cursor=stream.cursor, process=header.process_instance, exit=end, reason=reason, **place)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--broker", required=True)
    parser.add_argument("--diary", type=Path, required=True)
    parser.add_argument("--kinds", nargs="*", default=None)
    asyncio.run(_read(parser.parse_args(arguments)))


if __name__ == "__main__":
    main()
