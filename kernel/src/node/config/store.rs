//! Two copies of the settings on a medium, which a power cut at any moment leaves as one of: those before, the new ones.
//!
//! # Order (invariant 19)
//! A save writes the copy that is not in force first, makes it durable, and only then the other one. A copy's checksum covers
//! its header and its lines, so what a cut leaves of one that is being written is no copy: the other one counts, which is the
//! one that was in force or, while the second is written, the new one, whose sequence is greater. In the end both are alike,
//! and the loss of either loses nothing.

use alloc::vec;
use core::fmt;

use btt::layout::PAGE_BYTES;
use btt::media::{MediaError, Medium, NsOffset};
use service::config::Settings;
use service::config::record::{Copy, HEADER_BYTES, Header, SIGNATURE, Sequence, decode, encode, text_bytes};

/// Where the two copies are on a medium.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    copies: [NsOffset; 2],
    /// The bytes that each may take, its header included.
    bytes: usize,
}

impl Room {
    /// The page in front of a BTT 1.1, which is no part of it. The last line of each half stays blank: a probe of the medium
    /// needs one.
    pub const IN_FRONT: Self =
        Self { copies: [NsOffset(0), NsOffset(PAGE_BYTES / 2)], bytes: (PAGE_BYTES / 2) as usize - 64 };

    /// A namespace of their own.
    pub const OF_NAMESPACE: Self = Self { copies: [NsOffset(0), NsOffset(64 << 10)], bytes: 64 << 10 };

    /// Returns whether each copy's place is blank, or has a copy or the rest of one.
    pub fn is_blank_or_ours<M: Medium>(self, medium: &M) -> bool {
        self.copies.iter().all(|at| {
            let mut header: Header = [0; HEADER_BYTES];
            match medium.read(*at, &mut header) {
                Ok(()) => header[..SIGNATURE.len()] == SIGNATURE || header.iter().all(|byte| *byte == 0),
                Err(why) => matches!(why, MediaError::Poisoned { .. }),
            }
        })
    }

    /// Returns the bytes from the first copy to the end of the last.
    const fn span_bytes(self) -> u64 {
        self.copies[1].0 + self.bytes as u64
    }
}

/// Why settings were not saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaveError {
    /// There are too many.
    TooLarge {
        /// Bytes of their lines.
        bytes: usize,
        /// Bytes that there is room for.
        room: usize,
    },
    /// A newer version wrote a copy of this major version.
    Newer(u16),
    /// The medium failed.
    Media(MediaError),
    /// A copy does not read as it was written.
    NotKept(NsOffset),
}

impl fmt::Display for SaveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { bytes, room } => write!(f, "it has {bytes} bytes, and there is room for {room}"),
            Self::Newer(major) => {
                write!(f, "a newer untorn wrote what is there (version {major}): -f writes over it all the same")
            }
            Self::Media(why) => why.fmt(f),
            Self::NotKept(at) => write!(f, "the copy at {at} does not read as it was written"),
        }
    }
}

impl core::error::Error for SaveError {}

impl From<MediaError> for SaveError {
    fn from(why: MediaError) -> Self {
        Self::Media(why)
    }
}

/// The copies of a medium.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copies(pub [Copy; 2]);

impl Copies {
    /// Returns the copies of a medium that is shorter than their room as none.
    ///
    /// # Errors
    /// The medium's, but for lost bytes: a copy that has some is damaged, unless the other one was never written.
    pub fn load<M: Medium>(medium: &M, room: Room) -> Result<Self, MediaError> {
        if medium.len_bytes() < room.span_bytes() {
            return Ok(Self([Copy::None, Copy::None]));
        }
        let [first, second] = room.copies.map(|at| load(medium, at, room));
        Ok(Self(match (first?, second?) {
            // Perhaps there were some.
            (None, None) => [Copy::Damaged, Copy::Damaged],
            (Some(found), None) if found == Copy::None => [found, Copy::None],
            (None, Some(found)) if found == Copy::None => [Copy::None, found],
            (first, second) => [first.unwrap_or(Copy::Damaged), second.unwrap_or(Copy::Damaged)],
        }))
    }

    /// Returns the settings that count, if a copy is sound.
    #[must_use]
    pub fn newest(&self) -> Option<(Sequence, &Settings)> {
        let sound = self.0.iter().filter_map(|copy| match copy {
            Copy::Sound(sequence, settings) => Some((*sequence, settings)),
            _ => None,
        });
        sound.max_by_key(|(sequence, _)| *sequence)
    }

    /// Returns the major version of a copy that a newer version wrote, if one did.
    #[must_use]
    pub fn newer(&self) -> Option<u16> {
        self.0.iter().find_map(|copy| if let Copy::Newer(major) = copy { Some(*major) } else { None })
    }

    /// Returns whether there is nothing of a copy.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.0.iter().all(|copy| *copy == Copy::None)
    }

    /// Returns whether one of them is damaged.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        self.0.contains(&Copy::Damaged)
    }

    /// Returns the index of the copy whose loss loses least: that is written first.
    fn spare(&self) -> usize {
        let sequence = |copy: &Copy| if let Copy::Sound(sequence, _) = copy { Some(*sequence) } else { None };
        usize::from(sequence(&self.0[1]) < sequence(&self.0[0]))
    }
}

