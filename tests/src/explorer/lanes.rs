//! Several CPUs writing through the real lanes, in every order of their steps, cut after each.
//!
//! The code cannot be copied in the middle of its work, so every course of events is run from the start: a schedule is
//! a list of CPUs, and the last step is varied first. A course that ends where another one has been, [`Stage::course`],
//! is not followed further.

use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::Rc;

use btt::bytes::{Sectors, SectorsMut};
use btt::commit::Writes;
use btt::media::{MediaError, Medium, NsOffset, SectorSource};
use btt::{Btt, BttError, CpuIndex, ExternalLba};

use super::cut::Explorer;
use super::frame::Frame;
use super::program::{Op, Program};
use super::promise::Promise;
use super::small::{LOST_TAG, PLACEMENT, SECTOR, content, first_tag, tag_of};
use super::stage::{Acting, Cpus, Grain, Stage, Stop as At, quietly};
use super::{Scenario, Stop, Violation};

/// A program, explored.
#[derive(Clone, Debug)]
pub struct Lanes {
    /// What the CPUs do.
    pub program: Program,
    /// How much of it at a time.
    pub grain: Grain,
}

impl Scenario for Lanes {
    fn name(&self) -> String {
        let grain = match self.grain {
            Grain::Access => "each access: ",
            Grain::Lock => "each lock: ",
            Grain::Fence => "",
        };
        format!("{grain}{}", self.program)
    }

    fn explore(&self, explorer: &mut Explorer<'_>) -> Result<(), Stop> {
        let small = self.program.small;
        explorer.set_medium(super::small::BYTES, small.persistence);
        let mut search = Search {
            lanes: self,
            start: small.make(),
            cpus: Cpus::new(self.program.cpus.len()),
            courses: HashSet::new(),
            explorer,
        };
        let mut schedules = vec![Vec::new()];
        while let Some(schedule) = schedules.pop() {
            search.follow(schedule, &mut schedules)?;
        }
        Ok(())
    }
}

/// One sector that some CPU writes.
struct Written {
    lba: u32,
    tag: u64,
    start: usize,
    end: Option<usize>,
}

#[derive(Default)]
struct Progress {
    clock: usize,
    writes: Vec<Written>,
    trouble: Option<String>,
}

impl Progress {
    fn tick(&mut self) -> usize {
        self.clock += 1;
        self.clock
    }

    fn is_under_way(&self, lba: u32, tag: u64) -> bool {
        self.writes.iter().any(|write| write.lba == lba && write.tag == tag && write.end.is_none())
    }

    /// The tags that a sector may read right now: of no write that ended before another one began that has ended.
    fn current(&self, lba: u32) -> Vec<u64> {
        let own = || self.writes.iter().filter(|write| write.lba == lba);
        let newest = own().filter(|write| write.end.is_some()).map(|write| write.start).max();
        let first = newest.is_none().then(|| first_tag(lba));
        let standing = own().filter(|write| write.end.is_none_or(|end| newest.is_none_or(|newest| end >= newest)));
        first.into_iter().chain(standing.map(|write| write.tag)).collect()
    }
}

/// Writes of one sector each: which, and its tag.
struct Scattered<'a>(&'a [(u32, u64)]);

impl<M: Medium> SectorSource<M> for Scattered<'_> {
    fn store(&self, index: usize, media: &M, at: NsOffset) -> Result<(), MediaError> {
        media.write(at, &content(self.0[index].1))
    }
}

impl<M: Medium> Writes<M> for Scattered<'_> {
    fn count(&self) -> usize {
        self.0.len()
    }

    fn lba(&self, index: usize) -> ExternalLba {
        ExternalLba(u64::from(self.0[index].0))
    }
}

/// One course of events.
struct World {
    program: Program,
    btt: Btt<Acting>,
    stage: Rc<Stage>,
    progress: RefCell<Progress>,
}

impl World {
    /// What one CPU does.
    fn run(&self, cpu: usize) {
        for (number, op) in self.program.cpus[cpu].iter().enumerate() {
            if let Err(why) = self.op(cpu, number, op) {
                self.progress.borrow_mut().trouble.get_or_insert(format!("cpu {cpu}: {op}: {why}"));
                return;
            }
        }
    }

