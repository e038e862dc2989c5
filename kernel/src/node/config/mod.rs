//! The configuration: what the node is told to be, by the command line, by what its media keep, and by commands.
//!
//! | part | does |
//! |---|---|
//! | this | where copies are; loads them before any namespace is opened |
//! | [`store`] | two copies on a medium, whatever a power cut leaves |
//! | `room` | which namespaces have room for copies |
//! | `force` | puts a key's value in force |
//! | `admin` | the command `config`; keeps keys true that other commands change |
//!
//! # Where copies are
//! A node may have several; the one that was saved last counts.
//!
//! - In a namespace of its own, named `untorn-config`, in raw mode, where labels are. Linux shows it as a raw namespace, and
//!   finds nothing in it.
//! - In the first page of a namespace without labels, if a BTT begins in its second. The BTT leaves that page out, so that what
//!   probes for file systems sees none (btt's `info_block::Version::V1_1`). Linux reads it only if it finds no BTT, ndctl and
//!   PMDK do not read it at all.

mod admin;
mod force;
pub(super) mod room;
pub mod store;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use btt::info_block::Version;
use btt::media::Medium as _;
use btt::unmake::signed_pages;
use drivers::medium::AnyMedium;
use nvdimm::namespace::Namespace;
use service::config::keys::{self, INTERFACE};
use service::config::record::Sequence;
use service::config::{Layers, Settings, Source};
use service::error::AdminError;
use service::events::{Kind, Severity};
use uuid::Uuid;

use super::attach::{Mapped, medium, starts_btt};
use super::{Machine, Node};
use crate::command_line;
use crate::events::News;
use store::{Copies, Room};

/// The node's configuration.
#[derive(Debug, Default)]
pub(super) struct Config {
    pub(super) layers: Layers,
    /// The greatest sequence that was found or written.
    sequence: Sequence,
    /// The places that have copies, as they were when they were read or written last.
    known: Vec<Known>,
    /// What is wrong on the command line, or with what is configured.
    pub(super) slips: Vec<Slip>,
}

/// Something that is configured wrongly.
#[derive(Debug)]
pub(super) struct Slip {
    /// `command line`, or `configuration`.
    pub(super) place: &'static str,
    /// What is wrong, and what was done about it.
    pub(super) what: String,
}

/// A place that has copies.
#[derive(Debug)]
struct Known {
    /// Its namespace: `namespace0.0`.
    name: String,
    copies: Copies,
}

/// A place for copies.
struct Place {
    /// Its namespace.
    name: String,
    /// Its region.
    region: String,
    medium: AnyMedium,
    room: Room,
}

impl Config {
    /// Returns what is wrong with the copies, and where: a sentence each.
    pub(super) fn faults(&self) -> impl Iterator<Item = (&str, String)> {
        let newest = self.newest().map(|(sequence, settings)| (sequence, settings.clone()));
        self.known.iter().flat_map(move |Known { name, copies }| {
            let own = copies.newest();
            let mut faults = Vec::new();
            match (own, copies.newer(), &newest) {
                (_, Some(major), _) => faults.push(format!(
                    "a copy of the configuration is of a newer untorn (version {major}), and left alone: config save -f writes \
                     over it"
                )),
                (None, ..) => faults.push(
                    "its configuration is damaged, and does not count: config save writes it anew".to_string(),
                ),
                (Some((sequence, _)), None, Some((greatest, _))) if sequence < *greatest => faults.push(format!(
                    "its configuration is older than another one, and does not count: config save makes them alike (saved \
                     {} times, the other one {})",
                    sequence.0, greatest.0
                )),
                (Some((_, settings)), None, Some((_, counts))) if settings != counts => faults.push(
                    "its configuration differs from another one that was saved as often, and does not count: config save makes \
                     them alike"
                        .to_string(),
                ),
                _ if copies.is_damaged() => {
                    faults.push(
                        "one of its two copies of the configuration is damaged, or was being written when the power went: config \
                         save mends it"
                            .to_string(),
                    );
                }
                _ => {}
            }
            faults.into_iter().map(move |fault| (name.as_str(), fault))
        })
    }

