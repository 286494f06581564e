"""The bundles of one guest."""

from collections.abc import Sequence

from corral.bundle.pack import Packed
from corral.bundle.push import OnProgress, Push, Pushed
from corral.connection import Connection
from corral_schemas.bundles import (
    CollectBundlesArgs,
    InspectBundleArgs,
    InspectBundleReply,
    ListBundlesArgs,
    ListBundlesReply,
    RemoveBundleArgs,
    RemovedBundlesReply,
)

COLLECT_TIMEOUT_S = 600.0


class Bundles:
    """The bundles of a guest. Nothing is asked of it before a method is called."""

    def __init__(self, connection: Connection, guest: str) -> None:
        self._connection, self._guest = connection, guest

    async def push(self, bundle: Packed, names: Sequence[str] = (), *, on_progress: OnProgress | None = None) -> Pushed:
        """Push a packed bundle (`corral.pack_bundle`), and give it names. Only content that the guest lacks is sent.

        It resumes by itself after a cut, or a restart of broker or worker, of up to a minute; called again later, it resumes too. Raises
        bundle_invalid, storage_full, guest_unreachable, unauthorized, file_changed.
        """
        return await Push(self._connection, self._guest, bundle, names, on_progress).run()

    async def list(self) -> ListBundlesReply:
        """Return its bundles, interrupted pushes, and the space left."""
        return await self._connection.ask(self._guest, "list_bundles", ListBundlesArgs(), ListBundlesReply)

    async def inspect(self, bundle: str, *, entries_from: int = 0, entries_max: int = 0) -> InspectBundleReply:
        """Return one bundle, by NAME[:TAG], digest, or NAME@digest; with entries_max also that many of its files.

        Raises bundle_not_found.
        """
        args = InspectBundleArgs(bundle=bundle, entries_from=entries_from, entries_max=entries_max)
        return await self._connection.ask(self._guest, "inspect_bundle", args, InspectBundleReply)

    async def remove(self, bundle: str) -> RemovedBundlesReply:
        """Remove a name; the last name, or a digest, removes the bundle. Raises bundle_not_found, bundle_in_use."""
        return await self._connection.ask(self._guest, "remove_bundle", RemoveBundleArgs(bundle=bundle), RemovedBundlesReply)

    async def collect(self, *, named: bool = False, idle_s: float = 3_600.0) -> RemovedBundlesReply:
        """Remove bundles that no container uses and no name keeps (named: whatever their names), and pushes idle for idle_s seconds."""
        args = CollectBundlesArgs(named=named, idle_ms=int(idle_s * 1000))
        return await self._connection.ask(self._guest, "collect_bundles", args, RemovedBundlesReply, timeout_s=COLLECT_TIMEOUT_S)
