#!/usr/bin/env bash
# Two Python libraries read one msgpack timestamp as two different times: msgspec rounds nanoseconds to the nearest microsecond, msgpack cuts them off.
#
# Versions:     msgpack 1.1.2, msgspec 0.23.0.
# Behaviour:    timestamps (extension type -1) with 500, 123,456,789 and 999,999,999 ns; decoded to datetime by both.
# Seen:         msgspec gives .000001, .123457 and the next second (on 31 December the next year); msgpack gives .000000, .123456 and .999999.
# A good guess: a microsecond is cut off or rounded alike, and no time moves into the future.
# It matters:   events sorted or joined by time differ between a reader with one library and a reader with the other; "not later than now" can fail.
#               Send integers of nanoseconds, and compare those.
set -euo pipefail
temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT
python3 -m venv "$temp/venv"
"$temp/venv/bin/pip" --quiet --disable-pip-version-check install msgpack==1.1.2 msgspec==0.23.0 2>"$temp/pip.log" || { cat "$temp/pip.log"; exit 2; }
"$temp/venv/bin/python" - <<'PYTHON'
import sys
from datetime import datetime

import msgpack
import msgspec

SECONDS = 1_798_761_599  # 2026-12-31T23:59:59Z
print(f"msgpack {'.'.join(map(str, msgpack.version))}, msgspec {msgspec.__version__}")
seen = {}
for nanoseconds in (500, 123_456_789, 999_999_999):
    packed = msgpack.packb(msgpack.Timestamp(SECONDS, nanoseconds))
    rounded = msgspec.msgpack.decode(packed, type=datetime)
    cut = msgpack.unpackb(packed, timestamp=3)
    print(f"{nanoseconds:>11,} ns: msgspec {rounded.isoformat()}, msgpack {cut.isoformat()}")
    seen[nanoseconds] = (rounded.year, rounded.microsecond, cut.year, cut.microsecond)
if seen != {500: (2026, 1, 2026, 0), 123_456_789: (2026, 123457, 2026, 123456), 999_999_999: (2027, 0, 2026, 999_999)}:
    sys.exit("CHANGED: the libraries round otherwise")
print("as described")
PYTHON
