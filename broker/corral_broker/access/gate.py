"""Who may do what: every rule about keys, asked by the core before anything is done. It knows keys, not sockets."""

import time
from typing import Protocol

from corral_broker.access.audit import Audit
from corral_broker.access.keyring import Grant, Keyring, allows, exec_members
from corral_broker.access.quotas import Quotas, rate_per_s
from corral_broker.state.clock import Clock
from corral_broker.state.counters import Counters
from corral_broker.state.ports import Opaque
from corral_broker.state.senders import Sender
from corral_schemas.commands import ExecArgs
from corral_schemas.errors import CorralError, error
from corral_schemas.frames import CommandHeader, unpack
from corral_schemas.keyfiles import PENDING_MAX, PendingKey, Policy, fingerprint
from corral_schemas.names import check_guest_name
from corral_schemas.ops import OPS
from corral_schemas.queries import ForgetGuestsArgs
from corral_schemas.session import Register

TELL_AGAIN_S = 1.0
"""An unknown key that asks again and again is looked for in the key directory this often."""
STRAY_COST = 0.25
"""Of a message that answers nothing: a reply to what was asked over an earlier session is no fault, and there may be thousands at once."""
FOR_ALL = ("hello",)
"""Ops that any key may use: a worker asks for the broker's addresses before it is known."""


class Gate(Protocol):
    """What the core asks before it does anything for a sender."""

    def command(self, sender: Sender, header: CommandHeader, args: Opaque, in_flight: int) -> CorralError | None:
        """Why the command is refused; None when it may pass. `in_flight`: commands of this key sent and not yet answered."""

    def may(self, sender: Sender, op: str, guest: str) -> bool:
        """Whether the command may pass, with nothing counted or noted."""

    def rate_per_s(self, sender: Sender) -> int:
        """How many commands a second this sender may send; 0: any number."""

    def register(self, sender: Sender, register: Register) -> CorralError | None:
        """Why the registration is refused; an unknown key may become the guest's by a token here."""

    def speaks_for(self, sender: Sender, guest: str) -> bool:
        """Whether messages of this sender are this guest's."""

    def unasked(self, sender: Sender, *, stray: bool = False) -> bool:
        """Whether a message of a guest's session that answers nothing may pass; too many may not. stray: a reply that nobody waits for."""


class OpenGate:
    """Without keys: whoever can open a socket may do everything."""

    def command(self, sender: Sender, header: CommandHeader, args: Opaque, in_flight: int) -> CorralError | None:
        return None

    def may(self, sender: Sender, op: str, guest: str) -> bool:
        return True

    def rate_per_s(self, sender: Sender) -> int:
        return 0

    def register(self, sender: Sender, register: Register) -> CorralError | None:
        return None

    def speaks_for(self, sender: Sender, guest: str) -> bool:
        return True

    def unasked(self, sender: Sender, *, stray: bool = False) -> bool:
        return True


