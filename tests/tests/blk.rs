//! Namespaces behind block data windows: the driver's own instructions, against a model of the DIMM.
#![allow(clippy::unwrap_used, reason = "a test ends where it is surprised")]

use std::fs::File;
use std::ops::ControlFlow;
use std::os::fd::FromRawFd;
use std::os::unix::fs::FileExt;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use btt::bytes::{Sectors, SectorsMut};
use btt::format::{FormatOptions, format};
use btt::geometry::SectorSize;
use btt::info_block::Version;
use btt::media::{MediaError, Medium, NsOffset};
use btt::sim::{Choose, Event, Seeded, Sim};
use btt::{Btt, CpuIndex, ExternalLba, Placement};
use drivers::blk_window::{Blk, BlkRegion, ExtentError};
use drivers::persist::Persist;
use drivers::phys::PhysAddr;
use drivers::pmem::{self, PmemRegion};
use drivers::raw::RawMedium as _;
use fake_machine::nfit::{self, Control, Kind, Table};
use fake_machine::{BASE, Booted, Hardware, LabelArea, MIB, Memory};
use memmap2::{MmapMut, MmapOptions};
use nvdimm::extent::Extent;
use nvdimm::label::NoLabels;
use nvdimm::region;
use serde_json::{Value, json};
use tests::blk::model::{Faults, Lands, status};
use tests::blk::trap::Trapped;
use tests::blk::{Access, Cut, Layout, Model};
use uuid::Uuid;

const CAPACITY: u64 = 20 << 20;
const AT: u64 = 0xfe90_0000;

fn plain(windows: u16) -> Layout {
    Layout::plain(1, AT, windows, CAPACITY)
}

fn interleaved(windows: u16) -> Layout {
    Layout { buffered: true, ..Layout::interleaved(1, AT, windows, CAPACITY) }
}

/// A DIMM whose apertures are memory: only what is done to registers is seen.
fn fast(layout: Layout) -> Trapped {
    let apertures = MmapMut::map_anon(usize::try_from(layout.data_bytes()).unwrap()).unwrap();
    Trapped::new(Model::blank(layout).with_shared_apertures(apertures))
}

/// Boots a machine that has this DIMM alone.
fn boot(dimm: &Trapped, cpus: u32) -> Booted {
    dimm.model().power_on();
    let table = dimm.model().layout().describe(Table::default()).finish();
    dimm.plug(Hardware { nfits: vec![table], cpus, ..Hardware::default() }).boot()
}

/// The driver of a DIMM, as the tables describe it.
fn driver(dimm: &Trapped) -> BlkRegion {
    let table = dimm.model().layout().describe(Table::default()).finish();
    let found = nvdimm::discover(&[table], &mut NoLabels);
    let findings: Vec<_> = found.findings().map(|finding| finding.to_string()).collect();
    assert_eq!(findings, Vec::<String>::new());
    let region::Kind::Blk(described) = &found.regions[0].kind else { panic!("a BLK region") };
    let hints: Vec<_> = found.flush_hints(&found.regions[0]).into_iter().map(PhysAddr).collect();
    let machine = dimm.plug(Hardware::default());
    BlkRegion::map(&machine.map, described, &hints, pmem::Access::ReadWrite, 2, || 0).unwrap()
}

fn whole(dimm: &Trapped) -> Blk {
    let layout = dimm.model().layout().clone();
    let all = Extent { start: layout.start_dpa, bytes: layout.capacity };
    driver(dimm).namespace(&[all], pmem::Access::ReadWrite).unwrap()
}

fn base64_of(byte: u8, bytes: usize) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(vec![byte; bytes])
}

#[test]
fn a_disk_behind_windows_keeps_its_sectors_and_is_listed_as_ndctl_lists_it() {
    for (layout, pending_polls) in [(plain(2), 0), (interleaved(2), 0), (interleaved(3), 3)] {
        let dimm = Trapped::new(Model::blank(layout));
        dimm.model().faults.pending_polls = pending_polls;
        let mut node = boot(&dimm, 2);
        let region = &node.done("list -R")["result"][0];
        let shown: Vec<_> = ["dev", "type", "size", "iset_id"].iter().map(|key| region[*key].clone()).collect();
        assert_eq!(shown, [json!("region0"), json!("blk"), json!(CAPACITY), Value::Null]);
        let made = node.done("create-namespace -t blk -l 512");
        assert_eq!((&made["blockdev"], &made["dev"]), (&json!("ndblk0.0s"), &json!("namespace0.0")));
        let last = made["size"].as_u64().unwrap() / 512 - 1;
        for (lba, byte) in [(0, 1), (1, 2), (77, 3), (last, 4)] {
            node.done(&format!("write ndblk0.0s {lba} --fill {byte}"));
        }
        node.done("write ndblk0.0s 100 --fill 9 --count 40");
        drop(node);

        let mut node = boot(&dimm, 3);
        for (lba, byte) in [(0, 1), (1, 2), (77, 3), (last, 4), (100, 9), (139, 9), (140, 0)] {
            assert_eq!(node.done(&format!("read ndblk0.0s {lba}"))["data"], base64_of(byte, 512), "LBA {lba}");
        }
        let listed = &node.done("list -N")["result"][0];
        assert_eq!((&listed["mode"], &listed["sector_size"]), (&json!("sector"), &json!(512)));
        let windows = dimm.model().layout().windows;
        assert_eq!(listed["btt"]["lanes"], u64::from(windows.min(3)));
        assert_eq!(node.done("check-namespace namespace0.0")["findings"], json!([]));
        assert_eq!(dimm.model().strays(), 0, "no access but those that the tables allow");
    }
}

