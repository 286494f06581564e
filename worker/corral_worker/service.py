"""The worker as a whole: puts journal, guest, handlers and broker sessions together and runs them."""

import asyncio
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from corral_schemas.frames import CommandHeader
from corral_schemas.names import new_instance
from corral_schemas.queries import InfoReply, Nothing
from corral_schemas.session import Registered
from corral_worker.base.tasks import Tasks
from corral_worker.bundle_store.unsynced import Memory
from corral_worker.commands.handlers import bundles
from corral_worker.commands.ops import CHANGES, queries
from corral_worker.commands.requests import Query, Requests
from corral_worker.containers.guest import Guest, Settings
from corral_worker.containers.spools import LOST_WITH_SHIM, Spools
from corral_worker.journal.journal import JOURNAL_MADE, Journal
from corral_worker.journal.port import OpenStore
from corral_worker.journal.records import EventRecord
from corral_worker.journal.store import Durability, SqliteStore
from corral_worker.reconcile import adopt, retention
from corral_worker.reconcile.drift import Drift
from corral_worker.reconcile.janitor import sweep
from corral_worker.reconcile.notices import Notices
from corral_worker.reconcile.rollback_check import set_back
from corral_worker.reconcile.truncated_output import note_reads
from corral_worker.shim.cgroup.cgroup import remove_guest_cgroups
from corral_worker.shim.messages import Notice
from corral_worker.shims.port import Shims, UnixShims
from corral_worker.uplink.about import About
from corral_worker.uplink.dialer import Dialer, ZmqDialer
from corral_worker.uplink.session import BrokerSession, Face, Route
from corral_worker.uplink.stdio_feed import StdioFeed

log = logging.getLogger(__name__)

LEAVE_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Parts:
    """What a worker stands on: storage, shims, network. A simulation brings its own."""

    open_store: OpenStore
    shims: Shims
    dialer: Dialer


def real_parts(settings: Settings) -> Parts:
    """SQLite, Unix sockets, ZeroMQ. Raises JournalCorruptError once the store is opened."""
    durability: Durability = "process" if settings.durability == "process" else "power"
    return Parts(
        open_store=partial(SqliteStore, settings.paths.journal, durability),
        shims=UnixShims(settings.paths, settings.guest, zygote_is_unit=settings.zygote_is_unit),
        dialer=ZmqDialer(settings.keys),
    )


