//! The GUIDs of address ranges and label abstractions.

use uuid::{Uuid, uuid};

/// A GUID as firmware stores it: the first three groups little-endian.
pub(crate) const fn from_media(bytes: [u8; 16]) -> Uuid {
    Uuid::from_bytes_le(bytes)
}

/// Address range types (ACPI 6.5, 5.2.25.2).
pub(crate) mod range {
    use super::{Uuid, uuid};

    pub(crate) const VOLATILE: Uuid = uuid!("7305944f-fdda-44e3-b16c-3f22d252e5d0");
    pub(crate) const PERSISTENT: Uuid = uuid!("66f0d379-b4f3-4074-ac43-0d3318b78cdb");
    pub(crate) const CONTROL_REGION: Uuid = uuid!("92f701f6-13b4-405d-910b-299367e8234c");
    pub(crate) const BLOCK_DATA_WINDOW: Uuid = uuid!("91af0530-5d86-470e-a6b0-0a2db9408249");
    pub(crate) const VOLATILE_DISK: Uuid = uuid!("77ab535a-45fc-624b-5560-f7b281d1f96e");
    pub(crate) const VOLATILE_CD: Uuid = uuid!("3d5abd30-4175-87ce-6d64-d2ade523c4bb");
    pub(crate) const PERSISTENT_DISK: Uuid = uuid!("5cea02c9-4d07-69d3-269f-4496fbe096f9");
    pub(crate) const PERSISTENT_CD: Uuid = uuid!("08018188-42cd-bb48-100f-5387d53ded3d");
}

/// Address abstractions of labels (UEFI 2.10, 13.19).
pub(crate) mod abstraction {
    use super::{Uuid, uuid};

    pub(crate) const BTT: Uuid = uuid!("8aed63a2-29a2-4c66-8b12-f05d15d3922a");
    pub(crate) const BTT2: Uuid = uuid!("18633bfc-1735-4217-8ac9-17239282d3f8");
    pub(crate) const PFN: Uuid = uuid!("266400ba-fb9f-4677-bcb0-968f11d0d225");
    pub(crate) const DAX: Uuid = uuid!("97a86d9c-3cdd-4eda-986f-5068b4f80088");
}
