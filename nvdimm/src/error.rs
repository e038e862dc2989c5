//! What was found wrong, and where, in all layers: one type for what is shown to people.

use core::fmt;

use crate::finding::{Fault as _, Findings, Found};
use crate::{label, namespace, nfit, region};

pub use crate::finding::{PciPlace, Place};

/// A fault of any layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Of a table.
    Nfit(nfit::Fault),
    /// Of a region.
    Region(region::Fault),
    /// Of a label area.
    Label(label::Fault),
    /// Of the labels of a region.
    Namespace(namespace::Fault),
    /// More findings of one layer than are kept: how many are not.
    More(usize),
}

macro_rules! from {
    ($($layer:ident => $variant:ident),*) => {$(
        impl From<$layer::Fault> for What {
            fn from(fault: $layer::Fault) -> Self {
                Self::$variant(fault)
            }
        }
    )*};
}
from!(nfit => Nfit, region => Region, label => Label, namespace => Namespace);

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nfit(fault) => fault.fmt(f),
            Self::Region(fault) => fault.fmt(f),
            Self::Label(fault) => fault.fmt(f),
            Self::Namespace(fault) => fault.fmt(f),
            Self::More(dropped) => write!(f, "{dropped} further findings are not shown"),
        }
    }
}

/// Something that is not as it should be.
pub type Finding = Found<What>;

impl Finding {
    /// Whether it is about the firmware's tables, and not about a label area.
    #[must_use]
    pub const fn is_of_tables(&self) -> bool {
        matches!(self.at, Place::Nfit { .. })
    }

    /// Whether the thing at that place was left out because of this; otherwise it is a remark.
    #[must_use]
    pub fn refuses(&self) -> bool {
        match self.what {
            What::Nfit(fault) => fault.refuses(),
            What::Region(fault) => fault.refuses(),
            What::Label(fault) => fault.refuses(),
            What::Namespace(fault) => fault.refuses(),
            What::More(_) => false,
        }
    }
}

/// All findings of one layer, in the order in which they were made; the last one may be that there were more.
pub(crate) fn all<F: Copy + Into<What>>(findings: &Findings<F>) -> impl Iterator<Item = Finding> + '_ {
    let more = findings.dropped().map(|(at, dropped)| Found { at, what: What::More(dropped) });
    findings.iter().map(|Found { at, what }| Found { at, what: what.into() }).chain(more)
}
