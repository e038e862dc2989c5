//! Which namespaces have room for copies of the configuration.

use nvdimm::label::Claim;
use nvdimm::namespace::{BttPlace, Namespace};

use super::store::Room;

/// The name of the namespace that keeps nothing but the configuration.
pub(in crate::node) const NAMESPACE: &str = "untorn-config";

/// Returns the room that a namespace in memory has, if it has any.
pub(in crate::node) fn of(namespace: &Namespace) -> Option<Room> {
    match &namespace.labelling {
        // Raw: one in another mode is somebody's, whatever its name.
        Some(labelling) if labelling.name == NAMESPACE && labelling.claim == Claim::None => Some(Room::OF_NAMESPACE),
        None if namespace.btt_place() == Some(BttPlace::V1_1) => Some(Room::IN_FRONT),
        _ => None,
    }
}
