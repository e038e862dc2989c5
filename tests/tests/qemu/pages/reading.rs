//! Commands that are too long, too far or too much to be run here are read: their programs, tests and options are there.

use std::path::Path;

use tests::workspace;

use super::checkout::Checkout;

/// Reads a line: each of its commands.
///
/// # Errors
/// What is not there.
pub(crate) fn read(line: &str, checkout: &Checkout) -> Result<(), String> {
    let line = line.split(" #").next().unwrap_or_default().trim_end();
    line.split(" && ").try_for_each(|command| read_one(command, checkout))
}

fn read_one(command: &str, checkout: &Checkout) -> Result<(), String> {
    let words: Vec<&str> = command.split_whitespace().collect();
    match words[..] {
        ["./run-qemu.sh", ..] => printed(checkout, &format!("{command} --dry-run")).map(drop),
        ["cargo", verb, ..] => read_cargo(verb, &words[2..], checkout),
        ["untornctl", verb, ..] => are_in(&words, &printed(checkout, &format!("untornctl {verb} --help"))?),
        [program, ..] => {
            let script = workspace::top().join(program);
            if script.is_file() {
                return are_in(&words, &std::fs::read_to_string(script).map_err(|why| why.to_string())?);
            }
            printed(checkout, &format!("command -v {program}")).map(drop)
        }
        [] => Err("nothing to read".into()),
    }
}

/// Reads what cargo runs: a package and its program, example or test, whose options are those after `--`.
fn read_cargo(verb: &str, words: &[&str], checkout: &Checkout) -> Result<(), String> {
    let at = words.iter().position(|word| *word == "--").unwrap_or(words.len());
    let (cargos, ours) = (&words[..at], &words[at..]);
    let after = |option: &str| cargos.iter().skip_while(|word| **word != option).nth(1).copied();
    let Some(package) = after("-p") else {
        return if words.is_empty() && verb == "test" { Ok(()) } else { Err("no package".into()) };
    };
    let folder = folder_of(package)?;
    let is_one_of = |places: &[String]| places.iter().any(|place| folder.join(place).is_file());
    let there = |what: &str, places: &[String]| if is_one_of(places) { Ok(()) } else { Err(format!("no {what}")) };
    match (verb, after("--bin"), after("--test")) {
        ("test", None, Some(test)) => {
            there(test, &[format!("tests/{test}.rs"), format!("tests/{test}/main.rs")])?;
        }
        ("test", None, None) => {}
        ("run", Some(bin), None) => there(bin, &[format!("src/bin/{bin}.rs"), format!("src/bin/{bin}/main.rs")])?,
        ("run", None, None) => there("program", &["src/main.rs".into()])?,
        _ => return Err("no one has said how to read that".into()),
    }
    // What follows a second `--` is another program's.
    let ours = ours.split(|word| *word == "--").nth(1).unwrap_or_default();
    if ours.is_empty() || verb != "run" {
        return Ok(());
    }
    let program = match (package, after("--bin")) {
        // Cargo built it for these tests.
        ("tests", Some(bin)) if cfg!(feature = "programs") => {
            std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join(bin)
        }
        ("tests", _) => return Ok(()),
        ("untorn-target", _) => workspace::untorn_target(),
        _ => return Err("no one has said where that program is".into()),
    };
    are_in(ours, &printed(checkout, &format!("'{}' --help", program.display()))?)
}

/// The folder of a package of ours.
fn folder_of(package: &str) -> Result<std::path::PathBuf, String> {
    let is_named = |folder: &Path| {
        std::fs::read_to_string(folder.join("Cargo.toml"))
            .is_ok_and(|text| text.lines().any(|line| line == format!("name = \"{package}\"")))
    };
    let text = std::fs::read_to_string(workspace::top().join("Cargo.toml")).map_err(|why| why.to_string())?;
    let members = text.split_once("members = [").and_then(|(_, rest)| rest.split(']').next()).unwrap_or_default();
    let folders = members.split('"').skip(1).step_by(2).map(|member| workspace::top().join(member));
    folders.into_iter().find(|folder| is_named(folder)).ok_or_else(|| format!("no package {package}"))
}

/// Whether a help has all long options of these words.
fn are_in(words: &[&str], help: &str) -> Result<(), String> {
    let options = words.iter().filter(|word| word.starts_with("--") && word.len() > 2);
    let names = options.map(|word| word.split('=').next().unwrap_or(word));
    let is_in = |name: &&str| help.split(|it: char| !it.is_alphanumeric() && it != '-').any(|word| word == *name);
    names.into_iter().find(|name| !is_in(name)).map_or(Ok(()), |name| Err(format!("no option {name}")))
}

/// What a line prints that must end well.
fn printed(checkout: &Checkout, line: &str) -> Result<String, String> {
    let output = checkout.shell(line).output().map_err(|why| why.to_string())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(format!("`{line}`: {}", text(&output.stderr))) }
}

#[test]
fn what_is_not_there_is_noticed() {
    let checkout = Checkout::new();
    for line in [
        "cargo run -p tests --bin cuts -- --seed 1",
        "cargo test -p btt --test errors",
        "cargo test",
        "fuzz/run.sh --minutes 1",
    ] {
        read(line, &checkout).unwrap_or_else(|why| panic!("{line}: {why}"));
    }
    for line in [
        "cargo run -p tests --bin cutz -- --seed 1",
        "cargo run -p tests --bin cuts -- --sead 1",
        "cargo run -p nothing",
        "cargo test -p btt --test errands",
        "./run-qemu.sh --nvdim x.img",
        "untornctl status --jsun",
        "untornctl statuz",
        "fuzz/run.sh --hours 1",
        "truncate -s 1 x && no-such-program",
    ] {
        read(line, &checkout).expect_err(line);
    }
}
