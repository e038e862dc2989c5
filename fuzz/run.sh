#!/usr/bin/env bash
#: fuzz/run.sh [--minutes M] [--seed S] [TARGET...]: feeds hostile bytes to TARGETs (all of them) for M minutes each (1).
#:
#: Where there is a nightly toolchain and a C++ compiler, LLVM's libFuzzer does it, guided by coverage and with
#: AddressSanitizer; else, or with --plain, the program `fuzz`, on the stable toolchain. `--list` names the targets.
#: What a guided run finds worth keeping goes to target/fuzz/TARGET; an input that does harm is kept beside it, and named.
#: Replay one: cargo run --release -p fuzz -- TARGET --replay FILE
#: Exit status: 0 no harm, 1 harm, 2 usage.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

minutes=1 seed=1 plain='' targets=()
while [ $# -gt 0 ]; do
    case $1 in
    --minutes | --seed)
        [[ ${2-} =~ ^[0-9]+$ ]] || { echo "fuzz/run.sh: $1 wants a number" >&2 && exit 2; }
        [ "$1" = --seed ] && seed=$2 || minutes=$2
        shift 2
        ;;
    --plain) plain=yes && shift ;;
    --list) exec cargo run --quiet --locked --release -p fuzz --bin fuzz -- --list ;;
    -h | --help) sed -n 's/^#: \{0,1\}//p' "${BASH_SOURCE[0]}" && exit 0 ;;
    -*) echo "fuzz/run.sh: no option $1 (--help tells which there are)" >&2 && exit 2 ;;
    *) targets+=("$1") && shift ;;
    esac
done

out=${CARGO_TARGET_DIR:-target}/fuzz
mkdir -p "$out"
if [ -n "$plain" ] || ! cargo +nightly --version >/dev/null 2>&1 || ! command -v c++ >/dev/null; then
    exec cargo run --quiet --locked --release -p fuzz --bin fuzz -- \
        --seconds $((minutes * 60)) --seed "$seed" --keep "$out" "${targets[@]}"
fi

# Counters at each edge, and what comparisons compare; the name of the target keeps build scripts free of it.
export RUSTFLAGS='-Zsanitizer=address -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 -Cdebug-assertions -Coverflow-checks'
triple=x86_64-unknown-linux-gnu
cargo +nightly build --quiet --locked --release -p fuzz --bin guided --features guided --target $triple \
    --target-dir "$out/build"
unset RUSTFLAGS

[ ${#targets[@]} -gt 0 ] || for folder in fuzz/corpus/*/; do targets+=("$(basename "$folder")"); done
for target in "${targets[@]}"; do
    [ -d "fuzz/corpus/$target" ] || { echo "fuzz/run.sh: no target $target (--list names them)" >&2 && exit 2; }
    folders=("fuzz/corpus/$target")
    case $target in
    nfit) folders+=(nvdimm/tests/fixtures/nfit nvdimm/tests/fixtures/broken) ;;
    labels) folders+=(nvdimm/tests/fixtures/labels) ;;
    esac
    mkdir -p "$out/$target"
    echo "fuzz/run.sh: $target, $minutes min, guided" >&2
    UNTORN_TARGET=$target "$out/build/$triple/release/guided" -seed="$seed" -max_total_time=$((minutes * 60)) \
        -timeout=20 -rss_limit_mb=2048 -max_len=4096 -print_final_stats=1 -artifact_prefix="$out/$target-" \
        "$out/$target" "${folders[@]}" >"$out/$target.log" 2>&1 || {
        tail -n 40 "$out/$target.log" >&2
        exit 1
    }
    grep -E '^stat::(number_of_executed_units|new_units_added)|^#[0-9]+.*DONE' "$out/$target.log" >&2 || true
done
