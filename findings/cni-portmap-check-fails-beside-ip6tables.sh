#!/usr/bin/env bash
# CHECK of the CNI plugin portmap fails on every healthy container as long as the command ip6tables is installed.
#
# Versions:     Debian 12's containernetworking-plugins 1.1.1+ds1-3+b5 and iptables 1.8.9-2. Needs root: it works in network and mount namespaces of its own.
# Behaviour:    bridge + host-local + portmap of one port; ADD succeeds; then CHECK with the very same configuration. Three times: with an IPv4 address
#               alone, with both families, and with an IPv4 address alone and no ip6tables in PATH.
# Seen:         1 ("could not check ipv6 dnat: chain … not found"), 1 ("could not check ipv6 dnat: rule … not found"; it looks for the IPv4 address's rule in the
#               IPv6 table), 0.
# A good guess: CHECK right after ADD ends with 0, three times.
# It matters:   a caller that rebuilds what fails CHECK does so for ever. CHECK of this version of portmap is worth nothing on a usual machine.
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
ip netns add a

plugin() { # plugin COMMAND TYPE < configuration
  CNI_COMMAND=$1 CNI_CONTAINERID=a CNI_NETNS=/run/netns/a CNI_IFNAME=eth0 CNI_PATH=$plugins "$plugins/$2"
}
check() { # check RANGES: make one container with addresses from these ranges, and print what CHECK of its port ends with
  local result status=0
  local bridge='{"cniVersion": "1.0.0", "name": "n", "type": "bridge", "bridge": "bridge0", "isGateway": true,
    "ipam": {"type": "host-local", "ranges": '$1', "dataDir": "/run/leases"}}'
  result=$(plugin ADD bridge <<<"$bridge")
  local portmap='{"cniVersion": "1.0.0", "name": "n", "type": "portmap", "capabilities": {"portMappings": true}, "prevResult": '$result',
    "runtimeConfig": {"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}}'
  plugin ADD portmap <<<"$portmap" >/dev/null
  plugin CHECK portmap <<<"$portmap" >"$temp/said" || status=$?
  plugin DEL portmap <<<"$portmap"
  plugin DEL bridge <<<"$bridge"
  echo "$status $(grep -o '"msg": .*' "$temp/said" || true)"
}
one='[[{"subnet": "10.9.0.0/24"}]]'
both='[[{"subnet": "10.9.0.0/24"}], [{"subnet": "fd09::/64"}]]'
alone=$(check "$one")
together=$(check "$both")
rm "$temp/bin/ip6tables"
without=$(PATH=$temp/bin:/usr/bin:/bin check "$one")
echo "containernetworking-plugins 1.1.1, status of CHECK, IPv4 alone: $alone"
echo "IPv4 and IPv6: $together"
echo "IPv4 alone, no ip6tables: $without"
[[ $alone == 1*"ipv6 dnat"* && $together == 1*"ipv6 dnat"* && $without == 0* ]] || { echo "CHANGED: CHECK of portmap behaves otherwise"; exit 1; }
echo "as described"
