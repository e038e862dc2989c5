//! The arguments of `write`.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::admin::grammar::Arguments;
use crate::admin::values;
use crate::error::AdminError;
use crate::lba::Lba;

/// `write`.
#[derive(Clone, Debug)]
pub struct Write {
    /// The block device.
    pub dev: String,
    /// The first sector.
    pub lba: Lba,
    /// What to write.
    pub data: WriteData,
    /// `-f`: even if a consumer uses the device; so it is in `trim`, `inject-error` and `clear-errors`.
    pub force: bool,
}

/// What `write` stores.
#[derive(Clone, Debug)]
pub enum WriteData {
    /// These bytes: whole external sectors, one after another.
    Bytes(Vec<u8>),
    /// `count` sectors of one byte.
    Fill {
        /// The byte.
        byte: u8,
        /// How many sectors; at least 1.
        count: u64,
    },
}

impl Write {
    /// The arguments of `write`.
    ///
    /// # Errors
    /// Usage.
    pub(super) fn parse(line: &Arguments<'_>) -> Result<Self, AdminError> {
        let dev = line.required(0)?.into();
        let lba = Lba(line.check(values::number("LBA", line.required(1)?))?);
        let data = match (line.value("data"), line.value("fill"), line.value("count")) {
            (Some(data), None, None) => WriteData::Bytes(line.check(values::base64("--data", data))?),
            (None, Some(byte), count) => WriteData::Fill {
                byte: line.check(values::number_in("--fill", byte, 0, u8::MAX))?,
                count: match count {
                    Some(count) => line.check(values::number_in("--count", count, 1, u64::MAX))?,
                    None => 1,
                },
            },
            (Some(_), None, Some(_)) => return Err(line.usage("--count goes with --fill; --data says itself how much")),
            _ => return Err(line.usage("give either --data or --fill")),
        };
        Ok(Self { dev, lba, data, force: line.flag("force") })
    }

    /// How many sectors of `sector_bytes` it writes.
    ///
    /// # Errors
    /// Usage: the data are not whole sectors.
    pub(super) fn count(&self, sector_bytes: u64) -> Result<u64, AdminError> {
        match &self.data {
            WriteData::Fill { count, .. } => Ok(*count),
            WriteData::Bytes(bytes) => {
                let length = bytes.len() as u64;
                if length == 0 || !length.is_multiple_of(sector_bytes) {
                    let message =
                        format!("--data: a length of {length} is not whole sectors; {} has sectors of", self.dev);
                    return Err(AdminError::usage(format!("{message} {sector_bytes} bytes")));
                }
                Ok(length / sector_bytes)
            }
        }
    }
}
