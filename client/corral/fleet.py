"""Many guests at once: one list with one cursor, and finding a container by name."""

import asyncio
import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import msgspec

from corral.connection import Connection
from corral.container import Container
from corral.plain_text import count_text
from corral.process import Process
from corral_schemas.commands import ContainerTarget
from corral_schemas.containers import ContainerState
from corral_schemas.cursor import Cursor
from corral_schemas.errors import CorralError, NotFoundError, error
from corral_schemas.names import INIT
from corral_schemas.queries import GuestsReply, ListArgs, ListReply, Nothing, StateReply

AT_ONCE_MAX = 256
"""Guests asked at the same time."""
NEAREST_MAX = 3
"""Hints given for a name that does not exist."""


@dataclass(frozen=True)
class FleetList:
    """Containers of many guests. Events after `cursor` continue from exactly this list."""

    containers: list[ContainerState]
    """By guest, with `guest` filled in."""
    cursor: Cursor
    """A place in each guest that answered: give it to `events(after=…)`."""
    silent: dict[str, CorralError] = field(default_factory=dict[str, CorralError])
    """Guests that did not answer, and why; nothing is known of their containers."""


async def list_fleet(connection: Connection, guests: Iterable[str] | None = None) -> FleetList:
    """Asks these guests (None: all that the broker knows of), at most AT_ONCE_MAX at a time. Raises only what asking the broker raises."""
    silent: dict[str, CorralError] = {}
    if guests is None:
        known = (await connection.ask("", "guests", Nothing(), GuestsReply)).guests
        names = [info.guest for info in known if info.up]
        for info in known:
            if not info.up:
                silent[info.guest] = error("guest_unreachable", f"guest {info.guest} is down: {info.reason or 'no word from it'}")
    else:
        names = list(dict.fromkeys(guests))
    replies: dict[str, ListReply] = {}
    gate = asyncio.Semaphore(AT_ONCE_MAX)

    async def ask(name: str) -> None:
        async with gate:
            try:
                replies[name] = await connection.ask(name, "list", ListArgs(), ListReply)
            except CorralError as why:
                silent[name] = why

    async with asyncio.TaskGroup() as tasks:
        for name in names:
            tasks.create_task(ask(name))
    ordered = sorted(replies)
    return FleetList(
        containers=[msgspec.structs.replace(state, guest=name) for name in ordered for state in replies[name].containers],
        cursor=Cursor(places={name: replies[name].place for name in ordered}),
        silent=dict(sorted(silent.items())),
    )


async def find(connection: Connection, name_or_path: str, guest: str | None = None) -> Process | Container:
    """See AsyncClient.find."""
    parts = name_or_path.split("/")
    if guest is None and len(parts) == 1:
        container, state = await _search(connection, name_or_path)
        return container
    if guest is None:
        guest, *parts = parts
    if not 1 <= len(parts) <= 2 or not guest or not all(parts):
        raise error("bad_request", f"{name_or_path!r} is neither NAME nor GUEST/NAME nor GUEST/NAME/EXEC", name=name_or_path)
    container, state = await _look(connection, guest, parts[0])
    return container if len(parts) == 1 else _process_of(connection, container, state, parts[1])


async def _look(connection: Connection, guest: str, name: str) -> tuple[Container, ContainerState]:
    try:
        state = (await connection.ask(guest, "state", ContainerTarget(container=name), StateReply)).state
    except NotFoundError as why:
        listed = await connection.ask(guest, "list", ListArgs(), ListReply)
        raise _not_found(f"{guest}/{name}", name, {state.id: f"{guest}/{state.id}" for state in listed.containers}) from why
    return _container_of(connection, guest, state), state


async def _search(connection: Connection, name: str) -> tuple[Container, ContainerState]:
    fleet = await list_fleet(connection)
    found = [state for state in fleet.containers if state.id == name]
    if len(found) > 1:
        candidates = [f"{state.guest}/{state.id}" for state in found]
        raise error("name_ambiguous", f"{name} is in {len(found)} guests: {', '.join(candidates[:8])}", candidates=candidates)
    if not found:
        raise _not_found(name, name, {state.id: f"{state.guest}/{state.id}" for state in fleet.containers}, sorted(fleet.silent))
    return _container_of(connection, found[0].guest, found[0]), found[0]


def _container_of(connection: Connection, guest: str, state: ContainerState) -> Container:
    init = next((process for process in state.processes if process.process == INIT), None)
    return Container(
        connection, guest, state.id, state.instance, init_instance=init.instance if init else "", init_pid=init.pid if init else state.pid
    )


def _process_of(connection: Connection, container: Container, state: ContainerState, name: str) -> Process:
    for info in state.processes:
        if info.process == name:
            return container.init if name == INIT else Process(connection, container, name, info.instance, info.pid)
    nearest = difflib.get_close_matches(name, [info.process for info in state.processes], NEAREST_MAX)
    raise error("process_not_found", f"no process {name} in {container.guest}/{container.name}{_hint(nearest)}", nearest=nearest)


def _not_found(wanted: str, name: str, known: dict[str, str], silent: Sequence[str] = ()) -> CorralError:
    """It is absent only where every guest has answered."""
    nearest = [known[match] for match in difflib.get_close_matches(name, list(known), NEAREST_MAX)]
    if not silent:
        return error("container_not_found", f"no container {wanted}{_hint(nearest)}", nearest=nearest)
    unheard = f"{count_text(len(silent), 'guest')} did not answer: {', '.join(silent[:4])}{', …' if len(silent) > 4 else ''}"
    why = f"no guest that answers has a container {wanted}{_hint(nearest)}; whether it is elsewhere is not known, since {unheard}"
    return error("guest_unreachable", why, nearest=nearest, silent=list(silent), sent=False)


def _hint(nearest: list[str]) -> str:
    return f"; nearest: {', '.join(nearest)}" if nearest else ""
