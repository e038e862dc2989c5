//! Links the image: the host's target and linker, none of its start-up code or libraries (boot/src/lib.rs says why).

fn main() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../boot/linker.ld");
    println!("cargo::rerun-if-changed={script}");
    let arguments = [
        &format!("-T{script}"),
        "-nostartfiles",
        "-nostdlib",
        "-static",
        "-no-pie",
        "-Wl,-z,max-page-size=4096",
        "-Wl,--no-dynamic-linker",
        "-Wl,--build-id=none",
    ];
    for argument in arguments {
        println!("cargo::rustc-link-arg-bin=untorn={argument}");
    }
}
