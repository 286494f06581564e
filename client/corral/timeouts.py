"""Seconds that callers give, held against what clocks and the wire can carry before anything is begun with them."""

from typing import overload

from corral_schemas.errors import error
from corral_schemas.limits import TIMEOUT_S_MAX


@overload
def checked_s(seconds: float, name: str = "timeout_s") -> float: ...
@overload
def checked_s(seconds: float | None, name: str = "timeout_s") -> float | None: ...
def checked_s(seconds: float | None, name: str = "timeout_s") -> float | None:
    """Return the seconds; below 0 they are over already. Raises bad_request for what is no number, infinite, or over 365 days."""
    if seconds is None or seconds <= TIMEOUT_S_MAX:  # no comparison with nan is true
        return seconds
    raise error("bad_request", f"{name} is {seconds:g}: give seconds up to {TIMEOUT_S_MAX:,} (365 days)", limit=TIMEOUT_S_MAX)
