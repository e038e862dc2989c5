//! How an appliance is started, whichever command asked for it.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::time::Duration;

use crate::backing::Backing;
use crate::bridge::ExportSpec;
use crate::deadline::Deadline;

/// How an appliance is started.
#[derive(Debug)]
pub struct Launch {
    /// The program that is the appliance, with its arguments; its console is on its standard input and output.
    pub program: Vec<OsString>,
    /// When the run ends at the latest.
    pub deadline: Deadline,
    /// Where the socket for admin commands is to be.
    pub admin: Option<PathBuf>,
    /// The disks for other machines.
    pub exports: Vec<ExportSpec>,
    /// How long consumers' requests wait for an appliance that is gone.
    pub hold: Duration,
    /// Under which number the program finds the socket for the appliance's second serial port.
    pub control_fd: Option<RawFd>,
    /// The same for its ivshmem devices, one for each RAM file, in their order.
    pub ivshmem_fds: Vec<RawFd>,
    /// The same for its admin port.
    pub port_fd: Option<RawFd>,
    /// The files that are the appliance's memory, as far as they are known.
    pub memory: Vec<Backing>,
    /// Locks, and descriptors that keep a number free: to be open for as long as it runs.
    pub held: Vec<File>,
}
