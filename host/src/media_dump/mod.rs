//! `untornctl dump --media`: what describes a medium's data, without the data, in a file that becomes a medium again.
//!
//! For reports of damage, and for tests of it: what a check finds on the medium it finds on the one that [`load()`] makes.
//! Taken are label areas, and of each BTT its info blocks, maps and flogs, as they stand, damaged or not. Left out is all
//! else: sectors, raw namespaces, free space, and the configuration, which may have secrets.
//!
//! # The file
//! Lines of text, each with its LF, and bytes as they are.
//!
//! | line | is |
//! |---|---|
//! | first | an object of JSON: `untorn_media_dump` (1, the form), `untornctl`, `bytes` (the medium's), `label_bytes` (of these the label area's, at the end), `pieces` and `left_out`, for people |
//! | `extent AT BYTES` | so many bytes of the medium follow, from byte AT on, and an LF |
//! | `lost AT BYTES` | so many bytes from byte AT on could not be read, and are taken for zero |
//! | `end COUNT` | the last one: there were so many extents |
//!
//! Extents come in any order, and have at most [`EXTENT_BYTES_MAX`] bytes each. What no extent has is zero.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

mod load;
mod pieces;
mod take;

pub use load::load;
pub use pieces::Pieces;
pub use take::take;

/// The form of the file.
const FORMAT: u64 = 1;

/// The most bytes of an extent.
pub const EXTENT_BYTES_MAX: u64 = 1 << 16;

/// The most that the first line may have.
const HEAD_BYTES_MAX: u64 = 16 << 20;

/// The most that any other line may have.
const LINE_BYTES_MAX: u64 = 64;

/// Why a dump could not be made, or no medium be made of it.
#[derive(Debug)]
pub enum MediaDumpError {
    /// The operating system's error for what was being done.
    Io(&'static str, io::Error),
    /// An appliance uses the medium.
    InUse,
    /// The label area would be larger than the medium.
    LabelArea {
        /// Its size.
        bytes: u64,
    },
    /// The file is no dump, or is damaged there.
    NoDump {
        /// What is wrong.
        why: String,
    },
    /// A newer untornctl made it.
    Newer {
        /// The form of that file.
        form: u64,
    },
}

impl std::fmt::Display for MediaDumpError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io(what, why) => write!(f, "{what}: {why}"),
            Self::InUse => f.write_str("the medium is in use: end the run that has it first"),
            Self::LabelArea { bytes } => write!(f, "the medium has no room for a label area of {bytes} bytes"),
            Self::NoDump { why } => write!(f, "this is no dump of a medium, or a damaged one: {why}"),
            Self::Newer { form } => {
                write!(f, "the dump has form {form}, and only {FORMAT} is known: take a newer untornctl")
            }
        }
    }
}

impl std::error::Error for MediaDumpError {}

/// Makes a file that is not there yet, this user's alone.
///
/// # Errors
/// The operating system's; one that is there is left alone.
pub fn new_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// The operating system's error for a `what`.
fn io(what: &'static str) -> impl FnOnce(io::Error) -> MediaDumpError {
    move |why| MediaDumpError::Io(what, why)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where it is surprised")]

    use std::fs::{self, File};
    use std::io::Write as _;
    use std::path::PathBuf;

    use super::{MediaDumpError, load, take};

    fn path(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("untorn-media-dump-{}-{name}", std::process::id()))
    }

    /// What a dump's text becomes, if it is one.
    fn loaded(name: &str, text: &[u8]) -> Result<Vec<u8>, MediaDumpError> {
        let to = path(name);
        let outcome = load(text, &to).map(|()| fs::read(&to).unwrap());
        assert_eq!(to.exists(), outcome.is_ok(), "nothing is left of what failed");
        let _ = fs::remove_file(to);
        outcome
    }

    const HEAD: &str = "{\"untorn_media_dump\":1,\"bytes\":8192}\n";

    #[test]
    fn a_dump_becomes_a_medium_and_a_damaged_one_does_not() {
        let whole = format!("{HEAD}extent 4096 3\nabc\nlost 5000 512\nextent 0 1\nz\nend 2\n");
        let medium = loaded("whole", whole.as_bytes()).unwrap();
        assert_eq!((medium.len(), &medium[..2], &medium[4095..4100]), (8192, &b"z\0"[..], &b"\0abc\0"[..]));
        for cut in 0..whole.len() {
            loaded("cut", &whole.as_bytes()[..cut]).unwrap_err();
        }
        for (wrong, why) in [
            (format!("{HEAD}end 1\n"), "extents are missing"),
            (format!("{HEAD}extent 8190 3\nabc\nend 1\n"), "past the medium's end"),
            (format!("{HEAD}extent 18446744073709551615 3\nabc\nend 1\n"), "past the medium's end"),
            (format!("{HEAD}extent 0 65537\n"), "longer than"),
            (format!("{HEAD}extent 0 3\nabcend 1\n"), "longer than it says"),
            (format!("{HEAD}extend 0 3\nabc\nend 1\n"), "\"extend 0 3\""),
            (format!("{HEAD}end 0\nmore"), "something follows"),
            (format!("{HEAD}lost 8190 3\nend 0\n"), "past the medium's end"),
            (format!("{HEAD}extent 0 3{}\nabc\nend 1\n", " ".repeat(64)), "a line is too long"),
            ("{\"untorn_media_dump\":2}\n".into(), "form 2"),
            ("{\"untorn_media_dump\":0}\n".into(), "begins otherwise"),
            ("{\"untorn_media_dump\":1,\"bytes\":1125899906842625}\n".into(), "too many bytes"),
            ("[]\nend 0\n".into(), "begins otherwise"),
            (String::new(), "it ends"),
        ] {
            let told = loaded("wrong", wrong.as_bytes()).unwrap_err().to_string();
            assert!(told.contains(why), "{wrong}: {told}");
        }
    }

    #[test]
    fn a_file_that_is_there_is_not_written_over() {
        let to = path("there");
        fs::write(&to, "somebody's").unwrap();
        let text = format!("{HEAD}end 0\n");
        load(text.as_bytes(), &to).unwrap_err();
        assert_eq!(fs::read(&to).unwrap(), b"somebody's");
        fs::remove_file(to).unwrap();
    }

    #[test]
    fn a_medium_in_use_and_one_without_metadata_are_told() {
        let from = path("from");
        let mut file = File::create(&from).unwrap();
        file.write_all(&[0x5a; 1 << 20]).unwrap();
        let reader = || File::open(&from).unwrap();
        let mut dump = Vec::new();
        take(&reader(), None, &mut dump).unwrap();
        assert!(!dump.contains(&0x5a) || !String::from_utf8_lossy(&dump).contains("ZZZZ"));
        assert!(String::from_utf8(dump).unwrap().contains("no BTT"));
        let too_large = take(&reader(), Some(1 << 21), &mut Vec::new()).unwrap_err();
        assert!(matches!(too_large, MediaDumpError::LabelArea { bytes: 0x20_0000 }));
        file.lock().unwrap();
        assert!(matches!(take(&reader(), None, &mut Vec::new()), Err(MediaDumpError::InUse)));
        fs::remove_file(from).unwrap();
    }
}
