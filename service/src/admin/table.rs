//! The table of commands: what each is called, takes and does.
//!
//! The parser, its usage errors, `help` and completion all read this one table.

use alloc::format;
use alloc::string::{String, ToString as _};

use super::command::{
    BenchRequest, CheckNamespace, Command, CreateNamespace, Extent, LabelVersion, Lba, ListRequest, Mode,
    NamespaceMode, RegionType, WriteData,
};
use super::parse::Arguments;
use super::values;
use crate::error::AdminError;

/// A command as a person sees it.
#[derive(Debug)]
pub struct CommandSpec {
    /// Its first word.
    pub name: &'static str,
    /// What it does, in a line.
    pub summary: &'static str,
    /// The words it takes, in order; those that may be left out come last.
    pub words: &'static [WordSpec],
    /// The options it takes, in any place.
    pub options: &'static [OptionSpec],
    /// More that `help` says of it, or nothing. Lines end in a newline.
    pub details: &'static str,
    /// Makes the command of its arguments.
    pub(super) build: fn(&Arguments<'_>) -> Result<Command, AdminError>,
}

/// A word that a command takes.
#[derive(Debug)]
pub struct WordSpec {
    /// Its name, in capitals.
    pub name: &'static str,
    /// Whether the command needs it.
    pub required: bool,
    /// What it is.
    pub help: &'static str,
}

/// An option that a command takes.
#[derive(Debug)]
pub struct OptionSpec {
    /// Its letter, after one dash.
    pub short: Option<char>,
    /// Its name, after two dashes.
    pub long: &'static str,
    /// The name of its value, in capitals; None: it is a flag.
    pub value: Option<&'static str>,
    /// What it does.
    pub help: &'static str,
}

impl CommandSpec {
    /// The command of that name.
    #[must_use]
    pub fn find(name: &str) -> Option<&'static Self> {
        let name = if name == "?" { "help" } else { name };
        COMMANDS.iter().find(|spec| spec.name == name)
    }

    /// How it is written: `read DEV LBA [COUNT]`.
    #[must_use]
    pub fn synopsis(&self) -> String {
        let mut synopsis = self.name.to_string();
        for word in self.words {
            synopsis += &if word.required { format!(" {}", word.name) } else { format!(" [{}]", word.name) };
        }
        for option in self.options {
            synopsis += &format!(" [{}]", option.usage());
        }
        synopsis
    }
}

impl OptionSpec {
    /// The shorter of its two names, with the name of its value: `-l SECTOR`.
    #[must_use]
    pub fn usage(&self) -> String {
        let value = self.value.map(|value| format!(" {value}")).unwrap_or_default();
        match self.short {
            Some(short) => format!("-{short}{value}"),
            None => format!("--{}{value}", self.long),
        }
    }
}

const fn word(name: &'static str, help: &'static str) -> WordSpec {
    WordSpec { name, required: true, help }
}

const fn optional(name: &'static str, help: &'static str) -> WordSpec {
    WordSpec { name, required: false, help }
}

const fn flag(short: char, long: &'static str, help: &'static str) -> OptionSpec {
    OptionSpec { short: Some(short), long, value: None, help }
}

const fn option(short: char, long: &'static str, value: &'static str, help: &'static str) -> OptionSpec {
    OptionSpec { short: Some(short), long, value: Some(value), help }
}

const fn long_flag(long: &'static str, help: &'static str) -> OptionSpec {
    OptionSpec { short: None, long, value: None, help }
}

const fn long_option(long: &'static str, value: &'static str, help: &'static str) -> OptionSpec {
    OptionSpec { short: None, long, value: Some(value), help }
}

/// For commands that write to sectors.
const OVER_CONSUMERS: OptionSpec = flag('f', "force", "even if a consumer uses the device");

const DEV: WordSpec = word("DEV", "a block device by Linux's name: pmem0s, pmem0.1s, ndblk0.0s");
const LBA: WordSpec = word("LBA", "the first sector");
const COUNT: WordSpec = optional("COUNT", "how many sectors (1)");
const NAMESPACE: WordSpec = word("NS", "a namespace: namespace0.0");

/// Bytes of an external sector that BTTs are made with.
pub const SECTOR_SIZES: [u32; 7] = [512, 520, 528, 4096, 4104, 4160, 4224];

