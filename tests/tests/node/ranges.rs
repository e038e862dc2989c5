//! Memory that no NFIT describes: virtio-pmem with a device that refuses and loses FLUSHes, and firmware's memory map.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use btt::media::FenceFault;
use drivers::flush::Flush;
use fake_machine::{BASE, Booted, Dimm, Hardware, LabelArea, MIB, Memory, nfit_of, table_of};
use kernel::node::{BareMemory, FlushedRange};
use nvdimm::error::{PciPlace, Place};
use nvdimm::identity::DeviceHandle;
use nvdimm::region::CxlDevice;
use serde_json::{Value, json};

/// A device that carries so many FLUSHes out, and fails then.
#[derive(Debug)]
struct Device {
    left: AtomicU64,
    done: AtomicU64,
    failed: AtomicBool,
}

impl Device {
    fn new(left: u64) -> Arc<Self> {
        Arc::new(Self { left: AtomicU64::new(left), done: AtomicU64::new(0), failed: AtomicBool::new(false) })
    }
}

impl Flush for Device {
    fn flush(&self) -> Result<(), FenceFault> {
        let left = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        self.done.fetch_add(u64::from(left.is_ok()), Ordering::SeqCst);
        self.failed.fetch_or(left.is_err(), Ordering::SeqCst);
        left.map(|_| ()).map_err(|_| FenceFault::Refused { status: 1 })
    }

    fn fault(&self) -> Option<FenceFault> {
        self.failed.load(Ordering::SeqCst).then_some(FenceFault::Refused { status: 1 })
    }
}

const AT: Place = Place::VirtioPmem(PciPlace { segment: 0, bus: 0, device: 2, function: 0 });

fn virtio(base: u64, memory: &Memory, device: &Arc<Device>) -> BareMemory {
    let flush: Arc<dyn Flush> = Arc::<Device>::clone(device);
    BareMemory {
        at: AT,
        memory: Ok(FlushedRange { base, bytes: memory.bytes as u64, flush: Some(flush), device: None }),
    }
}

/// A machine with this memory behind a device, and nothing else.
fn boot(memory: &'static Memory, device: &Arc<Device>) -> Booted {
    Hardware { bare: vec![virtio(BASE, memory, device)], ..Hardware::default() }.memory(BASE, memory).boot()
}

fn text<'v>(value: &'v Value, what: &str) -> &'v str {
    value[what].as_str().unwrap_or_else(|| panic!("no {what} in {value}"))
}

#[test]
fn virtio_pmem_has_linux_names_and_the_same_commands() {
    let device = Device::new(u64::MAX);
    let memory = Memory::new(32 * MIB);
    let mut node = boot(memory, &device);
    node.done("create-namespace -l 512");
    let before = device.done.load(Ordering::SeqCst);
    node.done("write pmem0s 3 --fill 7 --count 2");
    // Data; both halves of the flog records, as a line keeps no order here.
    assert_eq!(device.done.load(Ordering::SeqCst) - before, 3);
    let list = node.done("list -B -R -N");
    let bus = &list["result"][0];
    assert_eq!((text(bus, "provider"), text(bus, "dev")), ("virtio-pmem", "ndbus0"));
    let region = &bus["regions"][0];
    let expected = json!({"dev": "region0", "type": "pmem", "persistence_domain": "unknown", "available_size": 0});
    for (key, value) in expected.as_object().expect("an object") {
        assert_eq!(&region[key], value, "{key}");
    }
    assert!(region.get("iset_id").is_none() && region.get("mappings").is_none(), "{region}");
    assert_eq!(text(&region["namespaces"][0], "blockdev"), "pmem0s");
    drop(node);
    let mut node = boot(memory, &device);
    assert_eq!(text(&node.done("read pmem0s 4"), "data").get(..4), Some("BwcH"));
    assert_eq!(node.done("check-namespace namespace0.0")["ok"], true);
    node.done("create-namespace -f -m raw");
    assert_eq!(node.done("health")["state"], "ok");
}

