//! The sectors of block devices: `read`, `write`, `trim`, `inject-error`, `clear-errors`, `errors`, `bench`.
//!
//! A command looks its device up once. What needs no machine is done here, before the device is touched: the sectors must
//! be on the device, a device that takes no writes or that a consumer uses is left alone, a reply has a bound.

pub mod bench;
pub mod errors;
pub mod write;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use crate::admin::grammar::{Arguments, CommandSpec, DEV, OptionSpec, WordSpec};
use crate::admin::grammar::{flag, long_flag, long_option, optional, word};
use crate::admin::hexdump::hexdump;
use crate::admin::job::{Job, JobWork, Pauses};
use crate::admin::reply::{Object, Outcome, Reply};
use crate::admin::request::{Command, Parsed, Request, Step};
use crate::admin::{text, values};
use crate::error::AdminError;
use crate::lba::Lba;
use bench::{Bench, BenchRequest};
use errors::Errors;
use write::{Write, WriteData};

/// The most data of one `read`, bytes.
pub const READ_BYTES_MAX: u64 = 1 << 20;

/// The most that `write --fill` stores at once, bytes.
const FILL_CHUNK_BYTES: u64 = 64 << 10;

/// The most sectors of a request that is one step: as many as a long command changes before others have their turn.
pub const STEP_SECTORS_MAX: u64 = 32;

/// The block devices.
pub trait SectorAdmin {
    /// The block device of that name.
    ///
    /// # Errors
    /// Not found: there is no such device, or it has no sectors (for an unformatted namespace, the message names
    /// create-namespace); damaged or failed, where its namespace cannot be opened.
    fn device(&self, dev: &str) -> Result<Box<dyn BlockDevice + '_>, AdminError>;

    /// Whether no command has the block device of that name in hand.
    fn is_free(&self, dev: &str) -> bool;

    /// Takes the block device of that name in hand for a job. `None`: a command has it in hand.
    ///
    /// # Errors
    /// As [`SectorAdmin::device`].
    fn device_for_job(&self, dev: &str) -> Option<Result<Box<dyn JobDevice>, AdminError>>;

    /// Whether a command waits until no other one has this device, or one of all, in hand.
    fn is_awaited(&self, dev: Option<&str>) -> bool;

    /// The work that finds what is known to be lost, of all devices or of one. None of them is closed meanwhile.
    ///
    /// # Errors
    /// Not found. The work's: damaged, if a map could not be read.
    fn errors(&self, dev: Option<&str>) -> Result<JobWork<Errors>, AdminError>;

    /// What a command that is no job does between two steps.
    fn pauses(&self) -> &dyn Pauses;
}

/// A block device that a job has in hand.
pub trait JobDevice: Send {
    /// The device, with what the job does between two steps.
    fn open<'a>(self: Box<Self>, pauses: &'a dyn Pauses) -> Box<dyn BlockDevice + 'a>;
}

/// A block device in the hands of one command.
///
/// The caller passes whole sectors that are all on the device, and changes nothing on one that is read-only.
pub trait BlockDevice {
    /// Bytes of an external sector, metadata bytes included: 512, 520, 528, 4096, …
    fn sector_bytes(&self) -> u32;

    /// How many sectors it has.
    fn sectors(&self) -> u64;

    /// Why it takes no writes at all, if so.
    fn read_only(&self) -> Option<String>;

    /// Whether a consumer uses it: has it, not just may have it.
    fn is_in_use(&self) -> bool;

    /// The name of the content that is recognised on it (`an XFS file system`).
    fn content(&mut self) -> Option<&'static str>;

    /// Reads sectors from `lba` on: whole external sectors, metadata bytes last. At most [`READ_BYTES_MAX`].
    ///
    /// # Errors
    /// Failed or damaged, with the first LBA that could not be read.
    fn read(&mut self, lba: Lba, into: &mut [u8]) -> Result<(), AdminError>;

    /// Writes sectors from `lba` on; durable when it returns.
    ///
    /// # Errors
    /// Failed, damaged or read-only, with the first LBA that was not written; those before it may have been.
    fn write(&mut self, lba: Lba, from: &[u8]) -> Result<(), AdminError>;

    /// Called between two steps of a command that goes on and on, when so many of its sectors are written: others have their
    /// turn. Returns false if the command is to end.
    fn goes_on(&mut self, done: u64, count: u64) -> bool;

