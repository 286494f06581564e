"""Bytes put aside under their digest until a command uses them: a file per digest, appended to."""

import hashlib
from pathlib import Path

from corral_schemas.bundles import UploadArgs
from corral_schemas.checksum import crc32
from corral_schemas.errors import error
from corral_worker.bundle_store.disk import check_space, storage_error

HEX_CHARS = 64


class Uploads:
    """All uploads of a guest. Its methods may block."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def path(self, digest: str) -> Path:
        """`digest` keeps the contract's pattern: it is no way out of the directory."""
        return self._directory / digest.removeprefix("sha256:")

    def size(self, digest: str) -> int:
        """Bytes there by now; 0 where nothing is."""
        try:
            return self.path(digest).stat().st_size
        except FileNotFoundError:
            return 0

    def append(self, args: UploadArgs) -> int:
        """→ bytes there then. Raises content_corrupt, bad_request for bytes beyond the end, storage_full."""
        there = self.size(args.content)
        if not args.data:
            return there
        if crc32(args.data) != args.crc:
            raise error(
                "content_corrupt", f"the bytes at {args.offset} do not have the checksum stated; send them again", offset=args.offset
            )
        if args.offset > there:
            raise error("bad_request", f"bytes from {args.offset} on, but only {there} are there", offset=there)
        fresh = args.data[there - args.offset :]
        if not fresh:
            return there
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        check_space(self._directory, len(fresh))
        try:
            with self.path(args.content).open("ab") as file:
                file.write(fresh)
        except OSError as why:
            self.drop(args.content)
            raise storage_error(why, "upload") from why
        return there + len(fresh)

    def verified(self, digest: str, size: int) -> Path:
        """The whole of it. Raises content_corrupt (it is dropped then), file_not_found where less than all is there."""
        path, there = self.path(digest), self.size(digest)
        if there < size:
            raise error("file_not_found", f"of {digest} only {there} of {size} bytes were uploaded", uploaded=there)
        if not size and not there:  # nothing had to be uploaded
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.touch(mode=0o600)
        if digest_of(path) != digest.removeprefix("sha256:"):
            self.drop(digest)
            raise error("content_corrupt", f"what was uploaded as {digest} is something else; it was dropped", digest=digest)
        return path

    def drop(self, digest: str) -> None:
        self.path(digest).unlink(missing_ok=True)

    def drop_older(self, before_s: float) -> list[str]:
        """Removes what nobody added to since then (wall clock); → digests, without their prefix."""
        if not self._directory.is_dir():
            return []
        old = [path for path in self._directory.iterdir() if len(path.name) == HEX_CHARS and path.stat().st_mtime < before_s]
        for path in old:
            path.unlink(missing_ok=True)
        return [path.name for path in old]


def digest_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
