#!/usr/bin/env bash
#: host/setup.sh WHAT: installs the Debian or Ubuntu packages that WHAT needs and this machine lacks.
#:
#:   qemu    what run-qemu.sh --no-build needs: QEMU
#:   run     what run-qemu.sh needs: that, a linker and cargo
#:   tests   that, and what the Linux guest of the tests is made of
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
need_run() {
    need_qemu
    need 'gcc libc6-dev' command -v cc
}

case "${1-}" in
qemu) need_qemu ;;
run) need_run ;;
tests)
    need_run
    need ndctl command -v ndctl
    # PMDK's checker; where it is gone from the distribution, the tests do without. Before apt has lists nobody knows.
    need libpmempool1 sh -c 'ls /usr/lib/*/libpmempool.so.1 || ! command -v apt-cache || {
        ls /var/lib/apt/lists/*_Packages* && ! apt-cache show libpmempool1
    }'
    # Debian packs its kernel's modules with xz, Ubuntu with zstd.
    need xz-utils command -v xz
    need zstd command -v zstd
    # UEFI firmware that boots from our disks, and what makes a file system for it.
    need ovmf test -f /usr/share/OVMF/OVMF_CODE_4M.fd
    need mtools command -v mformat
    # What a Linux that uses our disks has on board.
    need busybox-static command -v busybox
    need e2fsprogs command -v mkfs.ext4
    need fio command -v fio
    ;;
-h | --help) sed -n 's/^#: \{0,1\}//p' "$0" >&2 && exit 0 ;;
*) complain 'say what for: qemu, run or tests (--help tells more)' && exit 2 ;;
esac

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
if [ "$1" != qemu ] && ! command -v cargo >/dev/null && ! [ -x "${CARGO_HOME:-$HOME/.cargo}/bin/cargo" ]; then
    complain 'missing: cargo. Please install rustup (rustup.rs); it fetches the toolchain that this project names.'
    exit 2
fi
