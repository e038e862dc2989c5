//! Persistent memory that is a file, an NVDIMM, a virtio-pmem device or a CXL device: its option, the state of its
//! path, its making and claim, and QEMU's options for it.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, FcntlArg, FdFlag, fallocate, fcntl};
use nix::libc::{O_EXCL, O_NONBLOCK};

use crate::backing::Backing;
use crate::deadline::Deadline;
use crate::quantity;

/// QEMU maps multiples of this.
const PAGE_BYTES: u64 = 4096;

/// The unit of files behind virtio-pmem. Cloud Hypervisor takes no other; Firecracker and crosvm round up to it, with memory
/// that is in no file and gone at power-off.
const VIRTIO_PMEM_UNIT_BYTES: u64 = 2 << 20;

/// The unit of a CXL device's memory.
const CXL_UNIT_BYTES: u64 = 256 << 20;

/// The least label area that QEMU takes in an NVDIMM, and that of a CXL device of which nothing else is said.
pub(super) const LABEL_BYTES_MIN: u64 = 128 << 10;

/// The largest label area that the appliance reads (`nvdimm::label`).
const LABEL_BYTES_MAX: u64 = 16 << 20;

/// Whether a label area of so many bytes serves.
pub(super) fn is_label_size(bytes: u64) -> bool {
    (LABEL_BYTES_MIN..=LABEL_BYTES_MAX).contains(&bytes)
}

/// How long a run that has just ended may stand in the way of the next one.
const GRACE: Duration = Duration::from_secs(5);

/// How the machine gets to see a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// As an NVDIMM, by ACPI's NFIT.
    #[default]
    Nvdimm,
    /// As a virtio-pmem device, on PCI.
    VirtioPmem,
    /// As the memory of a CXL device.
    Cxl,
    /// As the label storage of a CXL device.
    CxlLabels,
}

impl Kind {
    /// The option that gives one.
    const fn option(self) -> &'static str {
        match self {
            Self::Nvdimm => "--nvdimm",
            Self::VirtioPmem => "--virtio-pmem",
            Self::Cxl | Self::CxlLabels => "--cxl",
        }
    }

    /// What the length of its file is a multiple of.
    const fn unit_bytes(self) -> u64 {
        match self {
            Self::Nvdimm | Self::CxlLabels => PAGE_BYTES,
            Self::VirtioPmem => VIRTIO_PMEM_UNIT_BYTES,
            Self::Cxl => CXL_UNIT_BYTES,
        }
    }

    /// The words that its option has behind the file.
    const fn words(self) -> &'static str {
        match self {
            Self::Nvdimm => "none of size=S, label=S, unarmed and reserve",
            Self::VirtioPmem => "neither size=S nor reserve",
            Self::Cxl | Self::CxlLabels => "none of size=S, label=S and reserve",
        }
    }

    /// What a file of it is called that was made.
    const fn made(self) -> &'static str {
        match self {
            Self::Nvdimm => "NVDIMM",
            Self::VirtioPmem => "file for virtio-pmem",
            Self::Cxl => "file for a CXL device",
            Self::CxlLabels => "label storage for a CXL device",
        }
    }
}

/// `FILE[,size=S][,label=S][,unarmed][,reserve]`; a virtio-pmem device has no label area; that and a CXL device are always
/// armed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DimmWords {
    /// What it is to be.
    pub kind: Kind,
    /// The file.
    pub file: String,
    /// Its size in bytes, if it is said.
    pub size: Option<u64>,
    /// The size of the label area in bytes, if it is said: of an NVDIMM at the file's end, of a CXL device in a file of its
    /// own.
    pub label: Option<u64>,
    /// The machine may not write to it.
    pub unarmed: bool,
    /// The file is to have all of its place on the disk.
    pub reserve: bool,
}

impl DimmWords {
    /// Reads the words.
    ///
    /// # Errors
    /// The fault of the options, for people.
    pub fn parse(text: &str) -> Result<Self, String> {
        Self::parse_as(Kind::Nvdimm, text)
    }

    /// Reads the words of a virtio-pmem device.
    ///
    /// # Errors
    /// As [`DimmWords::parse`].
    pub fn parse_virtio_pmem(text: &str) -> Result<Self, String> {
        Self::parse_as(Kind::VirtioPmem, text)
    }

    /// Reads the words of a CXL device.
    ///
    /// # Errors
    /// As [`DimmWords::parse`].
    pub fn parse_cxl(text: &str) -> Result<Self, String> {
        Self::parse_as(Kind::Cxl, text)
    }

