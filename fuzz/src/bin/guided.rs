//! A target under LLVM's libFuzzer, which follows coverage: `UNTORN_TARGET` names it. `fuzz/run.sh` builds and runs it.
#![no_main]

use std::sync::OnceLock;

use fuzz::Target;
use libfuzzer_sys::fuzz_target;

static TARGET: OnceLock<&'static Target> = OnceLock::new();

fuzz_target!(|bytes: &[u8]| {
    let target = TARGET.get_or_init(|| {
        let name = std::env::var("UNTORN_TARGET").unwrap_or_default();
        fuzz::target(&name).unwrap_or_else(|| panic!("UNTORN_TARGET names no target: {name:?}"))
    });
    (target.run)(bytes);
});
