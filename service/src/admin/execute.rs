//! A command becomes a reply.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use super::command::{Command, Extent, Lba, Mode, WriteData};
use super::{READ_BYTES_MAX, help, list};
use crate::appliance::{Appliance, Device};
use crate::error::{AdminError, EXIT_DAMAGED};
use crate::reply::{Arenas, Bench, Changed, Check, Done, Errors, Exported, LabelArea, Nfit, Stats, Status, Trace};

/// The most that `write --fill` stores at once, bytes.
const FILL_CHUNK_BYTES: u64 = 64 << 10;

/// What a command that was carried out answers.
#[derive(Debug)]
pub enum Reply {
    /// `help`.
    Help,
    /// `help CMD`, for the command of that name.
    HelpOf(&'static super::table::CommandSpec),
    /// `version`.
    Version,
    /// `status`.
    Status(Status),
    /// `mode`: the reply is in the new mode already.
    Mode(Mode),
    /// `list`: ndctl's JSON.
    List(String),
    /// `nfit`.
    Nfit(Nfit),
    /// `arenas`.
    Arenas(Arenas),
    /// `init-labels`.
    LabelArea(LabelArea),
    /// `create-namespace`, `enable-namespace`: ndctl's JSON of the namespace.
    Namespace(String),
    /// `destroy-namespace`, `disable-namespace`.
    Changed(Changed),
    /// `check-namespace`.
    Check(Check),
    /// `read`.
    Data(Data),
    /// `write`, `trim`, `inject-error`, `clear-errors`: what was done, in a word, and to what.
    Done(&'static str, Done),
    /// `errors`.
    Errors(Errors),
    /// `bench`.
    Bench(Bench),
    /// `stats`.
    Stats(Stats),
    /// `stats --prometheus`.
    Prometheus(Stats),
    /// `export`, `unexport`.
    Exported(Exported),
    /// `trace`.
    Trace(Trace),
    /// `poweroff`: everything is durable; stop the machine once the reply is sent.
    Poweroff,
    /// `reboot`, likewise.
    Reboot,
}

/// Sectors that were read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Data {
    /// Where from.
    pub extent: Extent,
    /// Bytes of a sector.
    pub sector_size: u32,
    /// The sectors, one after another.
    pub bytes: Vec<u8>,
}

impl Reply {
    /// The exit status of a script whose command got this reply: 0, or what a check or a verification found.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        let damaged = match self {
            Self::Check(check) => check.damaged(),
            Self::Bench(bench) => bench.verify.as_ref().is_some_and(|verify| verify.damaged()),
            _ => false,
        };
        if damaged { EXIT_DAMAGED } else { 0 }
    }
}

/// Carries out a command.
///
/// # Errors
/// What the machine says, and what the grammar could not know: a name that is unknown, sectors that are not on the
/// device, a reply that would be too long.
pub fn execute<A: Appliance + ?Sized>(command: Command, appliance: &mut A) -> Result<Reply, AdminError> {
    Ok(match command {
        Command::Help { topic: None } => Reply::Help,
        Command::Help { topic: Some(topic) } => Reply::HelpOf(help::find(&topic)?),
        Command::Version => Reply::Version,
        Command::Status => Reply::Status(appliance.status()),
        Command::Mode(mode) => Reply::Mode(mode),
        Command::List(request) => Reply::List(list::list(&appliance.inventory(), &request)),
        Command::Nfit => Reply::Nfit(appliance.nfit()),
        Command::Arenas { namespace } => Reply::Arenas(appliance.arenas(&namespace)?),
        Command::InitLabels { dimm, version, force } => Reply::LabelArea(appliance.init_labels(&dimm, version, force)?),
        Command::CreateNamespace(request) => {
            Reply::Namespace(list::namespace_json(&appliance.create_namespace(&request)?))
        }
        Command::DestroyNamespace { namespace, force } => {
            Reply::Changed(Changed { dev: appliance.destroy_namespace(&namespace, force)?, state: "destroyed" })
        }
        Command::EnableNamespace { namespace } => {
            Reply::Namespace(list::namespace_json(&appliance.enable_namespace(&namespace)?))
        }
        Command::DisableNamespace { namespace } => {
            Reply::Changed(Changed { dev: appliance.disable_namespace(&namespace)?, state: "disabled" })
        }
        Command::CheckNamespace(request) => Reply::Check(appliance.check_namespace(&request)?),
        Command::Read { dev, lba, count } => Reply::Data(read(Extent { dev, lba, count }, appliance)?),
        Command::Write { dev, lba, data, force } => Reply::Done("written", write(dev, lba, data, force, appliance)?),
        Command::Trim { extent, force } => {
            let Extent { dev, lba, count } = writable_extent(extent, force, appliance)?;
            appliance.trim(&dev, lba, count)?;
            Reply::Done("trimmed", Done { dev, lba, count })
        }
        Command::InjectError { extent, media, force } => {
            let Extent { dev, lba, count } = writable_extent(extent, force, appliance)?;
            appliance.inject_error(&dev, lba, count, media)?;
            Reply::Done("in error", Done { dev, lba, count })
        }
        Command::ClearErrors { extent, force } => {
            let Extent { dev, lba, count } = writable_extent(extent, force, appliance)?;
            appliance.clear_errors(&dev, lba, count)?;
            Reply::Done("without errors", Done { dev, lba, count })
        }
        Command::Errors { dev } => Reply::Errors(appliance.errors(dev.as_deref())?),
        Command::Bench(request) => {
            let device = appliance.device(&request.dev)?;
            if request.seconds > 0 && request.mix_write_percent > 0 {
                writable(&request.dev, &device, request.force)?;
                if let Some(what) = appliance.content(&request.dev)?.filter(|_| !request.force) {
                    let dev = &request.dev;
                    return Err(AdminError::failed(format!("{dev} holds {what}: -f overwrites it all the same")));
                }
            }
            Reply::Bench(appliance.bench(&request)?)
        }
        Command::Stats { prometheus: false } => Reply::Stats(appliance.stats()),
        Command::Stats { prometheus: true } => Reply::Prometheus(appliance.stats()),
        Command::Export { dev } => {
            appliance.export(&dev)?;
            Reply::Exported(Exported { dev, exported: true })
        }
        Command::Unexport { dev } => {
            appliance.unexport(&dev)?;
            Reply::Exported(Exported { dev, exported: false })
        }
        Command::Trace => Reply::Trace(appliance.trace()),
        Command::Poweroff => {
            appliance.quiesce()?;
            Reply::Poweroff
        }
        Command::Reboot => {
            appliance.quiesce()?;
            Reply::Reboot
        }
    })
}