    /// Makes `count` sectors from `lba` on read as zeroes; durable when it returns.
    ///
    /// # Errors
    /// As [`BlockDevice::write`].
    fn trim(&mut self, lba: Lba, count: u64) -> Result<(), AdminError>;

    /// Makes sectors fail to read, until they are written: by the map, durable when it returns, or if `media` by letting
    /// the medium fail where they lie now, until the power goes.
    ///
    /// # Errors
    /// As [`BlockDevice::write`].
    fn inject_error(&mut self, lba: Lba, count: u64, media: bool) -> Result<(), AdminError>;

    /// Clears the errors of sectors: those that had one read as zeroes then. Durable when it returns.
    ///
    /// # Errors
    /// As [`BlockDevice::write`].
    fn clear_errors(&mut self, lba: Lba, count: u64) -> Result<(), AdminError>;

    /// Loads it on all CPUs for `request.seconds`, with sectors of [`crate::pattern`], then verifies if asked to. Returns
    /// when all of it is done.
    ///
    /// # Errors
    /// Read-only; failed, if it could not start. Errors of single runs are counted.
    fn bench(&mut self, request: &BenchRequest) -> Result<Bench, AdminError>;
}

const LBA: WordSpec = word("LBA", "the first sector");
const COUNT: WordSpec = optional("COUNT", "how many sectors (1)");

/// For commands that write to sectors.
const OVER_CONSUMERS: OptionSpec = flag('f', "force", "even if a consumer uses the device");

/// The part of the appliance that the commands are for.
pub type Part = dyn SectorAdmin;

/// The commands.
pub static COMMANDS: &[Command<Part>] = &[
    Command {
        spec: CommandSpec {
            name: "read",
            summary: "read sectors",
            words: &[DEV, LBA, COUNT],
            options: &[],
            details: "Whole external sectors, their metadata bytes last; at most 1 MiB.\n",
        },
        parse: |line| Ok(Box::new(OnDevice(Read(SectorRange::parse(line)?)))),
    },
    Command {
        spec: CommandSpec {
            name: "write",
            summary: "write sectors; durable when the reply is sent",
            words: &[DEV, LBA],
            options: &[
                long_option("data", "BASE64", "these bytes: whole sectors, metadata bytes last"),
                long_option("fill", "BYTE", "sectors of this byte"),
                long_option("count", "N", "how many sectors --fill fills (1)"),
                OVER_CONSUMERS,
            ],
            details: "Either --data or --fill.\n",
        },
        parse: |line| Ok(Box::new(OnDevice(Write::parse(line)?))),
    },
    Command {
        spec: CommandSpec {
            name: "trim",
            summary: "forget sectors: they read as zeroes",
            words: &[DEV, LBA, word("COUNT", "how many sectors")],
            options: &[OVER_CONSUMERS],
            details: "Writes zeroes over what is not zero, or marks the sectors in the map where the namespace was made with\n\
                      --zero-entries. Durable when the reply is sent.\n",
        },
        parse: |line| SectorRange::parse_change(line, ChangeKind::Trim),
    },
    Command {
        spec: CommandSpec {
            name: "inject-error",
            summary: "make sectors fail to read, until written",
            words: &[DEV, LBA, COUNT],
            options: &[
                long_flag(
                    "media",
                    "let the medium fail where the sectors lie, until they are written or the power goes",
                ),
                OVER_CONSUMERS,
            ],
            details: "Marks the sectors as errors in the map, which Linux understands and which a restart keeps.\n",
        },
        parse: |line| SectorRange::parse_change(line, ChangeKind::InjectError { media: line.flag("media") }),
    },
    Command {
        spec: CommandSpec {
            name: "clear-errors",
            summary: "clear the errors of sectors: what they held is lost, they read as zeroes",
            words: &[DEV, LBA, COUNT],
            options: &[OVER_CONSUMERS],
            details: "Sectors without an error keep what they hold. Writing a sector clears its error, too.\n",
        },
        parse: |line| SectorRange::parse_change(line, ChangeKind::ClearErrors),
    },
    Command {
        spec: CommandSpec {
            name: "errors",
            summary: "list the sectors that fail to read",
            words: &[optional("DEV", "only this block device")],
            options: &[],
            details: "Sectors that the map marks as errors, and ranges of the namespace that the medium is known to have lost.\n",
        },
        parse: |line| Ok(Box::new(ShowErrors { dev: line.word(0).map(Into::into) })),
    },
    Command {
        spec: CommandSpec {
            name: "bench",
            summary: "load a device from all CPUs, or verify what a load wrote. Overwrites its data",
            words: &[DEV],
            options: &[
                long_option("seconds", "N", "how long (5, or 0 with --verify)"),
                long_option("seed", "S", "the seed of the pattern and of the choice of sectors (1)"),
                long_option("mix", "W%", "how many of a hundred runs write (100)"),
                long_option("run", "N", "sectors a run (1)"),
                long_flag("verify", "then read every sector and judge it"),
                flag('f', "force", "even if a consumer uses the device, or a file system or partition table is on it"),
            ],
            details: "Every sector written tells its LBA, its version and the seed, and whether it is whole: --verify with the\n\
                      same seed finds torn and misplaced sectors after a power cut. Exit status 4: it found some.\n",
        },
        parse: |line| Ok(Box::new(BenchRequest::parse(line)?)),
    },
];

