//! Links the UEFI stub: position-independent, with none of the host's start-up code or libraries.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let arguments = [
        "-nostartfiles",
        "-nostdlib",
        "-pie",
        "-Wl,-z,max-page-size=4096",
        "-Wl,-z,separate-code",
        "-Wl,-z,text",
        "-Wl,--no-dynamic-linker",
        "-Wl,--build-id=none",
    ];
    for argument in arguments {
        println!("cargo::rustc-link-arg-bin=untorn-stub={argument}");
    }
}