/// All commands, in the order of `help`.
pub static COMMANDS: &[CommandSpec] = &[
    CommandSpec {
        name: "help",
        summary: "list the commands, or explain one",
        words: &[optional("CMD", "the command to explain")],
        options: &[],
        details: "Numbers are decimal, or hexadecimal after 0x. Sizes may end in K, M, G or T (powers of 1024).\n\
                  Blanks separate words; '...' and \"...\" keep them together. -- ends the options.\n",
        build: |line| Ok(Command::Help { topic: line.word(0).map(Into::into) }),
    },
    CommandSpec {
        name: "version",
        summary: "which build this is",
        words: &[],
        options: &[],
        details: "",
        build: |_| Ok(Command::Version),
    },
    CommandSpec {
        name: "status",
        summary: "the machine and what it serves",
        words: &[],
        options: &[],
        details: "unclean_shutdowns_recovered: how often since boot a namespace was opened whose interrupted writes had to be\n\
                  finished. A power cut between two writes leaves none.\n",
        build: |_| Ok(Command::Status),
    },
    CommandSpec {
        name: "mode",
        summary: "talk as a console, as plain text, or in JSON lines",
        words: &[word("MODE", "console, text or json")],
        options: &[],
        details: "console: prompt, echo, line editing; replies for people.\n\
                  text: the same replies without prompt and echo, each followed by a line of the byte 0x1e and the\n\
                  exit status: 0 ok, 1 failed, 2 usage, 3 not found, 4 damaged.\n\
                  json: one object a line for each request line; never anything else.\n\
                  The reply to mode itself is already in the new mode.\n",
        build: |line| {
            Ok(Command::Mode(match line.required(0)? {
                "console" => Mode::Console,
                "text" => Mode::Text,
                "json" => Mode::Json,
                other => return Err(line.usage(format!("MODE: \"{other}\" is not console, text or json"))),
            }))
        },
    },
    CommandSpec {
        name: "list",
        summary: "buses, DIMMs, regions, namespaces, as ndctl list prints them",
        words: &[],
        options: &[
            flag('B', "buses", "include buses"),
            flag('D', "dimms", "include DIMMs"),
            flag('R', "regions", "include regions"),
            flag('N', "namespaces", "include namespaces (the default when no type is asked for)"),
            flag('i', "idle", "include what is disabled"),
            flag('H', "health", "include the DIMMs' health, where they can be asked"),
            flag('v', "verbose", "more detail; -vv all types, -vvv everything"),
        ],
        details: "Several types nest: namespaces in their region, DIMMs and regions in their bus.\n\
                  Prints nothing when there is nothing to list.\n",
        build: |line| {
            Ok(Command::List(ListRequest {
                buses: line.flag("buses"),
                dimms: line.flag("dimms"),
                regions: line.flag("regions"),
                namespaces: line.flag("namespaces"),
                idle: line.flag("idle"),
                health: line.flag("health"),
                verbose: line.times("verbose"),
            }))
        },
    },
    CommandSpec {
        name: "nfit",
        summary: "the firmware's NVDIMM table, decoded, with what was refused and why",
        words: &[],
        options: &[],
        details: "",
        build: |_| Ok(Command::Nfit),
    },
    CommandSpec {
        name: "arenas",
        summary: "a BTT's arenas, as Linux shows them under debugfs",
        words: &[NAMESPACE],
        options: &[],
        details: "",
        build: |line| Ok(Command::Arenas { namespace: line.required(0)?.into() }),
    },
    CommandSpec {
        name: "init-labels",
        summary: "write empty label index blocks, so that a DIMM can hold several namespaces",
        words: &[word("DIMM", "a DIMM: nmem0")],
        options: &[
            option('V', "label-version", "VERSION", "of the labels: 1.2 (the default) or 1.1"),
            flag('f', "force", "even over valid labels, or a namespace that is not blank"),
        ],
        details: "The namespaces on the DIMM are gone then: a region without labels is one namespace, one with labels has\n\
                  those that create-namespace makes. In labels 1.2 a BTT is of version 2.0, in labels 1.1 of 1.1.\n",
        build: |line| {
            let version = match line.value("label-version") {
                None | Some("1.2") => LabelVersion::V1_2,
                Some("1.1") => LabelVersion::V1_1,
                Some(other) => return Err(line.usage(format!("-V: \"{other}\" is not 1.1 or 1.2"))),
            };
            Ok(Command::InitLabels { dimm: line.required(0)?.into(), version, force: line.flag("force") })
        },
    },
    CommandSpec {
        name: "create-namespace",
        summary: "make a namespace and enable it",
        words: &[],
        options: &[
            option('r', "region", "REGION", "in this region (the first with room)"),
            option('t', "type", "TYPE", "in a region of this type: pmem or blk"),
            option('s', "size", "SIZE", "bytes, metadata included (all that is free)"),
            option('m', "mode", "MODE", "sector (the default) or raw"),
            option('l', "sector-size", "SECTOR", "bytes of a sector (4096): 512, 520, 528, 4096, 4104, 4160 or 4224"),
            option('n', "name", "NAME", "an alternative name, kept in the label"),
            option('u', "uuid", "UUID", "the uuid (a new one)"),
            flag('f', "force", "even over something recognisable; zeroes what could be read of it"),
            long_flag(
                "zero-entries",
                "let trim mark sectors in the map: fast, but today's Linux misreads some of them",
            ),
        ],
        details: "On a region without labels the whole region is the namespace; with -s or -n one whose DIMMs have blank\n\
                  label areas gets labels first. Sizes are multiples of the region's align (list -R).\n",
        build: create_namespace,
    },
    CommandSpec {
        name: "destroy-namespace",
        summary: "take a namespace's space back",
        words: &[NAMESPACE],
        options: &[flag('f', "force", "even if it is enabled")],
        details: "",
        build: |line| Ok(Command::DestroyNamespace { namespace: line.required(0)?.into(), force: line.flag("force") }),
    },
    CommandSpec {
        name: "enable-namespace",
        summary: "serve a namespace",
        words: &[NAMESPACE],
        options: &[],
        details: "",
        build: |line| Ok(Command::EnableNamespace { namespace: line.required(0)?.into() }),
    },
    CommandSpec {
        name: "disable-namespace",
        summary: "stop serving a namespace",
        words: &[NAMESPACE],
        options: &[],
        details: "",
        build: |line| Ok(Command::DisableNamespace { namespace: line.required(0)?.into() }),
    },
    CommandSpec {
        name: "check-namespace",
        summary: "check a BTT's metadata, all of it",
        words: &[NAMESPACE],
        options: &[
            flag('R', "repair", "repair what has one certain answer"),
            flag('L', "rewrite-log", "write the flog anew, one record a group: its old layout is gone then"),
            flag('f', "force", "with -R: make errors of the sectors whose content is not certain"),
            long_flag("portable", "write zeroes where sectors are trimmed in the map, and allow no more of that"),
        ],
        details: "Stores nothing without -R, -L or --portable; with one of them, the namespace is closed meanwhile.\n\
                  A power cut in a repair does no harm: do it again. Exit status 4: something is wrong and not repaired.\n",
        build: |line| {
            Ok(Command::CheckNamespace(CheckNamespace {
                namespace: line.required(0)?.into(),
                repair: line.flag("repair"),
                rewrite_log: line.flag("rewrite-log"),
                force: line.flag("force"),
                portable: line.flag("portable"),
            }))
        },
    },
    CommandSpec {
        name: "read",
        summary: "read sectors",
        words: &[DEV, LBA, COUNT],
        options: &[],
        details: "Whole external sectors, their metadata bytes last; at most 1 MiB.\n",
        build: |line| {
            let Extent { dev, lba, count } = extent(line)?;
            Ok(Command::Read { dev, lba, count })
        },
    },
    CommandSpec {
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
        build: write,
    },
    CommandSpec {
        name: "trim",
        summary: "forget sectors: they read as zeroes",
        words: &[DEV, LBA, word("COUNT", "how many sectors")],
        options: &[OVER_CONSUMERS],
        details: "Writes zeroes over what is not zero, or marks the sectors in the map where the namespace was made with\n\
                  --zero-entries. Durable when the reply is sent.\n",
        build: |line| Ok(Command::Trim { extent: extent(line)?, force: line.flag("force") }),
    },
    CommandSpec {
        name: "inject-error",
        summary: "make sectors fail to read, until written",
        words: &[DEV, LBA, COUNT],
        options: &[
            long_flag("media", "let the medium fail where the sectors lie, until they are written or the power goes"),
            OVER_CONSUMERS,
        ],
        details: "Marks the sectors as errors in the map, which Linux understands and which a restart keeps.\n",
        build: |line| {
            Ok(Command::InjectError { extent: extent(line)?, media: line.flag("media"), force: line.flag("force") })
        },
    },
    CommandSpec {
        name: "clear-errors",
        summary: "clear the errors of sectors: what they held is lost, they read as zeroes",
        words: &[DEV, LBA, COUNT],
        options: &[OVER_CONSUMERS],
        details: "Sectors without an error keep what they hold. Writing a sector clears its error, too.\n",
        build: |line| Ok(Command::ClearErrors { extent: extent(line)?, force: line.flag("force") }),
    },
    CommandSpec {
        name: "errors",
        summary: "list the sectors that fail to read",
        words: &[optional("DEV", "only this block device")],
        options: &[],
        details: "Sectors that the map marks as errors, and ranges of the namespace that the medium is known to have lost.\n",
        build: |line| Ok(Command::Errors { dev: line.word(0).map(Into::into) }),
    },
    CommandSpec {
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
        build: bench,
    },
    CommandSpec {
        name: "export",
        summary: "serve a device to another machine",
        words: &[DEV],
        options: &[],
        details: "",
        build: |line| Ok(Command::Export { dev: line.required(0)?.into() }),
    },
    CommandSpec {
        name: "unexport",
        summary: "stop serving it",
        words: &[DEV],
        options: &[],
        details: "",
        build: |line| Ok(Command::Unexport { dev: line.required(0)?.into() }),
    },
    CommandSpec {
        name: "stats",
        summary: "counters since boot",
        words: &[],
        options: &[long_flag("prometheus", "in Prometheus's text format")],
        details: "",
        build: |line| Ok(Command::Stats { prometheus: line.flag("prometheus") }),
    },
    CommandSpec {
        name: "trace",
        summary: "the newest events",
        words: &[],
        options: &[],
        details: "",
        build: |_| Ok(Command::Trace),
    },
    CommandSpec {
        name: "poweroff",
        summary: "make everything durable and stop the machine",
        words: &[],
        options: &[],
        details: "",
        build: |_| Ok(Command::Poweroff),
    },
    CommandSpec {
        name: "reboot",
        summary: "make everything durable and start the machine anew",
        words: &[],
        options: &[],
        details: "",
        build: |_| Ok(Command::Reboot),
    },
];

