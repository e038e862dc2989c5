//! A save of the configuration, cut anywhere, and the next one too: the settings before, or the new ones.

use btt::media::Medium;
use btt::sim::{Event, Persistence, Sim};
use kernel::node::config::store::{Copies, Room, save};
use service::config::Settings;
use service::config::record::{Copy, Sequence};

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

/// Those of the save that follows when the appliance has started again: they name the save that counted then, or none.
fn settings_after(counted: u64) -> Settings {
    let value = "y".repeat(usize::try_from(counted).expect("a few") + 1);
    Settings::parse(&format!("console=person\nnet1={value}\n")).expect("plain")
}

fn save_on<M: Medium>(medium: &M, number: u64, settings: &Settings) -> Result<(), String> {
    save(medium, ROOM, Sequence(number), settings, false).map_err(|why| why.to_string())
}

impl Operation for Saving {
    fn name(&self) -> String {
        format!("save the configuration after {} saves{}", self.before, kind(self.persistence))
    }

    fn before(&self) -> Sim {
        let sim = Sim::new(8192).with_persistence(self.persistence);
        (1..=self.before).for_each(|number| save_on(&sim, number, &settings(number)).expect("a sound medium"));
        sim.settled()
    }

    fn act(&self, sim: &Sim) -> Result<(), String> {
        save_on(sim, self.before + 1, &settings(self.before + 1))
    }

    fn judge(&self, medium: &CutMedium, done: bool) -> Result<Vec<Event>, String> {
        let copies = Copies::load(medium, ROOM).map_err(|why| why.to_string())?;
        let found = copies.newest().map(|(sequence, settings)| (sequence.0, settings.clone()));
        let number = found.as_ref().map_or(0, |(number, _)| *number);
        let is = |expected: Settings| found.as_ref().is_some_and(|(_, found)| *found == expected);
        let least = self.before + u64::from(done);
        // The save that followed, if a cut in it has left a copy of it.
        for counted in least..=self.before + 1 {
            let follows = settings_after(counted);
            let is_there = |copy: &Copy| matches!(copy, Copy::Sound(_, settings) if *settings == follows);
            if copies.0.iter().any(is_there) {
                let still = if counted == 0 { found.is_none() } else { is(settings(counted)) };
                return match is(follows) || (number == counted && still) {
                    true => Ok(Vec::new()),
                    false => Err(format!("save {number} counts, where {counted} did and then another one began")),
                };
            }
        }
        if found.is_some() && !is(settings(number)) {
            return Err(format!("a mixture counts as save {number}"));
        }
        if number < least || number > self.before + 1 {
            return Err(format!("save {number} counts, after {} and perhaps another one", self.before));
        }
        // The appliance starts again, and saves again.
        save_on(medium, number + 1, &settings_after(number))?;
        Ok(medium.take_events())
    }

    fn is_data(&self, _: u64) -> bool {
        false
    }
}
