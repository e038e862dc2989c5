//! `config`; and what other commands change of what is configured.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use nvdimm::namespace::Namespace;
use nvdimm::space;
use service::admin::commands::config::{ConfigAdmin, Configuration, Entry, SaveConfig, Saved, StoredCopy};
use service::admin::commands::exports::HostRule;
use service::admin::commands::namespaces::create::{CreateNamespace, NamespaceMode};
use service::config::hosts::{HIDDEN, HostItem, SecretTexts};
use service::config::keys::{self, Key, items};
use service::config::settings::SettingsError;
use service::error::AdminError;
use service::events::{Kind, Severity};
use service::inventory::RegionType;

use super::room::NAMESPACE;
use super::store::{Copies, SaveError, save};
use super::{Known, Place, force, no_key, of_key};
use crate::node::{Machine, Node};

/// The least size of the namespace that keeps the configuration: Linux aligns namespaces to it.
const NAMESPACE_BYTES: u64 = 2 << 20;

impl<M: Machine> ConfigAdmin for Node<M> {
    fn config(&self) -> Configuration {
        let keys = self.config_names().iter().map(|name| self.entry(name)).collect();
        let copies = self.config.known.iter().map(|Known { name, copies }| {
            let sequence = copies.newest().map(|(sequence, _)| sequence.0);
            let is_whole = !copies.is_damaged();
            StoredCopy { dev: name.clone(), saved: sequence, is_whole, newer: copies.newer() }
        });
        Configuration { keys, unsaved: self.config.is_unsaved(), copies: copies.collect() }
    }

    fn set_config(&mut self, key: &str, value: &str) -> Result<Entry, AdminError> {
        let value = self.with_secrets(key, value).map_err(|why| of_key(key, why))?;
        check_items(key, &value).map_err(|why| of_key(key, why))?;
        let unkept = |why: SettingsError| AdminError::usage(why.to_string());
        // Whether it can be kept is found out before anything changes.
        self.config.layers.clone().set(key, &value).map_err(unkept)?;
        self.put_in_force(key, &value)?;
        self.config.layers.set(key, &value).map_err(unkept)?;
        self.config.forget_slips(key);
        Ok(self.entry(key))
    }

    fn unset_config(&mut self, key: &str) -> Result<Entry, AdminError> {
        match Key::named(key) {
            Some(known) if self.has_force(key) => self.put_in_force(key, known.default)?,
            Some(_) => {}
            None if self.config.layers.value(key).is_empty() => return Err(no_key(key)),
            None => {}
        }
        self.config.layers.unset(key);
        self.config.forget_slips(key);
        Ok(self.entry(key))
    }

    fn reset_config(&mut self) -> Result<(), AdminError> {
        // What other keys need goes last: devices are served before namespaces are.
        let mut names = self.config_names();
        names.sort_by_key(|name| [keys::DISABLED, keys::CONSOLE].contains(&name.as_str()));
        for name in names {
            self.unset_config(&name)?;
        }
        Ok(())
    }

    fn save_config(&mut self, request: &SaveConfig) -> Result<Saved, AdminError> {
        if let Some(region) = &request.region
            && !self.writable_config_places().iter().any(|place| place.region == *region)
        {
            self.make_config_namespace(Some(region))?;
        }
        let mut places = self.writable_config_places();
        if places.is_empty() {
            self.make_config_namespace(None)?;
            places = self.writable_config_places();
        }
        let names = self.names_now();
        match names.as_str() {
            "none" => self.config.layers.unset(keys::NAMES),
            names => self.config.layers.set(keys::NAMES, names).map_err(|why| AdminError::failed(why.to_string()))?,
        }
        let settings = self.config.layers.to_save();
        let sequence = self.config.sequence.next();
        let (mut written, mut failed) = (Vec::new(), Vec::new());
        for place in places {
            match save(&place.medium, place.room, sequence, &settings, request.force) {
                Ok(()) => written.push(place.name.clone()),
                Err(why) => failed.push((place.name.clone(), why)),
            }
        }
        self.look_at_configs();
        // A copy that was not finished may be there.
        self.config.sequence = sequence;
        let failures = |all: &[(String, SaveError)]| {
            all.iter().map(|(name, why)| format!("{name}: {why}")).collect::<Vec<_>>().join("; ")
        };
        match (written.is_empty(), failed.first()) {
            (true, None) => Err(AdminError::failed("there is no place for it")),
            (true, Some((_, SaveError::TooLarge { .. } | SaveError::Newer(_)))) => {
                let how = "config save -r REGION keeps it in a namespace of its own, where there are labels";
                Err(AdminError::failed(format!("not saved: {}; {how}", failures(&failed))))
            }
            (true, Some(_)) => Err(AdminError::damaged(format!("not saved: {}", failures(&failed)))),
            (false, _) => {
                self.config.layers.saved();
                let what = format_args!("saved in {}", written.join(" "));
                self.tell(Severity::Info, Kind::Config, &"configuration", what);
                let failed = failed.iter().map(|(name, why)| format!("{name}: {why}")).collect();
                Ok(Saved { saved: sequence.0, copies: written, failed })
            }
        }
    }
}

