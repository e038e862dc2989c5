//! What compares before it writes: nothing comes between.

mod common;

use btt::bytes::Sectors;
use btt::{CpuIndex, ExternalLba};

use common::{made, open, read};

#[test]
fn what_is_read_alone_is_as_it_was_until_it_is_written() {
    const CPUS: u32 = 4;
    const TIMES: u64 = 100;
    let btt = &open(made(512), CPUS);
    let (lba, size) = (7, 512);
    std::thread::scope(|scope| {
        for cpu in 0..CPUS {
            scope.spawn(move || {
                for _ in 0..TIMES {
                    btt.alone(CpuIndex(cpu), |lane| {
                        let next = common::content(size, read(btt, cpu, lba).expect("no faults") + 1);
                        let source = Sectors::new(&next, btt.sector_size()).expect("a sector");
                        lane.write(ExternalLba(lba), 1, &source).expect("no faults");
                    });
                }
            });
        }
    });
    assert_eq!(read(btt, 0, lba), Ok(u64::from(CPUS) * TIMES), "no count is lost");
    common::assert_sound(btt.media());
}
