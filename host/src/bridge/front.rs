//! The vhost-user back end that a consumer's QEMU talks to: it turns messages into the state that is wanted of the appliance.
//!
//! Offered are MQ, REPLY_ACK, CONFIG and BACKEND_REQ, no more: QEMU takes up whatever it knows. Inflight tracking is
//! not needed, for queues complete in order: used.idx is the whole truth.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};

use nix::sys::socket::sockopt::PeerCredentials;
use nix::sys::socket::{MsgFlags, getsockopt, send};
use service::control::QueueIndex;
use vhost::vhost_user::message::{
    VhostTransferStateDirection, VhostTransferStatePhase, VhostUserConfigFlags, VhostUserInflight, VhostUserLog,
    VhostUserMemoryRegion, VhostUserProtocolFeatures, VhostUserShMemConfig, VhostUserSharedMsg,
    VhostUserSingleMemoryRegion, VhostUserVirtioFeatures, VhostUserVringAddrFlags, VhostUserVringState,
};
use vhost::vhost_user::{Error, GpuBackend, Result, VhostUserBackendReqHandler};

use super::memory_table::MemoryTable;
use super::shared::{Shared, State};
use super::sharing;
use super::state::{ConfigWrite, Export, Queue, Rings};
use crate::event::ForeignEvent;

/// The most bytes of the configuration space that a front end may ask for; those beyond the disk's are 0.
const CONFIG_BYTES_MAX: u32 = 256;

/// How many pieces of the configuration space a front end may have written: a driver of a disk writes one.
const CONFIG_WRITES_MAX: usize = 32;

/// A front end's session with an export.
pub(super) struct Front {
    pub(super) shared: Arc<Shared>,
    pub(super) export: usize,
    /// The front end's process, if the system knows it.
    process: Option<i32>,
    /// Why the last message was refused.
    complaint: Mutex<Option<String>>,
}

impl Front {
    pub(super) fn new(shared: Arc<Shared>, export: usize, stream: &UnixStream) -> Self {
        let process = getsockopt(stream, PeerCredentials).ok().map(|peer| peer.pid());
        Self { shared, export, process, complaint: Mutex::new(None) }
    }