    fn parse_as(kind: Kind, text: &str) -> Result<Self, String> {
        let mut fields = text.split(',');
        let file = fields.next().filter(|file| !file.is_empty()).ok_or("it names no file")?;
        let mut words = Self { kind, file: file.into(), ..Self::default() };
        let bytes = |what, text| quantity::bytes(text).map_err(|why| format!("{what}: {why}"));
        for field in fields {
            match field.split_once('=') {
                Some(("size", text)) => words.size = Some(bytes("size", text)?),
                Some(("label", text)) if kind != Kind::VirtioPmem => words.label = Some(bytes("label", text)?),
                None if field == "unarmed" && kind == Kind::Nvdimm => words.unarmed = true,
                None if field == "reserve" => words.reserve = true,
                _ => return Err(format!("'{field}' is {}", kind.words())),
            }
        }
        Ok(words)
    }
}

/// A file as memory, whose option fits the state of its path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dimm {
    /// What it is.
    pub kind: Kind,
    /// Its file, as the words have it.
    pub path: PathBuf,
    /// The file's size, label area included.
    pub bytes: u64,
    label_bytes: Option<u64>,
    unarmed: bool,
    reserve: bool,
}

/// The state of the path where a DIMM's file is to be.
enum There {
    /// Nothing, or an empty file: one of any size can be made of it.
    Nothing,
    /// A file or a block device, and its length in bytes.
    Bytes(u64),
}

impl There {
    /// Only what keeps bytes at their places can be a DIMM. QEMU would take a folder, too, and put a file into it that
    /// has no name and vanishes with the machine.
    fn of(metadata: &Metadata, path: &Path) -> Result<Self, String> {
        let kind = metadata.file_type();
        let what = match () {
            () if kind.is_file() && metadata.len() == 0 => return Ok(Self::Nothing),
            () if kind.is_file() => return Ok(Self::Bytes(metadata.len())),
            () if kind.is_block_device() => {
                let end = File::open(path).and_then(|mut device| device.seek(SeekFrom::End(0)));
                return end.map(Self::Bytes).map_err(|error| error.to_string());
            }
            () if kind.is_dir() => "a folder",
            () if kind.is_fifo() => "a pipe",
            () if kind.is_socket() => "a socket",
            () if kind.is_char_device() => "a character device",
            () => "of an unknown kind",
        };
        Err(format!("it is {what}: an NVDIMM is a regular file or a block device"))
    }
}

impl Dimm {
    /// Compares an option with the state of its path, and changes nothing.
    ///
    /// # Errors
    /// The conflict, for people.
    pub fn look(words: &DimmWords) -> Result<Self, String> {
        let path = PathBuf::from(&words.file);
        let fail = |why: String| Err(format!("{} {}: {why}", words.kind.option(), words.file));
        let there = match path.metadata() {
            Ok(metadata) => There::of(&metadata, &path),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(There::Nothing),
            Err(error) => Err(error.to_string()),
        };
        let bytes = match (there, words.size) {
            (Err(why), _) => return fail(why),
            (Ok(There::Bytes(there)), Some(size)) if size != there => {
                return fail(format!("the file has {there} bytes, not size={size}, and is left as it is"));
            }
            (Ok(There::Bytes(bytes)), _) | (Ok(There::Nothing), Some(bytes)) => bytes,
            (Ok(There::Nothing), None) => return fail("there is no such file; with size=S it is made".into()),
        };
        let unit = words.kind.unit_bytes();
        if bytes < unit {
            return fail(format!("a size of {bytes} is too small: at least {unit} bytes"));
        }
        if !bytes.is_multiple_of(unit) {
            return fail(format!("{bytes} bytes are not a multiple of {unit}"));
        }
        if let Some(label) = words.label.filter(|_| words.kind == Kind::Nvdimm)
            && (!is_label_size(label) || label >= bytes || !label.is_multiple_of(PAGE_BYTES))
        {
            return fail(format!(
                "a label area of {label} bytes: it takes 128K to 16M, a multiple of {PAGE_BYTES}, less than the file"
            ));
        }
        let DimmWords { kind, label, unarmed, reserve, .. } = *words;
        Ok(Self { kind, path, bytes, label_bytes: label, unarmed, reserve })
    }

