//! The admin commands about sectors: a block device for one command, and what is known to be lost.

mod bench;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::ControlFlow;

use btt::{BttError, CpuIndex, ExternalLba};
use drivers::medium::AnyMedium;
use drivers::raw::RawMedium as _;
use service::admin::commands::sectors::bench::{Bench, BenchRequest};
use service::admin::commands::sectors::errors::{Errors, MediaErrors, SectorErrors};
use service::admin::commands::sectors::{BlockDevice, JobDevice, STEP_SECTORS_MAX, SectorAdmin, no_such_device};
use service::admin::job::{JobWork, Pauses};
use service::error::AdminError;
use service::lba::Lba;
use service::progress::Progress;

use super::attach::State;
use super::disk::{BttDisk, InHand, admin_error};
use super::export::Exports;
use super::nvme::Nvme;
use super::{Machine, NamespaceSlot, Node};

/// The bytes that a command reads before others have their turn.
const READ_BYTES_A_STEP: usize = 128 << 10;

impl<M: Machine> SectorAdmin for Node<M> {
    fn device(&self, dev: &str) -> Result<Box<dyn BlockDevice + '_>, AdminError> {
        let disk = self.disk(dev)?;
        self.wait_while(disk, BttDisk::is_in_hand)?;
        Ok(Box::new(OpenDevice { device: self.device_in_hand(disk), pauses: self }))
    }

    fn is_free(&self, dev: &str) -> bool {
        match self.disk(dev) {
            Ok(disk) => disk.is_free(),
            // It may be there when the change is done.
            Err(_) => !self.changes_namespaces,
        }
    }

    fn device_for_job(&self, dev: &str) -> Option<Result<Box<dyn JobDevice>, AdminError>> {
        self.is_free(dev).then(|| Ok(Box::new(self.device_in_hand(self.disk(dev)?)) as Box<dyn JobDevice>))
    }

    fn is_awaited(&self, dev: Option<&str>) -> bool {
        self.disks().any(|disk| dev.is_none_or(|dev| dev == disk.name) && disk.is_awaited())
    }

    fn errors(&self, dev: Option<&str>) -> Result<JobWork<Errors>, AdminError> {
        let only = dev.map(|dev| self.disk(dev).map(|disk| &*disk.name)).transpose()?;
        let of_slot = |slot: &NamespaceSlot| match &slot.state {
            State::Sector(disk) if only.is_none_or(|name| name == disk.name) => {
                Some((slot.namespace.id.to_string(), disk.hold()))
            }
            _ => None,
        };
        let disks: Vec<_> = self.slots().filter_map(of_slot).collect();
        Ok(Box::new(move |pauses| errors_of(disks, pauses)))
    }

    fn pauses(&self) -> &dyn Pauses {
        self
    }
}

/// Finds what is known to be lost of these namespaces' disks.
fn errors_of(disks: Vec<(String, InHand<AnyMedium>)>, pauses: &dyn Pauses) -> Result<Errors, AdminError> {
    let mut all = Errors::default();
    for (namespace, InHand { disk, .. }) in &disks {
        let mut found = |extent: btt::scan::SectorExtent| {
            if all.errors.len() == Errors::SHOWN_MAX {
                all.more += 1;
            } else {
                let (dev, lba) = (disk.name.clone(), Lba(extent.lba.0));
                all.errors.push(SectorErrors { dev, lba, count: extent.count });
            }
        };
        let what = format!("{}: looked at", disk.name);
        let mut tell = |done, total| pauses.pause(&Progress { what: &what, done, total, unit: "sectors" });
        let ended = disk.btt.error_sectors(&mut found, &mut tell);
        let ended = ended.map_err(|why| AdminError::damaged(format!("{}: {why}", disk.name)))?;
        if ended.is_break() {
            let found = all.errors.len() as u64 + all.more;
            return Err(AdminError::interrupted(format!(
                "{}: ended before all of its map was read; {found} ranges of sectors in error were found by then",
                disk.name
            )));
        }
        let lost = disk.btt.media().lost().into_iter();
        all.media.extend(lost.map(|(at, length)| MediaErrors { dev: namespace.clone(), offset: at.0, length }));
    }
    Ok(all)
}

