#!/usr/bin/env bash
# QEMU with all processors of the machine on one thread, for machines with an x-pci-proxy-dev: while one processor waits for
# the device's answer, QEMU lets another one in, and then blocks its access as a re-entrant one. tests/examples/without_kvm.rs
# says what is loaded into it.
#
# It runs on the CPU where the device's other end runs, too (tests/src/blk/beside.rs): each access is a message and an
# answer, and to wake another CPU for each takes ten times as long.
export LD_PRELOAD=$CARGO_TARGET_DIR/debug/examples/libwithout_kvm.so
exec taskset --cpu-list "$UNTORN_TEST_CPU" qemu-system-x86_64 "${@/#tcg/tcg,thread=single}"
