//! Makes a medium of a dump.

use std::fs::{self, File};
use std::io::{BufRead, ErrorKind, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use serde_json::Value;

use super::{EXTENT_BYTES_MAX, FORMAT, HEAD_BYTES_MAX, LINE_BYTES_MAX, MediaDumpError, io, new_file};
use crate::quantity::BYTES_MAX;

/// Makes the file `to`, which is not there yet: as large as the medium was, sparse, zero but for what the dump has.
///
/// # Errors
/// The dump is none or damaged, or the operating system fails. Nothing is left of the file then.
pub fn load(mut dump: impl BufRead, to: &Path) -> Result<(), MediaDumpError> {
    let bytes = head(&mut dump)?;
    let file = new_file(to).map_err(io("the new medium"))?;
    let outcome = file.set_len(bytes).map_err(io("the new medium")).and_then(|()| extents(&mut dump, &file, bytes));
    if outcome.is_err() {
        // It is ours, and worth nothing.
        let _ = fs::remove_file(to);
    }
    outcome
}

/// Reads the first line; returns the medium's size.
fn head(dump: &mut impl BufRead) -> Result<u64, MediaDumpError> {
    let head: Value = serde_json::from_str(&line(dump, HEAD_BYTES_MAX)?).unwrap_or_default();
    match head["untorn_media_dump"].as_u64() {
        Some(FORMAT) => {}
        Some(form) if form > FORMAT => return Err(MediaDumpError::Newer { form }),
        _ => return Err(wrong("it begins otherwise")),
    }
    let bytes = head["bytes"].as_u64().ok_or_else(|| wrong("it does not tell the medium's size"))?;
    if bytes > BYTES_MAX {
        return Err(wrong("its medium has too many bytes"));
    }
    Ok(bytes)
}

/// Reads all extents, each into its place.
fn extents(dump: &mut impl BufRead, file: &File, bytes: u64) -> Result<(), MediaDumpError> {
    let mut room = vec![0; usize::try_from(EXTENT_BYTES_MAX).expect("it is small") + 1];
    let mut count = 0_u64;
    loop {
        let line = line(dump, LINE_BYTES_MAX)?;
        let words: Vec<&str> = line.split(' ').collect();
        let number = |text: &str| text.parse::<u64>().map_err(|_| wrong(&format!("{line:?}")));
        let (at, length, is_lost) = match words[..] {
            ["extent", at, length] => (number(at)?, number(length)?, false),
            ["lost", at, length] => (number(at)?, number(length)?, true),
            ["end", told] if number(told)? == count => break,
            ["end", _] => return Err(wrong("extents are missing")),
            _ => return Err(wrong(&format!("{line:?}"))),
        };
        if length > EXTENT_BYTES_MAX {
            return Err(wrong(&format!("{line:?} is longer than {EXTENT_BYTES_MAX} bytes")));
        }
        if at.checked_add(length).is_none_or(|end| end > bytes) {
            return Err(wrong(&format!("{line:?} is past the medium's end")));
        }
        if is_lost {
            continue;
        }
        let length = usize::try_from(length).expect("it is small");
        // Its bytes and an LF.
        let part = &mut room[..=length];
        dump.read_exact(part).map_err(|why| match why.kind() {
            ErrorKind::UnexpectedEof => wrong("it ends within an extent"),
            _ => io("the dump cannot be read")(why),
        })?;
        if part[length] != b'\n' {
            return Err(wrong(&format!("{line:?} is longer than it says")));
        }
        file.write_all_at(&part[..length], at).map_err(io("the new medium cannot be written"))?;
        count += 1;
    }
    let rest = dump.fill_buf().map_err(io("the dump cannot be read"))?;
    if rest.is_empty() { Ok(()) } else { Err(wrong("something follows its end")) }
}

/// Reads a line, without its LF.
fn line(dump: &mut impl BufRead, most: u64) -> Result<String, MediaDumpError> {
    let mut line = Vec::new();
    dump.take(most).read_until(b'\n', &mut line).map_err(io("the dump cannot be read"))?;
    match line.pop() {
        Some(b'\n') => String::from_utf8(line).map_err(|_| wrong("a line is no text")),
        Some(_) => Err(wrong("it ends within a line, or a line is too long")),
        None => Err(wrong("it ends too early")),
    }
}

fn wrong(why: &str) -> MediaDumpError {
    MediaDumpError::NoDump { why: why.into() }
}
