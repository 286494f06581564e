"""The guest's live state: containers and processes as the journal has them, the shims that hold them, and who waits for what.

Handlers change it only through the methods here, so that memory and journal never differ.
"""

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cached_property, partial
from itertools import islice

from corral_schemas.commands import CreateArgs
from corral_schemas.errors import CorralError, error
from corral_schemas.limits import REMAINS_KEPT_S, REQUESTS_KEPT_S, RUNTIME_CALLS_PER_CORE
from corral_schemas.names import INIT, instance_time_ms, new_instance
from corral_schemas.queries import Load
from corral_schemas.stdio import StdioOptions
from corral_worker.base.keys import Keys
from corral_worker.base.paths import GuestPaths
from corral_worker.bundle_store.store import BundleStore
from corral_worker.containers.turns import Turns
from corral_worker.containers.waiters import Waiters
from corral_worker.journal.journal import Journal
from corral_worker.journal.records import ContainerRecord, ProcessRecord
from corral_worker.runtime import overlay
from corral_worker.runtime.containment import ANYWHERE, Roots
from corral_worker.runtime.runc import Runtime
from corral_worker.shim.base.linux import is_exhausted
from corral_worker.shim.cgroup.cgroup import guest_cgroup
from corral_worker.shim.messages import Notice
from corral_worker.shims.port import Body, ShimGoneError, ShimLink, ShimObserver, ShimRefusedError, Shims

log = logging.getLogger(__name__)

FORK_ATTEMPTS, FORK_RETRY_S = 20, 0.1


NEAREST_OF_MAX = 1_000
"""Names that a mistyped one is compared with: finding no container must not hold up a guest with very many."""


@dataclass(frozen=True)
class Settings:
    """What a worker was started with."""

    guest: str
    paths: GuestPaths
    runtime: Runtime
    labels: dict[str, str] = field(default_factory=dict)
    durability: str = "power"
    keys: Keys | None = None
    allowed_roots: Roots = ANYWHERE
    allow_privileged: bool = False
    """Containers may be privileged, and with allowed roots have more than docker's default."""
    zygote_is_unit: bool = False
    """The service manager starts the zygote; otherwise the worker does."""
    requests_kept_s: float = REQUESTS_KEPT_S
    remains_kept_s: float = REMAINS_KEPT_S

    @cached_property
    def cgroup_parent(self) -> str:
        """Below it each container has its cgroup, in every hierarchy."""
        return guest_cgroup(self.guest, self.paths.state)

    def cgroup(self, instance: str) -> str:
        return f"{self.cgroup_parent}/{instance}"


