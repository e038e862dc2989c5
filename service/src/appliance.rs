//! The seam between the admin side and the machine: [`Appliance`], which the kernel implements.
//!
//! The admin side has done what needs no machine before it calls: the line is parsed, numbers are in range of their
//! types, options that this version lacks are refused, sectors are checked against [`Device`], sizes against the
//! contract's limits. What is left is one method a command. None of them may panic on any argument.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::admin::command::{BenchRequest, CheckNamespace, CreateNamespace, LabelVersion, Lba};
use crate::error::AdminError;
use crate::inventory::{Inventory, Namespace};
use crate::reply::{Arenas, Bench, Check, Errors, LabelArea, Nfit, Stats, Status, Trace};

/// A block device as the admin commands see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Bytes of an external sector, metadata bytes included: 512, 520, 528, 4096, …
    pub sector_size: u32,
    /// How many sectors it has.
    pub sectors: u64,
    /// Why it takes no writes, if so.
    pub read_only: Option<String>,
    /// Whether a consumer uses it: has it, not just may have it.
    pub in_use: bool,
}

/// What the admin commands need of the machine.
///
/// Names (`dev`, `namespace`, `region`, `dimm`) are what the person typed: an unknown one is
/// [`ErrorCode::NotFound`](crate::error::ErrorCode::NotFound) with a message that says what there is, or where to look
/// (`no block device "pmem9s": see list`).
pub trait Appliance {
    /// The machine and what it serves.
    fn status(&mut self) -> Status;

    /// Everything that was found, enabled or not: `list` filters it. Empty where the firmware has no NFIT.
    fn inventory(&mut self) -> Inventory;

    /// The decoded NFITs with what was refused. Empty where there is none.
    fn nfit(&mut self) -> Nfit;

    /// The arenas of the namespace of that name (`namespace0.0`; `btt0.0` and `pmem0s` are welcome too).
    ///
    /// # Errors
    /// Not found; failed, if it is not in sector mode; damaged, if its metadata do not say.
    fn arenas(&mut self, namespace: &str) -> Result<Arenas, AdminError>;

    /// Gives a DIMM label index blocks of that version, and no labels. Durable when it returns.
    ///
    /// # Errors
    /// Not found; failed, where there is no label area, where a namespace on it is in use, or where labels are valid or a
    /// namespace is not blank and `force` is not set; read-only.
    fn init_labels(&mut self, dimm: &str, version: LabelVersion, force: bool) -> Result<LabelArea, AdminError>;

    /// Makes a namespace and enables it. Durable when it returns. Answers what `list` shows of it then.
    ///
    /// # Errors
    /// Not found (the region); failed, where it holds something recognisable and `force` is not set, where there is no
    /// room, or where the size, sector size or name does not fit; read-only; unavailable, for BLK regions.
    fn create_namespace(&mut self, request: &CreateNamespace) -> Result<Namespace, AdminError>;

    /// Takes a namespace's label and its BTT away, so that its space is free; in a region without labels only the BTT.
    /// Durable when it returns. Answers its name.
    ///
    /// # Errors
    /// Not found; failed, if it is enabled and `force` is not set; read-only.
    fn destroy_namespace(&mut self, namespace: &str, force: bool) -> Result<String, AdminError>;

    /// Opens a namespace that was disabled. Answers what `list` shows of it then.
    ///
    /// # Errors
    /// Not found; damaged or failed, where it cannot be opened.
    fn enable_namespace(&mut self, namespace: &str) -> Result<Namespace, AdminError>;

    /// Makes a namespace's writes durable and closes it. Answers its name.
    ///
    /// # Errors
    /// Not found; failed, where its writes could not be made durable: it stays enabled.
    fn disable_namespace(&mut self, namespace: &str) -> Result<String, AdminError>;

    /// Checks a namespace's metadata, all of it; stores nothing unless asked to repair.
    ///
    /// # Errors
    /// Not found; failed, if there is no BTT to check. Damage is a finding, not an error.
    fn check_namespace(&mut self, request: &CheckNamespace) -> Result<Check, AdminError>;

