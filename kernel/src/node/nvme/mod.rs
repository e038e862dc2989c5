//! Disks over the network, by NVMe/TCP: which are served, who may use them, and the target on each interface.
//!
//! | part | does | runs on |
//! |---|---|---|
//! | this | the commands `export --nvme`, `unexport --nvme`, `allow`, `deny` | CPU 0 |
//! | `turns` | connections, in turns, within the steps of an interface | the interface's CPU |
//! | `storage` | carries out what hosts ask for on a disk | the same |
//! | `random` | what hosts are challenged with | the same |
//!
//! The table of disks is behind a lock, which is held to copy an entry. An interface's lock comes before it, a disk's own after
//! it.

mod random;
mod storage;
mod turns;

use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use btt::CpuIndex;
use drivers::medium::AnyMedium;
use net::tcp::Service;
use nvmf::{
    Allowed, DiskId, InvalidNqn, Millis, Namespace, Nqn, Refusal, Secret, Secrets, SectorBytes, Settings, Target,
};
use service::admin::commands::exports::HostRule;
use service::admin::commands::inventory::NvmeStatus;
use service::config::hosts::{SecretTexts, has_secret};
use service::error::AdminError;
use service::stats::{NvmeExportStats, NvmeStats};
use spin::Mutex;
use uuid::Builder;

use super::disk::BttDisk;
use turns::NvmeService;

/// The TCP port of NVMe/TCP: I/O and discovery.
pub(super) const PORT: u16 = 4420;
/// The port that hosts ask for discovery by default.
const DISCOVERY_PORT: u16 = 8009;

/// The ports that are NVMe/TCP's.
pub(super) const PORTS: [u16; 2] = [PORT, DISCOVERY_PORT];

/// What a connection costs at most, in its own memory and in its socket's.
const CONNECTION_BYTES: u64 = 2 << 20;
/// The part of the heap that connections may take.
const HEAP_SHARE: u64 = 4;
/// The most connections, however much memory there is.
const CONNECTIONS_MAX: u64 = 1024;
/// The most exports since boot.
const EXPORTS_MAX: usize = 4096;

/// A disk that is served, or was.
struct Served {
    name: String,
    nqn: Nqn,
    /// `None` after it was withdrawn.
    disk: Option<Arc<BttDisk<AnyMedium>>>,
}

/// The target and its disks. Shared by all CPUs.
pub(super) struct Nvme {
    target: Target,
    /// By [`DiskId`].
    disks: Mutex<Vec<Served>>,
    /// Whether anything has been exported.
    exported: AtomicBool,
    connections: usize,
}

impl Nvme {
    /// A target that serves nothing, on a machine with such a heap. `random` returns other bytes each time.
    pub(super) fn new(heap_bytes: u64, mut random: impl FnMut() -> [u8; 16], now_ns: u64) -> Arc<Self> {
        let connections = (heap_bytes / HEAP_SHARE / CONNECTION_BYTES).clamp(4, CONNECTIONS_MAX);
        let connections = usize::try_from(connections).expect("at most CONNECTIONS_MAX");
        let mut seed = [0; 32];
        seed[..16].copy_from_slice(&random());
        seed[16..].copy_from_slice(&random());
        let [low, high, ..] = random();
        // Two appliances that serve one host must not number their controllers alike, though they know nothing of each other.
        let first = 1 + u16::from_le_bytes([low, high]) % 0xe000;
        let settings = Settings {
            connections,
            controller_ids: first..=first + 0xfff,
            uuid: Builder::from_random_bytes(random()).into_uuid(),
            random: random::seeded(seed),
        };
        let target = Target::new(settings, Millis(now_ns / 1_000_000));
        Arc::new(Self { target, disks: Mutex::new(Vec::new()), exported: AtomicBool::new(false), connections })
    }

    /// Returns what serves an interface of this CPU, one of so many.
    pub(super) fn service(self: &Arc<Self>, cpu: CpuIndex, interfaces: usize) -> Box<dyn Service> {
        NvmeService::new(Arc::clone(self), cpu, (self.connections / interfaces.max(1)).max(2))
    }

