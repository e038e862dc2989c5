//! A peer, a machine and a terminal to test sessions with.
#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::VecDeque;

use service::admin::command::{
    BenchRequest, CheckNamespace, CreateNamespace, LabelVersion, Lba, NamespaceMode, RegionType,
};
use service::appliance::{Appliance, Device, no_such_device};
use service::console::{Activity, Session};
use service::error::AdminError;
use service::inventory::{
    Btt, BttState, Bus, Dimm, DimmFlags, Inventory, Mapping, Namespace, PersistenceDomain, Region,
};
use service::link::ByteLink;
use service::pattern::{Tag, fill, verify};
use service::reply::{
    Arena, Arenas, Bench, Check, Errors, FieldValue, Fields, Finding, LabelArea, NamespaceStatus, Nfit, NfitStructure,
    Refusal, SectorErrors, Stats, Status, Trace, TraceEvent, Verify,
};
use service::stats::{Counter, Counters, DeviceStats, QueueStats};
use uuid::uuid;

/// Two queues.
#[derive(Default)]
pub(crate) struct Queues {
    pub(crate) input: VecDeque<u8>,
    pub(crate) output: Vec<u8>,
    /// Bytes were lost since the session asked.
    pub(crate) lost: bool,
}

impl ByteLink for Queues {
    fn receive(&mut self) -> Option<u8> {
        self.input.pop_front()
    }

    fn has_lost(&mut self) -> bool {
        std::mem::take(&mut self.lost)
    }

    fn send(&mut self, bytes: &[u8]) {
        self.output.extend_from_slice(bytes);
    }
}

/// A session with its link and its machine.
pub(crate) struct Desk {
    pub(crate) session: Session,
    pub(crate) link: Queues,
    pub(crate) machine: Machine,
    pub(crate) last: Activity,
}

impl Default for Desk {
    fn default() -> Self {
        let mut bench = Self {
            session: Session::new(),
            link: Queues::default(),
            machine: Machine::default(),
            last: Activity::Idle,
        };
        bench.session.start(&mut bench.link);
        bench
    }
}

impl Desk {
    /// A session in a mode for programs; what it said on the way there is forgotten.
    pub(crate) fn in_mode(mode: &str) -> Self {
        let mut bench = Self::default();
        bench.say(format!("mode {mode}\n").as_bytes());
        bench
    }

    /// Sends bytes and takes all that comes back, until the session is idle or stops.
    pub(crate) fn say(&mut self, bytes: &[u8]) -> String {
        self.link.input.extend(bytes);
        // Every poll takes at least a byte, so this many are enough.
        for _ in 0..=bytes.len() {
            self.last = self.session.poll(&mut self.link, &mut self.machine);
            if self.last != Activity::Busy {
                break;
            }
        }
        assert!(self.last != Activity::Busy, "the session stalled");
        String::from_utf8(std::mem::take(&mut self.link.output)).expect("replies are UTF-8")
    }
}

/// A machine with one region, one namespace in sector mode, and its device in memory.
pub(crate) struct Machine {
    pub(crate) inventory: Inventory,
    pub(crate) sector_size: u32,
    pub(crate) disk: Vec<u8>,
    pub(crate) read_only: Option<String>,
    pub(crate) in_use: bool,
    pub(crate) content: Option<&'static str>,
    pub(crate) bad_lba: Option<u64>,
    pub(crate) findings: Vec<Finding>,
    pub(crate) counters: [Counters; 2],
    pub(crate) quiesced: u32,
    pub(crate) quiesce_error: Option<AdminError>,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            inventory: unlabelled(),
            sector_size: 512,
            disk: vec![0; 512 * 4096],
            read_only: None,
            in_use: false,
            content: None,
            bad_lba: None,
            findings: Vec::new(),
            counters: [const { Counters::new() }; 2],
            quiesced: 0,
            quiesce_error: None,
        }
    }
}

impl Machine {
    fn range(&self, lba: Lba, bytes: usize) -> std::ops::Range<usize> {
        let start = usize::try_from(lba.0).expect("the caller keeps to the device") * self.sector_size as usize;
        assert!(bytes.is_multiple_of(self.sector_size as usize), "whole sectors only");
        start..start + bytes
    }
}

