"""The guest's bundles: which there are, what they are called, who uses them, and what is on its way in.

What is decided here is decided in the event loop; what may block runs in one thread of lower priority, so that no command waits for it.
A bundle becomes visible by one rename, after everything in it is verified; the disk gets it soon after (see unsynced.py).
"""

import asyncio
import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from corral_schemas.bundle_rules import decode_manifest
from corral_schemas.bundles import BundleEntry, BundleInfo, ImageConfig, IncomingBundle, UploadArgs
from corral_schemas.errors import CorralError, error
from corral_schemas.limits import BUNDLE_INCOMING_KEPT_S
from corral_schemas.names import bundle_name, bundle_ref
from corral_worker.base.durable import write_durably
from corral_worker.bundle_store.disk import free_bytes, raise_exhausted, remove_tree, storage_error
from corral_worker.bundle_store.incoming import MANIFEST, ROOTFS, Pieces
from corral_worker.bundle_store.pushes import ABOUT, PREFIX, About, Pushes, directories_in
from corral_worker.bundle_store.syncing import Syncing
from corral_worker.bundle_store.unsynced import Memory
from corral_worker.bundle_store.uploads import Uploads

log = logging.getLogger(__name__)

T = TypeVar("T")
NICENESS = 5
"""Of the store's threads: containers and commands come before pushes where the processor is wanted."""


@dataclass(frozen=True)
class Image:
    """A bundle as a container uses it."""

    digest: str
    rootfs: Path
    config: ImageConfig


