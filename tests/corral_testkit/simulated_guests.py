"""Many guests in one process, for tests of what drives fleets: real sessions with a real broker, pretended containers.

`python simulated_guests.py ADDRESS WITNESS COUNT` serves sim-000, sim-001, … until killed, and says `ready` on stdout. It writes a line of
JSON into WITNESS for everything it carries out, so that a test can tell what ran, how often, and how much at a time. By number modulo 20:
7 leaves before anything is sent to it, 13 dies with the first command (every second of them has carried it out by then), 3 and 11 take a
second for each container, all others a few milliseconds. A container whose first argument is `false` exits with 1.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import zmq

from corral_schemas import session
from corral_schemas.base import Message
from corral_schemas.commands import CancelArgs, CancelReply, CreateReply, KillReply, RunArgs
from corral_schemas.errors import CorralError, error, to_wire
from corral_schemas.exits import Exit, StreamEnd
from corral_schemas.frames import CommandHeader, ReplyHeader, decode_args, encode_reply, pack, unpack
from corral_schemas.names import new_instance
from corral_schemas.queries import InfoReply, ResultArgs, ResultReply, WaitArgs, WaitReply
from corral_testkit.wire_peers import RawClient, joined

HEARTBEAT_S = 3.0
FAST_S, SLOW_S = 0.03, 1.0
STREAMS = {name: StreamEnd(state="closed", total=0, crc=0) for name in ("stdout", "stderr")}
Answer = Message | CorralError
Later = list[tuple[float, Callable[[], None]]]


class Witness:
    """What was carried out, by whom, and how much at a time."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", buffering=1)
        self.active = 0

    def begin(self, guest: str, request: str, words: list[str]) -> None:
        self.active += 1
        self._write(what="begin", guest=guest, request=request, words=words, active=self.active)

    def end(self, guest: str, request: str) -> None:
        self.active -= 1
        self._write(what="end", guest=guest, request=request)

    def _write(self, **record: Any) -> None:
        self._file.write(json.dumps(record) + "\n")


