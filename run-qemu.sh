#!/usr/bin/env bash
# Boots untorn in QEMU: installs and builds what is missing, then leaves all else to `untornctl qemu`, which has the
# options (host/src/qemu; --help lists them).
set -euo pipefail
started=$EPOCHREALTIME
top=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
target=${CARGO_TARGET_DIR:-$top/target}
case $target in /*) ;; *) target=$PWD/$target ;; esac
client=$target/release/untornctl
PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin

say() { echo "run-qemu.sh: $*" >&2; }

# What has to be known before untornctl reads the options. It reads them all, these too.
build=1 dry='' help='' timeout='' boot='' before=''
for word in "$@"; do
    case $word in
    --no-build) build='' ;;
    --dry-run) dry=1 ;;
    --help | -h) help=1 ;;
    --timeout=*) timeout=${word#*=} ;;
    --boot=*) boot=${word#*=} ;;
    *)
        [ "$before" != --timeout ] || timeout=$word
        [ "$before" != --boot ] || boot=$word
        ;;
    esac
    before=$word
done
case $boot in bios | uefi) ;; *) boot='' ;; esac
[[ $timeout =~ ^([0-9]{1,7}(\.[0-9]*)?|\.[0-9]+)$ ]] || timeout=''

# step COMMAND...: ends with this script, however that ends, and when the time is up (to a second: the rest of the run
# counts more finely).
step() {
    local status=0 left='' bound=()
    if [ -n "$timeout" ]; then
        left=$((10#0${timeout%%.*} + 1 - SECONDS)) bound=(timeout --foreground --kill-after=5 "$left")
        ((left > 0)) || { say "--timeout $timeout struck" && exit 124; }
    fi
    setpriv --pdeathsig TERM "${bound[@]}" "$@" </dev/null >&2 || status=$?
    [ -z "$timeout" ] || [ $status != 124 ] || { say "--timeout $timeout struck" && exit 124; }
    return $status
}
# build PART PROGRAM: PART is what an alias in .cargo/config.toml builds. Cargo's last line is left out: where nothing is to
# be built, it is the only one.
build() {
    [ -f "$target/release/$2" ] || say "building $1: the first time takes a minute or two"
    local status=0
    step env -C "$top" CARGO_TARGET_DIR="$target" cargo "build-$1" 2> >(grep -v '^ *Finished ' >&2) || status=$?
    wait $! || :
    [ $status = 0 ] || { say "building $1 failed: see above" && exit 1; }
}

if [ -n "$help" ] && [ ! -f "$client" ]; then exec cat "$top/host/src/qemu/help.txt"; fi
if [ -n "$dry$help" ]; then
    [ -f "$client" ] || build untornctl untornctl
elif [ -n "$build" ]; then
    step "$top/host/setup.sh" run ${boot:+"$boot"} || exit $?
    build untornctl untornctl
    # A slip in the options is not to wait for the image.
    "$client" qemu --dry-run --target "$target" "$@" >/dev/null || exit $?
    build image untorn
    [ "$boot" != uefi ] || build stub untorn-stub
else
    step "$top/host/setup.sh" qemu ${boot:+"$boot"} || exit $?
    [ -f "$client" ] || { say "$client is not there: please run without --no-build" && exit 1; }
fi
# It takes this process's place: whoever ends run-qemu.sh ends it, and QEMU ends with it.
exec "$client" qemu --target "$target" --since "${started/,/.}" "$@"
