"""A guest: make and list containers in it."""

from typing import TYPE_CHECKING

from corral.connection import Connection
from corral.container import Container
from corral.words import generated_name
from corral_schemas.commands import CreateArgs, CreateReply, RunArgs
from corral_schemas.containers import ContainerSpec
from corral_schemas.errors import error
from corral_schemas.queries import ListArgs, ListReply
from corral_schemas.stdio import StdioOptions

if TYPE_CHECKING:
    from corral.bundle.bundles import Bundles

_PLAIN = StdioOptions()


class Guest:
    """A guest by name. Nothing is asked of it before a method is called."""

    def __init__(self, connection: Connection, name: str) -> None:
        self._connection = connection
        self.name = name

    def __repr__(self) -> str:
        return f"<Guest {self.name}>"

    async def create(
        self,
        name: str | None = None,
        *,
        bundle: str | None = None,
        spec: ContainerSpec | None = None,
        stdio: StdioOptions = _PLAIN,
        request_id: str | None = None,
        timeout_s: float | None = None,
    ) -> Container:
        """Create a container whose program waits for `start`.

        name: None generates one. bundle (an OCI bundle directory in the guest) or spec: exactly one. request_id: the same one with the
        same content gives the same container.

        Raises container_already_exists, bundle_invalid, bundle_not_found, command_not_found, runtime_failed, storage_full, bad_request.
        """
        _check_one(bundle, spec)
        args = CreateArgs(container=name or generated_name(), bundle=bundle or "", spec=spec, stdio=stdio)
        return self._made(await self._connection.ask(self.name, "create", args, CreateReply, timeout_s=timeout_s, request_id=request_id))

    async def run(
        self,
        name: str | None = None,
        *,
        bundle: str | None = None,
        spec: ContainerSpec | None = None,
        stdio: StdioOptions = _PLAIN,
        auto_delete: bool = False,
        request_id: str | None = None,
        timeout_s: float | None = None,
    ) -> Container:
        """Create and start a container, in one command.

        auto_delete: the worker deletes it after its exit and the end of its output; both stay readable. The other arguments and the
        errors are those of `create`.
        """
        _check_one(bundle, spec)
        args = RunArgs(container=name or generated_name(), bundle=bundle or "", spec=spec, stdio=stdio, auto_delete=auto_delete)
        return self._made(await self._connection.ask(self.name, "run", args, CreateReply, timeout_s=timeout_s, request_id=request_id))

    async def list(self) -> ListReply:
        """Return its containers, all at one place of its journal."""
        return await self._connection.ask(self.name, "list", ListArgs(), ListReply)

    @property
    def bundles(self) -> "Bundles":
        """Return the bundles that were pushed to it."""
        from corral.bundle.bundles import Bundles  # only now: it needs what few programs do

        return Bundles(self._connection, self.name)

    def container(self, name: str, instance: str = "") -> Container:
        """Return a container by name, without asking the guest."""
        return Container(self._connection, self.name, name, instance)

    def _made(self, reply: CreateReply) -> Container:
        return Container(
            self._connection,
            self.name,
            reply.container,
            reply.instance,
            init_instance=reply.process_instance,
            init_pid=reply.pid,
            place=reply.place,
            fresh=True,
            init_exit=reply.exit,
        )


def _check_one(bundle: str | None, spec: ContainerSpec | None) -> None:
    if bool(bundle) == (spec is not None):
        raise error("bad_request", "a container is made from a bundle or from a spec: give exactly one of them")
