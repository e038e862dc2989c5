//! Cuts while an unmodified Linux uses two disks of the appliance by virtio-blk, one of either sector size: one boot of
//! it, several cuts of the appliance. Its load never pauses. What is not served yet when the machine goes is
//! served when it is back, and the next cut strikes into that.
//!
//! A seed chooses CPUs, queues, loads, moments and kinds; which instruction is struck is chance.

use std::fmt;
use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use host::session::ReplyForm;
use service::pattern::Choices;

use super::campaign::{DIMM_BYTES, How, Left, copy, image, judge, kept, wait_for};
use super::reader;
use super::stamps::Stamps;
use crate::dimm::Dimm;
use crate::linux::{Consumer, Disk};
use crate::machine::{ApplianceBuilder, Running};
use crate::monitor;
use crate::place::{Place, eventually};

/// Cuts of one seed.
pub const CUTS: usize = How::ALL.len();

/// Half of it is for files, and a program with its symbols is large.
const RAM_MIB: u64 = 1024;
/// The sectors of its disks.
const SECTORS: [usize; 2] = [512, 4096];
const DISKS: [&str; 2] = ["vda", "vdb"];

/// The choices that a seed stands for.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    cpus: u32,
    queues: u16,
    loads: [Stamps; 2],
    /// Each kind of cut once, with how long it goes well before.
    cuts: [(How, Duration); CUTS],
}

impl Plan {
    /// The plan of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut choices = Choices::new(seed, 2);
        let mut one_of = |numbers: &[u32]| numbers[usize::try_from(choices.below(numbers.len() as u64)).unwrap_or(0)];
        let (cpus, queues) = (one_of(&[1, 2, 2]), one_of(&[1, 2, 4]));
        let loads = [0, 1].map(|disk| {
            let (threads, run, mix) = (one_of(&[1, 2, 4]), one_of(&[1, 4, 16]), one_of(&[100, 80]));
            Stamps { seed: seed << 1 | disk, threads, run, mix: mix.into() }
        });
        let mut cuts = How::ALL.map(|how| (how, Duration::from_millis(one_of(&[0, 10, 50, 200, 500]).into())));
        for last in (1..CUTS).rev() {
            cuts.swap(last, usize::try_from(choices.below(last as u64 + 1)).unwrap_or(0));
        }
        Self { seed, cpus, queues: u16::try_from(queues).unwrap_or(1), loads, cuts }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {}: a consumer on {} CPUs, {} queues a disk", self.seed, self.cpus, self.queues)?;
        for (Stamps { threads, run, mix, .. }, bytes) in self.loads.iter().zip(SECTORS) {
            write!(f, "; {threads} threads with runs of {run} sectors of {bytes} bytes, {mix} % writes")?;
        }
        Ok(())
    }
}

/// What stands at a moment: a copy of both media, and what the consumer's threads have seen acknowledged by then.
struct Moment {
    dimms: [Dimm; 2],
    acknowledged: [Vec<u64>; 2],
}

impl Moment {
    /// No store to the media is under way.
    fn now(dimms: &[Dimm; 2], linux: &mut Consumer) -> Self {
        // First the media: the consumer may still be about to note what was acknowledged to it.
        let dimms = dimms.each_ref().map(copy);
        Self { dimms, acknowledged: acknowledged(linux) }
    }

    fn judge(self, plan: &Plan, when: &str) -> Result<Vec<Left>, String> {
        let each = self.dimms.into_iter().zip(&plan.loads).zip(&self.acknowledged).zip(SECTORS);
        each.map(|(((dimm, load), acknowledged), bytes)| {
            match judge(&dimm, plan.cpus, |found, image| load.judge(found, image, acknowledged)) {
                Ok((found, version)) => Ok(Left { dimm, found, version }),
                Err(why) => {
                    let name = format!("consumer-{}-{when}-{bytes}", plan.seed);
                    Err(kept(&dimm, &name, &format!("sectors of {bytes} bytes: {why}")))
                }
            }
        })
        .collect()
    }
}

/// What each thread has seen acknowledged.
fn acknowledged(linux: &mut Consumer) -> [Vec<u64>; 2] {
    DISKS.map(|disk| Stamps::acknowledged(&linux.run(&format!("cat /tmp/{disk}.acknowledged"))))
}

/// Waits until every thread has gone on.
fn wait_for_all(linux: &mut Consumer) {
    let before = acknowledged(linux);
    eventually("all threads go on", || {
        acknowledged(linux).iter().flatten().zip(before.iter().flatten()).all(|(now, before)| now > before)
    });
}

