"""schemas/asyncapi.json as AsyncAPI's own parser reads it."""

import shutil
import subprocess
from pathlib import Path

import pytest

from corral_schemas.ops import OPS

DOCUMENT = Path(__file__).resolve().parents[2] / "schemas" / "asyncapi.json"
PARSER = Path(__file__).resolve().parents[2] / ".venv" / "asyncapi"


@pytest.mark.skipif(
    not shutil.which("node") or not (PARSER / "node_modules").is_dir(), reason="needs node and @asyncapi/parser (deploy/setup.sh tests)"
)
def test_asyncapis_own_parser_finds_nothing_wrong() -> None:
    reader = Path(__file__).parent / "read_asyncapi.mjs"
    read = subprocess.run(["node", reader, PARSER, DOCUMENT], capture_output=True, text=True, timeout=50, check=False)
    assert read.returncode == 0, read.stdout + read.stderr
    assert int(read.stdout.split()[0]) > len(OPS)  # each command, its reply, and what is published
