#!/usr/bin/env bash
#: tests/on-distribution.sh [--built] SUITE COMMAND...: runs a command at the top of this project on another release of
#: Debian or Ubuntu, such as trixie: in a root of that release, with a target folder of its own, both kept under
#: target/distributions.
#:
#:   --built  what this machine has built counts as built there, and what is built there is not kept. For a short look at a
#:            release that is not older than this machine's: its C library has to do for these programs
#:
#: The root is a minimal one, so what the project needs the command has to install. debootstrap makes it from the archive
#: that apt is set up for, or from $ARCHIVE, and checks its signatures. Toolchain and crates are this machine's; the source is
#: read-only there. Kernel, network and devices are this machine's, too.
#:
#: Needs to be root. Whatever ends this script ends all that it started, and no mount of it is ever seen outside.
#: Exit status: the command's, or 2 where there is no such root.
set -euo pipefail

fail() { echo "tests/on-distribution.sh: $*" >&2 && exit 2; }
built=''
if [ "${1-}" = --built ]; then built=1 && shift; fi
[ $# -ge 2 ] && [[ $1 =~ ^[a-z]+$ ]] || { sed -n 's/^#: \{0,1\}//p' "$0" >&2 && exit 2; }
suite=$1 && shift
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
target=${CARGO_TARGET_DIR:-$top/target}
case $target in /*) ;; *) target=$PWD/$target ;; esac
folder=$target/distributions/$suite
root=$folder/root
cargo=${CARGO_HOME:-$HOME/.cargo}
rustup=${RUSTUP_HOME:-$HOME/.rustup}

# folder_for_cargo FOLDER: marks it, as cargo marks those that it makes: the tests look for that.
folder_for_cargo() {
    mkdir -p "$1"
    [ -f "$1/CACHEDIR.TAG" ] || echo 'Signature: 8a477f597d28d172789f06886806bc55' >"$1/CACHEDIR.TAG"
}

# Finds an archive of Debian or Ubuntu that has the suite, and its origin: which of the two it is. debootstrap checks what
# this reads.
find_archive() {
    local release=$folder/Release archives
    archives=${ARCHIVE:-$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | awk '!seen[$0]++')}
    for archive in $archives; do
        archive=${archive%/}
        /usr/lib/apt/apt-helper -q download-file "$archive/dists/$suite/Release" "$release" >/dev/null 2>&1 || continue
        origin=$(sed -n 's/^Origin: //p' "$release")
        case $origin in Debian | Ubuntu) return ;; esac
    done
    fail "there is no $suite of Debian or Ubuntu in ${archives//$'\n'/, }; please name an archive that has it: ARCHIVE=URL"
}

# Finds the keys of the suite's archive. Ubuntu's are in a package that Debian 12 has among its backports only.
find_keys() {
    keys=/usr/share/keyrings/${origin,,}-archive-keyring.gpg
    [ ! -f "$keys" ] || return 0
    keys=$folder/keys/archive-keyring.gpg
    local apt=$folder/keys/apt debian release options
    debian=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -m 1 '/debian/*$') &&
        release=$(. /etc/os-release && echo "$VERSION_CODENAME") || fail "this machine's apt has no archive with $origin's keys"
    mkdir -p "$apt"/{lists,cache/archives}/partial
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $debian $release-backports main" >"$apt/sources.list"
    options=(-q -o Dir::Etc::SourceList="$apt/sources.list" -o Dir::Etc::SourceParts=/dev/null
        -o Dir::State::Lists="$apt/lists" -o Dir::Cache="$apt/cache")
    { apt-get "${options[@]}" update && (cd "$apt" && apt-get "${options[@]}" download ubuntu-keyring); } >&2 &&
        dpkg --fsys-tarfile "$apt"/ubuntu-keyring_*.deb | tar -xO ./usr/share/keyrings/ubuntu-archive-keyring.gpg >"$keys" ||
        fail "$origin's keys are not in $debian either"
}

make_root() {
    local components=main like=sid
    [ "$origin" = Debian ] || components=main,universe like=gutsy
    # A suite that is newer than debootstrap is made like others of its distribution.
    [ -f "/usr/share/debootstrap/scripts/$suite" ] && like=$suite
    echo "tests/on-distribution.sh: making a root of $origin $suite" >&2
    rm -rf "$root"
    # Only certificates are added: no machine got its rustup without.
    debootstrap --variant=minbase --components=$components --include=ca-certificates --force-check-gpg \
        --keyring="$keys" "$suite" "$root" "$archive" "$like" >&2 ||
        fail "debootstrap could not make a root of $suite from $archive: see above, and $root/debootstrap/debootstrap.log"
}

# share FOLDER: shows a folder of this machine at the same place.
share() {
    mkdir -p "$root$1"
    mount --rbind "$1" "$root$1"
}

if [ -z "${UNTORN_APART-}" ]; then
    [ "$(id -u)" = 0 ] || fail 'only root can do that; with sudo, keep HOME, where rustup is: sudo env HOME="$HOME" …'
    unshare --mount --pid --fork true || fail 'no namespaces here (see above): a container needs CAP_SYS_ADMIN for this'
    [ -d "$rustup" ] || fail "$rustup is not there: please install rustup (rustup.rs), or name its folder in RUSTUP_HOME"
    command -v apt-get >/dev/null || fail 'this machine has no apt to tell of an archive'
    folder_for_cargo "$target"
    mkdir -p "$folder"
    exec 9>"$folder/lock"
    flock --nonblock 9 || { echo "tests/on-distribution.sh: waiting for another run on $suite" >&2 && flock 9; }
    # What is in the root changes with what makes it.
    version=$(declare -f make_root | sha256sum)
    if [ "$(cat "$folder/complete" 2>/dev/null)" != "$version" ]; then
        rm -f "$folder/complete"
        find_archive
        "$top/host/setup.sh" "${origin,,}" || exit
        find_keys
        export archive origin keys version
    fi
    # Below here mounts and processes are in namespaces that end with their first process; that ends with unshare, and unshare
    # with this one. Not exec: unshare ignores the signals that end this one.
    export UNTORN_APART=1
    status=0
    setpriv --pdeathsig KILL unshare --mount --pid --fork --kill-child "${BASH_SOURCE[0]}" ${built:+--built} "$suite" "$@" ||
        status=$?
    rm -rf "$folder/built"
    exit $status
fi

[ -f "$folder/complete" ] || { make_root && echo "$version" >"$folder/complete"; }
[ ! -e /etc/resolv.conf ] || cp --remove-destination -L /etc/resolv.conf "$root/etc/resolv.conf"
mount -t proc proc "$root/proc"
share /sys
share /dev
# As after a start.
for empty in dev/shm run tmp; do mount -t tmpfs -o mode=1777 tmpfs "$root/$empty"; done
share "$cargo"
share "$rustup"
mkdir -p "$root$top" "$root$target"
mount --bind -o ro "$top" "$root$top"
if [ -z "$built" ]; then
    folder_for_cargo "$folder/target"
    mount --bind "$folder/target" "$root$target"
else
    # All but the Linux that the tests fetch: it is the distribution's.
    over=$folder/built
    rm -rf "$over" && mkdir -p "$over"/{changed,work} "$folder/linux"
    mount -t overlay -o "lowerdir=$target,upperdir=$over/changed,workdir=$over/work" overlay "$root$target"
    mkdir -p "$root$target/linux"
    mount --bind "$folder/linux" "$root$target/linux"
fi

# Builds find what this machine has built only with its settings. Otherwise none is incremental: that serves those who change
# the source, and takes gigabytes.
passed=(http_proxy https_proxy no_proxy) settings=(${CARGO_TARGET_DIR:+CARGO_TARGET_DIR="$target"})
if [ -n "$built" ]; then passed+=(CARGO_INCREMENTAL RUSTFLAGS); else settings+=(CARGO_INCREMENTAL=0); fi
for name in "${passed[@]}"; do [ -z "${!name-}" ] || settings+=("$name=${!name}"); done
status=0
chroot "$root" env -i -C "$top" HOME="$HOME" TERM="${TERM-dumb}" CARGO_HOME="$cargo" RUSTUP_HOME="$rustup" \
    PATH="$cargo/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" "${settings[@]}" "$@" 9>&- || status=$?
exit $status
