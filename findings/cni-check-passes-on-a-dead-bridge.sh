#!/usr/bin/env bash
# CHECK of the CNI plugin bridge passes while no packet gets through: the bridge or the host's end is down, or the gateway's address is gone.
#
# Versions:     Debian 12's containernetworking-plugins 1.1.1+ds1-3+b5. Needs root: it works in network and mount namespaces of its own.
# Behaviour:    bridge (isGateway) + host-local make one container; a connection from it to a server on the gateway succeeds. Then one thing is broken
#               after the other, CHECK is asked, the connection is tried again, and the thing is mended.
# Seen:         the host's end down, the bridge down, the bridge without its address: no connection, and CHECK 0 for each. Only the host's end taken out of
#               the bridge is noticed.
# A good guess: CHECK ("as expected", says the specification) fails when the network that ADD made does not carry anything.
# It matters:   health by CHECK alone is no health; who wants to know sends a packet.
set -euo pipefail
if [ "${1:-}" != inside ]; then
  temp=$(mktemp -d)
  trap 'rm -rf "$temp"' EXIT
  cd "$temp"
  apt-get -qq -o APT::Sandbox::User=root download containernetworking-plugins=1.1.1+ds1-3+b5
  dpkg-deb -x containernetworking-plugins_*.deb root
  temp="$temp" unshare --net --mount --fork bash "$OLDPWD/$0" inside
  exit
fi
plugins=$temp/root/usr/lib/cni
mount -t tmpfs none /run
mkdir /run/netns
ip link set lo up
ip netns add a
plugin() { # plugin COMMAND < configuration
  CNI_COMMAND=$1 CNI_CONTAINERID=a CNI_NETNS=/run/netns/a CNI_IFNAME=eth0 CNI_PATH=$plugins "$plugins/bridge"
}
part='"cniVersion": "1.0.0", "name": "n", "type": "bridge", "bridge": "bridge0", "isGateway": true,
  "ipam": {"type": "host-local", "subnet": "10.9.0.0/24", "dataDir": "/run/leases"}'
result=$(plugin ADD <<<"{$part}")
host_end=$(ip -o link show master bridge0 | awk -F'[ :@]+' '{print $2}')
python3 -c '
import socket
with socket.create_server(("0.0.0.0", 80)) as server:
    while True:
        server.accept()[0].close()' &
trap 'kill %1' EXIT

connects() { # yes or no; given five seconds to become yes, since a bridge's port needs a moment
  ip netns exec a python3 - <<'PYTHON'
import socket, time
end = time.monotonic() + 5
while time.monotonic() < end:
    try:
        socket.create_connection(("10.9.0.1", 80), 1).close()
        print("yes")
        break
    except OSError:
        time.sleep(0.1)
else:
    print("no")
PYTHON
}
seen=
look() { # look WHAT
  local status=0
  plugin CHECK <<<"{$part, \"prevResult\": $result}" >/dev/null || status=$?
  local line="$1: CHECK ends with $status, the container connects: $(connects)"
  echo "$line"
  seen+="$line;"
}
echo "containernetworking-plugins 1.1.1"
look "healthy"
ip link set "$host_end" down; look "host's end down"; ip link set "$host_end" up
ip link set bridge0 down; look "bridge down"; ip link set bridge0 up
ip address del 10.9.0.1/24 dev bridge0; look "bridge without address"; ip address add 10.9.0.1/24 dev bridge0
ip link set "$host_end" nomaster; look "host's end out of the bridge"
expected="healthy: CHECK ends with 0, the container connects: yes;host's end down: CHECK ends with 0, the container connects: no;"
expected+="bridge down: CHECK ends with 0, the container connects: no;bridge without address: CHECK ends with 0, the container connects: no;"
expected+="host's end out of the bridge: CHECK ends with 1, the container connects: no;"
[ "$seen" = "$expected" ] || { echo "CHANGED: CHECK of bridge sees something else"; exit 1; }
echo "as described"