class BundleStore:
    """All bundles of one guest. Its methods belong to the event loop's thread, what ends in `_in_thread` to the store's."""

    _pushes: Pushes  # made by load, used in the store's thread only

    def __init__(self, directory: Path, users: Callable[[], list[tuple[str, str]]]) -> None:
        """`users`: (container, path of its root file system) of every container there is."""
        self._directory, self._users = directory, users
        self._whole, self._coming, self._trash = directory / "sha256", directory / "incoming", directory / "trash"
        self._uploads = Uploads(directory / "uploads")
        self._about: dict[str, About] = {}  # hexadecimal digest -> what is known of a bundle that is there
        self._names: dict[str, str] = {}  # NAME:TAG -> hexadecimal digest
        self._pins: Counter[str] = Counter()  # hexadecimal digest -> creates under way that will use it
        self._doubted: set[str] = set()  # hexadecimal digests of those that are verified again after a power cut
        self._thread = ThreadPoolExecutor(1, "corral-bundles", initializer=_be_nice)
        self._syncing = Syncing(_be_nice)
        self._removed = 0

    # -- at the start, and now and then --------------------------------------------------------------------------------------------

    async def load(self, memory: Memory) -> None:
        """Comes before all else: reads what is there, and removes what a crash left."""
        self._pushes = Pushes(self._coming, self._whole, self._uploads, memory)
        if self._directory.is_dir():
            self._about, self._names, self._doubted = await self._do(self._load_in_thread)
            for bare in self._about:
                self._syncing.later(self._whole / bare)
            await self.tidy()

    async def verify_again(self) -> None:
        """Bundles that the disk may not have had before the power went: each is visible again once all of it is verified."""
        for bare in sorted(self._doubted):
            try:
                self._about[bare] = await self._do(self._pushes.commit, bare)
                log.warning("bundle %s was not yet known to be on disk when the power went: it was verified again, and is whole", bare)
                self._syncing.later(self._whole / bare)
            except CorralError as why:
                log.error("bundle %s was not on disk when the power went: %s; push it again, what is whole of it is kept", bare, why)
            finally:
                self._doubted.discard(bare)
        await self._forget_names()

    async def tidy(self) -> None:
        """Gives up pushes that nobody went on with for BUNDLE_INCOMING_KEPT_S."""
        if self._directory.is_dir():
            await self._do(self._pushes.give_up, time.time() - BUNDLE_INCOMING_KEPT_S)

    def close(self) -> None:
        self._syncing.close()
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _load_in_thread(self) -> tuple[dict[str, About], dict[str, str], set[str]]:
        found: dict[str, About] = {}
        doubted = set(self._pushes.doubt())
        for path in directories_in(self._whole):
            try:
                found[path.name] = msgspec.msgpack.decode((path / ABOUT).read_bytes(), type=About)
            except (OSError, msgspec.DecodeError) as why:
                raise_exhausted(why)
                log.error("bundle %s cannot be read and is removed: %s", path.name, why)
                self._discard(path)
        for path in directories_in(self._trash):
            log.warning("removing what was left of bundle %s", path.name)
            remove_tree(path)
        self._pushes.look_over()
        names_file = self._directory / "names.json"
        try:
            names = msgspec.json.decode(names_file.read_bytes(), type=dict[str, str]) if names_file.exists() else {}
        except (OSError, msgspec.DecodeError) as why:
            raise_exhausted(why)
            log.error("%s cannot be read: %s; bundles are there under their digests alone", names_file, why)
            names = {}
        return found, {name: digest for name, digest in names.items() if digest in found or digest in doubted}, doubted

    # -- pushes ----------------------------------------------------------------------------------------------------------------------

    async def upload(self, args: UploadArgs) -> int:
        """See Uploads.append."""
        return await self._do(self._uploads.append, args)

    def has(self, digest: str) -> bool:
        """Whether it is there whole."""
        return digest.removeprefix(PREFIX) in self._about

    async def open(self, digest: str, manifest_bytes: int) -> tuple[bytes, int] | None:
        """See Pushes.open."""
        return await self._do(self._pushes.open, digest.removeprefix(PREFIX), manifest_bytes)

    async def write(self, digest: str, pieces: Pieces) -> None:
        """Takes chunks in. Raises content_corrupt, bundle_not_found, bad_request, storage_full."""
        bare = digest.removeprefix(PREFIX)
        if bare not in self._about:  # a repeat that comes after the commit
            await self._do(self._pushes.write, bare, pieces)

    async def commit(self, digest: str, names: list[str]) -> BundleInfo:
        """Makes it visible, and gives it names. Raises bundle_incomplete, bundle_not_found, storage_full, bad_request."""
        whole_names = [bundle_name(name) for name in names]
        bare = digest.removeprefix(PREFIX)
        if bare not in self._about:
            self._about[bare] = await self._do(self._pushes.commit, bare)
            self._syncing.later(self._whole / bare)
        if any(self._names.get(name) != bare for name in whole_names):
            self._names |= dict.fromkeys(whole_names, bare)
            committed = self.info(bare)  # it may be removed while its names go to the disk
            await self._save_names()
            return committed
        return self.info(bare)

    # -- looking ---------------------------------------------------------------------------------------------------------------------

    def info(self, bare: str) -> BundleInfo:
        about = self._about[bare]
        return BundleInfo(
            digest=PREFIX + bare,
            names=sorted(name for name, of in self._names.items() if of == bare),
            bytes=about.bytes,
            entries=about.entries,
            created_ns=about.created_ns,
            used_by=self._used_by(bare),
        )

    def all(self) -> list[BundleInfo]:
        """By name, those without one last."""
        return sorted((self.info(bare) for bare in self._about), key=lambda one: (not one.names, one.names, one.digest))

    async def incoming(self) -> tuple[list[IncomingBundle], int]:
        """(pushes under way or broken off, bytes that pushes may still take)"""
        return await self._do(self._pushes.all), await self._do(free_bytes, self._place())

    def _place(self) -> Path:
        """The directory, or where it will be: it is made by the first push."""
        return self._directory if self._directory.is_dir() else self._directory.parent

    def find(self, ref: str) -> str:
        """The hexadecimal digest meant. Raises bundle_not_found, name_ambiguous, bad_request."""
        name, digest = bundle_ref(ref)
        if digest:
            found = [bare for bare in self._about if bare.startswith(digest.removeprefix(PREFIX))]
        else:
            found = [self._names[name]] if self._names.get(name) in self._about else []
        if len(found) > 1:
            raise error(
                "name_ambiguous", f"{ref} is the beginning of {len(found)} digests", candidates=[PREFIX + bare for bare in found[:8]]
            )
        if not found and (self._names.get(name) in self._doubted or digest.removeprefix(PREFIX) in self._doubted):
            raise error("bundle_not_found", f"{ref} is being verified after a power cut; ask again in a moment", bundle=ref)
        if not found:
            raise error(
                "bundle_not_found", f"no bundle {ref} in this guest; push it first", bundle=ref, nearest=_nearest(name, self._names)
            )
        return found[0]

    def image_config(self, bare: str) -> ImageConfig:
        return self._about[bare].image

    def rootfs(self, bare: str) -> Path:
        return self._whole / bare / ROOTFS

    async def entries(self, bare: str, first: int, count: int) -> list[BundleEntry]:
        """Some of what is in it."""
        return await self._do(self._entries_in_thread, bare, first, count)

    def _entries_in_thread(self, bare: str, first: int, count: int) -> list[BundleEntry]:
        return decode_manifest((self._whole / bare / MANIFEST).read_bytes()).entries[first : first + count]

    # -- use and removal -------------------------------------------------------------------------------------------------------------

    @contextmanager
    def pinned(self, ref: str) -> Iterator[Image]:
        """A bundle that is not removed meanwhile; afterwards the container that was made from it keeps it."""
        bare = self.find(ref)
        self._pins[bare] += 1
        try:
            yield Image(PREFIX + bare, self.rootfs(bare), self._about[bare].image)
        finally:
            self._pins[bare] -= 1

    def _used_by(self, bare: str) -> list[str]:
        rootfs = str(self.rootfs(bare))
        return sorted(name for name, path in self._users() if path == rootfs)

    async def remove(self, ref: str) -> tuple[list[str], list[str], int]:
        """(digests removed, names taken away, bytes freed). Raises bundle_not_found, bundle_in_use."""
        name, digest = bundle_ref(ref)
        if digest and not name and (self._coming / digest.removeprefix(PREFIX)).is_dir():
            return [digest], [], await self._do(self._pushes.abandon, digest.removeprefix(PREFIX))
        bare = self.find(ref)
        if not digest and sum(of == bare for of in self._names.values()) > 1:
            del self._names[name]
            await self._save_names()
            return [], [name], 0
        self._check_unused(bare)
        return await self._take_away([bare])

    def _check_unused(self, bare: str) -> None:
        users = self._used_by(bare)
        if users or self._pins[bare]:
            who = ", ".join(users[:8]) or "one that is being made"
            raise error("bundle_in_use", f"{PREFIX}{bare[:12]} is the root file system of {who}; delete that first", containers=users)

    async def collect(self, *, named: bool, idle_s: float) -> tuple[list[str], list[str], int]:
        """As remove: everything that nobody uses."""
        kept = set() if named else set(self._names.values())
        unused = [bare for bare in self._about if bare not in kept and not self._used_by(bare) and not self._pins[bare]]
        removed, untagged, freed = await self._take_away(unused)
        given_up, freed_too = await self._do(self._pushes.give_up, time.time() - idle_s)
        return removed + [PREFIX + bare for bare in given_up], untagged, freed + freed_too

    async def _take_away(self, bundles: list[str]) -> tuple[list[str], list[str], int]:
        """Out of sight at once, off the disk soon after."""
        gone: list[Path] = []
        for bare in bundles:
            self._syncing.forget(self._whole / bare)
            gone.append(self._discard(self._whole / bare))
            del self._about[bare]
        untagged = await self._forget_names()
        freed = sum([await self._do(remove_tree, path) for path in gone])
        return [PREFIX + bare for bare in bundles], untagged, freed

    async def _forget_names(self) -> list[str]:
        """Those of bundles that are there no more."""
        untagged = sorted(name for name, of in self._names.items() if of not in self._about and of not in self._doubted)
        if untagged:
            self._names = {name: of for name, of in self._names.items() if name not in untagged}
            await self._save_names()
        return untagged

    def _discard(self, path: Path) -> Path:
        self._trash.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._removed += 1
        return path.rename(self._trash / f"{path.name}.{time.time_ns()}.{self._removed}")

    async def _save_names(self) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        packed = msgspec.json.format(msgspec.json.encode(dict(sorted(self._names.items()))), indent=1)
        try:
            await self._do(write_durably, self._directory / "names.json", packed)
        except OSError as why:
            raise storage_error(why, "names of bundles") from why

    # -- files ------------------------------------------------------------------------------------------------------------------------

    async def uploaded(self, digest: str, size: int) -> Path:
        """See Uploads.verified."""
        return await self._do(self._uploads.verified, digest, size)

    async def drop_upload(self, digest: str) -> None:
        await self._do(self._uploads.drop, digest)

    async def _do(self, work: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *args)


def _be_nice() -> None:
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)


def _nearest(name: str, names: dict[str, str]) -> list[str]:
    from difflib import get_close_matches

    return get_close_matches(name, names, 3) if name else []
