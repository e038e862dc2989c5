//! A consumer's RAM as a file: made by us, mapped by the consumer's QEMU as its RAM and by the appliance's QEMU as
//! BAR2 of an ivshmem device.
//!
//! A PCI BAR is a power of two, so the file is the RAM rounded up to one, with room for a page at least: that tail is
//! the appliance's and ours, and invisible to the consumer. The file outlives us: a consumer that still runs is found
//! again after a restart. Several bridges may serve it, each with disks of its own appliance.
//!
//! Its name may be where others can write, too: a file is taken only if it is a plain one, by its own name, owned by us, and
//! not writable by everybody. The consumer has it open, and may cut it short at any time: that costs it its disks
//! ([`RamFile::is_whole`]), and other users have no access.

use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::libc::{O_NOFOLLOW, O_NONBLOCK};
use nix::unistd::geteuid;
use service::memory::{MemoryOffset, OutsideMemory, SharedMemory, check};

use super::guard::Guarded;
use crate::identity::Identity;

/// The least that the tail behind the RAM has.
pub const TAIL_BYTES_MIN: u64 = 4096;

/// Stands in the file's last bytes, which no consumer has as RAM: a file that was cut short has lost it, also when it was
/// made as long as before. (A consumer that gives back pages, as ballooning does, changes its RAM only.) It is no secret:
/// a consumer that means harm writes it back, which `window`'s watch notices.
const MARK: [u8; 8] = *b"untorn\0\x01";

/// The least RAM that a consumer can have here: less is surely a slip.
const RAM_BYTES_MIN: u64 = 1 << 20;

/// The most: what a PC can address, with room for rounding.
const RAM_BYTES_MAX: u64 = 1 << 46;

/// How long another bridge may hold the file's lock.
const LOCK: Duration = Duration::from_secs(2);

/// Where [`MARK`] is.
const fn mark_at(file_bytes: u64) -> u64 {
    file_bytes - MARK.len() as u64
}

/// Whether the file of that length has [`MARK`].
fn has_mark(file: &File, file_bytes: u64) -> bool {
    let mut mark = [0; MARK.len()];
    file.read_exact_at(&mut mark, mark_at(file_bytes)).is_ok() && mark == MARK
}

/// A consumer's RAM.
#[derive(Debug)]
pub struct RamFile {
    path: PathBuf,
    file: File,
    identity: Identity,
    ram_bytes: u64,
    file_bytes: u64,
    map: Guarded,
}

/// Why a file cannot be a consumer's RAM.
#[derive(Debug)]
pub enum RamError {
    /// No machine has so much or so little.
    Size(u64),
    /// It could not be made, opened, locked or mapped.
    File(PathBuf, &'static str, io::Error),
    /// It is a folder, a device or the like.
    NoFile(PathBuf),
    /// Its name is a symbolic link's: the link's maker chose the file.
    Link(PathBuf),
    /// Another user owns it, and could read and write a machine's memory in it.
    Owner(PathBuf, u32),
    /// Everybody may write to it.
    Writable(PathBuf, u32),
    /// Another program holds its lock.
    Locked(PathBuf),
    /// It exists and has another size.
    WrongSize {
        /// Where.
        path: PathBuf,
        /// Bytes that it has.
        found: u64,
        /// Bytes that it should have.
        expected: u64,
    },
}

impl fmt::Display for RamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Size(bytes) => {
                write!(f, "a consumer with {bytes} bytes of RAM: it takes a multiple of 1M, at most 64T")
            }
            Self::File(path, what, error) => write!(f, "the RAM file {} could not be {what}: {error}", path.display()),
            Self::NoFile(path) => {
                write!(f, "{} is no plain file: give a consumer's RAM a file under /dev/shm", path.display())
            }
            Self::Link(path) => {
                write!(f, "{} is a symbolic link, which is not followed: give the file's own name", path.display())
            }
            Self::Owner(path, owner) => write!(
                f,
                "{} belongs to user {owner}, who could read and write a machine's memory in it: give another name",
                path.display()
            ),
            Self::Writable(path, mode) => write!(
                f,
                "everybody may write to {} (mode {mode:03o}), a machine's memory: chmod o-w it, or give another name",
                path.display()
            ),
            Self::Locked(path) => write!(f, "another program holds the lock of {}", path.display()),
            Self::WrongSize { path, found, expected } => write!(
                f,
                "the RAM file {} has {found} bytes, not the {expected} of this consumer, and is left as it is: remove it, \
                 or give the size that it was made with",
                path.display()
            ),
        }
    }
}

