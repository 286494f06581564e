"""The key directory in memory: which key is whose, read again within a second of a change.

Every file is small and read only when its size or time changed. A directory whose own time stands still is not looked through on every
turn, since files put there, moved away or replaced by renaming change it; files written in place are found by the slower full look.
"""

import fnmatch
import logging
import os
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from corral_broker.state.whole_file import write_whole
from corral_schemas import keyfiles
from corral_schemas.keyfiles import AcceptedKey, EnrolmentToken, KeyDirectoryFile, KeyFileError, PendingKey, Policy

LOOK_INTERVAL_S = 0.4
FULL_LOOK_SHARE = 30
"""Looking at every file takes at most this part (1/30) of the time."""
YOUNG_S = 0.1
"""A directory changed so recently may change again without a new time: it is looked through once more."""
PENDING_PER_ADDRESS_MAX = 8

log = logging.getLogger(__name__)
F = TypeVar("F", bound=KeyDirectoryFile)
Stamp = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Grant:
    """What an accepted key is."""

    name: str
    fingerprint: str
    role: str
    guest: str
    policy: Policy | None
    expires_s: float
    """Seconds since 1970; infinite where it does not expire."""
    rate_per_s: int
    in_flight_max: int


class Folder:
    """One directory of files of one kind."""

    def __init__(self, path: Path, kind: type[KeyDirectoryFile]) -> None:
        self.path = path
        self.files: dict[str, KeyDirectoryFile] = {}  # file name -> what it says
        self._kind = kind
        self._stamps: dict[str, Stamp] = {}
        self._seen_ns = -1  # the directory's time when it was last looked through; -1 when it was young then
        self._next_full_s = 0.0

    def refresh(self, now_s: float) -> bool:
        """True when something changed. A file that cannot be used counts as missing, and is said in the log."""
        try:
            changed_ns = self.path.stat().st_mtime_ns
        except FileNotFoundError:
            changed_ns = 0
        if changed_ns == self._seen_ns and now_s < self._next_full_s:
            return False
        started_s = time.monotonic()
        stamps = self._look()
        changed = stamps != self._stamps
        for name in self._stamps.keys() - stamps.keys():
            self.files.pop(name, None)
        for name, stamp in stamps.items():
            if self._stamps.get(name) != stamp:
                self._read(name)
        self._stamps = stamps
        self._seen_ns = changed_ns if time.time_ns() - changed_ns > YOUNG_S * 1e9 else -1
        self._next_full_s = now_s + max(LOOK_INTERVAL_S, FULL_LOOK_SHARE * (time.monotonic() - started_s))
        return changed

    def _look(self) -> dict[str, Stamp]:
        found: dict[str, Stamp] = {}
        try:
            with os.scandir(self.path) as entries:
                for entry in entries:
                    if entry.name.endswith(".toml") and entry.is_file(follow_symlinks=False):
                        status = entry.stat(follow_symlinks=False)
                        found[entry.name] = (status.st_mtime_ns, status.st_size, status.st_ino)
        except FileNotFoundError:  # removed while we looked, or never made
            return {name: stamp for name, stamp in found.items() if (self.path / name).exists()}
        return found

    def _read(self, name: str) -> None:
        self.files.pop(name, None)
        try:
            with (self.path / name).open("rb") as file:
                text = file.read(keyfiles.KEY_FILE_BYTES_MAX).decode()
            self.files[name] = keyfiles.parse(self._kind, text)
        except (OSError, UnicodeDecodeError, KeyFileError) as why:
            log.warning("key_file_unusable: %s: %s; taken as missing", self.path / name, why)