#[test]
fn memory_and_windows_of_one_table_are_two_disks() {
    let (memory, dimm) = (Memory::new(20 * MIB), Trapped::new(Model::blank(Layout { handle: 2, ..plain(2) })));
    let boot = || {
        let table = Table::default()
            .range(nfit::Range { index: 1, kind: Kind::Memory, base: BASE, bytes: memory.bytes as u64 })
            .mapping(nfit::Mapping {
                handle: 1,
                range: 1,
                control: 1,
                bytes: memory.bytes as u64,
                ..Default::default()
            })
            .control(Control { index: 1, serial: 1, format: 0x301, registers: None });
        let table = dimm.model().layout().describe(table).finish();
        dimm.plug(Hardware { nfits: vec![table], ..Hardware::default() }.memory(BASE, memory)).boot()
    };
    let mut node = boot();
    assert_eq!(node.done("create-namespace")["blockdev"], "pmem0s");
    assert_eq!(node.done("create-namespace -r region1")["blockdev"], "ndblk1.0s");
    for (dev, byte) in [("pmem0s", 1), ("ndblk1.0s", 2)] {
        node.done(&format!("write {dev} 7 --fill {byte}"));
    }
    drop(node);
    let mut node = boot();
    for (dev, byte) in [("pmem0s", 1), ("ndblk1.0s", 2)] {
        assert_eq!(node.done(&format!("read {dev} 7"))["data"], base64_of(byte, 4096));
    }
    let types: Vec<_> =
        node.done("list -R")["result"].as_array().unwrap().iter().map(|it| it["type"].clone()).collect();
    assert_eq!(types, ["pmem", "blk"]);
}

#[test]
fn labels_divide_a_dimm_behind_windows_and_a_namespace_may_be_in_pieces() {
    let dimm = fast(Layout { capacity: 96 << 20, ..plain(2) });
    let area = LabelArea::new();
    let boot = || {
        let table = dimm.model().layout().describe(Table::default()).finish();
        dimm.plug(Hardware { nfits: vec![table], areas: vec![(1, area)], ..Hardware::default() }).boot()
    };
    let mut node = boot();
    assert_eq!(node.done("list -N -i")["result"][0]["size"], 96 << 20, "without labels it is one namespace");
    for (name, mib) in [("low", 32), ("middle", 16), ("high", 32)] {
        node.done(&format!("create-namespace -t blk -s {}M -n {name} -l 512", mib));
    }
    node.done("write ndblk0.1s 5 --fill 5");
    node.done("destroy-namespace namespace0.0 -f");
    assert!(node.refused("create-namespace -t blk -s 64M", "failed").contains("no room"));
    // 32 MiB at the start and 16 at the end are left.
    let made = node.done("create-namespace -t blk -s 48M -n pieces -l 4096 -f");
    let (dev, last) = (made["blockdev"].as_str().unwrap().to_owned(), made["size"].as_u64().unwrap() / 4096 - 1);
    let places = [0, last / 2, last * 2 / 3, last];
    for (lba, byte) in places.iter().zip(1..) {
        node.done(&format!("write {dev} {lba} --fill {byte}"));
    }
    drop(node);
    let mut node = boot();
    let names: Vec<_> =
        node.done("list -N")["result"].as_array().unwrap().iter().map(|it| it["name"].clone()).collect();
    assert_eq!(names.len(), 3, "{names:?}");
    let pieces = node.done("list -N")["result"].as_array().unwrap().iter().find(|it| it["name"] == "pieces").cloned();
    let dev = pieces.unwrap()["blockdev"].as_str().unwrap().to_owned();
    for (lba, byte) in places.iter().zip(1..) {
        assert_eq!(node.done(&format!("read {dev} {lba}"))["data"], base64_of(byte, 4096), "LBA {lba}");
    }
}