    fn exports_any(&self) -> bool {
        self.exported.load(Ordering::Acquire)
    }

    fn disk(&self, disk: DiskId) -> Option<Arc<BttDisk<AnyMedium>>> {
        let disks = self.disks.lock();
        usize::try_from(disk.0).ok().and_then(|at| disks.get(at)?.disk.clone())
    }

    /// Returns the name that a disk's subsystem would have, and the bytes of a sector.
    ///
    /// # Errors
    /// Why it cannot be served, whatever else is.
    pub(super) fn check(disk: &BttDisk<AnyMedium>, nqn: Option<&str>) -> Result<(Nqn, SectorBytes), AdminError> {
        let nqn = match nqn {
            Some(text) => subsystem_name(text)?,
            None => Nqn::of_uuid(&disk.btt.uuid()),
        };
        let (name, bytes) = (&disk.name, disk.btt.sector_size().bytes());
        let sector_bytes = SectorBytes::new(bytes).ok_or_else(|| {
            AdminError::failed(format!("{name} has sectors of {bytes} bytes: hosts take 512 or 4096, without metadata"))
        })?;
        Ok((nqn, sector_bytes))
    }

    /// Serves a disk. Returns its subsystem's name.
    pub(super) fn export(&self, disk: &Arc<BttDisk<AnyMedium>>, nqn: Option<&str>) -> Result<Nqn, AdminError> {
        let name = &disk.name;
        let (nqn, sector_bytes) = Self::check(disk, nqn)?;
        let mut disks = self.disks.lock();
        if let Some(served) = disks.iter().find(|served| served.disk.is_some() && served.name == *name) {
            if served.nqn == nqn {
                return Ok(nqn);
            }
            return Err(AdminError::failed(format!(
                "{name} is served as {}: unexport {name} --nvme first",
                served.nqn
            )));
        }
        if disks.len() >= EXPORTS_MAX {
            return Err(AdminError::failed(format!("{name}: {EXPORTS_MAX} exports since boot: reboot first")));
        }
        let number = u32::try_from(disks.len()).expect("at most EXPORTS_MAX");
        let namespace = Namespace {
            disk: DiskId(number),
            uuid: disk.btt.uuid(),
            sector_bytes,
            sectors: disk.btt.capacity_sectors(),
            read_only: disk.all_read_only(),
            deallocated_reads_zero: true,
            run_sectors: u16::try_from(btt::RUN_MAX).expect("some tens of sectors"),
        };
        disks.push(Served { name: name.clone(), nqn: nqn.clone(), disk: Some(Arc::clone(disk)) });
        if self.target.export(nqn.clone(), namespace).is_err() {
            disks.pop();
            return Err(AdminError::failed(format!(
                "{nqn} is the name of another export: --nqn gives it one of its own"
            )));
        }
        self.exported.store(true, Ordering::Release);
        Ok(nqn)
    }

    /// Ends serving a disk. A step under way may still use it. Returns its subsystem's name.
    pub(super) fn unexport(&self, name: &str) -> Result<Nqn, AdminError> {
        let mut disks = self.disks.lock();
        let served = disks.iter_mut().find(|served| served.disk.is_some() && served.name == name);
        let served = served
            .ok_or_else(|| AdminError::not_found(format!("{name} is not served by NVMe/TCP: status shows what is")))?;
        self.target.unexport(&served.nqn);
        served.disk = None;
        Ok(served.nqn.clone())
    }

    /// Lets a host connect.
    pub(super) fn allow(&self, rule: &HostRule, secrets: Option<SecretTexts<'_>>) -> Result<(), AdminError> {
        let (allowed, subsystem) = parse(rule)?;
        let secret = |what, text| Secret::parse(text).map_err(|why| AdminError::usage(format!("{what}: {why}")));
        let secrets = match secrets {
            None => None,
            Some(SecretTexts { host, controller }) => Some(Secrets {
                host: secret("--secret", host)?,
                controller: controller.map(|text| secret("--controller-secret", text)).transpose()?,
            }),
        };
        match self.target.allow(allowed, subsystem.as_ref(), secrets) {
            true => Ok(()),
            false => Err(no_such_subsystem(rule)),
        }
    }

