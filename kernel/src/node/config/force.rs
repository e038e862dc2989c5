//! Puts a key's value in force: at start, and when it is set.
//!
//! A value of items is put in force item by item: those that are gone end, those that are new begin. If one fails, those that
//! were done are undone.

use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use net::setting::Setting;
use service::admin::Mode;
use service::admin::commands::exports::HostRule;
use service::config::hosts::HostItem;
use service::config::keys::{self, Form, Key, When, interface, items};
use service::error::{AdminError, ErrorCode};
use service::events::{Kind, Severity};

use super::{no_key, of_key};
use crate::node::{Machine, Node};
use crate::{memory_map, watchdog};

/// The item of `export` that stands for all devices.
const ALL: &str = "all";

/// Returns whether a value of `export` has a device: by name, or as one of all; `-DEV` takes it out.
pub(super) fn is_offered(value: &str, dev: &str) -> bool {
    let mut found = false;
    for item in items(value) {
        match item.strip_prefix('-') {
            Some(out) if out == dev => return false,
            Some(_) => {}
            None => found |= item == ALL || item == dev,
        }
    }
    found
}

/// Returns a value of `export` with a device, or without it.
pub(super) fn with_offered(value: &str, dev: &str, offered: bool) -> String {
    let out = format!("-{dev}");
    let mut kept: Vec<&str> = items(value).filter(|item| *item != dev && *item != out).collect();
    let has_all = kept.contains(&ALL);
    match (offered, has_all) {
        (true, false) => kept.push(dev),
        (false, true) => kept.push(&out),
        _ => {}
    }
    keys::of_items(kept)
}

/// Reads a value of `console`.
fn mode(value: &str) -> Option<Mode> {
    match value {
        "person" => Some(Mode::Console),
        "text" => Some(Mode::Text),
        "json" => Some(Mode::Json),
        _ => None,
    }
}

impl<M: Machine> Node<M> {
    /// Returns how the console is to talk.
    pub fn console_mode(&self) -> Mode {
        mode(self.config.layers.value(keys::CONSOLE)).unwrap_or(Mode::Console)
    }

    /// Puts all in force that is configured, after the namespaces were opened. What cannot be is noted, and left out.
    pub(in crate::node) fn put_all_in_force(&mut self, line: &str) {
        // The kernel has read it before there was a node.
        if let Err(value) = memory_map::wants_legacy(line) {
            let what = format!("pmem.type12: \"{value}\" is not on or off: memory of type 12 is left alone");
            self.config.slip(&*self.machine, "command line", what);
        }
        let mut names = self.config_names();
        // What hosts may use comes after what there is.
        names.sort_by_key(|name| name == keys::NVME_ALLOW);
        for name in names {
            let (value, source) = self.config.layers.get(&name);
            let (value, place) = (String::from(value), source.place());
            let slips: Vec<String> = match Key::named(&name) {
                None => Vec::from([format!("{name}: there is no such key: it is kept, and does nothing")]),
                Some(key) if key.when != When::AtOnce => Vec::new(),
                // Namespaces have been opened by one of these, and are offered by the other.
                Some(_) if name == keys::DISABLED || name == keys::EXPORT => {
                    let is_all = |item: &str| name == keys::EXPORT && item == ALL;
                    let missing = items(&value).filter(|item| !is_all(item) && !self.is_there(item));
                    let named = missing.map(|item| item.strip_prefix('-').unwrap_or(item));
                    named.map(|item| format!("{name}: there is no \"{item}\": list shows what there is")).collect()
                }
                Some(key) if key.form == Form::Items => {
                    let begun = items(&value).map(|item| match self.check_name(&name, item) {
                        Ok(()) => self.begin(&name, item),
                        other => other,
                    });
                    begun.filter_map(|result| Some(format!("{name}: {}", result.err()?))).collect()
                }
                Some(_) => match self.put_one_in_force(&name, &value) {
                    // Another address than was meant could be another machine's.
                    Err(why) if interface(&name).is_some() && why.code == ErrorCode::Usage => {
                        Vec::from([format!("{name}: its setting is wrong, and it stays off: {why}")])
                    }
                    result => result.err().map(|why| format!("{name}: {why}")).into_iter().collect(),
                },
            };
            slips.into_iter().for_each(|what| self.config.slip(&*self.machine, place, what));
        }
        self.offer_new();
    }

