//! What `untorn-target` understands on its command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;
use nvmf::{Allowed, Nqn, Secret, Secrets, SectorBytes};

/// Serves files that hold BTTs by NVMe/TCP, each as a subsystem of its own
///
/// A file's subsystem is named by its BTT's uuid, and has that as NGUID and UUID, too. What was acknowledged is
/// on the disk as far as fdatasync puts it there, and no sector is ever torn. Ends by a signal; nothing is lost by that.
///
/// Exit status: 1 failed; 2 usage.
#[derive(Debug, Parser)]
#[command(version, name = "untorn-target")]
pub struct Options {
    /// The files
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Where hosts connect (repeatable)
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:4420")]
    pub listen: Vec<SocketAddr>,
    /// A host that may connect, or `any` (repeatable); none may until it is named
    #[arg(long, value_name = "HOSTNQN|any", value_parser = allowed)]
    pub allow: Vec<Allowed>,
    /// What these hosts must prove to know, as nvme gen-dhchap-key makes it
    #[arg(long, value_name = "DHHC-1:…", env = "UNTORN_SECRET", hide_env_values = true, value_parser = Secret::parse)]
    pub secret: Option<Secret>,
    /// What the target proves to know where a host asks for that; with --secret
    #[arg(
        long,
        value_name = "DHHC-1:…",
        env = "UNTORN_CONTROLLER_SECRET",
        hide_env_values = true,
        value_parser = Secret::parse,
        requires = "secret"
    )]
    pub controller_secret: Option<Secret>,
    /// What discovery shows instead of the address that a host reached, such as one in front of a NAT
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub advertise: Option<SocketAddr>,
    /// Lays a BTT with sectors of so many bytes, 512 or 4096, on files that are blank
    #[arg(long, value_name = "SECTOR", value_parser = sector)]
    pub format: Option<SectorBytes>,
    /// Refuses all writes, and changes nothing of the files
    #[arg(long)]
    pub read_only: bool,
    /// The most connections at a time: a host has one for each of its CPUs, up to 8, and one more
    #[arg(long, value_name = "N", default_value_t = 256)]
    pub connections: usize,
}

impl Options {
    /// The secrets of all hosts that are named, if they must know one.
    #[must_use]
    pub fn secrets(&self) -> Option<Secrets> {
        let controller = self.controller_secret.clone();
        self.secret.clone().map(|host| Secrets { host, controller })
    }
}

fn allowed(text: &str) -> Result<Allowed, String> {
    if text == "any" { Ok(Allowed::Any) } else { Nqn::written(text).map(Allowed::Host).map_err(|why| why.to_string()) }
}

fn sector(text: &str) -> Result<SectorBytes, String> {
    let bytes = text.parse().ok().and_then(SectorBytes::new);
    bytes.ok_or_else(|| format!("{text} is no sector size that hosts take: 512 or 4096"))
}
