//! What `untornctl` understands on its command line.

use std::ffi::OsString;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use crate::deadline::Deadline;
use crate::export_words::ExportWords;
use crate::image;
use crate::launch::Launch;
use crate::qemu::{self, options::Options};
use crate::quantity::{self, seconds};
use crate::script::Script;

/// Runs an untorn appliance, serves its disks to other machines, and asks it for admin commands
///
/// Exit status: 0 ok; 1 failed; 2 usage; 3 not found; 4 media or metadata damaged; 5 no connection or no answer;
/// 124 --timeout struck on a run; 143 ended by a signal.
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
    /// Starts an appliance in QEMU on NVDIMMs made of files; run-qemu.sh builds what it needs, and calls it
    // Of an option that is given twice the last one counts: scripts add theirs behind a person's.
    #[command(override_help = qemu::options::HELP, args_override_self = true)]
    Qemu(Box<Options>),
    /// Starts an appliance, runs admin commands on it, and powers it off
    ///
    /// All commands are run, in order, also after one failed. Only their replies go to standard output. The exit
    /// status is that of the first command that failed, else 0.
    Exec {
        /// Commands, separated by semicolons
        #[arg(long, value_name = "CMD; CMD", allow_hyphen_values = true, value_parser = Script::parse)]
        commands: Script,
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
        /// A socket for admin commands while it runs
        #[arg(long, value_name = "SOCKET")]
        admin: Option<PathBuf>,
        /// How to start it.
        #[command(flatten)]
        start: Start,
    },
    /// Starts an appliance as a service: its console is shown, and takes no input
    ///
    /// Ends when the appliance powers off. While it serves disks, it is started anew when it ends in any other way.
    Run {
        /// A socket for admin commands while it runs
        #[arg(long, value_name = "SOCKET")]
        admin: Option<PathBuf>,
        /// How to start it.
        #[command(flatten)]
        start: Start,
    },
    /// Asks for the machine and what it serves
    Status(#[command(flatten)] Ask),
    /// Lists what there is, as ndctl does; with --table for people
    List {
        /// Whom to ask.
        #[command(flatten)]
        ask: Ask,
        /// As tables, for people
        #[arg(long)]
        table: bool,
        /// Options of the appliance's list: -B -D -R -N -i -H -v
        #[arg(allow_hyphen_values = true, trailing_var_arg = true, value_name = "OPTION")]
        options: Vec<String>,
    },
    /// Shows or changes the configuration, or moves it to or from a file
    ///
    /// export writes all that is not as by default as JSON; secrets are left out. import sets all that, gives all else its
    /// default, and saves it. Either takes a file's name; else it is standard output, or standard input. Other words go to the
    /// appliance: show, set KEY VALUE, unset KEY, save, reset.
    Config {
        /// Whom to ask.
        #[command(flatten)]
        ask: Ask,
        /// export, import, or the appliance's words
        #[arg(allow_hyphen_values = true, trailing_var_arg = true, value_name = "WORD")]
        words: Vec<String>,
    },
    /// Shows what it does: rates and latencies of its disks, consumers and hosts, again and again
    ///
    /// On a terminal the figures stay in their place; otherwise a line for each disk and time. Ends by Ctrl-C, or after --count
    /// times. With --json: an object for each time.
    Top {
        /// Whom to ask.
        #[command(flatten)]
        ask: Ask,
        /// The time between two readings, in seconds
        #[arg(long, value_name = "N", value_parser = interval, default_value = "2")]
        seconds: Duration,
        /// How often
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        count: Option<u64>,
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
        #[arg(value_parser = quantity::number)]
        lba: u64,
        /// How many
        #[arg(default_value_t = 1, value_parser = quantity::number)]
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
        #[arg(value_parser = quantity::number)]
        lba: u64,
        /// Whole sectors in base64; without it and --fill the bytes of standard input are written
        #[arg(long, value_name = "BASE64", conflicts_with = "fill")]
        data: Option<String>,
        /// A byte that the sectors are filled with
        #[arg(long, value_name = "BYTE", value_parser = quantity::byte)]
        fill: Option<u8>,
        /// How many sectors to fill
        #[arg(long, value_name = "N", requires = "fill", value_parser = quantity::number)]
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
    /// Makes a file that firmware boots the image from; make-image.sh builds what it needs, and calls it
    #[command(args_override_self = true)]
    Image(image::Options),
    /// Writes what a shell needs to complete our words, and the appliance's behind `admin`
    ///
    /// For bash: untornctl completions bash > ~/.local/share/bash-completion/completions/untornctl
    Completions {
        /// Which shell
        shell: Shell,
    },
    /// Writes manual pages into a folder: untornctl.1, and one for each verb
    ///
    /// `man -l FOLDER/untornctl.1` shows one; those in ~/.local/share/man/man1 are found by `man untornctl`.
    Man {
        /// The folder, which is made if need be
        folder: PathBuf,
    },
    /// Asks an appliance for all that it tells of itself, or reads a medium's metadata, for a report of a fault
    ///
    /// The file is JSON: state, health, tables, arenas, configuration, counters, events. It has no sector's data, and
    /// secrets are taken out. With --media nobody is asked: it has the label area, info blocks, maps and flogs of a medium
    /// that no appliance uses, as they stand; --load makes a medium of that again, on which checks find the same.
    Dump {
        /// Whom to ask.
        #[command(flatten)]
        ask: Ask,
        /// A medium: an NVDIMM's file, or a device
        #[arg(long, value_name = "MEDIUM", conflicts_with = "load")]
        media: Option<PathBuf>,
        /// The size of the medium's label area, if it is not found by itself; 0: it has none
        #[arg(long, value_name = "S", requires = "media", value_parser = quantity::bytes)]
        label: Option<u64>,
        /// A dump of a medium, which becomes FILE
        #[arg(long, value_name = "DUMP", requires = "file")]
        load: Option<PathBuf>,
        /// The file; without it standard output
        file: Option<PathBuf>,
    },
}

/// A time between two readings: a tenth of a second to an hour.
fn interval(text: &str) -> Result<Duration, String> {
    let interval = seconds(text)?;
    let is_sound = (Duration::from_millis(100)..=Duration::from_secs(3600)).contains(&interval);
    is_sound.then_some(interval).ok_or_else(|| "it is from 0.1 to 3600 seconds".into())
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
    /// How long to wait for the reply, in seconds, also while another command is under way
    #[arg(long, value_name = "S", value_parser = seconds)]
    pub timeout: Option<Duration>,
}

impl Ask {
    /// Takes our own options out of words that are the appliance's else: it has none of these names.
    ///
    /// # Errors
    /// A value is missing, or is none.
    pub fn take_from(&mut self, words: &mut Vec<String>) -> Result<(), String> {
        let mut others = Vec::new();
        let mut rest = words.drain(..);
        while let Some(word) = rest.next() {
            if word == "--" {
                // What follows are no options, whosever.
                others.push(word);
                others.extend(rest.by_ref());
                break;
            }
            let (name, value) = match word.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (word.as_str(), None),
            };
            match name {
                "--json" if value.is_none() => self.json = true,
                "--socket" | "--timeout" => {
                    let value = value.or_else(|| rest.next()).ok_or_else(|| format!("{name}: its value is missing"))?;
                    match name {
                        "--socket" => self.socket = value.into(),
                        _ => self.timeout = Some(seconds(&value).map_err(|why| format!("{name} {value}: {why}"))?),
                    }
                }
                _ => others.push(word),
            }
        }
        drop(rest);
        *words = others;
        Ok(())
    }
}

