//! `run-qemu.sh` as people and scripts use it: its options, its streams, its statuses, and that nothing outlives it.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use host::export_words::ExportWords;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tests::dimm::{Dimm, MIB};
use tests::workspace;

struct Ran {
    status: i32,
    out: String,
    err: String,
}

fn run(command: &mut Command) -> Ran {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ran { status: output.status.code().unwrap_or(-1), out: text(&output.stdout), err: text(&output.stderr) }
}

/// `run-qemu.sh` with these words, as they are between blanks.
fn script(words: &str) -> Command {
    let mut command = workspace::command("./run-qemu.sh");
    command.args(words.split_whitespace());
    command
}

fn dry(words: &str) -> Ran {
    workspace::build();
    run(script("--dry-run").args(words.split_whitespace()))
}

/// A built appliance, and a turn with QEMU.
fn turn() -> fs::File {
    workspace::build();
    workspace::machine_turn()
}

#[test]
fn the_help_names_every_option_of_the_contract_and_needs_nothing_that_is_built() {
    workspace::build();
    let help = run(&mut script("--help"));
    assert_eq!((help.status, help.err.as_str()), (0, ""));
    for option in [
        "--nvdimm FILE[,size=S][,label=S][,unarmed]",
        "--virtio-pmem FILE[,size=S]",
        "--cxl FILE[,size=S][,label=S]",
        "--net NETDEV",
        "--no-nvdimm",
        "--cpus N",
        "--memory S",
        "--accel tcg|kvm",
        "--boot pvh|bios|uefi",
        "--append 'KEY=VALUE …'",
        "--exec 'CMD; CMD'",
        "--json",
        "--vhost-user SOCKET[,dev=DEV][,ram=FILE,size=S]",
        "--consumer-ram FILE,size=S",
        "--timeout S",
        "--qemu-arg ARG",
        "--no-build",
        "--dry-run",
        "--help",
    ] {
        assert!(help.out.lines().any(|line| line.trim_start().starts_with(option)), "{option}:\n{}", help.out);
    }
    let unbuilt = run(script("--help").env("CARGO_TARGET_DIR", "/nowhere/t").env("PATH", "/usr/bin:/bin"));
    assert_eq!((unbuilt.status, unbuilt.out, unbuilt.err.as_str()), (0, help.out, ""));
    // Arguments for QEMU are no options of ours.
    let passed = dry("--no-nvdimm --qemu-arg --help");
    assert!(passed.status == 0 && passed.out.ends_with(" --help\n"), "{}{}", passed.out, passed.err);
}

