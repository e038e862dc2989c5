//! Set Features and Get Features (NVMe Base 2.0, sections 5.27 and 5.15).

use super::AdminQueue;
use super::identify::{OAES_DISCOVERY, OAES_NAMESPACE};
use crate::command::Command;
use crate::controller::Controller;
use crate::limits::IO_QUEUES;
use crate::status::Status;

const VOLATILE_WRITE_CACHE: u8 = 0x06;
const NUMBER_OF_QUEUES: u8 = 0x07;
const ASYNC_EVENT_CONFIGURATION: u8 = 0x0b;
const KEEP_ALIVE_TIMER: u8 = 0x0f;

/// Dword 10, SV: keep it over a reset.
const SAVE: u32 = 1 << 31;

impl AdminQueue {
    /// Sets a feature. Returns dword 0.
    ///
    /// # Errors
    /// There is no such feature, or not of that value.
    pub(super) fn set_feature(&mut self, command: &Command, controller: &Controller) -> Result<u64, Status> {
        let [feature, ..] = command.dword(10).to_le_bytes();
        let value = command.dword(11);
        let known = matches!(feature, NUMBER_OF_QUEUES | ASYNC_EVENT_CONFIGURATION | KEEP_ALIVE_TIMER);
        if known && command.dword(10) & SAVE != 0 {
            return Err(Status::FEATURE_NOT_SAVEABLE);
        }
        match feature {
            NUMBER_OF_QUEUES if controller.subsystem.is_some() => {
                let [submission, completion] = [value & 0xffff, value >> 16];
                if submission == 0xffff || completion == 0xffff {
                    return Err(Status::INVALID_FIELD);
                }
                // A connection is a pair of queues.
                let granted = (submission.min(completion) + 1).min(IO_QUEUES.into());
                if !controller.grant(granted) {
                    return Err(Status::COMMAND_SEQUENCE_ERROR);
                }
                Ok(queues(granted))
            }
            ASYNC_EVENT_CONFIGURATION => {
                self.event_configuration = value & (OAES_NAMESPACE | OAES_DISCOVERY);
                Ok(0)
            }
            KEEP_ALIVE_TIMER => {
                controller.set_keep_alive(value);
                Ok(0)
            }
            _ => Err(Status::INVALID_FIELD),
        }
    }

    /// Returns a feature's value.
    ///
    /// # Errors
    /// There is no such feature.
    pub(super) fn get_feature(&self, command: &Command, controller: &Controller) -> Result<u64, Status> {
        let [feature, ..] = command.dword(10).to_le_bytes();
        match feature {
            // Off, for good: there is none.
            VOLATILE_WRITE_CACHE => Ok(0),
            NUMBER_OF_QUEUES if controller.subsystem.is_some() => Ok(queues(controller.granted())),
            ASYNC_EVENT_CONFIGURATION => Ok(self.event_configuration.into()),
            KEEP_ALIVE_TIMER => Ok(controller.keep_alive_ms().into()),
            _ => Err(Status::INVALID_FIELD),
        }
    }
}

/// A number of queues in both halves, less one.
const fn queues(granted: u32) -> u64 {
    ((granted - 1) * 0x1_0001) as u64
}