class SimulatedGuest:
    """One guest: a session, a table of requests, and containers that end by the clock."""

    def __init__(self, context: "zmq.Context[zmq.Socket[bytes]]", endpoint: str, number: int, witness: Witness, later: Later) -> None:
        self.name, self.kind = f"sim-{number:03}", number % 20
        self._dies_after_work = number % 40 > 20
        self._witness, self._later = witness, later
        self._took_s = SLOW_S if self.kind in (3, 11) else FAST_S
        self._instance = new_instance(time.time_ns(), number.to_bytes(10, "big"))
        self._results: dict[str, Answer] = {}
        self._exits: dict[str, Exit] = {}  # container -> its end
        self._waits: dict[str, list[tuple[bytes, CommandHeader]]] = {}
        self.socket = context.socket(zmq.DEALER)
        self.socket.linger = 200
        self.socket.connect(endpoint)
        self.alive = True

    def register(self) -> None:
        parity = "odd" if self.kind % 2 else "even"
        register = session.Register(guest=self.name, worker=self._instance, epoch="epoch-1", seq=0, labels={"parity": parity})
        self.socket.send_multipart([session.REGISTER, pack(register)])

    def heartbeat(self) -> None:
        self.socket.send_multipart([session.HEARTBEAT, pack(session.Heartbeat(epoch="epoch-1", seq=0))])

    def leave(self) -> None:
        """Never heard of again."""
        self.alive = False
        self.socket.send_multipart([session.GOODBYE, pack(session.Goodbye(reason="leaves"))])
        self.socket.close()

    def take(self, frames: list[bytes]) -> bool:
        """One message; whether it says that the session stands."""
        if frames[0] == session.PLEASE_REGISTER:
            self.register()
        elif frames[0] == session.COMMAND:
            header = unpack(CommandHeader, frames[2])
            outcome = self._carry_out(frames[1], header, decode_args(header.op, frames[3]))
            if outcome is not None and self.alive:
                self._answer(frames[1], header, outcome)
        return frames[0] == session.REGISTERED

    def _carry_out(self, ref: bytes, header: CommandHeader, args: Message) -> Answer | None:
        if isinstance(args, RunArgs):
            return self._run(header, args)
        if isinstance(args, WaitArgs):
            if args.container in self._exits:
                return WaitReply(exit=self._exits[args.container], process_instance=self._instance)
            self._waits.setdefault(args.container, []).append((ref, header))
            return None
        if isinstance(args, ResultArgs):
            return self._result(args.id)
        if isinstance(args, CancelArgs):
            return CancelReply(outcome="too_late" if args.id in self._results else "unknown")
        if header.op == "info":
            return InfoReply(kind="worker", version="0", protocol=1, instance=self._instance, guest=self.name, epoch="epoch-1")
        return KillReply(outcome="delivered") if header.op == "kill" else error("unsupported_op", f"{header.op} is not simulated")

    def _run(self, header: CommandHeader, args: RunArgs) -> Answer:
        if header.id in self._results:
            return self._results[header.id]
        reply = CreateReply(container=args.container, instance=self._instance, process_instance=self._instance, pid=1)
        if self.kind == 13 and not self._dies_after_work:
            self.leave()
            return reply
        words = args.spec.args if args.spec is not None else []
        self._results[header.id] = reply
        self._witness.begin(self.name, header.id, words)
        self._later.append((time.monotonic() + self._took_s, lambda: self._end(header.id, args.container, words)))
        if self.kind == 13:
            self.leave()
        return reply

    def _end(self, request: str, container: str, words: list[str]) -> None:
        self._witness.end(self.name, request)
        end = Exit(type="exited", code=1 if words[:1] == ["false"] else 0, streams=STREAMS)
        self._exits[container] = end
        for ref, header in self._waits.pop(container, []):
            if self.alive:
                self._answer(ref, header, WaitReply(exit=end, process_instance=self._instance))

    def _result(self, request: str) -> ResultReply:
        outcome = self._results.get(request)
        if outcome is None:
            return ResultReply(state="unknown")
        if isinstance(outcome, CorralError):
            return ResultReply(state="done", op="run", error=to_wire(outcome))
        return ResultReply(state="done", op="run", ok=msgspec.to_builtins(outcome))

    def _answer(self, ref: bytes, header: CommandHeader, outcome: Answer) -> None:
        reply = ReplyHeader(id=header.id, guest=self.name, epoch="epoch-1")
        self.socket.send_multipart([session.REPLY, ref, *encode_reply(reply, outcome)])


def serve(address: str, witness: Path, count: int) -> None:
    """Until killed."""
    with RawClient(address) as asker:
        endpoint = joined(address, asker.hello().workers)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    context.set(zmq.MAX_SOCKETS, 2 * count + 64)
    later: Later = []
    record = Witness(witness)
    guests = [SimulatedGuest(context, endpoint, number, record, later) for number in range(count)]
    by_socket = {guest.socket: guest for guest in guests}
    poller = zmq.Poller()
    for guest in guests:
        poller.register(guest.socket, zmq.POLLIN)
        guest.register()
    registered: set[str] = set()
    ready = False
    heartbeat_s = time.monotonic() + HEARTBEAT_S
    while True:
        due_s = min([heartbeat_s, *(at_s for at_s, _ in later)])
        for socket, _ in poller.poll(max(0, int(1000 * (due_s - time.monotonic())) + 1)):
            guest = by_socket[socket]
            if guest.alive and guest.take(socket.recv_multipart()):
                registered.add(guest.name)
        now_s = time.monotonic()
        for entry in [entry for entry in later if entry[0] <= now_s]:
            later.remove(entry)
            entry[1]()
        if now_s >= heartbeat_s:
            heartbeat_s = now_s + HEARTBEAT_S
            for guest in guests:
                if guest.alive:
                    guest.heartbeat()
        if not ready and len(registered) == count:
            ready = True
            for guest in guests:
                if guest.kind == 7:
                    guest.leave()
            print("ready", flush=True)
        for socket in [socket for socket, guest in by_socket.items() if not guest.alive and socket in poller]:
            poller.unregister(socket)


if __name__ == "__main__":
    serve(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
