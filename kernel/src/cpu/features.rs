//! The features of each CPU: switches on what our code needs, and detects the rest.
//!
//! Every CPU runs [`enable`] before anything else of ours, so that all are alike: a function compiled for AVX may run on any.

use core::arch::x86_64::{__cpuid, __cpuid_count};
use core::fmt;

use x86_64::registers::control::{Cr4, Cr4Flags};
use x86_64::registers::model_specific::Msr;
use x86_64::registers::xcontrol::{XCr0, XCr0Flags};

/// IA32_PAT, and its value after power-on: entry 0 is write-back, entry 3 uncached, which our page tables rely on.
const PAT: (u32, u64) = (0x277, 0x0007_0406_0007_0406);

// CPUID leaf 1, ECX.
const XSAVE: u32 = 1 << 26;
const AVX: u32 = 1 << 28;

// CPUID leaf 7, EBX.
const AVX2: u32 = 1 << 5;
const AVX512F: u32 = 1 << 16;

/// Switches on the features of this CPU that all our code relies on. SSE is on already: the entry code needs it.
pub(crate) fn enable() {
    // SAFETY: every x86-64 CPU has a PAT; with this value each attribute bit means what it meant at power-on.
    unsafe { Msr::new(PAT.0).write(PAT.1) };
    if __cpuid(1).ecx & XSAVE != 0 {
        let mut state = XCr0Flags::X87 | XCr0Flags::SSE;
        if __cpuid(1).ecx & AVX != 0 {
            state |= XCr0Flags::AVX;
        }
        // SAFETY: the CPU has XSAVE, and AVX where its state is named; nothing depends on these being off.
        unsafe {
            Cr4::update(|flags| flags.insert(Cr4Flags::OSXSAVE));
            XCr0::write(state);
        }
    }
}

/// The features of a CPU, and their names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Features {
    leaf1_ecx: u32,
    leaf7_ebx: u32,
    leaf1_edx: u32,
    extended_edx: u32,
}

impl Features {
    /// Detects the features of the CPU that runs this.
    pub(crate) fn detect() -> Self {
        let leaf1 = __cpuid(1);
        let mut found = Self {
            leaf1_ecx: leaf1.ecx,
            leaf7_ebx: if __cpuid(0).eax >= 7 { __cpuid_count(7, 0).ebx } else { 0 },
            leaf1_edx: leaf1.edx,
            extended_edx: __cpuid(0x8000_0001).edx,
        };
        if found.leaf1_ecx & XSAVE == 0 {
            // Without XSAVE these cannot be switched on.
            found.leaf1_ecx &= !AVX;
            found.leaf7_ebx &= !(AVX2 | AVX512F);
        }
        found
    }

    /// Returns whether the CPU has a local APIC with wide ids, driven by model-specific registers.
    pub(crate) const fn x2apic(&self) -> bool {
        self.leaf1_ecx & 1 << 21 != 0
    }
}

impl fmt::Display for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = [
            ("clwb", self.leaf7_ebx & 1 << 24),
            ("clflushopt", self.leaf7_ebx & 1 << 23),
            ("clflush", self.leaf1_edx & 1 << 19),
            ("avx", self.leaf1_ecx & AVX),
            ("avx2", self.leaf7_ebx & AVX2),
            ("avx512f", self.leaf7_ebx & AVX512F),
            ("xsave", self.leaf1_ecx & XSAVE),
            ("rdrand", self.leaf1_ecx & 1 << 30),
            ("x2apic", self.leaf1_ecx & 1 << 21),
            ("pdpe1gb", self.extended_edx & 1 << 26),
        ];
        let mut between = "";
        for (name, _) in all.iter().filter(|(_, bit)| *bit != 0) {
            write!(f, "{between}{name}")?;
            between = " ";
        }
        Ok(())
    }
}