impl Appliance for Machine {
    fn status(&mut self) -> Status {
        Status {
            version: service::VERSION.into(),
            cpus: 2,
            memory: 256 << 20,
            tables: vec!["RSDP".into(), "APIC".into(), "NFIT".into()],
            namespaces: vec![NamespaceStatus {
                dev: "namespace0.0".into(),
                mode: "sector".into(),
                size: 33_130_496,
                blockdev: Some("pmem0s".into()),
                state: "active".into(),
            }],
            exports: Vec::new(),
            uptime: 12_345,
            unclean_shutdowns_recovered: 1,
            persist: "clwb".into(),
        }
    }

    fn inventory(&mut self) -> Inventory {
        self.inventory.clone()
    }

    fn nfit(&mut self) -> Nfit {
        Nfit {
            structures: vec![NfitStructure {
                table: 0,
                offset: 40,
                kind: "spa_range".into(),
                fields: Fields::new()
                    .with("index", 2_u16)
                    .with("base", FieldValue::Hex(1 << 32))
                    .with("guid", "66f0d379-b4f3-4074-ac43-0d3318b78cdb")
                    .with("lines", FieldValue::List(vec![FieldValue::Hex(16), FieldValue::Hex(32)]))
                    .with("hot_add", false),
            }],
            refused: vec![Refusal {
                table: 1,
                offset: 96,
                what: "structure type 1".into(),
                why: "its length 0 is less than its header".into(),
            }],
            remarks: vec![Refusal {
                table: 0,
                offset: 40,
                what: "structure".into(),
                why: "volatile memory is left alone".into(),
            }],
        }
    }

    fn arenas(&mut self, namespace: &str) -> Result<Arenas, AdminError> {
        if namespace != "namespace0.0" {
            return Err(AdminError::not_found(format!("no namespace \"{namespace}\"")));
        }
        Ok(Arenas { dev: namespace.into(), arenas: vec![arena()] })
    }

    fn init_labels(&mut self, dimm: &str, version: LabelVersion, force: bool) -> Result<LabelArea, AdminError> {
        if !force {
            return Err(AdminError::failed("nmem0: its labels are valid"));
        }
        Ok(LabelArea { dev: dimm.into(), label_version: version, slots: 510 })
    }

    fn create_namespace(&mut self, request: &CreateNamespace) -> Result<Namespace, AdminError> {
        assert_eq!(request.mode, NamespaceMode::Sector);
        Ok(self.inventory.namespaces().next().expect("one namespace").clone())
    }

    fn destroy_namespace(&mut self, namespace: &str, force: bool) -> Result<String, AdminError> {
        if force { Ok(namespace.into()) } else { Err(AdminError::failed("namespace0.0 is enabled")) }
    }

    fn enable_namespace(&mut self, _: &str) -> Result<Namespace, AdminError> {
        Ok(self.inventory.namespaces().next().expect("one namespace").clone())
    }

    fn disable_namespace(&mut self, _: &str) -> Result<String, AdminError> {
        Ok("namespace0.0".into())
    }

    fn check_namespace(&mut self, request: &CheckNamespace) -> Result<Check, AdminError> {
        Ok(Check { dev: request.namespace.clone(), arenas: 1, findings: self.findings.clone() })
    }

    fn device(&mut self, dev: &str) -> Result<Device, AdminError> {
        if dev != "pmem0s" {
            return Err(no_such_device(dev));
        }
        let sectors = self.disk.len() as u64 / u64::from(self.sector_size);
        Ok(Device { sector_size: self.sector_size, sectors, read_only: self.read_only.clone(), in_use: self.in_use })
    }

