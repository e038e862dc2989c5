//! A long command on a running appliance: others look meanwhile, and use other disks, and it ends with who asked for it.

use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;

use tests::console::Console;
use tests::dimm::{Dimm, MIB};
use tests::place::eventually;
use tests::workspace;

/// Whether the appliance carries out a command that is not done.
fn is_busy(console: &Console) -> bool {
    let stats = console.ask("stats");
    assert!(stats.status.success(), "{stats:?}");
    sleep(Duration::from_millis(300));
    console.ask("stats").stdout != stats.stdout
}

#[test]
fn a_long_command_holds_up_nobody_who_looks_and_ends_with_who_asked_for_it() {
    workspace::build();
    let _turn = workspace::machine_turn();
    let [dimm, other] = [64 * MIB; 2].map(Dimm::blank);
    let [option, file] = other.option();
    let mut console = Console::start(&dimm, &[&option, &file]);
    console.waits_for("untorn> ");

    for region in ["region0", "region1"] {
        let made = console.ask(&format!("create-namespace -r {region}"));
        assert!(made.status.success(), "{made:?}");
    }

    // A program's.
    let mut bench =
        console.untornctl("admin", &["bench pmem0s -f --seconds 250"]).stdout(Stdio::null()).spawn().unwrap();
    eventually("the load runs", || is_busy(&console));
    for line in ["status", "list -vvv", "health", "nfit"] {
        let looked = console.ask(line);
        assert!(looked.status.success() && !looked.stdout.is_empty(), "{line}: {looked:?}");
    }
    let wrote = console.ask("write pmem1s 0 --fill 7");
    assert!(wrote.status.success(), "{wrote:?}");
    assert!(bench.try_wait().unwrap().is_none(), "it still runs");
    bench.kill().unwrap();
    bench.wait().unwrap();
    // Its client has gone: the next command does not wait for 250 s.
    let wrote = console.ask("write pmem0s 0 --fill 7");
    assert!(wrote.status.success(), "{wrote:?}");

    // A person's.
    console.type_in(b"bench pmem0s -f --seconds 250\r");
    eventually("the load runs", || is_busy(&console));
    assert!(console.ask("status").status.success());
    console.type_in(b"ver\x03");
    console.waits_for("ended before it was done");
    console.waits_for("untorn> ");
    assert!(!console.shown().contains("ver"), "typed ahead, and dropped");
    // What was typed before ^C is dropped, and the console goes on.
    console.type_in(b"version\r");
    console.waits_for("version\r\nuntorn ");
    console.type_in(b"poweroff\r");
    console.waits_for("powering off");
}
