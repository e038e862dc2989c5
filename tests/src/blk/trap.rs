//! The model in process. The driver's registers and apertures are pages without access: each of its accesses is a
//! page fault, whose handler decodes the instruction, lets the model do the access, and goes on behind it. So the very
//! instructions that run on a machine run here, and the model sees each load, store and CLFLUSH in its order.
//!
//! A page fault comes from the instruction that makes it, never in the middle of anything else, so the handler may do
//! what any function may.

use std::ffi::c_void;
use std::ptr::{self, NonNull};
use std::sync::{Arc, Mutex, MutexGuard, Once, RwLock};

use fake_machine::Hardware;
use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};

use super::model::Model;

const PAGE: usize = 4096;

/// The model, shared with the test that looks at it while the driver uses it.
#[derive(Clone, Debug)]
pub struct Trapped(Arc<Mutex<Model>>);

/// Pages without access, and what they stand for.
struct Pages {
    start: usize,
    bytes: usize,
    physical: u64,
    dimm: Trapped,
}

static PAGES: RwLock<Vec<Pages>> = RwLock::new(Vec::new());

impl Trapped {
    /// A DIMM for drivers of this process.
    #[must_use]
    pub fn new(mut model: Model) -> Self {
        static HANDLER: Once = Once::new();
        HANDLER.call_once(install);
        model.caches = true;
        Self(Arc::new(Mutex::new(model)))
    }

    /// The DIMM.
    ///
    /// # Panics
    /// When another thread panicked while it looked at it.
    pub fn model(&self) -> MutexGuard<'_, Model> {
        self.0.lock().expect("nobody panicked")
    }

    /// A machine that has it. The tables are the caller's.
    #[must_use]
    pub fn plug(&self, machine: Hardware) -> Hardware {
        let layout = self.model().layout().clone();
        let parts =
            [(layout.control_base, layout.control_bytes()), (layout.data_base, layout.data_bytes()), (layout.hint, 8)];
        parts.into_iter().fold(machine, |machine, (base, bytes)| {
            let shared = self.model().shared_start().filter(|_| base == layout.data_base);
            let start = shared.unwrap_or_else(|| self.reserve(base, bytes));
            // SAFETY: reserved for this alone and never given back, or the model's, which outlives the machine; no object.
            unsafe { machine.device(base, bytes, start) }
        })
    }

    /// Reserves addresses that stand for physical ones.
    fn reserve(&self, physical: u64, bytes: u64) -> NonNull<u8> {
        let bytes = usize::try_from(bytes).expect("a small range").next_multiple_of(PAGE);
        // SAFETY: new addresses, which nothing is at.
        let start = unsafe {
            libc::mmap(ptr::null_mut(), bytes, libc::PROT_NONE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)
        };
        assert!(start != libc::MAP_FAILED, "there are addresses");
        let pages = Pages { start: start as usize, bytes, physical, dimm: self.clone() };
        PAGES.write().expect("nobody panicked").push(pages);
        NonNull::new(start.cast()).expect("not at 0")
    }
}

fn install() {
    // SAFETY: an all-zero sigaction is one.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    let handler: extern "C" fn(i32, *mut libc::siginfo_t, *mut c_void) = on_fault;
    action.sa_sigaction = handler as usize;
    // On the stack of the thread that faults: the handler needs more than the spare stack that threads have for overflows.
    action.sa_flags = libc::SA_SIGINFO;
    // SAFETY: the handler has the form that SA_SIGINFO asks for.
    let done = unsafe { libc::sigaction(libc::SIGSEGV, &raw const action, ptr::null_mut()) };
    assert_eq!(done, 0, "the handler is installed");
}

extern "C" fn on_fault(_: i32, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel gives both, valid until the handler returns.
    let (address, registers) =
        unsafe { ((*info).si_addr() as usize, &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs) };
    let found = PAGES.read().ok().and_then(|pages| {
        let pages = pages.iter().find(|it| (it.start..it.start + it.bytes).contains(&address))?;
        Some((pages.physical + (address - pages.start) as u64, pages.dimm.clone()))
    });
    let answered = found.and_then(|(physical, dimm)| answer(&dimm, physical, registers));
    if answered.is_none() {
        // Nothing of ours: the next fault, at the same instruction, ends the process as it would have without us.
        // SAFETY: the default action needs nothing.
        unsafe { libc::signal(libc::SIGSEGV, libc::SIG_DFL) };
    }
}

/// Does what the instruction wants of the DIMM, and goes on behind it.
fn answer(dimm: &Trapped, physical: u64, registers: &mut [i64; 23]) -> Option<()> {
    let rip = registers[libc::REG_RIP as usize].cast_unsigned();
    // SAFETY: the instruction at `rip` has just been executed, and none is longer; behind code there is more of it, or
    // constants.
    let code = unsafe { std::slice::from_raw_parts(rip as *const u8, 15) };
    let mut instruction = Instruction::default();
    Decoder::with_ip(64, code, rip, DecoderOptions::NONE).decode_out(&mut instruction);
    let mut model = dimm.0.lock().ok()?;
    match instruction.mnemonic() {
        Mnemonic::Clflush | Mnemonic::Clflushopt => model.invalidate(physical),
        Mnemonic::Mov | Mnemonic::Movnti => {
            let size = instruction.memory_size().size();
            if instruction.op0_kind() == OpKind::Memory {
                let value = match instruction.op1_kind() {
                    OpKind::Register => registers[general(instruction.op1_register())?].cast_unsigned(),
                    _ => instruction.immediate(1),
                };
                let kept = if size == 8 { u64::MAX } else { (1 << (8 * size)) - 1 };
                model.store(physical, size, value & kept);
            } else {
                // A load of 4 bytes clears the rest of its register.
                let value = model.load(physical, size);
                let kept = if size == 8 { value } else { value & 0xffff_ffff };
                registers[general(instruction.op0_register())?] = kept.cast_signed();
            }
        }
        _ => return None,
    }
    registers[libc::REG_RIP as usize] = instruction.next_ip().cast_signed();
    Some(())
}

/// Where the context keeps a register.
fn general(register: Register) -> Option<usize> {
    let place = match register.full_register() {
        Register::RAX => libc::REG_RAX,
        Register::RBX => libc::REG_RBX,
        Register::RCX => libc::REG_RCX,
        Register::RDX => libc::REG_RDX,
        Register::RSI => libc::REG_RSI,
        Register::RDI => libc::REG_RDI,
        Register::RBP => libc::REG_RBP,
        Register::RSP => libc::REG_RSP,
        Register::R8 => libc::REG_R8,
        Register::R9 => libc::REG_R9,
        Register::R10 => libc::REG_R10,
        Register::R11 => libc::REG_R11,
        Register::R12 => libc::REG_R12,
        Register::R13 => libc::REG_R13,
        Register::R14 => libc::REG_R14,
        Register::R15 => libc::REG_R15,
        _ => return None,
    };
    Some(place as usize)
}