class KeyGate:
    """With keys: what the key behind a connection is accepted for, and nothing else."""

    def __init__(self, keyring: Keyring, audit: Audit, counters: Counters, clock: Clock, quotas: Quotas) -> None:
        self._keyring = keyring
        self._audit = audit
        self._counters = counters
        self._clock = clock
        self._quotas = quotas
        self._told: dict[str, tuple[float, str]] = {}  # unknown key -> until when it is told the same, and what

    def command(self, sender: Sender, header: CommandHeader, args: Opaque, in_flight: int) -> CorralError | None:
        grant = self._keyring.grant(sender.key)
        if grant is not None:  # first, so that nobody is refused, and that written down, as often as he likes
            over = self._quotas.refusal(sender.key, grant, in_flight, self._clock.now_s)
            if over is not None:
                return self._over_quota(sender, grant, header, args, over)
        refusal = self._refusal(sender, grant, header.op, header.guest)
        if refusal is None and header.op == "forget_guests" and grant is not None and grant.policy is not None:
            refusal = self._refusal_of_one(sender, grant, header.op, args)
        if refusal is None and header.op == "exec" and grant is not None and grant.policy is not None:
            refusal = _refusal_of_members(grant, grant.policy, header, args)
        if refusal is None and header.op == "replay" and not header.guest and grant is not None and not _is_for_all(grant, header.op):
            refusal = error("unauthorized", f"key {grant.name} ({grant.role}) may not replay of all guests", op=header.op)
        if refusal is not None:
            self._note(sender, grant, header, refusal)
        self._audit.command(_name(grant), sender, header, args, refusal)
        return refusal

    def _refusal_of_one(self, sender: Sender, grant: Grant, op: str, args: Opaque) -> CorralError | None:
        """Of the first guest named in the arguments that the policy does not let it do this to."""
        try:
            names = unpack(ForgetGuestsArgs, args, op).guests
        except CorralError:  # it is answered so
            return None
        return next((refusal for name in names if (refusal := self._refusal(sender, grant, op, name)) is not None), None)

    def _over_quota(self, sender: Sender, grant: Grant, header: CommandHeader, args: Opaque, over: CorralError) -> CorralError:
        """Counts it; log and audit log get one line a second and key, which says of how many."""
        count = self._quotas.to_say(sender.key, self._clock.now_s)
        if not count:
            self._counters.add(f"command_{over.code}")
            return over
        self._note(sender, grant, header, over)
        said = over if count == 1 else error(over.code, f"{over.message} ({count} refused since the last line)")
        self._audit.command(grant.name, sender, header, args, said)
        return over

    def _note(self, sender: Sender, grant: Grant | None, header: CommandHeader, refusal: CorralError) -> None:
        what = f"{_who(sender, grant)}: {header.op} {header.guest}: {refusal.message}"
        self._counters.note(f"command_{refusal.code}", what, self._clock.now_s)

    def rate_per_s(self, sender: Sender) -> int:
        grant = self._keyring.grant(sender.key)
        return 0 if grant is None else rate_per_s(grant)

    def may(self, sender: Sender, op: str, guest: str) -> bool:
        return self._refusal(sender, self._keyring.grant(sender.key), op, guest) is None

    def register(self, sender: Sender, register: Register) -> CorralError | None:
        if self.speaks_for(sender, register.guest):
            return None
        grant = self._keyring.grant(sender.key)
        if grant is not None:
            what = f"the guest {grant.guest}" if grant.role == "guest" else f"role {grant.role}"
            why = f"key {grant.name} is for {what}, not for the guest {register.guest}"
        else:
            why = self._enrol(sender, register)
        self._audit.registration(_name(grant), sender, register.guest, why)
        return error("unauthorized", why) if why else None

    def speaks_for(self, sender: Sender, guest: str) -> bool:
        grant = self._keyring.grant(sender.key)
        return grant is not None and grant.role == "guest" and grant.guest == guest

    def unasked(self, sender: Sender, *, stray: bool = False) -> bool:
        grant = self._keyring.grant(sender.key)
        cost = STRAY_COST if stray else 1.0
        if grant is None or self._quotas.passes("workers", sender.key, grant, self._clock.now_s, cost):
            return True
        self._counters.note("session_over_rate", f"{grant.name} from {sender.address}", self._clock.now_s)
        return False

    def _refusal(self, sender: Sender, grant: Grant | None, op: str, guest: str) -> CorralError | None:
        if op in FOR_ALL:
            return None
        if grant is None:
            return error("unauthorized", self._why_unknown(sender, "client", ""))
        known = OPS.get(op)
        if grant.policy is not None:
            allowed = allows(grant.policy, op, guest)
        else:
            # an op unknown here is one of newer clients and workers: nobody knows what it does, so only operators may
            allowed = grant.role == "operator" or (grant.role == "observer" and known is not None and known.role == "observer")
        if allowed:
            return None
        where = f" on guest {guest}" if guest else ""
        return error("unauthorized", f"key {grant.name} ({grant.role}) may not {op}{where}", op=op, guest=guest, key=grant.fingerprint)

    def _enrol(self, sender: Sender, register: Register) -> str:
        """Why the key does not become the guest's now; empty when it does."""
        if self._keyring.is_revoked(sender.key):
            return "this key was revoked"
        if register.token:
            failure = self._keyring.enrol(register.token, register.guest, sender.key, self._clock.wall_ns / 1e9)
            if not failure:
                return ""
            return f"{failure}; {self._why_unknown(sender, 'guest', register.guest)}"
        return self._why_unknown(sender, "guest", register.guest)

    def _why_unknown(self, sender: Sender, kind: str, name: str) -> str:
        if self._keyring.is_revoked(sender.key):
            return "this key was revoked"
        if not sender.key:
            return "no key is behind this message"
        if name:
            check_guest_name(name)
        until_s, told_before = self._told.get(sender.key, (0.0, ""))
        if self._clock.now_s < until_s:
            return told_before
        pending = PendingKey(public=sender.key, kind=kind, name=name, address=sender.address, first_seen=_seconds_text(self._clock))
        failure = self._keyring.put_on_pending(pending)
        told = fingerprint(sender.key)
        as_what = f"--guest {name}" if kind == "guest" else "--name NAME --role operator"
        why = f"key {told} is pending: `corral keys accept {told} {as_what}` on the broker's host lets it in"
        if failure:
            why = f"key {told} is unknown here, and {failure}"
        if len(self._told) >= PENDING_MAX:
            self._told.clear()
        self._told[sender.key] = (self._clock.now_s + TELL_AGAIN_S, why)
        return why


def _refusal_of_members(grant: Grant, policy: Policy, header: CommandHeader, args: Opaque) -> CorralError | None:
    """Of an exec that states members of the OCI process, capabilities for instance, which the policy does not name."""
    allowed = exec_members(policy, header.guest)
    if "*" in allowed:
        return None
    try:
        stated = unpack(ExecArgs, args, header.op).spec.oci
    except CorralError as why:
        return why
    beyond = [name for name in stated if name not in allowed]
    if not beyond:
        return None
    what = f"{beyond[0][:100]!r} of a process on guest {header.guest}: no exec_members name it"
    why_not = f"key {grant.name} ({grant.role}) may not state {what}"
    return error("unauthorized", why_not, op=header.op, guest=header.guest, key=grant.fingerprint)


def _is_for_all(grant: Grant, op: str) -> bool:
    """Whether it is not confined to some guests."""
    return grant.policy is None or any("*" in rule.guests and (op in rule.ops or "*" in rule.ops) for rule in grant.policy.allow)


def _name(grant: Grant | None) -> str:
    return grant.name if grant is not None else ""


def _who(sender: Sender, grant: Grant | None) -> str:
    return f"{_name(grant) or 'unknown key'} ({fingerprint(sender.key)}, {sender.address})"


def _seconds_text(clock: Clock) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(clock.wall_ns / 1e9))