#[test]
fn a_wrong_word_is_a_usage_error() {
    workspace::build();
    let file = Dimm::blank(MIB);
    let there = file.path().display().to_string();
    for (words, said) in [
        ("--frobnicate", "--frobnicate"),
        ("frobnicate", "frobnicate"),
        ("--cpus", "--cpus"),
        ("--cpus 0", "--cpus"),
        ("--cpus 256", "256"),
        ("--cpus two", "two"),
        ("--memory 12Q", "12Q"),
        ("--memory 1", "--memory"),
        ("--memory 33000000", "multiple of 1M from 32M up"),
        ("--accel hax", "hax"),
        ("--boot floppy", "floppy"),
        ("--boot=", "[possible values: pvh, bios, uefi]"),
        ("--append a", "is not KEY=VALUE"),
        ("--append a='b'", "quotes"),
        ("--timeout soon", "soon"),
        ("--timeout -1", "-1"),
        ("--net", "--net"),
        ("--net user,id=mine", "the id is net0"),
        ("--net user,mac=1", "six bytes"),
        ("--net id=net0", "a kind of network"),
        ("--no-nvdimm --hold 1", "--vhost-user"),
        ("--json", "--exec"),
        ("--json=yes --exec status", "--json"),
        ("--exec mode", "`mode` is not for scripts"),
        ("--exec status --admin a.sock", "--admin"),
        ("--nvdimm /nowhere/x.img", "size="),
        ("--nvdimm x.img,size=100", "4096"),
        ("--nvdimm x.img,size=9999999T", "9999999T"),
        ("--nvdimm x.img,size=1M,label=4K", "128K"),
        ("--nvdimm x.img,size=128K,label=128K", "label"),
        ("--nvdimm x.img,size=1M,lable=128K", "lable=128K"),
        ("--nvdimm ,size=1M", "names no file"),
        ("--nvdimm /tmp", "it is a folder"),
        ("--nvdimm host,size=64M", "it is a folder"),
        ("--nvdimm /dev/zero,size=64M", "it is a character device"),
        (&format!("--nvdimm {there},size=2M"), "left as it is"),
        ("--no-nvdimm --nvdimm x.img,size=1M", "cannot be used with"),
        ("--vhost-user ,ram=r,size=1G", "names no socket"),
        ("--vhost-user s,ram=r", "both ram=FILE and size=S"),
        ("--vhost-user s,size=1000", "both ram=FILE and size=S"),
        ("--vhost-user s,ram=r,size=1025K", "multiple of 1M"),
        ("--vhost-user s,disk=d", "disk=d"),
        ("--vhost-user s,ram=r,size=1G --consumer-ram r,size=1G", "--consumer-ram"),
        ("--vhost-user s --consumer-ram r,size=1G --consumer-ram q,size=1G", "--consumer-ram"),
        ("--consumer-ram ram,size=1G", "--vhost-user"),
    ] {
        for more in [&["--no-build"][..], &["--dry-run"]] {
            let ran = run(script(words).args(more));
            assert_eq!((ran.status, ran.out.as_str()), (2, ""), "{words}: {}", ran.err);
            assert!(ran.err.contains(said), "{words}: {}", ran.err);
        }
    }
    for option in "--nvdimm --cpus --memory --exec --vhost-user --timeout --qemu-arg".split(' ') {
        let ran = run(script("--no-build").arg(option));
        assert!(ran.status == 2 && ran.err.contains(option), "{option} without a value: {} {}", ran.status, ran.err);
    }
}

#[test]
fn a_dry_run_prints_one_line_and_makes_nothing() {
    let file = workspace::folder("test-dimms").join("never made.img");
    workspace::build();
    let ran = run(script("--dry-run --nvdimm").arg(format!("{},size=1G,label=128K", file.display())));
    assert_eq!((ran.status, ran.err.as_str(), ran.out.lines().count()), (0, "", 1));
    assert!(ran.out.contains("'"), "a path with a blank is quoted: {}", ran.out);
    assert!(!file.exists());
    // Where there is no QEMU either, no cargo, no image and nothing of a plain run: untornctl alone knows the line.
    let target = PlainTarget::new();
    fs::remove_file(target.0.join("release/untorn")).unwrap();
    for word in ["--dry-run", "--dry-run --vhost-user=d.sock"] {
        let ran = run(script(word)
            .env("PATH", "/usr/bin:/bin")
            .env("QEMU", "/nowhere/qemu")
            .env("CARGO_HOME", "/nowhere/cargo")
            .env("CARGO_TARGET_DIR", &target.0));
        assert!(ran.status == 0 && ran.out.starts_with("/nowhere/qemu -nodefaults"), "{}{}", ran.out, ran.err);
    }
    assert_eq!(target.files(), ["release/untornctl"]);
    assert!(!target.ram().exists());
}

#[test]
fn without_a_build_no_cargo_is_needed_and_what_is_not_there_is_named() {
    let _turn = turn();
    let target = PlainTarget::new();
    let run_without_cargo = |words: &str| {
        let mut command = script("--no-build --timeout 100");
        command.args(words.split_whitespace()).env("CARGO_HOME", "/nowhere").env("CARGO_TARGET_DIR", &target.0);
        run(command.env("PATH", "/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"))
    };
    let ran = run_without_cargo("--no-nvdimm --exec version");
    assert!(ran.status == 0 && ran.out.contains("untorn"), "{}{}", ran.out, ran.err);
    assert!(!ran.err.contains("Finished") && !ran.err.contains("building"), "{}", ran.err);
    for program in ["untorn", "untornctl"] {
        fs::remove_file(target.0.join("release").join(program)).unwrap();
        let ran = run_without_cargo("--nvdimm never-made.img,size=1M");
        let named =
            ran.err.contains(&format!("release/{program} is not there")) && ran.err.contains("without --no-build");
        assert!(ran.status == 1 && named, "{}: {}", ran.status, ran.err);
    }
    assert!(!workspace::top().join("never-made.img").exists());
    let ran = run(script("--no-build --no-nvdimm --exec version").env("QEMU", "/nowhere/qemu"));
    assert!(ran.status == 2 && ran.err.contains("/nowhere/qemu"), "{}: {}", ran.status, ran.err);
}

