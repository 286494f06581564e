"""A guest frozen right before it becomes somebody, and its clones."""

from __future__ import annotations

import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from corral_vm.argv import Memory, qemu_argv
from corral_vm.cache import cached, digest
from corral_vm.image import Image
from corral_vm.machine import Identity, Machine
from corral_vm.shell import CACHE, BuildError


@dataclass(frozen=True)
class Template:
    """Memory and devices of the frozen guest; they belong to one image, one QEMU and one command line."""

    image: Image
    memory: Path
    devices: Path

    def clone(self, machine: Machine, identity: Identity) -> None:
        """Starts `machine`, of the same image, as a copy."""
        machine.clone(self.memory, self.devices, identity)


def ready_template(image: Image) -> Template:
    """The template of this image; making it takes some ten seconds where it is not cached. Raises BuildError, VmError."""

    def make(directory: Path) -> None:
        with tempfile.TemporaryDirectory(prefix="corral-template-") as scratch, Machine(image, Path(scratch) / "template") as machine:
            machine.make_template(directory / "memory", directory / "devices")

    kept = cached(CACHE, f"template-{image.suite}", digest([image.key, _qemu_version(), *_shape(image)]), make)
    return Template(image, kept / "memory", kept / "devices")


def _qemu_version() -> str:
    try:
        return subprocess.run(["qemu-system-x86_64", "--version"], capture_output=True, text=True, check=True).stdout
    except OSError as why:
        raise BuildError(f"qemu-system-x86_64 cannot be run ({why.strerror}): deploy/vm/setup.sh installs it") from why


def _shape(image: Image) -> list[str]:
    nowhere = Path("x")
    return qemu_argv(
        image,
        name="x",
        state_disk=nowhere,
        console_log=nowhere,
        monitor_descriptor=0,
        agent_descriptor=0,
        memory=Memory("template", nowhere),
    )
