//! Coroutines of CPU 0: code with stacks of their own, between which it changes. A guard page lies below each stack
//! (invariant 14).

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::arch::naked_asm;
use core::cell::UnsafeCell;

use kernel::node::coroutine::{Coroutine, CoroutineBody};
use service::admin::job::JOBS_MAX;
use spin::Mutex;

use crate::memory::{AddressSpace, PAGE_BYTES};

/// As a started CPU's own stack: what runs there is much the same.
const STACK_BYTES: u64 = 128 << 10;

/// The part of the free pages that stacks may take: one in eight.
const SHARE: u64 = 8;

/// The tops of the stacks that no coroutine has.
static FREE: Mutex<Vec<u64>> = Mutex::new(Vec::new());

/// Makes the stacks: as many as there may be jobs, fewer on a small machine.
pub(super) fn init(space: &AddressSpace) {
    let room = space.pages_left() / SHARE / (STACK_BYTES / PAGE_BYTES + 1);
    let count = usize::try_from(room).map_or(JOBS_MAX, |room| room.min(JOBS_MAX));
    FREE.lock().extend((0..count).map(|_| space.new_stack(STACK_BYTES)));
}

/// Returns whether there is a stack for another one.
pub(crate) fn has_stack() -> bool {
    !FREE.lock().is_empty()
}

/// What a coroutine and who resumes it share.
struct State {
    /// The stack pointer of the one of both that does not run.
    away: u64,
    /// Until it begins.
    body: Option<CoroutineBody>,
    has_ended: bool,
}

/// A coroutine on a stack.
pub(crate) struct OnStack {
    state: Box<UnsafeCell<State>>,
    top: u64,
}

// SAFETY: the body is Send, and the stack has nothing on it but what the body put there. Only CPU 0 resumes it.
unsafe impl Send for OnStack {}

impl OnStack {
    /// Makes one that begins when it is resumed.
    ///
    /// # Panics
    /// There is no stack ([`has_stack`]).
    pub(crate) fn new(body: CoroutineBody) -> Self {
        let top = FREE.lock().pop().expect("the caller has seen that there is a stack");
        let state = Box::new(UnsafeCell::new(State { away: 0, body: Some(body), has_ended: false }));
        // What `exchange` takes from the stack: r15, r14, r13, r12, rbx, rbp, and where it returns to. There the stack is aligned
        // to 16 bytes, with zeroes above, where a walk along frames ends.
        let frame = [0, 0, 0, state.get() as u64, 0, 0, first as *const () as u64, 0, 0];
        let from = top - size_of_val(&frame) as u64;
        // SAFETY: the top of a mapped stack that nobody else has.
        unsafe { (from as *mut [u64; 9]).write(frame) };
        // SAFETY: nobody else has a reference to the state yet.
        unsafe { (*state.get()).away = from };
        Self { state, top }
    }
}

impl Coroutine for OnStack {
    fn resume(&mut self) -> bool {
        let state = self.state.get();
        // SAFETY: the state lives as long as self. No reference to it is kept over the exchange.
        unsafe {
            assert!(!(*state).has_ended, "a coroutine that has ended is not resumed");
            exchange(&raw mut (*state).away);
            !(*state).has_ended
        }
    }
}

impl Drop for OnStack {
    fn drop(&mut self) {
        assert!(self.state.get_mut().has_ended, "a coroutine goes on to its end");
        FREE.lock().push(self.top);
    }
}

/// A coroutine's way to its state. Used on its own stack alone.
struct Own(*mut State);

// SAFETY: one CPU runs the coroutine at a time: CPU 0.
unsafe impl Sync for Own {}

impl Own {
    fn pause(&self) {
        // SAFETY: the state lives until the coroutine has ended. Who resumed it waits in `exchange`, and keeps no reference.
        unsafe { exchange(&raw mut (*self.0).away) };
    }
}

/// Runs a coroutine's body on its own stack.
extern "C" fn run(state: *mut State) -> ! {
    let own = Own(state);
    // SAFETY: as in `Own::pause`.
    let body = unsafe { (*state).body.take() }.expect("a coroutine begins once");
    let pause = || own.pause();
    body(&pause);
    // SAFETY: as in `Own::pause`.
    unsafe { (*state).has_ended = true };
    own.pause();
    unreachable!("a coroutine that has ended is not resumed")
}

/// Where a coroutine begins: r12 has its state.
#[unsafe(naked)]
extern "C" fn first() -> ! {
    naked_asm!("mov rdi, r12", "call {run}", "ud2", run = sym run)
}

/// Changes to the stack whose pointer is at `away`, and leaves the pointer of this one there. Returns when that one changes
/// back. What a function keeps over a call (System V ABI, AMD64, 3.2.1) stays on the stack; MXCSR and the x87's control word are
/// the same for both.
///
/// # Safety
/// `away` has the pointer of a stack that `exchange` has left, or that [`OnStack::new`] has made.
#[unsafe(naked)]
unsafe extern "C" fn exchange(away: *mut u64) {
    naked_asm!(
        "push rbp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "mov rax, [rdi]",
        "mov [rdi], rsp",
        "mov rsp, rax",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
    )
}
