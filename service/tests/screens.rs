//! The screens in docs/console.md are what a person sees: a terminal's model at that width shows them, key for key.

mod common;

use std::fs;
use std::path::Path;

use common::Person;

/// The keys of a screen, as the document writes them: with the escapes of Rust's strings.
fn keys(text: &str) -> Vec<u8> {
    let mut keys = Vec::new();
    let mut chars = text.chars();
    while let Some(next) = chars.next() {
        match (next, if next == '\\' { chars.next() } else { None }) {
            (_, Some('r')) => keys.push(b'\r'),
            (_, Some('t')) => keys.push(b'\t'),
            (_, Some('x')) => {
                let digits: String = chars.by_ref().take(2).collect();
                keys.push(u8::from_str_radix(&digits, 16).expect("two digits"));
            }
            _ => keys.extend(next.to_string().bytes()),
        }
    }
    keys
}

#[test]
fn the_documents_screens_are_what_a_terminal_shows() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/console.md");
    let text = fs::read_to_string(&path).expect("the document");
    let mut parts = text.split("<!-- screen ");
    let mut shown = parts.next().expect("a begin").to_owned();
    let mut screens = 0;
    for part in parts {
        let (head, rest) = part.split_once(" -->\n\n```\n").expect("a screen follows");
        let (size, typed) = head.split_once(": ").expect("a size and keys");
        let (columns, rows) = size.split_once('x').expect("columns x rows");
        let mut person = Person::told(rows.parse().expect("rows"), columns.parse().expect("columns"));
        person.types_slowly(&keys(typed));
        let after = rest.split_once("```").expect("an end").1;
        shown += &format!("<!-- screen {head} -->\n\n```\n{}\n```{after}", person.rows().join("\n"));
        screens += 1;
    }
    if std::env::var_os("WRITE_SCREENS").is_some() {
        fs::write(path, &shown).expect("written");
    }
    assert!(shown == text, "WRITE_SCREENS=1 writes what is shown now:\n{shown}");
    assert!(screens >= 6, "{screens} screens");
}