    /// Returns the settings that count: those that were saved most often, of the first place of several.
    fn newest(&self) -> Option<(Sequence, &Settings)> {
        let sound = self.known.iter().filter_map(|known| known.copies.newest());
        sound.fold(None, |best: Option<(Sequence, &Settings)>, it| match best {
            Some(best) if best.0 >= it.0 => Some(best),
            _ => Some(it),
        })
    }

    /// Returns what a name stood for when it was saved.
    fn uuid_of(&self, name: &str) -> Option<Uuid> {
        let named =
            |item: &str| item.split_once(':').filter(|(own, _)| *own == name).and_then(|(_, uuid)| uuid.parse().ok());
        keys::items(self.layers.value(keys::NAMES)).find_map(named)
    }

    /// Returns whether a name stands for a namespace: it is called so, or was when the name was saved.
    fn stands_for(&self, name: &str, is_called: impl Fn(&str) -> bool, uuid: Option<Uuid>) -> bool {
        is_called(name) || (uuid.is_some() && self.uuid_of(name) == uuid)
    }

    /// Returns whether something is in force, or was, that no copy has.
    fn is_unsaved(&self) -> bool {
        let is_lost = self.newest().is_none() && !self.layers.to_save().is_empty();
        is_lost || self.layers.is_unsaved()
    }

    /// Forgets what was wrong with a key's value: it has another one.
    fn forget_slips(&mut self, key: &str) {
        self.slips.retain(|slip| slip.what.strip_prefix(key).is_none_or(|rest| !rest.starts_with(':')));
    }

    /// Notes something that is configured wrongly.
    fn slip<M: Machine>(&mut self, machine: &M, place: &'static str, what: String) {
        let news =
            News { severity: Severity::Warning, kind: Kind::Config, place: &place, what: format_args!("{what}") };
        machine.tell(&news);
        self.slips.push(Slip { place, what });
    }
}

/// The error about a key's value, with the key's name before it.
fn of_key(key: &str, why: AdminError) -> AdminError {
    AdminError::new(why.code, format!("{key}: {}", why.message))
}

/// The error for a name that is no key's.
fn no_key(name: &str) -> AdminError {
    let meant = keys::meant(name).map(|meant| format!("did you mean {meant}? ")).unwrap_or_default();
    AdminError::not_found(format!("no key \"{name}\": {meant}config shows what there is"))
}

/// Returns the place for copies that a namespace has, if it has one.
fn place(mapped: &Mapped, namespace: &Namespace) -> Option<Place> {
    if !matches!(mapped, Mapped::Pmem(_)) {
        return None;
    }
    let room = room::of(namespace)?;
    let medium = medium(mapped, namespace).ok()?;
    Some(Place { name: namespace.id.to_string(), region: namespace.id.region.to_string(), medium, room })
}

impl Place {
    /// Returns whether copies may be written here: in front of a BTT only if there is one, else the page may be the start of
    /// anything; and in a namespace of that name only where nothing else is.
    fn may_be_written(&self) -> bool {
        let is_there = match self.room {
            Room::IN_FRONT => starts_btt(&self.medium, Version::V1_1),
            _ => signed_pages(&self.medium).is_empty() && self.room.is_blank_or_ours(&self.medium),
        };
        is_there && !self.medium.read_only()
    }
}

