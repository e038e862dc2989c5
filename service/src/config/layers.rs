//! The settings that are in force. Of several values of a key the first of these counts: the one that was set since boot,
//! the command line's, the stored one, the default.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use serde::Serialize;

use super::keys::{Form, INTERFACE, KEYS, Key, items, of_items};
use super::settings::{Settings, SettingsError};

/// Where a value is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Source {
    /// Nobody gave one.
    #[serde(rename = "default")]
    Default,
    /// The configuration on the media.
    #[serde(rename = "stored")]
    Stored,
    /// The image's command line: for this boot.
    #[serde(rename = "command line")]
    CommandLine,
    /// It was set since boot, and is not saved.
    #[serde(rename = "set")]
    Set,
}

impl Source {
    /// The word for people and programs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Stored => "stored",
            Self::CommandLine => "command line",
            Self::Set => "set",
        }
    }

    /// The place of a slip in a value from there, for people.
    #[must_use]
    pub const fn place(self) -> &'static str {
        match self {
            Self::CommandLine => "command line",
            _ => "configuration",
        }
    }
}

/// All settings, by where they are from.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    stored: Settings,
    line: Settings,
    /// Set since boot; `None` takes a stored one away.
    set: BTreeMap<String, Option<String>>,
}

impl Layers {
    /// Settings of these words of a command line and this configuration. `slip` gets what is wrong with a word of one of our
    /// keys.
    pub fn new<'a>(
        words: impl Iterator<Item = (&'a str, &'a str)>,
        stored: Settings,
        mut slip: impl FnMut(SettingsError),
    ) -> Self {
        let mut line = Settings::default();
        for (name, value) in words {
            let Some(key) = Key::named(name) else { continue };
            let all = match (key.form, line.get(name)) {
                (Form::Items, Some(before)) => of_items(items(before).chain(items(value))),
                _ => value.into(),
            };
            line.set(name, &all).unwrap_or_else(&mut slip);
        }
        Self { stored, line, set: BTreeMap::new() }
    }

    /// Returns a key's value, and where it is from. A key that means nothing has none by default: `""`.
    #[must_use]
    pub fn get(&self, name: &str) -> (&str, Source) {
        let default = || Key::named(name).map_or("", |key| key.default);
        match self.set.get(name) {
            Some(Some(value)) if self.stored.get(name) == Some(value) => return (value, Source::Stored),
            Some(Some(value)) => return (value, Source::Set),
            Some(None) if self.stored.get(name).is_none() => return (default(), Source::Default),
            Some(None) => return (default(), Source::Set),
            None => {}
        }
        let below = [(&self.line, Source::CommandLine), (&self.stored, Source::Stored)];
        let found = below.into_iter().find_map(|(layer, source)| Some((layer.get(name)?, source)));
        found.unwrap_or_else(|| (default(), Source::Default))
    }

    /// Returns a key's value.
    #[must_use]
    pub fn value(&self, name: &str) -> &str {
        self.get(name).0
    }

    /// Returns the names of all keys, by name: those that mean something, of interfaces those that were named or are in
    /// `interfaces`, and those that are stored or set.
    #[must_use]
    pub fn names(&self, interfaces: impl IntoIterator<Item = String>) -> Vec<String> {
        let known = KEYS.iter().map(|key| key.name).filter(|name| *name != INTERFACE).map(String::from);
        let given = [&self.stored, &self.line].into_iter().flat_map(Settings::iter).map(|(name, _)| name.into());
        let mut all: BTreeSet<String> = known.chain(interfaces).chain(given).chain(self.set.keys().cloned()).collect();
        all.retain(|name| Key::named(name).is_some() || !self.value(name).is_empty());
        all.into_iter().collect()
    }

    /// Sets a key.
    ///
    /// # Errors
    /// Its value could not be kept.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), SettingsError> {
        self.to_save().set(name, value)?;
        self.set.insert(name.into(), Some(value.into()));
        Ok(())
    }

    /// Takes a key's value away: its default is in force.
    pub fn unset(&mut self, name: &str) {
        self.set.insert(name.into(), None);
    }

    /// Returns what is to be stored: what is stored, with what was set since boot. The command line is for one boot.
    #[must_use]
    pub fn to_save(&self) -> Settings {
        let mut all = self.stored.clone();
        for (name, value) in &self.set {
            match value {
                // Their sum was tried when each was set, and may be greater on the way.
                Some(value) => all.put(name, value),
                None => all.unset(name),
            }
        }
        all
    }

    /// Returns whether something was set that is not stored.
    #[must_use]
    pub fn is_unsaved(&self) -> bool {
        self.to_save() != self.stored
    }

    /// Notes that all that was to be saved is stored.
    pub fn saved(&mut self) {
        self.stored = self.to_save();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_values_may_follow_each_other() {
        let large = "x".repeat(40 << 10);
        let mut layers = Layers::new([].into_iter(), stored(&[("export", &large)]), |why| panic!("{why}"));
        layers.set("export", "all").expect("less");
        layers.set("disabled", &large).expect("it fits now");
        assert_eq!(layers.to_save(), stored(&[("disabled", &large), ("export", "all")]));
        layers.set("net0", &large).expect_err("too much");
    }

    fn stored(pairs: &[(&str, &str)]) -> Settings {
        let mut settings = Settings::default();
        for (key, value) in pairs {
            settings.set(key, value).expect("plain");
        }
        settings
    }

    #[test]
    fn the_nearest_value_counts_and_the_command_line_is_never_saved() {
        let words = [("net0", "off"), ("net0", "dhcp"), ("nvme.export", "a"), ("nvme.export", "b"), ("other", "x")];
        let mut layers =
            Layers::new(words.into_iter(), stored(&[("net0", "10.0.0.1/8"), ("net1", "off"), ("newer", "1")]), |why| {
                panic!("{why}")
            });
        assert_eq!(layers.get("net0"), ("dhcp", Source::CommandLine));
        assert_eq!(layers.get("nvme.export"), ("a,b", Source::CommandLine));
        assert_eq!(layers.get("net1"), ("off", Source::Stored));
        assert_eq!(layers.get("console"), ("person", Source::Default));
        assert_eq!((layers.get("newer"), layers.get("other")), (("1", Source::Stored), ("", Source::Default)));
        assert!(!layers.is_unsaved());
        layers.set("net0", "10.0.0.2/8").expect("plain");
        layers.unset("net1");
        assert_eq!(layers.get("net0"), ("10.0.0.2/8", Source::Set));
        assert_eq!(layers.get("net1"), ("dhcp", Source::Set));
        assert!(layers.is_unsaved());
        assert_eq!(layers.to_save(), stored(&[("net0", "10.0.0.2/8"), ("newer", "1")]));
        layers.saved();
        assert!(!layers.is_unsaved());
        assert_eq!(layers.get("net0"), ("10.0.0.2/8", Source::Stored), "though the command line has another");
        assert_eq!(layers.get("net1"), ("dhcp", Source::Default));
        layers.set("net0", "off").expect("plain");
        assert_eq!(layers.get("net0"), ("off", Source::Set));
        let names = layers.names(["net7".into()]);
        assert!(
            names.is_sorted()
                && ["console", "net0", "net7", "newer"].iter().all(|name| names.contains(&(*name).into()))
        );
        assert!(!names.contains(&"netN".into()) && !names.contains(&"other".into()));
    }
}
