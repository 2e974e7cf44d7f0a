//! The third driver: a whole cluster in one loop over one ordered queue, with faults drawn from a seed.
//!
//! The step functions are those that run on a real cluster; nothing in them knows of this loop. One event lets exactly
//! one process take one step, time is the queue's, randomness one generator. The same seed gives the same trace.

mod faults;
mod invariants;
mod process;
mod queue;
mod run;
mod story;
mod trace;
mod workers;

pub use faults::{Fault, FaultCounts};
pub use run::{Options, Verdict, run};
