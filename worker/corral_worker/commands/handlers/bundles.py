"""The commands on bundles: pushes, looking, names, removal."""

from typing import Annotated

from msgspec import Meta

from corral_schemas.base import Count, Message
from corral_schemas.bundles import (
    BundleReply,
    CollectBundlesArgs,
    CommitBundleArgs,
    Digest,
    InspectBundleArgs,
    InspectBundleReply,
    ListBundlesArgs,
    ListBundlesReply,
    OpenBundleArgs,
    OpenBundleReply,
    RemoveBundleArgs,
    RemovedBundlesReply,
    UploadArgs,
    UploadReply,
)
from corral_schemas.errors import CorralError
from corral_schemas.limits import BUNDLE_PIECES_MAX
from corral_schemas.stdio import Done
from corral_worker.bundle_store.pushes import PREFIX
from corral_worker.commands.execution import Execution
from corral_worker.containers.guest import Guest


class PieceView(Message, frozen=True, kw_only=True):
    """A Piece whose bytes stay where they came in."""

    chunk: Count
    data: memoryview


class WriteBundleView(Message, frozen=True, kw_only=True):
    """WriteBundleArgs, the same."""

    digest: Digest
    pieces: Annotated[list[PieceView], Meta(min_length=1, max_length=BUNDLE_PIECES_MAX)]


VIEWS: dict[str, type[Message]] = {"write_bundle": WriteBundleView}


async def upload(guest: Guest, args: UploadArgs) -> UploadReply:
    return UploadReply(offset=await guest.bundle_store.upload(args))


async def open_bundle(guest: Guest, args: OpenBundleArgs) -> OpenBundleReply:
    store = guest.bundle_store
    if store.has(args.digest):
        return OpenBundleReply(state="present", bundle=store.info(args.digest.removeprefix(PREFIX)))
    missing = await store.open(args.digest, args.manifest_bytes)
    if missing is None:
        return OpenBundleReply(state="manifest")
    return OpenBundleReply(state="incoming", missing=missing[0], missing_bytes=missing[1])


async def write_bundle(guest: Guest, args: WriteBundleView) -> Done:
    await guest.bundle_store.write(args.digest, [(piece.chunk, piece.data) for piece in args.pieces])
    return Done()


async def commit_bundle(guest: Guest, args: CommitBundleArgs, execution: Execution) -> BundleReply:
    return BundleReply(bundle=await guest.bundle_store.commit(args.digest, args.names))


async def list_bundles(guest: Guest, args: ListBundlesArgs) -> ListBundlesReply:
    incoming, free = await guest.bundle_store.incoming()
    return ListBundlesReply(bundles=guest.bundle_store.all(), incoming=incoming, free_bytes=free)


async def inspect_bundle(guest: Guest, args: InspectBundleArgs) -> InspectBundleReply:
    store = guest.bundle_store
    bare = store.find(args.bundle)
    entries = await store.entries(bare, args.entries_from, args.entries_max) if args.entries_max else []
    return InspectBundleReply(bundle=store.info(bare), image=store.image_config(bare), rootfs_path=str(store.rootfs(bare)), entries=entries)


async def remove_bundle(guest: Guest, args: RemoveBundleArgs, execution: Execution) -> RemovedBundlesReply:
    try:
        return _removed(await guest.bundle_store.remove(args.bundle))
    except CorralError as why:
        if execution.redo and why.code == "bundle_not_found":  # removed before the restart; what went with it nobody knows any more
            return RemovedBundlesReply()
        raise


async def collect_bundles(guest: Guest, args: CollectBundlesArgs, execution: Execution) -> RemovedBundlesReply:
    return _removed(await guest.bundle_store.collect(named=args.named, idle_s=args.idle_ms / 1000))


def _removed(found: tuple[list[str], list[str], int]) -> RemovedBundlesReply:
    removed, untagged, freed = found
    return RemovedBundlesReply(removed=removed, untagged=untagged, freed_bytes=freed)
