//! From a namespace to what can be done with it.

use super::content::{Content, recognise};
use super::disk::Disk;
use super::{Machine, Node};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use btt::info_block::Version;
use btt::media::Namespace as _;
use btt::{Btt, OpenError, Placement};
use core::fmt;
use drivers::pmem::{Access, Pmem, PmemRegion};
use nvdimm::namespace::{BttPlace, Namespace, NamespaceId};
use uuid::Uuid;

/// What a namespace is, once somebody has looked.
pub(super) enum State {
    /// It is in sector mode, and open.
    Sector(Arc<Disk<Pmem>>),
    /// It holds no BTT.
    Raw(Content),
    /// It holds a BTT that cannot be opened.
    Damaged(OpenError),
    /// It cannot be used, for this reason.
    Held(String),
    /// Somebody disabled it.
    Disabled,
}

impl State {
    /// Whether it has a block device.
    pub(super) const fn is_enabled(&self) -> bool {
        match self {
            Self::Sector(_) | Self::Raw(_) | Self::Damaged(_) => true,
            Self::Held(_) | Self::Disabled => false,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sector(disk) => {
                let (count, size) = (disk.btt.capacity_sectors(), disk.btt.sector_size().bytes());
                write!(f, "{}, {count} sectors of {size} bytes, {} lanes", disk.name, disk.btt.lane_count())?;
                match disk.btt.recovered_writes() {
                    0 => {}
                    1 => write!(f, ", an interrupted write finished")?,
                    n => write!(f, ", {n} interrupted writes finished")?,
                }
                match disk.read_only() {
                    Some(why) => write!(f, ", read-only: {why}"),
                    None => Ok(()),
                }
            }
            Self::Raw(content) => write!(f, "no BTT, {content}"),
            Self::Damaged(why) => write!(f, "damaged: {why}"),
            Self::Held(why) => write!(f, "not served: {why}"),
            Self::Disabled => write!(f, "disabled"),
        }
    }
}

/// Where a namespace's BTT is and whose it must be; `None` where its label says that it holds something else.
pub(super) fn placement(namespace: &Namespace) -> Option<Placement> {
    let version = match namespace.btt_place()? {
        BttPlace::V1_1 => Version::V1_1,
        BttPlace::V2_0 => Version::V2_0,
    };
    let parent_uuid = namespace.labelling.as_ref().map_or(Uuid::nil(), |labelling| labelling.uuid);
    Some(Placement { version, parent_uuid })
}

/// The block device of a namespace, as Linux names it: `pmem0s`, `pmem0.1s`; raw ones without the `s`.
pub(super) fn device_name(id: NamespaceId, sector_mode: bool) -> String {
    let (region, suffix) = (id.region.0, if sector_mode { "s" } else { "" });
    match id.number {
        0 => format!("pmem{region}{suffix}"),
        number => format!("pmem{region}.{number}{suffix}"),
    }
}

/// The bytes of a namespace.
///
/// # Errors
/// Why they cannot be reached, in words.
pub(super) fn medium(region: &PmemRegion, namespace: &Namespace) -> Result<Pmem, String> {
    let [extent] = namespace.extents.as_slice() else {
        return Err("it lies in several pieces of memory".to_string());
    };
    let access = if namespace.read_only { Access::ReadOnly } else { Access::ReadWrite };
    region.namespace(extent.start, extent.bytes, access).map_err(|why| why.to_string())
}

impl<M: Machine> Node<M> {
    /// Opens a namespace. On media that may not be written nothing is.
    pub(super) fn attach(&self, region: &PmemRegion, namespace: &Namespace) -> State {
        let Some(placement) = placement(namespace) else {
            return State::Held("its label says that it is no sector-mode namespace".to_string());
        };
        let medium = match medium(region, namespace) {
            Ok(medium) => medium,
            Err(why) => return State::Held(why),
        };
        match Btt::open(medium.clone(), placement, self.machine.cpus()) {
            Ok(btt) => State::Sector(Arc::new(Disk::new(device_name(namespace.id, true), btt, self.machine.cpus()))),
            Err(OpenError::NotABtt | OpenError::TooSmall { .. }) => match recognise(&medium) {
                Ok(content) => State::Raw(content),
                Err(why) => State::Held(why.to_string()),
            },
            Err(why) if why.is_damage() => State::Damaged(why),
            Err(why) => State::Held(format!("{why} ({} bytes)", medium.len_bytes())),
        }
    }
}
