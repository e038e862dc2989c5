//! From a namespace to what can be done with it.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use core::fmt;

use btt::info_block::Version;
use btt::layout::SIGNATURE;
use btt::media::{MediaError, Medium as _};
use btt::{Btt, OpenError, Placement};
use drivers::blk_window::BlkRegion;
use drivers::medium::AnyMedium;
use drivers::pmem::{Access, PmemRegion};
use nvdimm::error::Place;
use nvdimm::extent::Extent;
use nvdimm::namespace::{BttPlace, Namespace, NamespaceId};
use nvdimm::region::Region;
use nvdimm::space;
use service::error::AdminError;
use service::events::{Kind, Severity};
use uuid::Uuid;

use super::config::room;
use super::config::store::{Copies, Room};
use super::content::{Content, recognise};
use super::disk::BttDisk;
use super::{Machine, Node, probe};

/// The memory of an ordinary BTT: 256 free blocks an arena, some arenas, any number of CPUs.
const ORDINARY_BYTES: u64 = 512 << 10;

/// What the node found in a namespace.
pub(super) enum State {
    /// It is in sector mode, and open.
    Sector(Arc<BttDisk<AnyMedium>>),
    /// It holds no BTT.
    Raw(Content),
    /// It holds a BTT that cannot be opened.
    Damaged(OpenError),
    /// It holds a BTT in which no damage was found, of a kind that is not served.
    Unsupported(OpenError),
    /// It cannot be used, for this reason.
    Unusable(Unusable),
    /// An admin disabled it.
    Disabled,
}

/// Why a namespace cannot be used.
pub(super) struct Unusable {
    /// In words.
    pub(super) why: String,
    /// Whether the medium is the cause.
    medium: bool,
}

impl Unusable {
    /// Returns the error of a command that needs the namespace.
    pub(super) fn error(&self, id: NamespaceId) -> AdminError {
        let message = format!("{id}: {}", self.why);
        if self.medium { AdminError::damaged(message) } else { AdminError::failed(message) }
    }
}

impl From<&str> for Unusable {
    fn from(why: &str) -> Self {
        Self { why: why.into(), medium: false }
    }
}

impl From<probe::Fault> for Unusable {
    fn from(why: probe::Fault) -> Self {
        Self { why: why.to_string(), medium: true }
    }
}

impl From<MediaError> for Unusable {
    fn from(why: MediaError) -> Self {
        Self { why: why.to_string(), medium: true }
    }
}

impl State {
    /// Returns whether an admin disabled it.
    pub(super) const fn is_disabled(&self) -> bool {
        matches!(self, Self::Disabled)
    }

    /// Returns whether it has a block device.
    pub(super) const fn is_enabled(&self) -> bool {
        match self {
            Self::Sector(_) | Self::Raw(_) | Self::Damaged(_) | Self::Unsupported(_) => true,
            Self::Unusable(_) | Self::Disabled => false,
        }
    }
}

impl State {
    /// Returns how bad it is to find a namespace so, and what about it.
    pub(super) fn as_event(&self) -> (Severity, Kind) {
        match self {
            Self::Sector(disk) if disk.loss().is_some() => (Severity::Error, Kind::Media),
            Self::Sector(disk) if disk.btt.recovered_writes() > 0 => (Severity::Info, Kind::Recovery),
            Self::Sector(disk) if disk.read_only().is_some() => (Severity::Warning, Kind::Namespace),
            Self::Sector(_) | Self::Disabled => (Severity::Info, Kind::Namespace),
            Self::Raw(Content::Lost) | Self::Damaged(_) => (Severity::Error, Kind::Namespace),
            Self::Raw(_) => (Severity::Info, Kind::Namespace),
            Self::Unusable(it) if it.medium => (Severity::Error, Kind::Namespace),
            Self::Unsupported(_) | Self::Unusable(_) => (Severity::Warning, Kind::Namespace),
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sector(disk) => {
                let (count, size) = (disk.btt.capacity_sectors(), disk.btt.sector_size().bytes());
                write!(f, "{}, {count} sectors of {size} bytes, ", disk.name)?;
                match disk.btt.lane_count() {
                    1 => write!(f, "1 lane")?,
                    n => write!(f, "{n} lanes")?,
                }
                match disk.btt.recovered_writes() {
                    0 => {}
                    1 => write!(f, ", an interrupted write finished")?,
                    n => write!(f, ", {n} interrupted writes finished")?,
                }
                if let Some(why) = disk.read_only() {
                    write!(f, ", read-only: {why}")?;
                }
                match disk.loss() {
                    Some(loss) => write!(f, "; {loss}"),
                    None => Ok(()),
                }
            }
            Self::Raw(content) => write!(f, "no BTT, {content}"),
            Self::Damaged(why) => write!(f, "damaged: {why}"),
            Self::Unsupported(why) => write!(f, "not supported: {why}"),
            Self::Unusable(it) => write!(f, "not served: {}", it.why),
            Self::Disabled => write!(f, "disabled"),
        }
    }
}

