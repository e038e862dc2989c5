#!/usr/bin/env bash
#: host/setup.sh WHAT...: installs the Debian or Ubuntu packages that each WHAT needs and this machine lacks.
#:
#:   qemu    what run-qemu.sh --no-build needs: QEMU
#:   build   a linker and cargo
#:   run     what run-qemu.sh needs: both
#:   bios    what --boot bios needs besides: GRUB and what makes an ISO
#:   uefi    what --boot uefi needs besides: OVMF
#:   iso, efi, disk
#:           what make-image.sh needs for that: what builds, and what lays out an ISO or a disk
#:   tests   all that, and what the Linux guest of the tests is made of
#:   debian, ubuntu
#:           what tests/on-distribution.sh makes a root of that distribution with
#:
#: Installs by apt when root, or by sudo where it asks for no password. Otherwise it prints the one line to run.
#: All output goes to stderr. Exit status: 0 everything is there, 2 something is missing.
set -euo pipefail

complain() { echo "host/setup.sh: $*" >&2; }

# Each thing is missing if its test fails; then these packages bring it.
packages=()
need() { # need PACKAGES TEST...
    "${@:2}" >/dev/null 2>&1 || read -ra packages <<<"${packages[*]-} $1"
}

need_qemu() {
    # Someone who names a QEMU of his own has one.
    [ -n "${QEMU-}" ] || need qemu-system-x86 command -v qemu-system-x86_64
}
cargo=''
need_build() {
    cargo=1
    need 'gcc libc6-dev' command -v cc
}
need_run() {
    need_qemu
    need_build
}
need_bios() {
    need grub-common command -v grub-mkrescue
    need grub-pc-bin test -d /usr/lib/grub/i386-pc
    need xorriso command -v xorriso
    # grub-mkrescue copies by it.
    need mtools command -v mformat
}
need_uefi() {
    need ovmf test -f /usr/share/OVMF/OVMF_CODE_4M.fd
}
need_iso() {
    need_build
    need_bios
}
need_efi() {
    need_build
}
need_disk() {
    need_build
    need gdisk command -v sgdisk
    need mtools command -v mformat
}
need_tests() {
    need_run
    need_iso
    need_disk
    # It boots from disks of ours and of others.
    need_uefi
    need ndctl command -v ndctl
    # PMDK's checker; where it is gone from the distribution, the tests do without. Before apt has lists nobody knows.
    need libpmempool1 sh -c 'ls /usr/lib/*/libpmempool.so.1 || ! command -v apt-cache || {
        ls /var/lib/apt/lists/*_Packages* && ! apt-cache show libpmempool1
    }'
    # Debian packs its kernel's modules with xz, Ubuntu with zstd.
    need xz-utils command -v xz
    need zstd command -v zstd
    # What a Linux that uses our disks has on board.
    need busybox-static command -v busybox
    need e2fsprogs command -v mkfs.ext4
    need fio command -v fio
    need nvme-cli command -v nvme
    # It needs more libraries than mdadm, which is fetched and not installed.
    need lvm2 command -v lvm
    # A browser for the page of metrics. Ubuntu has it as a snap only: the tests do without there.
    need chromium sh -c 'command -v chromium || ! grep -q "^ID=debian" /etc/os-release'
}
need_debian() {
    need debootstrap command -v debootstrap
    need debian-archive-keyring test -f /usr/share/keyrings/debian-archive-keyring.gpg
}
need_ubuntu() {
    need debootstrap command -v debootstrap
    # Debian 12 has no such package: tests/on-distribution.sh finds the keys then.
    [ -z "$(apt-cache madison ubuntu-keyring)" ] ||
        need ubuntu-keyring test -f /usr/share/keyrings/ubuntu-archive-keyring.gpg
}

for what in "${@:-}"; do
    case $what in
    qemu | build | run | bios | uefi | iso | efi | disk | tests | debian | ubuntu) "need_$what" ;;
    -h | --help) sed -n 's/^#: \{0,1\}//p' "$0" >&2 && exit 0 ;;
    *) complain 'say what for, such as qemu, build or run (--help lists all)' && exit 2 ;;
    esac
done

if [ ${#packages[@]} -gt 0 ]; then
    install="apt-get install -y --no-install-recommends ${packages[*]}"
    if ! command -v apt-get >/dev/null; then
        complain "missing: what Debian calls ${packages[*]}. This machine has no apt-get: please install them by hand."
        exit 2
    fi
    as_root=()
    if [ "$(id -u)" != 0 ]; then
        if ! sudo -n true 2>/dev/null; then
            complain "missing: ${packages[*]}. Please run:"
            echo "sudo sh -c 'apt-get update && $install'" >&2
            exit 2
        fi
        as_root=(sudo -n)
    fi
    complain "installing ${packages[*]}"
    # Another apt may be at work (a fresh machine updates itself): wait for it, within a bound.
    apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300)
    install_all() {
        "${apt[@]}" update || return
        # Now it knows.
        apt-cache show libpmempool1 >/dev/null 2>&1 || read -ra packages <<<"${packages[*]/libpmempool1/}"
        "${apt[@]}" install -y --no-install-recommends "${packages[@]}"
    }
    if ! install_all >&2 </dev/null; then
        complain "apt could not install ${packages[*]}: see above. By hand: apt-get update && $install"
        exit 2
    fi
fi

# rustup is asked for, not installed: how a machine gets its compiler is its owner's business.
if [ -n "$cargo" ] && ! command -v cargo >/dev/null && ! [ -x "${CARGO_HOME:-$HOME/.cargo}/bin/cargo" ]; then
    complain 'missing: cargo. Please install rustup (rustup.rs); it fetches the toolchain that this project names.'
    exit 2
fi