    /// Puts a value in force that is to be set.
    ///
    /// # Errors
    /// Why it cannot be: then what was in force is so still, or what could not be undone is said.
    pub(super) fn put_in_force(&mut self, name: &str, value: &str) -> Result<(), AdminError> {
        let Some(key) = Key::named(name) else {
            return Err(no_key(name));
        };
        match key.when {
            When::AtOnce => {}
            When::OnCommandLine => {
                let why = format!("{name} is read before any medium is: only the command line can have it");
                return Err(AdminError::usage(why));
            }
            When::BySave => return Err(AdminError::usage(format!("{name} is set by config save"))),
        }
        let before = String::from(self.config.layers.value(name));
        let result = match (key.form, name) {
            (_, keys::EXPORT) => self.put_offers_in_force(&before, value),
            (_, keys::NVME_EXPORT) => self.put_served_in_force(&before, value),
            (Form::Items, _) => self.put_items_in_force(name, &before, value),
            (Form::One, _) => self.put_one_in_force(name, value),
        };
        result.map_err(|why| of_key(name, why))
    }

    /// Puts the value of a key of one value in force. Errors do not name the key: the caller does.
    fn put_one_in_force(&mut self, name: &str, value: &str) -> Result<(), AdminError> {
        if let Some(number) = interface(name) {
            let setting = Setting::parse(value).map_err(|why| AdminError::usage(why.to_string()))?;
            let shown = setting.to_string();
            if !self.networks.configure(number, setting, self.machine.now_ns()) {
                return Err(AdminError::not_found("there is no such interface: net shows those that are there"));
            }
            let what = format_args!("{}, {shown}", self.networks.describe(number));
            self.tell(Severity::Info, Kind::Network, &name, what);
            return Ok(());
        }
        match name {
            keys::CONSOLE => match mode(value) {
                Some(_) => Ok(()),
                None => Err(AdminError::usage(format!("\"{value}\" is none of person, text and json"))),
            },
            keys::METRICS => {
                let port = match value {
                    "off" => None,
                    text => match text.parse() {
                        // parse would take a sign.
                        Ok(port) if port != 0 && text.bytes().all(|byte| byte.is_ascii_digit()) => Some(port),
                        _ => return Err(AdminError::usage(format!("\"{text}\" is no TCP port and not off"))),
                    },
                };
                self.serve_metrics(port)
            }
            keys::WATCHDOG => {
                let seconds =
                    watchdog::parse(value).map_err(|why| AdminError::usage(format!("\"{value}\" is {why}")))?;
                self.set_watchdog(seconds);
                Ok(())
            }
            keys::CONSOLE_COLOR | keys::CONSOLE_PAGER => match value {
                "on" | "off" => Ok(()),
                _ => Err(AdminError::usage(format!("\"{value}\" is not on or off"))),
            },
            _ => unreachable!("{name} is a key of one value"),
        }
    }

    fn put_items_in_force(&mut self, name: &str, before: &str, value: &str) -> Result<(), AdminError> {
        let has = |value: &str, item: &str| items(value).any(|other| other == item);
        // What ends disconnects hosts: that none does in vain, all is looked at first.
        for item in items(value).filter(|item| !has(before, item)) {
            self.check_item(name, item)?;
        }
        // A host that only gets other secrets stays allowed.
        let stays = |item: &str| name == keys::NVME_ALLOW && same_host(value, item).is_some();
        let gone = items(before).filter(|item| !has(value, item) && !stays(item)).map(|item| (item, false));
        // All begin, also those that were there: they may not be in force, and to begin again does nothing.
        let all = items(value).map(|item| (item, true));
        let steps: Vec<(&str, bool)> = match name {
            // One that begins and fails leaves all hosts their connections.
            keys::NVME_ALLOW => all.chain(gone).collect(),
            // A device may have got another name.
            _ => gone.chain(all).collect(),
        };
        let mut done = Vec::new();
        for (item, begins) in steps {
            let result = if begins { self.begin(name, item) } else { self.end(name, item) };
            if let Err(why) = result {
                for (item, began) in done.into_iter().rev() {
                    let before = same_host(before, item).filter(|_| name == keys::NVME_ALLOW);
                    let _ = match (began, before) {
                        (true, None) => self.end(name, item),
                        (true, Some(before)) => self.begin(name, before),
                        (false, _) => self.begin(name, item),
                    };
                }
                return Err(why);
            }
            if !(begins && has(before, item)) {
                done.push((item, begins));
            }
        }
        Ok(())
    }

    /// Looks whether an item can begin once others have ended.
    ///
    /// # Errors
    /// Why it cannot.
    fn check_item(&self, name: &str, item: &str) -> Result<(), AdminError> {
        match name {
            keys::NVME_EXPORT => {
                let (dev, nqn) = keys::served(item);
                self.check_served(dev, nqn)
            }
            keys::DISABLED => self.place(item).map(|_| ()),
            // These begin before others end.
            _ => Ok(()),
        }
    }

    /// Returns whether an item of `disabled` or `export` is about a namespace that is there, by a name or by what the name stood
    /// for.
    fn is_there(&self, item: &str) -> bool {
        let name = item.strip_prefix('-').unwrap_or(item);
        self.slots().any(|slot| {
            let uuid = slot.namespace.labelling.as_ref().map(|labelling| labelling.uuid);
            self.config.stands_for(name, |name| slot.is_called(name), uuid)
        })
    }

