//! The arguments of `create-namespace`.

use alloc::format;
use alloc::string::String;

use uuid::Uuid;

use crate::admin::grammar::Arguments;
use crate::admin::values;
use crate::error::AdminError;
use crate::inventory::{RegionType, SECTOR_SIZES};

/// What a new namespace gives: sectors, or its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamespaceMode {
    /// A BTT: sectors that are never torn.
    Sector,
    /// The bytes as they are.
    Raw,
}

/// `create-namespace`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateNamespace {
    /// `-r`: in this region; else in the first that has room.
    pub region: Option<String>,
    /// `-t`: in a region of this type.
    pub region_type: Option<RegionType>,
    /// `-s`: this many bytes; else all that is free.
    pub size_bytes: Option<u64>,
    /// `-m`.
    pub mode: NamespaceMode,
    /// `-l`: bytes of an external sector; 4096 unless asked otherwise.
    pub sector_size: u32,
    /// `-n`: the namespace's alternative name.
    pub name: Option<String>,
    /// `-u`: the uuid; else one made up.
    pub uuid: Option<Uuid>,
    /// `-f`: even over something recognisable.
    pub force: bool,
    /// `--zero-entries`: `trim` marks sectors in the map instead of writing zeroes.
    pub zero_entries: bool,
}

impl CreateNamespace {
    /// The arguments of `create-namespace`.
    ///
    /// # Errors
    /// Usage.
    pub(super) fn parse(line: &Arguments<'_>) -> Result<Self, AdminError> {
        let region_type = match line.value("type") {
            None => None,
            Some("pmem") => Some(RegionType::Pmem),
            Some("blk") => Some(RegionType::Blk),
            Some(other) => return Err(line.usage(format!("-t: \"{other}\" is not pmem or blk"))),
        };
        let mode = match line.value("mode") {
            None | Some("sector" | "safe") => NamespaceMode::Sector,
            Some("raw") => NamespaceMode::Raw,
            Some(other) => return Err(line.usage(format!("-m: \"{other}\" is not sector or raw"))),
        };
        let sector_size = match line.value("sector-size") {
            None => 4096,
            Some(text) => {
                let size = line.check(values::size("-l", text))?;
                SECTOR_SIZES.into_iter().find(|known| u64::from(*known) == size).ok_or_else(|| {
                    line.usage(format!("-l: {text} is no sector size; use 512, 520, 528, 4096, 4104, 4160 or 4224"))
                })?
            }
        };
        let size_bytes = line.value("size").map(|text| line.check(values::size("-s", text))).transpose()?;
        Ok(Self {
            region: line.value("region").map(Into::into),
            region_type,
            size_bytes,
            mode,
            sector_size,
            name: line.value("name").map(Into::into),
            uuid: line.value("uuid").map(|text| line.check(values::uuid("-u", text))).transpose()?,
            force: line.flag("force"),
            zero_entries: line.flag("zero-entries"),
        })
    }
}