impl std::error::Error for RamError {}

impl RamFile {
    /// Opens the file at `path` for a consumer with so much RAM, and makes it if it is absent or empty.
    ///
    /// # Errors
    /// When it cannot be such a file. One that exists with another size is left as it is.
    pub fn open(path: &Path, ram_bytes: u64) -> Result<Self, RamError> {
        if !(RAM_BYTES_MIN..=RAM_BYTES_MAX).contains(&ram_bytes) || !ram_bytes.is_multiple_of(1 << 20) {
            return Err(RamError::Size(ram_bytes));
        }
        let file_bytes = (ram_bytes + TAIL_BYTES_MIN).next_power_of_two();
        let failed = |what| move |error| RamError::File(path.to_owned(), what, error);
        match path.symlink_metadata().map(|there| there.file_type()) {
            Ok(kind) if kind.is_symlink() => return Err(RamError::Link(path.to_owned())),
            Ok(kind) if !kind.is_file() => return Err(RamError::NoFile(path.to_owned())),
            _ => {}
        }
        // What a machine has in its memory is its owner's alone. What takes the name's place meanwhile is not followed, nor
        // waited for.
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(O_NOFOLLOW | O_NONBLOCK);
        let file = options.open(path).map_err(failed("opened"))?;
        let there = file.metadata().map_err(failed("asked for its owner"))?;
        if !there.is_file() {
            return Err(RamError::NoFile(path.to_owned()));
        }
        if there.uid() != geteuid().as_raw() {
            return Err(RamError::Owner(path.to_owned(), there.uid()));
        }
        if there.mode() & 0o002 != 0 {
            return Err(RamError::Writable(path.to_owned(), there.mode() & 0o777));
        }
        // Another bridge may be about to give it its size, too; but holds it for a moment only.
        let begun = Instant::now();
        while let Err(error) = file.try_lock() {
            match error {
                TryLockError::Error(error) => return Err(failed("locked")(error)),
                TryLockError::WouldBlock if begun.elapsed() > LOCK => return Err(RamError::Locked(path.to_owned())),
                TryLockError::WouldBlock => thread::sleep(Duration::from_millis(10)),
            }
        }
        match file.metadata().map_err(failed("asked for its size"))?.len() {
            0 => file.set_len(file_bytes).map_err(failed("made"))?,
            found if found != file_bytes => {
                return Err(RamError::WrongSize { path: path.to_owned(), found, expected: file_bytes });
            }
            _ => {}
        }
        // A file that has it is another bridge's, too: that one takes no writing of ours for its consumer's.
        if !has_mark(&file, file_bytes) {
            file.write_all_at(&MARK, mark_at(file_bytes)).map_err(failed("marked"))?;
        }
        file.unlock().map_err(failed("unlocked"))?;
        let map = Guarded::new(&file).map_err(failed("mapped"))?;
        let identity = Identity::of(&file).map_err(failed("identified"))?;
        Ok(Self { path: path.to_owned(), file, identity, ram_bytes, file_bytes, map })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The open file, to be handed on.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Which file it is.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Bytes of the consumer's RAM, at the start of the file.
    #[must_use]
    pub fn ram_bytes(&self) -> u64 {
        self.ram_bytes
    }

    /// Bytes of the file: the size of BAR2.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// Whether the file is as long as it was made, and has the mark of one that always was. One that is not cannot be
    /// given to an appliance's QEMU, which would die by its first access past the end.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        let has_length = self.file.metadata().is_ok_and(|there| there.len() == self.file_bytes);
        !self.map.is_lost() && has_length && has_mark(&self.file, self.file_bytes)
    }