    /// Makes the file if it is absent, and claims it for one run at a time: the lock goes on to the program that the
    /// run starts, and ends with the last of both. `say` gets what is worth telling.
    ///
    /// # Errors
    /// Why it cannot be this run's.
    pub fn claim(&self, say: impl Fn(&str)) -> Result<File, String> {
        self.claimed(say).map_err(|why| format!("{} {}: {why}", self.kind.option(), self.path.display()))
    }

    fn claimed(&self, say: impl Fn(&str)) -> Result<File, String> {
        let absent = !self.path.exists();
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(absent);
        // Another kind of file may have come in the meantime: no pipe may stop us here. A device that a person has
        // mounted, or another run uses, is not to be had.
        let device = self.path.metadata().is_ok_and(|there| there.file_type().is_block_device());
        options.custom_flags(if device { O_NONBLOCK | O_EXCL } else { O_NONBLOCK });
        let file = options.open(&self.path).map_err(|error| why_not_open(&error, absent))?;
        let end = Deadline::after(GRACE);
        while let Err(error) = file.try_lock() {
            match error {
                std::fs::TryLockError::WouldBlock if !end.passed() => sleep(Duration::from_millis(50)),
                std::fs::TryLockError::WouldBlock => return Err("in use by another run, or given twice".into()),
                std::fs::TryLockError::Error(error) => return Err(format!("it could not be locked: {error}")),
            }
        }
        let metadata = file.metadata().map_err(|error| error.to_string())?;
        let made = match There::of(&metadata, &self.path)? {
            There::Nothing => true,
            There::Bytes(bytes) if bytes == self.bytes => false,
            There::Bytes(bytes) => return Err(format!("it has {bytes} bytes by now, and is left as it is")),
        };
        let outcome = if made { file.set_len(self.bytes) } else { Ok(()) };
        let outcome = outcome
            .map_err(|error| format!("it could not be made: {error}"))
            .and_then(|()| if self.reserve && metadata.is_file() { self.reserve(&file) } else { Ok(()) });
        if let Err(why) = outcome {
            if made {
                // It was absent or empty, and so it is again, and takes no place.
                let _ = if absent { std::fs::remove_file(&self.path) } else { file.set_len(0) };
            }
            return Err(why);
        }
        if made {
            say(&format!("made {}, a blank {} of {} bytes", self.path.display(), self.kind.made(), self.bytes));
        }
        if let Some(warning) = self.backing().warning() {
            let option = self.kind.option();
            say(&format!("{warning} ({option} FILE,reserve takes the place now, or says that there is not enough)"));
        }
        let inherited = FcntlArg::F_SETFD(FdFlag::empty());
        fcntl(&file, inherited).map_err(|error| format!("its lock cannot be handed on: {error}"))?;
        Ok(file)
    }

    /// Gives the file all of its place on the disk; its bytes stay what they are.
    fn reserve(&self, file: &File) -> Result<(), String> {
        let bytes = i64::try_from(self.bytes).map_err(|error| error.to_string())?;
        loop {
            return match fallocate(file.as_fd(), FallocateFlags::empty(), 0, bytes) {
                Ok(()) => Ok(()),
                Err(Errno::EINTR) => continue,
                Err(Errno::ENOSPC) => Err(format!("reserve: its file system has not {} bytes for it", self.bytes)),
                Err(Errno::EOPNOTSUPP) => Err("reserve: its file system cannot do that".into()),
                Err(error) => Err(format!("reserve: {}", io::Error::from(error))),
            };
        }
    }

    /// The file as memory of the machine.
    #[must_use]
    pub fn backing(&self) -> Backing {
        Backing { path: self.path.clone(), bytes: self.bytes }
    }

    /// The file as an object of QEMU's.
    pub(super) fn object(&self, id: &str) -> [String; 2] {
        let (path, bytes) = (self.path.display(), self.bytes);
        ["-object".into(), format!("memory-backend-file,id={id},share=on,mem-path={path},size={bytes}")]
    }

    /// What QEMU is told about it, as the one of this number of its kind. `address` is where it goes on PCI, if it does.
    ///
    /// # Panics
    /// For a part of a CXL device ([`super::cxl::Cxl::arguments`]).
    #[must_use]
    pub fn arguments(&self, number: usize, address: &str) -> [String; 4] {
        let (id, device) = match self.kind {
            Kind::Nvdimm => {
                let label = self.label_bytes.map(|bytes| format!(",label-size={bytes}")).unwrap_or_default();
                let unarmed = if self.unarmed { ",unarmed=on" } else { "" };
                let id = format!("nvdimm{number}");
                let device = format!("nvdimm,id={id},memdev={id}-file{label}{unarmed}");
                (id, device)
            }
            Kind::VirtioPmem => {
                let id = format!("pmem{number}");
                let device = format!("virtio-pmem-pci,id={id},memdev={id}-file,addr={address}");
                (id, device)
            }
            Kind::Cxl | Kind::CxlLabels => unreachable!("a CXL device is one of two files"),
        };
        let [option, file] = self.object(&format!("{id}-file"));
        [option, file, "-device".into(), device]
    }
}

