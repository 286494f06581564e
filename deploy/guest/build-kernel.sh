#!/usr/bin/env bash
# Fetches the kernel of a Debian release: OUT/vmlinux, OUT/version, and the modules that a guest's boot needs: OUT/modules/{order,*.ko}.
# usage: build-kernel.sh OUT [APT_OPTION …]      the options choose the release's package lists
# Needs the network (or a package mirror) and what deploy/vm/setup.sh installs. Nothing is installed here.
set -euo pipefail
out=${1:?usage: build-kernel.sh OUT [APT_OPTION …]}
shift
# disks, network, entropy; root; and what a first boot reads: fw_cfg, seed disks as FAT or ISO 9660
modules=(virtio_pci virtio_blk virtio_net virtio-rng overlay erofs qemu_fw_cfg vfat isofs nls_ascii nls_cp437 nls_utf8 autofs4)

fail() { printf 'build-kernel: %s\n' "$*" >&2; exit 1; }

export PATH=$PATH:/usr/sbin:/sbin
for tool in depmod modprobe lz4 xz zstd; do command -v $tool >/dev/null || fail "$tool is missing: run deploy/vm/setup.sh"; done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fetch() {                                                   # of all that apt would bring, what holds the kernel and its modules
    mapfile -t packages < <(apt-get "$@" --simulate install linux-image-cloud-amd64 |
        awk '$1 == "Inst" && $2 ~ /^linux-.*[0-9].*-cloud-amd64$/ {print $2}')
    [ ${#packages[@]} != 0 ] || fail "there is no linux-image-cloud-amd64; is the mirror there?"
    (cd "$work" && apt-get "$@" --quiet=2 download "${packages[@]}") || fail "apt-get could not fetch ${packages[*]}; is the mirror there?"
    for package in "$work"/*.deb; do dpkg-deb --extract "$package" "$work/tree"; done
    kernel=$(find "$work/tree" -name 'vmlinuz*' -type f)    # in /boot, or beside its modules since 7.0
    directory=$(find "$work/tree" -path '*/lib/modules/*' -name kernel -type d -prune)
    [ -n "$kernel" ] && [ -n "$directory" ] || fail "${packages[*]} hold no kernel with modules"
    version=$(basename "$(dirname "$directory")")
}

take_modules() {
    mkdir -p "$work/base/lib/modules" "$out/modules"
    mv "$(dirname "$directory")" "$work/base/lib/modules/"
    depmod --basedir "$work/base" "$version"
    modprobe --dirname "$work/base" --set-version "$version" --show-depends --all "${modules[@]}" |
        awk '$1 == "insmod" && !seen[$2]++ {print $2}' |
        while read -r module; do
            cp "$module" "$out/modules/" && basename "$module" .xz
        done >"$out/modules/order"
    find "$out/modules" -name '*.xz' -exec xz --decompress {} +
}

unpack_kernel() {                                           # half a second of emulation less than when the kernel does it by itself
    python3 - "$kernel" >"$work/payload" <<'END' || fail "$kernel is no bzImage"
import struct, sys
image = open(sys.argv[1], "rb").read()
assert image[0x202:0x206] == b"HdrS"  # Documentation/arch/x86/boot.rst
offset, size = struct.unpack_from("<II", image, 0x248)
start = (image[0x1F1] + 1) * 512 + offset
sys.stdout.buffer.write(image[start : start + size - 4])
END
    lz4 -dfq "$work/payload" "$out/vmlinux" 2>/dev/null || zstd -dfq "$work/payload" -o "$out/vmlinux" 2>/dev/null ||
        cp "$kernel" "$out/vmlinux"                         # what is packed otherwise unpacks itself
}

fetch "$@"
unpack_kernel
take_modules
echo "$version" >"$out/version"
