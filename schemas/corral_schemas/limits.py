"""Every limit and default of Corral, with its unit in its name. `corral info` shows them."""

FRAME_BYTES_MAX = 8 << 20
"""Largest single ZeroMQ frame accepted anywhere."""
HEADER_BYTES_MAX = 16 << 10
"""Largest header frame (command, reply, event, stdio)."""
FRAMES_MAX = 8
"""Most frames in one message, routing frames included."""
EVENT_BYTES_MAX = 4 << 10
"""Largest event payload; longer texts in it are cut."""
STDIO_CHUNK_BYTES_MAX = 256 << 10
"""Largest run of stdio bytes in one chunk or one PUB message."""
READ_STDIO_BYTES_MAX = 4 << 20
"""Most stdio bytes in one read_stdio reply."""
REPLAY_EVENTS_MAX = 1_000
"""Most events in one replay reply."""
FORGET_GUESTS_MAX = 10_000
"""Most guests in one forget_guests."""
REPLAY_BYTES_MAX = 2 << 20
"""A replay reply ends after the event that passes this size."""

NAME_CHARS_MAX = 128
"""Longest container or process id."""
GUEST_CHARS_MAX = 64
"""Longest guest name."""
REQUEST_ID_CHARS_MAX = 128
"""Longest request id."""
LABELS_MAX = 64
"""Most labels on one guest."""
LABELS_BYTES_MAX = 32 << 10
"""Labels of one guest together, as they travel."""

IN_FLIGHT_PER_GUEST_MAX = 256
"""Commands sent to a guest and not yet answered; the next one is refused with guest_busy. Long polls count apart."""
WAITS_PER_GUEST_MAX = 4_096
"""Long polls (wait, stop, read_stdio, replay) in flight to one guest."""
HELD_COMMANDS_MAX = 10_000
"""Commands a starting broker keeps for guests that have not registered yet."""
EVENTS_HWM = 10_000
"""Events queued per subscriber before the exchange drops (loss shows in prev and is repaired by replay)."""
STDIO_HWM = 64
"""Stdio messages queued per raw subscriber before the exchange drops (loss shows in the offset)."""

HEARTBEAT_IDLE_S = 5.0
"""Between heartbeats of a worker in which nothing moved."""
HEARTBEAT_BUSY_S = 1.0
"""Between heartbeats of a worker in which something moved."""
GUEST_DOWN_S = 15.0
"""Silence after which a guest is down, and after which a worker executes nothing new."""
CLOCK_OFF_S = 5.0
"""A guest whose clock differs from its broker's by more is listed with a warning."""
BROKER_HOLD_S = 15.0
"""How long a starting broker holds commands for guests it knows of."""
COMMAND_TIMEOUT_S = 30.0
"""Deadline of a command when the caller gives none."""
TIMEOUT_S_MAX = 365 * 86_400
"""Longest deadline, grace or lease that a command may state."""
LONG_POLL_S_MAX = 60.0
"""Longest single wait, read_stdio or replay poll; libraries repeat it."""
DEADLINE_GRACE_S = 0.1
"""After this much past its deadline a command has been answered."""
STOP_GRACE_S = 10.0
"""Between SIGTERM and SIGKILL of stop."""
DRAIN_GRACE_S = 0.1
"""How long the end of a process waits for output still coming out of its pipes."""

SPOOL_BYTES_PER_PROCESS = 256 << 20
"""Output kept per process unless the command states its own cap."""
SPOOL_BYTES_PER_PROCESS_MIN = 64 << 10
"""Smallest cap a command may ask for."""
SPOOL_BYTES_PER_GUEST = 10 << 30
"""Output kept per guest; beyond, the oldest ended processes go first."""
BLOCK_LEASE_S = 30.0
"""A `block` process whose consumer is not heard for this long becomes a `drop` process."""
PIDS_LIMIT_DEFAULT = 2_048
"""Most processes and threads of a container whose spec states no limit."""
STDIN_BUFFER_BYTES = 1 << 20
"""Bytes of stdin accepted ahead of the process reading them."""

EVENTS_KEPT = 1_000_000
"""Events kept in the journal by count (never younger than EVENTS_KEPT_MIN_S)."""
EVENTS_KEPT_S = 7 * 86_400
"""Events kept in the journal by age."""
EVENTS_KEPT_MIN_S = 86_400
"""Events younger than this are kept whatever their count."""
REQUESTS_KEPT_S = 86_400
"""Request records (and so the answer to a repeat) kept, in seconds of worker time."""
REMAINS_KEPT_S = 86_400
"""Exits and output kept after a container was deleted."""
RUNTIME_CALLS_PER_CORE = 3
"""Runtime calls in flight per core; further ones queue."""

SHARED_NAME_CHARS_MAX = 64
"""Of a name for arguments that go to several guests."""

BUNDLE_CHUNK_BYTES = 1 << 20
"""Files of a bundle are cut into chunks of this size; each has its digest."""
BUNDLE_PIECES_MAX = 1_024
"""Most chunks in one write_bundle, whose data together have at most BUNDLE_WRITE_BYTES_MAX."""
BUNDLE_WRITE_BYTES_MAX = 4 << 20
"""Most bytes of chunks in one write_bundle: a quarter of the messages costs broker, guests and client a fifth less processor time."""
BUNDLE_ENTRIES_MAX = 200_000
"""Most files, directories and links in a bundle."""
BUNDLE_ENTRIES_PER_REPLY_MAX = 1_000
"""Most entries in one inspect_bundle reply."""
BUNDLE_MANIFEST_BYTES_MAX = 48 << 20
"""Largest manifest of a bundle."""
BUNDLE_BYTES_MAX = 64 << 30
"""Largest bundle, its files together."""
BUNDLE_DISK_RESERVE_BYTES = 64 << 20
"""A push or a copied file leaves at least this much of the guest's disk free."""
BUNDLE_INCOMING_KEPT_S = 86_400
"""What came of a push that was broken off is kept for so long, to go on from."""
UPLOAD_BYTES_MAX = 1 << 20
"""Most bytes in one upload, or in one read_file reply."""