/// Sectors of a block device that follow one another.
#[derive(Clone, Debug, Serialize)]
pub struct SectorRange {
    /// The block device.
    pub dev: String,
    /// The first sector.
    pub lba: Lba,
    /// How many; at least 1.
    pub count: u64,
}

/// `read`.
#[derive(Clone, Debug)]
pub struct Read(pub SectorRange);

/// `trim`, `inject-error`, `clear-errors`.
#[derive(Clone, Debug)]
pub struct Change {
    /// The sectors.
    pub range: SectorRange,
    /// What is done to them.
    pub what: ChangeKind,
    /// `-f`.
    pub force: bool,
}

/// What is done to sectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// They read as zeroes.
    Trim,
    /// They fail to read.
    InjectError {
        /// `--media`: the medium fails, not the map.
        media: bool,
    },
    /// They fail no more.
    ClearErrors,
}

/// `errors`.
#[derive(Debug)]
pub struct ShowErrors {
    /// Only this block device.
    pub dev: Option<String>,
}

impl SectorRange {
    /// The words DEV LBA [COUNT].
    fn parse(line: &Arguments<'_>) -> Result<Self, AdminError> {
        Ok(Self {
            dev: line.required(0)?.into(),
            lba: Lba(line.check(values::number("LBA", line.required(1)?))?),
            count: match line.word(2) {
                Some(count) => line.check(values::number_in("COUNT", count, 1, u64::MAX))?,
                None => 1,
            },
        })
    }

    /// The words DEV LBA [COUNT] and `-f`, of a command that changes the sectors.
    fn parse_change(line: &Arguments<'_>, what: ChangeKind) -> Parsed<Part> {
        let (range, force) = (Self::parse(line)?, line.flag("force"));
        Ok(Box::new(OnDevice(Change { range, what, force })))
    }

    /// Whether they are no more than a step.
    const fn is_step(&self) -> bool {
        self.count <= STEP_SECTORS_MAX
    }

    /// Refuses sectors that are not all on the device.
    fn check(&self, device: &dyn BlockDevice) -> Result<(), AdminError> {
        let (Self { dev, lba: Lba(lba), count }, sectors) = (self, device.sectors());
        match lba.checked_add(*count) {
            Some(end) if end <= sectors => Ok(()),
            _ => Err(AdminError::out_of_range(format!(
                "LBA {lba}, count {count}: past the end of {dev}, which has {sectors} sectors"
            ))),
        }
    }

    /// Refuses sectors that are not all on the device, and those that are not to be written.
    fn check_change(&self, device: &dyn BlockDevice, force: bool) -> Result<(), AdminError> {
        self.check(device)?;
        check_writable(&self.dev, device, force)
    }
}

/// Refuses to write to a device that takes no writes, or that a consumer uses unless `force` is set.
fn check_writable(dev: &str, device: &dyn BlockDevice, force: bool) -> Result<(), AdminError> {
    match device.read_only() {
        Some(why) => Err(AdminError::read_only(format!("{dev} is read-only: {why}"))),
        None if device.is_in_use() && !force => {
            Err(AdminError::failed(format!("{dev} is in use by a consumer: -f writes to it all the same")))
        }
        None => Ok(()),
    }
}

/// What is done to sectors of one device.
pub trait Work: fmt::Debug + Clone + Send {
    /// The device's name.
    fn dev(&self) -> &str;

