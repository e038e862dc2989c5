//! The NVM command set (NVM Command Set Specification 1.0, section 3.2): what a command asks for, and how it is done in
//! bounded steps.

mod plan;
mod step;

pub(crate) use plan::{COMPARE, DEALLOCATE, FLUSH, IoTask, IoWork, READ, WRITE, WRITE_ZEROES, plan};
pub(crate) use step::{StepOutcome, fail_fused, step};