/// Reads a copy; `None` if the medium has lost some of it.
fn load<M: Medium>(medium: &M, at: NsOffset, room: Room) -> Result<Option<Copy>, MediaError> {
    let mut header: Header = [0; HEADER_BYTES];
    let mut text = vec![];
    let mut read = || {
        medium.read(at, &mut header)?;
        text.resize(text_bytes(&header).min(room.bytes - HEADER_BYTES), 0);
        medium.read(at.plus(HEADER_BYTES as u64), &mut text)
    };
    match read() {
        Ok(()) => Ok(Some(decode(&header, &text))),
        Err(MediaError::Poisoned { .. }) => Ok(None),
        Err(why) => Err(why),
    }
}

/// Saves settings: both copies are durable when this returns. `force` writes over a newer version's.
///
/// # Errors
/// [`SaveError`]. But for `TooLarge` and `Newer`, one of the copies may be the new one.
pub fn save<M: Medium>(
    medium: &M,
    room: Room,
    sequence: Sequence,
    settings: &Settings,
    force: bool,
) -> Result<(), SaveError> {
    let (header, mut text) = encode(sequence, settings);
    let most = room.bytes - HEADER_BYTES;
    if text.len() > most {
        return Err(SaveError::TooLarge { bytes: text.len(), room: most });
    }
    let before = Copies::load(medium, room)?;
    if let Some(major) = before.newer().filter(|_| !force) {
        return Err(SaveError::Newer(major));
    }
    // All of the room: secrets that were there before are gone.
    text.resize(most, 0);
    let first = before.spare();
    for copy in [first, 1 - first] {
        let at = room.copies[copy];
        medium.write(at.plus(HEADER_BYTES as u64), &text)?;
        medium.write(at, &header)?;
        // A crash before this leaves the other copy, whatever of this one has landed; a crash after it leaves this one.
        medium.fence()?;
        if load(medium, at, room)? != Some(Copy::Sound(sequence, settings.clone())) {
            return Err(SaveError::NotKept(at));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use btt::sim::{Plan, Sim};

    fn settings(value: &str) -> Settings {
        Settings::parse(&alloc::format!("net0={value}\nnvme.export=pmem0s\n")).expect("plain")
    }

    fn shown(sim: &Sim, room: Room) -> Option<(Sequence, Settings)> {
        let copies = Copies::load(sim, room).expect("no faults");
        copies.newest().map(|(sequence, settings)| (sequence, settings.clone()))
    }

    #[test]
    fn both_copies_are_written_and_the_loss_of_either_loses_nothing() {
        for (room, bytes) in [(Room::IN_FRONT, 8192), (Room::OF_NAMESPACE, 1 << 20)] {
            let sim = Sim::new(bytes);
            assert_eq!(Copies::load(&sim, room).map(|it| it.is_none()), Ok(true));
            for count in 1..4 {
                let value = count.to_string();
                save(&sim, room, Sequence(count), &settings(&value), false).expect("room");
                assert!(!sim.has_pending());
                let copies = Copies::load(&sim, room).expect("no faults");
                assert_eq!(copies.0[0], copies.0[1]);
                for at in room.copies {
                    let one_lost = sim.fork();
                    one_lost.write(at, &[7; 64]).expect("in range");
                    assert_eq!(shown(&one_lost, room), Some((Sequence(count), settings(&value))));
                }
            }
        }
    }

    #[test]
    fn a_blank_line_stays_for_probes_in_front_of_a_btt() {
        let sim = Sim::new(8192);
        let mut full = Settings::default();
        full.set("a", &"x".repeat(Room::IN_FRONT.bytes - HEADER_BYTES - 3)).expect("plain");
        save(&sim, Room::IN_FRONT, Sequence(1), &full, false).expect("it just fits");
        let image = sim.image();
        assert!(image[2048 - 64..2048].iter().chain(&image[4096 - 64..]).all(|byte| *byte == 0));
        let mut more = full.clone();
        more.set("b", "1").expect("plain");
        let refused = save(&sim, Room::IN_FRONT, Sequence(2), &more, false);
        assert_eq!(refused, Err(SaveError::TooLarge { bytes: 1924, room: 1920 }));
        assert_eq!(shown(&sim, Room::IN_FRONT), Some((Sequence(1), full)));
    }

    #[test]
    fn what_a_newer_version_wrote_stays_unless_forced() {
        let sim = Sim::new(8192);
        let (mut header, text) = encode(Sequence(9), &settings("off"));
        header[16] = 3;
        sim.write(NsOffset(0), &header).expect("in range");
        sim.write(NsOffset(64), &text).expect("in range");
        let before = sim.image();
        assert_eq!(save(&sim, Room::IN_FRONT, Sequence(1), &settings("a"), false), Err(SaveError::Newer(3)));
        assert!(sim.image() == before && shown(&sim, Room::IN_FRONT).is_none());
        save(&sim, Room::IN_FRONT, Sequence(1), &settings("a"), true).expect("forced");
        assert_eq!(shown(&sim, Room::IN_FRONT), Some((Sequence(1), settings("a"))));
    }

    #[test]
    fn a_medium_that_fails_at_any_access_leaves_old_or_new_settings() {
        let sim = Sim::new(8192);
        save(&sim, Room::IN_FRONT, Sequence(1), &settings("old"), false).expect("room");
        for access in 0.. {
            let failing = sim.fork();
            failing.set_plan(Plan::FailFrom(access));
            let result = save(&failing, Room::IN_FRONT, Sequence(2), &settings("new"), false);
            let is_done = result.is_ok();
            failing.set_plan(Plan::None);
            let found = shown(&failing, Room::IN_FRONT).map(|(_, settings)| settings);
            assert!(found == Some(settings("new")) || (!is_done && found == Some(settings("old"))), "access {access}");
            if is_done {
                break;
            }
        }
    }
}