/// The words DEV LBA [COUNT].
fn extent(line: &Arguments<'_>) -> Result<Extent, AdminError> {
    Ok(Extent {
        dev: line.required(0)?.into(),
        lba: Lba(line.check(values::number("LBA", line.required(1)?))?),
        count: match line.word(2) {
            Some(count) => line.check(values::number_in("COUNT", count, 1, u64::MAX))?,
            None => 1,
        },
    })
}

fn create_namespace(line: &Arguments<'_>) -> Result<Command, AdminError> {
    let region_type = match line.value("type") {
        None => None,
        Some("pmem") => Some(RegionType::Pmem),
        Some("blk") => Some(RegionType::Blk),
        Some(other) => return Err(line.usage(format!("-t: \"{other}\" is not pmem or blk"))),
    };
    let mode = match line.value("mode") {
        None | Some("sector" | "safe") => NamespaceMode::Sector,
        Some("raw") => NamespaceMode::Raw,
        Some(other) => return Err(line.usage(format!("-m: \"{other}\" is not sector or raw"))),
    };
    let sector_size = match line.value("sector-size") {
        None => 4096,
        Some(text) => {
            let size = line.check(values::size("-l", text))?;
            SECTOR_SIZES.into_iter().find(|known| u64::from(*known) == size).ok_or_else(|| {
                line.usage(format!("-l: {text} is no sector size; use 512, 520, 528, 4096, 4104, 4160 or 4224"))
            })?
        }
    };
    let size_bytes = line.value("size").map(|text| line.check(values::size("-s", text))).transpose()?;
    Ok(Command::CreateNamespace(CreateNamespace {
        region: line.value("region").map(Into::into),
        region_type,
        size_bytes,
        mode,
        sector_size,
        name: line.value("name").map(Into::into),
        uuid: line.value("uuid").map(|text| line.check(values::uuid("-u", text))).transpose()?,
        force: line.flag("force"),
        zero_entries: line.flag("zero-entries"),
    }))
}