    fn op(&self, cpu: usize, number: usize, op: &Op) -> Result<(), String> {
        let tag = |lba: u32| 1 + (cpu * 100 + number) as u64 * 1000 + u64::from(lba);
        let index = CpuIndex(u32::try_from(cpu).unwrap_or(0));
        // A lane of one's own is there for the taking.
        let lane = || {
            if self.btt.lane_count() < self.program.cpus.len() {
                self.stage.contend();
            }
            quietly(|| self.btt.lane(index))
        };
        match *op {
            Op::Drain => lane().drain().map_err(|why| why.to_string()),
            Op::Write { lba, count } => {
                let tags: Vec<(u32, u64)> = (lba..lba + count).map(|lba| (lba, tag(lba))).collect();
                let bytes: Vec<u8> = tags.iter().flat_map(|(_, tag)| content(*tag)).collect();
                let source = Sectors::new(&bytes, self.btt.sector_size()).ok_or("sectors of another size")?;
                self.change(op, &tags, |_| {
                    lane().write(ExternalLba(u64::from(lba)), u64::from(count), &source).map(|()| tags.len())
                })
            }
            Op::Scatter { ref lbas } => {
                // A sector that comes twice has other data the second time.
                let tags: Vec<(u32, u64)> =
                    (0..).zip(lbas).map(|(turn, &lba)| (lba, turn * 1_000_000 + tag(lba))).collect();
                self.change(op, &tags, |from| lane().commit(&Scattered(&tags), from))
            }
            Op::Zero { lba, count } => {
                let tags: Vec<(u32, u64)> = (lba..lba + count).map(|lba| (lba, 0)).collect();
                self.change(op, &tags, |_| {
                    lane().zero(ExternalLba(u64::from(lba)), u64::from(count)).map(|()| tags.len())
                })
            }
            Op::Mark { lba } => {
                self.change(op, &[(lba, LOST_TAG)], |_| lane().mark_errors(ExternalLba(u64::from(lba)), 1).map(|()| 1))
            }
            Op::Read { lba } => {
                let mut bytes = [0; SECTOR];
                let mut sink = SectorsMut::new(&mut bytes, self.btt.sector_size()).ok_or("sectors of another size")?;
                let mut before = self.progress.borrow().current(lba);
                let tag = match self.btt.reader(index).read(ExternalLba(u64::from(lba)), 1, &mut sink) {
                    Ok(()) => tag_of(&bytes).ok_or("a reader gets a torn sector")?,
                    Err(BttError::SectorError { .. }) => LOST_TAG,
                    Err(why) => return Err(why.to_string()),
                };
                before.extend(self.progress.borrow().current(lba));
                // Anything that was begun meanwhile may also have ended and been replaced again.
                before.extend(self.progress.borrow().writes.iter().filter(|w| w.lba == lba).map(|w| w.tag));
                if before.contains(&tag) { Ok(()) } else { Err(format!("a reader gets {tag:#x}")) }
            }
        }
    }
}

impl World {
    /// Does what gives sectors new content, and keeps its time. `act` goes on from one of them, and returns how many
    /// it has done.
    fn change(
        &self,
        op: &Op,
        tags: &[(u32, u64)],
        mut act: impl FnMut(usize) -> Result<usize, BttError>,
    ) -> Result<(), String> {
        let first = {
            let mut progress = self.progress.borrow_mut();
            let (start, first) = (progress.tick(), progress.writes.len());
            progress.writes.extend(tags.iter().map(|&(lba, tag)| Written { lba, tag, start, end: None }));
            first
        };
        self.stage.say(|| format!("{op} begins"));
        let mut done = 0;
        while done < tags.len() {
            let now = act(done).map_err(|why| why.to_string())?;
            self.stage.say(|| format!("{op}: {now} from the {done}th on are acknowledged"));
            let mut progress = self.progress.borrow_mut();
            let (end, next) = (progress.tick(), progress.tick());
            // Other CPUs' writes may have come in between: each is known by its own tag.
            let (now, later) = (&tags[done..done + now], &tags[done + now..]);
            for write in progress.writes[first..].iter_mut().filter(|write| write.end.is_none()) {
                match (write.lba, write.tag) {
                    own if now.contains(&own) => write.end = Some(end),
                    // None of these can have begun.
                    own if later.contains(&own) => write.start = next,
                    _ => {}
                }
            }
            done += now.len();
        }
        Ok(())
    }
}

struct Search<'a, 'b> {
    lanes: &'a Lanes,
    start: Frame,
    cpus: Cpus,
    courses: HashSet<u64>,
    explorer: &'a mut Explorer<'b>,
}

impl Search<'_, '_> {
    fn world(&self) -> Result<Rc<World>, Stop> {
        let program = &self.lanes.program;
        let cpus = program.cpus.len();
        let stage = Stage::new(program.small, &self.start, self.lanes.grain, cpus);
        let btt = quietly(|| Btt::open(Acting(Rc::clone(&stage)), PLACEMENT, u32::try_from(cpus).unwrap_or(1)));
        let btt = btt.map_err(|why| self.violation(Vec::new(), format!("a fresh BTT does not open: {why}")))?;
        let progress = RefCell::default();
        Ok(Rc::new(World { program: program.clone(), btt, stage, progress }))
    }

    fn violation(&self, events: Vec<String>, why: String) -> Stop {
        Stop::Violation(Box::new(Violation { scenario: self.lanes.name(), events, landed: Vec::new(), why }))
    }