/// How an appliance is started.
#[derive(Debug, Args)]
pub struct Start {
    /// A bound on the whole run, in seconds
    #[arg(long, value_name = "S", value_parser = seconds)]
    pub timeout: Option<Duration>,
    /// A disk for another machine, with that machine's RAM; may be given several times
    ///
    /// size is that machine's RAM: bytes, or a number with K, M, G or T. Files with the same name are the same machine.
    /// trusted saves its signals a way through this program; its QEMU can then stop the appliance.
    #[arg(long, value_name = "SOCKET[,dev=DEV][,ram=FILE,size=S][,trusted]", value_parser = ExportWords::parse)]
    pub vhost_user: Vec<ExportWords>,
    /// How long that machine's requests wait when the appliance is gone, in seconds; then they fail until it is back
    #[arg(long, value_name = "S", value_parser = seconds, default_value = "30")]
    pub hold: Duration,
    /// The descriptor by which PROGRAM finds the socket for the appliance's second serial port; open already
    #[arg(long, value_name = "FD")]
    pub control_fd: Option<RawFd>,
    /// The same for its ivshmem devices, one for each RAM file, in their order
    #[arg(long, value_name = "FD")]
    pub ivshmem_fd: Vec<RawFd>,
    /// The same for its admin port, a virtio-serial port by which commands go faster than by the console
    #[arg(long, value_name = "FD")]
    pub port_fd: Option<RawFd>,
    /// The program that is the appliance, its console on standard input and output
    #[arg(last = true, required = true, value_name = "PROGRAM")]
    pub program: Vec<OsString>,
}

