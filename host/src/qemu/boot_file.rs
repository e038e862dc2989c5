//! What the machine is started from: the linked image, or a file that is made of it for a firmware.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use super::machine::OVMF_CODE;
use super::options::Boot;
use crate::append::Append;
use crate::image::{efi, iso, stub};

/// What the machine is started from. Nothing of it need be there yet.
#[derive(Debug)]
pub struct BootFile {
    boot: Boot,
    image: PathBuf,
    append: Append,
    /// What QEMU is given.
    file: PathBuf,
}

impl BootFile {
    /// A file for this way to start the image that cargo linked at `image`. Made files lie beside it.
    #[must_use]
    pub fn new(boot: Boot, image: PathBuf, append: Append) -> Self {
        let file = match boot {
            Boot::Pvh => image.clone(),
            Boot::Uefi => image.with_extension("efi"),
            // The command line stands in it: two runs at once may want different ones.
            Boot::Bios => {
                let mut hash = DefaultHasher::new();
                append.text().hash(&mut hash);
                image.with_extension(format!("{:016x}.iso", hash.finish()))
            }
        };
        Self { boot, image, append, file }
    }

    /// Returns what QEMU is given.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.file
    }

    /// Returns the command line that QEMU passes on; empty if there is none, or if it stands in the file.
    #[must_use]
    pub fn option(&self) -> &str {
        match self.boot {
            Boot::Pvh | Boot::Uefi => self.append.text(),
            Boot::Bios => "",
        }
    }

    /// Makes it of the linked image, anew at each start: that takes less than a second.
    ///
    /// # Errors
    /// Why it could not be made, for people.
    pub fn make(&self) -> Result<(), String> {
        if !self.image.is_file() {
            let image = self.image.display();
            return Err(format!("{image} is not there: please run ./run-qemu.sh without --no-build"));
        }
        match self.boot {
            Boot::Pvh => Ok(()),
            Boot::Bios => iso::make(&self.image, &self.append, &self.file),
            Boot::Uefi if !Path::new(OVMF_CODE).is_file() => {
                Err(format!("{OVMF_CODE} is not there (host/setup.sh uefi installs it)"))
            }
            Boot::Uefi => efi::make(&self.image, &stub(&self.image), &self.file),
        }
    }
}