    /// Whether it is no more than a step.
    fn is_step(&self) -> bool;

    /// As [`Request::is_change`].
    fn is_change(&self) -> bool {
        false
    }

    /// Does it.
    ///
    /// # Errors
    /// As [`Request::execute`].
    fn carry_out(&self, device: &mut dyn BlockDevice) -> Result<Outcome, AdminError>;
}

/// The request for it.
#[derive(Debug)]
pub struct OnDevice<W>(pub W);

impl<W: Work + 'static> Request<Part> for OnDevice<W> {
    fn execute(self: Box<Self>, part: &mut Part) -> Result<Outcome, AdminError> {
        self.0.carry_out(&mut *part.device(self.0.dev())?)
    }

    fn as_step(&self) -> Option<&dyn Step<Part>> {
        self.0.is_step().then_some(self)
    }

    fn as_job(&self) -> Option<&dyn Job<Part>> {
        (!self.0.is_step()).then_some(self)
    }

    fn is_change(&self) -> bool {
        self.0.is_change()
    }
}

impl<W: Work + 'static> Step<Part> for OnDevice<W> {
    fn device(&self) -> &str {
        self.0.dev()
    }

    fn step(&self, part: &Part) -> Option<Result<Outcome, AdminError>> {
        part.is_free(self.0.dev()).then(|| self.0.carry_out(&mut *part.device(self.0.dev())?))
    }
}

impl<W: Work + 'static> Job<Part> for OnDevice<W> {
    fn device(&self) -> Option<&str> {
        Some(self.0.dev())
    }

    fn begin(&self, part: &Part) -> Option<Result<JobWork<Outcome>, AdminError>> {
        let work = self.0.clone();
        let begun = |device: Box<dyn JobDevice>| -> JobWork<Outcome> {
            Box::new(move |pauses| work.carry_out(&mut *device.open(pauses)))
        };
        Some(part.device_for_job(self.0.dev())?.map(begun))
    }
}

impl Work for Read {
    fn dev(&self) -> &str {
        &self.0.dev
    }

    fn is_step(&self) -> bool {
        self.0.is_step()
    }

    fn carry_out(&self, device: &mut dyn BlockDevice) -> Result<Outcome, AdminError> {
        let Self(range) = self;
        range.check(device)?;
        let sector_size = device.sector_bytes();
        let most = READ_BYTES_MAX / u64::from(sector_size);
        if range.count > most {
            let message = format!("{} sectors of {sector_size} bytes are more than 1 MiB", range.count);
            return Err(AdminError::too_long(format!("{message}: read at most {most} at once")));
        }
        let bytes = usize::try_from(range.count * u64::from(sector_size)).expect("at most READ_BYTES_MAX");
        let mut data = Vec::new();
        data.try_reserve_exact(bytes)
            .map_err(|_| AdminError::failed(format!("no memory for {bytes} bytes: read fewer sectors at once")))?;
        data.resize(bytes, 0);
        device.read(range.lba, &mut data)?;
        Ok(Data { range: range.clone(), sector_size, bytes: data }.into())
    }
}

impl Work for Write {
    fn dev(&self) -> &str {
        &self.dev
    }

    fn is_step(&self) -> bool {
        match &self.data {
            // A line has no room for more bytes than a step moves.
            WriteData::Bytes(_) => true,
            WriteData::Fill { count, .. } => *count <= STEP_SECTORS_MAX,
        }
    }

    fn carry_out(&self, device: &mut dyn BlockDevice) -> Result<Outcome, AdminError> {
        let count = self.count(device.sector_bytes().into())?;
        let range = SectorRange { dev: self.dev.clone(), lba: self.lba, count };
        range.check_change(device, self.force)?;
        match &self.data {
            WriteData::Bytes(bytes) => device.write(self.lba, bytes)?,
            WriteData::Fill { byte, .. } => fill(device, &range, *byte)?,
        }
        Ok(Done { range, state: "written" }.into())
    }
}

