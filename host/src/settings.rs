//! A configuration as a file: `untornctl config export` and `import`.
//!
//! The file is one JSON object: `{"settings":{"net0":"10.0.0.2/24",…}}`, the keys that have another value than by default.
//! Secrets are not in it: they stand as `config` shows them, and an appliance that knows them keeps them.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use service::config::keys::{DISABLED, Key, NVME_ALLOW, When};

use crate::client;

/// The member of the file that has the keys.
const SETTINGS: &str = "settings";

/// Returns the settings of a reply to `config` that are no defaults, and can be set: not what a command line gave for one
/// boot.
///
/// # Errors
/// It is no such reply.
pub fn of_reply(reply: &Value) -> Result<BTreeMap<String, String>, String> {
    let keys = reply["keys"].as_array().ok_or("the appliance gives no keys for `config`")?;
    let kept = keys.iter().filter(|entry| entry["from"] == "stored" || entry["from"] == "set");
    let pair = |entry: &Value| Some((entry["key"].as_str()?.to_owned(), entry["value"].as_str()?.to_owned()));
    let pairs: Option<BTreeMap<_, _>> = kept.filter(|entry| entry["value"] != entry["default"]).map(pair).collect();
    pairs.ok_or_else(|| "the appliance gives keys without values for `config`".into())
}

/// Returns the file of these settings.
#[must_use]
pub fn file(settings: &BTreeMap<String, String>) -> String {
    let mut text = serde_json::to_string_pretty(&json!({ SETTINGS: settings })).unwrap_or_default();
    text.push('\n');
    text
}

/// Reads a file.
///
/// # Errors
/// What is wrong with it, for people.
pub fn read(text: &str) -> Result<BTreeMap<String, String>, String> {
    let file: Value = serde_json::from_str(text).map_err(|why| format!("it is no JSON: {why}"))?;
    let settings =
        file[SETTINGS].as_object().ok_or("it has no object \"settings\": config export writes such a file")?;
    let pair = |(key, value): (&String, &Value)| match value.as_str() {
        Some(value) => Ok((key.clone(), value.to_owned())),
        None => Err(format!("the value of \"{key}\" is no string")),
    };
    settings.iter().map(pair).collect()
}

/// Returns the commands that make an appliance with these settings one with those of a file. Keys that the file lacks get
/// their defaults; keys that this version does not know are left out.
#[must_use]
pub fn commands(now: &BTreeMap<String, String>, wanted: &BTreeMap<String, String>) -> Vec<String> {
    let is_settable = |key: &str| Key::named(key).is_none_or(|key| key.when == When::AtOnce);
    let gone = now.keys().filter(|key| !wanted.contains_key(*key) && is_settable(key));
    let gone = gone.map(|key| client::line(["config", "unset", key]));
    // Who may use a subsystem comes after what makes it, and a namespace is disabled when it is not served any more.
    let mut order: Vec<_> =
        wanted.iter().filter(|(key, _)| Key::named(key).is_some_and(|key| key.when == When::AtOnce)).collect();
    order.sort_by_key(|(key, _)| [NVME_ALLOW, DISABLED].iter().position(|late| late == key).map_or(0, |at| at + 1));
    let changed = order.into_iter().filter(|(key, value)| now.get(*key) != Some(value));
    let changed = changed.map(|(key, value)| client::line(["config", "set", key, value]));
    gone.chain(changed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn what_differs_from_the_defaults_goes_into_a_file_and_out_of_it() {
        let reply = json!({ "keys": [
            { "key": "console", "value": "text", "from": "stored", "default": "person" },
            { "key": "net0", "value": "off", "from": "command line", "default": "dhcp" },
            { "key": "net1", "value": "dhcp", "from": "set", "default": "dhcp" },
            { "key": "newer", "value": "1", "from": "stored", "default": "" },
        ]});
        let settings = of_reply(&reply).expect("keys");
        assert_eq!(settings, of(&[("console", "text"), ("newer", "1")]));
        assert_eq!(read(&file(&settings)), Ok(settings));
        for wrong in ["", "[]", "{}", r#"{"settings":[]}"#, r#"{"settings":{"net0":1}}"#] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        assert!(of_reply(&json!({})).is_err());
    }

    #[test]
    fn an_import_changes_what_differs_and_nothing_else() {
        let now = of(&[("console", "text"), ("net0", "off"), ("nvme.export", "pmem0s")]);
        let wanted = of(&[("net0", "off"), ("nvme.allow", "any=nqn.a"), ("nvme.export", "pmem0s=nqn.a")]);
        assert_eq!(
            commands(&now, &wanted),
            ["config unset console", "config set nvme.export pmem0s=nqn.a", "config set nvme.allow any=nqn.a"]
        );
        assert!(commands(&wanted, &wanted).is_empty());
    }
}
