#!/usr/bin/env bash
# Builds a guest from Debian packages: OUT/{vmlinuz,boot.img,root.erofs,manifest}.
# usage: build-image.sh OUT SITE_PACKAGES      SITE_PACKAGES: a directory of Python packages that go into the root
# Needs root, the network (or a package mirror) and the packages that deploy/vm/setup.sh installs.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=${1:?usage: build-image.sh OUT SITE_PACKAGES}
site=${2:?usage: build-image.sh OUT SITE_PACKAGES}

fail() { printf 'build-image: %s\n' "$*" >&2; exit 1; }

[ "$(id -u)" = 0 ] || fail "needs root (mmdebstrap makes a root file system): run it as root"
for tool in mmdebstrap mkfs.erofs cpio modprobe; do
    PATH=$PATH:/usr/sbin:/sbin command -v $tool >/dev/null || fail "$tool is missing: run deploy/vm/setup.sh"
done
PATH=$PATH:/usr/sbin:/sbin
kernel=$(find /boot -name 'vmlinuz-*-cloud-amd64' | sort -V | tail -1)
[ -n "$kernel" ] || fail "no cloud kernel in /boot: run deploy/vm/setup.sh"
version=${kernel#/boot/vmlinuz-}
suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
for sources in /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list; do [ -e "$sources" ] && break; done

mkdir -p "$out"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root boot=$work/boot

make_root() {
    # extract: files alone, no maintainer scripts; PID 1 is our own, so nothing has to be configured.
    mmdebstrap --quiet --variant=extract --include="$(grep -v '^#' "$here/packages" | paste -sd,)" \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/info/*' \
        --skip=cleanup/apt "$suite" "$root" "$sources" || fail "mmdebstrap could not make the root file system"
    find "$root/var/cache/apt/archives" -name '*.deb' -exec dpkg-deb --show --showformat='${Package}=${Version}\n' {} \; |
        LC_ALL=C sort >"$out/manifest"
    diff <(cut -d= -f1 "$out/manifest" | LC_ALL=C sort) "$here/package-names" >&2 ||
        fail "the packages are not those of deploy/guest/package-names (< built, > listed): look at the change, then update the list"
    rm -rf "$root"/var/{cache,lib}/* "$root"/usr/share/{lintian,gcc,gdb,perl*} "$root"/usr/lib/x86_64-linux-gnu/{gconv,perl*} \
        "$root"/usr/bin/{dpkg*,perl*} "$root"/usr/lib/python3.*/{pydoc_data,lib2to3,idlelib,turtledemo,test,ensurepip}
    mkdir -p "$root"/{proc,sys,dev,run,tmp,code,root,sbin} "$root/var/lib/corral"
    chroot "$root" /bin/busybox --install -s /bin           # a program that is there already stays
    printf 'root:x:0:0:root:/root:/bin/sh\n' >"$root/etc/passwd"
    printf 'root:x:0:\n' >"$root/etc/group"
    mkdir -p "$root/usr/lib/python3/dist-packages"
    cp -r "$site"/. "$root/usr/lib/python3/dist-packages/"
    chroot "$root" /usr/bin/python3 -m compileall -q --invalidation-mode unchecked-hash /usr/lib/python3* ||
        fail "the guest's Python does not run"              # without bytecode a start takes many seconds more in emulation
    make_busybox_rootfs "$root/srv/busybox"
    install -m755 "$here/init" "$root/init"
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
    modprobe -S "$version" -D -a virtio_pci virtio_blk virtio_net virtio-rng overlay erofs |
        awk '$1 == "insmod" && !seen[$2]++ {print $2}' |
        while read -r module; do cp "$module" "$boot/modules/" && basename "$module"; done >"$boot/modules/order"
    (cd "$boot" && find . -print0 | LC_ALL=C sort -z | cpio -0 -o -H newc --quiet -R 0:0 --reproducible) | gzip -9n >"$out/boot.img"
}

make_root
make_boot
mkfs.erofs --quiet -T0 --all-root "$out/root.erofs" "$root" >/dev/null || fail "mkfs.erofs failed"
cp "$kernel" "$out/vmlinuz"
echo "linux-image=$version" >>"$out/manifest"
