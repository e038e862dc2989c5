//! What tells the replies to several requests apart.

use alloc::string::String;

/// The id of a request: JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(pub(super) String);

impl RequestId {
    /// As JSON.
    #[must_use]
    pub fn as_json(&self) -> &str {
        &self.0
    }
}