    /// Follows a schedule to its end, then goes on where no schedule has been; what else could be tried there is added to
    /// `schedules`.
    fn follow(&mut self, mut schedule: Vec<u8>, schedules: &mut Vec<Vec<u8>>) -> Result<(), Stop> {
        let world = self.world()?;
        let mut at = self.begin(&world);
        for &cpu in &schedule {
            self.advance(&world, &mut at, usize::from(cpu));
        }
        let result = loop {
            if !self.courses.insert(world.stage.course()) {
                break Ok(());
            }
            if let Err(stop) = self.cut(&world) {
                break Err(stop);
            }
            let ready: Vec<u8> = (0..).zip(&at).filter(|(_, at)| **at == At::Ready).map(|(cpu, _)| cpu).collect();
            let Some((&next, others)) = ready.split_first() else {
                let stuck = at.contains(&At::Waiting);
                break if stuck { Err(self.violation(Vec::new(), "all CPUs wait for ever".into())) } else { Ok(()) };
            };
            schedules.extend(others.iter().map(|&other| schedule.iter().copied().chain([other]).collect()));
            schedule.push(next);
            self.advance(&world, &mut at, usize::from(next));
        };
        self.finish(&world, at);
        match result {
            Err(Stop::Violation(mut violation)) => {
                violation.scenario = self.lanes.name();
                violation.events = self.retell(&schedule)?;
                Err(Stop::Violation(violation))
            }
            other => other,
        }
    }

    fn begin(&mut self, world: &Rc<World>) -> Vec<At> {
        let start = |cpu| {
            world.stage.set_cpu(u32::try_from(cpu).unwrap_or(0));
            let work = Rc::clone(world);
            self.cpus.start(cpu, move || work.run(cpu))
        };
        (0..world.program.cpus.len()).map(start).collect()
    }

    /// One step. A CPU that waits is worth a try again after another one has gone on.
    fn advance(&mut self, world: &World, at: &mut [At], cpu: usize) {
        at[cpu] = self.step(world, cpu);
        if at[cpu] != At::Waiting {
            let waiting = at.iter_mut().enumerate().filter(|(other, at)| *other != cpu && **at == At::Waiting);
            waiting.for_each(|(_, at)| *at = At::Ready);
        }
    }

    fn step(&mut self, world: &World, cpu: usize) -> At {
        world.stage.set_cpu(u32::try_from(cpu).unwrap_or(0));
        self.cpus.go(cpu)
    }

    /// Lets every CPU end its work, so that it can be used again.
    fn finish(&mut self, world: &World, mut at: Vec<At>) {
        world.stage.end();
        let mut idle = 0;
        while at.iter().any(|at| *at != At::Done) {
            for (cpu, own) in at.iter_mut().enumerate().filter(|(_, own)| **own != At::Done) {
                *own = self.step(world, cpu);
                idle = if *own == At::Waiting { idle + 1 } else { 0 };
            }
            assert!(idle < 100, "{}: all CPUs wait for ever", self.lanes.name());
        }
    }

    /// The power goes now.
    fn cut(&mut self, world: &World) -> Result<(), Stop> {
        let program = &self.lanes.program;
        let progress = world.progress.borrow();
        if let Some(trouble) = &progress.trouble {
            return Err(self.violation(Vec::new(), trouble.clone()));
        }
        let mut allowed = Vec::new();
        for lba in 0..program.small.sectors {
            let current = progress.current(lba);
            let stands = program
                .small
                .visible(|at, into| world.stage.visible(at, into), lba)
                .filter(|tag| current.contains(tag));
            let Some(stands) = stands else {
                return Err(self.violation(Vec::new(), format!("a load of sector {lba} finds none of {current:#x?}")));
            };
            let under_way = progress.writes.iter().filter(|write| write.lba == lba && write.end.is_none());
            let mut tags: Vec<u64> = under_way.map(|write| write.tag).filter(|tag| *tag != stands).collect();
            if [0, LOST_TAG].contains(&stands) && progress.is_under_way(lba, stands) {
                // An edit of the map is seen before it is durable; a write never is.
                tags.extend(current.iter().filter(|tag| **tag != stands));
            }
            tags.push(stands);
            tags.sort_unstable();
            tags.dedup();
            allowed.push(tags);
        }
        drop(progress);
        let cpus = u32::try_from(program.cpus.len()).unwrap_or(1);
        let promise = Promise { small: program.small, cpus, allowed };
        world.stage.with_durable(|durable, pending| self.explorer.cut(durable, pending, &promise))
    }

    /// What happens under a schedule, as text.
    fn retell(&mut self, schedule: &[u8]) -> Result<Vec<String>, Stop> {
        let world = self.world()?;
        world.stage.tell();
        let mut at = self.begin(&world);
        for &cpu in schedule {
            self.advance(&world, &mut at, usize::from(cpu));
        }
        let story = world.stage.story();
        self.finish(&world, at);
        Ok(story)
    }
}