/// Returns where a namespace's BTT lies and which parent it must have; `None` if its label names another use.
pub(super) fn placement(namespace: &Namespace) -> Option<Placement> {
    let version = match namespace.btt_place()? {
        BttPlace::V1_1 => Version::V1_1,
        BttPlace::V2_0 => Version::V2_0,
    };
    let parent_uuid = namespace.labelling.as_ref().map_or(Uuid::nil(), |labelling| labelling.uuid);
    Some(Placement { version, parent_uuid })
}

/// Returns the name that Linux gives a namespace's block device: `pmem0s`, `pmem0.1s`, `ndblk0.0s`; without the `s` for
/// a raw one.
pub(super) fn device_name(id: NamespaceId, behind_windows: bool, sector_mode: bool) -> String {
    let (region, suffix) = (id.region.0, if sector_mode { "s" } else { "" });
    match id.number {
        number if behind_windows => format!("ndblk{region}.{number}{suffix}"),
        0 => format!("pmem{region}{suffix}"),
        number => format!("pmem{region}.{number}{suffix}"),
    }
}

/// A region, mapped.
pub(super) enum Mapped {
    /// As memory.
    Pmem(PmemRegion),
    /// By its windows.
    Blk(BlkRegion),
}

impl Mapped {
    /// Returns a medium of these bytes of it.
    ///
    /// # Errors
    /// Why they cannot be reached, in words.
    pub(super) fn bytes_of(&self, extents: &[Extent], access: Access) -> Result<AnyMedium, String> {
        match (self, extents) {
            (Self::Pmem(region), [only]) => {
                let slice = region.namespace(only.start, only.bytes, access);
                slice.map(AnyMedium::Pmem).map_err(|why| why.to_string())
            }
            (Self::Pmem(_), _) => Err("it lies in several pieces of memory".to_string()),
            (Self::Blk(region), extents) => {
                region.namespace(extents, access).map(AnyMedium::Blk).map_err(|why| why.to_string())
            }
        }
    }
}

/// Returns the medium of a namespace.
///
/// # Errors
/// Why its bytes cannot be reached, in words.
pub(super) fn medium(region: &Mapped, namespace: &Namespace) -> Result<AnyMedium, String> {
    let access = if namespace.read_only { Access::ReadOnly } else { Access::ReadWrite };
    region.bytes_of(&namespace.extents, access)
}

/// Recognises the content of a namespace without a BTT, and probes a blank one (invariant 5). The configuration in front of a
/// BTT that is gone is nothing of it.
fn look_at_content(namespace: &Namespace, medium: &AnyMedium) -> State {
    let place = room::of(namespace);
    let is_there = |room| Copies::load(medium, room).is_ok_and(|copies| !copies.is_none());
    if place == Some(Room::OF_NAMESPACE) {
        return State::Raw(Content::Recognised("the configuration of untorn"));
    }
    match recognise(medium, place.is_some_and(is_there)) {
        Ok(Content::Blank) if !medium.read_only() => match probe::ends(medium) {
            Ok(()) => State::Raw(Content::Blank),
            Err(why) => State::Unusable(why.into()),
        },
        Ok(content) => State::Raw(content),
        Err(why) => State::Unusable(why.into()),
    }
}

