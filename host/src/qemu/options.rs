//! The options of `run-qemu.sh`, which are those of `untornctl qemu`. Their help is `help.txt`, which `run-qemu.sh` can
//! show before anything is built.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::dimm::DimmWords;
use super::net::NetWords;
use crate::append::Append;
use crate::export_words::{ConsumerRam, ExportWords};
use crate::quantity;
use crate::script::Script;

/// What `run-qemu.sh --help` shows.
pub const HELP: &str = include_str!("help.txt");

/// The least RAM that the image comes up with.
const MEMORY_BYTES_MIN: u64 = 32 << 20;

/// The options, as they were given.
#[derive(Debug, Args)]
pub struct Options {
    /// The NVDIMMs
    #[arg(long, value_name = "FILE", value_parser = DimmWords::parse, conflicts_with = "no_nvdimm")]
    pub nvdimm: Vec<DimmWords>,
    /// Files as virtio-pmem devices
    #[arg(long, value_name = "FILE", value_parser = DimmWords::parse_virtio_pmem)]
    pub virtio_pmem: Vec<DimmWords>,
    /// A file as a CXL device
    #[arg(long, value_name = "FILE", value_parser = DimmWords::parse_cxl)]
    pub cxl: Option<DimmWords>,
    /// Network devices
    #[arg(long, value_name = "NETDEV", value_parser = NetWords::parse)]
    pub net: Vec<NetWords>,
    /// No NVDIMM at all
    #[arg(long)]
    pub no_nvdimm: bool,
    /// How many processors
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = cpus)]
    pub cpus: u8,
    /// RAM in bytes
    #[arg(long, value_name = "S", default_value = "256M", value_parser = memory)]
    pub memory: u64,
    /// Who executes the processors' code
    #[arg(long, value_enum, default_value_t = Accel::Tcg)]
    pub accel: Accel,
    /// The way the image is started
    #[arg(long, value_enum, default_value_t = Boot::Pvh)]
    pub boot: Boot,
    /// The image's command line
    #[arg(long, value_name = "KEY=VALUE …", value_parser = Append::parse)]
    pub append: Option<Append>,
    /// Commands to run instead of giving the console
    #[arg(long, value_name = "CMD; CMD", allow_hyphen_values = true, value_parser = Script::parse)]
    pub exec: Option<Script>,
    /// Replies as JSON
    #[arg(long, requires = "exec")]
    pub json: bool,
    /// The disks for other machines
    #[arg(long, value_name = "SOCKET", value_parser = ExportWords::parse)]
    pub vhost_user: Vec<ExportWords>,
    /// The RAM of the consumer of the one disk that names none
    #[arg(long, value_name = "FILE,size=S", value_parser = ConsumerRam::parse, requires = "vhost_user")]
    pub consumer_ram: Vec<ConsumerRam>,
    /// A socket for admin commands
    #[arg(long, value_name = "SOCKET", conflicts_with = "exec")]
    pub admin: Option<PathBuf>,
    /// Commands by a virtio-serial port
    #[arg(long)]
    pub admin_port: bool,
    /// How long requests wait for an appliance that is gone
    #[arg(long, value_name = "S", value_parser = quantity::seconds)]
    pub hold: Option<Duration>,
    /// A bound on the whole run
    #[arg(long, value_name = "S", value_parser = quantity::seconds)]
    pub timeout: Option<Duration>,
    /// More arguments for QEMU
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    pub qemu_arg: Vec<OsString>,
    /// For run-qemu.sh, which builds
    #[arg(long)]
    pub no_build: bool,
    /// Prints QEMU's command line
    #[arg(long)]
    pub dry_run: bool,
    /// Cargo's target directory: the image is there, and what a plain run makes
    #[arg(long, value_name = "FOLDER", default_value = "target", hide = true)]
    pub target: String,
    /// When the run began, in seconds since 1970: --timeout counts from there
    #[arg(long, value_name = "S", value_parser = quantity::seconds, hide = true)]
    pub since: Option<Duration>,
}

/// Who executes the processors' code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Accel {
    /// QEMU itself.
    Tcg,
    /// The host's processor.
    Kvm,
}

impl Accel {
    /// QEMU's word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Tcg => "tcg",
            Self::Kvm => "kvm",
        }
    }
}

/// The way the image is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Boot {
    /// By QEMU's own loader, at the image's PVH entry.
    Pvh,
    /// By SeaBIOS and GRUB, from a CD.
    Bios,
    /// By UEFI firmware (OVMF), as a native program.
    Uefi,
}

fn cpus(text: &str) -> Result<u8, String> {
    text.parse().ok().filter(|cpus| *cpus > 0).ok_or_else(|| "it is no number from 1 to 255".into())
}

fn memory(text: &str) -> Result<u64, String> {
    let bytes = quantity::bytes(text)?;
    if bytes < MEMORY_BYTES_MIN || !bytes.is_multiple_of(1 << 20) {
        return Err(format!("'{text}' is not a multiple of 1M from 32M up"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::HELP;
    use crate::options::Cli;

    #[test]
    fn the_help_has_every_option_that_is_understood_and_no_other() {
        let cli = Cli::command();
        let qemu = cli.find_subcommand("qemu").expect("it is one");
        let mut understood: Vec<String> = qemu
            .get_arguments()
            .filter(|option| !option.is_hide_set())
            .map(|option| format!("--{}", option.get_long().expect("each has a long name")))
            .collect();
        understood.push("--help".into());
        let mut explained: Vec<String> = HELP
            .lines()
            .filter_map(|line| line.strip_prefix("  --"))
            .map(|line| format!("--{}", line.split(' ').next().unwrap_or_default()))
            .collect();
        understood.sort();
        explained.sort();
        assert_eq!(explained, understood);
        for option in qemu.get_arguments() {
            let values: Vec<_> = option.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect();
            let takes_value = option.get_action().takes_values();
            if takes_value && !values.is_empty() {
                let line = format!("--{} {} ", option.get_long().expect("each has a long name"), values.join("|"));
                assert!(HELP.contains(&line), "{line}");
            }
        }
    }
}
