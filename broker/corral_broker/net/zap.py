"""Whom the sockets let in: libzmq asks here (ZAP, RFC 27) at the end of each CURVE handshake, and shows every message's key from then on.

On the two ROUTERs any key may connect: a worker asks for addresses and enrols before it is known, and each of its messages is checked.
On the publishing sockets only keys may connect that have business there. A key that is turned away is turned away for now (status 300):
libzmq then dials again, so that a key that is accepted later needs no restart.
"""

import zmq
from zmq.utils import z85

from corral_broker.access.keyring import Keyring
from corral_broker.access.quotas import Quotas
from corral_broker.net.handshakes import Handshakes
from corral_broker.state.counters import Counters

ENDPOINT = "inproc://zeromq.zap.01"
VERSION = b"1.0"
_FRAMES = 7


class ZapHandler:
    """Answers libzmq's questions, in the broker's own loop."""

    def __init__(self, context: "zmq.Context[zmq.Socket[bytes]]", keyring: Keyring, counters: Counters, quotas: Quotas) -> None:
        self.socket = context.socket(zmq.REP)
        self.socket.linger = 0
        self.socket.bind(ENDPOINT)
        self._keyring = keyring
        self._counters = counters
        self._handshakes = Handshakes()
        self._quotas = quotas

    def answer_all(self, now_s: float) -> None:
        """Answers whatever is asked now."""
        while True:
            try:
                asked = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            self.socket.send_multipart(self._answer(asked, now_s))

    def close(self) -> None:
        self.socket.close(0)

    def _answer(self, asked: list[bytes], now_s: float) -> list[bytes]:
        request_id = asked[1] if len(asked) > 1 else b""
        if len(asked) != _FRAMES or asked[0] != VERSION or asked[5] != b"CURVE" or len(asked[6]) != 32:
            self._counters.note("handshake_refused", f"ZAP request of {len(asked)} frames", now_s)
            return [VERSION, request_id, b"400", b"CURVE only", b"", b""]
        key = z85.encode(asked[6]).decode()
        domain, address = asked[2].decode(errors="replace"), asked[3].decode(errors="replace")
        why = self.refusal(domain, key)
        if not why and (why := self._handshakes.refusal(key, address, self._keyring.grant(key), now_s)):
            self._counters.note("handshake_too_many", f"{domain} from {address}: {why}", now_s)
            return [VERSION, request_id, b"300", b"not now", b"", b""]
        if not why and self._quotas.is_away(domain, key, now_s):
            self._counters.note("flood_turned_away", f"{domain} from {address}: a key that has flooded", now_s)
            return [VERSION, request_id, b"300", b"not now", b"", b""]
        if why:
            self._counters.note("handshake_refused", f"{domain} from {address}: {why}", now_s)
            return [VERSION, request_id, b"300", b"not accepted", b"", b""]
        self._counters.add("handshakes")
        return [VERSION, request_id, b"200", b"", key.encode(), b""]

    def refusal(self, domain: str, key: str) -> str:
        """Why this key may not be connected to the socket of this name; empty when it may."""
        if self._keyring.is_revoked(key):
            return "a revoked key"
        if domain in ("clients", "workers"):
            return ""
        grant = self._keyring.grant(key)
        if grant is None:
            return "an unknown key"
        if domain in ("events_in", "stdio_in"):
            return "" if grant.role == "guest" else f"key {grant.name} ({grant.role}) is no guest's"
        may_read = grant.role in ("operator", "observer") or (grant.policy is not None and grant.policy.events)
        return "" if may_read else f"key {grant.name} ({grant.role}) may not subscribe"
