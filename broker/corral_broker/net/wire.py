"""Receiving and sending on raw sockets, bounded, without waiting: the shell's hot path."""

from typing import TYPE_CHECKING

import zmq

from corral_broker.state.ports import Delivery, Frames, Opaque
from corral_schemas.limits import FRAMES_MAX

ZERO_COPY_BYTES = 32 << 10
"""Frames of this size and more are forwarded in libzmq's own buffer; smaller ones are cheaper to copy."""
# Joined and turned into numbers once: an enum's `|` takes as long as the send itself.
_LAST, _MORE = int(zmq.NOBLOCK), int(zmq.NOBLOCK | zmq.SNDMORE)
_EVENTS, _READABLE = int(zmq.EVENTS), int(zmq.POLLIN)

if TYPE_CHECKING:
    Socket = zmq.Socket[bytes]


def has_message(socket: "Socket") -> bool:
    """Whether something can be received at once."""
    return bool(int(socket.getsockopt(_EVENTS)) & _READABLE)


def receive(socket: "Socket") -> tuple[list[Opaque], zmq.Frame] | None:
    """One message as bytes, but for a large last frame; and its last frame as it came (it knows its connection); None when there is none.

    Only a third or later frame is left as it came: what is looked at closely are bytes always.
    Frames beyond FRAMES_MAX are dropped; the message stays too long for any rule to take it.
    """
    receive_frame = socket.recv
    frames: list[Opaque] = []
    try:
        frame = receive_frame(_LAST, False)
        while frame.more:
            if len(frames) <= FRAMES_MAX:
                frames.append(frame.bytes)
            frame = receive_frame(_LAST, False)
    except zmq.Again:
        return None
    if len(frames) <= FRAMES_MAX:
        frames.append(frame.bytes if len(frames) < 2 or len(frame) < ZERO_COPY_BYTES else frame)
    return frames, frame


def receive_part(socket: "Socket") -> tuple[list[Opaque], zmq.Frame] | None:
    """The next frame of an XPUB, whatever is said to follow it. Subscriptions are single frames; of anything else every part is looked at
    alone, since libzmq leaves parts out of what one subscriber sends, and another's subscription would be taken for the missing end."""
    try:
        frame = socket.recv(_LAST, False)
    except zmq.Again:
        return None
    return [frame.bytes], frame


def send(socket: "Socket", frames: Frames) -> Delivery:
    """Queues one message. `gone` and `full` are known only where the socket is a ROUTER with ROUTER_MANDATORY."""
    send_frame = socket.send
    try:
        for frame in frames[:-1]:
            send_frame(frame, _MORE, isinstance(frame, bytes))
        send_frame(frames[-1], _LAST, isinstance(frames[-1], bytes))
    except zmq.Again:
        return "full"
    except zmq.ZMQError as why:
        if why.errno != zmq.EHOSTUNREACH:
            raise
        return "gone"
    return "sent"
