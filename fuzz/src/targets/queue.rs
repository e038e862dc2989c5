//! The device's side of a virtqueue.

/// [`service::mock::harm`] has what must hold.
pub(super) fn run(bytes: &[u8]) {
    service::mock::harm(bytes);
}
