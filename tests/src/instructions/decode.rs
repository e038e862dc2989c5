//! Which instructions store, write back or fence. Everything that writes memory is recognised by the disassembler, so
//! that no store to the medium can go unnoticed because its instruction was not thought of.

use iced_x86::{
    Code, Decoder, DecoderOptions, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, Register, UsedMemory,
};

/// What an instruction does to memory.
#[derive(Clone, Debug, Default)]
pub struct Effect {
    /// What it may write.
    pub writes: Vec<UsedMemory>,
    /// How.
    pub kind: Kind,
    /// Its name, for a report.
    pub name: String,
}

/// The kinds of instruction that matter to a medium.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// Stores, if at all, through the cache.
    #[default]
    Cached,
    /// Stores past the cache.
    Streaming,
    /// Starts to write a line back: CLWB, CLFLUSHOPT or CLFLUSH.
    WriteBack,
    /// Waits for all of that.
    Fence,
}

/// How long an instruction can be.
pub const MOST_BYTES: usize = 15;

/// What kind a mnemonic is of.
#[must_use]
pub const fn kind(mnemonic: Mnemonic) -> Kind {
    match mnemonic {
        Mnemonic::Movnti
        | Mnemonic::Movntdq
        | Mnemonic::Movntps
        | Mnemonic::Movntpd
        | Mnemonic::Movntq
        | Mnemonic::Vmovntdq
        | Mnemonic::Vmovntps
        | Mnemonic::Vmovntpd
        | Mnemonic::Movdiri
        | Mnemonic::Movdir64b => Kind::Streaming,
        Mnemonic::Clwb | Mnemonic::Clflushopt | Mnemonic::Clflush => Kind::WriteBack,
        // A locked instruction orders too, but durability may not depend on that.
        Mnemonic::Sfence | Mnemonic::Mfence => Kind::Fence,
        _ => Kind::Cached,
    }
}

/// Decodes the instruction at `at`.
#[must_use]
pub fn decode(bytes: &[u8], at: u64) -> Option<Effect> {
    let mut instruction = Instruction::default();
    Decoder::with_ip(64, bytes, at, DecoderOptions::NONE).decode_out(&mut instruction);
    if instruction.code() == Code::INVALID {
        return None;
    }
    let kind = kind(instruction.mnemonic());
    let mut factory = InstructionInfoFactory::new();
    let info = factory.info(&instruction);
    let is_write = |access| {
        matches!(access, OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite)
    };
    let wanted = |memory: &&UsedMemory| kind == Kind::WriteBack || is_write(memory.access());
    let writes = info.used_memory().iter().filter(wanted).copied().collect();
    Some(Effect { writes, kind, name: format!("{:?}", instruction.mnemonic()) })
}

/// Where an instruction accesses memory, by the registers before it.
#[must_use]
pub fn address(memory: &UsedMemory, registers: &libc::user_regs_struct) -> Option<u64> {
    memory.virtual_address(0, |register, _, _| value(register, registers))
}

fn value(register: Register, registers: &libc::user_regs_struct) -> Option<u64> {
    let full = match register.full_register() {
        Register::RAX => registers.rax,
        Register::RBX => registers.rbx,
        Register::RCX => registers.rcx,
        Register::RDX => registers.rdx,
        Register::RSI => registers.rsi,
        Register::RDI => registers.rdi,
        Register::RBP => registers.rbp,
        Register::RSP => registers.rsp,
        Register::R8 => registers.r8,
        Register::R9 => registers.r9,
        Register::R10 => registers.r10,
        Register::R11 => registers.r11,
        Register::R12 => registers.r12,
        Register::R13 => registers.r13,
        Register::R14 => registers.r14,
        Register::R15 => registers.r15,
        Register::RIP => registers.rip,
        Register::FS => return Some(registers.fs_base),
        Register::GS => return Some(registers.gs_base),
        Register::CS | Register::DS | Register::ES | Register::SS => return Some(0),
        // A vector of addresses (a scatter): no code stores to a medium so, and it would show in the comparison of the
        // whole medium at the end.
        _ => return None,
    };
    Some(full)
}
