"""The environments given to processes, as they lie on disk for the runtime: secrets often, and gone once nobody needs them."""

import json
import os
from pathlib import Path

from corral_worker.base.paths import GuestPaths

EXEC_FILE = "process.json"
"""The OCI process of an exec, in its directory."""


def forget_exec(directory: Path) -> None:
    """What an exec was made from, once the runtime has read it. Safe to repeat."""
    (directory / EXEC_FILE).unlink(missing_ok=True)


def forget_container(paths: GuestPaths, instance: str) -> None:
    """Every environment of a container that the runtime has deleted. Safe to repeat. Raises OSError.

    The rest of its configuration stays: by it a cgroup that resists is found again.
    """
    for file in paths.container(instance).glob(f"*/{EXEC_FILE}"):
        file.unlink(missing_ok=True)
    config_path = paths.bundle(instance) / "config.json"
    try:
        config = json.loads(config_path.read_bytes())
    except (FileNotFoundError, ValueError):  # never written, or torn by a power cut: it was of no use
        config_path.unlink(missing_ok=True)
        return
    config.get("process", {}).pop("env", None)
    aside = config_path.with_name("config.json.new")
    with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w") as made:
        json.dump(config, made)
    aside.replace(config_path)
