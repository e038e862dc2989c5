//! How a command ended: the status field of a completion (NVMe Base 2.0, section 3.3.3.2.1).

use crate::storage::StorageError;

/// Bits 15:1 of a completion's last word: code, type (bits 10:8), Do Not Retry (bit 14).
///
/// Do Not Retry is set where the same command would end the same way: without it Linux tries six times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(pub u16);

const DO_NOT_RETRY: u16 = 1 << 14;

/// The names are the specification's; figures 95 to 98, and NVMe over Fabrics' in figure 96.
#[allow(missing_docs, reason = "the specification's names")]
impl Status {
    pub const SUCCESS: Self = Self(0);
    pub const INVALID_OPCODE: Self = Self::final_(0x001);
    pub const INVALID_FIELD: Self = Self::final_(0x002);
    pub const COMMAND_ID_CONFLICT: Self = Self::final_(0x003);
    pub const INTERNAL_ERROR: Self = Self(0x006);
    pub const FAILED_FUSED: Self = Self(0x009);
    pub const MISSING_FUSED: Self = Self(0x00a);
    pub const INVALID_NAMESPACE: Self = Self::final_(0x00b);
    pub const COMMAND_SEQUENCE_ERROR: Self = Self::final_(0x00c);
    pub const DATA_SGL_LENGTH_INVALID: Self = Self::final_(0x00f);
    pub const SGL_TYPE_INVALID: Self = Self::final_(0x011);
    pub const ATOMIC_WRITE_UNIT_EXCEEDED: Self = Self::final_(0x014);
    pub const SGL_OFFSET_INVALID: Self = Self::final_(0x016);
    pub const NAMESPACE_WRITE_PROTECTED: Self = Self::final_(0x020);
    pub const TRANSIENT_TRANSPORT_ERROR: Self = Self(0x022);
    pub const LBA_OUT_OF_RANGE: Self = Self::final_(0x080);
    pub const ASYNC_EVENT_LIMIT_EXCEEDED: Self = Self::final_(0x105);
    pub const INVALID_LOG_PAGE: Self = Self::final_(0x109);
    pub const FEATURE_NOT_SAVEABLE: Self = Self::final_(0x10d);
    pub const CONNECT_INCOMPATIBLE_FORMAT: Self = Self::final_(0x180);
    pub const CONNECT_CONTROLLER_BUSY: Self = Self(0x181);
    pub const CONNECT_INVALID_PARAMETERS: Self = Self::final_(0x182);
    pub const CONNECT_INVALID_HOST: Self = Self::final_(0x184);
    pub const AUTHENTICATION_REQUIRED: Self = Self::final_(0x191);
    pub const WRITE_FAULT: Self = Self::final_(0x280);
    pub const UNRECOVERED_READ_ERROR: Self = Self::final_(0x281);
    pub const COMPARE_FAILURE: Self = Self::final_(0x285);

    /// With Do Not Retry.
    const fn final_(code: u16) -> Self {
        Self(code | DO_NOT_RETRY)
    }

    /// The status of a read that the storage did not do.
    #[must_use]
    pub const fn of_read(why: StorageError) -> Self {
        match why {
            StorageError::Media => Self::UNRECOVERED_READ_ERROR,
            other => Self::of_write(other),
        }
    }

    /// The status of anything else that the storage did not do. The one place where its errors become statuses.
    #[must_use]
    pub const fn of_write(why: StorageError) -> Self {
        match why {
            StorageError::OutOfRange => Self::LBA_OUT_OF_RANGE,
            StorageError::Media => Self::WRITE_FAULT,
            StorageError::ReadOnly => Self::NAMESPACE_WRITE_PROTECTED,
            StorageError::Unsupported => Self::INVALID_OPCODE,
            StorageError::Gone => Self::INVALID_NAMESPACE,
            StorageError::Internal => Self::INTERNAL_ERROR,
            StorageError::Differs => Self::COMPARE_FAILURE,
        }
    }
}
