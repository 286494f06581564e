"""The keys that a tcp connection is made with: from the environment, or from the context of the broker that is dialled."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from corral.address import config_path, read_config
from corral_schemas.errors import error
from corral_schemas.keyfiles import KeyFileError, KeyPair, check_key, check_secret_mode, parse

KEY_NAME, SERVER_KEY_NAME = "CORRAL_KEY", "CORRAL_SERVER_KEY"


@dataclass(frozen=True, slots=True)
class Keys:
    """All in Z85. The secret comes from a file, never from an argument."""

    public: str
    secret: str
    server: str


def find_keys(addresses: Sequence[str], environment: Mapping[str, str] | None = None) -> Keys | None:
    """The keys for these brokers: CORRAL_KEY (a file) and CORRAL_SERVER_KEY (a key, or a file that holds one), else `key` and
    `server_key` of the context in config.toml whose broker is one of them. None where neither is there, or none is dialled by tcp.

    Raises bad_request where one of the two is there without the other, or cannot be read.
    """
    known = os.environ if environment is None else environment
    if not any(address.startswith("tcp://") for address in addresses):
        return None
    key, server_key = known.get(KEY_NAME, ""), known.get(SERVER_KEY_NAME, "")
    if not key and not server_key:
        key, server_key = _from_contexts(addresses, known)
    return load_keys(key, server_key) if key or server_key else None


def load_keys(key_file: str, server_key: str) -> Keys:
    """Raises bad_request."""
    if not key_file or not server_key:
        missing, name = ("a key", KEY_NAME) if not key_file else ("the broker's public key", SERVER_KEY_NAME)
        raise error("bad_request", f"{missing} is missing: set {name}, or both in the context (corral keys new makes a key)")
    try:
        pair = parse(KeyPair, _read(key_file, secret=True))
        return Keys(pair.public, check_key(pair.secret), _server_key(server_key))
    except KeyFileError as why:
        raise error("bad_request", f"keys cannot be used: {why}") from why


def _server_key(text: str) -> str:
    if len(text) == 40 and not Path(text).exists():
        return check_key(text)
    return parse(KeyPair, _read(text)).public


def _read(path: str, *, secret: bool = False) -> str:
    try:
        with Path(path).expanduser().open() as file:
            if secret:
                check_secret_mode(path, os.fstat(file.fileno()).st_mode)
            return file.read()
    except (OSError, UnicodeDecodeError) as why:
        raise KeyFileError(f"{path}: {why}") from why


def _from_contexts(addresses: Sequence[str], environment: Mapping[str, str]) -> tuple[str, str]:
    config = read_config(environment)
    contexts = config.get("contexts", {})
    current = str(config.get("current", ""))
    for name in sorted(contexts, key=lambda name: name != current):
        context = contexts[name]
        brokers = context.get("broker", []) if isinstance(context, dict) else []
        named = brokers.split(",") if isinstance(brokers, str) else brokers
        if any(one.strip() in addresses for one in named):
            key, server_key = str(context.get("key", "")), str(context.get("server_key", ""))
            beside = config_path(environment).parent
            return (str(beside / Path(key).expanduser()) if key else ""), server_key
    return "", ""
