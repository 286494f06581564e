"""The stand-ins that shims use do what the modules do that they stand in for."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest

from corral_worker.shim.base import light
from corral_worker.shim.base.files import remove_tree

PACKAGES = str(Path(light.__file__).parents[3])


def _what_happens(make: Any, base: Path) -> list[object]:
    """The same calls with either kind of path: what they return and raise."""
    root = make(str(base))
    seen: list[object] = []

    def do(call: Any) -> None:
        try:
            result = call()
        except OSError as error:
            seen.append(type(error))
        else:
            seen.append(str(result).replace(str(base), "") if isinstance(result, str | os.PathLike) else result)

    deep = root / "a" / f"{1}" / "b"
    file = deep / "file"
    do(deep.mkdir)
    do(lambda: deep.mkdir(parents=True))
    do(deep.mkdir)
    do(lambda: deep.mkdir(parents=True, exist_ok=True))
    do(lambda: oct((deep / "c").mkdir(mode=0o700) or (deep / "c").stat().st_mode))
    do(file.read_bytes)
    do(lambda: file.write_text("hé\n" * 100_000) and None)
    do(lambda: len(file.read_bytes()))
    do(lambda: file.read_text()[:3])
    do(lambda: file.write_text("short") and None)
    do(file.read_text)
    do(lambda: file.mkdir(exist_ok=True))
    do(lambda: file.chmod(0o600))
    do(lambda: oct(file.stat().st_mode))
    do(file.rmdir)
    do(lambda: file.rename(deep / "other") and None)
    do(file.exists)
    do((deep / "other").exists)
    do(lambda: deep.parent)
    do(lambda: make(root, "x", "y.sock"))
    do(lambda: make("rel").absolute() == make(str(Path.cwd()), "rel"))
    do(lambda: os.stat(deep / "other").st_size)  # noqa: PTH116
    do(file.unlink)
    do(lambda: file.unlink(missing_ok=True))
    do((deep / "other").unlink)
    do((deep / "c").rmdir)
    do(lambda: sorted({root / "b", root / "a", root / "b"})[0])
    do(lambda: root / "a" == make(str(base), "a"))
    do(lambda: os.fspath(root / "a"))
    return seen


def test_paths_do_what_pathlib_does(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "light").mkdir()
    assert _what_happens(light.Path, tmp_path / "light") == _what_happens(pathlib.Path, tmp_path / "real")


def test_data_classes_hold_compare_and_refuse_what_dataclasses_do() -> None:
    def make(dataclass: Any) -> Any:
        class Place:
            """Two fields."""

            name: str
            number: int = 3

            def both(self) -> tuple[str, int]:
                return self.name, self.number

        return dataclass(frozen=True, slots=True)(Place)

    for kind in (make(light.dataclass), make(dataclasses.dataclass)):
        assert kind("a") == kind(name="a", number=3)
        assert kind("a") != kind("a", 4)
        assert len({kind("a"), kind("a"), kind("b")}) == 2
        assert kind("a", number=5).both() == ("a", 5)
        assert repr(kind("a")).endswith("Place(name='a', number=3)")
        assert not hasattr(kind("a"), "__dict__")
        for values, named in (((), {}), (("a", 1, 2), {}), (("a",), {"other": 1})):
            with pytest.raises(TypeError):
                kind(*values, **named)


def test_the_zygote_imports_nothing_that_would_cost_every_shim_memory() -> None:
    program = f"import sys; sys.path.insert(0, {PACKAGES!r}); import corral_worker.shim.zygote.zygote; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=True)
    heavy = {"pathlib", "typing", "dataclasses", "inspect", "argparse", "shutil", "traceback", "tempfile", "asyncio", "hashlib", "zmq"}
    assert not heavy & set(done.stdout.split())


def test_without_site_packages_a_shim_computes_checksums_all_the_same() -> None:
    program = f"import sys; sys.path.insert(0, {PACKAGES!r}); from corral_worker.shim.base.checksum import crc32; print(crc32(b'corral'))"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=True)
    assert int(done.stdout) == zlib.crc32(b"corral")


def test_a_tree_is_removed_whole_and_links_out_of_it_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").touch()
    (tmp_path / "tree" / "a" / "b").mkdir(parents=True)
    (tmp_path / "tree" / "a" / "file").touch()
    (tmp_path / "tree" / "link").symlink_to(tmp_path / "kept")
    assert remove_tree(tmp_path / "tree")
    assert remove_tree(tmp_path / "tree")
    assert (tmp_path / "kept" / "file").exists()