#[test]
fn any_bytes_at_any_place_are_what_was_written_there() {
    for layout in [plain(1), interleaved(2), Layout { aperture_bytes: 192, ..interleaved(1) }] {
        let dimm = Trapped::new(Model::blank(layout));
        let region = driver(&dimm);
        let start = dimm.model().layout().start_dpa;
        // In pieces, not in the order of their addresses.
        let extents =
            [(3, 2), (9, 1), (0, 3)].map(|(at, pages)| Extent { start: start + at * 4096, bytes: pages * 4096 });
        let blk = region.namespace(&extents, pmem::Access::ReadWrite).unwrap();
        let mut expected = vec![0_u8; 6 * 4096];
        let mut random = Seeded::new(7);
        for round in 0..400_u64 {
            let at = random.below(6 * 4096);
            let bytes = usize::try_from(random.below(9000.min(6 * 4096 - at) + 1)).unwrap();
            let place = usize::try_from(at).unwrap();
            match random.below(4) {
                0 => {
                    let mut found = vec![0; bytes];
                    blk.read(NsOffset(at), &mut found).unwrap();
                    assert_eq!(found, expected[place..place + bytes], "round {round}: {bytes} at {at}");
                }
                1 => {
                    let data: Vec<u8> = (round..).take(bytes).map(|i| i.to_le_bytes()[0]).collect();
                    blk.write(NsOffset(at), &data).unwrap();
                    expected[place..place + bytes].copy_from_slice(&data);
                }
                2 => {
                    let (at, place) = (NsOffset(at / 8 * 8), place / 8 * 8);
                    blk.store_u64(at, round << 32 | 5).unwrap();
                    expected[place..place + 8].copy_from_slice(&(round << 32 | 5).to_le_bytes());
                    assert_eq!(blk.load_u64(at), Ok(round << 32 | 5));
                }
                _ => {
                    let (at, place) = (NsOffset(at / 4 * 4), place / 4 * 4);
                    blk.store_u32(at, 77).unwrap();
                    expected[place..place + 4].copy_from_slice(&77_u32.to_le_bytes());
                    assert_eq!(blk.load_u32(at), Ok(77));
                }
            }
        }
        let mut found = vec![0; expected.len()];
        blk.read(NsOffset(0), &mut found).unwrap();
        assert!(found == expected);
        assert!(dimm.model().media()[10 * 4096..].iter().all(|byte| *byte == 0), "nothing outside of the extents");
        assert_eq!(dimm.model().strays(), 0);
        let end = NsOffset(6 * 4096);
        assert_eq!(blk.write(end, &[1]), Err(MediaError::OutOfRange { at: end, bytes: 1 }));
        assert_eq!(blk.store_u32(NsOffset(2), 1), Err(MediaError::Misaligned { at: NsOffset(2) }));
    }
}

#[test]
fn extents_that_share_lines_or_leave_the_dimm_are_refused() {
    let dimm = Trapped::new(Model::blank(plain(1)));
    let region = driver(&dimm);
    let refused = |start, bytes| region.namespace(&[Extent { start, bytes }], pmem::Access::ReadWrite).err();
    for (start, bytes) in [(32, 4096), (8, 4096), (0, 4096 + 8)] {
        assert_eq!(refused(start, bytes), Some(ExtentError::Misaligned(Extent { start, bytes })));
    }
    for (start, bytes) in [(0, CAPACITY + 64), (CAPACITY, 64), (u64::MAX - 63, 128)] {
        assert_eq!(refused(start, bytes), Some(ExtentError::OutOfRange(Extent { start, bytes })));
    }
    let read_only = region.namespace(&[Extent { start: 0, bytes: 4096 }], pmem::Access::ReadOnly).unwrap();
    assert_eq!(read_only.write(NsOffset(0), &[1; 64]), Err(MediaError::ReadOnly));
    assert_eq!(read_only.store_u64(NsOffset(0), 1), Err(MediaError::ReadOnly));
}

/// Reads the log as sentences: each command with all that belongs to it, in the order that the protocol asks for.
/// Gives the stores of each command that writes.
fn sentences(log: &[Access]) -> Vec<Vec<(u64, u64)>> {
    let mut rest = log.iter().copied().peekable();
    let mut written = Vec::new();
    while let Some(first) = rest.next() {
        let Access::Command { window, dpa, bytes, write } = first else { panic!("{first:?} begins no command") };
        assert_eq!((rest.next(), rest.next()), (Some(Access::Flush), Some(Access::Latch(window))));
        let done = |rest: &mut std::iter::Peekable<_>| {
            while rest.peek() == Some(&Access::Status(window, status::PENDING)) {
                rest.next();
            }
            assert_eq!(rest.next(), Some(Access::Status(window, 0)));
        };
        let words = (0..bytes / 8).map(|word| dpa + 8 * word);
        if write {
            let mut stores = Vec::new();
            for expected in words {
                let Some(Access::Store { window: of, dpa, value }) = rest.next() else { panic!("a store") };
                assert_eq!((of, dpa), (window, expected));
                stores.push((dpa, value));
            }
            assert_eq!(rest.next(), Some(Access::Flush));
            written.push(stores);
        } else {
            done(&mut rest);
            for _ in 0..bytes / 64 {
                assert_eq!(rest.next(), Some(Access::Invalidate(window)));
            }
            for dpa in words {
                assert_eq!(rest.next(), Some(Access::Load { window, dpa }));
            }
        }
        done(&mut rest);
    }
    written
}