    /// A word that others may change at any time, if it is in the file and aligned.
    fn word(&self, at: MemoryOffset) -> Result<&AtomicU16, OutsideMemory> {
        const BYTES: u64 = size_of::<u16>() as u64;
        let place = self.pointer(at, BYTES)?;
        if !at.0.is_multiple_of(BYTES) {
            return Err(OutsideMemory { at, bytes: BYTES });
        }
        // SAFETY: it is in the mapping, which lives as long as `self` and starts at a page, and aligned; all
        // references to the memory are atomic ones.
        Ok(unsafe { AtomicU16::from_ptr(place.as_ptr().cast()) })
    }
}

// SAFETY:
// 1. A place that `pointer` returns is in the mapping, which lives as long as `self`. No reference to that memory
//    exists, here or in the processes that share it: here it is only accessed below, by atomic accesses.
// 2. Its length never changes; where the file's does, there are private zeroes in its place (`guard`).
// 3. The copies go by single bytes, and any bytes are good.
unsafe impl SharedMemory for RamFile {
    fn len_bytes(&self) -> u64 {
        self.file_bytes
    }

    fn read(&self, at: MemoryOffset, into: &mut [u8]) -> Result<(), OutsideMemory> {
        let place = self.pointer(at, into.len() as u64)?;
        for (index, byte) in into.iter_mut().enumerate() {
            // SAFETY: the byte is in the place, and the mapping holds no object: see the implementation.
            *byte = unsafe { AtomicU8::from_ptr(place.as_ptr().add(index)) }.load(Ordering::Relaxed);
        }
        Ok(())
    }

    fn write(&self, at: MemoryOffset, from: &[u8]) -> Result<(), OutsideMemory> {
        let place = self.pointer(at, from.len() as u64)?;
        for (index, byte) in from.iter().enumerate() {
            // SAFETY: as for the read above.
            unsafe { AtomicU8::from_ptr(place.as_ptr().add(index)) }.store(*byte, Ordering::Relaxed);
        }
        Ok(())
    }

    fn load_u16(&self, at: MemoryOffset) -> Result<u16, OutsideMemory> {
        let word = self.word(at)?;
        Ok(u16::from_le(word.load(Ordering::Acquire)))
    }

    fn store_u16(&self, at: MemoryOffset, value: u16) -> Result<(), OutsideMemory> {
        self.word(at)?.store(value.to_le(), Ordering::Release);
        Ok(())
    }

