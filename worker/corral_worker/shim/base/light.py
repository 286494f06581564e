"""Stand-ins for the parts of typing, dataclasses and pathlib that shims use.

These modules, with what they import in turn (inspect, ast, dis, tokenize, urllib, …), would cost each shim half a
megabyte of its own. The type checker sees the real ones.
"""

# This is what stands in for pathlib.
# ruff: noqa: PTH100, PTH101, PTH102, PTH104, PTH106, PTH108, PTH110, PTH112, PTH116, PTH120

from __future__ import annotations

import os

TYPE_CHECKING = False  # the type checker takes this name for true, wherever it comes from

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
    from pathlib import Path as Path
    from typing import Any as Any
    from typing import Literal as Literal
    from typing import Protocol as Protocol
else:
    Any = Protocol = object

    class Literal:
        """Only ever subscripted."""

        def __class_getitem__(cls, _values):
            return cls

    def dataclass(**_options):
        """Of its decorators only what is used: slots, defaults, equality. That nothing frozen changes is checked by type."""

        def make(cls):
            names = tuple(cls.__annotations__)
            defaults = {name: cls.__dict__[name] for name in names if name in cls.__dict__}
            content = {name: value for name, value in cls.__dict__.items() if name not in (*names, "__dict__", "__weakref__")}

            __init__ = _initializer(names, defaults)

            def __eq__(self, other):
                same_class = other.__class__ is self.__class__
                return same_class and all(getattr(self, name) == getattr(other, name) for name in names)

            def __hash__(self):
                return hash(tuple(getattr(self, name) for name in names))

            def __repr__(self):
                return f"{cls.__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"

            methods = {"__init__": __init__, "__eq__": __eq__, "__hash__": __hash__, "__repr__": __repr__}
            return type(cls.__name__, cls.__bases__, {**content, **methods, "__slots__": names})

        return make

    def _initializer(names, defaults):
        """``__init__`` as a dataclass has it, compiled as there: records are made by the thousand, so it is as fast as one written out."""
        parameters = ", ".join(f"{name}=_defaults['{name}']" if name in defaults else name for name in names)
        lines = "".join(f"\n    self.{name} = {name}" for name in names)
        made = {"_defaults": defaults}
        exec(f"def __init__(self, {parameters}):{lines}", made)
        return made["__init__"]

    class Path(str):
        """A path as text, with pathlib's names for what can be done with it. Every method is as there."""

        __slots__ = ()

        def __new__(cls, *parts):
            return super().__new__(cls, "/".join(map(os.fspath, parts)))

        def __fspath__(self):
            return str(self)

        def __truediv__(self, name):
            return Path(self, name)

        @property
        def parent(self):
            return Path(os.path.dirname(self))

        def absolute(self):
            return Path(os.path.abspath(self))

        def exists(self):
            return os.path.exists(self)

        def stat(self):
            return os.stat(self)

        def chmod(self, mode):
            os.chmod(self, mode)

        def rename(self, target):
            os.rename(self, target)

        def rmdir(self):
            os.rmdir(self)

        def mkdir(self, mode=0o700, parents=False, exist_ok=False):
            try:
                os.mkdir(self, mode)
            except FileNotFoundError:
                if not parents:
                    raise
                self.parent.mkdir(parents=True, exist_ok=True)
                self.mkdir(mode, exist_ok=exist_ok)
            except FileExistsError:
                if not exist_ok or not os.path.isdir(self):
                    raise

        def unlink(self, missing_ok=False):
            try:
                os.unlink(self)
            except FileNotFoundError:
                if not missing_ok:
                    raise

        def read_bytes(self):
            fd = os.open(self, os.O_RDONLY | os.O_CLOEXEC)
            try:
                parts = []
                while part := os.read(fd, 65536):
                    parts.append(part)
                return b"".join(parts)
            finally:
                os.close(fd)

        def read_text(self):
            return self.read_bytes().decode()

        def write_text(self, text):
            fd = os.open(self, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                data = memoryview(text.encode())
                while data:
                    data = data[os.write(fd, data) :]
            finally:
                os.close(fd)
