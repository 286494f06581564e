"""What a service manager asks of a service, from its environment, and the words to answer it with (sd_notify(3)). No I/O here."""

from collections.abc import MutableMapping
from dataclasses import dataclass

READY = b"READY=1"
ALIVE = b"WATCHDOG=1"
STOPPING = b"STOPPING=1"
BEATS_PER_WATCHDOG = 3
"""Signs of life within the time after which a silent service is killed."""


@dataclass(frozen=True, slots=True)
class Manager:
    """Whom to tell; nobody where `address` is empty."""

    address: str = ""
    """Of its datagram socket; a leading NUL stands for an abstract one (unix(7))."""
    beat_s: float = 0.0
    """It wants a sign of life this often; 0: none."""


def claim_manager(environment: MutableMapping[str, str], pid: int) -> Manager:
    """Takes the manager's variables out of the environment: a container runtime that found them would talk to it in our place."""
    address = environment.pop("NOTIFY_SOCKET", "")
    watchdog_us = environment.pop("WATCHDOG_USEC", "")
    is_for_us = environment.pop("WATCHDOG_PID", str(pid)) == str(pid)
    if not address.startswith(("/", "@")):
        return Manager()
    beat_s = int(watchdog_us) / 1e6 / BEATS_PER_WATCHDOG if watchdog_us.isdecimal() and is_for_us else 0.0
    return Manager("\0" + address[1:] if address.startswith("@") else address, beat_s)
