//! A disk for a consumer in words: `SOCKET[,dev=DEV][,ram=FILE,size=S][,trusted]`, and `FILE,size=S` for a RAM.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use nix::unistd::getuid;

use crate::bridge::ExportSpec;
use crate::quantity;

/// The default size of a consumer's RAM, in bytes.
const RAM_BYTES: u64 = 512 << 20;

/// A consumer's RAM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerRam {
    /// The file that it is.
    pub file: PathBuf,
    /// Its size.
    pub bytes: u64,
}

impl ConsumerRam {
    /// Reads `FILE,size=S`.
    ///
    /// # Errors
    /// The fault of the text, for people.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.split_once(",size=") {
            Some((file, size)) if !file.is_empty() && !file.contains(',') => Self::checked(file, size),
            _ => Err("a consumer's RAM is FILE,size=S".into()),
        }
    }

    fn checked(file: &str, size: &str) -> Result<Self, String> {
        let bytes = quantity::bytes(size).map_err(|why| format!("size: {why}"))?;
        if bytes < 1 << 20 {
            return Err(format!("size: {bytes} is too small: at least 1M"));
        }
        if !bytes.is_multiple_of(1 << 20) {
            return Err(format!("size: {bytes} bytes are not a multiple of 1M"));
        }
        Ok(Self { file: file.into(), bytes })
    }

    /// The RAM of the consumer of the disk at `socket`, where nothing names another: a file in memory that belongs to
    /// this user and this socket, wherever the socket's folder is, and is the same in each run.
    fn of_socket(socket: &Path) -> Self {
        let name = socket.file_name().unwrap_or(OsStr::new("disk"));
        let whole = std::path::absolute(socket).unwrap_or_else(|_| socket.to_owned());
        // A folder has one name here, by whatever link it was reached.
        let folder = whole.parent().and_then(|folder| folder.canonicalize().ok());
        let whole = folder.map_or(whole, |folder| folder.join(name));
        let hash = fnv_1a(whole.as_os_str().as_encoded_bytes());
        let file = format!("/dev/shm/untorn-{}-{}-{hash:016x}.ram", getuid(), name.display());
        Self { file: file.into(), bytes: RAM_BYTES }
    }
}

/// FNV-1a, 64 bits (draft-eastlake-fnv, section 2): spreads names, and stays the same in all versions of us.
fn fnv_1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// A disk for a consumer, whose RAM may be left open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportWords {
    /// Where the vhost-user socket is to be.
    pub socket: PathBuf,
    /// Which device; `None`: the first that there is.
    pub dev: Option<String>,
    /// The consumer's RAM, if it is named.
    pub ram: Option<ConsumerRam>,
    /// Whether the consumer's front ends are trusted ([`ExportSpec::trusted`]).
    pub trusted: bool,
}

impl ExportWords {
    /// Reads `SOCKET[,dev=DEV][,ram=FILE,size=S][,trusted]`.
    ///
    /// # Errors
    /// The fault of the text, for people.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut fields = text.split(',');
        let socket = fields.next().filter(|socket| !socket.is_empty()).ok_or("it names no socket")?;
        let (mut dev, mut ram, mut size, mut trusted) = (None, None, None, false);
        for field in fields {
            match field.split_once('=') {
                Some(("dev", name)) if !name.is_empty() => dev = Some(name.to_owned()),
                Some(("ram", file)) if !file.is_empty() => ram = Some(file),
                Some(("size", text)) => size = Some(text),
                None if field == "trusted" => trusted = true,
                _ => return Err(format!("'{field}' is none of dev=DEV, ram=FILE, size=S and trusted")),
            }
        }
        let ram = match (ram, size) {
            (Some(ram), Some(size)) => Some(ConsumerRam::checked(ram, size)?),
            (None, None) => None,
            _ => return Err("a consumer's RAM takes both ram=FILE and size=S".into()),
        };
        Ok(Self { socket: socket.into(), dev, ram, trusted })
    }

    /// The disk, with a RAM for its consumer.
    #[must_use]
    pub fn spec(&self) -> ExportSpec {
        let ram = self.ram.clone().unwrap_or_else(|| ConsumerRam::of_socket(&self.socket));
        ExportSpec {
            socket: self.socket.clone(),
            dev: self.dev.clone(),
            ram: ram.file,
            ram_bytes: ram.bytes,
            trusted: self.trusted,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where it is surprised")]

    use super::{ConsumerRam, ExportWords, fnv_1a};

    #[test]
    fn an_export_names_a_socket_and_perhaps_a_consumers_ram() {
        let spec = ExportWords::parse("/run/a.sock,dev=pmem0.1s,ram=/dev/shm/a,size=512M").unwrap().spec();
        assert_eq!(
            (spec.dev.as_deref(), spec.ram.to_str(), spec.ram_bytes),
            (Some("pmem0.1s"), Some("/dev/shm/a"), 512 << 20)
        );
        assert!(!spec.trusted && ExportWords::parse("a,trusted").unwrap().spec().trusted);
        for (wrong, why) in [
            ("", "names no socket"),
            (",ram=b,size=1M", "names no socket"),
            ("a,ram=b", "both"),
            ("a,size=1M", "both"),
            ("a,ram=b,size=x", "\"x\" is not a size"),
            ("a,ram=b,size=1025K", "1049600 bytes are not a multiple of 1M"),
            ("a,ram=b,size=1", "size: 1 is too small: at least 1M"),
            ("a,ram=b,size=0", "size: 0 is too small: at least 1M"),
            ("a,ram=b,size=1M,c", "'c' is none of"),
            ("a,dev=", "'dev=' is none of"),
            ("a,trusted=yes", "'trusted=yes' is none of"),
            ("a,ram=b,size=9999T", "more than a PC"),
        ] {
            assert!(ExportWords::parse(wrong).is_err_and(|found| found.contains(why)), "{wrong}");
        }
        let ram = ConsumerRam::parse("/dev/shm/a,size=1G").unwrap();
        assert_eq!((ram.file.to_str(), ram.bytes), (Some("/dev/shm/a"), 1 << 30));
        for wrong in ["", "a", ",size=1G", "a,size=", "a,size=1G,ram=b", "a,b,size=1G", "a,size=5"] {
            assert!(ConsumerRam::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn each_socket_has_a_ram_file_of_its_own_and_the_same_one_in_each_run() {
        let of = |socket: &str| ExportWords::parse(socket).unwrap().spec().ram.display().to_string();
        let one = of("/one/target/vhost.sock");
        assert_ne!(one, of("/two/target/vhost.sock"), "two folders");
        assert_ne!(one, of("/one/target/other.sock"), "two sockets");
        assert_eq!(one, of("/one/target/vhost.sock"), "two runs");
        assert!(one.starts_with("/dev/shm/untorn-") && one.contains("-vhost.sock-"), "{one}");
        let here = std::env::current_dir().unwrap();
        assert_eq!(of("a.sock"), of(&here.join("a.sock").display().to_string()), "two ways to say the same");
    }

    #[test]
    fn the_hash_is_fnv_1a() {
        // From the draft's own table of test vectors.
        for (text, hash) in
            [("", 0xcbf2_9ce4_8422_2325), ("a", 0xaf63_dc4c_8601_ec8c), ("foobar", 0x8594_4171_f739_67e8)]
        {
            assert_eq!(fnv_1a(text.as_bytes()), hash, "{text}");
        }
    }
}