/// Fills sectors, which are all on the device, by chunks.
fn fill(device: &mut dyn BlockDevice, range: &SectorRange, byte: u8) -> Result<(), AdminError> {
    let sector_bytes = u64::from(device.sector_bytes());
    let chunk_sectors = (FILL_CHUNK_BYTES / sector_bytes).clamp(1, range.count);
    let bytes = |sectors: u64| usize::try_from(sectors * sector_bytes).expect("at most a chunk, or one sector");
    let chunk = vec![byte; bytes(chunk_sectors)];
    let mut done = 0;
    while done < range.count {
        let sectors = chunk_sectors.min(range.count - done);
        device.write(Lba(range.lba.0 + done), &chunk[..bytes(sectors)])?;
        done += sectors;
        if !device.goes_on(done, range.count) && done < range.count {
            let message = format!("{}: ended after {done} of {} sectors", range.dev, range.count);
            return Err(AdminError::interrupted(format!("{message} from LBA {} on", range.lba.0)));
        }
    }
    Ok(())
}

impl Work for Change {
    fn dev(&self) -> &str {
        &self.range.dev
    }

    fn is_step(&self) -> bool {
        self.range.is_step()
    }

    fn is_change(&self) -> bool {
        self.what != ChangeKind::Trim
    }

    fn carry_out(&self, device: &mut dyn BlockDevice) -> Result<Outcome, AdminError> {
        let Self { range, what, force } = self;
        range.check_change(device, *force)?;
        let (lba, count) = (range.lba, range.count);
        let state = match *what {
            ChangeKind::Trim => device.trim(lba, count).map(|()| "trimmed"),
            ChangeKind::InjectError { media } => device.inject_error(lba, count, media).map(|()| "in error"),
            ChangeKind::ClearErrors => device.clear_errors(lba, count).map(|()| "without errors"),
        }?;
        Ok(Done { range: range.clone(), state }.into())
    }
}

impl Request<Part> for ShowErrors {
    fn is_change(&self) -> bool {
        false
    }

    fn execute(self: Box<Self>, part: &mut Part) -> Result<Outcome, AdminError> {
        let work = part.errors(self.dev.as_deref())?;
        Ok(work(part.pauses())?.into())
    }

    fn as_job(&self) -> Option<&dyn Job<Part>> {
        Some(self)
    }
}

impl Job<Part> for ShowErrors {
    fn device(&self) -> Option<&str> {
        self.dev.as_deref()
    }

    fn begin(&self, part: &Part) -> Option<Result<JobWork<Outcome>, AdminError>> {
        if part.is_awaited(self.dev.as_deref()) {
            return None;
        }
        if part.is_awaited(self.dev.as_deref()) {
            return None;
        }
        Some(
            part.errors(self.dev.as_deref())
                .map(|work| -> JobWork<Outcome> { Box::new(|pauses| Ok(work(pauses)?.into())) }),
        )
    }
}

impl Request<Part> for BenchRequest {
    fn is_change(&self) -> bool {
        false
    }

    fn execute(self: Box<Self>, part: &mut Part) -> Result<Outcome, AdminError> {
        let mut device = part.device(&self.dev)?;
        if self.writes() {
            check_writable(&self.dev, &*device, self.force)?;
            if let Some(what) = device.content().filter(|_| !self.force) {
                let dev = &self.dev;
                return Err(AdminError::failed(format!("{dev} holds {what}: -f overwrites it all the same")));
            }
        }
        Ok(device.bench(&self)?.into())
    }
}

/// The reply to `read`.
#[derive(Debug)]
struct Data {
    range: SectorRange,
    sector_size: u32,
    /// The sectors, one after another.
    bytes: Vec<u8>,
}

impl Reply for Data {
    fn text(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        hexdump(&self.bytes, out)
    }

    fn json(&self, object: &mut Object<'_>) -> fmt::Result {
        object.members(&self.range)?;
        object.member("sector_size", &self.sector_size)?;
        // Encoded as it is sent: there is no second copy of a megabyte.
        object.raw_member("data", format_args!("\"{}\"", Base64Display::new(&self.bytes, &STANDARD)))
    }
}

/// The reply to a command that changed sectors.
#[derive(Debug)]
struct Done {
    range: SectorRange,
    /// What they are now, in a word.
    state: &'static str,
}

impl Reply for Done {
    fn text(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        let SectorRange { dev, lba, count } = &self.range;
        writeln!(out, "{dev} from LBA {} on: {} {}", lba.0, text::sectors(*count), self.state)
    }

    fn json(&self, object: &mut Object<'_>) -> fmt::Result {
        object.members(&self.range)
    }
}

/// The error for a name that names no block device.
#[must_use]
pub fn no_such_device(dev: &str) -> AdminError {
    AdminError::not_found(format!("no block device \"{dev}\": list shows what there is"))
}
