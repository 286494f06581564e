"""Corral's client library: containers in many guests, from one place.

`import corral` is light: each public name is loaded when it is first used.

    async with corral.AsyncClient() as client:
        container = await client.guest("vm-1").run(spec=corral.ContainerSpec(rootfs="/srv/alpine", args=["date"]))
        print(await container.init.stdout.read(), await container.wait())
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from corral.async_client import AsyncClient
    from corral.bundle.opening import pack_bundle
    from corral.bundle.pack import Packed
    from corral.bundle.push import Pushed, PushProgress
    from corral.completed import Completed, ProcessFailedError
    from corral.core.items import Event, EventGap, Resync
    from corral.fleet import FleetList
    from corral.sync.client import Client
    from corral_schemas.containers import ContainerSpec, Mount, OciProcess
    from corral_schemas.cursor import Cursor
    from corral_schemas.errors import (
        CorralError,
        DeadlineError,
        InvalidError,
        NotFoundError,
        OutcomeUnknownError,
        ResyncError,
        RetryError,
        RuntimeFailedError,
        StateError,
        UnauthorizedError,
    )
    from corral_schemas.exits import Exit, shell_status
    from corral_schemas.memory import keep_large_blocks
    from corral_schemas.stdio import Chunk, Gap, StdioOptions

__all__ = [
    "AsyncClient",
    "Chunk",
    "Client",
    "Completed",
    "ContainerSpec",
    "CorralError",
    "Cursor",
    "DeadlineError",
    "Event",
    "EventGap",
    "Exit",
    "FleetList",
    "Gap",
    "InvalidError",
    "Mount",
    "NotFoundError",
    "OciProcess",
    "OutcomeUnknownError",
    "Packed",
    "ProcessFailedError",
    "PushProgress",
    "Pushed",
    "Resync",
    "ResyncError",
    "RetryError",
    "RuntimeFailedError",
    "StateError",
    "StdioOptions",
    "UnauthorizedError",
    "keep_large_blocks",
    "pack_bundle",
    "shell_status",
]

_ERRORS = "corral_schemas.errors"
_HOMES = {
    "AsyncClient": "corral.async_client",
    "Client": "corral.sync.client",
    "Event": "corral.core.items",
    "EventGap": "corral.core.items",
    "Resync": "corral.core.items",
    "FleetList": "corral.fleet",
    "ContainerSpec": "corral_schemas.containers",
    "Mount": "corral_schemas.containers",
    "OciProcess": "corral_schemas.containers",
    "Cursor": "corral_schemas.cursor",
    "Exit": "corral_schemas.exits",
    "shell_status": "corral_schemas.exits",
    "Chunk": "corral_schemas.stdio",
    "Gap": "corral_schemas.stdio",
    "StdioOptions": "corral_schemas.stdio",
    **{name: _ERRORS for name in __all__ if name.endswith("Error")},
    "Completed": "corral.completed",
    "Packed": "corral.bundle.pack",
    "PushProgress": "corral.bundle.push",
    "Pushed": "corral.bundle.push",
    "keep_large_blocks": "corral_schemas.memory",
    "pack_bundle": "corral.bundle.opening",
    "ProcessFailedError": "corral.completed",
}


def __getattr__(name: str) -> Any:
    """Loads a public name from its module (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'corral' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