fn read<A: Appliance + ?Sized>(extent: Extent, appliance: &mut A) -> Result<Data, AdminError> {
    let device = appliance.device(&extent.dev)?;
    on_device(&extent, &device)?;
    let most = READ_BYTES_MAX / u64::from(device.sector_size.max(1));
    if extent.count > most {
        let message = format!("{} sectors of {} bytes are more than 1 MiB", extent.count, device.sector_size);
        return Err(AdminError::too_long(format!("{message}: read at most {most} at once")));
    }
    // At most 1 MiB.
    let bytes = usize::try_from(extent.count.saturating_mul(device.sector_size.into())).unwrap_or(usize::MAX);
    let mut data = Vec::new();
    data.try_reserve_exact(bytes)
        .map_err(|_| AdminError::failed(format!("no memory for {bytes} bytes: read fewer sectors at once")))?;
    data.resize(bytes, 0);
    appliance.read(&extent.dev, extent.lba, &mut data)?;
    Ok(Data { extent, sector_size: device.sector_size, bytes: data })
}

fn write<A: Appliance + ?Sized>(
    dev: String,
    lba: Lba,
    data: WriteData,
    force: bool,
    appliance: &mut A,
) -> Result<Done, AdminError> {
    let device = appliance.device(&dev)?;
    let sector_size = u64::from(device.sector_size.max(1));
    let count = match &data {
        WriteData::Fill { count, .. } => *count,
        WriteData::Bytes(bytes) => {
            let length = bytes.len() as u64;
            if length == 0 || !length.is_multiple_of(sector_size) {
                let message = format!("--data: {length} bytes are not whole sectors; {dev} has sectors of");
                return Err(AdminError::usage(format!("{message} {sector_size} bytes")));
            }
            length / sector_size
        }
    };
    let extent = Extent { dev, lba, count };
    on_device(&extent, &device)?;
    writable(&extent.dev, &device, force)?;
    match data {
        WriteData::Bytes(bytes) => appliance.write(&extent.dev, lba, &bytes)?,
        WriteData::Fill { byte, .. } => fill(&extent, byte, sector_size, appliance)?,
    }
    Ok(Done { dev: extent.dev, lba, count })
}

/// Fills sectors by chunks.
fn fill<A: Appliance + ?Sized>(
    extent: &Extent,
    byte: u8,
    sector_size: u64,
    appliance: &mut A,
) -> Result<(), AdminError> {
    let chunk_sectors = (FILL_CHUNK_BYTES / sector_size).clamp(1, extent.count);
    // At most a chunk, or one sector if that is longer.
    let chunk = vec![byte; usize::try_from(chunk_sectors.saturating_mul(sector_size)).unwrap_or(0)];
    let mut done = 0;
    while done < extent.count {
        let sectors = chunk_sectors.min(extent.count - done);
        let bytes = usize::try_from(sectors * sector_size).unwrap_or(0);
        // The extent is on the device, so no LBA in it leaves 64 bits.
        appliance.write(&extent.dev, Lba(extent.lba.0 + done), &chunk[..bytes])?;
        done += sectors;
    }
    Ok(())
}

/// The sectors, if they are on a device that may be written.
fn writable_extent<A: Appliance + ?Sized>(
    extent: Extent,
    force: bool,
    appliance: &mut A,
) -> Result<Extent, AdminError> {
    let device = appliance.device(&extent.dev)?;
    on_device(&extent, &device)?;
    writable(&extent.dev, &device, force)?;
    Ok(extent)
}

/// Refuses sectors that are not all on the device.
fn on_device(extent: &Extent, device: &Device) -> Result<(), AdminError> {
    let Extent { dev, lba: Lba(lba), count } = extent;
    match lba.checked_add(*count) {
        Some(end) if end <= device.sectors => Ok(()),
        _ => Err(AdminError::out_of_range(format!(
            "LBA {lba}, count {count}: past the end of {dev}, which has {} sectors",
            device.sectors
        ))),
    }
}

/// Refuses to write to a device that takes no writes, or under a consumer's feet.
fn writable(dev: &str, device: &Device, force: bool) -> Result<(), AdminError> {
    match &device.read_only {
        Some(why) => Err(AdminError::read_only(format!("{dev} is read-only: {why}"))),
        None if device.in_use && !force => {
            Err(AdminError::failed(format!("{dev} is in use by a consumer: -f writes to it all the same")))
        }
        None => Ok(()),
    }
}