#[test]
fn the_time_for_set_up_and_build_counts_and_building_is_told() {
    let target = PlainTarget::new();
    fs::remove_file(target.0.join("release/untornctl")).unwrap();
    let path = target.with_cargo("exec sleep 60");
    let start = Instant::now();
    let ran = run(script("--timeout 1.5 --exec version").env("PATH", path).env("CARGO_TARGET_DIR", &target.0));
    assert_eq!((ran.status, ran.out.as_str()), (124, ""), "{}", ran.err);
    assert!(ran.err.contains("building untornctl") && ran.err.contains("cargo build-untornctl"), "{}", ran.err);
    assert!(start.elapsed() < Duration::from_secs(30));
    let late = Command::new(workspace::target().join("release/untornctl"))
        .args(["qemu", "--no-nvdimm", "--timeout", "5", "--since", "1000", "--exec", "version"])
        .output()
        .unwrap();
    assert_eq!(late.status.code(), Some(124), "the time has passed before untornctl was there");
}

#[test]
fn a_slip_in_the_options_does_not_wait_for_the_image_and_a_failed_build_starts_nothing() {
    let target = PlainTarget::new();
    let built = |cargo: &str, words: &str| {
        let mut command = script(words);
        run(command.env("PATH", target.with_cargo(cargo)).env("CARGO_TARGET_DIR", &target.0))
    };
    // The last has an option without its value, which must not take one of ours.
    for words in ["--cpus zero", "--nvdimm /tmp", "--exec version --qemu-arg"] {
        // What cargo prints at the end, and where nothing is to be built nothing else, is not shown.
        let ran = built("echo '    Finished `release` profile' >&2", words);
        assert_eq!((ran.status, ran.out.as_str()), (2, ""), "{words}: {}", ran.err);
        assert!(ran.err.contains("cargo build-untornctl") && !ran.err.contains("build-image"), "{words}: {}", ran.err);
        assert!(!ran.err.contains("Finished"), "{words}: {}", ran.err);
    }
    let ran = built("case $* in *image*) echo error: wrong >&2 && exit 101 ;; esac", "--exec version");
    assert!(
        ran.status == 1 && ran.err.ends_with("error: wrong\nrun-qemu.sh: building image failed: see above\n"),
        "{}",
        ran.err
    );
    assert!(!target.0.join("nvdimm0.img").exists());
}

#[test]
fn an_iso_is_made_without_a_build_of_the_uefi_stub() {
    let target = PlainTarget::new();
    for (kind, stub) in [("iso", false), ("disk", true), ("efi", true)] {
        let mut command = workspace::command("./make-image.sh");
        // Nothing can be made there.
        command.args([kind, "/nowhere/file"]).env("PATH", target.with_cargo("")).env("CARGO_TARGET_DIR", &target.0);
        let ran = run(&mut command);
        assert!(ran.status == 1 && ran.err.contains("/nowhere/file"), "{kind}: {}: {}", ran.status, ran.err);
        assert!(ran.err.contains("cargo build-image") && ran.err.contains("build-stub") == stub, "{kind}: {}", ran.err);
    }
}