class Keyring:
    """What the key directory says. One thread; nothing here checks a message."""

    def __init__(self, directory: Path) -> None:
        """Makes what is missing of the directory (0700). Raises OSError."""
        self.directory = directory
        for name in keyfiles.DIRECTORIES:
            (directory / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        self._accepted = Folder(directory / keyfiles.ACCEPTED, AcceptedKey)
        self._revoked = Folder(directory / keyfiles.REVOKED, AcceptedKey)
        self._policies = Folder(directory / keyfiles.POLICIES, Policy)
        self._tokens = Folder(directory / keyfiles.TOKENS, EnrolmentToken)
        self._pending = Folder(directory / keyfiles.PENDING, PendingKey)
        self._grants: dict[str, Grant] = {}  # public key -> what it is
        self._barred: frozenset[str] = frozenset()
        self.withdrawn: frozenset[str] = frozenset()
        """Keys that the newest change has taken something from, or turned into something else."""
        self._next_look_s = 0.0
        self.refresh(0.0, time.time())

    def refresh(self, now_s: float, wall_s: float) -> bool:
        """Looks for changes, at most every LOOK_INTERVAL_S. True when some key may mean something else than before."""
        if now_s < self._next_look_s:
            return False
        self._next_look_s = now_s + LOOK_INTERVAL_S
        changed = [folder.refresh(now_s) for folder in (self._accepted, self._revoked, self._policies)]
        expired = [key for key, grant in self._grants.items() if grant.expires_s <= wall_s]
        if not any(changed) and not expired:
            return False
        before, self._grants = self._grants, {}
        self._barred = frozenset(key.public for key in self._revoked.files.values() if isinstance(key, AcceptedKey))
        for key in self._accepted.files.values():
            if isinstance(key, AcceptedKey) and key.public not in self._barred:
                grant = self._grant(key)
                if grant.expires_s > wall_s:
                    self._grants[key.public] = grant
        self.withdrawn = frozenset(key for key, grant in before.items() if self._grants.get(key) != grant)
        return True

    def grant(self, key: str) -> Grant | None:
        """What an accepted key is; None for any other."""
        return self._grants.get(key)

    def is_revoked(self, key: str) -> bool:
        return key in self._barred

    def put_on_pending(self, pending: PendingKey) -> str:
        """Notes an unknown key for somebody to accept. Returns why it could not be; empty when it is there (or was already)."""
        self._pending.refresh(0.0)
        name = f"{keyfiles.fingerprint(pending.public)}.toml"
        if name in self._pending.files:
            return ""
        known = [one for one in self._pending.files.values() if isinstance(one, PendingKey)]
        if len(known) >= keyfiles.PENDING_MAX:
            return f"{len(known)} keys are pending already"
        if sum(one.address == pending.address for one in known) >= PENDING_PER_ADDRESS_MAX:
            return f"{PENDING_PER_ADDRESS_MAX} keys from {pending.address} are pending already"
        return self._write(self._pending.path / name, pending, "Asks to be let in: `corral keys accept`, or `corral keys reject`.")

    def enrol(self, token: str, guest: str, public: str, wall_s: float) -> str:
        """Spends a token on this key. Returns why it could not; empty when the key is the guest's now."""
        self._tokens.refresh(0.0)
        digest = keyfiles.token_hash(token)
        tokens = [(name, file) for name, file in self._tokens.files.items() if isinstance(file, EnrolmentToken)]
        found = next(((name, file) for name, file in tokens if secrets.compare_digest(file.hash, digest)), None)
        if found is None:
            return "no such token"
        name, file = found
        if file.guest != guest:
            return "the token is for another guest"
        if keyfiles.parse_time(file.expires) <= wall_s:
            return "the token has expired"
        try:
            (self._tokens.path / name).unlink()  # whoever removes it has spent it
        except OSError:
            return "the token was used before"
        accepted = AcceptedKey(name=guest, public=public, role="guest", guest=guest, added=_rfc3339(wall_s))
        path = self._accepted.path / keyfiles.accepted_file_name(guest, public)
        failure = self._write(path, accepted, "Enrolled by a one-time token.")
        (self._pending.path / f"{keyfiles.fingerprint(public)}.toml").unlink(missing_ok=True)
        if not failure:
            self._grants[public] = self._grant(accepted)
        return failure

    def _grant(self, key: AcceptedKey) -> Grant:
        policy = None
        if key.role.startswith(keyfiles.POLICY_PREFIX):
            found = self._policies.files.get(f"{key.role.removeprefix(keyfiles.POLICY_PREFIX)}.toml")
            policy = found if isinstance(found, Policy) else Policy(allow=[])
        return Grant(
            name=key.name,
            fingerprint=keyfiles.fingerprint(key.public),
            role=key.role,
            guest=key.guest,
            policy=policy,
            expires_s=keyfiles.parse_time(key.expires) if key.expires else float("inf"),
            rate_per_s=key.rate_per_s,
            in_flight_max=key.in_flight_max,
        )

    def _write(self, path: Path, file: KeyDirectoryFile, comment: str) -> str:
        try:
            write_whole(path, keyfiles.text_of(file, comment).encode())
        except OSError as why:
            log.warning("key_file_unwritable: %s: %s", path, why)
            return f"the key directory cannot be written: {why.strerror}"
        return ""


def allows(policy: Policy, op: str, guest: str) -> bool:
    """Whether one of the policy's rules allows this op on this guest (empty: the broker itself)."""
    for rule in policy.allow:
        if (op in rule.ops or "*" in rule.ops) and (not guest or any(fnmatch.fnmatchcase(guest, one) for one in rule.guests)):
            return True
    return False


def exec_members(policy: Policy, guest: str) -> frozenset[str]:
    """Members of the OCI process that the policy's rules let an exec on this guest state; `*` stands for all."""
    rules = [rule for rule in policy.allow if allows(Policy(allow=[rule]), "exec", guest)]
    return frozenset(name for rule in rules for name in rule.exec_members)


def _rfc3339(wall_s: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(wall_s))
