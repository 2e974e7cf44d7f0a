//! The third driver: a whole cluster in one loop over one ordered queue, with faults drawn from a seed.
//!
//! The step functions are those that run on a real cluster; nothing in them knows of this loop. One event lets exactly
//! one process take one step, time is the queue's, randomness one generator. The same seed gives the same trace.

mod containers;
mod ending;
mod extras;
mod fate;
mod faults;
mod features;
mod invariants;
mod leaving;
mod lifelines;
mod mutation;
mod objects;
mod process;
mod queue;
mod report;
mod run;
mod shrink;
mod steps;
mod story;
mod trace;
mod turns;
mod watches;
mod workers;

pub use faults::{Count, Fault, FaultCounts};
pub use features::Feature;
pub use mutation::Mutation;
pub use report::Report;
pub use run::script::Script;
pub use run::{Options, Verdict, run};
pub use shrink::shrink;
