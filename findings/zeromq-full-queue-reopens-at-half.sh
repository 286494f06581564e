#!/usr/bin/env bash
# A ZeroMQ socket that has met its high-water mark does not become writable when one message is read, but when about half the mark is.
#
# Versions:     pyzmq 27.1.0 with libzmq 4.3.5.
# Behaviour:    PUSH and ROUTER (ROUTER_MANDATORY) with ZMQ_SNDHWM 1000, a reader with ZMQ_RCVHWM 1, over inproc. The sender fills its queue until EAGAIN.
#               Then the reader takes one message after the other, and the sender is asked after each whether it may send.
# Seen:         1001 messages go in; the sender may send again only after about 500 reads (504 here), with both kinds of socket.
# A good guess: one message read makes room for one message.
# It matters:   a sender with few messages at a time stays blocked beside a queue that is half empty; marks must be chosen by twice the stall one bears.
set -euo pipefail
temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT
python3 -m venv "$temp/venv"
"$temp/venv/bin/pip" --quiet --disable-pip-version-check install pyzmq==27.1.0 2>"$temp/pip.log" || { cat "$temp/pip.log"; exit 2; }
"$temp/venv/bin/python" - <<'PYTHON'
import sys
import zmq

MARK = 1000
print(f"pyzmq {zmq.__version__}, libzmq {zmq.zmq_version()}")


def reads_until_writable(context: zmq.Context, kind: int) -> tuple[int, int]:
    """Return how many messages the queue took, and how many reads it needed before the next one."""
    sender, reader = context.socket(kind), context.socket(zmq.PULL if kind == zmq.PUSH else zmq.DEALER)
    sender.sndhwm, reader.rcvhwm = MARK, 1
    parts = [b"x"]
    if kind == zmq.ROUTER:
        sender.router_mandatory = 1
        reader.routing_id = b"reader"
        parts = [b"reader", b"x"]
    address = f"inproc://queue-{kind}"
    sender.bind(address)
    reader.connect(address)
    if kind == zmq.ROUTER:
        reader.send(b"here")
        sender.recv_multipart()
    taken = 0
    try:
        while taken < 10 * MARK:
            sender.send_multipart(parts, zmq.NOBLOCK)
            taken += 1
    except zmq.Again:
        pass
    reads = 0
    while reader.poll(500):
        reader.recv()
        reads += 1
        try:
            sender.send_multipart(parts, zmq.NOBLOCK)
            break
        except zmq.Again:
            continue
    sender.close(0)
    reader.close(0)
    return taken, reads


changed = False
context = zmq.Context()
for name, kind in (("PUSH", zmq.PUSH), ("ROUTER", zmq.ROUTER)):
    taken, reads = reads_until_writable(context, kind)
    print(f"{name}: {taken} messages taken, writable again after {reads} reads (a good guess: 1)")
    changed |= not MARK <= taken <= MARK + 10 or not 0.4 * MARK <= reads <= 0.6 * MARK
context.term()
if changed:
    sys.exit("CHANGED: the queue does not reopen at about half its mark any more")
print("as described")
PYTHON