const PLACEMENT: Placement = Placement { version: Version::V2_0, parent_uuid: Uuid::nil() };

fn format_options(sector: u32) -> FormatOptions {
    FormatOptions {
        sector_size: SectorSize::new(sector).unwrap(),
        uuid: Uuid::from_bytes([7; 16]),
        parent_uuid: Uuid::nil(),
        version: Version::V2_0,
        zero_data: false,
        zero_entries: false,
    }
}

/// Writes to a BTT: single sectors, a run, the same sector twice, and an edit of the map.
fn work<N: Medium>(btt: &Btt<N>) {
    let size = btt.sector_size();
    for (lba, count, byte) in [(3, 1, 0xaa), (3, 1, 0xbb), (15, 4, 0xcc), (3, 2, 0xdd)] {
        let data = vec![byte; count * size.bytes() as usize];
        btt.lane(CpuIndex(0)).write(ExternalLba(lba), count as u64, &Sectors::new(&data, size).unwrap()).unwrap();
    }
    btt.lane(CpuIndex(0)).mark_errors(ExternalLba(16), 1).unwrap();
    btt.drain().unwrap();
}

/// The driver's stores, one after the other and each durable before the next, are those of the simulated medium without
/// order in a line: what the crash explorer explores behind a window holds for the driver.
#[test]
fn the_drivers_stores_come_in_the_order_of_the_explored_medium() {
    for (layout, sector) in [(plain(1), 512), (plain(2), 520), (interleaved(2), 4096)] {
        let dimm = Trapped::new(Model::blank(layout));
        dimm.model().faults.pending_polls = 2;
        let blk = whole(&dimm);
        let sim = Sim::new(CAPACITY).without_line_order();
        format(&blk, &format_options(sector), &mut |_, _| ()).unwrap();
        format(&sim, &format_options(sector), &mut |_, _| ()).unwrap();
        assert!(dimm.model().media() == sim.image(), "formatted alike");

        let (on_blk, on_sim) = (Btt::open(blk, PLACEMENT, 1).unwrap(), Btt::open(sim, PLACEMENT, 1).unwrap());
        let mut media = on_sim.media().image();
        dimm.model().log = Some(Vec::new());
        on_sim.media().record();
        work(&on_blk);
        work(&on_sim);
        assert!(dimm.model().media() == on_sim.media().image(), "written alike");

        // Words that change, in the order in which the driver made them durable: one list for each window write.
        let start = dimm.model().layout().start_dpa;
        let log = dimm.model().log.take().unwrap();
        let mut real = Vec::new();
        let put = |media: &mut [u8], at: u64, bytes: &[u8]| {
            let at = usize::try_from(at).unwrap();
            let changes = media[at..at + bytes.len()] != *bytes;
            media[at..at + bytes.len()].copy_from_slice(bytes);
            changes
        };
        let mut copy = media.clone();
        for stores in sentences(&log) {
            let mut changed = Vec::new();
            for (dpa, value) in stores {
                if put(&mut copy, dpa - start, &value.to_le_bytes()) {
                    changed.push(dpa - start);
                }
            }
            // A line that is read, changed and written differs in one piece, so a cut within it has nothing to tear.
            real.extend(changed);
        }
        let mut simulated = Vec::new();
        for event in on_sim.media().recorded() {
            let (Event::Store { at, bytes } | Event::Stream { at, bytes }) = event else { continue };
            let first = at.0 / 8 * 8;
            for word in (first..at.0 + bytes.len() as u64).step_by(8) {
                let (from, to) = (word.max(at.0), (word + 8).min(at.0 + bytes.len() as u64));
                let piece = &bytes[usize::try_from(from - at.0).unwrap()..usize::try_from(to - at.0).unwrap()];
                if put(&mut media, from, piece) {
                    simulated.push(word);
                }
            }
        }
        assert!(simulated.len() > 200, "{}", simulated.len());
        assert_eq!(real, simulated, "sectors of {sector}");
    }
}