class Worker:
    """One guest's worker, and the observer of its shims. `run` returns when it was told to stop."""

    def __init__(self, settings: Settings, brokers: list[str], runtime_version: str, parts: Parts) -> None:
        self._settings = settings
        self._tasks = Tasks()
        self._parts = parts
        self._brokers: list[BrokerSession] = []
        self.instance = new_instance(time.time_ns(), os.urandom(10))
        self.journal = Journal(parts.open_store, settings.guest, self.instance, self._publish)
        # where it stood before this worker wrote to it: what a broker has seen beyond that was set back
        self._found = self.journal.place()
        self.guest = Guest(settings, self.instance, self.journal, parts.shims)
        self._spools = Spools(self.guest)
        self._notices = Notices(self.guest, self._tasks)
        self._feed = StdioFeed(self.guest, self._spools, self._tasks, self._publish_stdio)
        self._requests = Requests(self.guest, self._queries(), CHANGES, self._send, self._tasks, bundles.VIEWS)
        self._about = About(self.guest, self._found, runtime_version, brokers)
        self._face = Face(self._about.register, self._about.heartbeat, self._requests.take, self._registered, self._subscriptions_changed)
        self._broker_addresses = brokers

    def _queries(self) -> dict[str, Query]:
        return {
            **queries(self._spools),
            "cancel": lambda guest, args: self._requests.cancel(guest, args),
            "result": lambda guest, args: self._requests.result(guest, args),
            "info": self._info,
        }

    async def _info(self, guest: Guest, args: Nothing) -> InfoReply:
        return self._about.info({**self._requests.counters, "replies_dropped": sum(one.replies_dropped for one in self._brokers)})

    # -- life -------------------------------------------------------------------------------------------------------------------

    async def run(self, stop: asyncio.Event, ready: Callable[[], None]) -> None:
        """Takes the guest over, serves brokers, and leaves shims and containers alone when told to stop."""
        self.guest.observe_shims(self)
        journal_is_new = not self.journal.epoch
        if journal_is_new:
            self._begin_journal()
        self.journal.set_meta("guest", self._settings.guest)
        await self.guest.shims.start()
        taken = await adopt.take_over(self.guest, self._notices, journal_is_new=journal_is_new)
        await self.guest.bundle_store.load(Memory(self._settings.paths.memory, self.guest.boot))
        for record in taken.unfinished:
            self._requests.go_on(record)
        for silent in taken.silent:
            settled = self._tasks.start(adopt.adopt_late(self.guest, self._notices, silent))
            for record in silent.unfinished:
                self._requests.go_on(record, after=settled)
        self._notices.resume_auto_deletes()
        await self.journal.durable()
        self._tasks.start(retention.keep_tidy(self.guest, self._spools))
        self._tasks.start(note_reads(self.guest, self._spools))
        self._tasks.start(self.guest.bundle_store.verify_again())
        self._tasks.start(Drift(self.guest).watch())
        for address in self._broker_addresses:
            session = BrokerSession(address, self._parts.dialer, self._face)
            self._brokers.append(session)
            self._tasks.start(session.run())
        ready()
        await stop.wait()
        await self._leave()

    def _begin_journal(self) -> None:
        """The first epoch of a journal; loudly where there was another one before."""
        if not any(self._settings.paths.instances.iterdir()):
            self.journal.new_epoch(JOURNAL_MADE)
            return
        log.error(
            "%s is new, but containers were made here before: their journal is lost, and with it the requests and events in it; "
            "a new epoch begins, and what runs is adopted",
            self._settings.paths.journal,
        )
        self.journal.new_epoch("journal lost")

    async def _leave(self) -> None:
        for session in self._brokers:
            session.goodbye()
        try:
            async with asyncio.timeout(LEAVE_TIMEOUT_S):
                await self.journal.durable()
        except TimeoutError:
            log.error("the journal could not be written to its end within %.0f s", LEAVE_TIMEOUT_S)
        await self._tasks.stop()
        # a shim may have been forked for a worker that died meanwhile, or the clean-up after a create was cut short just now
        await sweep(self.guest)
        if not self.guest.containers:
            self.guest.shims.quit()
            await asyncio.to_thread(remove_guest_cgroups, self._settings.guest, self._settings.paths.state)
        for link in list(self.guest.links.values()):
            link.close()
        self.guest.shims.close()
        self._spools.close()
        self.guest.bundle_store.close()
        self.journal.close()
        self._parts.dialer.close()

    def notice(self, instance: str, notice: Notice) -> None:
        """See ShimObserver."""
        self._notices.take(instance, notice)

    def gone(self, instance: str) -> None:
        """See ShimObserver."""
        container = self.guest.containers.get(instance)
        if container is not None:
            self._tasks.start(adopt.record_lost_container(self.guest, self._notices, container, LOST_WITH_SHIM))

    # -- what broker sessions ask ----------------------------------------------------------------------------------------------

    def _registered(self, welcome: Registered, first: bool) -> None:
        """A broker that has seen what is not in the journal has seen the future of a journal that was set back."""
        seen, journal = welcome.seen, self.journal
        if seen is None or not seen.epoch:
            return
        why = set_back(journal, self._found, seen, first=first)
        if seen.epoch != journal.epoch:
            journal.remember_epoch(seen.epoch)
        if why:
            log.error("%s: it was set back; a new epoch begins", why)
            journal.new_epoch("journal set back")

    def _subscriptions_changed(self) -> None:
        self._feed.want({prefix for session in self._brokers for prefix in session.stdio_prefixes})

    def _send(self, route: Route, header: CommandHeader, body: bytes) -> None:
        route.session.reply(route, header, self.journal.epoch, body)

    def _publish(self, record: EventRecord) -> None:
        for session in self._brokers:
            session.publish_event(record)
            session.moved()
        self.guest.waiters.tell_event()
        if record.kind in ("created", "exec_started"):
            self._feed.refresh()

    def _publish_stdio(self, frames: list[bytes]) -> None:
        for session in self._brokers:
            session.publish_stdio(frames)
