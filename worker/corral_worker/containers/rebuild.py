"""What a container's own directory says of it, for a worker whose journal is gone: containers live on, so they are adopted from there."""

import logging
from pathlib import Path

import msgspec

from corral_worker.bundle_store.disk import raise_exhausted
from corral_worker.journal.records import ContainerRecord, ProcessRecord

log = logging.getLogger(__name__)

_CONTAINER, _PROCESS = "container.json", "process-record.json"


def note_container(directory: Path, container: ContainerRecord) -> None:
    """Leaves a copy of the record in the container's directory."""
    (directory / _CONTAINER).write_bytes(msgspec.json.encode(container))


def note_process(directory: Path, process: ProcessRecord) -> None:
    """Leaves a copy of the record in the process's directory."""
    (directory / _PROCESS).write_bytes(msgspec.json.encode(process))


def read_notes(instances: Path) -> list[tuple[ContainerRecord, list[ProcessRecord]]]:
    """Every container whose directory tells enough of it. One that does not is left to the janitor."""
    found = []
    for directory in sorted(instances.iterdir()):
        try:
            container = msgspec.json.decode((directory / _CONTAINER).read_bytes(), type=ContainerRecord)
            processes = [msgspec.json.decode(path.read_bytes(), type=ProcessRecord) for path in sorted(directory.glob(f"*/{_PROCESS}"))]
        except (OSError, msgspec.DecodeError) as why:
            raise_exhausted(why)
            log.warning("%s cannot be adopted: %s", directory, why)
            continue
        if any(process.instance == container.init for process in processes):
            found.append((container, processes))
    return found