#[test]
fn the_machine_is_as_the_contract_has_it() {
    for (words, there, not_there) in [
        (
            "--no-nvdimm",
            vec!["-machine q35 ", "-smp 2 ", "-m 256M ", "-accel tcg ", "-cpu max "],
            vec!["nvdimm", "memory-backend", "pci", "virtio"],
        ),
        (
            "--no-nvdimm --admin-port",
            vec![
                "-chardev socket,id=untorn-admin,fd=",
                "virtio-serial-pci,id=untorn-admin-ports,max_ports=2,disable-legacy=on,addr=1.0 ",
                "virtserialport,bus=untorn-admin-ports.0,nr=1,chardev=untorn-admin,name=org.untorn.admin ",
            ],
            vec!["ivshmem", "-serial chardev", "memory-backend"],
        ),
        // A second processor is left possible, or TCG would leave out the memory barriers.
        ("--no-nvdimm --cpus 1", vec!["-smp 1,maxcpus=2 "], vec![]),
        ("--no-nvdimm --cpus=4 --memory=1G --accel=kvm", vec!["-smp 4 ", "-m 1024M ", "-accel kvm "], vec![]),
        (
            "--nvdimm a.img,size=64M,label=128K,unarmed --nvdimm b.img,size=1G",
            vec![
                "-machine q35,nvdimm=on ",
                "-m 256M,slots=2,maxmem=3328M ",
                "-cpu max ",
                "share=on,mem-path=a.img,size=67108864 ",
                "memdev=nvdimm0-file,label-size=131072,unarmed=on ",
                "memdev=nvdimm1-file ",
            ],
            vec!["pci", "virtio", "phys-bits"],
        ),
        (
            "--virtio-pmem a.img,size=64M --virtio-pmem b.img,size=2M",
            vec![
                "-machine q35 ",
                "-m 256M,maxmem=2304M ",
                "memory-backend-file,id=pmem0-file,share=on,mem-path=a.img,size=67108864 ",
                "virtio-pmem-pci,id=pmem0,memdev=pmem0-file,addr=1.0 ",
                "virtio-pmem-pci,id=pmem1,memdev=pmem1-file,addr=2.0 ",
            ],
            vec!["nvdimm", "slots=", "multifunction"],
        ),
        (
            "--nvdimm a.img,size=64M --virtio-pmem b.img,size=64M --vhost-user s,ram=r,size=1G",
            vec![
                ",slots=1,maxmem=2304M ",
                "vectors=256,addr=1.0 ",
                "memdev=pmem0-file,addr=2.0 ",
                "max_ports=2,disable-legacy=on,addr=3.0 ",
            ],
            vec!["multifunction"],
        ),
        (
            "--cxl a.img,size=512M,label=1M --virtio-pmem b.img,size=2M",
            vec![
                "-machine q35,cxl=on,cxl-fmw.0.targets.0=cxl0,cxl-fmw.0.size=536870912 ",
                "memory-backend-file,id=cxl0-file,share=on,mem-path=a.img,size=536870912 ",
                "memory-backend-file,id=cxl0-labels,share=on,mem-path=a.img.lsa,size=1048576 ",
                "pxb-cxl,id=cxl0,bus=pcie.0,bus_nr=192,addr=2.0 ",
                "cxl-rp,id=cxl0-port0,bus=cxl0,port=0,chassis=250,slot=0 ",
                "cxl-rp,id=cxl0-port1,bus=cxl0,port=1,chassis=250,slot=1 ",
                "cxl-type3,id=cxl0-memory,bus=cxl0-port0,memdev=cxl0-file,lsa=cxl0-labels,sn=0x756e746f726e ",
                "virtio-pmem-pci,id=pmem0,memdev=pmem0-file,addr=1.0,bus=pcie.0 ",
            ],
            vec!["nvdimm", "phys-bits"],
        ),
        ("--cxl a.img,size=256M", vec!["mem-path=a.img.lsa,size=131072 ", "-m 256M "], vec!["nvdimm", "virtio"]),
        ("--nvdimm a.img,size=1536G", vec!["-cpu max,phys-bits=42 ", "maxmem=1574144M "], vec![]),
        ("--no-nvdimm --qemu-arg -S --qemu-arg -d", vec![" -S -d"], vec![]),
        // A consumer's RAM is one device, however many disks it has; the slots from 04 on are left to others.
        (
            "--no-nvdimm --vhost-user a,dev=pmem0s,ram=r,size=1G --vhost-user b,ram=r,size=1G --vhost-user c",
            vec![
                "-chardev socket,id=untorn-control,fd=",
                "-serial stdio -device isa-debug-exit",
                "-serial chardev:untorn-control ",
                "ivshmem-doorbell,chardev=untorn-ram0,vectors=256,addr=1.0 ",
                "ivshmem-doorbell,chardev=untorn-ram1,vectors=256,addr=2.0 ",
                "max_ports=2,disable-legacy=on,addr=3.0 ",
                "-cpu max ",
            ],
            vec!["untorn-ram2", "memory-backend"],
        ),
        (
            "--cxl a.img,size=256M --admin-port",
            vec!["max_ports=2,disable-legacy=on,addr=1.0,bus=pcie.0 ", "bus_nr=192,addr=2.0 "],
            vec!["multifunction"],
        ),
        ("--no-nvdimm --vhost-user a,ram=r,size=512G", vec!["-cpu max,phys-bits=42 "], vec![]),
    ] {
        let line = dry(words).out;
        for word in there {
            assert!(line.replace('\n', " ").contains(word), "{words}: {word} is missing:\n{line}");
        }
        for word in not_there {
            assert!(!line.contains(word), "{words}: {word} is too much:\n{line}");
        }
    }
}

