"""The contexts in config.toml: a name for a broker and the keys it is dialled with. Whatever else a person wrote there stays."""

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from corral.address import check_address, config_path, read_config
from corral.cli.text.failures import Failed
from corral.placing import placed

if TYPE_CHECKING:
    from tomlkit import TOMLDocument

LOCAL = "local"
"""The context that `corral up` writes."""


@dataclass(frozen=True)
class Context:
    """One entry of the file."""

    name: str
    broker: str
    """Address; several comma separated."""
    key: str = ""
    """Key file; where it is no absolute path, beside config.toml."""
    server_key: str = ""
    """The broker's public key, or a file that holds it."""
    current: bool = False


def path() -> Path:
    """The file, whether it is there or not."""
    return config_path(os.environ)


def known() -> list[Context]:
    """All of them, by name. Raises bad_request for a file that cannot be read."""
    config = read_config(os.environ)
    current = config.get("current", "")
    entries = config.get("contexts", {})
    found = [(name, entry) for name, entry in sorted(entries.items()) if isinstance(entry, Mapping)]
    return [
        Context(name, _joined(entry.get("broker", "")), str(entry.get("key", "")), str(entry.get("server_key", "")), name == current)
        for name, entry in found
    ]


def named(name: str) -> Context:
    """Raises Failed, with the nearest name, where there is none."""
    contexts = known()
    for context in contexts:
        if context.name == name:
            return context
    from difflib import get_close_matches

    nearest = get_close_matches(name, [context.name for context in contexts], 1)
    hint = f"did you mean {nearest[0]}?" if nearest else "corral context list"
    raise Failed(f"there is no context {name!r} in {path()}", hint=hint)


def put(context: Context, keep: Callable[[Context], bool] = lambda _: False) -> Context | None:
    """Adds or replaces it; with `current` it becomes the current one. One of that name that `keep` is true of is left and given back.

    Raises bad_request for an address, Failed for a file.
    """
    for address in context.broker.split(","):
        check_address(address.strip())
    entry = {"broker": context.broker, "key": context.key, "server_key": context.server_key}
    with _editing() as config:
        for there in known():
            if there.name == context.name and keep(there):
                return there
        contexts = config.setdefault("contexts", _super_table())
        contexts[context.name] = {key: value for key, value in entry.items() if value}
        if context.current:
            config["current"] = context.name
    return None


def use(name: str) -> None:
    """Makes it the current one. An empty name: none is. Raises Failed."""
    if name:
        named(name)
    with _editing() as config:
        if name:
            config["current"] = name
        else:
            config.pop("current", None)


def remove(name: str) -> None:
    """Raises Failed."""
    named(name)
    with _editing() as config:
        config["contexts"].pop(name)
        if config.get("current") == name:
            config.pop("current")


def _joined(broker: Any) -> str:
    return broker if isinstance(broker, str) else ",".join(map(str, broker))


def _super_table() -> Any:
    import tomlkit

    return tomlkit.table(is_super_table=True)


@contextlib.contextmanager
def _editing() -> "Iterator[TOMLDocument]":
    """The file's content, to be changed; written back whole or not at all, one editor at a time."""
    import tomlkit

    file = path()
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory = os.open(file.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(directory, fcntl.LOCK_EX)
            read_config(os.environ)  # says what is wrong with it in our words
            config = tomlkit.parse(file.read_text() if file.exists() else "")
            yield config
            with placed(file, 0o600) as fresh:
                fresh.write(tomlkit.dumps(config).encode())
        finally:
            os.close(directory)
    except OSError as why:
        raise Failed(f"{file} cannot be written: {why.strerror or why}", hint="XDG_CONFIG_HOME says where it is looked for") from why
