//! A dump of a medium without its data (`untornctl dump --media`): what is found on the medium is found on what it becomes, and
//! nothing of a sector is in it.

use std::fs;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use btt::info_block::{InfoBlock, Version, read_raw};
use btt::media::NsOffset;
use btt::ram::Ram;
use fake_machine::{Booted, Memory, boot, boot_one, labelled, nfit_of};
use host::media_dump;
use serde_json::Value;
use tests::damage::{self, COUNT, FIRST, content, to_dimm};
use tests::dimm::{Dimm, MIB};
use uuid::Uuid;
use zerocopy::IntoBytes as _;

/// A file that is removed again.
struct Loaded(PathBuf);

impl Drop for Loaded {
    fn drop(&mut self) {
        // It may never have been made.
        let _ = fs::remove_file(&self.0);
    }
}

/// The dump of a medium, and the medium that it becomes.
fn through_a_dump(medium: &Dimm, label_bytes: Option<u64>) -> (Vec<u8>, Vec<u8>) {
    let mut dump = Vec::new();
    media_dump::take(&medium.file(), label_bytes, &mut dump).expect("a dump");
    let loaded = Loaded(medium.path().with_extension("loaded"));
    media_dump::load(&dump[..], &loaded.0).expect("it is a dump");
    let bytes = fs::read(&loaded.0).expect("a file");
    assert_eq!(bytes.len() as u64, medium.path().metadata().expect("a file").len());
    (dump, bytes)
}

/// The first line.
fn head(dump: &[u8]) -> Value {
    let line = dump.split(|byte| *byte == b'\n').next().expect("a line");
    serde_json::from_slice(line).expect("an object")
}

/// Whether so many bytes of this one stand on end anywhere.
fn has_run(bytes: &[u8], byte: u8, count: usize) -> bool {
    bytes.split(|it| *it != byte).any(|run| run.len() >= count)
}

fn found(memory: &'static Memory, image: &[u8]) -> (Value, Value) {
    memory.clear();
    memory.put(0, image);
    let mut node = boot_one(memory);
    (node.ask("check-namespace namespace0.0"), node.ask("check-namespace namespace0.0 -R"))
}

#[test]
fn each_kind_of_damage_is_found_again_after_dump_and_load() {
    let memories = [32, 48].map(|mib| Memory::new(mib * fake_machine::MIB));
    let (mut damaged, mut without_a_guide) = (0, Vec::new());
    for kind in damage::all().iter().chain([&damage::none()]) {
        let image = kind.medium().image();
        let memory = memories.iter().find(|memory| memory.bytes == image.len()).expect("a size of these");
        let (dump, loaded) = through_a_dump(&to_dimm(&kind.medium()), None);
        assert!(dump.len() < 300 << 10, "{}: {} bytes", kind.name, dump.len());
        for lba in FIRST..FIRST + COUNT {
            let byte = content(lba);
            assert!(has_run(&image, byte, 512) && !has_run(&dump, byte, 64), "{}: LBA {lba} is in it", kind.name);
        }
        let left_out = head(&dump)["left_out"].clone();
        if left_out != Value::Array(Vec::new()) {
            without_a_guide.push((kind.name, left_out[0].to_string().contains("no BTT")));
            continue;
        }
        let (before, after) = (found(memory, &image), found(memory, &loaded));
        damaged += usize::from(before.0["exit"] == 4);
        assert_eq!(before, after, "{}", kind.name);
    }
    assert!(damaged >= 15, "damage is found: {damaged}");
    assert_eq!(without_a_guide, [("both info blocks gone, one arena", true)], "nothing tells what is no data");
}

/// Writes all over a disk what must not come out.
fn write_marked(node: &mut Booted, disk: &str, sector: usize, at: std::ops::Range<u64>) {
    let data = STANDARD.encode(MARK.repeat(sector / MARK.len()));
    for lba in at {
        node.done(&format!("write {disk} {lba} --data {data}"));
    }
}

const MARK: &[u8] = b"not for a report";

fn has_mark(bytes: &[u8]) -> bool {
    bytes.windows(MARK.len()).any(|it| it == MARK)
}

#[test]
fn neither_data_nor_settings_are_in_it() {
    let memory = Memory::new(32 * fake_machine::MIB);
    let mut node = boot_one(memory);
    node.done("create-namespace -l 512");
    write_marked(&mut node, "pmem0s", 512, 0..300);
    node.done(
        "allow nqn.2026-01.org.example:host --secret DHHC-1:00:ia6zGodOr4SEG0Zzaw398rpY0wqipUWj4jWjUh4HWUz6aQ2n:",
    );
    node.done("config save");
    drop(node);
    let medium = Dimm::blank(32 * MIB);
    medium.put(0, &memory.copy());
    let (dump, loaded) = through_a_dump(&medium, None);
    let has_secret = |bytes: &[u8]| bytes.windows(8).any(|it| it == b"ia6zGodO");
    assert!(has_mark(&memory.copy()) && has_secret(&memory.copy()));
    assert!(!has_mark(&dump) && !has_secret(&dump));
    memory.clear();
    memory.put(0, &loaded);
    let mut node = boot_one(memory);
    assert_eq!(node.done("check-namespace namespace0.0")["verdict"], "sound");
    assert_eq!(node.done("read pmem0s 7")["data"], STANDARD.encode([0; 512]), "its data are zero");
}