/// A file with these bytes, which has no name.
fn kept(bytes: &[u8]) -> File {
    let file = tempfile();
    file.write_all_at(bytes, 0).unwrap();
    file
}

fn tempfile() -> File {
    // SAFETY: the name is a string that ends in 0, and the descriptor is new.
    unsafe { File::from_raw_fd(libc::memfd_create(c"media".as_ptr(), libc::MFD_CLOEXEC)) }
}

/// The DIMM's media as memory, for looking at them without a window.
fn in_memory(dimm: &Trapped) -> pmem::Pmem {
    let mut model = dimm.model();
    let (start, bytes) = (NonNull::new(model.media_mut().as_mut_ptr()).unwrap(), model.media().len());
    // SAFETY: the media outlive what is made of this, and no other code uses the windows meanwhile.
    let region = unsafe { PmemRegion::from_mapping(start, bytes, pmem::Access::ReadWrite, Persist::detect()) };
    region.namespace(0, bytes as u64, pmem::Access::ReadWrite).unwrap()
}

const SECTOR: usize = 512;

/// A DIMM with a BTT whose flog groups are of every age; each of its first 20 sectors holds 12.
fn worn(layout: Layout) -> Trapped {
    let dimm = Trapped::new(Model::blank(layout));
    format(&whole(&dimm), &format_options(512), &mut |_, _| ()).unwrap();
    let btt = Btt::open(whole(&dimm), PLACEMENT, 1).unwrap();
    (0..3).for_each(|round| write(&btt, (0, 20, 10 + round)).unwrap());
    drop(btt);
    dimm
}

/// The writes during which the power goes: a sector, the same one again, and a run.
const WRITES: [(u64, usize, u8); 3] = [(5, 1, 50), (5, 1, 51), (14, 3, 60)];

fn write(btt: &Btt<Blk>, (lba, count, byte): (u64, usize, u8)) -> Result<(), btt::BttError> {
    let data = vec![byte; SECTOR * count];
    btt.lane(CpuIndex(0)).write(ExternalLba(lba), count as u64, &Sectors::new(&data, btt.sector_size()).unwrap())
}

/// What a medium must hold when the power went after so many of the writes were acknowledged.
fn judge<N: Medium>(media: N, done: usize, what: &str) {
    let btt = Btt::open(media, PLACEMENT, 1).unwrap_or_else(|why| panic!("{what}: {why}"));
    let mut found = [0; SECTOR * 20];
    let mut sink = SectorsMut::new(&mut found, btt.sector_size()).unwrap();
    btt.reader(CpuIndex(0)).read(ExternalLba(0), 20, &mut sink).unwrap();
    for (lba, sector) in (0_u64..).zip(found.chunks(SECTOR)) {
        let byte = sector[0];
        assert!(sector.iter().all(|one| *one == byte), "{what}: LBA {lba} is torn");
        let allowed: &[u8] = match (lba, done) {
            (5, 0) => &[12, 50],
            (5, 1) => &[50, 51],
            (5, _) => &[51],
            (14..17, 2) => &[12, 60],
            (14..17, 3) => &[60],
            _ => &[12],
        };
        assert!(allowed.contains(&byte), "{what}: LBA {lba} holds {byte} after {done} writes");
    }
}

fn check_in_memory(dimm: &Trapped, what: &str) {
    let mut findings = Vec::new();
    let mut report = |finding: btt::check::Finding| findings.push(finding.to_string());
    btt::check::check(&in_memory(dimm), PLACEMENT, 1 << 20, &mut report, &mut |_, _| ControlFlow::Continue(()));
    assert_eq!(findings, Vec::<String>::new(), "{what}");
}

