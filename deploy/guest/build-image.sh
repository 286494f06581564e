#!/usr/bin/env bash
# Packs a guest: OUT/{vmlinux,boot.img,root.erofs,manifest}. A kernel and an initramfs that mounts the root (read-only, with a tmpfs over it).
# usage: build-image.sh KIND OUT BASE PAYLOAD KERNEL
#   KIND     test: PID 1 is deploy/guest/init, the code comes on a disk of its own; systemd: a Debian as one knows it
#   BASE     what build-base.sh made
#   PAYLOAD  test: a directory of Python packages for the root; systemd: the unpacked `make bundle` tar, which is installed
#   KERNEL   what build-kernel.sh made
# Needs root and the packages that deploy/vm/setup.sh installs; no network.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
usage="usage: build-image.sh test|systemd OUT BASE PAYLOAD KERNEL"
kind=${1:?$usage} out=${2:?$usage} base=${3:?$usage} payload=${4:?$usage} kernel=${5:?$usage}

fail() { printf 'build-image: %s\n' "$*" >&2; exit 1; }

[ "$(id -u)" = 0 ] || fail "needs root (the files of a root file system are root's): run it as root"
export PATH=$PATH:/usr/sbin:/sbin
for tool in mkfs.erofs cpio; do command -v $tool >/dev/null || fail "$tool is missing: run deploy/vm/setup.sh"; done
mkdir -p "$out"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root boot=$work/boot

# The root's programs get no variable of this machine: PATH, PYTHON or a locale that means something here means another thing there.
in_root() { env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 chroot "$root" "$@"; }

make_test_root() {
    rm -rf "$root"/var/lib/* "$root"/usr/share/perl* "$root"/usr/lib/x86_64-linux-gnu/{gconv,perl*} "$root"/usr/bin/{dpkg*,perl*}
    mkdir -p "$root"/{proc,sys,dev,run,tmp,code,root,sbin}
    in_root /bin/busybox --install -s /bin                  # a program that is there already stays
    printf 'root:x:0:0:root:/root:/bin/sh\n' >"$root/etc/passwd"
    printf 'root:x:0:\n' >"$root/etc/group"
    mkdir -p "$root/usr/lib/python3/dist-packages"
    cp -r "$payload"/. "$root/usr/lib/python3/dist-packages/"
    in_root /usr/bin/python3 -m compileall -q --invalidation-mode unchecked-hash /usr/lib/python3* ||
        fail "the guest's Python does not run"              # without bytecode a start takes many seconds more in emulation
    install -m755 "$here/init" "$root/init"
}

make_systemd_root() {
    mkdir -p "$root/mnt"
    cp -r "$payload" "$root/mnt/bundle"
    in_root /mnt/bundle/install.sh >&2 || fail "the bundle could not be installed"
    rm -rf "$root/mnt/bundle"
    # erofs takes the files' times away, by which bytecode is held to its source
    in_root /usr/bin/python3 -m compileall -q -f --invalidation-mode unchecked-hash /usr/lib/python3.* /opt/corral/lib
    mkdir -p "$root/usr/lib/corral"
    install -m644 "$here/first_boot.py" "$here/agent.py" "$root/usr/lib/corral/"
    install -m644 "$here"/systemd/*.service "$root/etc/systemd/system/"
    install -m644 "$here"/systemd/*.network "$root/etc/systemd/network/"
    local enabled=(corral-first-boot.service corral-agent.service systemd-networkd.service systemd-networkd-wait-online.service)
    in_root systemctl --quiet enable "${enabled[@]}"
    in_root systemctl --quiet mask serial-getty@.service getty@.service getty-static.service \
        systemd-firstboot.service systemd-binfmt.service proc-sys-fs-binfmt_misc.automount apt-daily.timer
    in_root /bin/busybox --install -s /bin
    : >"$root/etc/machine-id"                               # each guest makes its own
    echo guest >"$root/etc/hostname"
}

make_busybox_rootfs() {                                     # a small root file system for containers
    mkdir -p "$1"/{bin,dev,etc,proc,root,sys,tmp}
    cp "$root/bin/busybox" "$1/bin/"
    for applet in $("$1/bin/busybox" --list); do [ -e "$1/bin/$applet" ] || ln -s busybox "$1/bin/$applet"; done
    printf 'root:x:0:0:root:/root:/bin/sh\n' >"$1/etc/passwd"
}

make_boot() {
    mkdir -p "$boot"/{bin,modules,proc,sys,dev}
    cp "$root/bin/busybox" "$boot/bin/"
    for tool in sh mount insmod cat cut mkdir switch_root poweroff; do ln -s busybox "$boot/bin/$tool"; done
    install -m755 "$here/init" "$boot/init"
    cp "$kernel"/modules/* "$boot/modules/"
    (cd "$boot" && find . -print0 | LC_ALL=C sort -z | cpio -0 -o -H newc --quiet -R 0:0 --reproducible) | gzip -9n >"$out/boot.img"
}

cp -a "$base/root" "$root"
make_${kind}_root
mkdir -p "$root/var/lib/corral"
make_busybox_rootfs "$root/srv/busybox"
make_boot
mkfs.erofs --quiet -T0 "$out/root.erofs" "$root" >/dev/null || fail "mkfs.erofs failed"
cp "$kernel/vmlinux" "$out/vmlinux"
cp "$base/manifest" "$out/manifest"
echo "linux-image=$(cat "$kernel/version")" >>"$out/manifest"
