//! Feature bits (VirtIO 1.3, sections 5.2.3 and 6) that a device of ours can offer.

bitflags::bitflags! {
    /// Feature bits.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Features: u64 {
        /// VIRTIO_BLK_F_SEG_MAX: the number of segments is limited.
        const SEG_MAX = 1 << 2;
        /// VIRTIO_BLK_F_RO: it takes no writes.
        const RO = 1 << 5;
        /// VIRTIO_BLK_F_BLK_SIZE: its sectors' size is told.
        const BLK_SIZE = 1 << 6;
        /// VIRTIO_BLK_F_FLUSH: it takes FLUSH.
        const FLUSH = 1 << 9;
        /// VIRTIO_BLK_F_TOPOLOGY: the best sizes are told.
        const TOPOLOGY = 1 << 10;
        /// VIRTIO_BLK_F_CONFIG_WCE: the cache mode is told and can be set.
        const CONFIG_WCE = 1 << 11;
        /// VIRTIO_BLK_F_MQ: it has several queues.
        const MQ = 1 << 12;
        /// VIRTIO_BLK_F_DISCARD: it takes DISCARD.
        const DISCARD = 1 << 13;
        /// VIRTIO_BLK_F_WRITE_ZEROES: it takes WRITE_ZEROES.
        const WRITE_ZEROES = 1 << 14;
        /// VIRTIO_F_INDIRECT_DESC: descriptors may be in tables of their own.
        const INDIRECT_DESC = 1 << 28;
        /// VIRTIO_F_EVENT_IDX: each side publishes the index at which it is to be notified.
        const EVENT_IDX = 1 << 29;
        /// VIRTIO_F_VERSION_1: no legacy.
        const VERSION_1 = 1 << 32;
    }
}
