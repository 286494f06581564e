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
    """What was pushed to a guest; nothing is asked of it before a method is called."""

    def __init__(self, connection: Connection, guest: str) -> None:
        self._connection, self._guest = connection, guest

    async def push(self, bundle: Packed, names: Sequence[str] = (), *, on_progress: OnProgress | None = None) -> Pushed:
        """Brings a packed bundle (`corral.pack_bundle`) over, and gives it names. Only what the guest lacks is sent.

        Goes on by itself after a cut, or a restart of broker or worker, of up to a minute; called again later, it goes on too.
        Raises bundle_invalid, storage_full, guest_unreachable, unauthorized, file_changed.
        """
        return await Push(self._connection, self._guest, bundle, names, on_progress).run()

    async def list(self) -> ListBundlesReply:
        """Those that are there, pushes that were broken off, and the space left."""
        return await self._connection.ask(self._guest, "list_bundles", ListBundlesArgs(), ListBundlesReply)

    async def inspect(self, bundle: str, *, entries_from: int = 0, entries_max: int = 0) -> InspectBundleReply:
        """One of them, by NAME[:TAG], digest, or NAME@digest; with entries_max also so many of its files. Raises bundle_not_found."""
        args = InspectBundleArgs(bundle=bundle, entries_from=entries_from, entries_max=entries_max)
        return await self._connection.ask(self._guest, "inspect_bundle", args, InspectBundleReply)

    async def remove(self, bundle: str) -> RemovedBundlesReply:
        """Takes a name away, and with the last one the bundle; by digest: the bundle. Raises bundle_not_found, bundle_in_use."""
        return await self._connection.ask(self._guest, "remove_bundle", RemoveBundleArgs(bundle=bundle), RemovedBundlesReply)

    async def collect(self, *, named: bool = False, idle_s: float = 3_600.0) -> RemovedBundlesReply:
        """Removes what no container uses and no name keeps (named: whatever its names), and pushes nobody went on with for idle_s."""
        args = CollectBundlesArgs(named=named, idle_ms=int(idle_s * 1000))
        return await self._connection.ask(self._guest, "collect_bundles", args, RemovedBundlesReply, timeout_s=COLLECT_TIMEOUT_S)