    fn content(&mut self, _: &str) -> Result<Option<&'static str>, AdminError> {
        Ok(self.content)
    }

    fn read(&mut self, _: &str, lba: Lba, into: &mut [u8]) -> Result<(), AdminError> {
        let range = self.range(lba, into.len());
        let sectors = lba.0..lba.0 + into.len() as u64 / u64::from(self.sector_size);
        if let Some(bad) = self.bad_lba.filter(|bad| sectors.contains(bad)) {
            return Err(AdminError::damaged(format!("LBA {bad}: media error")));
        }
        into.copy_from_slice(&self.disk[range]);
        Ok(())
    }

    fn write(&mut self, _: &str, lba: Lba, from: &[u8]) -> Result<(), AdminError> {
        let range = self.range(lba, from.len());
        self.disk[range].copy_from_slice(from);
        Ok(())
    }

    fn trim(&mut self, dev: &str, lba: Lba, count: u64) -> Result<(), AdminError> {
        let zeroes = vec![0; usize::try_from(count).expect("small") * self.sector_size as usize];
        self.write(dev, lba, &zeroes)
    }

    fn inject_error(&mut self, _: &str, lba: Lba, _: u64, _: bool) -> Result<(), AdminError> {
        self.bad_lba = Some(lba.0);
        Ok(())
    }

    fn clear_errors(&mut self, _: &str, _: Lba, _: u64) -> Result<(), AdminError> {
        self.bad_lba = None;
        Ok(())
    }

    fn errors(&mut self, dev: Option<&str>) -> Result<Errors, AdminError> {
        if let Some(dev) = dev {
            self.device(dev)?;
        }
        let bad = |lba| SectorErrors { dev: "pmem0s".into(), lba: Lba(lba), count: 1 };
        Ok(Errors { errors: self.bad_lba.map(bad).into_iter().collect(), ..Errors::default() })
    }

    fn bench(&mut self, request: &BenchRequest) -> Result<Bench, AdminError> {
        let sector = self.sector_size as usize;
        let seed = request.seed;
        if request.seconds > 0 {
            for (lba, bytes) in (0..).map(Lba).zip(self.disk.chunks_exact_mut(sector).take(8)) {
                fill(bytes, Tag { lba, version: 2, seed });
            }
        }
        let mut verdicts = Verify::default();
        for (lba, bytes) in (0..).map(Lba).zip(self.disk.chunks_exact(sector)) {
            verdicts.count(lba, seed, Some(verify(bytes)));
        }
        Ok(Bench {
            dev: request.dev.clone(),
            seconds: f64::from(request.seconds),
            cpus: 2,
            seed,
            mix: request.mix_write_percent,
            run: request.run,
            ops: 8,
            sectors_read: 0,
            sectors_written: 8,
            errors: 0,
            ops_per_second: 1.6,
            fences_per_sector: 2.5,
            write_backs_per_sector: 3.0,
            verify: request.verify.then_some(verdicts),
        })
    }

    fn stats(&mut self) -> Stats {
        self.counters[0].add(Counter::Reads, 3);
        self.counters[1].add(Counter::Reads, 4);
        self.counters[1].add(Counter::Fences, 1);
        Stats {
            devices: vec![DeviceStats::new("pmem0s", self.counters.iter().map(Counters::snapshot).collect())],
            queues: vec![QueueStats {
                dev: "pmem0s".into(),
                export: 1,
                queue: 0,
                cpu: 1,
                requests: 9,
                failed: 2,
                interrupts: 5,
                rests: 3,
                broken: false,
            }],
        }
    }

    fn export(&mut self, dev: &str) -> Result<(), AdminError> {
        self.device(dev).map(|_| ())
    }

    fn unexport(&mut self, dev: &str) -> Result<(), AdminError> {
        self.device(dev).map(|_| ())
    }

    fn trace(&mut self) -> Trace {
        Trace { events: vec![TraceEvent { at: 1_234_567, cpu: 1, event: "export 0: attached".into() }] }
    }

    fn quiesce(&mut self) -> Result<(), AdminError> {
        self.quiesced += 1;
        self.quiesce_error.clone().map_or(Ok(()), Err)
    }
}

/// The arena of a label-less 32 MiB namespace with 512-byte sectors, as Linux made and shows it.
pub(crate) fn arena() -> Arena {
    Arena {
        size: 0x1ff_f000,
        external_lba_start: 0,
        internal_nlba: 0xfdc4,
        internal_lbasize: 512,
        external_nlba: 0xfcc4,
        external_lbasize: 512,
        nfree: 256,
        version_major: 1,
        version_minor: 1,
        nextoff: 0,
        infooff: 0,
        dataoff: 0x1000,
        mapoff: 0x1fb_a000,
        logoff: 0x1ff_a000,
        info2off: 0x1ff_e000,
        flags: 0,
        read_only: None,
        log_index_0: 0,
        log_index_1: 1,
    }
}

fn dimm() -> Dimm {
    Dimm {
        dev: "nmem0".into(),
        id: Some("8680-56341200".into()),
        handle: 1,
        phys_id: 0,
        enabled: true,
        flags: DimmFlags::default(),
        health: None,
    }
}

fn region(size: u64, iset_id: Option<u64>, namespaces: Vec<Namespace>) -> Region {
    Region {
        dev: "region0".into(),
        size,
        align: Some(16 << 20),
        available_size: 0,
        max_available_extent: Some(0),
        region_type: RegionType::Pmem,
        numa_node: None,
        iset_id,
        mappings: vec![Mapping { dimm: "nmem0".into(), offset: 0, length: size, position: Some(0) }],
        enabled: true,
        badblocks: Vec::new(),
        persistence_domain: PersistenceDomain::Unknown,
        namespaces,
    }
}

