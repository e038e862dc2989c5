//! All orders of writing, zeroing, marking as an error, clearing, and opening again, on one sector each.

mod common;

use btt::format::{FormatOptions, format};
use btt::sim::Sim;
use btt::{Btt, BttError, CpuIndex, ExternalLba};

use common::*;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Write(u64),
    Zero,
    MarkError,
    ClearErrors,
    OpenAgain,
}

const STEPS: [Step; 6] =
    [Step::Write(0xa1), Step::Write(0xb2), Step::Zero, Step::MarkError, Step::ClearErrors, Step::OpenAgain];

/// A device that is closed and opened now and then.
struct Device {
    sim: Sim,
    btt: Option<Btt<Sim>>,
}

impl Device {
    fn new(sector: u32, zero_entries: bool) -> Self {
        let sim = Sim::new(BYTES);
        format(&sim, &FormatOptions { zero_entries, ..format_options(sector) }, &mut |_, _| ()).expect("no faults");
        Self { btt: Some(open(sim.fork(), 3)), sim }
    }

    fn btt(&self) -> &Btt<Sim> {
        self.btt.as_ref().expect("it is open between steps")
    }

    /// Does a step, and returns what the sector reads as from now on: a tag, or an error.
    fn take(&mut self, cpu: u32, lba: u64, step: Step, now: Option<u64>) -> Option<u64> {
        let mut lane = self.btt().lane(CpuIndex(cpu));
        let at = ExternalLba(lba);
        match step {
            Step::Write(tag) => {
                drop(lane);
                write(self.btt(), cpu, lba, &[tag]).expect("in range");
                Some(tag)
            }
            Step::Zero => {
                lane.zero(at, 1).expect("in range");
                Some(0)
            }
            Step::MarkError => {
                lane.mark_errors(at, 1).expect("in range");
                None
            }
            Step::ClearErrors => {
                assert_eq!(lane.clear_errors(at, 1), Ok(u64::from(now.is_none())));
                Some(now.unwrap_or(0))
            }
            Step::OpenAgain => {
                drop(lane);
                self.sim = self.btt.take().expect("it is open").close().expect("no faults");
                self.btt = Some(open(self.sim.fork(), 1 + cpu));
                now
            }
        }
    }

    #[track_caller]
    fn assert_reads(&self, cpu: u32, lba: u64, expected: Option<u64>, what: &[Step]) {
        let wanted = expected.ok_or(BttError::SectorError { lba: ExternalLba(lba) });
        assert_eq!(read(self.btt(), cpu, lba), wanted, "LBA {lba} after {what:?}");
    }
}

/// Every sequence of so many steps.
fn sequences(length: u32) -> impl Iterator<Item = Vec<Step>> {
    let count = STEPS.len();
    (0..count.pow(length)).map(move |number| (0..length).map(|at| STEPS[number / count.pow(at) % count]).collect())
}

#[test]
fn a_sector_is_what_the_last_step_made_it_whatever_came_before() {
    for (sector, zero_entries) in [(512, false), (512, true), (4104, true)] {
        let mut device = Device::new(sector, zero_entries);
        // Each sequence has a sector of its own that was never written, between two that stay as they are.
        for (lba, sequence) in (1..).step_by(2).zip(sequences(4)) {
            let mut now = Some(0);
            for (cpu, step) in (0..).zip(&sequence) {
                now = device.take(cpu % 3, lba, *step, now);
                device.assert_reads((cpu + 1) % 3, lba, now, &sequence);
            }
            device.assert_reads(0, lba - 1, Some(0), &sequence);
            device.assert_reads(0, lba + 1, Some(0), &sequence);
        }
        assert_sound(&device.btt.take().expect("it is open").close().expect("no faults"));
    }
}

#[test]
fn so_it_is_at_both_ends() {
    for zero_entries in [false, true] {
        let mut device = Device::new(520, zero_entries);
        let last = device.btt().capacity_sectors() - 1;
        let mut now = [Some(0); 2];
        for sequence in sequences(3) {
            for step in &sequence {
                for (index, lba) in [0, last].into_iter().enumerate() {
                    now[index] = device.take(0, lba, *step, now[index]);
                    device.assert_reads(1, lba, now[index], &sequence);
                }
            }
        }
        let past = ExternalLba(last + 1);
        let mut lane = device.btt().lane(CpuIndex(0));
        for refused in [lane.zero(past, 1), lane.mark_errors(past, 1), lane.clear_errors(past, 1).map(|_| ())] {
            assert!(matches!(refused, Err(BttError::OutOfRange { .. })), "{refused:?}");
        }
        drop(lane);
        assert_sound(&device.btt.take().expect("it is open").close().expect("no faults"));
    }
}
