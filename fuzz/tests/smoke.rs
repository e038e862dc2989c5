//! Each target on its corpus and on a bounded number of seeded mutations of it.

use fuzz::mutate::Mutator;
use fuzz::{TARGETS, corpus, target};

/// The seed of all mutations here. A campaign (`fuzz/run.sh`) goes on where this ends.
const SEED: u64 = 0;

fn smoke(name: &str) {
    let target = target(name).expect("a target");
    let inputs = corpus::inputs(target);
    assert!(inputs.len() > 3, "there is a corpus");
    for (name, bytes) in &inputs {
        eprintln!("{name}");
        (target.run)(bytes);
    }
    let inputs: Vec<Vec<u8>> = inputs.into_iter().map(|(_, bytes)| bytes).collect();
    let mut mutator = Mutator::new(&inputs, target.bytes_max, SEED);
    for number in 0..target.smoke {
        let input = mutator.next_input();
        // Shown when the test fails.
        if number % 1000 == 0 {
            eprintln!("mutation {number}");
        }
        (target.run)(&input);
    }
}

macro_rules! smoke {
    ($($test:ident $name:literal)*) => {
        $(#[test]
        fn $test() {
            smoke($name);
        })*

        #[test]
        fn every_target_has_its_test() {
            let tested = [$($name),*];
            assert_eq!(TARGETS.map(|target| target.name), tested);
        }
    };
}

smoke! {
    an_nfit_may_hold_anything "nfit"
    other_tables_may_hold_anything "acpi"
    a_boot_loader_may_leave_anything "loader"
    a_label_area_may_hold_anything "labels"
    a_medium_may_hold_anything "medium"
    a_driver_may_do_anything "queue"
    a_cxl_device_may_hold_anything "cxl"
    a_virtio_device_may_do_anything "virtio"
    a_neighbour_may_send_anything "frames"
    a_client_may_send_anything "http"
    a_bridge_may_say_anything "control"
    a_host_may_send_anything "nvmf"
    a_person_may_type_anything "admin"
    a_configuration_may_say_anything "config"
}