/// Every store to an aperture during some writes, and before each of them a power cut, with choices of what of the DIMM's
/// buffer lands. What the cuts leave is made from the log of one run.
#[test]
fn a_power_cut_at_any_store_leaves_every_sector_old_or_new() {
    let mut cuts = 0;
    for layout in [plain(1), interleaved(1)] {
        let dimm = worn(layout);
        let before = kept(dimm.model().media());
        let btt = Btt::open(whole(&dimm), PLACEMENT, 1).unwrap();
        dimm.model().log = Some(Vec::new());
        let acknowledged: Vec<usize> = WRITES
            .iter()
            .map(|one| {
                write(&btt, *one).unwrap();
                dimm.model().log.as_ref().unwrap().len()
            })
            .collect();
        drop(btt);
        let log = dimm.model().log.take().unwrap();
        let start = dimm.model().layout().start_dpa;
        let mut random = Seeded::new(5);
        // What is durable, and what is in the buffer.
        let mut durable: Vec<(u64, u64)> = Vec::new();
        let mut buffer = Vec::new();
        for (number, access) in log.iter().enumerate() {
            match *access {
                Access::Flush => durable.append(&mut buffer),
                Access::Store { dpa, value, .. } => {
                    let done = acknowledged.iter().filter(|at| **at <= number).count();
                    let one = random.below(buffer.len() as u64 + 1);
                    for choice in 0..5_u64 {
                        let seed = random.next();
                        let lands = |at: u64| match choice {
                            0 => false,
                            1 => true,
                            2 => at == one,
                            3 => at != one,
                            _ => seed >> (at % 64) & 1 != 0,
                        };
                        // SAFETY: no code writes to the file.
                        let media = unsafe { MmapOptions::new().map_copy(&before) }.unwrap();
                        dimm.model().replace_media(media);
                        let landed = (0..).zip(&buffer).filter(|(at, _)| lands(*at)).map(|(_, store)| store);
                        for (dpa, value) in durable.iter().chain(landed) {
                            let at = usize::try_from(dpa - start).unwrap();
                            dimm.model().media_mut()[at..at + 8].copy_from_slice(&value.to_le_bytes());
                        }
                        let what = format!("cut before access {number}, choice {choice}");
                        judge(in_memory(&dimm), done, &what);
                        check_in_memory(&dimm, &what);
                        cuts += 1;
                    }
                    buffer.push((dpa, value));
                }
                _ => {}
            }
        }
    }
    println!("power cuts: {cuts}");
    assert!(cuts > 2000);
}

/// The same with the model going dead at that store: the driver gets errors, and recovers by itself when the power is back.
#[test]
fn a_driver_whose_dimm_loses_power_gets_errors_and_recovers_when_it_is_back() {
    let dimm = worn(interleaved(1));
    let before = kept(dimm.model().media());
    let mut cuts = 0;
    for at in (0..).step_by(11) {
        // SAFETY: no code writes to the file.
        let media = unsafe { MmapOptions::new().map_copy(&before) }.unwrap();
        dimm.model().replace_media(media);
        dimm.model().power_on();
        let btt = Btt::open(whole(&dimm), PLACEMENT, 1).unwrap();
        dimm.model().set_cut(Cut { before_store: at, lands: Lands::Seeded(at) });
        let done = WRITES.iter().take_while(|one| write(&btt, **one).is_ok()).count();
        let dead = dimm.model().is_dead();
        assert_eq!(dead, done < 3, "an error is told when the power goes, and only then");
        drop(btt);
        dimm.model().power_on();
        let what = format!("cut before store {at}");
        judge(whole(&dimm), done, &what);
        check_in_memory(&dimm, &what);
        if !dead {
            break;
        }
        cuts += 1;
    }
    println!("power cuts of a driver at work: {cuts}");
    assert!(cuts > 20);
}

/// Fails each command of an operation in turn, in each way that a status can report.
#[test]
fn whatever_a_status_says_at_any_command_is_an_error_and_never_wrong_data() {
    let dimm = Trapped::new(Model::blank(plain(2)));
    format(&whole(&dimm), &format_options(512), &mut |_, _| ()).unwrap();
    let size = SectorSize::new(512).unwrap();
    let write = |btt: &Btt<Blk>, byte: u8| {
        btt.lane(CpuIndex(0)).write(ExternalLba(5), 2, &Sectors::new(&[byte; 1024], size).unwrap())
    };
    let read = |btt: &Btt<Blk>, into: &mut [u8]| {
        btt.reader(CpuIndex(0)).read(ExternalLba(5), 2, &mut SectorsMut::new(into, size).unwrap())
    };
    let mut injected = 0;
    let bits = [
        status::INVALID,
        status::UNCORRECTABLE,
        status::MISMATCH,
        status::LOCKED,
        status::DISABLED,
        status::UNCORRECTABLE | status::INVALID,
    ];
    for fault in 0..=bits.len() {
        for command in 0.. {
            let faults = match bits.get(fault) {
                Some(bits) => Faults { fail: Some((command, *bits)), ..Faults::default() },
                None => Faults { turned: Some(command), ..Faults::default() },
            };
            // Sound media, whose sectors hold 1; then opening, writing and reading, with one command that fails.
            dimm.model().set_faults(Faults::default());
            write(&Btt::open(whole(&dimm), PLACEMENT, 1).unwrap(), 1).unwrap();
            dimm.model().set_faults(faults);
            let opened = Btt::open(whole(&dimm), PLACEMENT, 1);
            let (mut written, mut failed) = (false, opened.is_err());
            if let Ok(btt) = &opened {
                written = write(btt, 2).is_ok();
                let mut found = [0; 1024];
                let seen = read(btt, &mut found);
                // A block that is refused is not the only one.
                failed = !written || seen.is_err() || btt.counters().refusals > 0;
                if seen.is_ok() {
                    let whole_sectors = found.chunks(512).all(|sector| {
                        sector.iter().all(|byte| *byte == sector[0]) && (sector[0] == 2 || (sector[0] == 1 && !written))
                    });
                    assert!(whole_sectors, "fault {fault} at command {command}");
                }
            }
            let count = dimm.model().commands();
            drop(opened);
            // Afterwards the DIMM is well again: nothing is torn, and nothing that was acknowledged is lost.
            dimm.model().set_faults(Faults::default());
            let mut found = [0; 1024];
            read(&Btt::open(whole(&dimm), PLACEMENT, 1).unwrap(), &mut found).unwrap();
            for sector in found.chunks(512) {
                assert!(sector.iter().all(|byte| *byte == sector[0]), "fault {fault} at command {command}");
                assert!(sector[0] == 2 || (sector[0] == 1 && !written), "fault {fault} at command {command}");
            }
            if count <= command {
                break;
            }
            // A read that fails once may be asked again (the driver looks for the lost line); all else is told, or
            // another block is written instead, which is counted.
            let told = failed || bits.get(fault) == Some(&status::UNCORRECTABLE);
            assert!(told, "fault {fault} at command {command} went unnoticed");
            injected += 1;
        }
    }
    println!("injected errors: {injected}");
    assert!(injected > 100);
}

