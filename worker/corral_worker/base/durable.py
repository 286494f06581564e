"""Files that are there after a power cut, whole or as they were before. Blocks for as long as the disk takes."""

import os
from pathlib import Path


def write_durably(path: Path, content: bytes) -> None:
    """Afterwards the file is there whole, whatever happens to the machine; a link stays one. Raises OSError."""
    path = Path(os.path.realpath(path))
    aside = path.with_name(f"{path.name}.new")
    with aside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """What was renamed into it is there after a power cut. Raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