#[test]
fn it_stands_beside_nvdimms_on_a_bus_of_its_own() {
    let (dimm_memory, memory, mapped) = (Memory::new(32 * MIB), Memory::new(32 * MIB), Memory::new(32 * MIB));
    let device = Device::new(u64::MAX);
    let dimm = Dimm { base: BASE, memory: dimm_memory, flags: 0, labels: None };
    let next = BASE + dimm_memory.bytes as u64;
    let map = FlushedRange { base: 16 * BASE, bytes: mapped.bytes as u64, flush: None, device: None };
    let of_map = BareMemory { at: Place::MemoryMap { start: map.base, kind: 7 }, memory: Ok(map) };
    let broken = BareMemory {
        at: Place::VirtioPmem(PciPlace { segment: 0, bus: 0, device: 9, function: 0 }),
        memory: Err("it is a legacy device".into()),
    };
    let hardware = Hardware {
        nfits: vec![nfit_of(&[dimm])],
        bare: vec![virtio(next, memory, &device), broken, of_map],
        in_use: vec![0x1000..0x9_f000, 0xf000_0000..BASE],
        ..Hardware::default()
    };
    let memories = [(BASE, dimm_memory), (next, memory), (16 * BASE, mapped)];
    let mut node = memories.into_iter().fold(hardware, |all, (base, memory)| all.memory(base, memory)).boot();
    let list = node.done("list -B -R -N");
    let buses: Vec<_> = list["result"].as_array().expect("a list").iter().collect();
    let shown = buses.iter().map(|bus| (text(bus, "dev"), text(bus, "provider"), text(&bus["regions"][0], "dev")));
    let expected =
        [("ndbus0", "ACPI.NFIT", "region0"), ("ndbus1", "virtio-pmem", "region1"), ("ndbus2", "e820", "region3")];
    assert_eq!(shown.collect::<Vec<_>>(), expected);
    // Region 2 is the device's that cannot be used.
    for region in [0, 1, 3] {
        node.done(&format!("create-namespace -r region{region}"));
        node.done(&format!("write pmem{region}s 0 --fill 1"));
    }
    let health = node.done("health");
    let left_out = &health["findings"][0];
    assert_eq!((text(left_out, "where"), &health["findings"][1]), ("virtio-pmem 0000:00:09.0", &Value::Null));
    assert!(text(left_out, "what").ends_with("it is a legacy device"), "{left_out}");
}

#[test]
fn caches_that_survive_are_believed_of_the_nfits_own_ranges_only() {
    let (dimm_memory, memory, mapped) = (Memory::new(32 * MIB), Memory::new(32 * MIB), Memory::new(32 * MIB));
    let dimm = Dimm { base: BASE, memory: dimm_memory, flags: 0, labels: None };
    let map = FlushedRange { base: 16 * BASE, bytes: mapped.bytes as u64, flush: None, device: None };
    for (capabilities, domain) in [(0, "unknown"), (0b10, "memory_controller"), (1, "cpu_cache")] {
        let bare = vec![
            virtio(8 * BASE, memory, &Device::new(u64::MAX)),
            BareMemory { at: Place::MemoryMap { start: map.base, kind: 12 }, memory: Ok(map.clone()) },
        ];
        let nfits = vec![table_of(&[dimm]).capabilities(capabilities).finish()];
        let hardware = Hardware { nfits, bare, ..Hardware::default() };
        let hardware = hardware.memory(BASE, dimm_memory).memory(8 * BASE, memory).memory(16 * BASE, mapped);
        let mut node = hardware.boot();
        let list = node.done("list -B -R");
        let buses = list["result"].as_array().expect("a list").iter();
        let domains = buses.map(|bus| text(&bus["regions"][0], "persistence_domain"));
        assert_eq!(domains.collect::<Vec<_>>(), [domain, "unknown", "unknown"]);
        let logged = node.node.machine().logged();
        let of = |region: &str| logged.iter().find_map(|line| line.strip_prefix(region)).expect("it was mapped");
        assert_eq!(of("region0: ").starts_with("no write-back"), capabilities == 1, "{logged:?}");
        assert!(of("region1: ").starts_with("FLUSHes"), "{logged:?}");
        assert!(of("region2: ").starts_with("cl"), "an instruction that writes back: {logged:?}");
    }
}

