//! A machine for QEMU that has the model, and memory if wanted, in one table.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use bench::cpus;
use fake_machine::nfit::{Control, Kind, Mapping, Range, Table};
use memmap2::MmapMut;

use super::layout::Layout;
use super::model::Model;
use super::proxy::{BAR_BASE, Served};
use crate::machine::ApplianceBuilder;
use crate::workspace;

/// Where memory is plugged in.
const MEMORY_BASE: u64 = 0x1_4000_0000;
/// Where apertures are that are shared memory.
const APERTURES_BASE: u64 = 0x1_8000_0000;
/// How much of that there is, at least: what QEMU plugs in is larger than a page.
const APERTURES_BYTES: u64 = 2 << 20;

/// QEMU as such a machine needs it: a program that finds what QEMU has to load under `$CARGO_TARGET_DIR`.
///
/// # Panics
/// When that does not build.
#[must_use]
fn emulator() -> PathBuf {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let what = ["--package", "tests", "--example", "without_kvm"];
        workspace::run(workspace::command(cargo).args(["build", "--quiet", "--locked"]).args(what));
    });
    workspace::top().join("tests/qemu-one-thread.sh")
}

/// How a DIMM behind windows is to be.
#[derive(Clone, Debug)]
pub struct Beside {
    /// Where its parts are.
    pub layout: Layout,
    /// Its media: a file as long as the capacity.
    pub media: PathBuf,
    /// A file of persistent memory beside it.
    pub memory: Option<PathBuf>,
    /// Whether its apertures are memory that QEMU has, too.
    pub hybrid: bool,
}

/// Files that go when this does.
#[derive(Debug)]
pub struct Files(Vec<PathBuf>);

impl Drop for Files {
    fn drop(&mut self) {
        for file in &self.0 {
            // Someone else cleaned up: as good.
            let _ = fs::remove_file(file);
        }
    }
}

/// A DIMM that is ready to be plugged in.
#[derive(Debug)]
pub struct Plug {
    /// The DIMM.
    pub dimm: Served,
    /// Arguments for QEMU, but for the device itself.
    arguments: Vec<String>,
    /// The CPU that its thread and QEMU share.
    cpu: usize,
    /// Needed as long as QEMU runs.
    pub files: Files,
}

impl Beside {
    /// A DIMM behind so many windows, as large as its media, with no memory beside it.
    ///
    /// # Panics
    /// When there are no such media.
    #[must_use]
    pub fn new(media: &Path, windows: u16) -> Self {
        let capacity = fs::metadata(media).expect("the media are a file").len();
        let layout = Layout::plain(2, BAR_BASE, windows, capacity);
        Self { layout, media: media.to_owned(), memory: None, hybrid: false }
    }

    /// Makes the model, the table and what else is needed.
    ///
    /// # Panics
    /// When a file is missing or cannot be made.
    #[must_use]
    pub fn plug(&self) -> Plug {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let mut files = Files(Vec::new());
        let mut make = |what: &str, bytes: &[u8], length: u64| {
            let path = workspace::folder("test-dimms").join(format!("{}-{count}.{what}", std::process::id()));
            fs::write(&path, bytes).expect("a file is made");
            let file = File::options().read(true).write(true).open(&path).expect("it is there");
            file.set_len(length.max(bytes.len() as u64)).expect("it gets its size");
            files.0.push(path.clone());
            (path, file)
        };
        let mut layout = self.layout.clone();
        let mut arguments = vec!["-m".into(), "slots=4,maxmem=32G".into()];
        let mut option = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
        // What the proxy's other end could map; QEMU asks for memory that it can share.
        option("-machine", "memory-backend=ram0".into());
        option("-object", "memory-backend-memfd,id=ram0,size=256M,share=on".into());

        let plug_in = |option: &mut dyn FnMut(&str, String), id: &str, path: &Path, bytes: u64, base: u64| {
            let path = path.display();
            option("-object", format!("memory-backend-file,id={id}-file,mem-path={path},size={bytes},share=on"));
            option("-device", format!("pc-dimm,id={id},memdev={id}-file,addr={base:#x}"));
        };
        let shared = self.hybrid.then(|| {
            layout.data_base = APERTURES_BASE;
            let bytes = layout.data_bytes().next_multiple_of(APERTURES_BYTES);
            let (path, file) = make("apertures", &[], bytes);
            plug_in(&mut option, "apertures", &path, bytes, APERTURES_BASE);
            // SAFETY: its other user is QEMU, whose stores are bytes like any others.
            unsafe { MmapMut::map_mut(&file) }.expect("a file is mapped")
        });
        let mut table = Table::default();
        if let Some(memory) = &self.memory {
            let bytes = fs::metadata(memory).expect("memory is a file").len();
            plug_in(&mut option, "memory", memory, bytes, MEMORY_BASE);
            table = table
                .range(Range { index: 1, kind: Kind::Memory, base: MEMORY_BASE, bytes })
                .mapping(Mapping { handle: 1, range: 1, control: 1, bytes, ..Mapping::default() })
                .control(Control { index: 1, serial: 1, format: 0x301, registers: None });
        }
        let (table, _) = make("nfit", &layout.describe(table).finish(), 0);
        option("-acpitable", format!("file={}", table.display()));

        let media = File::options().read(true).write(true).open(&self.media).expect("the media are a file");
        // SAFETY: no other code uses the media while the model does.
        let mut model = Model::new(layout, unsafe { MmapMut::map_mut(&media) }.expect("a file is mapped"));
        if let Some(shared) = shared {
            model = model.with_shared_apertures(shared);
        }
        let allowed = cpus::allowed().expect("a thread may ask for its CPUs");
        Plug { dimm: Served::new(model), arguments, cpu: allowed[count as usize % allowed.len()], files }
    }
}

impl Plug {
    /// The arguments for QEMU, whose descriptor `fd` is the device's socket.
    #[must_use]
    pub fn arguments(&self, fd: i32) -> Vec<String> {
        let device = ["-device".to_owned(), format!("x-pci-proxy-dev,id=blk,fd={fd},addr=05.0")];
        self.arguments.iter().cloned().chain(device).collect()
    }

    /// Environment variables for `run-qemu.sh`: QEMU as it is needed, on the CPU of the thread that answers it.
    ///
    /// # Panics
    /// When a part of it does not build.
    #[must_use]
    pub fn environment(&self) -> [(&'static str, OsString); 2] {
        [("QEMU", emulator().into()), ("UNTORN_TEST_CPU", self.cpu.to_string().into())]
    }

    /// Answers QEMU from now on, on a thread of its own: the socket's other end.
    ///
    /// # Panics
    /// When no socket is left.
    #[must_use]
    pub fn serve(&self) -> OwnedFd {
        let (ours, theirs) = UnixStream::pair().expect("a socket is left");
        let (dimm, cpu) = (self.dimm.clone(), self.cpu);
        thread::spawn(move || {
            cpus::pin(cpu).expect("a thread may take one of its CPUs");
            if let Err(why) = dimm.serve(ours) {
                // QEMU waits for a reply, and the test that waits for QEMU gives up: this prints why.
                eprintln!("the DIMM behind windows: {why}");
            }
        });
        theirs.into()
    }

    /// The machine, with the DIMM plugged in.
    #[must_use]
    pub fn into_machine(&self, machine: ApplianceBuilder) -> ApplianceBuilder {
        self.dimm.model().power_on();
        let (machine, fd) = machine.hand_over(self.serve());
        let arguments = self.arguments(fd);
        machine.environment(self.environment()).qemu(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
    }
}