    /// Takes that back.
    pub(super) fn deny(&self, rule: &HostRule) -> Result<(), AdminError> {
        let (allowed, subsystem) = parse(rule)?;
        match self.target.deny(&allowed, subsystem.as_ref()) {
            true => Ok(()),
            false => Err(AdminError::not_found(format!("{} was not allowed", rule.host))),
        }
    }

    /// Returns what is served, and to which hosts.
    pub(super) fn status(&self) -> Vec<NvmeStatus> {
        let controllers = self.target.controllers();
        let disks = self.disks.lock();
        let status = |served: &Served| {
            let of_it = controllers.iter().filter(|(_, _, subsystem)| subsystem.as_ref() == Some(&served.nqn));
            let mut hosts: Vec<String> = of_it.map(|(_, host, _)| host.to_string()).collect();
            // One may have several controllers.
            hosts.sort();
            hosts.dedup();
            let allowed = self.target.allowed(&served.nqn).into_iter().map(|rule| match rule {
                Allowed::Any => "any".to_string(),
                Allowed::Host(nqn) => nqn.to_string(),
            });
            let (dev, nqn) = (served.name.clone(), served.nqn.to_string());
            NvmeStatus { dev, nqn, allowed: allowed.collect(), hosts }
        };
        disks.iter().filter(|served| served.disk.is_some()).map(status).collect()
    }

    /// Returns what is counted, and which hosts are connected.
    pub(super) fn stats(&self) -> NvmeStats {
        let (count, refused) = (|number: usize| number as u64, self.target.refusals());
        let exports = self.status().into_iter().map(|NvmeStatus { dev, hosts, .. }| NvmeExportStats { dev, hosts });
        NvmeStats {
            connections: count(self.target.connections()),
            connections_max: count(self.connections),
            refused_connections: refused.connections,
            refused_hosts: refused.hosts,
            exports: exports.collect(),
        }
    }

    /// Returns the hosts that are connected, each with the subsystem that it uses.
    pub(super) fn hosts(&self) -> Vec<(String, String)> {
        let controllers = self.target.controllers();
        let used = controllers.into_iter().filter_map(|(_, host, subsystem)| Some((host, subsystem?)));
        let mut hosts: Vec<_> = used.map(|(host, subsystem)| (host.to_string(), subsystem.to_string())).collect();
        // One may have several controllers.
        hosts.sort();
        hosts.dedup();
        hosts
    }

    /// Returns who was refused since the last call.
    pub(super) fn take_refusals(&self) -> Vec<Refusal> {
        self.target.take_refusals()
    }

    /// Returns whether a host uses a disk.
    pub(super) fn has_host(&self, name: &str) -> bool {
        self.status().iter().any(|status| status.dev == name && !status.hosts.is_empty())
    }
}

/// What a rule is about.
fn parse(rule: &HostRule) -> Result<(Allowed, Option<Nqn>), AdminError> {
    let allowed = match rule.host.as_str() {
        "any" => Allowed::Any,
        text => Allowed::Host(nqn("HOSTNQN", text)?),
    };
    Ok((allowed, rule.nqn.as_deref().map(subsystem_name).transpose()?))
}

fn subsystem_name(text: &str) -> Result<Nqn, AdminError> {
    nqn("--nqn", text)
}

/// A name as people write it.
fn nqn(what: &str, text: &str) -> Result<Nqn, AdminError> {
    Nqn::written(text).map_err(|why| {
        AdminError::usage(match why {
            // A secret in the wrong place is not shown, either.
            InvalidNqn::Beginning if has_secret(text) => format!("{what}: a secret is {why}"),
            InvalidNqn::Beginning => format!("{what}: \"{text}\" is {why}"),
            _ => format!("{what}: {why}"),
        })
    })
}

fn no_such_subsystem(rule: &HostRule) -> AdminError {
    let nqn = rule.nqn.as_deref().unwrap_or_default().to_owned();
    AdminError::not_found(format!("no subsystem {nqn}: status shows what is served"))
}
