#!/usr/bin/env bash
# The CNI plugin host-local keeps addresses of containers that a reboot ended, until its range is used up; the rest of the network plugins sees nothing wrong.
#
# Versions:     Debian 12's containernetworking-plugins 1.1.1+ds1-3+b5.
# Behaviour:    a range of five addresses on disk; five containers get one each; the machine "reboots": their network namespaces are gone, the lease files,
#               whose place by default is /var/lib/cni/networks, are not. Then a container of the new boot asks.
# Seen:         "no IP addresses available in range set"; the same after any time. DEL for each old name, known only to the caller, frees them.
# A good guess: leases name their owner and are dropped once nothing of him is left, or they lie below /run.
# It matters:   a caller must keep its own list of ADDs and DEL what a boot ended, or give dataDir below /run.
set -euo pipefail
temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT
cd "$temp"
apt-get -qq -o APT::Sandbox::User=root download containernetworking-plugins=1.1.1+ds1-3+b5
dpkg-deb -x containernetworking-plugins_*.deb root
plugin=$temp/root/usr/lib/cni/host-local
configuration='{"cniVersion": "1.0.0", "name": "n", "type": "bridge", "ipam": {"type": "host-local", "dataDir": "'$temp'/leases",
  "ranges": [[{"subnet": "10.9.0.0/24", "rangeStart": "10.9.0.10", "rangeEnd": "10.9.0.14"}]]}}'
host_local() { # host_local COMMAND CONTAINER: a namespace of that name never exists here, as after a reboot
  CNI_COMMAND=$1 CNI_CONTAINERID=$2 CNI_NETNS=/run/netns/$2 CNI_IFNAME=eth0 CNI_PATH=$(dirname "$plugin") "$plugin" <<<"$configuration"
}
for number in 1 2 3 4 5; do host_local ADD "old-$number" >/dev/null; done
status=0
refusal=$(host_local ADD new) || status=$?
for number in 1 2 3 4 5; do host_local DEL "old-$number"; done
host_local ADD new >/dev/null
echo "containernetworking-plugins 1.1.1: after the reboot ADD ends with $status: $(grep -o '"msg": .*' <<<"$refusal"); after five DELs with 0"
[ "$status" != 0 ] && [[ $refusal == *"no IP addresses available"* ]] || { echo "CHANGED: host-local no longer keeps addresses of what is gone"; exit 1; }
echo "as described"
