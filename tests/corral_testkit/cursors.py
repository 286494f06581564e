"""Places to follow events from."""

from corral import Client


def cursor_now(client: Client, guest: str) -> str:
    """Events after it are those that the guest has yet to record."""
    with client.events(guests=[guest], broker_events=False) as events:
        return events.cursor
