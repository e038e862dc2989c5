#!/usr/bin/env bash
# QEMU with all processors of the machine on one thread, for machines with an x-pci-proxy-dev: while one processor waits for
# the device's answer, QEMU lets another one in, and then blocks its access as a re-entrant one. tests/examples/without_kvm.rs
# says what is loaded into it.
export LD_PRELOAD=$CARGO_TARGET_DIR/debug/examples/libwithout_kvm.so
exec qemu-system-x86_64 "${@/#tcg/tcg,thread=single}"
