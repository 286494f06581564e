"""Variables of the Makefile stay inside it: programs that it starts, such as a bundle's install.sh, read some of the same names."""

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_python_that_make_is_given_does_not_reach_what_it_runs(tmp_path: Path) -> None:
    (tmp_path / "Makefile").write_text("include Makefile\nshown:\n\t@env\n\t@echo used: $(PYTHON)\n")
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHON", "MAKEFLAGS", "MFLAGS")}
    command = ["make", "--no-print-directory", "-f", str(tmp_path / "Makefile"), "shown", "PYTHON=another/python"]
    shown = subprocess.run(command, cwd=ROOT, env=clean, capture_output=True, text=True, timeout=30, check=True).stdout.splitlines()
    assert "used: another/python" in shown
    assert [line for line in shown if line.startswith("PYTHON=")] == []
