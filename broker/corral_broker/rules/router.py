"""The router's rules: a client's command to the session that registered for its guest, the guest's answer back, and an answer always.

A command is answered once: by its guest, or by the broker when the guest is unknown, down, busy or gone, or when the deadline has passed.
A repeat of a command that is still unanswered, by the same connection, is not sent a second time: nothing is lost between a broker and a
session that stands, and repeats would use up the guest's credits.
"""

from collections.abc import Callable

import msgspec

from corral_broker.access.gate import Gate
from corral_broker.rules.nearest import NearestNames
from corral_broker.rules.parking import Held, Parking, aged_header
from corral_broker.rules.shared_args import SharedArgs
from corral_broker.state.clock import Clock
from corral_broker.state.counters import Counters
from corral_broker.state.guest import Guest
from corral_broker.state.pending import PendingTable, fingerprint
from corral_broker.state.ports import Frames, Opaque, Ports
from corral_broker.state.registry import Registry
from corral_broker.state.senders import Sender
from corral_schemas.errors import CorralError, error
from corral_schemas.frames import CommandHeader, ReplyHeader, decode_command_header, encode_reply, op_named
from corral_schemas.keyfiles import fingerprint as key_fingerprint
from corral_schemas.limits import (
    BROKER_HOLD_S,
    FRAME_BYTES_MAX,
    HEADER_BYTES_MAX,
    IN_FLIGHT_PER_GUEST_MAX,
    REQUEST_ID_CHARS_MAX,
    WAITS_PER_GUEST_MAX,
)
from corral_schemas.names import check_guest_name, check_request_id
from corral_schemas.ops import OPS
from corral_schemas.session import COMMAND


class _JustId(msgspec.Struct):
    """All that is needed of a command to answer that it cannot be read."""

    id: str = ""


_UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_reply_header = msgspec.msgpack.Decoder(ReplyHeader)
_just_id = msgspec.msgpack.Decoder(_JustId)

OwnAnswer = Callable[[CommandHeader], msgspec.Struct]


