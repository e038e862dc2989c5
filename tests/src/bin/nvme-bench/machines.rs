//! The machines: an initiator, and on a link of its own each an appliance and a Linux target, on copies of the same media.

use std::fs;
use std::path::{Path, PathBuf};

use tests::linux::{Consumer, HOST_NQN, LINUX_TARGET_NQN, TargetNetwork};
use tests::machine::{ApplianceBuilder, Running};
use tests::place::Place;

use crate::fio::{Point, Printed, Run};

/// The memory of each machine.
pub(crate) const MEBIBYTES: u64 = 512;

/// The size of an NVDIMM.
const DIMM_MEBIBYTES: u64 = 272;

/// What fio uses of it, and a little more.
const FILLED_MEBIBYTES: u32 = 208;

/// A target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    Untorn,
    Linux,
}

impl Peer {
    pub(crate) const ALL: [Self; 2] = [Self::Untorn, Self::Linux];

    /// Its address on its link, on which the initiator is 15.
    const fn address(self) -> &'static str {
        match self {
            Self::Untorn => "10.0.2.2",
            Self::Linux => "10.0.3.2",
        }
    }
}

/// An appliance that serves this NVDIMM from its start.
pub(crate) fn appliance(media: &Path, network: TargetNetwork<'_>, cpus: u16, mebibytes: u64) -> ApplianceBuilder {
    let TargetNetwork { netdev, address } = network;
    let words = format!("net0={address}/24 nvme.export=pmem0s nvme.allow={HOST_NQN}");
    ApplianceBuilder::new().cpus(cpus.into()).nvdimm(&media.display().to_string()).with(&[
        "--memory",
        &format!("{mebibytes}M"),
        "--net",
        netdev,
        "--append",
        &words,
    ])
}

/// Makes the media of both: the same BTT with sectors of 4096 bytes.
pub(crate) fn media(place: &Place) -> [PathBuf; 2] {
    let [ours, theirs] = ["untorn.dimm", "linux.dimm"].map(|name| place.at(name));
    let dimm = format!("{},size={DIMM_MEBIBYTES}M", ours.display());
    let mut appliance = ApplianceBuilder::new().nvdimm(&dimm).boot();
    appliance.ask("create-namespace -l 4096");
    appliance.power_off();
    fs::copy(&ours, &theirs).expect("there is room for a copy");
    [ours, theirs]
}

/// The machines, connected.
pub(crate) struct Rig {
    initiator: Consumer,
    appliance: Running,
    linux: Consumer,
    /// The disks' names in the initiator.
    disks: [String; 2],
}

impl Rig {
    /// Boots and connects them, and writes to all blocks that are measured.
    pub(crate) fn start(place: &Place, media: &[PathBuf; 2], cpus: u16) -> Self {
        let [ours, theirs] = Peer::ALL.map(|peer| place.at(&format!("link{}", peer as u8)));
        let end =
            |socket: &Path, server| format!("stream,server={server},addr.type=unix,addr.path={}", socket.display());
        let links = [end(&ours, "on"), end(&theirs, "on")];
        let links: Vec<&str> = links.iter().map(String::as_str).collect();
        let mut initiator = Consumer::boot_on_networks(&links, cpus, &place.at("initiator"), MEBIBYTES);
        let network = TargetNetwork { netdev: &end(&ours, "off"), address: Peer::Untorn.address() };
        let appliance = appliance(&media[0], network, cpus, MEBIBYTES).boot();
        let network = TargetNetwork { netdev: &end(&theirs, "off"), address: Peer::Linux.address() };
        let linux = Consumer::boot_target(&media[1], network, cpus, &place.at("target"), MEBIBYTES);

        let disks = Peer::ALL.map(|peer| {
            let address = format!("-t tcp -a {} -s 4420", peer.address());
            let nqn = match peer {
                Peer::Linux => LINUX_TARGET_NQN.to_owned(),
                Peer::Untorn => initiator.run(&format!(
                    "for i in $(seq 100); do nvme discover {address} 2>/dev/null | sed -n 's/^subnqn: *//p' | grep . && \
                     exit 0; sleep 0.1; done; exit 1"
                )),
            };
            initiator.run(&format!("nvme connect {address} -n {nqn}"));
            // Not the path that a target with several of them has beside its disk, nvme1c1n1.
            let disk = initiator.run(&format!(
                "for i in $(seq 100); do for disk in $(ls /sys/block | grep -x 'nvme[0-9]*n1'); do \
                 grep -qx {nqn} /sys/block/$disk/device/subsysnqn && echo $disk && exit 0; done; sleep 0.1; done; exit 1"
            ));
            let fill = format!("dd if=/dev/zero of=/dev/{disk} bs=128k count={} oflag=direct", FILLED_MEBIBYTES * 8);
            initiator.run(&format!("{fill} 2>/dev/null"));
            disk
        });
        Self { initiator, appliance, linux, disks }
    }

    /// Measures a point on one of them.
    pub(crate) fn measure(&mut self, peer: Peer, point: Point, seconds: u32) -> Run {
        let target = match peer {
            Peer::Untorn => self.appliance.process(),
            Peer::Linux => self.linux.process(),
        };
        let initiator = self.initiator.process();
        let line = point.line(&self.disks[peer as usize], seconds);
        let counts = format!("cd /sys/class/net/eth{}/statistics; cat rx_packets tx_packets", peer as u8);
        let before = (numbers(&self.initiator.run(&counts)), cpu_us(target), cpu_us(initiator));
        let text = self.initiator.run(&line);
        let after = (cpu_us(target), cpu_us(initiator), numbers(&self.initiator.run(&counts)));
        let Printed { iops, operations, latency_us } = point.parse(&text);
        let frames = after.2[0] - before.0[0] + after.2[1] - before.0[1];
        let per_operation = |after: [f64; 2], before: [f64; 2]| [0, 1].map(|of| (after[of] - before[of]) / operations);
        Run {
            iops,
            latency_us,
            frames: frames / operations,
            target_us: per_operation(after.0, before.1),
            initiator_us: per_operation(after.1, before.2),
        }
    }

    pub(crate) fn end(self) {
        drop(self.initiator);
        drop(self.linux);
        self.appliance.power_off();
    }
}

fn numbers(text: &str) -> Vec<f64> {
    text.split_whitespace().map(|number| number.parse().expect("a count")).collect()
}

/// The CPU time that a QEMU has taken, in microseconds: all its threads together, and the first one, which has its devices.
fn cpu_us(process: u32) -> [f64; 2] {
    let of = |path: String| ticks_us(&fs::read_to_string(path).expect("it runs"));
    [of(format!("/proc/{process}/stat")), of(format!("/proc/{process}/task/{process}/stat"))]
}

/// The CPU time of a line of `stat`.
fn ticks_us(stat: &str) -> f64 {
    // Behind its name: fields 14 and 15 of all are the 12th and 13th from field 3 on, in ticks of 10 ms.
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let ticks = fields.split_whitespace().skip(11).take(2).map(|field| field.parse::<f64>().expect("a count"));
    ticks.sum::<f64>() * 10_000.0
}
