#!/usr/bin/env bash
#: tests/linux-kernel.sh FOLDER: fetches the distribution's own kernel, unpacked and not installed, into FOLDER: vmlinuz;
#: vmlinux, to which it unpacks itself when it boots; modules/ with those of its modules that NVDIMMs, CXL memory, virtio
#: disks and networks, NVMe/TCP (of both ends), RAID, LVM's RAID and ext4 need; and mdadm, which would look for this
#: machine's own arrays if it were installed.
#: Does nothing if they are there already.
#:
#: Works on Debian and Ubuntu, as any user; root is needed only where apt has no package lists yet.
set -euo pipefail
[ $# = 1 ] || { sed -n 's/^#: \{0,1\}//p' "$0" >&2 && exit 2; }
folder=$1
# What this script fetches changes with it.
version=$(sha256sum <"${BASH_SOURCE[0]}")
[ "$(cat "$folder/complete" 2>/dev/null)" != "$version" ] || exit 0

fail() { echo "tests/linux-kernel.sh: $*" >&2 && exit 1; }

# The package that the newest kernel's meta package depends on, and all that are fetched.
image='' packages=()
find_image() {
    local meta
    for meta in linux-image-amd64 linux-image-virtual linux-image-generic; do
        image=$(apt-cache depends "$meta" 2>/dev/null | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)$/\1/p' | head -n 1)
        [ -z "$image" ] || return 0
    done
    return 1
}
# Ubuntu has the modules in packages of their own, and of nvdimm only nfit among those that every machine gets.
find_packages() {
    find_image || return
    packages=("$image")
    local modules
    for modules in "${image/linux-image/linux-modules}" "${image/linux-image/linux-modules-extra}"; do
        if apt-cache show "$modules" >/dev/null 2>&1; then packages+=("$modules"); fi
    done
}
command -v apt-cache >/dev/null || fail 'this machine has no apt to fetch a Linux kernel with'
find_packages || {
    apt-get -q -o DPkg::Lock::Timeout=300 update >&2 || fail 'apt has no package lists; please run apt-get update'
    find_packages || fail 'apt knows no kernel package'
}

rm -rf "$folder" && mkdir -p "$folder/packages"
(cd "$folder/packages" && apt-get -q download "${packages[@]}" >&2) || {
    # Lists that are old name packages that are gone.
    apt-get -q -o DPkg::Lock::Timeout=300 update >&2 && find_packages &&
        (cd "$folder/packages" && apt-get -q download "${packages[@]}" >&2) || fail "apt could not download ${packages[*]}"
}
for package in "$folder"/packages/*.deb; do
    dpkg --fsys-tarfile "$package" | tar -x -C "$folder/packages" --wildcards './boot/vmlinuz-*' \
        '*/kernel/drivers/nvdimm/*' '*/kernel/drivers/acpi/nfit/*' '*/kernel/drivers/dax/*' '*/kernel/drivers/cxl/*' \
        '*/kernel/drivers/virtio/*' '*/kernel/drivers/block/virtio_blk.ko*' \
        '*/kernel/drivers/net/virtio_net.ko*' '*/kernel/drivers/net/net_failover.ko*' '*/kernel/net/core/failover.ko*' \
        '*/kernel/drivers/nvme/*' '*/kernel/fs/configfs/*' '*/kernel/block/t10-pi.ko*' \
        '*/kernel/lib/crc*.ko*' '*/kernel/crypto/crc*.ko*' \
        '*/kernel/drivers/md/md-mod.ko*' '*/kernel/drivers/md/raid*.ko*' \
        '*/kernel/drivers/md/dm-mod.ko*' '*/kernel/drivers/md/dm-raid.ko*' \
        '*/kernel/crypto/async_tx/*' '*/kernel/crypto/xor.ko*' '*/kernel/lib/raid6/*' \
        '*/kernel/fs/ext4/*' '*/kernel/fs/jbd2/*' '*/kernel/fs/mbcache.ko*' '*/kernel/lib/libcrc32c.ko*' 2>/dev/null ||
        true # a package has some of these only
done
mv "$folder"/packages/boot/vmlinuz-* "$folder/vmlinuz" || fail "there is no kernel in ${packages[*]}"
# vmlinux is an ELF file that QEMU starts by its PVH note: to unpack it takes an emulated machine longer than the rest of a
# boot. The header of Linux's boot protocol has how many sectors stand before it, and where it lies behind them; its last
# four bytes are its length.
field() { od -An -v -t "u$2" -j "$1" -N "$2" "$folder/vmlinuz" | tr -d ' '; }
begin=$((($(field 0x1f1 1) + 1) * 512 + $(field 0x248 4))) length=$(($(field 0x24c 4) - 4))
packed() { dd if="$folder/vmlinuz" iflag=skip_bytes,count_bytes skip="$begin" count="$length" bs=1M status=none; }
case $(packed | head -c 4 | od -An -v -t x1) in
' fd 37 7a 58') unpack=(xz -dc) ;;
' 28 b5 2f fd') unpack=(zstd -q -dc) ;;
*) fail "the kernel of ${packages[*]} is packed neither by xz nor by zstd" ;;
esac
packed | "${unpack[@]}" >"$folder/vmlinux" || fail "the kernel of ${packages[*]} cannot be unpacked"
mkdir "$folder/modules"
find "$folder/packages" -path '*/kernel/*' -name '*.ko*' -exec mv -t "$folder/modules" {} +
for module in "$folder"/modules/*; do
    case $module in
    *.xz) xz -d "$module" ;;
    *.zst) zstd -q -d --rm "$module" ;;
    esac
done
# A module goes by the name that it has when it is loaded.
for module in "$folder"/modules/*-*; do
    name=${module##*/}
    [ ! -f "$module" ] || mv "$module" "$folder/modules/${name//-/_}"
done
for module in nfit nd_pmem nd_btt; do
    [ -f "$folder/modules/$module.ko" ] || fail "there is no $module.ko in ${packages[*]}"
done
(cd "$folder/packages" && apt-get -q download mdadm >&2) || fail 'apt could not download mdadm'
dpkg --fsys-tarfile "$folder"/packages/mdadm_*.deb | tar -xO --wildcards '*/sbin/mdadm' >"$folder/mdadm"
chmod +x "$folder/mdadm"
rm -rf "$folder/packages"
echo "$version" >"$folder/complete"
