"""QEMU's command line for a guest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from corral_vm.image import Image

MEMORY_MIB = 256
NIC = "nic0"
HOST_IN_GUEST = "10.0.2.2"
"""The host's 127.0.0.1, seen from inside (QEMU's user network)."""
KERNEL_WORDS = "console=ttyS0 quiet panic=-1 mitigations=off tsc=reliable no_timer_check random.trust_cpu=on cryptomgr.notests"
MACHINE = "q35"
ACCELERATOR = "tcg,thread=multi,tb-size=128"
PROCESSOR = "Nehalem"
"""A small model boots faster in emulation than `max`; the kernel's CRC-32C wants SSE 4.2."""

MemoryUse = Literal["private", "template", "clone"]


@dataclass(frozen=True)
class Memory:
    """Where a guest's memory is: QEMU's own, or a template's file (written to by the template, copied on write by its clones)."""

    use: MemoryUse = "private"
    file: Path | None = None

    def options(self) -> list[str]:
        """The backend has one name in all of them: a snapshot of a clone is restored into memory of QEMU's own."""
        backend = f"memory-backend-ram,id=ram,size={MEMORY_MIB}M"
        if self.file is not None:
            backend = (
                f"memory-backend-file,id=ram,mem-path={self.file},size={MEMORY_MIB}M,share={'on' if self.use == 'template' else 'off'}"
            )
        return ["-machine", f"{MACHINE},memory-backend=ram", "-object", backend]


def qemu_argv(
    image: Image,
    *,
    name: str,
    state_disk: Path,
    console_log: Path,
    monitor_descriptor: int,
    agent_descriptor: int,
    memory: Memory,
    kernel_words: str = "",
    incoming: bool = False,
) -> list[str]:
    """The descriptors are listening Unix sockets. A clone needs the very words and devices of its template."""
    return [
        *("qemu-system-x86_64", "-name", name, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
        *memory.options(),
        *("-accel", ACCELERATOR, "-cpu", PROCESSOR, "-smp", "1", "-m", str(MEMORY_MIB)),
        *("-kernel", str(image.kernel), "-initrd", str(image.initrd), "-append", f"{KERNEL_WORDS} {kernel_words}".strip()),
        *("-serial", f"file:{console_log}"),
        *("-chardev", f"socket,id=agent,fd={agent_descriptor},server=on,wait=off", "-serial", "chardev:agent"),
        *("-chardev", f"socket,id=monitor,fd={monitor_descriptor},server=on,wait=off", "-mon", "chardev=monitor,mode=control"),
        *("-netdev", "user,id=net0,ipv6=off", "-device", f"virtio-net-pci,id={NIC},netdev=net0,romfile="),
        *("-device", "virtio-rng-pci"),
        *_disk("root", image.root, "readonly=on"),
        *_disk("code", image.code, "readonly=on"),
        *_disk("state", state_disk, "readonly=off,cache=writeback"),
        *(("-incoming", "defer") if incoming else ()),
    ]


def _disk(name: str, file: Path, options: str) -> tuple[str, ...]:
    return "-drive", f"if=none,id={name},file={file},format=raw,{options}", "-device", f"virtio-blk-pci,drive={name},serial={name}"
