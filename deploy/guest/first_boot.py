"""Who this guest is. It is asked at every boot, after whatever image, template or clone it came from was made.

Three places are looked at; what a later one says counts more:

1. a seed disk, as cloud-init's NoCloud has it: FAT or ISO 9660, with a file `user-data` whose YAML has a map `corral:` (and, for the
   name, `local-hostname` in `meta-data`);
2. QEMU's fw_cfg: `-fw_cfg name=opt/corral/identity,file=identity.json`;
3. the kernel command line: `corral.guest=vm-7 corral.broker=tcp://10.0.0.1:7700 corral.server-key=… corral.label=zone=a`.
   A token there is refused: every container reads that line in /proc/cmdline.

The map has the same fields everywhere: guest, broker (one or a list), server-key, token, label (K=V, one or a list, or a map), insecure,
worker-option (any other option of `corral worker`, such as --runtime=crun; one or a list).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FW_CFG = Path("/sys/firmware/qemu_fw_cfg/by_name/opt/corral/identity/raw")
BLOCK_DEVICES, KERNEL_COMMAND_LINE = Path("/sys/class/block"), Path("/proc/cmdline")
SEED_FORMATS = ("vfat", "iso9660")
STATE = Path("/var/lib/corral")
STATE_SERIAL = "state"
OWN_SERIALS = ("root", "code", STATE_SERIAL)
"""Disks of ours: no seed is looked for there, so that nothing of them is in a template's page cache."""
TEXTS, LISTS, FLAGS = ("guest", "server-key", "token"), ("broker", "label", "worker-option"), ("insecure",)
COMMON_LISTS = ("broker", "label")


class IdentityError(Exception):
    """What was said of this guest cannot be used; the text says where and why."""


def find_identity() -> dict[str, Any]:
    """The fields as checked: texts, lists of texts, flags; empty where nobody named a guest. Raises IdentityError."""
    told = {**from_seed_disk(), **from_fw_cfg(), **from_kernel_command_line(KERNEL_COMMAND_LINE.read_text().split())}
    return told if told.get("guest") else {}


def from_kernel_command_line(words: list[str]) -> dict[str, Any]:
    told: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.removeprefix("corral.").partition("=")
        if not word.startswith("corral.") or name == "agent":
            continue
        if name in LISTS:
            told.setdefault(name, []).append(value)
        else:
            told[name] = value if equals else True
    if "token" in told:
        raise IdentityError(
            "the kernel command line: corral.token is refused, since every container can read it there (/proc/cmdline); "
            "give the token by fw_cfg or on a seed disk"
        )
    return checked(told, "the kernel command line")


def from_fw_cfg() -> dict[str, Any]:
    if not FW_CFG.exists():
        return {}
    try:
        return checked(json.loads(FW_CFG.read_bytes()), "fw_cfg opt/corral/identity")
    except ValueError as why:
        raise IdentityError(f"fw_cfg opt/corral/identity is no JSON: {why}") from why


def from_seed_disk() -> dict[str, Any]:
    for device in seed_candidates():
        with tempfile.TemporaryDirectory() as directory:
            for form in SEED_FORMATS:
                if subprocess.run(["mount", "-t", form, "-o", "ro", device, directory], capture_output=True, check=False).returncode:
                    continue
                try:
                    files = {name: Path(directory, name) for name in ("user-data", "meta-data")}
                    texts = {name: path.read_text() for name, path in files.items() if path.exists()}
                finally:
                    subprocess.run(["umount", directory], check=True)
                if "user-data" in texts:
                    return read_seed(texts["user-data"], texts.get("meta-data", ""), device)
    return {}


