//! The configuration in front of a real node's BTT, with any content.
//!
//! | bytes | |
//! |---|---|
//! | 0 | bits: 0 mend the checksums, 1 a network interface, 2 the second copy has the same bytes as the first |
//! | 1 to 9 | where 8 bytes of the page are other ones at the end |
//! | behind them | lines of settings |

use btt::CpuIndex;
use fake_machine::{BASE, Dimm, Hardware, nfit_of};
use kernel::node::network::NetworkDevice;
use net::mock::FakeNic;
use net::nic::Mac;
use service::config::Settings;
use service::config::record::{HEADER_BYTES, Sequence, encode};

use crate::choices::Choices;
use crate::machine::blank_memory;

/// The page's halves.
const HALF: usize = 2048;

pub(super) fn run(bytes: &[u8]) {
    let mut choices = Choices(bytes);
    let bits = choices.byte();
    let (at, odd) = (choices.u16(), choices.array::<6>());
    let memory = blank_memory();
    let hardware = || {
        let dimms = [Dimm { base: BASE, memory, flags: 0, labels: None }];
        let network = (0..u8::from(bits & 2 != 0)).map(|number| {
            let nic = FakeNic::new(Mac([0x52, 0x54, 0, 0x75, 0x6e, number]));
            NetworkDevice { nic: Box::new(nic), cpu: CpuIndex(0) }
        });
        Hardware { nfits: vec![nfit_of(&dimms)], network: network.collect(), ..Hardware::default() }
            .memory(BASE, memory)
    };
    hardware().boot().done("create-namespace -l 512");
    // What is KEY=VALUE of it is sound; the rest goes to the medium as it is.
    let mut settings = Settings::default();
    for line in String::from_utf8_lossy(choices.0).lines() {
        if let Some((key, value)) = line.split_once('=') {
            let _ = settings.set(key, value);
        }
    }
    let (header, text) = encode(Sequence(u64::from(at)), &settings);
    let text = if bits & 1 != 0 { text } else { choices.0.to_vec() };
    let text = &text[..text.len().min(HALF - HEADER_BYTES)];
    for half in 0..=usize::from(bits & 4 != 0) {
        memory.put(half * HALF, &header);
        memory.put(half * HALF + HEADER_BYTES, text);
    }
    if bits & 1 == 0 {
        memory.put(usize::from(at) % (2 * HALF - odd.len()), &odd);
    }
    let mut node = hardware().boot();
    node.ask("config");
    node.ask("health");
    let before = node.done("config")["keys"].clone();
    // Whatever that was: it can be saved, and is the same after that; and it can be taken away.
    if node.ask("config save -f")["ok"] == true {
        let mut again = hardware().boot();
        let after = again.done("config")["keys"].clone();
        for (before, after) in before.as_array().expect("a list").iter().zip(after.as_array().expect("a list")) {
            assert_eq!(before["key"], after["key"]);
            // A save notes what names stand for.
            assert!(before["key"] == "names" || before["value"] == after["value"], "{before} {after}");
        }
        again.done("config reset");
        again.done("config save -f");
        assert_eq!(hardware().boot().done("config")["unsaved"], false);
    }
    assert_eq!(node.done("check-namespace namespace0.0")["ok"], true);
    node.done("version");
}
