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
        made = self._guest.run(
            name, bundle=bundle, spec=spec, stdio=stdio, auto_delete=auto_delete, request_id=request_id, timeout_s=timeout_s
        )
        return Container(self._portal, self._portal.run(made))

    def list(self) -> ListReply:
        return self._portal.run(self._guest.list())

    @property
    def bundles(self) -> "Bundles":
        return Bundles(self._portal, self._guest.bundles)

    def container(self, name: str, instance: str = "") -> "Container":
        return Container(self._portal, self._guest.container(name, instance))


class Bundles:
    """See corral.bundle.bundles.Bundles."""

    def __init__(self, portal: Portal, bundles: AsyncBundles) -> None:
        self._portal, self._bundles = portal, bundles

    def push(self, bundle: Packed, names: Sequence[str] = (), *, on_progress: OnProgress | None = None) -> Pushed:
        return self._portal.run(self._bundles.push(bundle, names, on_progress=on_progress))

    def list(self) -> ListBundlesReply:
        return self._portal.run(self._bundles.list())

    def inspect(self, bundle: str, *, entries_from: int = 0, entries_max: int = 0) -> InspectBundleReply:
        return self._portal.run(self._bundles.inspect(bundle, entries_from=entries_from, entries_max=entries_max))

    def remove(self, bundle: str) -> RemovedBundlesReply:
        return self._portal.run(self._bundles.remove(bundle))

    def collect(self, *, named: bool = False, idle_s: float = 3_600.0) -> RemovedBundlesReply:
        return self._portal.run(self._bundles.collect(named=named, idle_s=idle_s))