fn write(line: &Arguments<'_>) -> Result<Command, AdminError> {
    let dev = line.required(0)?.into();
    let lba = Lba(line.check(values::number("LBA", line.required(1)?))?);
    let data = match (line.value("data"), line.value("fill"), line.value("count")) {
        (Some(data), None, None) => WriteData::Bytes(line.check(values::base64("--data", data))?),
        (None, Some(byte), count) => WriteData::Fill {
            byte: line.check(values::number_in("--fill", byte, 0, u8::MAX))?,
            count: match count {
                Some(count) => line.check(values::number_in("--count", count, 1, u64::MAX))?,
                None => 1,
            },
        },
        (Some(_), None, Some(_)) => return Err(line.usage("--count goes with --fill; --data says itself how much")),
        _ => return Err(line.usage("give either --data or --fill")),
    };
    Ok(Command::Write { dev, lba, data, force: line.flag("force") })
}

fn bench(line: &Arguments<'_>) -> Result<Command, AdminError> {
    let verify = line.flag("verify");
    let number = |name: &str, option: &str, otherwise: u32, least: u32, most: u32| match line.value(option) {
        Some(text) => line.check(values::number_in(name, text, least, most)),
        None => Ok(otherwise),
    };
    let mix = line.value("mix").map_or("100", |mix| mix.strip_suffix('%').unwrap_or(mix));
    Ok(Command::Bench(BenchRequest {
        dev: line.required(0)?.into(),
        seconds: number("--seconds", "seconds", if verify { 0 } else { 5 }, 0, 86_400)?,
        seed: line.value("seed").map_or(Ok(1), |text| line.check(values::number("--seed", text)))?,
        mix_write_percent: line.check(values::number_in("--mix", mix, 0, 100))?,
        run: number("--run", "run", 1, 1, 256)?,
        verify,
        force: line.flag("force"),
    }))
}
