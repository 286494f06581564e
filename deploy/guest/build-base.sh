#!/usr/bin/env bash
# Makes the root file system of a guest from Debian packages alone: OUT/root (a tree) and OUT/manifest (PACKAGE=VERSION, a line each).
# usage: build-base.sh KIND OUT [SUITE SOURCES]
#   KIND     test (files alone, for the tiny init) or systemd
#   SUITE    a Debian release, and a file of apt's that says where its packages are; without them the release of this machine
# Needs root, the network (or a package mirror) and the packages that deploy/vm/setup.sh installs.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
usage="usage: build-base.sh test|systemd OUT [SUITE SOURCES]"
kind=${1:?$usage} out=${2:?$usage} root=${2:?$usage}/root suite=${3:-} sources=${4:-}

fail() { printf 'build-base: %s\n' "$*" >&2; exit 1; }

[ "$(id -u)" = 0 ] || fail "needs root (mmdebstrap makes a root file system): run it as root"
export PATH=$PATH:/usr/sbin:/sbin
command -v mmdebstrap >/dev/null || fail "mmdebstrap is missing: run deploy/vm/setup.sh"
case $kind in
    test) variant=extract ;;                # no maintainer scripts; PID 1 is our own, so nothing has to be configured
    systemd) variant=essential ;;
    *) fail "no kind $kind: $usage" ;;
esac
if [ -z "$suite" ]; then
    suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
    for sources in /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list; do [ -e "$sources" ] && break; done
fi

# a mirror that stands still is told to this machine's apt, and counts here too
eval "$(apt-config shell valid_until Acquire::Check-Valid-Until/b check_date Acquire::Check-Date/b)"

mkdir -p "$out"
trap '[ $? = 0 ] || rm -rf "$root"' EXIT
mmdebstrap --quiet --variant=$variant --include="$(grep -v '^#' "$here/packages.$kind" | paste -sd,)" \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/info/*' \
    --setup-hook='for each in bin lib lib64 sbin; do mkdir -p "$1/usr/$each" && ln -s "usr/$each" "$1/$each"; done' \
    --aptopt="Acquire::Check-Valid-Until \"${valid_until:-true}\"" --aptopt="Acquire::Check-Date \"${check_date:-true}\"" \
    --skip=cleanup/apt "$suite" "$root" "$sources" ||
    fail "mmdebstrap could not make the root file system; is the network there?"
if [ "$kind" = test ]; then                # extracted packages are in no database
    find "$root/var/cache/apt/archives" -name '*.deb' -exec dpkg-deb --show --showformat='${Package}=${Version}\n' {} \;
else
    dpkg-query --admindir="$root/var/lib/dpkg" --show --showformat='${Package}=${Version}\n'
fi | LC_ALL=C sort >"$out/manifest"
listed=$here/package-names.$suite.$kind                    # a release that still changes has no list
[ ! -e "$listed" ] || diff <(cut -d= -f1 "$out/manifest" | LC_ALL=C sort) "$listed" >&2 ||
    fail "the packages are not those of deploy/guest/${listed##*/} (< built, > listed): look at the change, then update the list"
rm -rf "$root"/var/cache/* "$root"/var/lib/apt/* "$root"/usr/share/{lintian,gcc,gdb} \
    "$root"/usr/lib/python3.*/{pydoc_data,lib2to3,idlelib,turtledemo,test,ensurepip}
