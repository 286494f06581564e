#!/usr/bin/env bash
# Makes this checkout ready: the Debian packages that containers need, and a virtual environment in .venv with Corral and its tools.
# With `tests`: also the shells and tools that tests use. With `lock NAME…`: the lock is resolved anew before (only NAME… if there is one).
# Quick where everything is there already. Root is needed only to install packages that are missing. It asks nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly venv=.venv
readonly stamp=$venv/set-up-for

say() { printf 'setup: %s\n' "$*" >&2; }
fail() { say "$@"; exit 1; }

is_static() { [ -x "$1" ] && ! ldd "$1" >/dev/null 2>&1; }

readonly for_tests=${1:-}

# The system's own Python where it is new enough: services run on it, and Debian builds it by profile, so that Corral needs a sixth less CPU
# than on one that was compiled without. PYTHON3=… chooses another.
choose_python() {
    local candidate
    for candidate in ${PYTHON3:-/usr/bin/python3 python3}; do
        command -v "$candidate" >/dev/null && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || continue
        "$candidate" -c 'import ensurepip, venv' 2>/dev/null || { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; } || continue
        command -v "$candidate"
        return
    done
    fail "no Python 3.11 or newer with its module venv (Debian: python3-venv) among: ${PYTHON3:-/usr/bin/python3 python3}"
}

is_made_with_it() { [ "$(readlink -f $venv/bin/python)" = "$(readlink -f "$python")" ]; }

missing_packages() {
    PATH=$PATH:/usr/sbin:/sbin command -v runc >/dev/null || echo runc
    is_static /bin/busybox || echo busybox-static
    is_made_with_it || "$python" -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv
    [ "$for_tests" = tests ] || return 0
    local tool
    for tool in zsh fish jq tmux umoci skopeo; do command -v $tool >/dev/null || echo $tool; done
}

install_packages() {
    command -v apt-get >/dev/null || fail "missing: $*. There is no apt-get here: install them in this system's own way"
    [ "$(id -u)" = 0 ] || fail "missing: $*. Run this as root, or: sudo apt-get install --yes $*"
    say "installing $*"
    local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300)
    local install=("${apt[@]}" install --yes --no-install-recommends "$@")
    # Package lists may be absent or name versions that the mirror has dropped since: they are fetched where that shows.
    if ! "${install[@]}" --simulate </dev/null >/dev/null 2>&1 || ! "${install[@]}" </dev/null >/dev/null; then
        "${apt[@]}" update </dev/null >/dev/null || fail "apt-get update failed; does this machine reach its Debian mirror?"
        "${install[@]}" </dev/null >/dev/null || fail "apt-get could not install $*"
    fi
}

# What the environment was made for. A checkout that was moved, another Python, a changed pyproject.toml and another lock all show here.
wanted() { printf '%s %s %s\n' "$PWD" "$(cat pyproject.toml requirements*.lock | sha256sum | cut -d' ' -f1)" "$($venv/bin/python -V)"; }

lock() { PYTHONPATH=deploy/lock "$python" -m corral_lock "$@"; }

make_environment() {
    if [ -e $stamp ] && [ "$(cut -d' ' -f1 $stamp)" != "$PWD" ]; then
        say "$venv was made in another directory: making it anew"
        rm -rf $venv
    fi
    is_made_with_it || rm -rf $venv
    if [ ! -e $stamp ] || [ "$(cat $stamp)" != "$(wanted)" ]; then
        lock check || exit 1
        say "installing Corral and its tools into $venv, as the lock says"
        lock install || exit 1
        wanted >$stamp
    fi
}

# For tests on machines that have node: AsyncAPI's own parser, and what the example of a client in another language needs.
install_from_npm() {
    local from=$1 to=$venv/$2
    [ "$for_tests" = tests ] && command -v node >/dev/null && command -v npm >/dev/null || return 0
    ! cmp -s "$from/package-lock.json" "$to/package-lock.json" || return 0
    say "installing into $to what $from/package-lock.json says"
    mkdir -p "$to"
    cp "$from/package.json" "$from/package-lock.json" "$to"
    npm ci --ignore-scripts --silent --no-audit --no-fund --prefix "$to" </dev/null >/dev/null || {
        rm -rf "$to"
        say "npm could not install what $from needs: its test is skipped"
    }
}

python=$(choose_python)
readonly python
mapfile -t packages < <(missing_packages)
[ ${#packages[@]} = 0 ] || install_packages "${packages[@]}"
mapfile -t packages < <(missing_packages)
[ ${#packages[@]} = 0 ] || fail "still missing after the installation: ${packages[*]}"
if [ "${1:-}" = lock ]; then lock renew "${@:2}"; fi
make_environment
install_from_npm tests/schemas/asyncapi_parser asyncapi
install_from_npm client/examples/node node-client
