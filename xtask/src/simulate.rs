//! `cargo xtask simulate`: starts the simulation of the playground and passes the arguments on.
//!
//! The simulation is an example of the playground, so that it is no part of what users install.

use crate::tools;
use clap::Args;

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
}

pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut command = tools::cargo();
    command.args(["run", "--quiet", "--package", "playground", "--example", "simulate", "--"]);
    match arguments.seed {
        Some(seed) => command.args(["--seed", &seed.to_string()]),
        None => command
            .args(["--seeds", &arguments.seeds.to_string()])
            .args(["--from", &arguments.from.to_string()]),
    };
    for (wanted, flag) in [(arguments.trace, "--trace"), (arguments.hash, "--hash")] {
        if wanted {
            command.arg(flag);
        }
    }
    for fault in &arguments.without {
        command.args(["--without", fault]);
    }
    tools::run(&mut command)
}
