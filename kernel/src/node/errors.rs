//! Sectors that are trimmed, put in error, cleared of it, or known to be lost.

use super::attach::State;
use super::disk::{Disk, admin_error};
use super::{Machine, Node};
use alloc::format;
use alloc::string::ToString;
use btt::{BttError, ExternalLba};
use drivers::medium::Medium;
use service::admin::command::Lba;
use service::error::AdminError;
use service::reply::{Errors, MediaErrors, SectorErrors};

impl<M: Machine> Node<M> {
    pub(super) fn trim_sectors(&self, dev: &str, lba: Lba, count: u64) -> Result<(), AdminError> {
        let mut lane = self.disk(dev)?.btt.lane(M::this_cpu());
        lane.zero(ExternalLba(lba.0), count).map_err(|why| admin_error(dev, &why))
    }

    pub(super) fn put_in_error(&self, dev: &str, lba: Lba, count: u64, media: bool) -> Result<(), AdminError> {
        let disk = self.disk(dev)?;
        let done = if media {
            lose(disk, lba, count)
        } else {
            disk.btt.lane(M::this_cpu()).mark_errors(ExternalLba(lba.0), count)
        };
        done.map_err(|why| admin_error(dev, &why))
    }

    pub(super) fn clear_of_errors(&self, dev: &str, lba: Lba, count: u64) -> Result<(), AdminError> {
        let disk = self.disk(dev)?;
        disk.settle_losses(M::this_cpu(), lba.0, count).map_err(|why| admin_error(dev, &why))?;
        let mut lane = disk.btt.lane(M::this_cpu());
        lane.clear_errors(ExternalLba(lba.0), count).map(|_| ()).map_err(|why| admin_error(dev, &why))
    }

    pub(super) fn errors_known(&self, dev: Option<&str>) -> Result<Errors, AdminError> {
        let only = dev.map(|dev| self.disk(dev).map(|disk| &*disk.name)).transpose()?;
        let mut all = Errors::default();
        for slot in self.regions.iter().flat_map(|region| &region.namespaces) {
            let State::Sector(disk) = &slot.state else { continue };
            if only.is_some_and(|name| name != disk.name) {
                continue;
            }
            let mut found = |extent: btt::scan::Extent| {
                if all.errors.len() == Errors::SHOWN_MAX {
                    all.more += 1;
                } else {
                    let (dev, lba) = (disk.name.clone(), Lba(extent.lba.0));
                    all.errors.push(SectorErrors { dev, lba, count: extent.count });
                }
            };
            disk.btt.error_sectors(&mut found).map_err(|why| AdminError::damaged(format!("{}: {why}", disk.name)))?;
            let dev = || slot.namespace.id.to_string();
            let lost = disk.btt.media().lost().into_iter();
            all.media.extend(lost.map(|(at, length)| MediaErrors { dev: dev(), offset: at.0, length }));
        }
        Ok(all)
    }
}

/// Lets the medium fail where the sectors lie now, while nobody moves them.
fn lose(disk: &Disk<Medium>, lba: Lba, count: u64) -> Result<(), BttError> {
    let bytes = disk.sector_bytes() as u64;
    disk.btt.exclusively(|media| {
        for lba in (lba.0..lba.0 + count).map(ExternalLba) {
            let at = disk.btt.place_of(lba)?;
            media.lose(at, bytes).map_err(|why| BttError::Data { lba, why })?;
        }
        Ok(())
    })?
}
