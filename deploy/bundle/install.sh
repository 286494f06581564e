#!/bin/sh
# Installs Corral from this directory into a prefix of its own. It needs python3 and runc of the system, and no network.
# usage: install.sh [--prefix DIR]      [/opt/corral]; run again with a newer bundle it upgrades what is there
set -eu
here=$(cd "$(dirname "$0")" && pwd)
prefix=/opt/corral
python=${PYTHON:-python3}

fail() { printf 'corral install: %s\n' "$*" >&2; exit 1; }

while [ $# -gt 0 ]; do
    case $1 in
        --prefix) [ $# -gt 1 ] || fail "--prefix wants a directory"; prefix=$2; shift 2 ;;
        --prefix=*) prefix=${1#--prefix=}; shift ;;
        *) sed -n 's/^# //p' "$0" | head -2; [ "$1" = --help ] && exit 0; exit 2 ;;
    esac
done
case $prefix in /*) ;; *) fail "--prefix $prefix: an absolute path is wanted" ;; esac

command -v "$python" >/dev/null || fail "python3 is missing: apt-get install python3"
wanted=$(cat "$here/python")
found=$("$python" -c 'import sys, sysconfig; print("%d.%d" % sys.version_info[:2], sysconfig.get_platform())')
[ "$found" = "$wanted" ] || fail "this bundle is for Python $wanted, here is $found: make one on such a system (make bundle)"
[ ! -e "$prefix" ] || [ -e "$prefix/pyvenv.cfg" ] || fail "$prefix is there already and is no installation of Corral: give another --prefix"

mkdir -p "$prefix" 2>/dev/null || fail "$prefix cannot be made: run this as root, or give another --prefix"
[ -w "$prefix" ] || fail "$prefix is not yours to write to: run this as root, or give another --prefix"
[ -x "$prefix/bin/python" ] || "$python" -m venv --without-pip "$prefix" || fail "python3 -m venv failed"
pip=$(echo "$here"/wheels/pip-*.whl)
"$prefix/bin/python" "$pip/pip" install --quiet --no-index --disable-pip-version-check --root-user-action=ignore \
    --upgrade --force-reinstall --find-links "$here/wheels" --require-hashes --requirement "$here/requirements.lock" || fail "pip could not install the wheels"
mkdir -p "$prefix/share/doc/corral" "$prefix/share/corral"
cp -r "$here"/doc/. "$here"/LICENSE "$prefix/share/doc/corral/"
cp -r "$here"/systemd "$here"/cloud-init.yaml "$prefix/share/corral/"
command -v runc >/dev/null || printf 'corral install: runc is missing, which a guest needs: apt-get install runc\n' >&2
printf '%s is in %s\n' "$("$prefix/bin/corral" --version)" "$prefix/bin/corral"
