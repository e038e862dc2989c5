//! Makes a dump of a medium.

use std::fs::{File, TryLockError};
use std::io::{Seek as _, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use serde_json::json;

use super::pieces::Pieces;
use super::{EXTENT_BYTES_MAX, FORMAT, MediaDumpError, io};

/// How many zeroes on end are left out.
const GRAIN: usize = 512;

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
    let bytes = end.seek(SeekFrom::End(0)).map_err(io("the medium's size"))?;
    if let Some(area) = label_bytes.filter(|area| *area > bytes) {
        return Err(MediaDumpError::LabelArea { bytes: area });
    }
    let found = Pieces::of(medium, bytes, label_bytes).map_err(io("the medium cannot be read"))?;
    let pieces = found.pieces.iter().map(|it| json!({ "at": it.at, "bytes": it.bytes, "what": it.what }));
    let head = json!({
        "untorn_media_dump": FORMAT,
        "untornctl": service::VERSION,
        "bytes": bytes,
        "label_bytes": found.label_bytes,
        "pieces": pieces.collect::<Vec<_>>(),
        "left_out": found.left_out,
    });
    let mut count = 0_u64;
    let mut write = |bytes: &[u8]| out.write_all(bytes).map_err(io("the dump cannot be written"));
    write(format!("{head}\n").as_bytes())?;
    let mut room = vec![0; usize::try_from(EXTENT_BYTES_MAX).expect("it is small")];
    for piece in &found.pieces {
        let mut at = piece.at;
        let end = piece.at + piece.bytes;
        while at < end {
            let part = &mut room[..usize::try_from((end - at).min(EXTENT_BYTES_MAX)).expect("it is small")];
            medium.read_exact_at(part, at).map_err(io("the medium cannot be read"))?;
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