#[test]
fn a_script_gets_replies_on_stdout_and_the_first_failure_as_its_status() {
    let _turn = turn();
    let dimm = Dimm::blank(32 * MIB);
    let nvdimm = dimm.path().display().to_string();
    let exec = |commands: &str, json: &[&str]| {
        let mut script = script("--no-build --timeout 100 --nvdimm");
        run(script.arg(&nvdimm).args(json).arg("--exec").arg(commands))
    };
    let ran = exec("create-namespace; write pmem0s 3 --fill 0x5a; read pmem0s 3", &["--json"]);
    assert_eq!(ran.status, 0, "{}", ran.err);
    let replies: Vec<serde_json::Value> = ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(replies.len() == 3 && replies.iter().all(|reply| reply["ok"] == true), "{}", ran.out);
    assert!(ran.err.contains("ready in"), "the boot goes to stderr: {}", ran.err);

    let ran = exec("read pmem9s 0; frobnicate; read pmem0s 3", &[]);
    assert_eq!(ran.status, 3, "{}", ran.err);
    assert!(
        ran.out.contains("5a 5a 5a 5a") && !ran.out.contains("ready in") && !ran.out.contains('\u{1e}'),
        "{}",
        ran.out
    );
    assert_eq!(exec("", &[]).out, "");
}

#[test]
fn an_nvdimm_is_made_sparse_where_it_is_absent_and_belongs_to_one_run_at_a_time() {
    let turn = turn();
    let dimm = Dimm::blank(0);
    fs::remove_file(dimm.path()).unwrap();
    let nvdimm = format!("{},size=3G", dimm.path().display());
    let mut first = spawn(script("--no-build --timeout 100 --nvdimm").arg(&nvdimm));
    wait_for_prompt(&mut first);
    let made = fs::metadata(dimm.path()).unwrap();
    use std::os::unix::fs::MetadataExt;
    // At boot two lines of a blank namespace are probed: a file system may store 2 MiB for each.
    let stored = made.blocks() * 512;
    assert!(made.len() == 3 << 30 && stored < 5 * MIB, "{} bytes, {stored} of them stored", made.len());

    let second = run(script("--no-build --timeout 100 --exec version --nvdimm").arg(&nvdimm));
    assert!(second.status == 1 && second.err.contains("in use"), "{}: {}", second.status, second.err);
    power_off(first);
    drop(turn);
}

#[test]
fn a_file_that_fails_under_the_machine_is_named_when_that_ends_by_sigbus() {
    let _turn = turn();
    let dimm = Dimm::blank(32 * MIB);
    let mut plain = spawn(script("--no-build --timeout 100 --nvdimm").arg(dimm.path()));
    wait_for_prompt(&mut plain);
    fs::File::options().write(true).open(dimm.path()).unwrap().set_len(4096).unwrap();
    plain.stdin.take().unwrap().write_all(b"create-namespace -f\n").unwrap();
    let output = plain.wait_with_output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(5), "{err}");
    let told = format!("{} was cut short: it has 4096 bytes, not 33554432", dimm.path().display());
    assert!(err.contains("SIGBUS") && err.contains(&told), "{err}");
}

