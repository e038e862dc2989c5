//! untorn: brings the machine up, step by step, and hands it to the node.
#![no_std]
#![no_main]

extern crate alloc;

mod console;
mod log;
mod memory;
mod panic;

use bootloader_api::BootInfo;
use drivers::phys::*;
use service::link::ByteLink;

bootloader_api::entry_point!(start);

fn start(boot_info: &'static mut BootInfo) -> ! {
    console::init();
    log!("untorn {}", env!("CARGO_PKG_VERSION"));
    let t = memory::init(boot_info);
    log!("{t:?}");
    log!("{:?}", memory::space().map(PhysAddr(0xfee0_0000), 4096, Attribute::Uncached));
    log!("{:?}", memory::space().map(PhysAddr(0xfee0_0000), 4096, Attribute::WriteBack));
    log!("{:?}", memory::space().map(PhysAddr(0x1_0000_0000), 1 << 31, Attribute::WriteBack));
    let mut console = console::Console;
    console.send(b"untorn> ");
    loop {
        if let Some(byte) = console.receive() {
            console.send(&[byte]);
        }
    }
}
