//! Boots the appliance on a DIMM behind block data windows, a model of which runs here, beside an unmodified QEMU.
//!
//! `blk-dimm --media FILE [--size S] [--windows N] [--memory FILE] [--hybrid] [--pending N] [-- OPTION...]`: the options
//! behind `--` are `run-qemu.sh`'s.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use host::appliance::{die_with_parent, hand_over};
use tests::blk::beside::Beside;
use tests::workspace;

/// Boots the appliance on a DIMM behind block data windows.
#[derive(Parser)]
struct Arguments {
    /// The DIMM's media: made if absent.
    #[arg(long)]
    media: PathBuf,
    /// Their size in MiB, if they are to be made.
    #[arg(long, default_value_t = 32)]
    size: u64,
    /// How many windows the DIMM has.
    #[arg(long, default_value_t = 2)]
    windows: u16,
    /// A file of persistent memory to have beside it.
    #[arg(long)]
    memory: Option<PathBuf>,
    /// The apertures are memory that QEMU has, too: fast, but stores to them are not seen one by one.
    #[arg(long)]
    hybrid: bool,
    /// How often a status is pending before a command is done.
    #[arg(long, default_value_t = 0)]
    pending: u32,
    /// Options for run-qemu.sh.
    #[arg(last = true)]
    options: Vec<String>,
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(status) => status,
        Err(why) => {
            eprintln!("blk-dimm: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> std::io::Result<ExitCode> {
    if !arguments.media.exists() {
        File::create(&arguments.media)?.set_len(arguments.size << 20)?;
    }
    let absolute = |path: PathBuf| std::path::absolute(path);
    let mut beside = Beside::new(&absolute(arguments.media)?, arguments.windows);
    beside.memory = arguments.memory.map(absolute).transpose()?;
    beside.hybrid = arguments.hybrid;
    beside.layout.buffered = arguments.pending > 0;
    let plug = beside.plug();
    plug.dimm.model().faults.pending_polls = arguments.pending;

    let mut command = workspace::command("./run-qemu.sh");
    command.envs(plug.environment()).arg("--no-nvdimm").args(&arguments.options);
    let place = File::open("/dev/null")?;
    for argument in plug.arguments(place.as_raw_fd()) {
        command.args(["--qemu-arg", &argument]);
    }
    hand_over(&mut command, plug.serve(), place.as_raw_fd());
    die_with_parent(&mut command);
    let status = command.status()?;
    let model = plug.dimm.model();
    eprintln!("blk-dimm: {} commands, {} stores to apertures", model.commands(), model.stores());
    if model.strays() > 0 {
        eprintln!("blk-dimm: {} accesses that no driver may make", model.strays());
    }
    Ok(ExitCode::from(u8::try_from(status.code().unwrap_or(1)).unwrap_or(1)))
}