fn inventory(region: Region) -> Inventory {
    let bus = Bus { provider: "ACPI.NFIT".into(), dev: "ndbus0".into(), dimms: vec![dimm()], regions: vec![region] };
    Inventory { buses: vec![bus] }
}

/// A DIMM of 32 MiB without labels, made by Linux with 512-byte sectors.
pub(crate) fn unlabelled() -> Inventory {
    let namespace = Namespace {
        dev: "namespace0.0".into(),
        size: 33_130_496,
        label_uuid: None,
        sector_size: 512,
        blockdev: Some("pmem0s".into()),
        enabled: true,
        name: None,
        numa_node: None,
        badblock_count: 0,
        btt: Some(Btt {
            uuid: uuid!("e412ddd9-4a9e-42e8-9953-05cfdd8f0459"),
            version: (1, 1),
            arenas: 1,
            nfree: 256,
            lanes: 2,
            flog_slots: (0, 1),
            state: BttState::Active,
        }),
    };
    inventory(region(32 << 20, None, vec![namespace]))
}

/// A DIMM of 64 MiB with v1.2 labels and two namespaces, made by Linux; the third is Linux's seed for a new one.
pub(crate) fn labelled() -> Inventory {
    let mut first = unlabelled().buses.remove(0).regions.remove(0).namespaces.remove(0);
    let mut second = first.clone();
    let mut seed = first.clone();
    first.size = 33_134_592;
    first.label_uuid = Some(uuid!("11111111-2222-4333-8444-555555555555"));
    if let Some(btt) = &mut first.btt {
        btt.uuid = uuid!("9ef20213-98a5-48e9-a16f-fcb751b776d5");
        btt.version = (2, 0);
    }
    second.dev = "namespace0.1".into();
    second.size = 32_444_416;
    second.sector_size = 4096;
    second.blockdev = Some("pmem0.1s".into());
    if let Some(btt) = &mut second.btt {
        btt.uuid = uuid!("e2d298c0-6e75-4ec8-ae0d-cff9fe03db0b");
        btt.version = (2, 0);
        btt.state = BttState::ReadOnly("arena 0: flog entry 3 is not consistent".into());
    }
    seed.dev = "namespace0.2".into();
    seed.size = 0;
    seed.label_uuid = Some(uuid!("00000000-0000-0000-0000-000000000000"));
    seed.blockdev = None;
    seed.enabled = false;
    seed.btt = None;
    inventory(region(64 << 20, Some(52_512_752_653_219_036), vec![first, second, seed]))
}

/// What a person sees: a VT100's screen as far as the console uses it.
#[derive(Default)]
pub(crate) struct Screen {
    pub(crate) rows: Vec<Vec<char>>,
    pub(crate) column: usize,
}

impl Screen {
    pub(crate) fn show(&mut self, output: &str) {
        let mut chars = output.chars();
        while let Some(next) = chars.next() {
            if self.rows.is_empty() {
                self.rows.push(Vec::new());
            }
            match next {
                '\r' => self.column = 0,
                '\n' => self.rows.push(Vec::new()),
                '\x1b' => self.escape(&mut chars),
                _ => {
                    let row = self.rows.last_mut().expect("a row");
                    row.resize(row.len().max(self.column + 1), ' ');
                    row[self.column] = next;
                    self.column += 1;
                    // Replies may be wider than the terminal; the line that is edited may not.
                    let edited = row.starts_with(&['u', 'n', 't', 'o', 'r', 'n', '>', ' ']);
                    assert!(!edited || self.column < 80, "the line wraps");
                }
            }
        }
    }

    fn escape(&mut self, chars: &mut std::str::Chars<'_>) {
        assert_eq!(chars.next(), Some('['), "only CSI sequences are used");
        let mut parameter = String::new();
        for next in chars {
            match next {
                '0'..='9' => parameter.push(next),
                'C' => return self.column += parameter.parse::<usize>().expect("a number"),
                'K' => return self.rows.last_mut().expect("a row").truncate(self.column),
                'H' => {
                    self.column = 0;
                    return;
                }
                'J' => return self.rows = vec![Vec::new()],
                other => panic!("unexpected final byte {other}"),
            }
        }
    }

    /// The last row, without blanks at its end.
    pub(crate) fn row(&self) -> String {
        let row: String = self.rows.last().expect("a row").iter().collect();
        row.trim_end().into()
    }
}
