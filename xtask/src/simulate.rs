//! `cargo xtask simulate`: starts the simulation of the playground and passes the arguments on.
//!
//! The simulation is an example of the playground, so that it is no part of what users install. It is built with a
//! profile of its own: thousands of seeds are worth one optimised build.

use crate::tools;
use clap::Args;
use std::process::Command;

#[derive(Args)]
pub struct Arguments {
    /// How many seeds to run
    #[arg(long, default_value_t = 20)]
    seeds: u64,
    /// The first of them
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Run this one seed again, and no other
    #[arg(long, conflicts_with_all = ["seeds", "from"])]
    seed: Option<u64>,
    /// Print every event
    #[arg(long)]
    trace: bool,
    /// Print a hash of each seed's trace: two runs of one build must print the same
    #[arg(long)]
    hash: bool,
    /// Leave a fault out, by the name that the run prints, or all of them; may be given again
    #[arg(long, value_name = "FAULT")]
    without: Vec<String>,
    /// Let only these faults strike, as a shrunk seed names them: names with commas
    #[arg(long, value_name = "FAULTS", conflicts_with = "without")]
    only: Option<String>,
    /// Of the faults that strike, let only these, as a shrunk seed numbers them
    #[arg(long, value_name = "NUMBERS")]
    keep: Option<String>,
    /// Put the bugs of the old operator back, one at a time, and see each of them caught within the seeds
    #[arg(long, conflicts_with_all = ["seed", "hash"])]
    mutations: bool,
    /// Put this one bug back, by the name that `--mutations` prints
    #[arg(long, value_name = "MUTATION")]
    mutation: Option<String>,
}

/// The simulation, to be given its arguments.
pub fn command() -> Command {
    let mut command = tools::cargo();
    command.args(["run", "--quiet", "--profile", "simulation", "--package", "playground"]);
    command.args(["--example", "simulate", "--"]);
    // The memory of a seed that has ended is the next one's: given back to the kernel, it would come back zeroed.
    command.env("MIMALLOC_PURGE_DELAY", "-1");
    command
}

pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut command = command();
    match arguments.seed {
        Some(seed) => command.args(["--seed", &seed.to_string()]),
        None => command
            .args(["--seeds", &arguments.seeds.to_string()])
            .args(["--from", &arguments.from.to_string()]),
    };
    let flags = [
        (arguments.trace, "--trace"),
        (arguments.hash, "--hash"),
        (arguments.mutations, "--mutations"),
    ];
    command.args(flags.into_iter().filter(|(wanted, _)| *wanted).map(|(_, flag)| flag));
    for fault in &arguments.without {
        command.args(["--without", fault]);
    }
    let valued = [
        ("--only", &arguments.only),
        ("--keep", &arguments.keep),
        ("--mutation", &arguments.mutation),
    ];
    for (option, value) in valued {
        if let Some(value) = value {
            command.args([option, value]);
        }
    }
    tools::run(&mut command)
}
