//! Which file it is, however it is opened or named.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A file, by what stays the same however it is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The device that it is on.
    pub device: u64,
    /// Its number there.
    pub inode: u64,
}

impl Identity {
    /// Of an open file.
    ///
    /// # Errors
    /// The system's.
    pub fn of(file: &File) -> io::Result<Self> {
        file.metadata().map(|it| Self { device: it.dev(), inode: it.ino() })
    }

    /// Of what has that name, which is not opened.
    ///
    /// # Errors
    /// The system's.
    pub fn at(path: &Path) -> io::Result<Self> {
        path.symlink_metadata().map(|it| Self { device: it.dev(), inode: it.ino() })
    }
}
