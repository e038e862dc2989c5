//! What `untornctl` understands on its command line.

use std::ffi::OsString;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use crate::bridge::ExportSpec;

/// Runs an untorn appliance, serves its disks to other machines, and asks it for admin commands
///
/// Exit status: 0 ok; 1 failed; 2 usage; 3 not found; 4 media or metadata damaged; 5 no connection or no answer; 124
/// --timeout struck; 143 ended by a signal.
#[derive(Debug, Parser)]
#[command(version, name = "untornctl")]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Starts an appliance, runs admin commands on it, and powers it off
    ///
    /// All commands are run, in order, also after one failed. Only their replies go to standard output. The exit
    /// status is that of the first command that failed, else 0.
    Exec {
        /// Commands, separated by semicolons
        #[arg(long, value_name = "CMD; CMD")]
        commands: String,
        /// Replies as JSON, one object a line
        #[arg(long)]
        json: bool,
        /// How to start it.
        #[command(flatten)]
        start: Start,
    },
    /// Starts an appliance and gives its console
    ///
    /// `poweroff` ends it, and Ctrl-] pulls the plug.
    Console {
        /// Formats the namespace if it is blank
        #[arg(long)]
        format_blank: bool,
        /// How to start it.
        #[command(flatten)]
        start: Start,
    },
    /// Starts an appliance as a service: its console is shown, and nobody types at it
    ///
    /// Ends when the appliance powers off. While it serves disks, it is started anew when it ends in any other way.
    Run {
        /// How to start it.
        #[command(flatten)]
        start: Start,
    },
    /// Asks for the machine and what it serves
    Status(#[command(flatten)] Ask),
    /// Lists what there is, as ndctl does
    List {
        /// Whom to ask.
        #[command(flatten)]
        ask: Ask,
        /// Options of the appliance's list: -B -D -R -N -i -H -v
        #[arg(allow_hyphen_values = true, trailing_var_arg = true, value_name = "OPTION")]
        options: Vec<String>,
    },
    /// Reads sectors
    Read {
        /// Whom to ask.
        #[command(flatten)]
        ask: Ask,
        /// The sectors' bytes and nothing else
        #[arg(long, conflicts_with = "json")]
        raw: bool,
        /// A block device: pmem0s
        dev: String,
        /// The first sector
        lba: u64,
        /// How many
        #[arg(default_value_t = 1)]
        count: u64,
    },
    /// Writes sectors; they are durable when it ends
    Write {
        /// Whom to ask.
        #[command(flatten)]
        ask: Ask,
        /// A block device: pmem0s
        dev: String,
        /// The first sector
        lba: u64,
        /// Whole sectors in base64; without it and --fill the bytes of standard input are written
        #[arg(long, value_name = "BASE64", conflicts_with = "fill")]
        data: Option<String>,
        /// A byte that the sectors are filled with
        #[arg(long, value_name = "BYTE")]
        fill: Option<u8>,
        /// How many sectors to fill
        #[arg(long, value_name = "N", requires = "fill")]
        count: Option<u64>,
    },
    /// Offers a disk to other machines
    Export {
        /// Whom to ask.
        #[command(flatten)]
        ask: Ask,
        /// A block device: pmem0s
        dev: String,
    },
    /// Withdraws a disk from other machines
    Unexport {
        /// Whom to ask.
        #[command(flatten)]
        ask: Ask,
        /// A block device: pmem0s
        dev: String,
    },
    /// Asks for any admin command, as on the console (`admin help` lists them)
    Admin {
        /// Whom to ask.
        #[command(flatten)]
        ask: Ask,
        /// The command and its words
        #[arg(allow_hyphen_values = true, trailing_var_arg = true, required = true, value_name = "COMMAND")]
        words: Vec<String>,
    },
    /// Writes what a shell needs to complete our words
    Completions {
        /// Which shell
        shell: Shell,
    },
}

