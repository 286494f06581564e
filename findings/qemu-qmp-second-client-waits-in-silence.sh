#!/usr/bin/env bash
# A second client of a QMP socket is connected but gets no greeting, and its commands are run later, when the first client leaves.
#
# Versions:     Debian 12's qemu-system-x86 1:7.2+dfsg-7+deb12u18+b3 (amd64).
# Behaviour:    -qmp unix:…,server=on,wait=off. A client stays connected. A second one connects and sends qmp_capabilities and cont. Then the first leaves.
# Seen:         the second connect succeeds, nothing comes for two seconds, the machine goes on standing; at once after the first has left the second
#               gets its greeting and both replies, and the machine runs.
# A good guess: several clients are served, or the second is refused.
# It matters:   a monitor that keeps its connection shuts out every tool; a tool with a deadline must close its connection before it gives up,
#               or what it asked for happens at a moment nobody expects.
set -euo pipefail
temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT
cd "$temp"
mkdir -p archives/partial root
touch status
apt-get -qq -o APT::Sandbox::User=root -o Debug::NoLocking=true -o Dir::State::status="$temp/status" -o Dir::Cache::archives="$temp/archives" \
  install --yes --download-only --no-install-recommends qemu-system-x86=1:7.2+dfsg-7+deb12u18+b3 >apt.log 2>&1 || { cat apt.log; exit 2; }
for package in archives/*.deb; do dpkg-deb -x "$package" root; done
export QEMU_MODULE_DIR=$temp/root/usr/lib/x86_64-linux-gnu/qemu
python3 - <<'PYTHON'
import json
import socket
import subprocess
import sys

LIBRARIES = "root/lib/x86_64-linux-gnu:root/usr/lib/x86_64-linux-gnu"
QEMU = ["root/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", "--library-path", LIBRARIES, "root/usr/bin/qemu-system-x86_64", "-L", "root/usr/share/qemu"]
QEMU += ["-L", "root/usr/share/seabios"]
print(subprocess.run([*QEMU, "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0])
machine = subprocess.Popen(
    [*QEMU, "-S", "-display", "none", "-nodefaults", "-qmp", "unix:qmp.sock,server=on,wait=off"], stderr=subprocess.DEVNULL
)


class Monitor:
    def __init__(self) -> None:
        for _ in range(200):
            self.socket = socket.socket(socket.AF_UNIX)
            try:
                self.socket.connect("qmp.sock")
                break
            except OSError:
                machine.poll() is None or sys.exit("QEMU did not start")
                subprocess.run(["sleep", "0.05"], check=True)
        self.lines = self.socket.makefile("rb", buffering=0)

    def send(self, *commands: str) -> None:
        self.socket.sendall(b"".join(json.dumps({"execute": command}).encode() + b"\n" for command in commands))

    def read(self, seconds: float) -> dict | None:
        """Return the next message that is no event, or None after so many seconds of silence."""
        self.socket.settimeout(seconds)
        try:
            while True:
                message = json.loads(self.lines.readline())
                if "event" not in message:
                    return message
        except TimeoutError:
            return None


try:
    first = Monitor()
    greeting = first.read(10)
    first.send("qmp_capabilities")
    first.read(10)
    second = Monitor()
    second.send("qmp_capabilities", "cont")
    silence = second.read(2)
    first.send("query-status")
    standing = first.read(10)["return"]["running"]
    first.lines.close()
    first.socket.close()
    second = second if silence is None else Monitor()
    second.socket.settimeout(10)
    second.lines = second.socket.makefile("rb", buffering=0)
    replies = [second.read(10) for _ in range(3)]
    second.send("query-status")
    running = second.read(10)["return"]["running"]
finally:
    machine.kill()
    machine.wait()
print(f"second client, while the first is there: {silence or 'nothing for two seconds'}; machine running: {standing}")
print(f"after the first has left: greeting {'QMP' in replies[0]}, replies {replies[1:]}; machine running: {running}")
if silence is not None or standing or "QMP" not in replies[0] or replies[1:] != [{"return": {}}, {"return": {}}] or not running:
    sys.exit("CHANGED: a second client of a QMP socket is treated otherwise")
print("as described")
PYTHON