/// Why a file could not be opened to be read and written, or made.
fn why_not_open(error: &io::Error, absent: bool) -> String {
    match Errno::from_raw(error.raw_os_error().unwrap_or(0)) {
        Errno::EBUSY => "the device is in use".into(),
        Errno::EACCES | Errno::EPERM => "this user may not read and write it".into(),
        Errno::EROFS => "its file system, or the device, is read-only".into(),
        _ => format!("it could not be {}: {error}", if absent { "made" } else { "opened" }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where it is surprised")]

    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};
    use std::os::unix::net::UnixListener;
    use std::path::PathBuf;

    use nix::errno::Errno;
    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::{Dimm, DimmWords, why_not_open};
    use crate::qemu::cxl::Cxl;

    /// A folder that is gone when the test is.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("untorn-dimm-{name}-{}", std::process::id()));
            fs::create_dir_all(&folder).unwrap();
            Self(folder)
        }

        fn words(&self, words: &str) -> String {
            self.0.join(words).display().to_string()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn look(words: &str) -> Result<Dimm, String> {
        Dimm::look(&DimmWords::parse(words)?)
    }

    #[test]
    fn only_what_keeps_bytes_at_their_places_is_an_nvdimm() {
        let folder = Folder::new("kinds");
        let path = |name: &str| folder.0.join(name);
        fs::create_dir(path("folder")).unwrap();
        mkfifo(&path("pipe"), Mode::S_IRWXU).unwrap();
        let _socket = UnixListener::bind(path("socket")).unwrap();
        symlink("folder", path("to-folder")).unwrap();
        symlink("pipe", path("to-pipe")).unwrap();
        symlink("loop", path("loop")).unwrap();
        fs::write(path("file"), [7; 8192]).unwrap();
        for (name, why) in [
            ("folder", "it is a folder"),
            ("folder/", "it is a folder"),
            ("to-folder", "it is a folder"),
            ("pipe", "it is a pipe"),
            ("to-pipe", "it is a pipe"),
            ("socket", "it is a socket"),
            ("loop", "symbolic links"),
            ("file/below", "Not a directory"),
            ("/dev/null", "it is a character device"),
            ("/dev/zero", "it is a character device"),
        ] {
            for words in ["", ",size=1M"] {
                let refused = look(&folder.words(&format!("{name}{words}"))).unwrap_err();
                assert!(refused.contains(why), "{name}{words}: {refused}");
            }
        }
        // A link to a file stands for the file; a link to nothing names the place of a file to be made.
        symlink("file", path("to-file")).unwrap();
        symlink("new", path("to-new")).unwrap();
        assert_eq!(look(&folder.words("to-file")).unwrap().bytes, 8192);
        look(&folder.words("to-new,size=4096")).unwrap().claim(|_| {}).unwrap();
        assert_eq!(fs::metadata(path("new")).unwrap().len(), 4096);
        assert!(look(&folder.words("file,size=4096")).unwrap_err().contains("left as it is"));
        // Between the look and the claim it turned into something else.
        let dimm = look(&folder.words("late,size=1M")).unwrap();
        mkfifo(&path("late"), Mode::S_IRWXU).unwrap();
        assert!(dimm.claim(|_| {}).unwrap_err().contains("it is a pipe"));
        assert_eq!(fs::read(path("file")).unwrap(), [7; 8192]);
    }

    #[test]
    fn a_file_is_made_sparse_or_with_all_of_its_place_and_claimed_once() {
        let folder = Folder::new("made");
        let told = std::cell::RefCell::new(String::new());
        let say = |words: &str| *told.borrow_mut() += words;
        let sparse = look(&folder.words("sparse,size=8M")).unwrap();
        let claimed = sparse.claim(say).unwrap();
        let there = fs::metadata(&sparse.path).unwrap();
        assert_eq!((there.len(), there.blocks()), (8 << 20, 0));
        assert!(told.borrow().ends_with("a blank NVDIMM of 8388608 bytes"), "{}", told.borrow());
        assert!(sparse.claim(say).unwrap_err().contains("in use by another run"));
        drop(claimed);

        fs::write(&sparse.path, vec![9; 8 << 20]).unwrap();
        let file = fs::OpenOptions::new().write(true).open(&sparse.path).unwrap();
        file.set_len(4 << 20).and_then(|()| file.set_len(8 << 20)).unwrap();
        let whole = look(&folder.words("sparse,reserve")).unwrap();
        let _claimed = whole.claim(say).unwrap();
        let (there, bytes) = (fs::metadata(&whole.path).unwrap(), fs::read(&whole.path).unwrap());
        assert!(there.blocks() * 512 >= 8 << 20, "{} blocks", there.blocks());
        assert!(bytes[..4 << 20] == vec![9; 4 << 20] && bytes[4 << 20..] == vec![0; 4 << 20], "its bytes stay");

        // More than any disk has: nothing is left of it; nor is a file that was there changed.
        told.borrow_mut().clear();
        let huge = look(&folder.words("huge,size=1024T,reserve")).unwrap();
        let refused = huge.claim(say).unwrap_err();
        assert!(refused.contains("huge: ") && !huge.path.exists(), "{refused}");
        // Without it there is a warning, if the file system takes such a length at all.
        let wide = look(&folder.words("wide,size=8T")).unwrap();
        let _claimed = wide.claim(say).unwrap();
        assert!(told.borrow().contains("wide can come to take 8796093022208 bytes more"), "{}", told.borrow());
    }

    #[test]
    fn words_that_fit_nothing_are_refused() {
        for (words, why) in [
            ("", "names no file"),
            (",size=1M", "names no file"),
            ("x.img,size=9999999T", "9999999T"),
            ("x.img,lable=128K", "lable=128K"),
            ("x.img,unarmed=on", "unarmed=on"),
            ("/nowhere/x.img", "with size=S it is made"),
            ("x.img,size=0", "a size of 0 is too small: at least 4096 bytes"),
            ("x.img,size=1", "a size of 1 is too small: at least 4096 bytes"),
            ("x.img,size=5000", "5000 bytes are not a multiple of 4096"),
            ("x.img,size=1M,label=4K", "128K"),
            ("x.img,size=128K,label=128K", "label area"),
            ("x.img,size=1M,label=131073", "label area"),
            ("x.img,size=64M,label=16388K", "it takes 128K to 16M"),
        ] {
            let refused = look(words).unwrap_err();
            assert!(refused.contains(why), "{words}: {refused}");
        }
        for (words, why) in [
            (",size=2M", "names no file"),
            ("x.img,size=2M,label=128K", "label=128K"),
            ("x.img,size=2M,unarmed", "unarmed"),
            ("x.img,size=3M", "--virtio-pmem x.img: 3145728 bytes are not a multiple of 2097152"),
            ("x.img,size=0", "a size of 0 is too small: at least 2097152 bytes"),
        ] {
            let refused = DimmWords::parse_virtio_pmem(words).and_then(|words| Dimm::look(&words)).unwrap_err();
            assert!(refused.contains(why), "{words}: {refused}");
        }
        for (words, why) in [
            ("x.img", "with size=S it is made"),
            ("x.img,size=256M,unarmed", "'unarmed' is none of size=S, label=S and reserve"),
            ("x.img,size=128M", "--cxl x.img: a size of 134217728 is too small: at least 268435456 bytes"),
            ("x.img,size=256M,label=64K", "--cxl x.img: label storage of 65536 bytes: it takes 128K to 16M"),
            ("x.img,size=256M,label=16388K", "--cxl x.img: label storage of 16781312 bytes: it takes 128K to 16M"),
            ("x.img,size=256M,label=131073", "--cxl x.img.lsa: 131073 bytes are not a multiple of 4096"),
        ] {
            let refused = DimmWords::parse_cxl(words).and_then(|words| Cxl::look(&words)).unwrap_err();
            assert!(refused.contains(why), "{words}: {refused}");
        }
    }
    #[test]
    fn what_is_read_only_is_not_taken_for_another_users() {
        for (errno, why) in [
            (Errno::EROFS, "its file system, or the device, is read-only"),
            (Errno::EACCES, "this user may not"),
            (Errno::EBUSY, "in use"),
            (Errno::EIO, "could not be opened"),
        ] {
            let told = why_not_open(&errno.into(), false);
            assert!(told.contains(why), "{told}");
        }
    }
}
