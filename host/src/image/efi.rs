//! A native UEFI program: the stub (`boot/src/stub`) with the image in its section `.kernel`.

use std::fs;
use std::path::Path;

use super::pe::{self, Extra};
use super::slim::slim;
use super::{fault, replace};

/// The name of the section in which the stub finds the image.
const SECTION: &str = ".kernel";

/// Makes the program of the linked image at `image` and the linked stub at `stub`.
///
/// # Errors
/// Why it could not be made, for people.
pub fn program(image: &Path, stub: &Path) -> Result<Vec<u8>, String> {
    let read = |path: &Path| fs::read(path).map_err(fault(path));
    let kernel = slim(&read(image)?)?;
    let program = pe::from_elf(&read(stub)?, Extra { name: SECTION, bytes: &kernel });
    program.map_err(|why| format!("{}: {why}", stub.display()))
}

/// Makes the program as a file. Replaces `efi` at once.
///
/// # Errors
/// Why it could not be made, for people.
pub fn make(image: &Path, stub: &Path, efi: &Path) -> Result<(), String> {
    let made = replace(efi, |folder| {
        let new = folder.join("program.efi");
        fs::write(&new, program(image, stub)?).map_err(fault(&new))?;
        Ok(new)
    });
    made.map_err(|why| format!("the UEFI program could not be made: {why}"))
}
