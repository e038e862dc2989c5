//! NVDIMM files for one test, sparse, removed when they are dropped.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use sha2::{Digest, Sha256};

use crate::workspace;

/// 1 MiB.
pub const MIB: u64 = 1 << 20;
/// 1 GiB.
pub const GIB: u64 = 1 << 30;
/// The label area that the labelled images have.
pub const LABEL_BYTES: u64 = 128 << 10;

/// An NVDIMM's backing file.
#[derive(Debug)]
pub struct Dimm {
    path: PathBuf,
    /// The size of the label area at its end; 0 for none.
    pub label_bytes: u64,
    /// Whether QEMU calls it unarmed.
    pub unarmed: bool,
    /// What the machine sees of it.
    pub kind: Kind,
}

/// How a machine sees a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// As an NVDIMM.
    Nvdimm,
    /// As a virtio-pmem device.
    VirtioPmem,
    /// As a CXL device, whose labels are in a file of their own.
    Cxl,
}

impl Dimm {
    /// A blank one of so many bytes, without labels.
    ///
    /// # Panics
    /// When the file cannot be made.
    #[must_use]
    pub fn blank(bytes: u64) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("{}-{}.dimm", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = workspace::folder("test-dimms").join(name);
        let dimm = Self { path, label_bytes: 0, unarmed: false, kind: Kind::Nvdimm };
        let file = File::create(&dimm.path).expect("an NVDIMM file is made");
        file.set_len(bytes).expect("an NVDIMM file gets its size");
        dimm
    }

    /// The same file, on a DIMM that QEMU calls unarmed.
    #[must_use]
    pub fn unarmed(mut self) -> Self {
        self.unarmed = true;
        self
    }

    /// The same file, with a label area at its end.
    #[must_use]
    pub fn with_labels(mut self) -> Self {
        self.label_bytes = LABEL_BYTES;
        self
    }

    /// The same file, seen in another way.
    #[must_use]
    pub fn seen_as(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    /// The label storage of a CXL device.
    #[must_use]
    pub fn cxl_labels(&self) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push(".lsa");
        path.into()
    }

    /// The option of `run-qemu.sh` for it.
    #[must_use]
    pub fn option(&self) -> [String; 2] {
        let mut words = self.path.display().to_string();
        match self.kind {
            Kind::Nvdimm => {}
            Kind::VirtioPmem => return ["--virtio-pmem".into(), words],
            Kind::Cxl => return ["--cxl".into(), words],
        }
        if self.label_bytes > 0 {
            words += &format!(",label={}", self.label_bytes);
        }
        if self.unarmed {
            words += ",unarmed";
        }
        ["--nvdimm".into(), words]
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file, to be read and written.
    ///
    /// # Panics
    /// When it cannot be opened.
    #[must_use]
    pub fn file(&self) -> File {
        OpenOptions::new().read(true).write(true).open(&self.path).expect("an NVDIMM file is opened")
    }

    /// Writes bytes into it.
    ///
    /// # Panics
    /// When that fails.
    pub fn put(&self, at: u64, bytes: &[u8]) {
        self.file().write_all_at(bytes, at).expect("an NVDIMM file is written");
    }

    /// Bytes of it.
    ///
    /// # Panics
    /// When it has not so many.
    #[must_use]
    pub fn bytes(&self, at: u64, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.file().read_exact_at(&mut bytes, at).expect("an NVDIMM file is read");
        bytes
    }

    /// The SHA-256 of all of it. For DIMMs of a size to be read.
    ///
    /// # Panics
    /// When it cannot be read.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(fs::read(&self.path).expect("an NVDIMM file is read")).into()
    }
}

impl Drop for Dimm {
    fn drop(&mut self) {
        // Someone else cleaned up: as good.
        let _ = fs::remove_file(&self.path);
        if self.kind == Kind::Cxl {
            let _ = fs::remove_file(self.cxl_labels());
        }
    }
}
