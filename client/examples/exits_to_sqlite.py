"""An event consumer: every exit in every guest into a SQLite table, once, however often this program is killed and started again.

    python client/examples/exits_to_sqlite.py exits.sqlite

The cursor is stored in the same transaction as what was read up to it. Events come at least once; (guest, epoch, seq) is the key that
makes it once. What can no longer be had (a journal that was lost, or trimmed while nobody listened) is a row of its own, not silence.
"""

import argparse
import asyncio
import signal
import sqlite3
import sys
from types import FrameType

from corral import AsyncClient, Cursor, Event, EventGap, Resync, shell_status
from corral_schemas.events import ExitEvent

TABLES = """
create table if not exists exits (
    guest text, epoch text, seq integer, time_ns integer, container text, process text, instance text, status integer, how text,
    primary key (guest, epoch, seq)
) without rowid;
create table if not exists missing (guest text, epoch text, first integer, last integer, reason text, primary key (guest, epoch, first));
create table if not exists cursor (id integer primary key check (id = 1), text text);
"""


def take(database: sqlite3.Connection, item: Event | EventGap | Resync, cursor: str) -> None:
    """One item and the place behind it, both or neither."""
    with database:
        if isinstance(item, Event) and isinstance(item.payload, ExitEvent):
            header, end = item.header, item.payload.exit
            place = (header.guest, header.epoch, header.seq, header.time_ns)
            how = (header.container, header.process, header.instance, shell_status(end), end.type)
            database.execute("insert or ignore into exits values (?, ?, ?, ?, ?, ?, ?, ?, ?)", place + how)
        elif isinstance(item, EventGap):
            database.execute(
                "insert or ignore into missing values (?, ?, ?, ?, ?)", (item.guest, item.epoch, item.start, item.end, item.reason)
            )
        elif isinstance(item, Resync):
            # What happened before this place in the guest's life is not known: a list of its containers tells how it stands.
            row = (item.guest, item.place.epoch, 0, item.place.seq, f"resync: {item.reason}")
            database.execute("insert or ignore into missing values (?, ?, ?, ?, ?)", row)
        database.execute("insert into cursor values (1, ?) on conflict (id) do update set text = excluded.text", (cursor,))


async def consume(database: sqlite3.Connection, broker: str | None, count: int) -> None:
    """From the stored cursor on; ends after `count` items (0: never)."""
    row = database.execute("select text from cursor").fetchone()
    after = row[0] if row else Cursor()  # an empty cursor: from the beginning of what the guests still have
    async with AsyncClient(broker) as client, client.events(kinds=["exit"], after=after, broker_events=False) as events:
        sys.stdout.write("listening\n")
        sys.stdout.flush()
        async for item in events:
            take(database, item, item.cursor if isinstance(item, Event) else events.cursor)
            count -= 1
            if count == 0:
                return


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(0)


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(description="Write every exit into a SQLite table, once.")
    parser.add_argument("database")
    parser.add_argument("--broker", help="broker address; default as for the `corral` command")
    parser.add_argument("--count", type=int, default=0, help="end after so many (default: go on)")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, _leave)
    database = sqlite3.connect(given.database)
    database.executescript(TABLES)
    try:
        asyncio.run(consume(database, given.broker, given.count))
    except KeyboardInterrupt:
        return 130
    finally:
        database.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