#[test]
fn an_end_that_is_in_no_file_is_told_from_other_damage() {
    let memory = Memory::new(32 * MIB);
    let mut node = boot(memory, &Device::new(u64::MAX));
    node.done("create-namespace -l 512");
    let arena = node.done("arenas namespace0.0")["arenas"][0].clone();
    let flog = 4096 + usize::try_from(arena["logoff"].as_u64().expect("a number")).expect("small");
    drop(node);
    let sound = memory.copy();
    let zeroes = |bytes: usize| (32 * MIB - bytes, vec![0; bytes]);
    for ((at, bytes), state, told) in [
        (zeroes(0), "active", false),
        // What Firecracker or crosvm adds to a file: the copy of the info block is in it, and soon the log.
        (zeroes(4096), "active", true),
        (zeroes(MIB), "damaged", true),
        // The log alone; the info block at the start.
        ((flog, vec![0xff; 64]), "damaged", false),
        ((4096, vec![0xff; 4096]), "damaged", false),
    ] {
        memory.put(at, &bytes);
        let mut node = boot(memory, &Device::new(u64::MAX));
        let status = node.done("status");
        let found = text(&status["namespaces"][0], "state");
        assert!(found.starts_with(state), "{} bytes at {at}: {found}", bytes.len());
        let health = node.done("health");
        let findings = health["findings"].as_array().expect("a list").iter();
        let of_file = findings.filter(|finding| text(finding, "what").contains("a file of whole 2 MiB")).count();
        assert_eq!(of_file, usize::from(told), "{} bytes at {at}: {health}", bytes.len());
        drop(node);
        memory.put(0, &sound);
    }
}

#[test]
fn what_stays_open_as_its_device_fails_is_not_called_disabled() {
    let memory = Memory::new(32 * MIB);
    let mut node = boot(memory, &Device::new(u64::MAX));
    node.done("create-namespace -l 512 --zero-entries");
    node.done("trim pmem0s 10 20");
    drop(node);
    let (sound, mut open) = (memory.copy(), 0);
    for left in 0.. {
        memory.put(0, &sound);
        let device = Device::new(u64::MAX);
        let mut node = boot(memory, &device);
        node.done("disable-namespace namespace0.0");
        device.left.store(left, Ordering::SeqCst);
        let is_done = node.ask("check-namespace namespace0.0 --portable")["ok"] == true;
        let logged = node.node.machine().logged();
        eprintln!(
            "DBG {left} {is_done} {:?} {:?}",
            node.done("status")["namespaces"][0]["state"],
            &logged[logged.len().saturating_sub(4)..]
        );
        let told = logged.iter().any(|line| line.starts_with("namespace0.0: not disabled again: "));
        let state = node.done("status")["namespaces"][0]["state"].clone();
        assert_eq!(state != "disabled", told, "{left}: {state}, {logged:?}");
        assert!(!(told && is_done), "{left}: {logged:?}");
        open += u32::from(told);
        if is_done {
            break;
        }
    }
    assert!(open > 0, "its last writes are not durable");
}

/// A CXL device, which may have a label area.
fn boot_cxl(memory: &'static Memory, area: Option<&'static LabelArea>, device: &Arc<Device>) -> Booted {
    let handle = DeviceHandle::of_cxl(0);
    let flush: Arc<dyn Flush> = Arc::<Device>::clone(device);
    let cxl = Some(CxlDevice { handle, serial: Some(5) });
    let range = FlushedRange { base: BASE, bytes: memory.bytes as u64, flush: Some(flush), device: cxl };
    let at = Place::Cxl(PciPlace { segment: 0, bus: 13, device: 0, function: 0 });
    let bare = vec![BareMemory { at, memory: Ok(range) }];
    let areas = area.map(|area| (handle.0, area)).into_iter().collect();
    Hardware { bare, areas, ..Hardware::default() }.memory(BASE, memory).boot()
}

