"""What clients push and copy: small bundles and files whose bytes follow from the seed."""

from __future__ import annotations

import io
import os
import random
from collections.abc import Iterator
from functools import cached_property, partial
from pathlib import Path

from corral.bundle.pack import Packed, pack
from corral.bundle.sources import Found
from corral_schemas.bundles import BundleEntry
from corral_testkit.sim.witness import generated

BUNDLES = 3
"""Of one seed; all have one file in common."""
MTIME_NS = 1_700_000_000_000_000_000


class _InMemory:
    """A source of a bundle (`corral.bundle.sources.Source`)."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self._files = files

    def found(self) -> Iterator[Found]:
        user, group = os.geteuid(), os.getegid()
        yield Found(BundleEntry(path=".", type="directory", mode=0o755, uid=user, gid=group, mtime_ns=MTIME_NS))
        for path, data in self._files.items():
            entry = BundleEntry(path=path, size=len(data), uid=user, gid=group, mtime_ns=MTIME_NS)
            yield Found(entry, partial(io.BytesIO, data))


class Content:
    """One bundle."""

    def __init__(self, name: str, files: dict[str, bytes]) -> None:
        self.name, self.files = name, files

    @cached_property
    def packed(self) -> Packed:
        return pack(_InMemory(self.files))

    def wrong_in(self, rootfs: Path) -> list[str]:
        """Which of its files that tree does not hold as they are, or holds beside them."""
        there = {path.name: path.read_bytes() for path in rootfs.iterdir()}
        return sorted(name for name in self.files.keys() | there if self.files.get(name) != there.get(name))


class Contents:
    """Of one seed."""

    def __init__(self, seed: int) -> None:
        chance = random.Random(f"contents {seed}")
        common = _bytes(chance, 6_000)
        self.bundles = [Content(f"b{number}:latest", _files(chance, common)) for number in range(BUNDLES)]

    def of(self, digest: str) -> Content | None:
        return next((content for content in self.bundles if content.packed.digest == digest), None)


def _files(chance: random.Random, common: bytes) -> dict[str, bytes]:
    own = {f"own{number}": _bytes(chance, chance.randint(1, 16_000)) for number in range(chance.choice((1, 1, 2)))}
    return {"common": common, **own}


def _bytes(chance: random.Random, size: int) -> bytes:
    return chance.randbytes(32) + generated(chance.randrange(1 << 16), 0, size)


def file_bytes(container: str, version: int) -> bytes:
    """What that write of a container's file puts there. No two are alike."""
    head = f"{container} {version} ".encode()
    return head + generated(version * 977 + sum(head), 0, (version * 7_919) % 20_000)