#[test]
fn what_a_dimm_says_becomes_the_error_that_it_means() {
    let dimm = Trapped::new(Model::blank(plain(2)));
    let blk = whole(&dimm);
    let at = NsOffset(0x1_0000);
    let device = |status| Err(MediaError::Device { at, status });
    let mut into = [0; 512];
    dimm.model().set_faults(Faults { locked: Some(0x1_0100..0x1_0140), ..Faults::default() });
    assert_eq!(blk.read(at, &mut into), device(status::LOCKED));
    assert_eq!(blk.write(at, &[1; 512]), device(status::LOCKED));
    dimm.model().set_faults(Faults { disabled: [0].into(), ..Faults::default() });
    assert_eq!(blk.read(at, &mut into), device(status::DISABLED));
    assert_eq!(blk.store_u64(at, 1), device(status::DISABLED));
    dimm.model().set_faults(Faults { turned: Some(0), ..Faults::default() });
    assert_eq!(blk.read(at, &mut into), device(status::MISMATCH));
    // A command that is pending for a while is waited for; one that is for ever is given up.
    dimm.model().set_faults(Faults { pending_polls: 1000, ..Faults::default() });
    assert_eq!((blk.write(at, &[1; 512]), blk.read(at, &mut into)), (Ok(()), Ok(())));
    assert_eq!(into, [1; 512]);
    dimm.model().set_faults(Faults { pending_polls: u32::MAX, ..Faults::default() });
    assert_eq!(blk.read(at, &mut into), device(status::PENDING));
    // A lost line is named, stays lost when a part of it is written, and is well when all of it is.
    dimm.model().set_faults(Faults::default());
    dimm.model().lose(0x1_0080);
    let poisoned = Err(MediaError::Poisoned { at: NsOffset(0x1_0080) });
    assert_eq!(blk.read(at, &mut into), poisoned);
    assert_eq!(blk.lost(), [(NsOffset(0x1_0080), 64)]);
    // Looked at again, it is lost still; what was only injected, too.
    assert_eq!((blk.look_again(at, 512), blk.lost()), (Ok(()), vec![]));
    assert_eq!((blk.read(at, &mut into), blk.lost()), (poisoned, vec![(NsOffset(0x1_0080), 64)]));
    assert_eq!((blk.lose(NsOffset(0x3_0000), 64), blk.look_again(NsOffset(0x3_0000), 64)), (Ok(()), Ok(())));
    assert_eq!((blk.lost().len(), blk.write(NsOffset(0x3_0000), &[0; 64])), (2, Ok(())));
    assert_eq!(blk.read(at, &mut into[..128]), Ok(()));
    assert_eq!(blk.store_u64(NsOffset(0x1_0088), 1).map(|()| 0), blk.load_u64(NsOffset(0x1_0088)));
    assert_eq!(blk.write(at, &[3; 512]), Ok(()));
    assert_eq!((blk.read(at, &mut into), into, blk.lost()), (Ok(()), [3; 512], vec![]));
    assert_eq!(dimm.model().strays(), 0);
}