class Guest:
    """All of one guest that handlers share. Belongs to the event loop's thread."""

    def __init__(self, settings: Settings, worker: str, journal: Journal, shims: Shims) -> None:
        self.settings, self.worker, self.journal, self.shims = settings, worker, journal, shims
        self.containers: dict[str, ContainerRecord] = {}  # instance -> live container
        self.processes: dict[str, dict[str, ProcessRecord]] = {}  # container instance -> process instance -> process
        self.links: dict[str, ShimLink] = {}  # container instance -> its shim
        self.boot = ""  # id of the guest's present boot
        self._shim_observer: ShimObserver | None = None
        self._newest: dict[str, str] = {}  # name -> instance, live ones
        self._newest_ms = instance_time_ms(journal.store.newest_instance())
        """Time of the newest instance: the next is newer, also after the wall clock was set back."""
        self._linking: dict[str, asyncio.Task[ShimLink]] = {}
        self._held: dict[str, list[Notice]] = {}  # process instance -> notices that must not overtake its start
        self.turns = Turns(RUNTIME_CALLS_PER_CORE * (os.cpu_count() or 1))
        self.waiters = Waiters(journal)
        self.bundle_store = BundleStore(settings.paths.bundles, lambda: [(one.name, one.rootfs_path) for one in self.containers.values()])

    @cached_property
    def overlays(self) -> bool:
        """Whether containers' layers can be overlays here. Asked in a thread: it is tried."""
        return overlay.available(self.settings.paths.state)

    def new_instance(self) -> str:
        self._newest_ms = max(time.time_ns() // 1_000_000, self._newest_ms + 1)
        return new_instance(self._newest_ms * 1_000_000, os.urandom(10))

    def load(self) -> Load:
        running = sum(container.status in ("running", "paused") for container in self.containers.values())
        return Load(containers=len(self.containers), running=running, runtime_calls=self.turns.running, queued=self.turns.waiting)

    # -- finding --------------------------------------------------------------------------------------------------------------

    def container_named(self, name: str) -> ContainerRecord | None:
        """The live container of that name."""
        return self.containers.get(self._newest.get(name, ""))

    def find_container(self, name: str, instance: str = "") -> ContainerRecord:
        """The live container. Raises container_not_found, also when another instance has the name now."""
        found = self.container_named(name)
        if found is None:
            raise self._no_container(name)
        if instance and instance != found.instance:
            raise error("container_not_found", f"container {name!r} is instance {found.instance} now, not {instance}", container=name)
        return found

    def _no_container(self, name: str) -> CorralError:
        """With the names that are nearest to it, for who has mistyped it."""
        known = [container.name for container in islice(self.containers.values(), NEAREST_OF_MAX)]
        nearest = get_close_matches(name, known)
        return error("container_not_found", f"no container {name!r} on guest {self.settings.guest}", container=name, nearest=nearest)

    def find_remains(self, name: str, instance: str = "") -> tuple[ContainerRecord, dict[str, ProcessRecord]]:
        """A container, live or deleted but still kept. Raises container_not_found."""
        live = self.containers.get(instance) if instance else self.container_named(name)
        if live is not None and live.name == name:
            return live, self.processes[live.instance]
        kept = self.journal.store.container(instance) if instance else self.journal.store.newest_container(name)
        if kept is None or kept.name != name:
            raise self._no_container(name)
        return kept, {process.instance: process for process in self.journal.store.processes(kept.instance)}

    def find_process(
        self, container: ContainerRecord, processes: dict[str, ProcessRecord], process: str, process_instance: str = ""
    ) -> ProcessRecord:
        """The newest process of that id. Raises process_not_found."""
        found = [one for one in processes.values() if one.id == process and process_instance in ("", one.instance)]
        if not found:
            where = f"{container.name}/{process}"
            raise error("process_not_found", f"no process {where} on guest {self.settings.guest}", process=process, outcome="not_found")
        return max(found, key=lambda one: one.instance)

    # -- containers and processes come and go -------------------------------------------------------------------------------

    def add_container(self, args: CreateArgs, instance: str, *, auto_delete: bool) -> ContainerRecord:
        """A container about to be created, recorded."""
        init = self.new_instance()
        container = ContainerRecord(instance=instance, name=args.container, status="creating", init=init, auto_delete=auto_delete)
        self.adopt_container(container, [])
        self.journal.save(container)
        self.add_process(container, init, INIT, args.stdio)
        return container

    def adopt_container(self, container: ContainerRecord, processes: list[ProcessRecord]) -> None:
        """Takes a recorded container into the live state."""
        self.containers[container.instance] = container
        self._newest_ms = max(self._newest_ms, instance_time_ms(container.instance))
        self.processes[container.instance] = {process.instance: process for process in processes}
        self._newest[container.name] = container.instance

    def add_process(self, container: ContainerRecord, instance: str, process_id: str, stdio: StdioOptions) -> ProcessRecord:
        """A process about to be started, recorded."""
        process = ProcessRecord(
            instance=instance,
            id=process_id,
            container=container.instance,
            container_name=container.name,
            tty=stdio.tty,
            stdin=stdio.stdin,
            policy=stdio.policy,
            consumer=stdio.consumer,
            init=instance == container.init,
            boot=self.boot,
        )
        self.processes[container.instance][instance] = process
        self.journal.save(process)
        return process

    def forget_process(self, process: ProcessRecord) -> None:
        """Drops an exec that never started."""
        self.processes.get(process.container, {}).pop(process.instance, None)
        self.journal.execute("DELETE FROM processes WHERE instance = ?", (process.instance,))

    def forget_container(self, container: ContainerRecord) -> None:
        """Drops a container that was never created."""
        self._retire(container)
        self.journal.execute("DELETE FROM processes WHERE container = ?", (container.instance,))
        self.journal.execute("DELETE FROM containers WHERE instance = ?", (container.instance,))

    def mark_deleted(self, container: ContainerRecord) -> None:
        """Frees the name; exits and output stay for their retention time."""
        container.status, container.deleted_ns = "deleted", (self.journal.worker_ms() + 1) * 1_000_000
        self.journal.save(container)
        self._retire(container)

    def _retire(self, container: ContainerRecord) -> None:
        self.containers.pop(container.instance, None)
        self.processes.pop(container.instance, None)
        if self._newest.get(container.name) == container.instance:
            del self._newest[container.name]
        link = self.links.get(container.instance)
        if link is not None:
            link.closing = True

    # -- shims -----------------------------------------------------------------------------------------------------------------

    async def shim(self, container: ContainerRecord) -> ShimLink:
        """The container's shim, forked where there is none. Raises ShimGoneError."""
        link = self.links.get(container.instance)
        if link is not None and link.alive:
            return link
        task = self._linking.get(container.instance)
        if task is None:
            task = self._linking[container.instance] = asyncio.create_task(self._link(container))
            task.add_done_callback(lambda _: self._linking.pop(container.instance, None))
        return await asyncio.shield(task)

    async def _link(self, container: ContainerRecord) -> ShimLink:
        last: Exception | None = None
        for _ in range(FORK_ATTEMPTS):
            try:
                await self.shims.fork(container.instance, container.name)
                return await self.connect_shim(container.instance, newborn=True)
            except (ShimGoneError, OSError) as why:  # one that died before it was asked anything did nothing: another takes its place
                log.info("container %s: no shim yet: %s", container.name, why)
                last = why
                await asyncio.sleep(FORK_RETRY_S)
        raise ShimGoneError(f"none stood after {FORK_ATTEMPTS} tries, the last: {last}") from last

    def link_later(self, instance: str, reached: "asyncio.Task[bool]") -> None:
        """Has whoever wants this shim wait until it answers, and no second one is forked meanwhile."""

        async def link() -> ShimLink:
            if not await asyncio.shield(reached):
                raise ShimGoneError(instance)
            return self.links[instance]

        task = self._linking[instance] = asyncio.create_task(link())
        task.add_done_callback(lambda _: self._linking.pop(instance, None))
        task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())  # perhaps nobody waited for it

    async def connect_shim(self, instance: str, *, newborn: bool = False) -> ShimLink:
        """Connects to a shim that is there. Raises OSError or ShimGoneError."""
        connect = partial(self.shims.connect, instance, observer=self, newborn=newborn)
        try:
            link = await connect(generation=self.journal.generation)
        except ShimRefusedError as refused:  # the guest's lock is ours: the higher generation is that of a journal since lost or set back
            self.journal.outrank(refused.generation)
            link = await connect(generation=self.journal.generation)
        self.links[instance] = link
        return link

    def observe_shims(self, observer: ShimObserver) -> None:
        """From now on it is told of notices that need not be held back, and of shims that ended unexpectedly."""
        self._shim_observer = observer

    def gone(self, instance: str) -> None:
        """See ShimObserver."""
        link = self.links.get(instance)
        if link is None or link.alive:  # an older connection's end
            return
        del self.links[instance]
        if not link.closing and self._shim_observer is not None:
            self._shim_observer.gone(instance)

    def notice(self, instance: str, notice: Notice) -> None:
        """See ShimObserver."""
        held = self._held.get(str(notice.get("process", "")))
        if held is not None:
            held.append(notice)
        elif self._shim_observer is not None:
            self._shim_observer.notice(instance, notice)

    @asynccontextmanager
    async def holding(self, process: ProcessRecord) -> AsyncIterator[None]:
        """Keeps back what the shim says of a process until its start is recorded: `started` comes before `exit`."""
        held = self._held.setdefault(process.instance, [])
        try:
            yield
        finally:
            self._held.pop(process.instance, None)
            for notice in held:
                self.notice(process.container, notice)


def no_shim(why: Exception, what: str) -> CorralError:
    """The error where a shim cannot be had."""
    cause = why if isinstance(why, OSError) else why.__cause__
    code = "resource_exhausted" if isinstance(cause, OSError) and is_exhausted(cause) else "runtime_failed"
    return error(code, f"{what}: {why}")


def response_error(response: Body, to_code: Callable[[str, int | None], CorralError]) -> CorralError | None:
    """The error a shim's response carries, with our code; None for a success."""
    failure = response.get("error")
    if failure is None:
        return None
    kind, text = failure["kind"], str(failure.get("text", ""))
    if kind == "runtime":
        return to_code(text, failure.get("exit_status"))
    codes = {"spawn": "runtime_unavailable", "timeout": "deadline_exceeded", "stdin_gap": "bad_request"}
    return error(codes.get(kind, kind), text or kind, **failure.get("details", {}))
