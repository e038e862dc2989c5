//! An appliance in QEMU, started as a person starts it: by `run-qemu.sh`, its console on standard input and output.
//!
//! QEMU runs take turns: a [`Running`] appliance holds the turn until it is dropped, so a test has one at a time, and
//! nothing is left running. It dies with the thread that started it.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use host::appliance::{self, ApplianceError, ApplianceProcess};
use host::deadline::Deadline;
use host::session::ReplyForm;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::dimm::Dimm;
use crate::workspace;

/// The longest that any one command of a test may take.
const COMMAND: Duration = Duration::from_secs(120);

/// The longest that one appliance may live, in seconds.
const LIFE: &str = "900";

/// How to start an appliance: its CPUs, NVDIMMs and options.
#[derive(Debug, Default)]
pub struct ApplianceBuilder {
    arguments: Vec<String>,
    dimms: usize,
    /// Descriptors that QEMU inherits, each with an open file that keeps its number.
    handed: Vec<(OwnedFd, File)>,
    environment: Vec<(&'static str, OsString)>,
}

impl ApplianceBuilder {
    /// Two CPUs, no NVDIMM.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// With so many CPUs.
    #[must_use]
    pub fn cpus(self, count: u32) -> Self {
        self.with(&["--cpus", &count.to_string()])
    }

    /// With this NVDIMM, after those that it has.
    #[must_use]
    pub fn dimm(mut self, dimm: &Dimm) -> Self {
        self.dimms += 1;
        self.arguments.extend(dimm.option());
        self
    }

    /// With an NVDIMM in the words of `run-qemu.sh`, after those that it has.
    #[must_use]
    pub fn nvdimm(mut self, words: &str) -> Self {
        self.dimms += 1;
        self.with(&["--nvdimm", words])
    }

    /// With arguments for QEMU.
    #[must_use]
    pub fn qemu(self, arguments: &[&str]) -> Self {
        arguments.iter().fold(self, |builder, argument| builder.with(&["--qemu-arg", argument]))
    }

    /// With a descriptor that QEMU inherits, and the number under which it has it.
    ///
    /// # Panics
    /// When no descriptor is left.
    #[must_use]
    pub fn hand_over(mut self, fd: OwnedFd) -> (Self, RawFd) {
        let place = File::open("/dev/null").expect("a descriptor is left");
        let number = place.as_raw_fd();
        self.handed.push((fd, place));
        (self, number)
    }

    /// Run by this program, which runs QEMU.
    #[must_use]
    pub fn run_by(self, program: &Path) -> Self {
        self.environment([("QEMU", program.into())])
    }

    /// With these variables in the environment of `run-qemu.sh`.
    #[must_use]
    pub fn environment(mut self, variables: impl IntoIterator<Item = (&'static str, OsString)>) -> Self {
        self.environment.extend(variables);
        self
    }

    /// With options for `run-qemu.sh`.
    #[must_use]
    pub fn with(mut self, options: &[&str]) -> Self {
        self.arguments.extend(options.iter().map(|&option| option.to_owned()));
        self
    }

    /// Waits for its turn, and boots it into machine mode.
    ///
    /// # Panics
    /// When it does not come up; with its last words.
    #[track_caller]
    #[must_use]
    pub fn boot(self) -> Running {
        let mut running = self.start();
        running.enter(ReplyForm::Json);
        running
    }

    /// Waits for its turn, and starts it. Nothing has been read from its console yet.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start(self) -> Running {
        workspace::build();
        let turn = workspace::machine_turn();
        self.start_in(Arc::new(turn))
    }

    /// Boots it into machine mode beside another one, in the same turn.
    ///
    /// # Panics
    /// When it does not come up; with its last words.
    #[track_caller]
    #[must_use]
    pub fn boot_beside(self, other: &Running) -> Running {
        let mut running = self.start_in(Arc::clone(&other.turn));
        running.enter(ReplyForm::Json);
        running
    }

    /// Kills another one, whose turn goes on, and boots in its place.
    ///
    /// # Panics
    /// When it does not come up; with its last words.
    #[track_caller]
    #[must_use]
    pub fn boot_after(self, other: Running) -> Running {
        let turn = Arc::clone(&other.turn);
        other.cut();
        let mut running = self.start_in(turn);
        running.enter(ReplyForm::Json);
        running
    }

    fn start_in(mut self, turn: Arc<File>) -> Running {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if self.dimms == 0 {
            self = self.with(&["--no-nvdimm"]);
        }
        let name = format!("{}-{}.stderr", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let stderr = workspace::folder("test-dimms").join(name);
        let mut command = workspace::command("./run-qemu.sh");
        command.args(["--no-build", "--timeout", LIFE]).args(&self.arguments);
        command.envs(self.environment);
        let mut places = Vec::new();
        for (fd, place) in self.handed {
            appliance::hand_over(&mut command, fd, place.as_raw_fd());
            places.push(place);
        }
        command.stderr(Stdio::from(File::create(&stderr).expect("a file for what goes to stderr")));
        let appliance = ApplianceProcess::start(command).expect("run-qemu.sh starts");
        Running { appliance, boot_log: Vec::new(), stderr, turn }
    }
}

/// An appliance that runs.
#[derive(Debug)]
pub struct Running {
    appliance: ApplianceProcess,
    /// What the console showed before its first prompt.
    pub boot_log: Vec<String>,
    stderr: PathBuf,
    /// Dropped last: the turn ends when QEMU has.
    turn: Arc<File>,
}

impl Running {
    /// Waits for the prompt and switches to a mode for programs.
    ///
    /// # Panics
    /// When there is no prompt; with the console's last words.
    #[track_caller]
    pub fn enter(&mut self, mode: ReplyForm) {
        let mut lines = Vec::new();
        let outcome = self.appliance.enter(mode, Deadline::after(COMMAND), |line| lines.push(line.to_owned()));
        self.boot_log = lines;
        self.surely(outcome);
    }