#[test]
fn a_sector_that_the_dimm_lost_is_told_with_its_place_and_a_write_mends_it() {
    let dimm = Trapped::new(Model::blank(plain(2)));
    let mut node = boot(&dimm, 2);
    node.done("create-namespace -t blk -l 4096");
    node.done("write ndblk0.0s 9 --fill 0x5a");
    let place = dimm.model().media().windows(64).position(|line| line == [0x5a; 64]).unwrap();
    dimm.model().lose(place as u64 + 640);
    node.refused("read ndblk0.0s 9", "damaged");
    let errors = node.done("errors ndblk0.0s");
    assert_eq!(errors["media"][0]["length"], 64, "{errors}");
    assert_eq!(node.done("read ndblk0.0s 8")["data"], base64_of(0, 4096));
    node.done("write ndblk0.0s 9 --fill 0x5b");
    assert_eq!(node.done("read ndblk0.0s 9")["data"], base64_of(0x5b, 4096));
    node.done("inject-error ndblk0.0s 8");
    node.refused("read ndblk0.0s 8", "damaged");
    node.done("clear-errors ndblk0.0s 8");
    node.done("read ndblk0.0s 8");
}

#[test]
fn a_block_that_the_dimm_refuses_is_avoided_and_counted() {
    let dimm = Trapped::new(Model::blank(plain(2)));
    let mut node = boot(&dimm, 2);
    node.done("create-namespace -t blk -l 4096");
    dimm.model().set_faults(Faults { fail: Some((0, status::LOCKED)), ..Faults::default() });
    node.done("write ndblk0.0s 9 --fill 0x5a");
    assert_eq!(node.done("read ndblk0.0s 9")["data"], base64_of(0x5a, 4096));
    assert_eq!(node.done("stats")["devices"][0]["refusals"], 1);
    assert_eq!(node.done("check-namespace namespace0.0")["findings"], json!([]));
}

#[test]
fn cpus_share_lanes_where_windows_are_fewer_and_tear_nothing() {
    for (windows, lanes) in [(1, 1), (2, 2), (8, 4)] {
        // Two CPUs in one aperture would mix their sectors up.
        let dimm = fast(plain(windows));
        let mut node = boot(&dimm, 4);
        node.done("create-namespace -t blk -l 4096");
        assert_eq!(node.done("list -N")["result"][0]["btt"]["lanes"], lanes);
        let bench = node.done("bench ndblk0.0s --seconds 1 --run 2 --mix 70 --verify");
        let verify = &bench["verify"];
        let broken = ["torn", "misplaced", "unreadable", "foreign"].map(|kind| verify[kind].as_u64().unwrap());
        assert_eq!((broken, &bench["errors"]), ([0; 4], &json!(0)), "{windows} windows: {bench}");
        assert!(verify["good"].as_u64() > Some(0), "{bench}");
        assert_eq!(node.done("check-namespace namespace0.0")["findings"], json!([]));
        assert_eq!(dimm.model().strays(), 0);
        println!("{windows} windows, 4 CPUs: {} operations a second", bench["ops_per_second"]);
    }
}

/// Ends the work of both CPUs when one leaves: if it panics, the other is not to wait for it.
struct Leaving<'a>(&'a AtomicU32);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.0.store(2, Ordering::Relaxed);
    }
}

#[test]
fn cpus_that_share_a_window_and_a_line_keep_out_of_each_others_way() {
    const ROUNDS: u32 = 500;
    /// How often each has to see that the other got on between two rounds of its own: so often were they really in each
    /// other's way, also where they share one host CPU.
    const MEETINGS: u32 = 200;
    let dimm = fast(plain(1));
    let disk = whole(&dimm);
    let content = AtomicU32::new(0); // how many CPUs are
    let use_words = |cpu: u32| {
        let _leaving = Leaving(&content);
        // Half of a piece of 8 bytes of a line that both change, and some lines of one's own.
        let word_of = |cpu: u32| NsOffset(4 * u64::from(cpu));
        let lines = NsOffset(4096 * (1 + u64::from(cpu)));
        let (mut round, mut met, mut others_round, mut is_content) = (0, 0, 0, false);
        while content.load(Ordering::Relaxed) < 2 {
            round += 1;
            disk.store_u32(word_of(cpu), round).unwrap();
            let fill = [u8::try_from(round % 127 * 2 + cpu).unwrap(); 256];
            disk.write(lines, &fill).unwrap();
            let mut found = [0; 256];
            disk.read(lines, &mut found).unwrap();
            assert_eq!((disk.load_u32(word_of(cpu)), found), (Ok(round), fill), "CPU {cpu}, round {round}");
            let now = disk.load_u32(word_of(1 - cpu)).unwrap();
            met += u32::from(now != others_round);
            others_round = now;
            if !is_content && round >= ROUNDS && met >= MEETINGS {
                is_content = true;
                content.fetch_add(1, Ordering::Relaxed);
            }
        }
    };
    std::thread::scope(|scope| {
        for cpu in 0..2 {
            scope.spawn({
                let use_words = &use_words;
                move || use_words(cpu)
            });
        }
    });
    assert_eq!(dimm.model().strays(), 0);
}
