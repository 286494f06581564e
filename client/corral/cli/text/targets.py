"""CONTAINER on the command line: GUEST/NAME[/EXEC], or NAME[/EXEC] with --guest, or a NAME that only one guest has."""

from typing import TYPE_CHECKING, NamedTuple

import click

if TYPE_CHECKING:
    from corral import AsyncClient
    from corral.container import Container
    from corral.process import Process


class Target(NamedTuple):
    """What a word names; guest empty: unique over all guests; process empty: the container (its init)."""

    text: str
    guest: str
    container: str
    process: str


def parse_target(text: str, guest: str = "") -> Target:
    """Raises click.BadParameter for a word of another shape."""
    parts = text.split("/")
    if not all(parts) or len(parts) > 3:
        raise click.BadParameter(f"{text!r} is not GUEST/NAME[/EXEC] or NAME")
    if not guest:
        if len(parts) == 1:
            return Target(text, "", parts[0], "")
        return Target(text, parts[0], parts[1], parts[2] if len(parts) == 3 else "")
    if len(parts) > 1 and parts[0] == guest:
        parts = parts[1:]
    if len(parts) == 3:
        raise click.BadParameter(f"{text!r} names guest {parts[0]}, --guest names {guest}")
    return Target(text, guest, parts[0], parts[1] if len(parts) == 2 else "")


def container_only(target: Target) -> Target:
    """Raises click.BadParameter where the word names an exec."""
    if target.process:
        raise click.BadParameter(f"{target.text!r} names a process; a container (GUEST/NAME) is wanted here")
    return target


async def find_container(client: "AsyncClient", target: Target) -> "Container":
    """Without a guest the guests are asked who has it; with one nothing is asked here.

    Raises name_ambiguous, container_not_found.
    """
    from corral_schemas.names import check_container_id, check_guest_name

    check_container_id(target.container)
    if target.guest:
        check_guest_name(target.guest)
        return client.guest(target.guest).container(target.container)
    from corral.container import Container

    found = await client.find(target.container)
    return found if isinstance(found, Container) else found.container


async def find_process(client: "AsyncClient", target: Target) -> "Process":
    """The exec that the target names, or the container's init. Raises as find_container."""
    container = await find_container(client, target)
    return container.process(target.process) if target.process else container.init


def path_of(container: "Container", process: str = "") -> str:
    """GUEST/NAME or GUEST/NAME/EXEC."""
    return "/".join(part for part in (container.guest, container.name, process if process != "init" else "") if part)
