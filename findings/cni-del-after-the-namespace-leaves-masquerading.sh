#!/usr/bin/env bash
# DEL of the CNI plugin bridge leaves the container's masquerading rules for ever when its network namespace went first, and says success.
#
# Versions:     Debian 12's containernetworking-plugins 1.1.1+ds1-3+b5 and iptables 1.8.9-2. Needs root: it works in network and mount namespaces of its own.
# Behaviour:    bridge with ipMasq + host-local. Ten containers one after the other: ADD, then DEL. Five times DEL comes while the namespace is there, five
#               times after it has gone, as with a namespace that lives by its processes alone and ends with the container.
# Seen:         status 0 each time, and the address is free again each time; the first five leave no chain in the nat table, the last five leave one chain and
#               one rule in POSTROUTING each.
# A good guess: DEL cleans up all that ADD made, or fails; the specification asks for it also when the namespace is gone.
# It matters:   POSTROUTING grows with each container, and rules of old containers masquerade the traffic of new ones with the same address.
#               Keep the namespace (a bind mount) until DEL is through.
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

plugin() { # plugin COMMAND CONTAINER
  CNI_COMMAND=$1 CNI_CONTAINERID=$2 CNI_NETNS=/run/netns/$2 CNI_IFNAME=eth0 CNI_PATH=$plugins "$plugins/bridge" <<<'{"cniVersion": "1.0.0",
    "name": "n", "type": "bridge", "bridge": "bridge0", "isGateway": true, "ipMasq": true,
    "ipam": {"type": "host-local", "subnet": "10.9.0.0/24", "dataDir": "/run/leases"}}'
}
chains() { iptables -t nat -S | grep -c '^-N CNI-' || true; }
jumps() { iptables -t nat -S POSTROUTING | grep -c -- '-j CNI-' || true; }
leases() { find /run/leases/n -name '10.*' | wc -l; }
seen=
round() { # round WHEN: five containers, DEL before or after the end of the namespace
  for number in 1 2 3 4 5; do
    name=$1-$number
    ip netns add "$name"
    plugin ADD "$name" >/dev/null
    [ "$1" = before ] || ip netns delete "$name"
    plugin DEL "$name"
    [ "$1" = after ] || ip netns delete "$name"
  done
  local line="DEL $1 the end of the namespace: $(chains) chains, $(jumps) rules in POSTROUTING, $(leases) leases left"
  echo "$line"
  seen+="$line;"
}
echo "containernetworking-plugins 1.1.1"
round before
round after
expected="DEL before the end of the namespace: 0 chains, 0 rules in POSTROUTING, 0 leases left;"
expected+="DEL after the end of the namespace: 5 chains, 5 rules in POSTROUTING, 0 leases left;"
[ "$seen" = "$expected" ] || { echo "CHANGED: DEL after the namespace has gone leaves something else"; exit 1; }
echo "as described"