/// Refuses several items about one host or device: which of them counted would be an accident.
fn check_items(key: &str, value: &str) -> Result<(), AdminError> {
    let all: Vec<&str> = items(value).collect();
    let is_same = |one: &str, other: &str| match key {
        keys::NVME_ALLOW => HostItem::parse(one).is_about(&HostItem::parse(other)),
        keys::NVME_EXPORT => keys::served(one).0 == keys::served(other).0,
        _ => false,
    };
    match all.iter().enumerate().find(|(at, item)| all[..*at].iter().any(|other| is_same(item, other))) {
        Some((_, item)) => Err(AdminError::usage(format!("{} is there twice", HostItem::parse(item).shown()))),
        None => Ok(()),
    }
}

impl<M: Machine> Node<M> {
    /// Returns whether a key's value has any force now: not one that only the command line can have, or of an interface that is
    /// not there.
    fn has_force(&self, name: &str) -> bool {
        let is_settable = Key::named(name).is_some_and(|key| key.when == keys::When::AtOnce);
        is_settable && keys::interface(name).is_none_or(|number| number < self.networks.count())
    }

    /// Returns a key as people and programs are shown it: without secrets.
    fn entry(&self, name: &str) -> Entry {
        let (value, from) = self.config.layers.get(name);
        let value = match name {
            keys::NVME_ALLOW => {
                let shown: Vec<String> = items(value).map(|item| HostItem::parse(item).shown()).collect();
                keys::of_items(shown.iter().map(String::as_str))
            }
            _ => value.into(),
        };
        let known = Key::named(name);
        let what = known.map_or("a key that this version does not know", |key| key.summary).into();
        Entry { key: name.into(), value, from, default: known.map_or("", |key| key.default).into(), what }
    }

    /// Returns a value with the secrets that stand hidden in it as they are shown.
    fn with_secrets(&self, key: &str, value: &str) -> Result<String, AdminError> {
        if key != keys::NVME_ALLOW || !value.contains(HIDDEN) {
            return Ok(value.into());
        }
        let known: Vec<HostItem<'_>> = items(self.config.layers.value(key)).map(HostItem::parse).collect();
        let mut whole = Vec::new();
        for item in items(value).map(HostItem::parse) {
            let own = known.iter().find(|it| it.is_about(&item)).and_then(|it| it.secrets);
            let secrets = item.secrets.map(|secrets| {
                secrets.with_known(own).ok_or_else(|| {
                    AdminError::usage(format!(
                        "a secret of {} is not known here: write it in place of {HIDDEN}, or leave it out",
                        item.host
                    ))
                })
            });
            whole.push(HostItem { secrets: secrets.transpose()?, ..item }.to_string());
        }
        Ok(keys::of_items(whole.iter().map(String::as_str)))
    }

    fn all_namespaces(&self) -> impl Iterator<Item = &Namespace> {
        self.slots().map(|slot| &slot.namespace)
    }

    fn writable_config_places(&self) -> Vec<Place> {
        let mut places = self.config_places(self.all_namespaces());
        places.retain(Place::may_be_written);
        places
    }

    /// Looks at all copies anew: namespaces have come or gone.
    pub(in crate::node) fn look_at_configs(&mut self) {
        let places = self.config_places(self.all_namespaces());
        let known = places.into_iter().filter_map(|place| {
            let copies = Copies::load(&place.medium, place.room).ok().filter(|copies| !copies.is_none())?;
            Some(Known { name: place.name, copies })
        });
        self.config.known = known.collect();
    }