    /// Serves other devices by NVMe/TCP. Hosts that may use a subsystem that stays, or comes again, may do so as before.
    fn put_served_in_force(&mut self, before: &str, value: &str) -> Result<(), AdminError> {
        let allowed = String::from(self.config.layers.value(keys::NVME_ALLOW));
        let result = self.put_items_in_force(keys::NVME_EXPORT, before, value);
        let mut kept = Vec::new();
        for item in items(&allowed) {
            if HostItem::parse(item).nqn.is_none() || self.begin(keys::NVME_ALLOW, item).is_ok() {
                kept.push(item);
            }
        }
        self.keep(keys::NVME_ALLOW, keys::of_items(kept));
        result
    }

    fn put_offers_in_force(&mut self, before: &str, value: &str) -> Result<(), AdminError> {
        for item in items(value).map(|item| item.strip_prefix('-').unwrap_or(item)).filter(|item| *item != ALL) {
            self.disk(item)?;
        }
        if !self.exports.has_bridge() {
            return Ok(());
        }
        let result = self.offer_as(before, value);
        if result.is_err() {
            let _ = self.offer_as(value, before);
        }
        result
    }

    /// Offers the devices of a value, and withdraws others that the one before has.
    fn offer_as(&self, before: &str, value: &str) -> Result<(), AdminError> {
        let disks: Vec<_> = self.disks().map(|disk| disk.name.clone()).collect();
        for dev in &disks {
            match (is_offered(before, dev), is_offered(value, dev)) {
                // One of all need not be one that consumers can have.
                (false, true) => match self.exports.export(self.disk(dev)?) {
                    Err(why) if items(value).any(|item| item == dev) => return Err(why),
                    _ => {}
                },
                (true, false) if self.exports.names().contains(dev) => self.exports.unexport(dev)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Begins what an item of a key stands for.
    fn begin(&mut self, name: &str, item: &str) -> Result<(), AdminError> {
        match name {
            keys::NVME_EXPORT => {
                let (dev, nqn) = keys::served(item);
                let served = self.serve_by_nvme(dev, nqn)?;
                self.tell(Severity::Info, Kind::Host, &dev, format_args!("served by NVMe/TCP as {}", served.nqn));
                Ok(())
            }
            keys::NVME_ALLOW => {
                let item = HostItem::parse(item);
                self.nvme.allow(&rule(item), item.secrets)
            }
            keys::DISABLED => {
                let place = self.place(item)?;
                self.disable(place)
            }
            _ => unreachable!("{name} is a key of items"),
        }
    }

    /// Ends it. What is not there, or could not begin, has ended.
    fn end(&mut self, name: &str, item: &str) -> Result<(), AdminError> {
        let result = match name {
            keys::NVME_EXPORT => self.end_nvme(keys::served(item).0),
            keys::NVME_ALLOW => self.nvme.deny(&rule(HostItem::parse(item))),
            // One that is damaged is not disabled any more, either.
            keys::DISABLED => self.place(item).and_then(|place| match self.enable(place) {
                Err(why) if self.at(place).state.is_disabled() => Err(why),
                _ => Ok(()),
            }),
            _ => unreachable!("{name} is a key of items"),
        };
        match result {
            Err(why) if matches!(why.code, ErrorCode::NotFound | ErrorCode::Usage) => Ok(()),
            result => result,
        }
    }
}

/// Returns the item of a value that is about the same host and subsystem.
fn same_host<'a>(value: &'a str, item: &str) -> Option<&'a str> {
    items(value).find(|other| HostItem::parse(other).is_about(&HostItem::parse(item)))
}

/// Returns what an item allows.
fn rule(item: HostItem<'_>) -> HostRule {
    HostRule { host: item.host.into(), nqn: item.nqn.map(Into::into) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_offered_by_name_or_as_one_of_all() {
        for (value, offered) in [
            ("all", true),
            ("none", false),
            ("pmem0s", true),
            ("pmem1s", false),
            ("all,-pmem0s", false),
            ("-pmem0s", false),
        ] {
            assert_eq!(is_offered(value, "pmem0s"), offered, "{value}");
            for wanted in [true, false] {
                let value = with_offered(value, "pmem0s", wanted);
                assert_eq!(is_offered(&value, "pmem0s"), wanted, "{value}");
                assert_eq!(with_offered(&value, "pmem0s", wanted), value);
            }
        }
        assert_eq!(with_offered("all", "pmem0s", false), "all,-pmem0s");
        assert_eq!(with_offered("all,-pmem0s", "pmem0s", true), "all");
    }
}
