//! Which CPU a thread is on, and how much of it it has used.

use nix::errno::Errno;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// The CPUs that this program may use.
///
/// # Errors
/// The system's; there is none.
pub fn allowed() -> nix::Result<Vec<usize>> {
    let allowed = sched_getaffinity(Pid::from_raw(0))?;
    let cpus: Vec<usize> = (0..CpuSet::count()).filter(|&cpu| allowed.is_set(cpu).unwrap_or(false)).collect();
    if cpus.is_empty() { Err(Errno::ENODEV) } else { Ok(cpus) }
}

/// Keeps this thread on a CPU.
///
/// # Errors
/// The system's.
pub fn pin(cpu: usize) -> nix::Result<()> {
    let mut only = CpuSet::new();
    only.set(cpu)?;
    sched_setaffinity(Pid::from_raw(0), &only)
}

/// Seconds of CPU time that this thread has used.
///
/// # Errors
/// The system's.
pub fn cpu_seconds() -> nix::Result<f64> {
    let time = nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID.now()?;
    Ok(time.tv_sec() as f64 + time.tv_nsec() as f64 / 1e9)
}