/// Boots a consumer, cuts the appliance under it `cuts` times, at most [`CUTS`], and has what is left judged; `told` hears
/// of each cut. At the end the load comes to its own, and the media must have all of it. `program` is the program `cuts`.
///
/// # Errors
/// What is wrong at the end, with where the image is kept.
///
/// # Panics
/// When a machine does not do what machines do, or the consumer sees an error.
pub fn cut(
    plan: &Plan,
    cuts: usize,
    program: &Path,
    told: &mut impl FnMut(How, Result<Vec<Left>, String>),
) -> Result<(), String> {
    let place = Place::new();
    let dimms = [(); 2].map(|()| Dimm::blank(DIMM_BYTES));
    let socket = monitor::Socket::new();
    let monitor = socket.arguments();
    let machine = dimms.iter().fold(ApplianceBuilder::new().cpus(plan.cpus), ApplianceBuilder::dimm);
    let machine = machine.with(&["--vhost-user", &place.export("a", "pmem0s", "ram", RAM_MIB)]);
    let machine = machine.with(&["--vhost-user", &place.export("b", "pmem1s", "ram", RAM_MIB), "--hold", "120"]);
    let machine = machine.qemu(&[&monitor[0], &monitor[1]]).run_by(&place.held_back_by("gone"));
    let mut appliance = machine.boot();
    for (region, sector) in SECTORS.iter().enumerate() {
        appliance.ask(&format!("create-namespace -r region{region} -l {sector}"));
    }
    let sockets = ["a", "b"].map(|socket| place.at(socket));
    eventually("the sockets", || sockets.iter().all(|socket| socket.exists()));
    // QEMU's tables are in an order of their own.
    let [one, two] = dimms;
    let is_first = |dimm: &Dimm| reader::read(&image(dimm)).expect("a fresh BTT").sector_bytes == SECTORS[0];
    let dimms = if is_first(&one) { [one, two] } else { [two, one] };

    let disks = sockets.each_ref().map(|socket| Disk { socket, queues: plan.queues });
    let mut linux = Consumer::boot_with(program, 2, &place.at("ram"), RAM_MIB, &disks);
    for ((disk, load), sector) in DISKS.iter().zip(&plan.loads).zip(SECTORS) {
        let arguments = load.arguments();
        let files = format!("--acknowledged /tmp/{disk}.acknowledged --stop /tmp/stop");
        linux.start(disk, &format!("program write /dev/{disk} --sector {sector} {arguments} {files}"));
        eventually("the load", || {
            if !linux.is_busy(disk) {
                linux.finish(disk);
            }
            linux.try_run(&format!("[ -s /tmp/{disk}.acknowledged ]")).0 == 0
        });
    }
    for &(how, after) in plan.cuts.iter().take(cuts) {
        wait_for_all(&mut linux);
        sleep(after);
        let moment = strike(how, &mut appliance, &mut linux, &dimms, &socket, &place.at("gone"));
        told(how, moment.judge(plan, &format!("{how:?}")));
        appliance.enter(ReplyForm::Json);
    }
    wait_for_all(&mut linux);
    linux.run(">/tmp/stop");
    for disk in DISKS {
        linux.finish(disk);
    }
    appliance.kill_machine_entirely();
    let end = Moment::now(&dimms, &mut linux);
    let all: u64 = end.acknowledged.iter().flatten().sum();
    let written: u64 = end.judge(plan, "end")?.iter().map(|left| left.version).sum();
    if written != all {
        return Err(format!("{written} runs were written, and {all} acknowledged"));
    }
    Ok(())
}

/// Cuts the machine, takes what there is at that moment, and lets it come up again.
fn strike(
    how: How,
    appliance: &mut Running,
    linux: &mut Consumer,
    dimms: &[Dimm; 2],
    socket: &monitor::Socket,
    gone: &Path,
) -> Moment {
    if how == How::Reset {
        let mut monitor = socket.connect();
        monitor.stop();
        let moment = Moment::now(dimms, linux);
        monitor.reset();
        monitor.go_on();
        return moment;
    }
    wait_for(how, appliance, &dimms.each_ref());
    fs::write(gone, "").expect("a file is written");
    appliance.kill_machine_entirely();
    let moment = Moment::now(dimms, linux);
    fs::remove_file(gone).expect("a file is removed");
    moment
}
