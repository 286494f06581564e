"""Which tests may be skipped where CI is set, and why. A skip anywhere else is a failure there: a test that does not run proves nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

MAY_BE_SKIPPED: Mapping[str, str] = {
    "tests/integration/test_crun.py": "needs crun, which is not one of the things Corral asks for",
    "tests/broker/test_command.py::test_an_ipv6_address_is_served": "needs IPv6, which many build machines do not have",
    "tests/integration/test_other_version.py": "needs an older commit, which a shallow clone has not",
    "tests/schemas/test_asyncapi.py": "needs node, which is not one of the things Corral asks for",
    "tests/client/test_node_example.py": "needs node, which is not one of the things Corral asks for",
    "tests/client/test_address.py::test_none_found_names_all_four_places": "needs a machine on which no `corral up` runs",
}
"""Beginning of a test's node id → the reason why it may be skipped."""


def unexcused(skipped: Iterable[tuple[str, str]], allowed: Mapping[str, str] = MAY_BE_SKIPPED) -> list[str]:
    """The skips, given as (node id, reason), that no entry of `allowed` covers; one line each."""
    return [f"{node}: {reason}" for node, reason in skipped if not any(_covers(entry, node) for entry in allowed)]


def missing_for_containers() -> str:
    """Why containers cannot be run here, empty where they can."""
    if os.geteuid() != 0:
        return "needs root"
    if shutil.which("runc") is None:
        return "needs runc"
    if not Path("/bin/busybox").exists():
        return "needs busybox-static"
    return ""


def _covers(entry: str, node: str) -> bool:
    """A file covers its tests, a test its parameters; `test_a` does not cover `test_ab`."""
    return node == entry or node.startswith((f"{entry}::", f"{entry}["))