#[test]
fn qemu_ends_with_the_script_however_that_ends() {
    let _turn = turn();
    // The script killed; the script asked to end; its time being up.
    let signals = [Some(Signal::SIGKILL), Some(Signal::SIGTERM), Some(Signal::SIGINT), None];
    for (signal, timeout) in signals.into_iter().zip(["100", "100", "100", "8"]) {
        let mut run = spawn(&mut script(&format!("--no-build --no-nvdimm --timeout {timeout}")));
        wait_for_prompt(&mut run);
        let qemu = children(run.id());
        assert_eq!(qemu.len(), 1, "QEMU is the script's only child");
        if let Some(signal) = signal {
            kill(Pid::from_raw(i32::try_from(run.id()).unwrap()), signal).unwrap();
        }
        let status = run.wait().unwrap();
        assert!(timeout == "100" || status.code() == Some(124), "{status}");
        eventually("QEMU ends", || !Path::new(&format!("/proc/{}", qemu[0])).exists());
    }
}

#[test]
fn a_timeout_strikes_a_script_in_the_middle_of_a_command() {
    let _turn = turn();
    let dimm = Dimm::blank(32 * MIB);
    let start = Instant::now();
    let ran = run(script("--no-build --timeout 9.5 --nvdimm")
        .arg(dimm.path())
        .arg("--exec")
        .arg("create-namespace; bench pmem0s --seconds 60"));
    assert_eq!(ran.status, 124, "{}", ran.err);
    assert!(start.elapsed() < Duration::from_secs(40));
    assert_eq!(
        ran.out.lines().filter(|line| line.contains("namespace0.0")).count(),
        1,
        "what was replied stands: {}",
        ran.out
    );
}

