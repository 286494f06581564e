"""Corral's contract: commands, replies, events, errors and frames, as data. No I/O, and nothing of broker, worker or client."""

PROTOCOL_VERSION = 1
"""Version of the wire protocol, stated in every header (see PROTOCOL.md)."""
