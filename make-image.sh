#!/usr/bin/env bash
#: ./make-image.sh iso|efi|disk FILE [--append 'KEY=VALUE …']: makes a file that firmware boots untorn from.
#:
#:   iso     for a PC BIOS: a CD, and byte for byte a disk or a USB stick. --append is the image's command line
#:   disk    for UEFI firmware: a disk or a USB stick, with a GPT and an EFI system partition
#:   efi     for UEFI firmware: the program alone, to be put on a partition that there is, or to be signed
#:
#: Installs and builds what is missing. docs/boot.md tells how to go on.
set -euo pipefail
top=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
target=${CARGO_TARGET_DIR:-$top/target}
case $target in /*) ;; *) target=$PWD/$target ;; esac
PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin

case "${1-}" in
iso | efi | disk) ;;
-h | --help) sed -n 's/^#: \{0,1\}//p' "$0" && exit 0 ;;
*) echo 'make-image.sh: say what for: iso, efi or disk (--help tells more)' >&2 && exit 2 ;;
esac
"$top/host/setup.sh" "$1"
# An ISO needs no UEFI stub.
parts=(untornctl image)
[ "$1" = iso ] || parts+=(stub)
for part in "${parts[@]}"; do
    env -C "$top" CARGO_TARGET_DIR="$target" cargo "build-$part" >&2
done
exec "$target/release/untornctl" image --target "$target" "$@"
