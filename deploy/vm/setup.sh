#!/usr/bin/env bash
# Installs what guests in QEMU need, where it is missing. Root is needed only for that.
set -euo pipefail
export PATH=$PATH:/usr/sbin:/sbin

missing_packages() {
    local tool
    for tool in qemu-system-x86_64:qemu-system-x86 mmdebstrap:mmdebstrap mkfs.erofs:erofs-utils cpio:cpio mke2fs:e2fsprogs modprobe:kmod lz4:lz4 zstd:zstd xz:xz-utils \
        systemd-analyze:systemd; do
        command -v "${tool%%:*}" >/dev/null || echo "${tool##*:}"
    done
}

mapfile -t packages < <(missing_packages)
[ ${#packages[@]} = 0 ] && exit 0
command -v apt-get >/dev/null || { echo "vm setup: missing: ${packages[*]}; there is no apt-get here" >&2; exit 1; }
[ "$(id -u)" = 0 ] || { echo "vm setup: missing: ${packages[*]}; run this as root" >&2; exit 1; }
echo "vm setup: installing ${packages[*]}" >&2
apt=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300)
"${apt[@]}" update </dev/null >&2
"${apt[@]}" install --yes --no-install-recommends "${packages[@]}" </dev/null >&2
