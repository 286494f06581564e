"""pip, which brings uv, is the one that the chosen Python has with it: that of another Python may not run on it."""

import ensurepip
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from corral_lock.environments import bundled_pip

PYTHON = Path(sys.executable)


def test_the_pip_that_comes_with_this_python_runs_on_it() -> None:
    done = subprocess.run([*bundled_pip(PYTHON), "--version"], capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("kept_elsewhere", [True, False])
def test_it_is_looked_for_where_this_python_keeps_it(kept_elsewhere: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("elsewhere", "_bundled"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "pip-1-py3-none-any.whl").touch()
    monkeypatch.setattr(ensurepip, "__file__", str(tmp_path / "__init__.py"))
    monkeypatch.setattr(sysconfig, "get_config_var", lambda _name: str(tmp_path / "elsewhere") if kept_elsewhere else None)
    place = "elsewhere" if kept_elsewhere else "_bundled"
    assert bundled_pip(PYTHON) == [str(PYTHON), str(tmp_path / place / "pip-1-py3-none-any.whl" / "pip")]
