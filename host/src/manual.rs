//! Manual pages, made of what the command line says of itself: one for untornctl, one for each of its verbs.

use std::fs;
use std::io;
use std::path::Path;

use clap::Command;

/// The name of the programs together.
const PROGRAM: &str = "untornctl";

/// Writes the pages into a folder, which is made if need be: `untornctl.1`, `untornctl-read.1` …
///
/// # Errors
/// The system's.
pub fn write(command: Command, folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let page = |name: &str, command: Command| -> io::Result<()> {
        let mut bytes = Vec::new();
        clap_mangen::Man::new(command.name(name.to_owned())).title(name.to_uppercase()).render(&mut bytes)?;
        fs::write(folder.join(format!("{name}.1")), bytes)
    };
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        page(&format!("{PROGRAM}-{}", verb.get_name()), verb.clone().version(env!("CARGO_PKG_VERSION")))?;
    }
    page(PROGRAM, command)
}
