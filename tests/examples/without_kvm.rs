//! Goes into QEMU by `LD_PRELOAD`, so that its `x-pci-proxy-dev` works without KVM.
//!
//! The device routes its interrupt by KVM, whether there is one or not (`proxy_intx_update` in QEMU's hw/remote/proxy.c).
//! Up to QEMU 8.1 that was looked at behind the call, and came to nothing. Since then `kvm_state` is read through though it
//! is null, and QEMU ends with SIGSEGV at address 0x30. Here it gets zeroes to read: the request to KVM then goes to
//! descriptor 0, which does not know it, and the failure is ignored, as it was before. Our device has no interrupt.
//!
//! Promises: nothing but that null pointer is changed, and nothing at all in a program that has no such variable. A QEMU
//! that uses KVM sets it itself, later. From 10.1 on QEMU has `vfio-user-pci` for devices in other processes.

use std::ffi::c_void;
use std::sync::atomic::AtomicU64;

/// More than a `KVMState` is long.
static ZEROES: [AtomicU64; 8 << 10] = [const { AtomicU64::new(0) }; 8 << 10];

extern "C" fn give_zeroes() {
    // SAFETY: the name is a C string, and the call takes any.
    let state = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"kvm_state".as_ptr()) }.cast::<*const c_void>();
    if state.is_null() {
        return;
    }
    // SAFETY:
    // 1. It is QEMU's variable of that name, a pointer, which lives as long as the program.
    // 2. Initialisers run before `main`, on the only thread.
    unsafe {
        if state.read().is_null() {
            state.write(ZEROES.as_ptr().cast());
        }
    }
}

#[used]
// SAFETY: this section is a list of functions without arguments, which the loader calls once.
#[unsafe(link_section = ".init_array")]
static AT_START: extern "C" fn() = give_zeroes;