    /// What block device `dev` is.
    ///
    /// # Errors
    /// Not found: there is none, or none that can be read by sectors (an unformatted namespace: say so, and that
    /// create-namespace formats it).
    fn device(&mut self, dev: &str) -> Result<Device, AdminError>;

    /// The name of what somebody made on block device `dev` (`an XFS file system`), if it is recognised.
    ///
    /// # Errors
    /// Not found.
    fn content(&mut self, dev: &str) -> Result<Option<&'static str>, AdminError>;

    /// Reads `into.len() / sector_size` sectors from `lba` on: whole external sectors, metadata bytes last. The caller
    /// keeps to the device: whole sectors, all on it, at most [`crate::admin::READ_BYTES_MAX`].
    ///
    /// # Errors
    /// Failed or damaged, with the first LBA that could not be read.
    fn read(&mut self, dev: &str, lba: Lba, into: &mut [u8]) -> Result<(), AdminError>;

    /// Writes `from.len() / sector_size` sectors from `lba` on; durable when it returns. The caller keeps to the device
    /// as for [`Appliance::read`], and does not write to one that is read-only.
    ///
    /// # Errors
    /// Failed, damaged or read-only, with the first LBA that was not written; those before it may have been.
    fn write(&mut self, dev: &str, lba: Lba, from: &[u8]) -> Result<(), AdminError>;

    /// Makes `count` sectors from `lba` on read as zeroes; durable when it returns. The caller keeps to the device, as
    /// for [`Appliance::write`], here and in the next two.
    ///
    /// # Errors
    /// As [`Appliance::write`].
    fn trim(&mut self, dev: &str, lba: Lba, count: u64) -> Result<(), AdminError>;

    /// Makes sectors fail to read, until they are written: by the map, durable when it returns, or if `media` by letting
    /// the medium fail where they lie now, until the power goes.
    ///
    /// # Errors
    /// As [`Appliance::write`].
    fn inject_error(&mut self, dev: &str, lba: Lba, count: u64, media: bool) -> Result<(), AdminError>;

    /// Clears the errors of sectors: those that had one read as zeroes then. Durable when it returns.
    ///
    /// # Errors
    /// As [`Appliance::write`].
    fn clear_errors(&mut self, dev: &str, lba: Lba, count: u64) -> Result<(), AdminError>;

    /// What is known to be lost, of all devices or of one.
    ///
    /// # Errors
    /// Not found; damaged, if a map could not be read.
    fn errors(&mut self, dev: Option<&str>) -> Result<Errors, AdminError>;

    /// Loads the device on all CPUs for `request.seconds`, with sectors of [`crate::pattern`], then verifies if asked
    /// to. Returns when all of it is done.
    ///
    /// # Errors
    /// Not found; read-only; failed, if it could not start. Errors of single runs are counted.
    fn bench(&mut self, request: &BenchRequest) -> Result<Bench, AdminError>;

    /// The counters.
    fn stats(&mut self) -> Stats;

    /// Offers a block device to consumers. One that is offered stays so.
    ///
    /// # Errors
    /// Not found; failed, where there is no way to consumers, or where its sectors fit no virtio disk.
    fn export(&mut self, dev: &str) -> Result<(), AdminError>;

    /// Withdraws it: consumers' requests fail from now on.
    ///
    /// # Errors
    /// Not found: the device, or nobody exported it.
    fn unexport(&mut self, dev: &str) -> Result<(), AdminError>;

    /// What happened lately.
    fn trace(&mut self) -> Trace;

    /// Leaves the media as a clean shutdown should, so that nothing that was written waits for recovery: before the machine
    /// stops or starts anew, and now and then in between.
    ///
    /// # Errors
    /// Failed: what could not be made durable. The machine goes on.
    fn quiesce(&mut self) -> Result<(), AdminError>;

    /// Names of devices, for completion.
    fn names(&mut self) -> Vec<String> {
        self.inventory().names()
    }
}

/// The error for a name that names no block device.
#[must_use]
pub fn no_such_device(dev: &str) -> AdminError {
    AdminError::not_found(format!("no block device \"{dev}\": list shows what there is"))
}