impl Start {
    /// How that is done; with a socket for admin commands at `admin`, if there is to be one.
    #[must_use]
    pub fn launch(self, admin: Option<PathBuf>) -> Launch {
        Launch {
            program: self.program,
            deadline: self.timeout.map_or(Deadline::NEVER, Deadline::after),
            admin,
            exports: self.vhost_user.iter().map(ExportWords::spec).collect(),
            hold: self.hold,
            control_fd: self.control_fd,
            ivshmem_fds: self.ivshmem_fd,
            port_fd: self.port_fd,
            memory: Vec::new(),
            held: Vec::new(),
        }
    }
}

/// The admin socket that is meant when none is named: in cargo's target directory, if this program lies there, the one
/// that a plain `run-qemu.sh` makes; for an installed program the one of this user or of the system.
#[must_use]
fn default_socket() -> PathBuf {
    let program = std::env::current_exe().ok();
    let target = program.as_deref().and_then(|program| program.parent()?.parent());
    // Cargo marks a folder that it has made. A plain run leaves its socket in any.
    let of_run = |target: &&Path| target.join("CACHEDIR.TAG").is_file() || target.join(qemu::PLAIN_ADMIN).exists();
    if let Some(target) = target.filter(of_run) {
        return target.join(qemu::PLAIN_ADMIN);
    }
    let folder = std::env::var_os("XDG_RUNTIME_DIR").filter(|folder| !folder.is_empty());
    PathBuf::from(folder.unwrap_or_else(|| "/run".into())).join("untorn.sock")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where it is surprised")]

    use std::path::Path;
    use std::time::Duration;

    use clap::{CommandFactory, Parser as _};

    use super::{Cli, Verb};

    #[test]
    fn our_options_behind_the_appliances_words_are_ours() {
        let words = |line: &str| ["untornctl"].into_iter().chain(line.split(' ')).map(String::from).collect::<Vec<_>>();
        for (line, left) in [
            ("config set console text --socket s --timeout 3", &["set", "console", "text"][..]),
            ("config --socket=s save --timeout=3 -f", &["save", "-f"]),
            ("list -N --json --socket s --timeout 3", &["-N"]),
            ("admin --timeout 3 read --socket s pmem0s 0", &["read", "pmem0s", "0"]),
            ("admin --socket s help --timeout 3 -- --timeout", &["help", "--", "--timeout"]),
        ] {
            let mut verb = Cli::try_parse_from(words(line)).unwrap().verb;
            let (Verb::Config { ask, words } | Verb::List { ask, options: words, .. } | Verb::Admin { ask, words }) =
                &mut verb
            else {
                panic!("{line}")
            };
            ask.take_from(words).unwrap();
            assert_eq!((&*ask.socket, ask.timeout), (Path::new("s"), Some(Duration::from_secs(3))), "{line}");
            assert!(ask.json == line.contains("json") && *words == left, "{line}: {words:?}");
        }
        for line in ["list -N --socket", "admin status --timeout soon"] {
            let mut verb = Cli::try_parse_from(words(line)).unwrap().verb;
            let (Verb::List { ask, options: words, .. } | Verb::Admin { ask, words }) = &mut verb else {
                panic!("{line}")
            };
            ask.take_from(words).unwrap_err();
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
