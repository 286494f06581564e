#!/usr/bin/env bash
# QEMU's user network accepts connections to a forwarded port before there is anybody in the guest, and takes megabytes for it.
#
# Versions:     Debian 12's qemu-system-x86 1:7.2+dfsg-7+deb12u18+b3 (amd64).
# Behaviour:    a machine that has not executed its first instruction (-S), hostfwd=tcp:127.0.0.1:PORT-:22. A client connects and writes.
# Seen:         the connection is accepted at once; 2.8 MB are taken before the client blocks; no error, no end, no answer.
# A good guess: "connection refused", as from a host whose service is not up yet.
# It matters:   "wait until the port accepts" says nothing of a guest: wait for its first word, with a deadline.
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
import socket
import subprocess
import sys

LIBRARIES = "root/lib/x86_64-linux-gnu:root/usr/lib/x86_64-linux-gnu"
QEMU = ["root/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", "--library-path", LIBRARIES, "root/usr/bin/qemu-system-x86_64", "-L", "root/usr/share/qemu"]
QEMU += ["-L", "root/usr/share/seabios"]
version = subprocess.run([*QEMU, "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]
print(version)
with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
machine = subprocess.Popen(
    [*QEMU, "-S", "-display", "none", "-nodefaults", "-qmp", "unix:qmp.sock,server=on,wait=on"]
    + ["-netdev", f"user,id=net0,hostfwd=tcp:127.0.0.1:{port}-:22", "-device", "virtio-net-pci,netdev=net0,romfile="],
    stderr=subprocess.DEVNULL,
)
try:
    with socket.socket(socket.AF_UNIX) as qmp:
        for _ in range(1000):
            try:
                qmp.connect("qmp.sock")
                break
            except OSError:
                machine.poll() is None or sys.exit("QEMU did not start")
                subprocess.run(["sleep", "0.05"], check=True)
        words = qmp.makefile("rw")
        words.readline()
        for command in ("qmp_capabilities", "query-status"):
            words.write(f'{{"execute": "{command}"}}\n')
            words.flush()
            answer = words.readline()
        print(f"the machine: {answer.strip()}")
        taken = 0
        with socket.create_connection(("127.0.0.1", port), 5) as client:
            client.settimeout(3)
            try:
                while taken < 50_000_000:
                    taken += client.send(bytes(65536))
                ended = "no end to it"
            except TimeoutError:
                ended = "then it blocks"
            except OSError as error:
                ended = str(error)
        print(f"port of the guest: connected; {taken:,} bytes taken, {ended}")
finally:
    machine.kill()
    machine.wait()
if '"running": false' not in answer or taken < 100_000 or ended != "then it blocks":
    sys.exit("CHANGED: a forwarded port of a guest that is not there behaves otherwise")
print("as described")
PYTHON
