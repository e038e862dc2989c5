//! A file with a BTT on it. It is durable, and never torn, as far as the file system's `fdatasync` is.

use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use btt::bytes::is_all;
use btt::file::FileMedium;
use btt::format::{FormatError, FormatOptions, format};
use btt::geometry::SectorSize;
use btt::info_block::Version;
use btt::{Btt, OpenError, Placement};
use nvmf::{DiskId, Namespace, SectorBytes};
use uuid::{Builder, Uuid};

use crate::random;

/// Where a BTT may begin: as on a namespace without labels, and with labels 1.2.
const PLACEMENTS: [Placement; 2] = [
    Placement { version: Version::V1_1, parent_uuid: Uuid::nil() },
    Placement { version: Version::V2_0, parent_uuid: Uuid::nil() },
];

/// One thread serves all.
const CPUS: u32 = 1;

/// So much at each end of a file is zero if it is blank.
const BLANK_BYTES: usize = 1 << 20;

/// Sectors that a BTT commits together.
const RUN_SECTORS: u16 = 32;

/// The disk.
pub struct Disk {
    /// Its BTT.
    pub btt: Btt<FileMedium>,
    /// Its file.
    pub path: PathBuf,
    /// Bytes of a sector.
    pub sector_bytes: SectorBytes,
}

impl Disk {
    /// Opens a file. A blank one gets a BTT first, if `format_blank` has a sector size. No other process may have it open
    /// so.
    ///
    /// # Errors
    /// What is wrong with the file, and what to do.
    pub fn open(path: &Path, format_blank: Option<SectorBytes>, read_only: bool) -> Result<Self, DiskError> {
        let failed = |what| DiskError { path: path.to_owned(), what };
        let io = |why| failed(Fault::Io(why));
        let file = OpenOptions::new().read(true).write(!read_only).open(path).map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(failed(Fault::InUse)),
            Err(TryLockError::Error(why)) => return Err(io(why)),
        }
        let blank = is_blank(&file).map_err(io)?;
        let medium = |file: &File| file.try_clone().and_then(|file| FileMedium::new(file, read_only)).map_err(io);
        if let Some(size) = format_blank.filter(|_| blank && !read_only) {
            let sector_size = SectorSize::new(size.bytes()).expect("both are sector sizes of a BTT");
            let options = FormatOptions {
                sector_size,
                uuid: random_uuid(),
                parent_uuid: Uuid::nil(),
                version: Version::V1_1,
                zero_data: false,
                zero_entries: false,
            };
            format(&medium(&file)?, &options, &mut |_, _| ()).map_err(|why| failed(Fault::Format(why)))?;
        }
        let [first, second] = PLACEMENTS;
        let btt = match Btt::open(medium(&file)?, first, CPUS) {
            Err(OpenError::NotABtt) => Btt::open(medium(&file)?, second, CPUS),
            opened => opened,
        };
        let btt = btt.map_err(|why| failed(if blank { Fault::Blank } else { Fault::Open(why) }))?;
        let bytes = btt.sector_size().bytes();
        let sector_bytes = SectorBytes::new(bytes).ok_or_else(|| failed(Fault::SectorBytes(bytes)))?;
        Ok(Self { btt, path: path.to_owned(), sector_bytes })
    }

    /// The disk as hosts see it.
    #[must_use]
    pub fn namespace(&self, disk: DiskId) -> Namespace {
        Namespace {
            disk,
            uuid: self.btt.uuid(),
            sector_bytes: self.sector_bytes,
            sectors: self.btt.capacity_sectors(),
            // If some arenas take writes, those of others fail.
            read_only: self.btt.arenas().all(|arena| arena.read_only.is_some()),
            // What is deallocated is zeroed.
            deallocated_reads_zero: true,
            run_sectors: RUN_SECTORS,
        }
    }
}

/// Whether a file is zero at both ends.
fn is_blank(file: &File) -> io::Result<bool> {
    let bytes = file.metadata()?.len();
    let mut piece = vec![0; BLANK_BYTES];
    for at in [0, bytes.saturating_sub(BLANK_BYTES as u64)] {
        let mut got = 0;
        while got < piece.len() {
            match file.read_at(&mut piece[got..], at + got as u64) {
                Ok(0) => break,
                Ok(more) => got += more,
                Err(why) if why.kind() == ErrorKind::Interrupted => {}
                Err(why) => return Err(why),
            }
        }
        if !is_all(&piece[..got], 0) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn random_uuid() -> Uuid {
    let mut bytes = [0; 16];
    random::fill(&mut bytes);
    Builder::from_random_bytes(bytes).into_uuid()
}

/// Why a file cannot be served.
#[derive(Debug)]
pub struct DiskError {
    path: PathBuf,
    what: Fault,
}

#[derive(Debug)]
enum Fault {
    Io(io::Error),
    InUse,
    Blank,
    Open(OpenError),
    Format(FormatError),
    SectorBytes(u32),
}

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.path.display())?;
        match &self.what {
            Fault::Io(why) => why.fmt(f),
            Fault::InUse => f.write_str("another process serves it"),
            Fault::Blank => f.write_str("the file is blank (--format 4096 lays a BTT on it)"),
            Fault::Open(why) => why.fmt(f),
            Fault::Format(why) => why.fmt(f),
            Fault::SectorBytes(bytes) => write!(f, "hosts take sectors of 512 or 4096 bytes, and these have {bytes}"),
        }
    }
}

impl std::error::Error for DiskError {}
