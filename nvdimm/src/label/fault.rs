//! What can be wrong with a label area.

use crate::finding::faults;

faults! {
    /// A fault of a DIMM's label area.
    pub enum Fault {
        /// The label area could not be read.
        refused LabelsUnreadable { error: super::LabelError } => "{error}: the DIMM's labels are unknown";
        /// The size is none that a label area may have.
        refused BadLabelAreaSize { bytes: u64 } => "a label area of {bytes} bytes";
        /// Both index blocks are damaged.
        refused NoIndex => "no valid index block, but the area is not blank: its namespaces are unknown";
        /// One index block is not valid.
        remark BadIndex { block: u8, why: super::IndexFault } => "index block {block} is not valid: {why}";
        /// More labels than are kept, in all label areas together.
        refused TooManyLabels { labels: usize, limit: usize } =>
            "{labels} labels, where all DIMMs together may have {limit} more: they are not looked at";
        /// An active label is not valid.
        refused BadLabel { slot: u32, why: super::LabelFault } => "label {slot} is not valid: {why}";
    }
}