/// Whom to ask, and for what form of the reply.
#[derive(Debug, Args)]
pub struct Ask {
    /// The running appliance's admin socket
    #[arg(long, env = "UNTORN_SOCKET", value_name = "SOCKET", default_value_os_t = default_socket())]
    pub socket: PathBuf,
    /// The reply as one line of JSON
    #[arg(long)]
    pub json: bool,
    /// How long to wait for the reply, in seconds
    #[arg(long, value_name = "S", value_parser = seconds)]
    pub timeout: Option<Duration>,
}

/// How an appliance is started.
#[derive(Debug, Args)]
pub struct Start {
    /// A bound on the whole run, in seconds
    #[arg(long, value_name = "S", value_parser = seconds)]
    pub timeout: Option<Duration>,
    /// A socket for admin commands while it runs
    #[arg(long, value_name = "SOCKET")]
    pub admin: Option<PathBuf>,
    /// A disk for another machine, with that machine's RAM; may be given several times
    ///
    /// size is that machine's RAM: bytes, or a number with K, M, G or T. Files with the same name are the same machine.
    #[arg(long, value_name = "SOCKET[,dev=DEV],ram=FILE,size=S", value_parser = export)]
    pub vhost_user: Vec<ExportSpec>,
    /// How long that machine's requests wait when the appliance is gone, in seconds; then they fail until it is back
    #[arg(long, value_name = "S", value_parser = seconds, default_value = "30")]
    pub hold: Duration,
    /// The descriptor by which PROGRAM finds the socket for the appliance's second serial port; open already
    #[arg(long, value_name = "FD")]
    pub control_fd: Option<RawFd>,
    /// The same for its ivshmem devices, one for each RAM file, in their order
    #[arg(long, value_name = "FD")]
    pub ivshmem_fd: Vec<RawFd>,
    /// The program that is the appliance, its console on standard input and output
    #[arg(last = true, required = true, value_name = "PROGRAM")]
    pub program: Vec<OsString>,
}

/// The admin socket that is meant when nobody names one.
#[must_use]
pub fn default_socket() -> PathBuf {
    let folder = std::env::var_os("XDG_RUNTIME_DIR").filter(|folder| !folder.is_empty());
    PathBuf::from(folder.unwrap_or_else(|| "/run".into())).join("untorn.sock")
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().map_err(|_| format!("'{text}' is not a number of seconds"))?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

fn bytes(text: &str) -> Result<u64, String> {
    let number = text.trim_end_matches(['K', 'M', 'G', 'T']);
    let shift = match &text[number.len()..] {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return Err(format!("'{text}' is not a size")),
    };
    let bytes = number.parse().ok().and_then(|number: u64| number.checked_mul(1 << shift));
    bytes.ok_or(format!("'{text}' is not a size like 4096, 64M or 2T"))
}

fn export(text: &str) -> Result<ExportSpec, String> {
    let mut fields = text.split(',');
    let socket = fields.next().filter(|socket| !socket.is_empty()).ok_or("it names no socket")?;
    let (mut dev, mut ram, mut size) = (None, None, None);
    for field in fields {
        match field.split_once('=') {
            Some(("dev", name)) if !name.is_empty() => dev = Some(name.to_owned()),
            Some(("ram", file)) if !file.is_empty() => ram = Some(file),
            Some(("size", text)) => size = Some(bytes(text)?),
            _ => return Err(format!("'{field}' is none of dev=DEV, ram=FILE and size=S")),
        }
    }
    let (Some(ram), Some(ram_bytes)) = (ram, size) else { return Err("it takes ram=FILE and size=S".into()) };
    Ok(ExportSpec { socket: socket.into(), dev, ram: ram.into(), ram_bytes })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where it is surprised")]

    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }

    #[test]
    fn an_export_names_a_socket_and_a_consumers_ram() {
        let spec = super::export("/run/a.sock,dev=pmem0.1s,ram=/dev/shm/a,size=512M").unwrap();
        assert_eq!((spec.dev.as_deref(), spec.ram_bytes), (Some("pmem0.1s"), 512 << 20));
        for wrong in ["", "a", "a,ram=b", "a,size=1M", "a,ram=b,size=x", "a,ram=b,size=1M,c", "a,ram=b,size=99999999T"]
        {
            assert!(super::export(wrong).is_err(), "{wrong}");
        }
    }
}