impl<M: Machine> Node<M> {
    /// Returns the disk of that name. Refuses another namespace's device with what to do.
    pub(super) fn disk(&self, dev: &str) -> Result<&Arc<BttDisk<AnyMedium>>, AdminError> {
        if let Some(disk) = self.disks().find(|disk| disk.name == dev) {
            return Ok(disk);
        }
        for slot in self.slots() {
            let id = slot.namespace.id;
            if dev == slot.device_name(false) || dev == slot.device_name(true) || dev == id.to_string() {
                slot.check_usable()?;
                return Err(AdminError::not_found(match &slot.state {
                    State::Sector(disk) => format!("the block device of {id} is {}", disk.name),
                    State::Disabled => slot.how_to_enable(),
                    _ => format!(
                        "{id} is not formatted, so it has no sectors: create-namespace -r {} formats it",
                        id.region
                    ),
                }));
            }
        }
        Err(no_such_device(dev))
    }
}

/// A sector number in btt's words.
const fn external(lba: Lba) -> ExternalLba {
    ExternalLba(lba.0)
}

impl<M: Machine> Node<M> {
    /// Takes a disk in hand that no command has.
    fn device_in_hand(&self, disk: &Arc<BttDisk<AnyMedium>>) -> DeviceInHand<M> {
        let (machine, exports, nvme) = (Arc::clone(&self.machine), Arc::clone(&self.exports), Arc::clone(&self.nvme));
        DeviceInHand { machine, exports, nvme, in_hand: disk.take_in_hand() }
    }
}

/// A block device of the node, in the hands of a command.
struct DeviceInHand<M> {
    machine: Arc<M>,
    exports: Arc<Exports>,
    nvme: Arc<Nvme>,
    in_hand: InHand<AnyMedium>,
}

impl<M: Machine> JobDevice for DeviceInHand<M> {
    fn open<'a>(self: Box<Self>, pauses: &'a dyn Pauses) -> Box<dyn BlockDevice + 'a> {
        Box::new(OpenDevice { device: *self, pauses })
    }
}

/// The same, with what the command does between two steps.
struct OpenDevice<'a, M> {
    device: DeviceInHand<M>,
    pauses: &'a dyn Pauses,
}

impl<M: Machine> OpenDevice<'_, M> {
    fn disk(&self) -> &BttDisk<AnyMedium> {
        &self.device.in_hand.disk
    }

    /// Tells how far the command is with the device. Returns whether it is to end.
    fn pause(&self, what: &str, done: u64, total: u64, unit: &'static str) -> ControlFlow<()> {
        self.pauses.pause(&Progress { what: &format_args!("{}: {what}", self.disk().name), done, total, unit })
    }

    /// Attends to consumers on a CPU that takes part in a long command, on CPU 0 to all that the command does between two steps.
    /// Returns whether the command is to end.
    fn attend(&self, cpu: CpuIndex, at: bench::At) -> ControlFlow<()> {
        if cpu == CpuIndex(0) {
            let bench::At { what, done, total, unit } = at;
            return self.pause(what, done, total, unit);
        }
        self.device.exports.attend(cpu);
        ControlFlow::Continue(())
    }

    fn error(&self, why: &BttError) -> AdminError {
        admin_error(&self.disk().name, why)
    }

    /// Changes sectors, all of them on the disk, some at a time: consumers may use the disk meanwhile.
    ///
    /// # Errors
    /// The disk's; interrupted, with how many are done.
    fn by_steps(
        &self,
        first: Lba,
        count: u64,
        change: impl Fn(&BttDisk<AnyMedium>, ExternalLba, u64) -> Result<(), BttError>,
    ) -> Result<(), AdminError> {
        let ExternalLba(first) = external(first);
        let mut done = 0;
        while done < count {
            let now = STEP_SECTORS_MAX.min(count - done);
            change(self.disk(), ExternalLba(first + done), now).map_err(|why| self.error(&why))?;
            done += now;
            if self.pause("done", done, count, "sectors").is_break() && done < count {
                return Err(AdminError::interrupted(format!(
                    "{}: ended after {done} of {count} sectors from LBA {first} on",
                    self.disk().name
                )));
            }
        }
        Ok(())
    }
}