impl<M: Machine> Node<M> {
    /// Returns the places for copies among these namespaces.
    fn config_places<'a>(&'a self, namespaces: impl IntoIterator<Item = &'a Namespace>) -> Vec<Place> {
        let of = |namespace: &Namespace| {
            let slot = self.regions.iter().find(|slot| slot.region.id == namespace.id.region)?;
            place(slot.medium.as_ref().ok()?, namespace)
        };
        namespaces.into_iter().filter_map(of).collect()
    }

    /// Loads the configuration of these namespaces, none of which is open yet, and takes the command line's.
    pub(super) fn load_config(&mut self, line: &str, namespaces: &[Namespace]) {
        let mut config = Config::default();
        for place in self.config_places(namespaces) {
            match Copies::load(&place.medium, place.room) {
                Ok(copies) if copies.is_none() => {}
                Ok(copies) => config.known.push(Known { name: place.name, copies }),
                // The namespace fails, too, and says so.
                Err(why) => {
                    let what = format_args!("its configuration was not read: {why}");
                    self.tell(Severity::Warning, Kind::Config, &place.name, what);
                }
            }
        }
        let newest = config.newest().map(|(sequence, settings)| (sequence, settings.clone()));
        let (sequence, stored) = newest.unwrap_or_default();
        config.sequence = sequence;
        let mut slips: Vec<String> = Vec::new();
        for (key, meant) in command_line::slips(line) {
            let meant = meant.map(|meant| format!(": did you mean {meant}?")).unwrap_or_default();
            slips.push(format!("{key}: there is no such key: it is left alone{meant}"));
        }
        // Names stand for what they stood for when the configuration was saved, and for nothing else.
        if command_line::values(line, keys::NAMES).next().is_some() {
            slips.push(format!("{}: only config save sets it: it is left alone", keys::NAMES));
        }
        let words = command_line::words(line).filter(|(key, _)| *key != keys::NAMES);
        config.layers = Layers::new(words, stored, |why| slips.push(why.to_string()));
        slips.into_iter().for_each(|what| config.slip(&*self.machine, "command line", what));
        let faults: Vec<String> = config.faults().map(|(name, what)| format!("{name}: {what}")).collect();
        for what in &faults {
            self.tell(Severity::Warning, Kind::Config, &"configuration", format_args!("{what}"));
        }
        if !config.known.is_empty() && config.newest().is_none() {
            let what = format_args!("none of it can be used: all is as by default");
            self.tell(Severity::Error, Kind::Config, &"configuration", what);
        }
        self.config = config;
    }

    /// Returns the names of the keys to show.
    fn config_names(&self) -> Vec<String> {
        let interfaces = (0..self.networks.count()).map(|number| INTERFACE.replace('N', &number.to_string()));
        self.config.layers.names(interfaces)
    }

    /// Returns whether a namespace is to stay closed: an admin disabled it, and saved that. So is another one that has its name
    /// now: which of them was meant is for a person to say.
    pub(super) fn stays_disabled(&self, is_called: impl Fn(&str) -> bool, uuid: Option<Uuid>) -> bool {
        keys::items(self.config.layers.value(keys::DISABLED)).any(|item| self.config.stands_for(item, &is_called, uuid))
    }

    /// Refuses a device that has the name of one that was saved, and is another one: names count by address.
    fn check_name(&self, key: &str, item: &str) -> Result<(), AdminError> {
        let (dev, _) = keys::served(item);
        let (_, source) = self.config.layers.get(key);
        let saved = self.config.uuid_of(dev).filter(|_| key == keys::NVME_EXPORT && source == Source::Stored);
        match (saved, self.disk(dev)) {
            (Some(saved), Ok(disk)) if disk.btt.uuid() != saved => Err(AdminError::failed(format!(
                "{dev} is another disk than the one that was saved ({saved}), and not served: export {dev} --nvme serves it"
            ))),
            _ => Ok(()),
        }
    }

    /// Returns what the names in the configuration stand for: what is served and disabled now; and of what is left out, because
    /// it is another one or not there, what it stood for before.
    fn names_now(&self) -> String {
        let served_now = self.nvme.status();
        let served = keys::items(self.config.layers.value(keys::NVME_EXPORT)).filter_map(|item| {
            let (dev, _) = keys::served(item);
            let is_served = served_now.iter().any(|served| served.dev == dev);
            let now = self.disk(dev).ok().filter(|_| is_served).map(|disk| disk.btt.uuid());
            Some((dev, now.or_else(|| self.config.uuid_of(dev))?))
        });
        let disabled = keys::items(self.config.layers.value(keys::DISABLED)).filter_map(|name| {
            let now = || Some(self.at(self.place(name).ok()?).namespace.labelling.as_ref()?.uuid);
            Some((name, self.config.uuid_of(name).or_else(now)?))
        });
        let all: Vec<String> = served.chain(disabled).map(|(name, uuid)| format!("{name}:{uuid}")).collect();
        keys::of_items(all.iter().map(String::as_str))
    }

    /// Returns whether consumers are offered a device.
    pub(super) fn is_offered(&self, dev: &str) -> bool {
        force::is_offered(self.config.layers.value(keys::EXPORT), dev)
    }
}
