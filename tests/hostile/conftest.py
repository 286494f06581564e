"""A broker with keys, and peers that hold some of them."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostile.keyed_broker import KeyedBroker


@pytest.fixture
def keyed() -> Iterator[KeyedBroker]:
    directory = Path(tempfile.mkdtemp(prefix="crl"))
    try:
        with KeyedBroker(directory) as made:
            yield made
    finally:
        shutil.rmtree(directory)
