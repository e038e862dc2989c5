//! Requests with ids and as objects, and the schema that describes them.

mod common;

use serde_json::{Value, json};
use service::admin::table::specs;

use common::Terminal;

/// The replies to these lines, which come at once.
fn ask(terminal: &mut Terminal, lines: &str) -> Vec<Value> {
    let output = terminal.say(lines.as_bytes());
    output.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|why| panic!("{why}: {line}"))).collect()
}

fn schema() -> Value {
    let reply = ask(&mut Terminal::in_mode("json"), "help --schema\n").remove(0);
    assert_eq!(reply["ok"], true);
    reply["schema"].clone()
}

/// The validator of a definition in the schema.
fn of_definition(schema: &Value, name: &str) -> jsonschema::Validator {
    let mut part = schema.clone();
    part.as_object_mut().expect("an object").remove("oneOf");
    part["$ref"] = json!(format!("#/$defs/{name}"));
    jsonschema::validator_for(&part).expect("a schema")
}

/// A request to each command that the machine of the tests obeys.
const OBEYED: &[&str] = &[
    r#"{"command":"help"}"#,
    r#"{"command":"help","cmd":"read"}"#,
    r#"{"command":"help","schema":true}"#,
    r#"{"command":"version"}"#,
    r#"{"command":"mode","mode":"json","progress":true}"#,
    r#"{"command":"exit"}"#,
    r#"{"command":"status"}"#,
    r#"{"command":"list","verbose":3,"health":true}"#,
    r#"{"command":"nfit"}"#,
    r#"{"command":"nfit","raw":true}"#,
    r#"{"command":"health"}"#,
    r#"{"command":"arenas","ns":"namespace0.0"}"#,
    r#"{"command":"init-labels","dimm":"nmem0","force":true,"label-version":"1.1"}"#,
    r#"{"command":"create-namespace","region":"region0","mode":"sector","sector-size":512,"force":true}"#,
    r#"{"command":"destroy-namespace","ns":"namespace0.0","force":true}"#,
    r#"{"command":"enable-namespace","ns":"namespace0.0"}"#,
    r#"{"command":"disable-namespace","ns":"namespace0.0"}"#,
    r#"{"command":"check-namespace","ns":"namespace0.0","repair":true}"#,
    r#"{"command":"read","dev":"pmem0s","lba":0,"count":2}"#,
    r#"{"command":"read","dev":"pmem0s","lba":"0x10"}"#,
    r#"{"command":"write","dev":"pmem0s","lba":7,"fill":65,"count":2}"#,
    r#"{"command":"trim","dev":"pmem0s","lba":7,"count":1}"#,
    r#"{"command":"inject-error","dev":"pmem0s","lba":7}"#,
    r#"{"command":"clear-errors","dev":"pmem0s","lba":7}"#,
    r#"{"command":"errors"}"#,
    r#"{"command":"bench","dev":"pmem0s","seconds":1,"verify":true,"force":true}"#,
    r#"{"command":"export","dev":"pmem0s"}"#,
    r#"{"command":"export","dev":"pmem0s","nvme":true}"#,
    r#"{"command":"unexport","dev":"pmem0s"}"#,
    r#"{"command":"allow","hostnqn":"any"}"#,
    r#"{"command":"net"}"#,
    r#"{"command":"config"}"#,
    r#"{"command":"config","action":"set","key":"console.pager","value":"off"}"#,
    r#"{"command":"config","action":"save"}"#,
    r#"{"command":"stats"}"#,
    r#"{"command":"stats","prometheus":true}"#,
    r#"{"command":"trace"}"#,
    r#"{"command":"events","severity":"warning","after":0}"#,
    r#"{"command":"events","last-boot":true}"#,
    r#"{"command":"poweroff"}"#,
    r#"{"command":"reboot"}"#,
];

