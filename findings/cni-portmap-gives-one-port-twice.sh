#!/usr/bin/env bash
# The CNI plugin portmap publishes one host port for two containers: both ADDs succeed, and all traffic goes to the first.
#
# Versions:     Debian 12's containernetworking-plugins 1.1.1+ds1-3+b5 and iptables 1.8.9-2. Needs root: it works in network and mount namespaces of its own.
# Behaviour:    bridge + host-local + portmap; containers a and b both ask for host port 8080 → 80/tcp. A server in each says its name.
# Seen:         status 0 twice; both rules stand one after the other; who connects to port 8080 meets a. After DEL of a, the same port leads to b.
# A good guess: the second ADD is refused, as `docker run -p` refuses it: "port is already allocated".
# It matters:   a caller of CNI must keep its own list of host ports and refuse a double one before the plugin is asked.
set -euo pipefail
if [ "${1:-}" != inside ]; then
  temp=$(mktemp -d)
  trap 'rm -rf "$temp"' EXIT
  cd "$temp"
  apt-get -qq -o APT::Sandbox::User=root download containernetworking-plugins=1.1.1+ds1-3+b5 iptables=1.8.9-2 \
    libip4tc2 libip6tc2 libxtables12 libnftnl11 libmnl0 libnetfilter-conntrack3 libnfnetlink0
  for package in *.deb; do dpkg-deb -x "$package" root; done
  temp="$temp" unshare --net --mount --fork bash "$OLDPWD/$0" inside
  exit
fi
root=$temp/root
export LD_LIBRARY_PATH=$root/usr/lib/x86_64-linux-gnu:$root/lib/x86_64-linux-gnu XTABLES_LIBDIR=$root/usr/lib/x86_64-linux-gnu/xtables
mkdir "$temp/bin"
for name in iptables ip6tables; do ln -s "$root/usr/sbin/xtables-nft-multi" "$temp/bin/$name"; done
export PATH=$temp/bin:$PATH
plugins=$root/usr/lib/cni
mount -t tmpfs none /run
mkdir /run/netns
ip link set lo up

plugin() { # plugin COMMAND CONTAINER TYPE < configuration
  CNI_COMMAND=$1 CNI_CONTAINERID=$2 CNI_NETNS=/run/netns/$2 CNI_IFNAME=eth0 CNI_PATH=$plugins "$plugins/$3"
}
servers=()
trap 'kill "${servers[@]}" 2>/dev/null || true' EXIT
statuses=()
for name in a b; do
  ip netns add "$name"
  result=$(plugin ADD "$name" bridge <<<'{"cniVersion": "1.0.0", "name": "n", "type": "bridge", "bridge": "bridge0", "isGateway": true,
    "ipam": {"type": "host-local", "subnet": "10.9.0.0/24", "routes": [{"dst": "0.0.0.0/0"}], "dataDir": "/run/leases"}}')
  cat >"$temp/$name.json" <<JSON
{"cniVersion": "1.0.0", "name": "n", "type": "portmap", "capabilities": {"portMappings": true}, "prevResult": $result,
 "runtimeConfig": {"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}}
JSON
  status=0
  plugin ADD "$name" portmap <"$temp/$name.json" >/dev/null || status=$?
  statuses+=("$status")
  ip netns exec "$name" python3 -c '
import socket, sys
with socket.create_server(("0.0.0.0", 80)) as server:
    while True:
        connection, _ = server.accept()
        connection.sendall(sys.argv[1].encode())
        connection.close()' "$name" &
  servers+=($!)
done

address=$(ip -4 -o addr show dev bridge0 | awk '{sub("/.*", "", $4); print $4}')
whom() { # the name that a connection to the published port is answered with
  python3 - "$address" <<'PYTHON'
import socket, sys, time
for _ in range(50):
    try:
        with socket.create_connection((sys.argv[1], 8080), 2) as connection:
            print(connection.recv(10).decode())
            break
    except OSError as error:
        last = error
        time.sleep(0.1)
else:
    print(f"nobody ({last})")
PYTHON
}
first=$(for _ in 1 2 3 4 5; do whom; done | sort -u | paste -sd, )
plugin DEL a portmap <"$temp/a.json"
second=$(whom)
echo "containernetworking-plugins 1.1.1: ADD of one host port for a and b ends with ${statuses[*]}; five connections meet: $first; after DEL of a: $second"
[ "${statuses[*]}" = "0 0" ] && [ "$first" = a ] && [ "$second" = b ] || { echo "CHANGED: portmap no longer takes one port twice"; exit 1; }
echo "as described"
