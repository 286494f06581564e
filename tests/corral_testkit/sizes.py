"""How big a test is: small ones for `make test`, those of the guarantees for `make chaos`, by the same code."""

from __future__ import annotations

import os

VARIABLE = "CORRAL_TEST_SIZE"


def size(scaled: int, full: int) -> int:
    """`full` where CORRAL_TEST_SIZE=full is set, else `scaled`. Call it in the test."""
    return full if os.environ.get(VARIABLE) == "full" else scaled


def is_full() -> bool:
    return bool(size(0, 1))