#[test]
fn requests_and_replies_are_as_the_schema_says() {
    let schema = schema();
    jsonschema::meta::validate(&schema).expect("a schema by its own draft");
    let request = jsonschema::validator_for(&schema).expect("a schema");
    let mut rest: Vec<&str> = specs().map(|spec| spec.name).collect();
    let mut wrong = Vec::new();
    for line in OBEYED {
        let object: Value = serde_json::from_str(line).expect("JSON");
        wrong.extend(request.validate(&object).err().map(|why| format!("{line}: {why}")));
        let command = object["command"].as_str().expect("a name");
        let mut terminal = Terminal::in_mode("json");
        let with_id = line.replacen('{', r#"{"id":"a-7","#, 1);
        let reply = ask(&mut terminal, &format!("{with_id}\n")).remove(0);
        if (&reply["ok"], &reply["id"]) != (&json!(true), &json!("a-7")) {
            wrong.push(format!("{line}: {reply}"));
        }
        rest.retain(|name| *name != command);
        if schema["$defs"]["replies"][command].is_null() {
            wrong.push(format!("no command {command}"));
            continue;
        }
        let described = of_definition(&schema, &format!("replies/{command}"));
        wrong.extend(described.validate(&reply).err().map(|why| format!("{command}: {why}: {reply}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // The machine of the tests has let nobody in.
    assert_eq!(rest, ["deny"], "every other command has its line above");
}

#[test]
fn what_the_schema_refuses_is_refused() {
    let schema = schema();
    let request = jsonschema::validator_for(&schema).expect("a schema");
    let error = of_definition(&schema, "error");
    let mut terminal = Terminal::in_mode("json");
    for (line, says) in [
        (r#"{}"#, "command: the name of a command is missing"),
        (r#"{"command":7}"#, "command: the name"),
        (r#"{"command":"lits"}"#, "did you mean list?"),
        (r#"{"command":"read","dev":"pmem0s"}"#, "LBA is missing"),
        (r#"{"command":"read","lba":0}"#, "dev is missing"),
        (r#"{"command":"read","dev":["pmem0s"],"lba":0}"#, "dev: a string or a number"),
        (r#"{"command":"read","dev":"pmem0s\u001b","lba":0}"#, "without control characters"),
        (r#"{"command":"read","dev":"pmem0s","lba":-1}"#, "not a number"),
        (r#"{"command":"read","dev":"pmem0s","lba":0,"raw":true}"#, "raw: no word and no option"),
        (r#"{"command":"list","verbose":9}"#, "verbose: true, false, or how often"),
        (r#"{"command":"list","verbose":"yes"}"#, "verbose: true, false, or how often"),
        (r#"{"id":[1],"command":"list"}"#, "id: a number, or a string"),
        (r#"{"command":"create-namespace","region":true}"#, "region: a string or a number"),
    ] {
        let object: Value = serde_json::from_str(line).expect("JSON");
        assert!(!request.is_valid(&object), "{line}");
        let reply = ask(&mut terminal, &format!("{line}\n")).remove(0);
        assert!(reply["error"]["message"].as_str().is_some_and(|message| message.contains(says)), "{line}: {reply}");
        assert!(error.is_valid(&reply), "{reply}");
    }
    // Values that are words of the grammar all the same: nothing of a value is an option, a comment or a second word.
    for (line, says) in [
        (r#"{"command":"arenas","ns":"-h"}"#, "\"-h\""),
        (r##"{"command":"arenas","ns":"# a b; c"}"##, "\"# a b; c\""),
        (r#"{"command":"read""#, "not a JSON object"),
    ] {
        let reply = ask(&mut terminal, &format!("{line}\n")).remove(0);
        assert!(reply["error"]["message"].as_str().is_some_and(|message| message.contains(says)), "{line}: {reply}");
    }
}

#[test]
fn members_of_a_request_are_told_apart() {
    for spec in specs() {
        let words = spec.words.iter().map(|word| word.name.to_ascii_lowercase());
        let mut names: Vec<String> = words.chain(spec.options.iter().map(|option| option.long.into())).collect();
        names.extend(["id".into(), "command".into()]);
        names.sort();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all, "{}: {names:?}", spec.name);
    }
}

#[test]
fn several_requests_on_their_way_are_told_apart_by_their_ids() {
    let lines = "#7 version\n{\"id\":\"x\",\"command\":\"version\"}\nversion\n#007 no-such\n{\"id\":2}\n#9 # nothing\n";
    let replies = ask(&mut Terminal::in_mode("json"), lines);
    let ids: Vec<&Value> = replies.iter().map(|reply| &reply["id"]).collect();
    assert_eq!(ids, [&json!(7), &json!("x"), &Value::Null, &json!(7), &json!(2), &json!(9)]);
    let oks: Vec<bool> = replies.iter().map(|reply| reply["ok"] == true).collect();
    assert_eq!(oks, [true, true, true, false, false, false]);
    let output = Terminal::in_mode("text").say(b"#7 version\nversion\n{\"id\":\"x\",\"command\":\"no-such\"}\n");
    let ends: Vec<&str> = output.lines().filter_map(|line| line.strip_prefix('\x1e')).collect();
    assert_eq!(ends, ["0 7", "0", "2 \"x\""]);
    // Beside a person, with and without a number of its own.
    let output = Terminal::default().say(b"\x1b_#3 {\"id\":\"x\",\"command\":\"version\"}\n");
    assert!(output.contains("\x1b_#3 {\"ok\":true,\"id\":\"x\","), "{output}");
}
