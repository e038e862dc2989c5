//! Files that firmware boots the image from, made of the linked image.
//!
//! | module | makes |
//! |---|---|
//! | [`efi`] | a native program for UEFI firmware |
//! | [`disk`] | a disk with an EFI system partition, and that program on it |
//! | [`iso`] | a hybrid ISO for a PC BIOS: a CD, and byte for byte a disk or a USB stick |
//! | [`pe`] | a PE file of an ELF file |
//! | [`slim`] | the image without what only a debugger reads |

pub mod disk;
pub mod efi;
pub mod iso;
pub mod pe;
pub mod slim;

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use crate::append::Append;

/// What `untornctl image` is asked for.
#[derive(Debug, Args)]
pub struct Options {
    /// What it is for
    #[arg(value_enum)]
    pub kind: Kind,
    /// The file; replaced if it is there
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The image's command line. Only an ISO has one in it; UEFI firmware keeps one with its boot entry
    #[arg(long, value_name = "KEY=VALUE …", value_parser = Append::parse)]
    pub append: Option<Append>,
    /// Cargo's target directory: the linked image is there
    #[arg(long, value_name = "FOLDER", default_value = "target", hide = true)]
    pub target: PathBuf,
}

/// What the file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// A PC BIOS: a CD, a disk or a USB stick
    Iso,
    /// UEFI firmware: a program, to be put on an EFI system partition or signed
    Efi,
    /// UEFI firmware: a whole disk or USB stick
    Disk,
}

/// Makes the file.
///
/// # Errors
/// Why it could not be made, for people.
pub fn make(options: &Options) -> Result<(), String> {
    let image = options.target.join("release").join("untorn");
    let (stub, file) = (stub(&image), &options.file);
    match (options.kind, &options.append) {
        (Kind::Iso, append) => iso::make(&image, &append.clone().unwrap_or_default(), file),
        (_, Some(_)) => {
            Err("--append goes with an ISO: UEFI firmware keeps the command line with its boot entry".into())
        }
        (Kind::Efi, None) => efi::make(&image, &stub, file),
        (Kind::Disk, None) => disk::make(&image, &stub, file),
    }
}

/// Where cargo puts the UEFI stub: beside the image.
pub(crate) fn stub(image: &Path) -> PathBuf {
    image.with_file_name("untorn-stub")
}

/// Replaces `path` by `bytes` at once: a program that opens it meanwhile has the old file or the new one.
fn replace(path: &Path, bytes: &[u8]) -> Result<(), String> {
    let new = path.with_extension(format!("new-{}", std::process::id()));
    std::fs::write(&new, bytes)
        .and_then(|()| std::fs::rename(&new, path))
        .map_err(|error| format!("{}: {error}", path.display()))
}
