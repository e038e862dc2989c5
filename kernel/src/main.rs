//! untorn: brings the machine up, step by step, and hands it to the node.
#![no_std]
#![no_main]

mod console;
mod log;
mod memory;
mod panic;

use boot as _;
use bootloader_api::BootInfo;
use service::link::ByteLink;

bootloader_api::entry_point!(start);

fn start(boot_info: &'static mut BootInfo) -> ! {
    console::init();
    log!("untorn {}", env!("CARGO_PKG_VERSION"));
    log!("rsdp {:x?}", boot_info.rsdp_addr);
    for region in boot_info.memory_regions.iter() {
        log!("{:#x?} {:#x} {:?}", region.start, region.end, region.kind);
    }
    let mut console = console::Console;
    console.send(b"untorn> ");
    loop {
        if let Some(byte) = console.receive() {
            console.send(&[byte]);
        }
    }
}
