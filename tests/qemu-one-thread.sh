#!/usr/bin/env bash
# QEMU with all processors of the machine on one thread, for machines with an x-pci-proxy-dev: while one processor waits for
# the device's answer, QEMU lets another one in, and then blocks its access as a re-entrant one.
exec qemu-system-x86_64 "${@/#tcg/tcg,thread=single}"
