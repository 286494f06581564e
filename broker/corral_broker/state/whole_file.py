"""Files that are there whole, or as they were before; one that is a link stays a link."""

import os
from pathlib import Path


def write_whole(path: Path, content: bytes) -> None:
    """For its owner only (0600). Survives the death of this process, not a power cut. Raises OSError."""
    place = Path(os.path.realpath(path))
    beside = place.with_name(f".{place.name}.{os.getpid()}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    beside.replace(place)
