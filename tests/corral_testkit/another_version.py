"""Runs a module of Corral from another checkout: `python -m corral_testkit.another_version TREE MODULE ARGUMENT…`."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

PACKAGES = ("schemas", "broker", "worker", "client")


def main() -> None:
    """Put the packages of that tree before those installed here, and run the module as a program."""
    tree, module, *arguments = sys.argv[1:]
    sys.path[:0] = [str(Path(tree) / package) for package in PACKAGES]
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