impl<M: Machine> Node<M> {
    /// Opens the BTT on a medium, if there is memory for it: the medium says how much it needs (invariant 16). All open
    /// BTTs may take half of the heap together. Ordinary ones may take a quarter more, so that large ones cannot keep
    /// them out; the last quarter is for everything else.
    fn open_within_budget(
        &self,
        medium: &AnyMedium,
        placement: Placement,
        lanes: u32,
    ) -> Result<Btt<AnyMedium>, OpenError> {
        let open: u64 = self.disks().map(|disk| disk.btt.memory_bytes()).sum();
        let quarter = self.machine.heap_bytes() / 4;
        let try_with = |bytes: u64| Btt::open_within(medium.clone(), placement, lanes, bytes.saturating_sub(open));
        match try_with(2 * quarter) {
            Err(OpenError::OverBudget { needed, .. }) if needed <= ORDINARY_BYTES => try_with(3 * quarter),
            result => result,
        }
    }

    /// Returns the medium of a namespace, not to be written if it keeps no stores. Where no NFIT describes the memory, nothing
    /// tells whether a host lets it be written, so it is probed before recovery writes to a BTT there: in front of a BTT 1.1,
    /// and beside a namespace that labels describe, where no label can have a part.
    ///
    /// # Errors
    /// It keeps no stores, and cannot be had read-only either.
    fn keeping(
        &self,
        region: &Region,
        mapped: &Mapped,
        namespace: &Namespace,
        version: Version,
        medium: AnyMedium,
    ) -> Result<AnyMedium, String> {
        if matches!(region.at, Place::Nfit { .. }) || medium.read_only() || !starts_btt(&medium, version) {
            return Ok(medium);
        }
        let beside = space::certainly_free(region, &self.found.labels);
        let beside = beside.into_iter().filter_map(|free| mapped.bytes_of(&[free], Access::ReadWrite).ok());
        let in_front = Some(medium.clone()).filter(|_| version == Version::V1_1);
        for place in in_front.into_iter().chain(beside) {
            match probe::before_first_write(&place) {
                Ok(probe::Probed::Keeps) => return Ok(medium),
                Ok(probe::Probed::NoPlace) => {}
                Err(why) => {
                    let what = format_args!("read-only: {why}");
                    self.tell(Severity::Warning, Kind::Namespace, &namespace.id, what);
                    return mapped.bytes_of(&namespace.extents, Access::ReadOnly);
                }
            }
        }
        let what = format_args!("no blank line to probe whether it keeps stores");
        self.tell(Severity::Info, Kind::Namespace, &namespace.id, what);
        Ok(medium)
    }

    /// Opens a namespace. Writes nothing to a medium that is read-only.
    pub(super) fn attach(&self, region: &Region, mapped: &Mapped, namespace: &Namespace) -> State {
        let Some(placement) = placement(namespace) else {
            return State::Unusable("its label says that it is no sector-mode namespace".into());
        };
        let version = placement.version;
        let medium =
            medium(mapped, namespace).and_then(|medium| self.keeping(region, mapped, namespace, version, medium));
        let medium = match medium {
            Ok(medium) => medium,
            Err(why) => return State::Unusable(why.as_str().into()),
        };
        let cpus = self.machine.cpus();
        // The BTT itself limits lanes to its free blocks.
        let lanes = lanes(cpus, medium.window_count());
        match self.open_within_budget(&medium, placement, lanes) {
            Ok(btt) => {
                let name = device_name(namespace.id, medium.window_count().is_some(), true);
                State::Sector(Arc::new(BttDisk::new(name, btt, cpus, self.exports.clock())))
            }
            Err(OpenError::NotABtt | OpenError::TooSmall { .. }) => look_at_content(namespace, &medium),
            Err(why @ (OpenError::SectorSize { .. } | OpenError::Nfree { .. })) => State::Unsupported(why),
            Err(why) if why.is_damage() => State::Damaged(why),
            // The other errors are about memory.
            Err(why) => {
                let what_to_do = "disable another namespace and enable this one, or give the machine more memory";
                State::Unusable(format!("{why}: {what_to_do}").as_str().into())
            }
        }
    }
}

/// Returns whether the first info block of a BTT of that version seems to be there.
pub(super) fn starts_btt(medium: &AnyMedium, version: Version) -> bool {
    let mut start = [0; SIGNATURE.len()];
    medium.read(version.initial_offset(), &mut start).is_ok() && start == SIGNATURE
}

/// Returns how many lanes make sense: one for each CPU, and no more than there are windows, if there are any.
fn lanes(cpus: u32, windows: Option<u16>) -> u32 {
    windows.map_or(cpus, |windows| cpus.min(u32::from(windows).max(1)))
}
