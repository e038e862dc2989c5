//! The sectors that `bench` writes.
