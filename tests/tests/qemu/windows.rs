//! The appliance in an unmodified QEMU, on a DIMM behind block data windows that a model in this process stands for: each
//! access to a register or an aperture stops the machine until the model has seen it.

use serde_json::{Value, json};
use tests::blk::beside::Beside;
use tests::blk::model::Lands;
use tests::blk::{Cut, Layout};
use tests::dimm::{Dimm, MIB};
use tests::machine::{ApplianceBuilder, Running};

fn fill(appliance: &mut Running, dev: &str, lba: u64, byte: u8) {
    appliance.ask(&format!("write {dev} {lba} --fill {byte}"));
}

/// The byte that a sector is full of.
#[track_caller]
fn byte_of(appliance: &mut Running, dev: &str, lba: u64) -> u8 {
    let sector = appliance.read(dev, lba);
    assert!(sector.iter().all(|byte| *byte == sector[0]), "{dev}: LBA {lba} is torn");
    sector[0]
}

#[test]
fn a_dimm_of_memory_and_one_behind_windows_are_served_side_by_side_and_survive_power_cuts() {
    let (memory, media) = (Dimm::blank(32 * MIB), Dimm::blank(17 * MIB));
    let mut beside = Beside::new(media.path(), 2);
    beside.memory = Some(memory.path().to_owned());
    let plug = beside.plug();
    let mut appliance = plug.into_machine(ApplianceBuilder::new()).boot();
    let regions = appliance.ask("list -R")["result"].clone();
    let types: Vec<_> = regions.as_array().unwrap().iter().map(|it| it["type"].clone()).collect();
    assert_eq!(types, ["pmem", "blk"]);
    assert_eq!((&regions[1]["iset_id"], &regions[1]["size"]), (&Value::Null, &json!(17 * MIB)));
    assert_eq!(appliance.ask("create-namespace -t pmem")["blockdev"], "pmem0s");
    let made = appliance.ask("create-namespace -t blk -l 512");
    assert_eq!(
        (&made["blockdev"], &made["btt"]["lanes"], &made["btt"]["nfree"]),
        (&json!("ndblk1.0s"), &json!(2), &json!(256))
    );
    for lba in 0..4 {
        fill(&mut appliance, "pmem0s", lba, 10);
        fill(&mut appliance, "ndblk1.0s", lba, 20);
    }
    appliance.power_off();

    // The same DIMM in another machine; the power goes before chosen stores of a write, and what the DIMM had buffered lands
    // or not.
    let mut appliance = plug.into_machine(ApplianceBuilder::new()).boot();
    assert_eq!(appliance.ask("status")["unclean_shutdowns_recovered"], 0);
    let (mut old, mut outcomes) = (20, [0; 2]);
    let mut cuts = 0;
    // A write takes 64 stores of data, then 3 lines of metadata: two halves of a flog record, and a map entry.
    for at in [0, 1, 40, 63, 64, 67, 68, 71, 72, 75, 78, 80, 83, 87] {
        for lands in [Lands::None, Lands::All, Lands::Seeded(at)] {
            let new = if old == 200 { 21 } else { old + 1 };
            plug.dimm.model().set_cut(Cut { before_store: at, lands });
            let (code, message) = appliance.refused(&format!("write ndblk1.0s 2 --fill {new}"));
            assert!(plug.dimm.model().is_dead(), "{code}: {message}");
            // Every few cuts, the machine's own power goes with the DIMM's.
            if cuts % 14 == 13 {
                appliance = plug.into_machine(ApplianceBuilder::new()).boot_after(appliance);
            } else {
                plug.dimm.model().power_on();
                appliance.ask("disable-namespace namespace1.0");
                appliance.ask("enable-namespace namespace1.0");
            }
            cuts += 1;
            let found = byte_of(&mut appliance, "ndblk1.0s", 2);
            assert!(found == old || found == new, "a cut before store {at}: {found} is neither {old} nor {new}");
            outcomes[usize::from(found == new)] += 1;
            old = found;
        }
        assert_eq!(byte_of(&mut appliance, "ndblk1.0s", 1), 20);
    }
    println!("power cuts: {cuts}, the old sector after {}, the new one after {}", outcomes[0], outcomes[1]);
    assert!(outcomes[0] > 0 && outcomes[1] > 0);
    for (dev, namespace, byte) in [("pmem0s", "namespace0.0", 10), ("ndblk1.0s", "namespace1.0", 20)] {
        assert_eq!(appliance.ask(&format!("check-namespace {namespace}"))["findings"], json!([]));
        assert_eq!(byte_of(&mut appliance, dev, 3), byte);
    }
    assert_eq!(plug.dimm.model().strays(), 0);
    appliance.power_off();
}

#[test]
fn four_cpus_on_fewer_windows_tear_nothing() {
    for windows in [1, 2] {
        let media = Dimm::blank(17 * MIB);
        let mut beside = Beside::new(media.path(), windows);
        // Fast, and two CPUs in one aperture would mix their sectors up.
        beside.hybrid = true;
        let plug = beside.plug();
        let mut appliance = plug.into_machine(ApplianceBuilder::new().cpus(4)).boot();
        let made = appliance.ask("create-namespace -t blk -l 512");
        assert_eq!(made["btt"]["lanes"], windows);
        let bench = appliance.ask("bench ndblk0.0s --seconds 2 --run 3 --mix 60 --verify");
        let verify = &bench["verify"];
        let broken = ["torn", "misplaced", "unreadable", "foreign"].map(|kind| verify[kind].as_u64().unwrap());
        assert_eq!((broken, &bench["errors"]), ([0; 4], &json!(0)), "{bench}");
        assert!(verify["good"].as_u64() > Some(0), "{bench}");
        println!("{windows} windows, 4 CPUs, apertures in memory: {} operations a second", bench["ops_per_second"]);
        assert_eq!(appliance.ask("check-namespace namespace0.0")["findings"], json!([]));
        assert_eq!(plug.dimm.model().strays(), 0);
        appliance.power_off();
    }
}

#[test]
fn interleaved_and_pending_windows_work_in_a_machine_too() {
    let media = Dimm::blank(17 * MIB);
    let mut beside = Beside::new(media.path(), 2);
    beside.layout = Layout { buffered: true, ..Layout::interleaved(2, beside.layout.control_base, 2, 17 * MIB) };
    let plug = beside.plug();
    plug.dimm.model().faults.pending_polls = 2;
    let mut appliance = plug.into_machine(ApplianceBuilder::new()).boot();
    appliance.ask("create-namespace -t blk -l 4096");
    fill(&mut appliance, "ndblk0.0s", 7, 70);
    assert_eq!(byte_of(&mut appliance, "ndblk0.0s", 7), 70);
    assert_eq!(plug.dimm.model().strays(), 0);
    appliance.power_off();
}
