//! A save of the configuration, cut anywhere, and the next one too: the settings before, or the new ones.

use btt::media::Medium;
use btt::sim::{Event, Persistence, Sim};
use kernel::node::config::store::{Copies, Room, save};
use service::config::Settings;
use service::config::record::Sequence;

use super::medium::CutMedium;
use super::single::{Operation, kind};

/// A save.
#[derive(Clone, Copy, Debug)]
pub struct Saving {
    /// How many saves there were before.
    pub before: u64,
    /// When what is stored persists.
    pub persistence: Persistence,
}

const ROOM: Room = Room::IN_FRONT;

/// The settings of a save: their length changes with it, too.
fn settings(number: u64) -> Settings {
    let value = "x".repeat(usize::try_from(number).expect("a few"));
    Settings::parse(&format!("console=person\nnet0={value}\n")).expect("plain")
}

fn save_on<M: Medium>(medium: &M, number: u64) -> Result<(), String> {
    save(medium, ROOM, Sequence(number), &settings(number), false).map_err(|why| why.to_string())
}

impl Operation for Saving {
    fn name(&self) -> String {
        format!("save the configuration after {} saves{}", self.before, kind(self.persistence))
    }

    fn before(&self) -> Sim {
        let sim = Sim::new(8192).with_persistence(self.persistence);
        (1..=self.before).for_each(|number| save_on(&sim, number).expect("a sound medium"));
        sim.settled()
    }

    fn act(&self, sim: &Sim) -> Result<(), String> {
        save_on(sim, self.before + 1)
    }

    fn judge(&self, medium: &CutMedium, done: bool) -> Result<Vec<Event>, String> {
        let copies = Copies::load(medium, ROOM).map_err(|why| why.to_string())?;
        let found = copies.newest().map(|(sequence, settings)| (sequence.0, settings.clone()));
        let number = found.as_ref().map_or(0, |(number, _)| *number);
        if found.is_some_and(|(_, found)| found != settings(number)) {
            return Err(format!("a mixture counts as save {number}"));
        }
        // A cut in the save that follows may leave that one.
        if number < self.before + u64::from(done) || number > self.before + 2 {
            return Err(format!("save {number} counts, after {} and perhaps another one", self.before));
        }
        if number == self.before + 2 {
            return Ok(Vec::new());
        }
        // The appliance starts again, and saves again.
        save_on(medium, self.before + 2)?;
        Ok(medium.take_events())
    }

    fn is_data(&self, _: u64) -> bool {
        false
    }
}
