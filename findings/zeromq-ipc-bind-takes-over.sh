#!/usr/bin/env bash
# A second ZeroMQ socket binds an ipc:// address that a living one holds: no error, the clients are shared out by the time they came.
#
# Versions:     pyzmq 27.1.0 with libzmq 4.3.5.
# Behaviour:    two processes bind the same ipc:// path, one after the other; a client connects before and another after the second bind.
# Seen:         the second bind succeeds; the first client's messages go on to the first process, the second client's go to the second.
#               The same over tcp:// is refused with "Address already in use".
# A good guess: EADDRINUSE, as over TCP.
# It matters:   a service that was started twice by mistake splits its clients in two halves that do not see each other. A lock beside the socket is needed.
set -euo pipefail
temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT
python3 -m venv "$temp/venv"
"$temp/venv/bin/pip" --quiet --disable-pip-version-check install pyzmq==27.1.0 2>"$temp/pip.log" || { cat "$temp/pip.log"; exit 2; }
cat >"$temp/service.py" <<'PYTHON'
"""Bind a ROUTER at argv[1] and answer each message with argv[2]."""
import sys
import zmq

socket = zmq.Context.instance().socket(zmq.ROUTER)
try:
    socket.bind(sys.argv[1])
except zmq.ZMQError as error:
    print(f"refused: {error}", flush=True)
    sys.exit(0)
print("bound", flush=True)
while True:
    sender, _ = socket.recv_multipart()
    socket.send_multipart([sender, sys.argv[2].encode()])
PYTHON
cd "$temp" && "$temp/venv/bin/python" - <<'PYTHON'
import socket
import subprocess
import sys
import zmq

print(f"pyzmq {zmq.__version__}, libzmq {zmq.zmq_version()}")
context = zmq.Context()
with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
services = []


def service(address: str, name: str) -> str:
    """Start a service and return the first line it prints."""
    services.append(subprocess.Popen([sys.executable, "service.py", address, name], stdout=subprocess.PIPE, text=True))
    return services[-1].stdout.readline().strip()


def ask(client: zmq.Socket) -> str:
    """Return the name of the service that answers this client."""
    client.send(b"who")
    return client.recv().decode() if client.poll(10_000) else "nobody"


def client(address: str) -> zmq.Socket:
    made = context.socket(zmq.DEALER)
    made.linger = 0
    made.connect(address)
    return made


try:
    binds = [service("ipc://service.sock", "first")]
    early = client("ipc://service.sock")
    before = ask(early)
    binds.append(service("ipc://service.sock", "second"))
    late = client("ipc://service.sock")
    answers = (before, ask(early), ask(late))
    tcp = [service(f"tcp://127.0.0.1:{port}", name) for name in ("first", "second")]
finally:
    for process in services:
        process.kill()
        process.wait()
print(f"ipc: binds {binds}; early client {answers[0]}, then {answers[1]}; late client {answers[2]}")
print(f"tcp: binds {tcp}")
if binds != ["bound", "bound"] or answers != ("first", "first", "second") or not tcp[1].startswith("refused"):
    sys.exit("CHANGED: the second bind of an ipc address does not take over any more")
print("as described")
early.close()
late.close()
context.term()
PYTHON