    /// Why the last message was refused, if it was us.
    pub(super) fn complaint(&self) -> Option<String> {
        self.complaint.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn refuse<T>(&self, why: impl Into<String>) -> Result<T> {
        *self.complaint.lock().unwrap_or_else(PoisonError::into_inner) = Some(why.into());
        Err(Error::InvalidParam)
    }

    /// Changes what is wanted, and wakes the conductor.
    fn change<T>(&self, change: impl FnOnce(&mut State, &mut dyn FnMut(String)) -> T) -> Result<T> {
        let mut why = None;
        let mut state = self.shared.lock();
        let outcome = change(&mut state, &mut |complaint| why = Some(complaint));
        drop(state);
        self.shared.wake_all();
        match why {
            Some(why) => self.refuse(why),
            None => Ok(outcome),
        }
    }

    /// Changes what is wanted of a queue.
    fn change_queue<T: Default>(
        &self,
        index: u32,
        change: impl FnOnce(&mut Queue) -> std::result::Result<T, String>,
    ) -> Result<T> {
        self.change(|state, complain| {
            let queues = &mut state.exports[self.export].queues;
            let count = queues.len();
            match usize::try_from(index).ok().and_then(|index| queues.get_mut(index)).map(change) {
                Some(Ok(value)) => value,
                Some(Err(why)) => {
                    complain(why);
                    T::default()
                }
                None => {
                    complain(format!(
                        "there is no queue {index}: the disk has {count}, give -device num-queues={count}"
                    ));
                    T::default()
                }
            }
        })
    }

    fn wait_for_rest(&self, index: u32) {
        self.shared.wait_for_rest(self.export, |export| {
            usize::try_from(index).ok().and_then(|index| export.queues.get(index)).is_none_or(Queue::rests)
        });
    }

    /// Logs why a driver that starts its queues gets nothing but errors: one that drives a transitional device by its
    /// legacy interface, as OVMF does, never accepts VERSION_1.
    fn name_a_legacy_driver(&self) {
        let state = self.shared.lock();
        let export = &state.exports[self.export];
        let (legacy, label) = (export.is_legacy(), export.label());
        drop(state);
        if legacy {
            self.shared.complain(
                self.export,
                &format!(
                    "{label}: the consumer has a legacy driver (without VERSION_1), whose requests fail: add \
                     disable-legacy=on to its -device vhost-user-blk-pci"
                ),
            );
        }
    }

    fn of_disk<T>(&self, read: impl FnOnce(&Export, &service::control::DiskOffer) -> T) -> Result<T> {
        let state = self.shared.lock();
        let export = &state.exports[self.export];
        match &export.disk {
            Some(disk) => Ok(read(export, disk)),
            None => Err(Error::BackendInternalError),
        }
    }
}

/// An event descriptor that a front end sent.
fn event(file: Option<File>, what: &str) -> std::result::Result<Option<Arc<ForeignEvent>>, String> {
    let Some(file) = file else { return Ok(None) };
    match ForeignEvent::new(file) {
        Some(event) => Ok(Some(Arc::new(event))),
        None => Err(format!("the descriptor for {what} is no eventfd")),
    }
}

/// Tells a front end that the configuration space has changed: the CONFIG_CHANGE_MSG of the back end's channel.
pub(super) fn tell_config_change(channel: &File) {
    // Request 2, version 1, no payload and no answer wanted.
    let message: [u32; 3] = [2, 1, 0];
    let bytes: Vec<u8> = message.iter().flat_map(|word| word.to_ne_bytes()).collect();
    // A front end that does not read misses it. (It can make its socket block at any time: that is said for each message.)
    let _ = send(channel.as_raw_fd(), &bytes, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL);
}

impl VhostUserBackendReqHandler for Front {
    fn set_owner(&self) -> Result<()> {
        Ok(())
    }

    fn reset_owner(&self) -> Result<()> {
        Ok(())
    }

    fn reset_device(&self) -> Result<()> {
        self.refuse("RESET_DEVICE, which was not offered")
    }

    fn get_features(&self) -> Result<u64> {
        self.of_disk(|_, disk| disk.features | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits())
    }

    fn set_features(&self, features: u64) -> Result<()> {
        let features = features & !VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();
        let offered = self.of_disk(|_, disk| disk.features)?;
        if features & !offered != 0 {
            return self.refuse(format!("features that were not offered: {:#x}", features & !offered));
        }
        self.change(|state, _| {
            state.exports[self.export].features = Some(features);
            state.exports[self.export].refused = false;
        })
    }

    fn get_protocol_features(&self) -> Result<VhostUserProtocolFeatures> {
        Ok(VhostUserProtocolFeatures::MQ
            | VhostUserProtocolFeatures::REPLY_ACK
            | VhostUserProtocolFeatures::CONFIG
            | VhostUserProtocolFeatures::BACKEND_REQ)
    }

    fn set_protocol_features(&self, _features: u64) -> Result<()> {
        Ok(())
    }

    fn get_queue_num(&self) -> Result<u64> {
        self.of_disk(|export, _| export.queues.len() as u64)
    }

    fn set_mem_table(
        &self,
        regions: &[VhostUserMemoryRegion],
        files: Vec<File>,
        _postcopy: Option<bool>,
    ) -> Result<Option<Vec<u64>>> {
        let ram = &self.shared.windows[self.shared.window_of[self.export]].ram;
        let table = match MemoryTable::new(regions, &files, ram) {
            Ok(table) => table,
            Err(error) => return self.refuse(error.to_string()),
        };
        if self.process.is_some_and(|process| sharing::is_private(process, table.regions(), ram.identity())) {
            return self.refuse(format!(
                "the consumer has a private copy of {}: give its -object memory-backend-file share=on",
                ram.path().display()
            ));
        }
        self.change(|state, _| {
            state.exports[self.export].table = Some(table);
            state.exports[self.export].refused = false;
        })?;
        Ok(None)
    }

