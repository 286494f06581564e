"""Where CI is set a skip fails, unless it is excused; and no excuse outlives its test."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from corral_testkit.skips import MAY_BE_SKIPPED, unexcused

TESTS = Path(__file__).parents[1]
SKIPPING = "import pytest\n\ndef test_of_nothing():\n    pytest.skip('no moon tonight')\n"
WHOLE_MODULE = "import pytest\n\npytest.skip('no moon tonight', allow_module_level=True)\n"


def run_pytest(directory: Path, code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    (directory / "test_moon.py").write_text(code)
    (directory / "pytest.ini").write_text("[pytest]\n")
    known = {name: value for name, value in os.environ.items() if name != "CI" and not name.startswith("PYTEST_")}
    argv = [sys.executable, "-m", "pytest", "-p", "conftest", "-p", "no:cacheprovider", "--rootdir", str(directory), str(directory)]
    settings = {**known, "PYTHONPATH": str(TESTS), **environment}
    return subprocess.run(argv, cwd=directory, env=settings, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("code", [SKIPPING, WHOLE_MODULE])
def test_a_skip_is_a_failure_in_ci(tmp_path: Path, code: str) -> None:
    done = run_pytest(tmp_path, code, CI="true")
    assert done.returncode != 0
    assert "no moon tonight" in done.stdout
    assert "skips.py does not excuse this skip" in done.stdout


def test_a_skip_is_a_skip_elsewhere(tmp_path: Path) -> None:
    done = run_pytest(tmp_path, SKIPPING)
    assert (done.returncode, "1 skipped" in done.stdout) == (0, True), done.stdout


def test_an_excuse_covers_its_test_and_no_other() -> None:
    allowed = {"tests/a.py::test_b": "because"}
    skipped = ["tests/a.py::test_b", "tests/a.py::test_b[1]", "tests/a.py::test_bc", "tests/a.py"]
    assert unexcused([(node, "why") for node in skipped], allowed) == ["tests/a.py::test_bc: why", "tests/a.py: why"]


@pytest.mark.parametrize("entry", MAY_BE_SKIPPED)
def test_what_is_excused_exists_and_says_why(entry: str) -> None:
    path, _, name = entry.partition("::")
    code = (TESTS.parent / path).read_text()
    assert not name or re.search(rf"def {re.escape(name)}\(", code)
    assert MAY_BE_SKIPPED[entry]
