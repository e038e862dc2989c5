//! A child process, one instruction after the other: what it does to the medium that is mapped at [`BASE`].

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use btt::media::NsOffset;
use btt::sim::Event;
use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use super::BASE;
use super::decode::{Effect, Kind, MOST_BYTES, address, decode};

/// What was traced.
#[derive(Debug)]
pub struct Traced {
    /// What was done to the medium; single stores and lines.
    pub events: Vec<Event>,
    /// The names of the instructions that did it, with how often each one came.
    pub names: HashMap<String, u64>,
    /// How many instructions there were.
    pub steps: u64,
}

/// Runs a program that stops itself twice, and traces all between the two stops. The medium is `bytes` long.
///
/// # Panics
/// If the program fails, or does something to the medium that cannot be understood.
#[must_use]
pub fn trace(command: &mut Command, bytes: u64) -> Traced {
    // SAFETY: between fork and exec the child only asks to be traced: one system call.
    let command = unsafe { command.pre_exec(|| ptrace::traceme().map_err(Into::into)) };
    let mut child = command.spawn().unwrap_or_else(|why| panic!("{command:?}: {why}"));
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("a process number"));
    let memory = File::open(format!("/proc/{pid}/mem")).expect("a traced process shows its memory");
    run_to_stop(pid); // exec
    // Whatever becomes of us, it does not stay.
    ptrace::setoptions(pid, ptrace::Options::PTRACE_O_EXITKILL).expect("it is stopped");
    let memory = reopened(pid, memory);
    run_until(pid);
    let traced = follow(pid, &memory, BASE as u64..BASE as u64 + bytes);
    ptrace::detach(pid, None).expect("it is stopped");
    let status = child.wait().expect("it ends");
    assert!(status.success(), "{command:?}: {status}");
    traced
}

/// After exec the process has another memory.
fn reopened(pid: Pid, before: File) -> File {
    drop(before);
    File::open(format!("/proc/{pid}/mem")).expect("a traced process shows its memory")
}

fn run_to_stop(pid: Pid) -> Signal {
    match waitpid(pid, None).expect("a child can be waited for") {
        WaitStatus::Stopped(_, signal) => signal,
        other => panic!("the traced program does not stop: {other:?}"),
    }
}

/// Lets it run until it stops itself.
fn run_until(pid: Pid) {
    let mut signal = None;
    loop {
        ptrace::cont(pid, signal).expect("it is stopped");
        match run_to_stop(pid) {
            Signal::SIGSTOP => return,
            other => signal = Some(other),
        }
    }
}

fn follow(pid: Pid, memory: &File, medium: std::ops::Range<u64>) -> Traced {
    let mut known: HashMap<u64, Effect> = HashMap::new();
    let mut traced = Traced { events: Vec::new(), names: HashMap::new(), steps: 0 };
    loop {
        let registers = ptrace::getregs(pid).expect("it is stopped");
        let effect = known.entry(registers.rip).or_insert_with(|| {
            let mut code = [0; MOST_BYTES];
            let count = memory.read_at(&mut code, registers.rip).unwrap_or(0);
            // What lies outside of what can be read is the kernel's own page: it stores to no medium.
            decode(&code[..count], registers.rip).unwrap_or_default()
        });
        let mut stores = Vec::new();
        for write in &effect.writes {
            let at = address(write, &registers);
            if let Some(at) = at.filter(|at| medium.contains(at)) {
                stores.push((at, write.memory_size().size()));
            }
        }
        let matters = effect.kind == Kind::Fence || !stores.is_empty();
        let kind = effect.kind;
        if matters {
            *traced.names.entry(effect.name.clone()).or_default() += 1;
        }
        ptrace::step(pid, None).expect("it is stopped");
        match run_to_stop(pid) {
            Signal::SIGTRAP => {}
            Signal::SIGSTOP => return traced,
            other => panic!("the traced program gets {other}"),
        }
        traced.steps += 1;
        if kind == Kind::Fence {
            traced.events.push(Event::Fence);
        }
        for (at, size) in stores {
            let place = NsOffset(at - medium.start);
            if kind == Kind::WriteBack {
                traced.events.push(Event::WriteBack { at: NsOffset(place.0 / 64 * 64), bytes: 64 });
                continue;
            }
            assert!((1..=64).contains(&size), "a store of {size} bytes at {place}");
            let mut bytes = vec![0; size].into_boxed_slice();
            memory.read_exact_at(&mut bytes, at).expect("what was stored can be read");
            traced.events.push(match kind {
                Kind::Streaming => Event::Stream { at: place, bytes },
                _ => Event::Store { at: place, bytes },
            });
        }
    }
}