    fn set_vring_num(&self, index: u32, num: u32) -> Result<()> {
        let most = self.of_disk(|_, disk| disk.queue_size)?;
        self.change_queue(index, |queue| {
            let size = u16::try_from(num).ok().filter(|size| size.is_power_of_two() && *size <= most);
            queue.set_size(size.ok_or(format!("a queue of {num} entries: it takes a power of two, at most {most}"))?);
            Ok(())
        })
    }

    fn set_vring_addr(
        &self,
        index: u32,
        _flags: VhostUserVringAddrFlags,
        descriptor: u64,
        used: u64,
        available: u64,
        _log: u64,
    ) -> Result<()> {
        let table = self.shared.lock().exports[self.export].table.clone();
        self.change_queue(index, |queue| {
            let table = table.ok_or("rings before the memory that they are in")?;
            if queue.size == 0 {
                return Err("rings before their size".into());
            }
            let size = u64::from(queue.size);
            let place = |what, user, bytes, align| {
                let found = table.offset_of_user(user, bytes).filter(|offset| offset.is_multiple_of(align));
                found.ok_or(format!("the {what} at {user:#x} is not in the consumer's memory, or not aligned"))
            };
            queue.rings = Some(Rings {
                desc: place("descriptor table", descriptor, 16 * size, 16)?,
                avail: place("available ring", available, 6 + 2 * size, 2)?,
                used: place("used ring", used, 6 + 8 * size, 4)?,
            });
            queue.broken = false;
            Ok(())
        })?;
        self.name_a_legacy_driver();
        Ok(())
    }

    fn set_vring_base(&self, index: u32, base: u32) -> Result<()> {
        self.change_queue(index, |queue| {
            queue.base = u16::try_from(base).map_err(|_| format!("an available index of {base}"))?;
            queue.resume = false;
            queue.broken = false;
            Ok(())
        })
    }

    fn get_vring_base(&self, index: u32) -> Result<VhostUserVringState> {
        // It stops the queue, too.
        self.change_queue(index, |queue| {
            queue.set_kick(None);
            Ok(())
        })?;
        self.wait_for_rest(index);
        let ram = &self.shared.windows[self.shared.window_of[self.export]].ram;
        self.change_queue(index, |queue| {
            if let (true, Some(rings)) = (queue.resume, queue.rings) {
                (queue.base, queue.resume) = (super::refuse::used_index(ram, rings), false);
            }
            Ok(VhostUserVringState::new(index, queue.base.into()))
        })
    }

    fn set_vring_kick(&self, index: u8, fd: Option<File>) -> Result<()> {
        let kick = event(fd, "kicks").or_else(|why| self.refuse(why))?;
        self.change_queue(index.into(), |queue| {
            queue.set_kick(Some(kick.ok_or("a queue without a kick: polling is not offered")?));
            queue.broken = false;
            Ok(())
        })
    }

    fn set_vring_call(&self, index: u8, fd: Option<File>) -> Result<()> {
        let window = self.shared.window_of[self.export];
        let call = event(fd, "calls").or_else(|why| self.refuse(why))?;
        self.change(|state, complain| {
            state.forget_way(self.export, index.into(), window);
            match state.exports[self.export].queue_mut(QueueIndex(index.into())) {
                Some(queue) => queue.set_call(call),
                None => complain(format!("there is no queue {index}")),
            }
        })
    }

    fn set_vring_err(&self, index: u8, fd: Option<File>) -> Result<()> {
        let error = event(fd, "errors").or_else(|why| self.refuse(why))?;
        self.change_queue(index.into(), |queue| {
            queue.error = error;
            Ok(())
        })
    }