#[test]
fn a_cxl_device_without_a_label_area_gets_no_namespace_and_says_why() {
    let mut node = boot_cxl(Memory::new(96 * MIB), None, &Device::new(u64::MAX));
    assert_eq!(node.done("list -N")["result"], json!([]));
    for line in ["create-namespace", "create-namespace -s 32M", "create-namespace -n one -f"] {
        let why = node.refused(line, "failed");
        assert!(why.contains("no label area, and CXL memory has no namespaces without labels"), "{why}");
    }
    let nfit = node.done("nfit").to_string();
    assert!(nfit.contains("has no label area, and no namespace without labels"), "{nfit}");
}

#[test]
fn nothing_is_stored_beside_a_namespace_while_a_label_is_not_valid() {
    let (memory, area) = (Memory::new(96 * MIB), LabelArea::new());
    let boot = |device: &Arc<Device>| boot_cxl(memory, Some(area), device);
    let device = Device::new(u64::MAX);
    let mut node = boot(&device);
    for name in ["first", "second"] {
        node.done(&format!("create-namespace -s 32M -n {name}"));
    }
    drop(node);
    // Each of the two is probed in the 32 MiB that are free.
    let before = device.done.load(Ordering::SeqCst);
    drop(boot(&device));
    let probed = device.done.load(Ordering::SeqCst) - before;
    assert!(probed > 0, "a probe stores");

    // Now the second's bytes seem to be free.
    let mut labels = area.bytes.lock().expect("no panic");
    let name = labels.windows(6).position(|bytes| bytes == b"second").expect("its label is there");
    labels[name] ^= 1;
    drop(labels);
    let before = device.done.load(Ordering::SeqCst);
    let mut node = boot(&device);
    assert_eq!(device.done.load(Ordering::SeqCst) - before, 0, "something is stored");
    let list = node.done("list -N");
    assert_eq!(list["result"].as_array().map(Vec::len), Some(1), "{list}");
    assert_eq!(text(&list["result"][0], "name"), "first");
    let logged = node.node.machine().logged();
    assert!(logged.iter().any(|line| line.contains("no blank line to probe")), "{logged:?}");
}

#[test]
fn a_flush_that_fails_turns_the_namespace_read_only_and_says_why() {
    let memory = Memory::new(32 * MIB);
    let mut node = boot(memory, &Device::new(u64::MAX));
    node.done("create-namespace -l 512");
    node.done("write pmem0s 0 --fill 1");
    drop(node);
    for left in 1..12 {
        let mut node = boot(memory, &Device::new(left));
        let replies: Vec<Value> = (0..5).map(|lba| node.ask(&format!("write pmem0s {lba} --fill 2"))).collect();
        let failed = replies.iter().position(|reply| reply["ok"] == false).expect("it runs out");
        assert!(replies[failed..].iter().all(|reply| reply["ok"] == false), "{left}: {replies:?}");
        let list = node.done("list");
        let btt = &list["result"][0]["btt"];
        assert_eq!(btt["state"], "read-only", "{left}: {list}");
        let health = node.done("health");
        assert_eq!(health["state"], "failed");
        let finding = health["findings"].as_array().expect("a list").iter().find(|it| it["where"] == "region0");
        assert!(text(finding.expect("of the region"), "what").contains("it answered 0x1"), "{health}");
        // What was acknowledged reads back; nothing is stored any more.
        let image = memory.copy();
        node.done("read pmem0s 0 5");
        node.ask("write pmem0s 0 --fill 9");
        node.ask("create-namespace -f");
        assert!(memory.copy() == image, "{left}: something is stored after the failure");
    }
}