class Router:
    """No sockets: frames in, frames out through `ports`."""

    def __init__(
        self,
        ports: Ports,
        registry: Registry,
        counters: Counters,
        clock: Clock,
        first_ref: int,
        on_gone: Callable[[Guest, str], None],
        gate: Gate,
    ) -> None:
        """`on_gone` is called when a send shows that a guest's connection is no more."""
        self._ports = ports
        self._registry = registry
        self._counters = counters
        self._clock = clock
        self._on_gone = on_gone
        self._gate = gate
        self._nearest = NearestNames()
        self._hold_until_s = clock.now_s + BROKER_HOLD_S
        self.pending = PendingTable(first_ref)
        self.parking = Parking()
        self._shared = SharedArgs()

    def command(self, frames: list[Opaque], sender: Sender) -> CommandHeader | None:
        """[client, header, args] → sent, held or answered. Returns the header of a command the broker itself is asked."""
        client = frames[0]
        try:
            header = decode_command_header(frames[1:])
            check_request_id(header.id)
            if not header.guest and not op_named(header.op).broker:
                raise error("bad_request", f"{header.op} needs a guest")
        except CorralError as why:
            self._refuse_malformed(frames, why)
            return None
        refusal = self._gate.command(sender, header, frames[2], self.pending.in_flight_of(sender.key))
        if refusal is not None:
            self.answer(client, header.id, refusal, header.guest)
            return None
        if not header.guest:
            return header
        args = frames[2]
        if header.shared and header.op in OPS and OPS[header.op].upload:  # of no other: the audit log says what came with a command
            args = self._shared.resolve(client, header.shared, args, self._clock.now_s)
        if args is None:
            self.answer(client, header.id, error("args_unknown", "send the arguments whole", shared=header.shared), header.guest)
            return None
        guest = self._registry.guests.get(header.guest)
        if guest is None or guest.main is None:
            self._hold_or_refuse(client, header, frames[1], args, sender)
        else:
            deadline_s = self._clock.now_s + header.timeout_ms / 1000
            self._send(guest, client, header, frames[1], args, deadline_s, sender.key)
        return None

    def reply(self, guest: Guest, frames: list[Opaque]) -> None:
        """[session, REPLY, ref, header, body] of one of the guest's sessions → its client, if it answers a command sent to this guest."""
        if len(frames) != 5:
            self._stray(guest, "reply_malformed", f"{len(frames)} frames from {guest.name}")
            return
        pending = guest.credits.by_ref.get(frames[2])
        if pending is None and bytes(frames[2]) in guest.credits.given_up:
            del guest.credits.given_up[bytes(frames[2])]
            self._counters.add("replies_late")
            return
        if pending is None:
            self._stray(guest, "replies_unmatched", f"{guest.name} answered what it was not asked")
            return
        try:
            header = _reply_header.decode(frames[3]) if len(frames[3]) <= HEADER_BYTES_MAX else None
        except _UNDECODABLE:
            header = None
        if header is None or header.id != pending.request_id or header.guest != guest.name:
            self._stray(guest, "reply_refused", f"{guest.name} answered with the header of another command")
            return
        self.pending.finish(guest.credits, pending)
        if pending.answered:
            self._counters.add("replies_late")
        elif len(frames[4]) > FRAME_BYTES_MAX + HEADER_BYTES_MAX:
            why = error("message_too_large", f"the reply has {len(frames[4])} bytes; the limit is {FRAME_BYTES_MAX}", limit=FRAME_BYTES_MAX)
            self.answer(pending.client, pending.request_id, why, guest.name)
        else:
            self._counters.add("replies")
            self._ports.to_client([pending.client, frames[3], frames[4]])

    def _stray(self, guest: Guest, reason: str, what: str) -> None:
        if self._gate.unasked(guest.sender, stray=True):
            self._counters.note(reason, what, self._clock.now_s)

    def guest_up(self, guest: Guest) -> None:
        """Sends what was held for the guest."""
        now_s = self._clock.now_s
        for held in self.parking.release(guest.name):
            if guest.main is None:
                self._refuse_unreachable(held.client, held.header)
            else:
                self._send(guest, held.client, held.header, aged_header(held, now_s), held.args, held.deadline_s, held.sender.key)

    def fail(self, guest: Guest, reason: str, *, only_bulk: bool = False) -> None:
        """The session is over: whatever was sent to it and not answered gets guest_unreachable, its credits come back."""
        for pending in list(guest.credits.by_ref.values()):
            if only_bulk and not pending.bulk:
                continue
            self.pending.give_up(guest.credits, pending)
            if not pending.answered:
                why = error("guest_unreachable", f"guest {guest.name} went away before it answered: {reason}", sent=True, reason=reason)
                self.answer(pending.client, pending.request_id, why, guest.name)

    def drop_held(self) -> None:
        """Drops held commands whose sender's key no longer allows them; who sent them has lost the connection."""
        self.parking.drop(lambda held: not self._gate.may(held.sender, held.header.op, held.header.guest))

    def due(self) -> None:
        """Answers whatever has passed its deadline, and ends the hold."""
        now_s = self._clock.now_s
        self._shared.due(now_s)
        for pending in self.pending.pop_overdue(now_s):
            self._answer_overdue(pending.client, pending.request_id, pending.guest, sent=True)
        for held in self.parking.pop_overdue(now_s):
            self._answer_overdue(held.client, held.header.id, held.header.guest, sent=False)
        if self.parking.count and now_s >= self._hold_until_s:
            for held in self.parking.release_all():
                self._refuse_unreachable(held.client, held.header)

    def next_due_s(self) -> float | None:
        hold_end_s = self._hold_until_s if self.parking.count else None
        all_times = (self.pending.next_due_s(), self.parking.next_due_s(), self._shared.next_due_s(), hold_end_s)
        times = [when for when in all_times if when is not None]
        return min(times, default=None)

    def answer(self, client: bytes, request_id: str, outcome: "CorralError | msgspec.Struct", guest: str = "") -> None:
        """The broker's own reply."""
        header, body = encode_reply(ReplyHeader(id=request_id, guest=guest), outcome)  # type: ignore[arg-type]
        if len(body) > FRAME_BYTES_MAX:
            why = error("message_too_large", f"the reply has {len(body)} bytes; the limit is {FRAME_BYTES_MAX}", limit=FRAME_BYTES_MAX)
            header, body = encode_reply(ReplyHeader(id=request_id, guest=guest), why)
        if isinstance(outcome, CorralError):
            self._counters.add(f"answered_{outcome.code}")
        self._ports.to_client([client, header, body])

    def _send(
        self, guest: Guest, client: bytes, header: CommandHeader, header_frame: Opaque, args: Opaque, deadline_s: float, key: str
    ) -> None:
        op = OPS.get(header.op)  # None for an op of newer clients and workers: it is forwarded as an ordinary one
        long_poll, bulk, upload = (op.long_poll, op.bulk, op.upload) if op is not None else (False, False, False)
        print_ = fingerprint(guest.name, header.op, args, upload=upload)
        known = self.pending.repeat_of(client, header.id)
        if known is not None and known.fingerprint == print_:
            self.pending.extend(known, deadline_s)
            self._counters.add("repeats_joined")
            return
        busy = self.pending.refusal(guest.credits, long_poll, len(args))
        if busy:
            self._refuse_busy(client, header, busy, WAITS_PER_GUEST_MAX if long_poll else IN_FLIGHT_PER_GUEST_MAX)
            return
        now_s = self._clock.now_s
        over = guest.credits.shares.refusal(key, long_poll, now_s)
        if over:
            self._counters.note("key_share_exceeded", f"{guest.name}: {over}; key {key_fingerprint(key)}", now_s)
            self._refuse_busy(client, header, over, WAITS_PER_GUEST_MAX if long_poll else IN_FLIGHT_PER_GUEST_MAX)
            return
        pending = self.pending.add(
            guest.credits, client, header.id, deadline_s, print_, long_poll=long_poll, bulk=bulk, key=key, now_s=now_s
        )
        session = guest.bulk if upload and guest.bulk is not None else guest.main
        delivery = self._ports.to_worker([session, COMMAND, pending.ref, header_frame, args])
        if delivery == "gone" and session != guest.main:
            delivery = self._ports.to_worker([guest.main, COMMAND, pending.ref, header_frame, args])
        if delivery == "sent":
            self._counters.add("commands")
            return
        self.pending.finish(guest.credits, pending)
        if delivery == "full":
            self._refuse_busy(client, header, "its connection takes nothing more", IN_FLIGHT_PER_GUEST_MAX)
            return
        self._on_gone(guest, "disconnected")
        self._refuse_unreachable(client, header)

    def _hold_or_refuse(self, client: bytes, header: CommandHeader, header_frame: Opaque, args: Opaque, sender: Sender) -> None:
        guest = self._registry.guests.get(header.guest)
        now_s = self._clock.now_s
        if guest is not None and not guest.worker and now_s < self._hold_until_s:
            held = Held(client, header, bytes(header_frame), args, now_s, now_s + header.timeout_ms / 1000, sender)
            if self.parking.add(held):
                self._counters.add("commands_held")
                return
        self._refuse_unreachable(client, header)

    def _refuse_unreachable(self, client: bytes, header: CommandHeader) -> None:
        self.answer(client, header.id, self._why_unreachable(header.guest), header.guest)

    def _why_unreachable(self, name: str) -> CorralError:
        guest = self._registry.guests.get(name)
        if guest is not None:
            return error("guest_unreachable", f"guest {name} is down: {guest.reason}", sent=False, nearest=[], reason=guest.reason)
        try:
            check_guest_name(name)
        except CorralError as why:
            return why
        near = self._nearest.find(name, self._registry.guests, self._registry.names_version)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        return error("guest_unreachable", f"no guest {name} is known here{hint}", sent=False, nearest=near)

    def _refuse_busy(self, client: bytes, header: CommandHeader, why: str, limit: int) -> None:
        self.answer(client, header.id, error("guest_busy", f"guest {header.guest} is busy: {why}", limit=limit, sent=False), header.guest)

    def _answer_overdue(self, client: bytes, request_id: str, guest: str, *, sent: bool) -> None:
        text = f"guest {guest} has not answered by the deadline" if sent else f"guest {guest} did not come up by the deadline"
        self.answer(client, request_id, error("deadline_exceeded", text, sent=sent), guest)

    def _refuse_malformed(self, frames: Frames, why: CorralError) -> None:
        self._counters.note("command_malformed", str(why), self._clock.now_s)
        try:
            request_id = _just_id.decode(frames[1]).id if len(frames) > 1 else ""
        except _UNDECODABLE:
            return
        if 1 <= len(request_id) <= REQUEST_ID_CHARS_MAX:
            self.answer(frames[0], request_id, why)