    /// Makes a namespace for the configuration in the region of that name, or in the first that has labels and room.
    fn make_config_namespace(&mut self, region: Option<&str>) -> Result<(), AdminError> {
        let mut first = None;
        let regions: Vec<(String, u64)> = self
            .regions
            .iter()
            .map(|slot| {
                (slot.region.id.to_string(), NAMESPACE_BYTES.next_multiple_of(space::align_bytes(&slot.region)))
            })
            .filter(|(name, _)| region.is_none_or(|region| region == name))
            .collect();
        for (name, bytes) in regions {
            let request = CreateNamespace {
                region: Some(name),
                region_type: Some(RegionType::Pmem),
                size_bytes: Some(bytes),
                mode: NamespaceMode::Raw,
                sector_size: 512,
                name: Some(NAMESPACE.into()),
                uuid: None,
                force: false,
                zero_entries: false,
            };
            match self.create(&request) {
                Ok(_) => return Ok(()),
                Err(why) => _ = first.get_or_insert(why),
            }
        }
        let none =
            "there is no place for the configuration: no namespace without labels that a BTT is on, and no labels";
        Err(match (first, region) {
            (None, Some(region)) => {
                AdminError::not_found(format!("no region \"{region}\": list -R shows what there is"))
            }
            (None, None) => AdminError::failed(none),
            (Some(why), Some(_)) => why,
            (Some(why), None) => AdminError::failed(format!(
                "{none} with {NAMESPACE_BYTES} bytes free ({why}): create-namespace -s leaves some"
            )),
        })
    }

    /// Keeps `export` true: a device is offered now, or is not any more.
    pub(in crate::node) fn keep_offered(&mut self, dev: &str, offered: bool) {
        let value = force::with_offered(self.config.layers.value(keys::EXPORT), dev, offered);
        self.keep(keys::EXPORT, value);
    }

    /// Keeps `nvme.export` true: a device is served as that subsystem, or as none.
    pub(in crate::node) fn keep_served(&mut self, dev: &str, served: Option<Option<&str>>) {
        let is_of = |item: &str| keys::served(item).0 == dev;
        let item = served.map(|nqn| nqn.map_or_else(|| dev.to_string(), |nqn| format!("{dev}={nqn}")));
        let others = items(self.config.layers.value(keys::NVME_EXPORT)).filter(|item| !is_of(item));
        let value = keys::of_items(others.chain(item.as_deref()));
        self.keep(keys::NVME_EXPORT, value);
    }

    /// Keeps `nvme.allow` true: a host may connect, with these secrets, or may not any more.
    pub(in crate::node) fn keep_allowed(&mut self, rule: &HostRule, allowed: Option<Option<SecretTexts<'_>>>) {
        let about = HostItem { host: &rule.host, nqn: rule.nqn.as_deref(), secrets: None };
        let item = allowed.map(|secrets| HostItem { secrets, ..about }.to_string());
        let others =
            items(self.config.layers.value(keys::NVME_ALLOW)).filter(|item| !HostItem::parse(item).is_about(&about));
        let value = keys::of_items(others.chain(item.as_deref()));
        self.keep(keys::NVME_ALLOW, value);
    }

    /// Keeps `nvme.allow` true: a subsystem is gone, and with it who might use it alone.
    pub(in crate::node) fn forget_allowed(&mut self, nqn: &str) {
        let is_of = |item: &&str| HostItem::parse(item).nqn == Some(nqn);
        let value = keys::of_items(items(self.config.layers.value(keys::NVME_ALLOW)).filter(|item| !is_of(item)));
        self.keep(keys::NVME_ALLOW, value);
    }

    /// Keeps `disabled` true: an admin disabled a namespace, or it is not any more.
    pub(in crate::node) fn keep_disabled(&mut self, namespace: &str, disabled: bool) {
        // By any of its names.
        let is_it = |item: &str| {
            let named = self.place(item).is_ok_and(|place| self.at(place).namespace.id.to_string() == namespace);
            named || item == namespace
        };
        let others = items(self.config.layers.value(keys::DISABLED)).filter(|item| !is_it(item));
        let value = keys::of_items(others.chain(disabled.then_some(namespace)));
        self.keep(keys::DISABLED, value);
    }

    /// Sets what is in force already.
    pub(super) fn keep(&mut self, key: &str, value: String) {
        // What was wrong before is not so any more: a command has just done it.
        self.config.forget_slips(key);
        if self.config.layers.value(key) == value {
            return;
        }
        if let Err(why) = self.config.layers.set(key, &value) {
            self.config.slip(
                &*self.machine,
                "configuration",
                format!("{key}: it is in force, and cannot be kept: {why}"),
            );
        }
    }
}