    fn pointer(&self, at: MemoryOffset, bytes: u64) -> Result<NonNull<u8>, OutsideMemory> {
        check(self.file_bytes, at, bytes)?;
        let outside = OutsideMemory { at, bytes };
        let offset = usize::try_from(at.0).map_err(|_| outside)?;
        NonNull::new(self.map.start().wrapping_add(offset)).ok_or(outside)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where it is surprised")]

    use std::fs::Permissions;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use service::memory::{MemoryOffset, SharedMemory};

    use super::{RamError, RamFile};

    /// A folder that is gone when the test is.
    struct Folder(std::path::PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("untorn-ram-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&folder).unwrap();
            Self(folder)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_file_that_somebody_else_may_have_chosen_or_may_write_is_not_taken() {
        let folder = Folder::new("others");
        let path = |name: &str| folder.0.join(name);
        let open = |name: &str| RamFile::open(&path(name), 1 << 20).map(drop);
        let chmod = |name: &str, mode| std::fs::set_permissions(path(name), Permissions::from_mode(mode)).unwrap();
        std::fs::write(path("victim"), "").unwrap();
        symlink(path("victim"), path("link")).unwrap();
        symlink(path("nothing"), path("dangling")).unwrap();
        assert!(matches!(open("link"), Err(RamError::Link(_))));
        assert!(matches!(open("dangling"), Err(RamError::Link(_))));
        assert!(!path("nothing").exists() && path("victim").metadata().unwrap().len() == 0);
        nix::unistd::mkfifo(&path("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(matches!(open("fifo"), Err(RamError::NoFile(_))));
        chmod("victim", 0o666);
        assert!(matches!(open("victim"), Err(RamError::Writable(_, 0o666))));
        assert_eq!(path("victim").metadata().unwrap().len(), 0, "left as it is");
        // A group is the owner's choice.
        chmod("victim", 0o660);
        open("victim").unwrap();
        assert_eq!(path("victim").metadata().unwrap().mode() & 0o777, 0o660);
        open("fresh").unwrap();
        assert_eq!(path("fresh").metadata().unwrap().mode() & 0o777, 0o600);
        // Only root can give a file away.
        if nix::unistd::geteuid().is_root() {
            std::os::unix::fs::chown(path("fresh"), Some(65534), None).unwrap();
            assert!(matches!(open("fresh"), Err(RamError::Owner(_, 65534))));
        }
        let holder = std::fs::File::open(path("victim")).unwrap();
        holder.lock().unwrap();
        assert!(matches!(open("victim"), Err(RamError::Locked(_))), "nobody keeps us waiting");
    }

    #[test]
    fn a_file_that_is_cut_short_reads_zeroes_and_ends_nobody() {
        let folder = Folder::new("cut");
        let [cut, other] = ["cut", "other"].map(|name| RamFile::open(&folder.0.join(name), 3 << 20).unwrap());
        let at = MemoryOffset(8192);
        cut.store_u16(at, 7).unwrap();
        other.store_u16(at, 9).unwrap();
        cut.file().set_len(4096).unwrap();
        assert!(!cut.is_whole() && other.is_whole());
        assert_eq!(cut.load_u16(at), Ok(0));
        cut.write(MemoryOffset(0), &[1; 8192]).unwrap();
        // To make it whole again brings nothing back.
        cut.file().set_len(cut.file_bytes()).unwrap();
        assert!(!cut.is_whole());
        assert_eq!(other.load_u16(at), Ok(9));
        // Its place is free for another.
        drop(cut);
        let again = RamFile::open(&folder.0.join("cut"), 3 << 20).unwrap();
        assert!(again.is_whole() && again.load_u16(at) == Ok(0));
    }

    #[test]
    fn the_file_is_the_next_power_of_two_with_room_for_a_tail() {
        let folder = Folder::new("size");
        let folder = &folder.0;
        for (name, ram, file) in [("a", 3 << 20, 4 << 20), ("b", 4 << 20, 8 << 20), ("c", 1 << 20, 2 << 20)] {
            let made = RamFile::open(&folder.join(name), ram).unwrap();
            assert_eq!((made.ram_bytes(), made.file_bytes()), (ram, file));
            assert_eq!(folder.join(name).metadata().unwrap().len(), file);
        }
        let path = folder.join("a");
        let one = RamFile::open(&path, 3 << 20).unwrap();
        let other = RamFile::open(&path, 3 << 20).unwrap();
        one.store_u16(MemoryOffset(4), 77).unwrap();
        assert_eq!(other.load_u16(MemoryOffset(4)), Ok(77), "two bridges may serve one consumer");
        let mut bytes = [0; 3];
        other.read(MemoryOffset(3), &mut bytes).unwrap();
        assert_eq!(bytes, [0, 77, 0]);
        for (at, bytes) in [((4 << 20) - 2, 3), (4 << 20, 1), (u64::MAX, 1), (u64::MAX - 1, 2)] {
            assert!(one.write(MemoryOffset(at), &vec![1; bytes]).is_err(), "{at}");
        }
        assert!(one.load_u16(MemoryOffset(3)).is_err() && one.load_u16(MemoryOffset((4 << 20) - 1)).is_err());
        assert!(matches!(RamFile::open(&path, 4 << 20), Err(RamError::WrongSize { found: 0x40_0000, .. })));
        assert!(matches!(RamFile::open(folder, 4 << 20), Err(RamError::NoFile(_))));
        assert!(matches!(RamFile::open(&path, 4095), Err(RamError::Size(4095))));
        assert_eq!(path.metadata().unwrap().len(), 4 << 20, "a file of another size is left as it is");
    }
}
