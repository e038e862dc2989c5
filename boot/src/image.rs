//! The places of the image's parts (`linker.ld`). The image is linked where it is loaded: these addresses are physical
//! and virtual alike.

use core::ops::Range;

/// The permitted accesses to a part of the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read only.
    Read,
    /// Read and execute.
    Execute,
    /// Read and write.
    Write,
}

/// A part of the image: whole pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its addresses.
    pub range: Range<u64>,
    /// The permitted accesses.
    pub access: Access,
}

#[cfg(all(feature = "image", not(test)))]
mod symbols {
    use super::{Access, Part};

    // Only their addresses mean anything.
    unsafe extern "C" {
        static image_start: u8;
        static text_start: u8;
        static text_end: u8;
        static data_start: u8;
        static data_end: u8;
        static boot_stack_bottom: u8;
        static boot_stack_top: u8;
        static image_end: u8;
    }

    macro_rules! range {
        ($from:ident .. $to:ident) => {
            (&raw const $from) as u64..(&raw const $to) as u64
        };
    }

    /// Returns the addresses of the whole image, the boot CPU's stack included.
    #[must_use]
    pub fn whole() -> core::ops::Range<u64> {
        range!(image_start..image_end)
    }

    /// Returns the addresses of the boot CPU's stack. The page below it belongs to no part: left unmapped, it catches
    /// an overflow.
    #[must_use]
    pub fn boot_stack() -> core::ops::Range<u64> {
        range!(boot_stack_bottom..boot_stack_top)
    }

    /// Returns the image's parts, in order of address. They do not overlap; the guard page lies between the last two.
    #[must_use]
    pub fn parts() -> [Part; 4] {
        [
            Part { range: range!(image_start..text_start), access: Access::Read },
            Part { range: range!(text_start..text_end), access: Access::Execute },
            Part { range: range!(data_start..data_end), access: Access::Write },
            Part { range: boot_stack(), access: Access::Write },
        ]
    }
}

#[cfg(all(feature = "image", not(test)))]
pub use symbols::{boot_stack, parts, whole};
