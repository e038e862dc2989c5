//! `untornctl dump`: all that an appliance tells of itself, in one file, for a report of a fault.
//!
//! It asks only what looks. No sector is read, so no data is in it; secrets are taken out, should a reply have one.

use serde_json::{Map, Value, json};
use service::config::hosts::MARK;

/// The form of the file.
const FORMAT: u32 = 1;

/// What is asked for, in this order. An appliance that does not know one of them answers with an error, which is kept.
const QUESTIONS: [&str; 13] = [
    "version",
    "status",
    "health",
    "list -BDRNi -H -vvv",
    "nfit",
    "nfit --raw",
    "errors",
    "config",
    "net",
    "stats",
    "trace",
    "events",
    "events --last-boot",
];

/// Makes a dump of the replies that `ask` gets, as JSON objects.
///
/// # Errors
/// Those of `ask`: the appliance does not answer.
pub fn take<E>(mut ask: impl FnMut(&str) -> Result<Value, E>) -> Result<Value, E> {
    let mut replies = Map::new();
    for question in QUESTIONS {
        replies.insert(question.into(), ask(question)?);
    }
    let namespaces = replies["status"]["namespaces"].as_array().cloned().unwrap_or_default();
    for name in namespaces.iter().filter_map(|namespace| namespace["dev"].as_str()) {
        let question = format!("arenas {name}");
        let reply = ask(&question)?;
        replies.insert(question, reply);
    }
    let mut dump = json!({ "untorn_dump": FORMAT, "untornctl": service::VERSION, "replies": replies });
    hide(&mut dump);
    Ok(dump)
}

/// Takes secrets out, wherever they stand.
fn hide(value: &mut Value) {
    match value {
        Value::String(text) => {
            // What is written wrongly is one, too.
            while let Some(at) = text.to_ascii_lowercase().find(MARK) {
                let end = text[at..].find([',', ' ', '"', '\'']).map_or(text.len(), |end| at + end);
                text.replace_range(at..end, "(secret)");
            }
        }
        Value::Array(values) => values.iter_mut().for_each(hide),
        Value::Object(members) => members.values_mut().for_each(hide),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where it is surprised")]

    use std::convert::Infallible;

    use serde_json::json;
    use service::config::hosts::has_secret;

    #[test]
    fn a_dump_has_what_the_appliance_tells_and_no_secret() {
        let mut asked = Vec::new();
        let dump = super::take(|question| {
            asked.push(question.to_owned());
            Ok::<_, Infallible>(match question {
                "status" => json!({ "ok": true, "namespaces": [{ "dev": "namespace0.0" }, { "dev": "namespace1.0" }] }),
                "config" => {
                    json!({ "ok": true, "keys": [{ "key": "nvme.allow", "value": "nqn.a=DHHC-1:00:YQ==:,nqn.b" }] })
                }
                "trace" => {
                    json!({ "ok": true, "events": [{ "event": "allow any --secret 'DHHC-1:01:x:' dhhc-1:02:y:" }] })
                }
                _ => json!({ "ok": false, "error": { "code": "unknown-command" } }),
            })
        });
        let dump = dump.unwrap();
        assert!(asked.contains(&"arenas namespace1.0".into()) && asked.iter().all(|line| !line.starts_with("read")));
        assert_eq!(dump["replies"]["config"]["keys"][0]["value"], "nqn.a=(secret),nqn.b");
        assert_eq!(dump["replies"]["trace"]["events"][0]["event"], "allow any --secret '(secret)' (secret)");
        assert!(!has_secret(&dump.to_string()));
    }
}
