"""The bundles on a guest's disk: what a power cut takes of those that are not known to be there, and what a snapshot keeps."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

from corral_worker.bundle_store.incoming import MANIFEST, ROOTFS
from corral_worker.bundle_store.pushes import ABOUT, directories_in
from corral_worker.bundle_store.unsynced import MARK

TORN_SHARE = 0.4
"""Of the files that may be."""


class BundleDisk:
    """Of one guest. The files are real ones, on a tmpfs."""

    def __init__(self, directory: Path, snapshot: Path, randomness: random.Random) -> None:
        self._directory, self._snapshot, self._randomness = directory, snapshot, randomness
        self.torn: list[tuple[float, str]] = []
        """(when, hexadecimal digest) of bundles of which a power cut took something."""

    def power_cut(self, now_s: float) -> None:
        """Files whose sync nobody has seen end lose some of their bytes. A mark is there: it was synced before the rename."""
        for upload in directories_in(self._directory / "uploads"):
            self._tear(upload)
        marked = [path for path in directories_in(self._directory / "sha256") if (path / MARK).exists()]
        for bundle in [*directories_in(self._directory / "incoming"), *marked]:
            files = [bundle / MANIFEST, bundle / ABOUT, *directories_in(bundle / ROOTFS)]
            if sum(self._tear(path) for path in files):
                self.torn.append((now_s, bundle.name))

    def _tear(self, path: Path) -> bool:
        """Whether anything is lost of it. What another bundle shares with this one was on disk before."""
        if not path.is_file() or path.stat().st_nlink > 1 or not path.stat().st_size or self._randomness.random() > TORN_SHARE:
            return False
        size = path.stat().st_size
        # from anywhere on, or a few bytes at its end: so that some manifests still decode
        kept = self._randomness.choice((self._randomness.randrange(size), max(0, size - self._randomness.randint(1, 32))))
        with path.open("r+b") as file:
            file.truncate(kept)
            if self._randomness.random() < 0.5:  # a file system may have written its length before its bytes
                file.truncate(size)
        return True

    def take_snapshot(self) -> None:
        shutil.rmtree(self._snapshot, ignore_errors=True)
        if self._directory.is_dir():
            shutil.copytree(self._directory, self._snapshot)

    def rewind(self, now_s: float) -> None:
        """Back to the snapshot, which has what the disk had then, not what was in memory."""
        shutil.rmtree(self._directory, ignore_errors=True)
        if self._snapshot.is_dir():
            shutil.copytree(self._snapshot, self._directory)
            self.power_cut(now_s)
