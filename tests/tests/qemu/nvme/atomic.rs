//! Linux is told that one sector never tears, and lets programs rely on it.

use std::path::Path;

use tests::linux::Consumer;
use tests::place::{Place, free_port};
use tests::workspace;

use super::{Target, controller};

/// The first Linux with `RWF_ATOMIC`.
const FIRST: [u32; 2] = [6, 11];

/// What the program prints for a flag that Linux does not have (EOPNOTSUPP), and for a write that it cannot do in one piece
/// (EINVAL).
const UNKNOWN_FLAG: &str = "error 95";
const REFUSED: &str = "error 22";

#[test]
fn a_program_writes_one_sector_with_rwf_atomic_and_never_two_if_the_hosts_kernel_can() {
    let (place, turn) = (Place::new(), workspace::machine_turn());
    let targets = [512, 4096].map(|sector| {
        let target = Target::start_with(&place.at(&sector.to_string()), free_port(), sector, &["--allow", "any"]);
        (sector, target)
    });
    let program = Path::new(env!("CARGO_BIN_EXE_atomic-write"));
    let mut linux = Consumer::boot_on_network_with(program, "user", 2, &place.at("ram"), 512);
    let release = linux.run("uname -r");
    let mut numbers = release.split(['.', '-']).map(|number| number.parse::<u32>().expect("a number"));
    let can = [(); 2].map(|()| numbers.next().expect("a release has two numbers")) >= FIRST;
    if !can {
        // Debian 12's is one of these.
        eprintln!("Linux {release} has no RWF_ATOMIC: it was only seen that it refuses the flag");
    }
    for (sector, target) in &targets {
        linux.run(&format!("nvme connect {} -n {}", target.address(), target.nqn));
        let device = format!("/dev/{}n1", controller(&mut linux, &target.nqn));
        let write = |linux: &mut Consumer, at: u32, sectors: u32, fill: char| {
            let (offset, bytes) = (at * sector, sectors * sector);
            linux.run(&format!("program {device} {offset} {bytes} {}", u32::from(fill)))
        };
        if !can {
            assert_eq!(write(&mut linux, 7, 1, 'A'), format!("0 0 {UNKNOWN_FLAG}"));
            continue;
        }
        let units = format!("{sector} {sector}");
        assert_eq!(write(&mut linux, 7, 1, 'A'), format!("{units} wrote {sector}"));
        // From 6 on two sectors are aligned to their size, as an atomic write must be.
        for at in [6, 7] {
            assert_eq!(write(&mut linux, at, 2, 'B'), format!("{units} {REFUSED}"), "from sector {at} on");
        }
        for (at, byte) in [(6, "\\0"), (7, "A"), (8, "\\0")] {
            let read = format!("dd if={device} bs={sector} count=1 skip={at} iflag=direct 2>/dev/null");
            assert_eq!(linux.run(&format!("{read} | tr -cd '{byte}' | wc -c")), sector.to_string(), "sector {at}");
        }
    }
    drop(turn);
}
