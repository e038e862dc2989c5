//! `init-labels`: its arguments, and the label area that it makes.

use alloc::format;
use alloc::string::String;
use core::fmt;

use serde::Serialize;

use crate::admin::grammar::Arguments;
use crate::admin::reply::{Object, Reply};
use crate::error::AdminError;

/// `init-labels`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitLabels {
    /// The DIMM's name.
    pub dimm: String,
    /// The labels' version.
    pub version: LabelFormat,
    /// `-f`: even over labels that are valid, and over a namespace that is not blank.
    pub force: bool,
}

impl InitLabels {
    /// The arguments of `init-labels`.
    ///
    /// # Errors
    /// Usage.
    pub(super) fn parse(line: &Arguments<'_>) -> Result<Self, AdminError> {
        let version = match line.value("label-version") {
            None | Some("1.2") => LabelFormat::V1_2,
            Some("1.1") => LabelFormat::V1_1,
            Some(other) => return Err(line.usage(format!("-V: \"{other}\" is not 1.1 or 1.2"))),
        };
        Ok(Self { dimm: line.required(0)?.into(), version, force: line.flag("force") })
    }
}

/// Versions of namespace labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum LabelFormat {
    /// 128 bytes; a BTT is of version 1.1.
    #[serde(rename = "1.1")]
    V1_1,
    /// 256 bytes with a checksum (UEFI); a BTT is of version 2.0.
    #[serde(rename = "1.2")]
    V1_2,
}

impl LabelFormat {
    /// As people write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V1_1 => "1.1",
            Self::V1_2 => "1.2",
        }
    }
}

/// The reply to `init-labels`: a label area without labels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LabelArea {
    /// The DIMM.
    pub dev: String,
    /// The version of its labels.
    pub label_version: LabelFormat,
    /// How many it has room for.
    pub slots: u32,
}

impl Reply for LabelArea {
    fn text(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(out, "{}: labels {}, {} slots", self.dev, self.label_version.as_str(), self.slots)
    }

    fn json(&self, object: &mut Object<'_>) -> fmt::Result {
        object.members(self)
    }
}
