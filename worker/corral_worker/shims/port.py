"""How the worker gets at shims: a port, and the real one (Unix sockets and a zygote)."""

import asyncio
from typing import Protocol

from corral_worker.base.paths import GuestPaths
from corral_worker.shims.message_stream import Body, MessageStream
from corral_worker.shims.shim_link import ShimGoneError, ShimLink, ShimObserver, ShimRefusedError, ShimVersionError
from corral_worker.shims.zygote_link import ZygoteLink

__all__ = ["Body", "ShimGoneError", "ShimLink", "ShimObserver", "ShimRefusedError", "ShimVersionError", "Shims", "UnixShims"]


class Shims(Protocol):
    """Forks shims and connects to them."""

    async def start(self) -> None:
        """Makes sure that shims can be forked."""
        ...

    async def fork(self, instance: str, name: str) -> None:
        """Has a shim forked, or finds the one there is. Raises ShimGoneError."""
        ...

    async def connect(self, instance: str, generation: int, observer: ShimObserver, *, newborn: bool) -> ShimLink:
        """Connects and says hello (`newborn`: forked just now).

        Raises OSError where nobody listens, ShimGoneError when refused, ShimVersionError when the shim is of a newer version.
        """
        ...

    async def ended(self, instance: str) -> None:
        """After a shim died: returns once what it had running (a runtime call in its middle) has been killed too, or after a while."""
        ...

    def quit(self) -> None:
        """Ends what forks; shims live on."""
        ...

    def close(self) -> None: ...


class UnixShims:
    """The real one."""

    def __init__(self, paths: GuestPaths, guest: str, *, zygote_is_unit: bool = False) -> None:
        self._paths, self._guest = paths, guest
        self._zygote = ZygoteLink(paths.run, paths.state, guest, is_unit=zygote_is_unit)
        self.start, self.fork, self.ended = self._zygote.start, self._zygote.fork, self._zygote.ended
        self.quit, self.close = self._zygote.quit, self._zygote.close

    async def connect(self, instance: str, generation: int, observer: ShimObserver, *, newborn: bool) -> ShimLink:
        link = ShimLink(instance, observer)
        loop = asyncio.get_running_loop()
        path = str(self._paths.shim_socket(instance))
        _, stream = await loop.create_unix_connection(lambda: MessageStream(link.message, link.closed), path)
        await link.hello(stream, generation, self._guest, newborn=newborn)
        return link
