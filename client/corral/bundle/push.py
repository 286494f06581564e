"""A packed bundle into one guest: what is missing there goes over, a few chunks at a time, and goes on where a cut came."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from corral.bundle.messages import Messages
from corral.bundle.pack import Packed
from corral.connection import Connection
from corral_schemas.bundles import (
    BundleReply,
    CommitBundleArgs,
    OpenBundleArgs,
    OpenBundleReply,
    UploadArgs,
    UploadReply,
)
from corral_schemas.checksum import crc32
from corral_schemas.errors import CorralError, error
from corral_schemas.limits import BUNDLE_PIECES_MAX, UPLOAD_BYTES_MAX
from corral_schemas.stdio import Done

MESSAGE_BYTES, UNANSWERED_MAX = 1 << 20, 2
"""Chunks sent to one guest in one message, and messages that it has not answered: four times as much is a quarter faster on one machine,
and makes commands wait for it twice as long."""
PATIENCE_S = 60.0
"""How long on end a guest or its broker may be gone in the middle of a push."""
STEP_TIMEOUT_S = 600.0
"""For a guest to look through what it has, and for its disk to take what came."""
ROUNDS_MAX = 5


@dataclass(frozen=True)
class PushProgress:
    """How far a push to one guest has come."""

    guest: str
    state: Literal["asking", "sending", "finishing", "done"]
    sent_bytes: int = 0
    """Of chunks and manifest, by this push."""
    missing_bytes: int = 0
    """That the guest lacked when it was asked."""
    total_bytes: int = 0
    """Of the bundle's files."""


OnProgress = Callable[[PushProgress], None]


@dataclass(frozen=True)
class Pushed:
    """A bundle that is in a guest."""

    guest: str
    digest: str
    names: list[str]
    sent_bytes: int
    """What had to be sent, manifest included; 0 where the guest had it."""
    total_bytes: int


class Push:
    """One push to one guest. `run` may be called again after a failure: what came over is not sent twice."""

    def __init__(
        self,
        connection: Connection,
        guest: str,
        bundle: Packed,
        names: Sequence[str],
        on_progress: OnProgress | None = None,
        messages: Messages | None = None,
    ) -> None:
        """`messages`: shared by pushes of this bundle to several guests."""
        self._connection, self._guest, self._bundle, self._names = connection, guest, bundle, list(names)
        self._messages = messages or Messages(bundle)
        self._on_progress = on_progress
        self._sent = self._missing = 0

    async def run(self) -> Pushed:
        """Raises bundle_invalid, storage_full, guest_unreachable (after PATIENCE_S), unauthorized, file_changed."""
        bundle = self._bundle
        for turn in range(ROUNDS_MAX):
            self._tell("asking")
            try:
                await self._bring()
                self._tell("finishing")
                args = CommitBundleArgs(digest=bundle.digest, names=self._names)
                reply = await self._ask_commit(args)
                break
            except CorralError as why:
                # a chunk that was damaged on its way, or a guest that lost some: it says again what it lacks
                if why.code not in ("bundle_incomplete", "content_corrupt", "bundle_not_found") or turn == ROUNDS_MAX - 1:
                    raise
        self._tell("done")
        return Pushed(self._guest, bundle.digest, reply.bundle.names, self._sent, bundle.total_bytes)

    async def _ask_commit(self, args: CommitBundleArgs) -> BundleReply:
        return await self._connection.ask(self._guest, "commit_bundle", args, BundleReply, timeout_s=STEP_TIMEOUT_S, patience_s=PATIENCE_S)

    async def _bring(self) -> None:
        bundle = self._bundle
        asked = OpenBundleArgs(digest=bundle.digest, manifest_bytes=len(bundle.manifest))
        reply = await self._open(asked)
        if reply.state == "manifest":
            self._sent += await upload(self._connection, self._guest, bundle.digest, _slices(bundle.manifest))
            reply = await self._open(asked)
        if reply.state == "present":
            return
        self._missing = reply.missing_bytes
        self._tell("sending")
        numbers = [n for n in range(len(bundle.chunks.digests)) if reply.missing[n >> 3] >> (n & 7) & 1]
        await in_flight(self._writes(numbers))

    async def _open(self, args: OpenBundleArgs) -> OpenBundleReply:
        return await self._connection.ask(
            self._guest, "open_bundle", args, OpenBundleReply, timeout_s=STEP_TIMEOUT_S, patience_s=PATIENCE_S
        )

    def _writes(self, numbers: list[int]) -> "Iterator[Callable[[], asyncio.Future[None]]]":
        for group in _grouped(numbers, self._bundle.chunks.sizes):
            yield lambda group=group: asyncio.ensure_future(self._write(group))  # type: ignore[misc]

    async def _write(self, group: list[int]) -> None:
        args, name = await self._messages.get(group)
        try:
            await self._connection.ask(
                self._guest, "write_bundle", args, Done, timeout_s=STEP_TIMEOUT_S, patience_s=PATIENCE_S, shared=name
            )
        except CorralError as why:
            if why.code == "content_corrupt" and not await asyncio.to_thread(self._bundle.is_unchanged, group):
                raise error("file_changed", "a file of the bundle was changed while it was being pushed; push again") from why
            raise
        self._sent += sum(self._bundle.chunks.sizes[number] for number in group)
        self._tell("sending")

    def _tell(self, state: Literal["asking", "sending", "finishing", "done"]) -> None:
        if self._on_progress is not None:
            self._on_progress(PushProgress(self._guest, state, self._sent, self._missing, self._bundle.total_bytes))


def _grouped(numbers: list[int], sizes: list[int]) -> Iterator[list[int]]:
    """Small chunks go together in one message."""
    group: list[int] = []
    size = 0
    for number in numbers:
        if group and (size + sizes[number] > MESSAGE_BYTES or len(group) == BUNDLE_PIECES_MAX):
            yield group
            group, size = [], 0
        group.append(number)
        size += sizes[number]
    if group:
        yield group


def _slices(data: bytes) -> Callable[[int], bytes]:
    return lambda offset: data[offset : offset + UPLOAD_BYTES_MAX]


async def upload(connection: Connection, guest: str, digest: str, read: Callable[[int], bytes]) -> int:
    """Puts content aside in a guest, from where an earlier try ended; → bytes sent. `read`: bytes from an offset on; none at the end."""
    sent = 0
    offset = await _put(connection, guest, UploadArgs(content=digest))
    while data := await asyncio.to_thread(read, offset):
        offset = await _put(connection, guest, UploadArgs(content=digest, offset=offset, data=data, crc=crc32(data)))
        sent += len(data)
    return sent


async def _put(connection: Connection, guest: str, args: UploadArgs) -> int:
    reply = await connection.ask(guest, "upload", args, UploadReply, timeout_s=STEP_TIMEOUT_S, patience_s=PATIENCE_S)
    return reply.offset


async def in_flight(starts: "Iterator[Callable[[], asyncio.Future[None]]]") -> None:
    """Keeps UNANSWERED_MAX of them under way until all are done; the first failure ends the others."""
    running: set[asyncio.Future[None]] = set()
    try:
        for start in starts:
            running.add(start())
            if len(running) >= UNANSWERED_MAX:
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                _raise_first(done)
        if running:
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_EXCEPTION)
            _raise_first(done)
    finally:
        for one in running:
            one.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def _raise_first(done: set[asyncio.Future[None]]) -> None:
    """All are asked, so that asyncio does not report the others' failures as never looked at."""
    failures = [why for one in done if (why := one.exception()) is not None]
    if failures:
        raise failures[0]