#[test]
fn a_medium_with_labels_keeps_them_and_its_damage() {
    let dimm = labelled(128);
    let area = dimm.labels.expect("it has one");
    let mut node = boot(&[dimm]);
    node.done("create-namespace -s 64M -n first");
    node.done("create-namespace -s 32M -l 512");
    node.done("create-namespace -s 16M -m raw -n pictures");
    write_marked(&mut node, "pmem0s", 4096, 0..20);
    write_marked(&mut node, "pmem0.1s", 512, 0..20);
    let flog = node.done("arenas namespace0.1")["arenas"][0]["logoff"].as_u64().expect("a number");
    drop(node);
    // Namespaces follow each other; this one's BTT begins at its first byte.
    let broken = usize::try_from((64 << 20) + flog + 9 * 64).expect("small");
    dimm.memory.put(broken, &[0; 64]);
    dimm.memory.put(96 << 20, MARK);
    let all = |memory: &[u8]| [memory, &area.bytes.lock().expect("no panic")[..]].concat();
    let medium = Dimm::blank(128 * MIB + (128 << 10));
    medium.put(0, &all(&dimm.memory.copy()));
    let listed = |node: &mut Booted| {
        let checks = [0, 1].map(|number| node.ask(&format!("check-namespace namespace0.{number}")));
        (node.ask("list -BDRNi"), checks)
    };
    let before = listed(&mut boot(&[dimm]));
    assert_eq!((&before.1[0]["verdict"], &before.1[1]["verdict"]), (&"sound".into(), &"damaged".into()));
    // The label area is found by itself, and where one says how large it is.
    for label_bytes in [None, Some(128 << 10)] {
        let (dump, loaded) = through_a_dump(&medium, label_bytes);
        assert!(has_mark(&medium.bytes(0, 128 << 20)) && !has_mark(&dump));
        let head = head(&dump);
        assert_eq!((&head["label_bytes"], &head["bytes"]), (&(128 << 10).into(), &(loaded.len() as u64).into()));
        assert!(head["left_out"].to_string().contains("it has no BTT"), "{head}");
        dimm.memory.clear();
        dimm.memory.put(0, &loaded[..128 << 20]);
        *area.bytes.lock().expect("no panic") = loaded[128 << 20..].to_vec();
        assert_eq!(listed(&mut boot(&[dimm])), before);
    }
    // Nobody says that its end is a label area: it is no BTT.
    let (dump, _) = through_a_dump(&medium, Some(0));
    assert!(head(&dump)["left_out"].to_string().contains("no BTT") && !has_mark(&dump));
}

#[test]
fn firmwares_table_is_given_as_it_stands() {
    let dimm = labelled(32);
    let tables = boot(&[dimm]).done("nfit --raw")["tables"].clone();
    assert_eq!(tables, Value::from(vec![STANDARD.encode(nfit_of(&[dimm]))]));
}

#[test]
fn hostile_metadata_end_in_a_dump_or_an_error_and_show_no_data() {
    let dimm = labelled(64);
    let area = dimm.labels.expect("it has one");
    let mut node = boot(&[dimm]);
    node.done("create-namespace -s 32M -l 512");
    write_marked(&mut node, "pmem0s", 512, 0..20);
    drop(node);
    let medium = Dimm::blank(64 * MIB + (128 << 10));
    let sound = [&dimm.memory.copy()[..], &area.bytes.lock().expect("no panic")[..]].concat();
    medium.put(0, &sound);
    let raw = read_raw(&Ram::from_image(sound[..32 << 20].to_vec()), NsOffset(0)).expect("within the medium");
    let parent = Uuid::from_bytes(raw.parent_uuid);
    let info = InfoBlock::decode(&raw, Version::V2_0, parent, 32 * MIB).expect("it is sound");
    let (mut seed, mut left_out) = (0x9e37_79b9_7f4a_7c15_u64, 0);
    let mut random = |most: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % most
    };
    for _ in 0..400 {
        // An info block that is whole and says what it should not, or a few wrong bytes of it, of index blocks, of labels.
        if random(2) == 0 {
            let mut hostile = info;
            let geometry = &mut hostile.geometry;
            let offset = [random(64 * MIB), random(16) * 4096, u64::MAX - random(9), 32 * MIB - random(9)]
                [usize::try_from(random(4)).expect("small")];
            let number = u32::try_from(offset & 0xffff_ffff).expect("32 bits");
            match random(8) {
                0 => geometry.nextoff = offset,
                1 => geometry.mapoff = offset,
                2 => geometry.logoff = offset,
                3 => geometry.info2off = offset,
                4 => geometry.dataoff = offset,
                5 => geometry.nfree = number,
                6 => geometry.external_nlba = number,
                _ => geometry.internal_nlba = number,
            }
            medium.put(0, hostile.encode().as_bytes());
        } else {
            let places = [0, (32 << 20) - 4096, 64 << 20, (64 << 20) + 1024];
            let at = places[usize::try_from(random(4)).expect("small")] + random(128);
            medium.put(at, &random(1 << 31).to_le_bytes()[..usize::try_from(1 + random(8)).expect("small")]);
        }
        for label_bytes in [None, Some(128 << 10), Some(random(1 << 20))] {
            let mut dump = Vec::new();
            media_dump::take(&medium.file(), label_bytes, &mut dump).expect("a dump");
            assert!(!has_mark(&dump), "{}", head(&dump));
            left_out += usize::from(head(&dump)["left_out"] != Value::Array(Vec::new()));
        }
        if random(3) == 0 {
            for part in [0..4096, (32 << 20) - 4096..32 << 20, 64 << 20..sound.len()] {
                medium.put(part.start as u64, &sound[part]);
            }
        }
    }
    assert!((100..1100).contains(&left_out), "some lead nowhere: {left_out}");
}
