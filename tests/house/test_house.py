"""The mirror shows what it says it shows, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from house.house import ATTRIBUTES_MAX, FILES_MAX, FUNCTION_LINES_MAX, IMPORTS_MAX, findings


def found(folder: Path) -> list[list[tuple[int, str]]]:
    return [[(one.size, one.place) for one in places] for places in findings([folder], folder).values()]


def test_a_class_with_behaviour_and_many_attributes_is_shown_and_data_is_not(tmp_path: Path) -> None:
    many = [f"a{number}" for number in range(ATTRIBUTES_MAX + 1)]
    fields = "".join(f"    {name}: int\n" for name in many)
    sets = "".join(f"        self.{name} = self.{name} = 1\n" for name in many[1:])
    (tmp_path / "a.py").write_text(
        f"class Data:\n{fields}"
        f"class Port(Protocol):\n{fields}    def act(self): ...\n"
        f"class Busy:\n    {many[0]}: int\n    def act(self):\n{sets}"
        f"class Calm:\n    def act(self):\n{sets}"
    )
    assert found(tmp_path) == [[(ATTRIBUTES_MAX + 1, "a.py Busy")], [], [], []]


def test_a_file_that_needs_many_others_is_shown_unless_it_is_there_to_put_them_together(tmp_path: Path) -> None:
    lines = "".join(f"from corral_worker.m{number} import x\nimport os.m{number}\n" for number in range(IMPORTS_MAX))
    function = "def f():\n    import corral.one\n"
    (tmp_path / "needy.py").write_text(lines + function)
    (tmp_path / "modest.py").write_text(lines)
    (tmp_path / "service.py").write_text(lines + function)
    assert found(tmp_path) == [[], [(IMPORTS_MAX + 1, "needy.py")], [], []]


def test_a_full_folder_is_shown(tmp_path: Path) -> None:
    for folder, count in (("full", FILES_MAX + 1), ("fine", FILES_MAX), ("fine/.venv", FILES_MAX + 1)):
        (tmp_path / folder).mkdir()
        for name in ["__init__", *(f"m{number}" for number in range(count))]:
            (tmp_path / folder / f"{name}.py").touch()
    assert found(tmp_path) == [[], [], [(FILES_MAX + 1, "full/")], []]


def test_a_long_function_is_shown_and_its_docstring_does_not_count(tmp_path: Path) -> None:
    docstring = '    """One.\n\n    Two.\n    """\n'
    long = f"def long():\n{docstring}" + "    pass\n" * (FUNCTION_LINES_MAX + 1)
    fits = f"async def fits():\n{docstring}" + "    pass\n" * FUNCTION_LINES_MAX
    (tmp_path / "a.py").write_text(long + fits)
    assert found(tmp_path) == [[], [], [], [(FUNCTION_LINES_MAX + 1, "a.py long")]]


def test_the_whole_product_is_shown_and_the_status_is_0(tmp_path: Path) -> None:
    script = Path(__file__).with_name("house.py")
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "classes with more than 12 attributes: " in done.stdout