    fn set_vring_enable(&self, index: u32, enable: bool) -> Result<()> {
        self.change_queue(index, |queue| {
            queue.enabled = enable;
            Ok(())
        })?;
        if !enable {
            self.wait_for_rest(index);
        }
        Ok(())
    }

    fn get_config(&self, offset: u32, size: u32, _flags: VhostUserConfigFlags) -> Result<Vec<u8>> {
        let end = offset.checked_add(size).filter(|end| *end <= CONFIG_BYTES_MAX).ok_or(Error::InvalidParam)?;
        self.of_disk(|export, disk| {
            let mut config = disk.config.clone();
            config.resize(CONFIG_BYTES_MAX as usize, 0);
            if export.is_gone() {
                // A disk that is not there has no sectors.
                config[..8].fill(0);
            }
            for ConfigWrite { at, bytes } in &export.config_writes {
                let at = usize::from(*at);
                config[at..at + bytes.len()].copy_from_slice(bytes);
            }
            config[offset as usize..end as usize].to_vec()
        })
    }

    fn set_config(&self, offset: u32, bytes: &[u8], _flags: VhostUserConfigFlags) -> Result<()> {
        const BYTES_MAX: usize = 16;
        let Some(at) =
            u8::try_from(offset).ok().filter(|at| usize::from(*at) + bytes.len() <= CONFIG_BYTES_MAX as usize)
        else {
            return self.refuse(format!("a write to byte {offset} of the configuration"));
        };
        if bytes.is_empty() || bytes.len() > BYTES_MAX {
            return self.refuse(format!("a write of {} bytes to the configuration", bytes.len()));
        }
        self.change(|state, complain| {
            let export = &mut state.exports[self.export];
            if export.config_writes.len() >= CONFIG_WRITES_MAX {
                return complain(format!("{CONFIG_WRITES_MAX} pieces of the configuration written"));
            }
            ConfigWrite { at, bytes: bytes.to_vec() }.put(&mut export.config_writes);
        })
    }

    fn set_gpu_socket(&self, _gpu: GpuBackend) -> Result<()> {
        self.refuse("a message for displays")
    }

    fn get_shared_object(&self, _uuid: VhostUserSharedMsg) -> Result<File> {
        self.refuse("GET_SHARED_OBJECT, which was not offered")
    }

    fn get_inflight_fd(&self, _inflight: &VhostUserInflight) -> Result<(VhostUserInflight, File)> {
        self.refuse("GET_INFLIGHT_FD, which was not offered")
    }

    fn set_inflight_fd(&self, _inflight: &VhostUserInflight, _file: File) -> Result<()> {
        self.refuse("SET_INFLIGHT_FD, which was not offered")
    }

    fn get_max_mem_slots(&self) -> Result<u64> {
        self.refuse("GET_MAX_MEM_SLOTS, which was not offered")
    }

    fn add_mem_region(
        &self,
        _region: &VhostUserSingleMemoryRegion,
        _file: File,
        _postcopy: Option<bool>,
    ) -> Result<Option<u64>> {
        self.refuse("ADD_MEM_REG, which was not offered")
    }

    fn remove_mem_region(&self, _region: &VhostUserSingleMemoryRegion) -> Result<()> {
        self.refuse("REM_MEM_REG, which was not offered")
    }

    fn set_device_state_fd(
        &self,
        _direction: VhostTransferStateDirection,
        _phase: VhostTransferStatePhase,
        _file: File,
    ) -> Result<Option<File>> {
        self.refuse("SET_DEVICE_STATE_FD, which was not offered")
    }

    fn check_device_state(&self) -> Result<()> {
        self.refuse("CHECK_DEVICE_STATE, which was not offered")
    }

    fn get_shmem_config(&self) -> Result<VhostUserShMemConfig> {
        self.refuse("GET_SHMEM_CONFIG, which was not offered")
    }

    fn set_log_base(&self, _log: &VhostUserLog, _file: File) -> Result<()> {
        self.refuse("SET_LOG_BASE, which was not offered: this disk does not migrate")
    }
}
