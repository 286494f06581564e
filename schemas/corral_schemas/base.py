"""What every message of the contract is: an immutable Struct, a plain map on the wire, unknown fields ignored, defaults left out."""

from typing import Annotated

import msgspec
from msgspec import Meta

from corral_schemas.limits import GUEST_CHARS_MAX, REQUEST_ID_CHARS_MAX

INT64_MAX = (1 << 63) - 1
"""What SQLite and C programs hold; msgpack could carry more."""


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of all messages."""


HeaderVersion = Annotated[int, Meta(description="Protocol version of this message; absent means 1")]
ContainerName = Annotated[str, Meta(description="Container id: 1-128 of A-Z a-z 0-9 _ + . -", examples=["web"])]
ProcessName = Annotated[str, Meta(description="Process id: `init`, or the id the client chose for an exec", examples=["init"])]
Instance = Annotated[str, Meta(description="Instance id: 26 Crockford base-32 digits, time-ordered, never reused")]
PinnedInstance = Annotated[
    str,
    Meta(description="Instance the command is meant for; empty means the newest of that name. A mismatch is container_not_found"),
]
GuestName = Annotated[str, Meta(max_length=GUEST_CHARS_MAX, description="Guest name; empty means the broker itself")]
RequestId = Annotated[
    str,
    Meta(min_length=1, max_length=REQUEST_ID_CHARS_MAX, description="Chosen by the client, the same for every retry"),
]
TimeNs = Annotated[int, Meta(ge=0, le=INT64_MAX, description="Wall-clock time of the guest, nanoseconds since 1970")]
Offset = Annotated[int, Meta(ge=0, le=INT64_MAX, description="Bytes since the stream began")]
Crc32 = Annotated[int, Meta(ge=0, lt=1 << 32, description="CRC-32 (zlib) of the whole stream up to and including these bytes")]
Count = Annotated[int, Meta(ge=0, le=INT64_MAX)]
Mark = Annotated[
    int,
    Meta(ge=0, lt=1 << 32, description="Mark of the event at `seq`, which differs where another history has the same seq; 0: unstated"),
]
Pid = Annotated[int, Meta(ge=0, le=INT64_MAX, description="Process id in the guest's pid namespace; 0 where there is none (any more)")]
