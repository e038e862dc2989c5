//! The files that are a machine's memory: its NVDIMMs, and its consumers' RAM.
//!
//! A file with holes gets its blocks when the machine first stores there. A store for which the file system has no
//! block, and a load that the disk cannot serve, end the machine's program by SIGBUS, which names no file: so room is
//! looked at before ([`Backing::warning`]), and the files after ([`explain`]).

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitStatus;

use nix::libc::SIGBUS;
use nix::sys::statvfs::statvfs;

/// The unit of `st_blocks` (stat(2)).
const BLOCK_BYTES: u64 = 512;

/// A file system with less than this is called full.
const FULL_BYTES: u64 = 1 << 20;

/// A file that is a part of a machine's memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backing {
    /// The file.
    pub path: PathBuf,
    /// How many bytes of it are memory.
    pub bytes: u64,
}

/// The size of a file on the disk, and the room to grow.
struct Room {
    /// The file's length; a block device's is not known here.
    length: Option<u64>,
    /// Bytes of it that have no place on the disk yet.
    holes: u64,
    /// Bytes that its file system has left.
    free: u64,
}

impl Backing {
    fn room(&self) -> io::Result<Room> {
        let metadata = self.path.metadata()?;
        let there = statvfs(&self.path)?;
        // One without a number of blocks has no bound (a tmpfs may have none).
        let free = match there.blocks() {
            0 => u64::MAX,
            _ => there.blocks_available().saturating_mul(there.fragment_size()),
        };
        let length = metadata.is_file().then_some(metadata.len());
        Ok(Room { length, holes: holes(&metadata), free })
    }

    /// The warning if the file system has not enough room for all of the file.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        let Room { holes, free, .. } = self.room().ok()?;
        (holes > free).then(|| {
            format!(
                "warning: {} can come to take {holes} bytes more, and its file system has {free} bytes free: when the \
                 disk is full, the machine ends",
                self.path.display()
            )
        })
    }

    /// The fault of the file, as far as it can be seen from here.
    fn fault(&self) -> Option<String> {
        let path = self.path.display();
        match self.room() {
            Err(error) => Some(format!("{path}: {error}")),
            Ok(Room { length: Some(length), .. }) if length < self.bytes => {
                Some(format!("{path} was cut short: it has {length} bytes, not {}", self.bytes))
            }
            Ok(Room { holes, free, .. }) if holes > 0 && (free < FULL_BYTES || free < holes) => Some(format!(
                "{path}: its disk is full or nearly so: {free} bytes are free, and the file lacks {holes}"
            )),
            Ok(_) => None,
        }
    }
}

/// How many bytes of a file have no place on the disk yet.
fn holes(metadata: &Metadata) -> u64 {
    if metadata.is_file() { metadata.len().saturating_sub(metadata.blocks().saturating_mul(BLOCK_BYTES)) } else { 0 }
}

/// The reason for which a machine's program ended by SIGBUS; `None` if it ended otherwise.
#[must_use]
pub fn explain(ended: ExitStatus, memory: &[Backing]) -> Option<String> {
    // A shell that ran it has the signal in its exit status.
    if ended.signal() != Some(SIGBUS) && ended.code() != Some(128 + SIGBUS) {
        return None;
    }
    let mut text = String::from("the machine ended by SIGBUS: a file that is its memory could not be read or written");
    let faults: Vec<String> = memory.iter().filter_map(Backing::fault).collect();
    if faults.is_empty() {
        let files: Vec<String> = memory.iter().map(|file| file.path.display().to_string()).collect();
        text += &format!(" ({}): see the kernel's log for errors of its disk", files.join(", "));
    }
    for fault in faults {
        text += &format!("\n  {fault}");
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where it is surprised")]

    use std::fs::File;
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;
    use std::slice;

    use super::{Backing, explain};

    #[test]
    fn the_end_by_sigbus_is_told_with_the_file_at_fault() {
        let folder = std::env::temp_dir().join(format!("untorn-backing-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = |name: &str, length: u64, bytes: u64| {
            let path = folder.join(name);
            File::create(&path).unwrap().set_len(length).unwrap();
            Backing { path, bytes }
        };
        // More than any disk has.
        let (huge, small) = (file("huge", 1 << 43, 1 << 43), file("small", 4096, 4096));
        assert!(huge.warning().unwrap().contains("huge can come to take 8796093022208 bytes more"));
        assert_eq!(small.warning(), None);
        let bus = ExitStatus::from_raw(7);
        let told = explain(bus, &[small.clone(), huge]).unwrap();
        assert!(told.contains("huge: its disk is full") && !told.contains("small"), "{told}");
        let told = explain(ExitStatus::from_raw(135 << 8), &[file("cut", 1, 4096)]).unwrap();
        assert!(told.contains("cut was cut short: it has 1 bytes, not 4096"), "{told}");
        let told = explain(bus, &[file("gone", 1, 1), small.clone()]).unwrap();
        assert!(told.contains("gone, ") && told.contains("kernel's log"), "{told}");
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(explain(bus, slice::from_ref(&small)).unwrap().contains("small: No such file"));
        for other in [0, 9, 11, 35 << 8] {
            assert_eq!(explain(ExitStatus::from_raw(other), slice::from_ref(&small)), None);
        }
    }
}
