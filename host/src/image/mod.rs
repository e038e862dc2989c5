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
use std::{fs, io};

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

/// Replaces `path` at once by the file that `make` makes: a program that opens it meanwhile has the old file or the new one.
/// `make` gets an empty folder beside `path`, which is removed afterwards, and returns where in it the file is.
///
/// What stands there and is no file, a disk's device above all, is refused: a rename would put a file in its place, and
/// nothing would be on the disk.
///
/// # Errors
/// Those of `make`; or which file or folder could not be made, and why.
fn replace(path: &Path, make: impl FnOnce(&Path) -> Result<PathBuf, String>) -> Result<(), String> {
    if fs::metadata(path).is_ok_and(|there| !there.is_file()) {
        return Err(format!("{}: no file; name one, and copy it to a disk with dd (docs/boot.md)", path.display()));
    }
    let folder = path.with_extension(format!("new-{}", std::process::id()));
    // A process that was killed may have left one, and had our number.
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir(&folder).map_err(fault(&folder))?;
    let outcome = make(&folder).and_then(|new| fs::rename(new, path).map_err(fault(path)));
    let _ = fs::remove_dir_all(&folder);
    outcome
}

/// Makes an error of a file one for people.
fn fault(path: &Path) -> impl Fn(io::Error) -> String {
    move |error| format!("{}: {error}", path.display())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where it is surprised")]

    use super::*;

    #[test]
    fn a_file_is_replaced_whole_or_not_at_all_and_nothing_is_left_beside_it() {
        let place = std::env::temp_dir().join(format!("untorn-replace-{}", std::process::id()));
        fs::create_dir(&place).unwrap();
        let file = place.join("disk.img");
        let files = || fs::read_dir(&place).unwrap().count();
        let write = |text: &'static str| {
            let file = &file;
            move |folder: &Path| {
                let new = folder.join("new");
                fs::write(&new, text).map_err(fault(&new))?;
                assert_ne!(fs::read_to_string(file).ok().as_deref(), Some(text), "it is not replaced yet");
                Ok(new)
            }
        };
        fs::create_dir(place.join(format!("disk.new-{}", std::process::id()))).unwrap();
        assert_eq!((replace(&file, write("one")), replace(&file, write("two"))), (Ok(()), Ok(())));
        assert_eq!((fs::read_to_string(&file).unwrap().as_str(), files()), ("two", 1));
        let failed = replace(&file, |folder| {
            write("half")(folder)?;
            Err("there is no more".into())
        });
        assert_eq!(failed, Err("there is no more".into()));
        assert_eq!((fs::read_to_string(&file).unwrap().as_str(), files()), ("two", 1));
        let nowhere = replace(&place.join("none/disk.img"), write("none")).unwrap_err();
        assert!(nowhere.contains("none/disk.new-"), "{nowhere}");
        let device = replace(Path::new("/dev/null"), |_| unreachable!("nothing is made")).unwrap_err();
        assert!(device.contains("/dev/null: no file") && device.contains("dd"), "{device}");
        fs::remove_dir_all(&place).unwrap();
    }
}
