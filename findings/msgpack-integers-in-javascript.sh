#!/usr/bin/env bash
# JavaScript's msgpack libraries disagree about what an integer is: from 2^31 or 2^32 on two of four send a float.
#
# Versions:     msgpackr 2.1.4, @msgpack/msgpack 3.1.3, msgpack-lite 0.1.26, notepack.io 3.0.1; read by Python's msgpack 1.1.2 and msgspec 0.23.0.
# Behaviour:    encode 1, 2^32 - 1, 2^32 and 2^53 - 1, safe integers of JavaScript all; decode in Python as what came, and as an int field.
# Seen:         @msgpack/msgpack and notepack.io write all four as integers; msgpackr writes 2^32 and above as float 64, msgpack-lite 2^32 - 1 already.
#               Python's msgpack then gives 4294967296.0, and msgspec refuses it for an int field ("Expected `int`, got `float`").
# A good guess: an integer that JavaScript holds exactly is written as an integer, by every library.
# It matters:   times in milliseconds and byte offsets are above 2^32: a server that says "int or refuse" refuses half of the JavaScript world.
set -euo pipefail
temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT
cd "$temp"
echo '{"private": true}' >package.json
npm install --silent --no-audit --no-fund msgpackr@2.1.4 @msgpack/msgpack@3.1.3 msgpack-lite@0.1.26 notepack.io@3.0.1 >npm.log 2>&1 || { cat npm.log; exit 2; }
python3 -m venv venv
venv/bin/pip --quiet --disable-pip-version-check install msgpack==1.1.2 msgspec==0.23.0 2>pip.log || { cat pip.log; exit 2; }
cat >encode.js <<'JAVASCRIPT'
const libraries = {
  "msgpackr": (value) => require("msgpackr").pack(value),
  "@msgpack/msgpack": (value) => require("@msgpack/msgpack").encode(value),
  "msgpack-lite": (value) => require("msgpack-lite").encode(value),
  "notepack.io": (value) => require("notepack.io").encode(value),
};
for (const [name, encode] of Object.entries(libraries))
  console.log([name, ...[1, 2 ** 32 - 1, 2 ** 32, 2 ** 53 - 1].map((value) => Buffer.from(encode(value)).toString("hex"))].join(" "));
JAVASCRIPT
node encode.js | venv/bin/python -c '
import sys
import msgpack, msgspec

print(f"node writes, Python reads with msgpack {msgpack.version} and msgspec {msgspec.__version__}")
seen = {}
for line in sys.stdin:
    name, *texts = line.split()
    values = [msgpack.unpackb(bytes.fromhex(text)) for text in texts]
    as_int = []
    for text in texts:
        try:
            as_int.append(msgspec.msgpack.decode(bytes.fromhex(text), type=int))
        except msgspec.ValidationError as error:
            as_int.append(str(error))
    seen[name] = [type(value).__name__ for value in values]
    print(f"{name}: {values}; as int by msgspec: {as_int[2]}")
    assert values == [1, 2**32 - 1, 2**32, 2**53 - 1]
floats_from = {name: types.index("float") if "float" in types else None for name, types in seen.items()}
if floats_from != {"msgpackr": 2, "@msgpack/msgpack": None, "msgpack-lite": 1, "notepack.io": None}:
    sys.exit("CHANGED: the libraries write integers otherwise")
print("as described")
'