def read_seed(user_data: str, meta_data: str, device: str) -> dict[str, Any]:
    """The map `corral:` of a seed's user-data. Raises IdentityError."""
    import yaml  # only a guest that has a seed needs it

    try:
        user, meta = yaml.safe_load(user_data), yaml.safe_load(meta_data)
    except yaml.YAMLError as why:
        raise IdentityError(f"the seed disk {device} is no YAML: {why}") from why
    told = user.get("corral") if isinstance(user, dict) else None
    if told is None:
        return {}
    name = meta.get("local-hostname") if isinstance(meta, dict) else None
    return checked({**({"guest": name} if name else {}), **told} if isinstance(told, dict) else told, f"the seed disk {device}")


def seed_candidates() -> Iterator[str]:
    """Disks and partitions that are not ours."""
    for entry in sorted(BLOCK_DEVICES.iterdir()):
        disk = entry.resolve() if not (entry / "partition").exists() else entry.resolve().parent
        if entry.name.startswith(("vd", "sd", "sr")) and serial(disk) not in OWN_SERIALS:
            yield f"/dev/{entry.name}"


def serial(disk: Path) -> str:
    file = disk / "serial"
    return file.read_text().strip() if file.exists() else ""


def checked(told: Any, where: str) -> dict[str, Any]:
    """Raises IdentityError for fields that are unknown or of a wrong type."""
    if not isinstance(told, dict):
        raise IdentityError(f"{where}: a map of fields is wanted, such as guest and broker")
    found: dict[str, Any] = {}
    for name, value in told.items():
        name = str(name).replace("_", "-")
        if name == "label" and isinstance(value, dict):
            value = [f"{key}={text}" for key, text in value.items()]
        if name in LISTS and isinstance(value, str):
            value = [value]
        wanted = str if name in TEXTS else list if name in LISTS else bool if name in FLAGS else None
        if wanted is None:
            raise IdentityError(f"{where}: unknown field {name!r}; there are {', '.join(TEXTS + LISTS + FLAGS)}")
        if not isinstance(value, wanted) or (wanted is list and not all(isinstance(one, str) for one in value)):
            raise IdentityError(f"{where}: {name} is {value!r}; wanted: {wanted.__name__}")
        found[name] = value
    return found


def worker_arguments(identity: dict[str, Any], state: Path = STATE) -> list[str]:
    """Arguments that `corral worker` and `corral worker install` both take; a token is kept in a file, which is written here."""
    arguments = [f"--guest={identity['guest']}", *(f"--{name}={value}" for name in COMMON_LISTS for value in identity.get(name, ()))]
    if identity.get("server-key"):
        arguments.append(f"--server-key={identity['server-key']}")
    if identity.get("token"):
        file = state / f"{identity['guest']}.token"
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w") as opened:
            os.fchmod(opened.fileno(), 0o600)  # also one that was there
            opened.write(identity["token"] + "\n")
        arguments.append(f"--token-file={file}")
    return [*arguments, *(["--insecure"] if identity.get("insecure") else [])]


def mount_state() -> bool:
    """Mounts the disk whose serial is `state` at /var/lib/corral; False where there is none."""
    for entry in sorted(BLOCK_DEVICES.iterdir()):
        if serial(entry.resolve()) == STATE_SERIAL:
            subprocess.run(["mount", "-t", "ext4", "-o", "noatime", f"/dev/{entry.name}", str(STATE)], check=True)
            return True
    return False


def say(what: str) -> None:
    sys.stderr.write(f"corral: {what}\n")


def main() -> int:
    """At the boot of a guest with systemd: STATE, the host name, and the worker's units. Exit status 1: nobody may be served."""
    if not os.path.ismount(STATE) and not mount_state():
        say("no disk has the serial `state`: what is kept in /var/lib/corral is gone after a reboot")
    try:
        identity = find_identity()
    except IdentityError as why:
        say(str(why))
        return 1
    if not identity:
        say("nobody said which guest this is: /usr/lib/corral/first_boot.py has the three ways to")
        return 1
    Path("/proc/sys/kernel/hostname").write_text(identity["guest"])
    more = [f"--worker-option={option}" for option in identity.get("worker-option", ())]
    return subprocess.run(["/opt/corral/bin/corral", "worker", "install", *worker_arguments(identity), *more], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