    /// Sends a command in machine mode, and returns its reply, whatever it is.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    pub fn reply(&mut self, command: &str) -> Value {
        let outcome = self.appliance.command(command, Deadline::after(COMMAND));
        let text = self.surely(outcome).text;
        serde_json::from_str(&text).expect("the session has seen that it is JSON")
    }

    /// Sends a command in text mode, and returns its exit code and text.
    ///
    /// # Panics
    /// When there is no reply.
    #[track_caller]
    pub fn text(&mut self, command: &str) -> (u8, String) {
        let outcome = self.appliance.command(command, Deadline::after(COMMAND));
        let reply = self.surely(outcome);
        (reply.exit_code, reply.text)
    }

    /// Sends a command in machine mode that must succeed, and returns its reply.
    ///
    /// # Panics
    /// When it is refused.
    #[track_caller]
    pub fn ask(&mut self, command: &str) -> Value {
        let reply = self.reply(command);
        assert_eq!(reply["ok"], true, "`{command}` was refused: {}", reply["error"]);
        reply
    }

    /// Sends a command in machine mode that must fail, and returns the error's code and message.
    ///
    /// # Panics
    /// When it is done.
    #[track_caller]
    pub fn refused(&mut self, command: &str) -> (String, String) {
        let reply = self.reply(command);
        assert_eq!(reply["ok"], false, "`{command}` was done: {reply}");
        let word = |key| reply["error"][key].as_str().expect("an error has a code and a message").to_owned();
        (word("code"), word("message"))
    }

    /// Reads a sector: its data as the device shows them, metadata bytes at the end.
    ///
    /// # Panics
    /// When it cannot be read.
    #[track_caller]
    pub fn read(&mut self, dev: &str, lba: u64) -> Vec<u8> {
        let reply = self.ask(&format!("read {dev} {lba}"));
        let data = STANDARD.decode(reply["data"].as_str().expect("a read has data")).expect("the data are base64");
        assert_eq!(data.len() as u64, reply["sector_size"], "one sector was asked for");
        data
    }

    /// Writes a sector.
    ///
    /// # Panics
    /// When it is refused.
    #[track_caller]
    pub fn write(&mut self, dev: &str, lba: u64, data: &[u8]) {
        let reply = self.ask(&format!("write {dev} {lba} --data {}", STANDARD.encode(data)));
        assert_eq!((reply["lba"].as_u64(), reply["count"].as_u64()), (Some(lba), Some(1)));
    }

    /// Powers it off.
    ///
    /// # Panics
    /// When it does not end well.
    #[track_caller]
    pub fn power_off(mut self) {
        let outcome = self.appliance.power_off(Deadline::after(COMMAND));
        self.surely(outcome);
    }

    /// Cuts its power: SIGKILL, at whatever it is doing.
    pub fn cut(mut self) {
        self.appliance.kill();
    }

    /// Kills its machine, as if its power failed, and returns at once. One that serves disks is started anew: then
    /// [`Running::enter`] has it again.
    ///
    /// # Panics
    /// When nothing runs.
    pub fn kill_machine(&mut self) {
        self.signal_machine(Signal::SIGKILL);
    }

    /// Kills its machine, and waits until nothing of it is left, so that it cannot store any more.
    ///
    /// # Panics
    /// When nothing runs, or something does not die.
    pub fn kill_machine_entirely(&mut self) {
        let machine = Path::new("/proc").join(self.machine().to_string());
        self.kill_machine();
        let end = Instant::now() + COMMAND;
        // It is there until its parent has heard of its end; that is when all of its threads have ended.
        while machine.exists() {
            assert!(Instant::now() < end, "{} does not end", machine.display());
            sleep(Duration::from_millis(1));
        }
    }

    /// Sends a signal to its machine.
    ///
    /// # Panics
    /// When nothing runs.
    pub fn signal_machine(&self, signal: Signal) {
        kill(self.machine(), signal).expect("its machine runs");
    }

    /// The process that is its machine.
    ///
    /// # Panics
    /// When it does not run.
    #[must_use]
    pub fn process(&self) -> u32 {
        workspace::innermost(self.appliance.id())
    }

    fn machine(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.process()).expect("a process has a small number"))
    }

    /// What `run-qemu.sh` and `untornctl` have written to standard error.
    #[must_use]
    pub fn said(&self) -> String {
        fs::read_to_string(&self.stderr).unwrap_or_default()
    }

    /// The appliance, for what is not above.
    pub fn appliance(&mut self) -> &mut ApplianceProcess {
        &mut self.appliance
    }

    /// A test fails here, with all that is known.
    #[track_caller]
    fn surely<T>(&self, outcome: Result<T, ApplianceError>) -> T {
        match outcome {
            Ok(value) => value,
            Err(error) => panic!("{error}\n{}", self.said()),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.appliance.kill();
        let _ = fs::remove_file(&self.stderr);
    }
}
