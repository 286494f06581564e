"""What the broker knows of one guest."""

from dataclasses import dataclass, field

from corral_broker.state.pending import Credits
from corral_broker.state.senders import ANYONE, Sender
from corral_schemas.cursor import Place
from corral_schemas.queries import Load

NO_LOAD = Load()


@dataclass(slots=True, eq=False)
class Guest:
    """What the broker knows of one guest; every field belongs to the router's thread."""

    name: str
    credits: Credits = field(default_factory=Credits)
    main: bytes | None = None
    """Routing id of the session that registered as main; None while the guest is down."""
    bulk: bytes | None = None
    sender: Sender = ANYONE
    """Who registered as main."""
    worker: str = ""
    epoch: str = ""
    seq: int = 0
    mark: int = 0
    seen: Place | None = None
    labels: dict[str, str] = field(default_factory=dict)
    version: str = ""
    protocol: int = 1
    runtime: str = ""
    load: Load = NO_LOAD
    since_ns: int = 0
    heard_s: float = 0.0
    told_stdio_hash: int = 0
    """Hash of the stdio prefixes the session was last told."""
    clock_ahead_s: float | None = None
    """Its clock less ours, as its last message told it; None where it told none."""
    rival_s: float | None = None
    """When another worker last claimed its name and was refused; rival_address: from where, if known."""
    rival_address: str = ""
    reason: str = ""
    last_up_seq: int = 0
    """seq of this guest's newest guest_up among the broker's own events; likewise last_down_seq."""
    last_down_seq: int = 0
    watched: bool = False
    """It has an entry in the registry's heap of times to look."""

    @property
    def up(self) -> bool:
        return self.main is not None
