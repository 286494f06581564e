"""Guests and the bundles they keep without `await`: each stands for the asynchronous one of the same name, which documents it."""

from collections.abc import Sequence

from corral.bundle.bundles import Bundles as AsyncBundles
from corral.bundle.pack import Packed
from corral.bundle.push import OnProgress, Pushed
from corral.guest import Guest as AsyncGuest
from corral.sync.container import Container
from corral.sync.portal import Portal
from corral_schemas.bundles import InspectBundleReply, ListBundlesReply, RemovedBundlesReply
from corral_schemas.containers import ContainerSpec
from corral_schemas.queries import ListReply
from corral_schemas.stdio import StdioOptions

_PLAIN = StdioOptions()


class Guest:
    """See corral.guest.Guest."""

    def __init__(self, portal: Portal, guest: AsyncGuest) -> None:
        self._portal, self._guest = portal, guest

    def __repr__(self) -> str:
        return repr(self._guest)

    @property
    def name(self) -> str:
        """Return its name."""
        return self._guest.name

    def create(
        self,
        name: str | None = None,
        *,
        bundle: str | None = None,
        spec: ContainerSpec | None = None,
        stdio: StdioOptions = _PLAIN,
        request_id: str | None = None,
        timeout_s: float | None = None,
    ) -> "Container":
        """Create a container whose program waits for `start`."""
        made = self._guest.create(name, bundle=bundle, spec=spec, stdio=stdio, request_id=request_id, timeout_s=timeout_s)
        return Container(self._portal, self._portal.run(made))

    def run(
        self,
        name: str | None = None,
        *,
        bundle: str | None = None,
        spec: ContainerSpec | None = None,
        stdio: StdioOptions = _PLAIN,
        auto_delete: bool = False,
        request_id: str | None = None,
        timeout_s: float | None = None,
    ) -> "Container":
        """Create and start a container, in one command."""
        made = self._guest.run(
            name, bundle=bundle, spec=spec, stdio=stdio, auto_delete=auto_delete, request_id=request_id, timeout_s=timeout_s
        )
        return Container(self._portal, self._portal.run(made))

    def list(self) -> ListReply:
        """Return its containers, all at one place of its journal."""
        return self._portal.run(self._guest.list())

    @property
    def bundles(self) -> "Bundles":
        """Return the bundles that were pushed to it."""
        return Bundles(self._portal, self._guest.bundles)

    def container(self, name: str, instance: str = "") -> "Container":
        """Return a container by name, without asking the guest."""
        return Container(self._portal, self._guest.container(name, instance))


class Bundles:
    """See corral.bundle.bundles.Bundles."""

    def __init__(self, portal: Portal, bundles: AsyncBundles) -> None:
        self._portal, self._bundles = portal, bundles

    def push(self, bundle: Packed, names: Sequence[str] = (), *, on_progress: OnProgress | None = None) -> Pushed:
        """Push a packed bundle (`corral.pack_bundle`), and give it names. Only content that the guest lacks is sent."""
        return self._portal.run(self._bundles.push(bundle, names, on_progress=on_progress))

    def list(self) -> ListBundlesReply:
        """Return its bundles, interrupted pushes, and the space left."""
        return self._portal.run(self._bundles.list())

    def inspect(self, bundle: str, *, entries_from: int = 0, entries_max: int = 0) -> InspectBundleReply:
        """Return one bundle, by NAME[:TAG], digest, or NAME@digest; with entries_max also that many of its files."""
        return self._portal.run(self._bundles.inspect(bundle, entries_from=entries_from, entries_max=entries_max))

    def remove(self, bundle: str) -> RemovedBundlesReply:
        """Remove a name; the last name, or a digest, removes the bundle. Raises bundle_not_found, bundle_in_use."""
        return self._portal.run(self._bundles.remove(bundle))

    def collect(self, *, named: bool = False, idle_s: float = 3_600.0) -> RemovedBundlesReply:
        """Remove bundles that no container uses and no name keeps (named: whatever their names), and pushes idle for idle_s seconds."""
        return self._portal.run(self._bundles.collect(named=named, idle_s=idle_s))