#[test]
fn a_plain_run_formats_the_blank_nvdimm_that_it_makes_and_only_that_once() {
    let _turn = turn();
    // A target directory of its own, for the NVDIMM under the real one belongs to the user.
    let target = PlainTarget::new();
    let plain = |words: &str| {
        let mut command = script(words);
        command.arg("--no-build").env("CARGO_TARGET_DIR", &target.0);
        command
    };
    // A script is asked before anything is formatted.
    let ran = run(&mut plain("--timeout 100 --json --exec list"));
    assert!(ran.status == 0 && ran.out.contains(r#""mode":"raw""#), "{}{}", ran.out, ran.err);
    assert!(ran.err.contains("made "), "{}", ran.err);

    let mut first = spawn(&mut plain("--timeout 100"));
    wait_for_prompt(&mut first);
    let (out, err) = talk(first, "write pmem0s 0 --fill 0x77\npoweroff\n");
    assert!(err.contains("formatted"), "{out}{err}");

    let mut second = spawn(&mut plain("--timeout 100"));
    wait_for_prompt(&mut second);
    assert!(target.ram().exists(), "the consumer's RAM has a name of this folder's own");
    // untornctl knows where to ask: cargo would mark the folder.
    fs::write(target.0.join("CACHEDIR.TAG"), "").unwrap();
    let asked = run(Command::new(target.0.join("release/untornctl")).args(["admin", "version"]));
    assert!(asked.status == 0 && asked.out.contains("untorn"), "{}{}", asked.out, asked.err);
    let (out, err) = talk(second, "read pmem0s 0 # what was written\n# nothing\npoweroff\n");
    assert!(err.contains(&format!("mem-path={},size=512M", target.ram().display())), "{err}");
    assert!(err.contains("release/untornctl admin --socket") && !out.contains("error"), "{out}{err}");
    assert!(out.contains("77 77 77 77") && !err.contains("formatted"), "{out}{err}");

    // Something else's data are left alone.
    let image = target.0.join("nvdimm0.img");
    let mut bytes = vec![0; 128 << 20];
    bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
    fs::write(&image, &bytes).unwrap();
    let mut third = spawn(&mut plain("--timeout 100"));
    wait_for_prompt(&mut third);
    let (out, err) = talk(third, "list\npoweroff\n");
    assert!(out.contains("raw") && !err.contains("formatted"), "{out}{err}");
    assert!(fs::read(&image).unwrap() == bytes, "the partition table is as it was");
}

#[test]
fn open_file_descriptors_reach_qemu() {
    let _turn = turn();
    let with = |opened: &str| {
        let line = format!(
            "exec ./run-qemu.sh --no-build --no-nvdimm --timeout 100 --exec version --qemu-arg -add-fd --qemu-arg fd=9,set=1 {opened}"
        );
        run(workspace::command("bash").args(["-c", &line]))
    };
    let ran = with("9</dev/null");
    assert_eq!(ran.status, 0, "{}", ran.err);
    assert_ne!(with("9<&-").status, 0, "QEMU sees that it is not open");
}

/// A target directory with a built appliance, removed when it is dropped, as is the RAM file of its disk's consumer.
struct PlainTarget(PathBuf);

impl PlainTarget {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        workspace::build();
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let target = workspace::folder(&format!("test-plain-{}-{number}", std::process::id()));
        fs::create_dir_all(target.join("release")).unwrap();
        for program in ["untorn", "untornctl"] {
            // No copy: a file that was just written cannot be run while another thread's child has it open.
            let built = workspace::target().join("release").join(program);
            fs::hard_link(built, target.join("release").join(program)).unwrap();
        }
        Self(target)
    }

    /// A PATH on which cargo records how it was called, and runs `script`.
    fn with_cargo(&self, script: &str) -> String {
        let bin = self.0.join("bin");
        fs::create_dir_all(&bin).unwrap();
        fs::write(bin.join("cargo"), format!("#!/bin/sh\necho \"cargo $*\"\n{script}\n")).unwrap();
        fs::set_permissions(bin.join("cargo"), fs::Permissions::from_mode(0o755)).unwrap();
        format!("{}:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin", bin.display())
    }

    /// The files in it.
    fn files(&self) -> Vec<String> {
        let (mut files, mut folders) = (Vec::new(), vec![self.0.clone()]);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => folders.push(path),
                    false => files.push(path.strip_prefix(&self.0).unwrap().display().to_string()),
                }
            }
        }
        files
    }

    /// The RAM file of the consumer of its disk.
    fn ram(&self) -> PathBuf {
        ExportWords::parse(&self.0.join("vhost.sock").display().to_string()).unwrap().spec().ram
    }
}

impl Drop for PlainTarget {
    fn drop(&mut self) {
        // Someone else cleaned up: as good.
        let _ = (fs::remove_dir_all(&self.0), fs::remove_file(self.ram()));
    }
}

fn spawn(command: &mut Command) -> Child {
    host::appliance::die_with_parent(command);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Reads the console up to its first prompt.
fn wait_for_prompt(run: &mut Child) {
    let mut seen = Vec::new();
    let out = run.stdout.as_mut().unwrap();
    while !seen.ends_with(b"untorn> ") {
        let mut byte = [0];
        if out.read(&mut byte).unwrap() == 0 {
            let mut err = String::new();
            run.stderr.as_mut().unwrap().read_to_string(&mut err).unwrap();
            panic!("the console ended: {}{err}", String::from_utf8_lossy(&seen));
        }
        seen.extend(byte);
    }
}

/// Types at a console that ends by it, and returns what comes on both streams.
fn talk(mut run: Child, typed: &str) -> (String, String) {
    run.stdin.take().unwrap().write_all(typed.as_bytes()).unwrap();
    let output = run.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", output.status);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

fn power_off(run: Child) {
    talk(run, "poweroff\n");
}

fn children(pid: u32) -> Vec<u32> {
    let listed = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    listed.split_whitespace().map(|child| child.parse().unwrap()).collect()
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(5), "{what}: not within 5 s");
        sleep(Duration::from_millis(10));
    }
}
