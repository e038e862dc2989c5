//! Makes a dump of a medium.

use std::fs::{File, TryLockError};
use std::io;
use std::io::{Seek as _, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use serde_json::json;

use super::pieces::{Piece, Pieces};
use super::{EXTENT_BYTES_MAX, FORMAT, MediaDumpError, io as failed};

/// How many zeroes on end are left out.
const GRAIN: usize = 512;

/// The most pieces, and reasons, that the first line names: a label area may lead to one BTT thousands of times.
const NAMED_MAX: usize = 10_000;

/// Writes the dump of a medium, which is only looked at. Its label area is `label_bytes` large; without that it is looked for.
///
/// # Errors
/// The medium is in use, the label area larger than it, or the operating system fails.
pub fn take(medium: &File, label_bytes: Option<u64>, out: &mut dyn Write) -> Result<(), MediaDumpError> {
    // A run locks it for itself alone. What is written meanwhile would be torn.
    medium.try_lock_shared().map_err(|why| match why {
        TryLockError::WouldBlock => MediaDumpError::InUse,
        TryLockError::Error(why) => MediaDumpError::Io("the medium cannot be locked", why),
    })?;
    let mut end = medium;
    let bytes = end.seek(SeekFrom::End(0)).map_err(failed("the medium's size"))?;
    if let Some(area) = label_bytes.filter(|area| *area > bytes) {
        return Err(MediaDumpError::LabelArea { bytes: area });
    }
    let found = Pieces::of(medium, bytes, label_bytes);
    let named = found.pieces.iter().take(NAMED_MAX);
    let pieces = named.map(|it| json!({ "at": it.at, "bytes": it.bytes, "what": it.what }));
    let mut left_out: Vec<&str> = found.left_out.iter().take(NAMED_MAX).map(String::as_str).collect();
    if found.pieces.len().max(found.left_out.len()) > NAMED_MAX {
        left_out.push("more pieces or reasons than are named here");
    }
    let head = json!({
        "untorn_media_dump": FORMAT,
        "untornctl": service::VERSION,
        "bytes": bytes,
        "label_bytes": found.label_bytes,
        "pieces": pieces.collect::<Vec<_>>(),
        "left_out": left_out,
    });
    let mut count = 0_u64;
    let mut write = |bytes: &[u8]| out.write_all(bytes).map_err(failed("the dump cannot be written"));
    write(format!("{head}\n").as_bytes())?;
    let mut room = vec![0; usize::try_from(EXTENT_BYTES_MAX).expect("it is small")];
    for Range { start: mut at, end } in merged(&found.pieces) {
        while at < end {
            let part = &mut room[..usize::try_from((end - at).min(EXTENT_BYTES_MAX)).expect("it is small")];
            for lost in read(part, |into, from| medium.read_exact_at(into, at + from)) {
                write(format!("lost {} {}\n", at + lost.start as u64, lost.len()).as_bytes())?;
            }
            for run in runs(part) {
                write(format!("extent {} {}\n", at + run.start as u64, run.len()).as_bytes())?;
                write(&part[run])?;
                write(b"\n")?;
                count += 1;
            }
            at += part.len() as u64;
        }
    }
    write(format!("end {count}\n").as_bytes())
}

/// The bytes of all pieces, each once, in order.
fn merged(pieces: &[Piece]) -> Vec<Range<u64>> {
    let mut all: Vec<Range<u64>> = pieces.iter().map(|it| it.at..it.at + it.bytes).collect();
    all.sort_by_key(|range| range.start);
    let mut merged: Vec<Range<u64>> = Vec::new();
    for range in all {
        match merged.last_mut() {
            Some(last) if last.end >= range.start => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}

/// Reads bytes as far as they can be read. Returns which are lost, and zero now.
fn read(into: &mut [u8], read_at: impl Fn(&mut [u8], u64) -> io::Result<()>) -> Vec<Range<usize>> {
    if read_at(into, 0).is_ok() {
        return Vec::new();
    }
    let mut lost = Vec::new();
    for (number, grain) in into.chunks_mut(GRAIN).enumerate() {
        let at = number * GRAIN;
        if read_at(grain, at as u64).is_err() {
            grain.fill(0);
            lost.push(at..at + grain.len());
        }
    }
    lost
}

/// The parts of some bytes that are to be kept: those between zeroes.
fn runs(bytes: &[u8]) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    let mut at = 0;
    for grain in bytes.chunks(GRAIN) {
        let end = at + grain.len();
        if grain.iter().any(|byte| *byte != 0) {
            match runs.last_mut() {
                Some(last) if last.end == at => last.end = end,
                _ => runs.push(at..end),
            }
        }
        at = end;
    }
    runs
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::{Piece, merged, read};

    #[test]
    fn what_pieces_share_is_taken_once() {
        let piece = |at, bytes| Piece { at, bytes, what: String::new() };
        let pieces = [piece(4096, 4096), piece(0, 100), piece(4096, 4096), piece(5000, 8000), piece(100, 1)];
        assert_eq!(merged(&pieces), [0..101, 4096..13000]);
    }

    #[test]
    fn what_cannot_be_read_is_told_and_the_rest_is_read() {
        let disk = |into: &mut [u8], at: u64| {
            into.fill(7);
            let end = at + into.len() as u64;
            if [1100, 1999].iter().any(|bad| (at..end).contains(bad)) {
                return Err(io::Error::from_raw_os_error(5));
            }
            Ok(())
        };
        let mut bytes = [9; 2000];
        assert_eq!(read(&mut bytes, disk), [1024..1536, 1536..2000]);
        assert_eq!(bytes[..], [[7; 1024].as_slice(), &[0; 976]].concat());
        assert!(read(&mut bytes[..1000], disk).is_empty());
    }

    #[test]
    fn zeroes_are_left_out() {
        let mut bytes = [0; 2600];
        for at in [600, 1100, 2599] {
            bytes[at] = 1;
        }
        assert_eq!(super::runs(&bytes), [512..1536, 2560..2600]);
        assert!(super::runs(&[0; 5000]).is_empty() && super::runs(&[]).is_empty());
    }
}