impl<M: Machine> BlockDevice for OpenDevice<'_, M> {
    fn sector_bytes(&self) -> u32 {
        self.disk().btt.sector_size().bytes()
    }

    fn sectors(&self) -> u64 {
        self.disk().btt.capacity_sectors()
    }

    fn read_only(&self) -> Option<String> {
        // If one arena can be written, each write fails or succeeds by itself.
        self.disk().read_only().filter(|_| self.disk().all_read_only())
    }

    fn is_in_use(&self) -> bool {
        self.device.exports.has_consumer(&self.disk().name) || self.device.nvme.has_host(&self.disk().name)
    }

    fn content(&mut self) -> Option<&'static str> {
        self.disk().content(M::this_cpu())
    }

    fn read(&mut self, first: Lba, into: &mut [u8]) -> Result<(), AdminError> {
        let sector_bytes = self.disk().sector_bytes();
        let (step, total) = (READ_BYTES_A_STEP / sector_bytes, (into.len() / sector_bytes) as u64);
        for (lba, part) in (first.0..).step_by(step).zip(into.chunks_mut(step * sector_bytes)) {
            self.disk().read(M::this_cpu(), ExternalLba(lba), part).map_err(|why| self.error(&why))?;
            let done = lba - first.0 + (part.len() / sector_bytes) as u64;
            if self.pause("read", done, total, "sectors").is_break() {
                return Err(AdminError::interrupted(format!("{}: ended before all was read", self.disk().name)));
            }
        }
        Ok(())
    }

    fn write(&mut self, lba: Lba, from: &[u8]) -> Result<(), AdminError> {
        self.disk().write(M::this_cpu(), external(lba), from).map_err(|why| self.error(&why))?;
        Ok(())
    }

    fn goes_on(&mut self, done: u64, count: u64) -> bool {
        self.pause("written", done, count, "sectors").is_continue()
    }

    fn trim(&mut self, lba: Lba, count: u64) -> Result<(), AdminError> {
        self.by_steps(lba, count, |disk, lba, count| disk.zero(M::this_cpu(), lba, count))
    }

    fn inject_error(&mut self, lba: Lba, count: u64, media: bool) -> Result<(), AdminError> {
        self.by_steps(lba, count, |disk, lba, count| match media {
            true => lose(disk, lba, count),
            false => disk.btt.lane(M::this_cpu()).mark_errors(lba, count),
        })
    }

    fn clear_errors(&mut self, lba: Lba, count: u64) -> Result<(), AdminError> {
        self.by_steps(lba, count, |disk, lba, count| {
            disk.settle_losses(M::this_cpu(), lba, count)?;
            disk.btt.lane(M::this_cpu()).clear_errors(lba, count).map(|_| ())
        })
    }

    fn bench(&mut self, request: &BenchRequest) -> Result<Bench, AdminError> {
        let (machine, disk) = (&*self.device.machine, self.disk());
        if let Some(why) = disk.read_only().filter(|_| request.writes()) {
            return Err(AdminError::read_only(format!("{}: {why}", disk.name)));
        }
        // A verification reads runs of its own length.
        let run = u64::from(request.run).max(if request.verify { bench::VERIFY_RUN as u64 } else { 0 });
        let buffers = disk.sector_bytes() as u64 * run * u64::from(machine.cpus());
        if buffers > machine.heap_bytes() / 8 {
            return Err(AdminError::failed(format!("{}: not enough memory for runs of {run}", disk.name)));
        }
        Ok(bench::run(machine, &|cpu, at| self.attend(cpu, at), disk, request))
    }
}

/// Marks the bytes as lost where the sectors lie now. All lanes are held meanwhile, so that no write moves a sector.
fn lose(disk: &BttDisk<AnyMedium>, lba: ExternalLba, count: u64) -> Result<(), BttError> {
    let bytes = disk.sector_bytes() as u64;
    disk.btt.exclusively(|media| {
        for lba in (lba.0..lba.0 + count).map(ExternalLba) {
            let at = disk.btt.place_of(lba)?;
            media.lose(at, bytes).map_err(|why| BttError::Data { lba, why })?;
        }
        Ok(())
    })?
}
