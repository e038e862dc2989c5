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

/// How many sectors change before consumers and their bridge are attended to.
const SECTORS_A_TURN: u64 = 512;

impl<M: Machine> Node<M> {
    pub(super) fn trim_sectors(&self, dev: &str, lba: Lba, count: u64) -> Result<(), AdminError> {
        self.by_turns(dev, lba, count, |disk, lba, count| disk.btt.lane(M::this_cpu()).zero(lba, count))
    }

    pub(super) fn put_in_error(&self, dev: &str, lba: Lba, count: u64, media: bool) -> Result<(), AdminError> {
        self.by_turns(dev, lba, count, |disk, lba, count| match media {
            true => lose(disk, lba, count),
            false => disk.btt.lane(M::this_cpu()).mark_errors(lba, count),
        })
    }

    pub(super) fn clear_of_errors(&self, dev: &str, lba: Lba, count: u64) -> Result<(), AdminError> {
        self.by_turns(dev, lba, count, |disk, lba, count| {
            disk.settle_losses(M::this_cpu(), lba.0, count)?;
            disk.btt.lane(M::this_cpu()).clear_errors(lba, count).map(|_| ())
        })
    }

    /// Changes sectors that are all on the disk, some at a time: consumers may share it meanwhile.
    fn by_turns(
        &self,
        dev: &str,
        Lba(first): Lba,
        count: u64,
        change: impl Fn(&Disk<Medium>, ExternalLba, u64) -> Result<(), BttError>,
    ) -> Result<(), AdminError> {
        let disk = self.disk(dev)?;
        let mut done = 0;
        while done < count {
            let now = SECTORS_A_TURN.min(count - done);
            change(disk, ExternalLba(first + done), now).map_err(|why| admin_error(dev, &why))?;
            done += now;
            self.exports.attend(M::this_cpu());
        }
        Ok(())
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
            disk.btt
                .error_sectors(&mut found, &mut |_, _| self.exports.attend(M::this_cpu()))
                .map_err(|why| AdminError::damaged(format!("{}: {why}", disk.name)))?;
            let dev = || slot.namespace.id.to_string();
            let lost = disk.btt.media().lost().into_iter();
            all.media.extend(lost.map(|(at, length)| MediaErrors { dev: dev(), offset: at.0, length }));
        }
        Ok(all)
    }
}

/// Lets the medium fail where the sectors lie now, while nobody moves them.
fn lose(disk: &Disk<Medium>, lba: ExternalLba, count: u64) -> Result<(), BttError> {
    let bytes = disk.sector_bytes() as u64;
    disk.btt.exclusively(|media| {
        for lba in (lba.0..lba.0 + count).map(ExternalLba) {
            let at = disk.btt.place_of(lba)?;
            media.lose(at, bytes).map_err(|why| BttError::Data { lba, why })?;
        }
        Ok(())
    })?
}
