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
    /// Run this one seed again, or start counting at it
    #[arg(long)]
    seed: Option<u64>,
    /// Print every event of the run
    #[arg(long)]
    trace: bool,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut command = tools::cargo();
    command.args(["run", "--quiet", "--package", "playground", "--example", "simulate", "--"]);
    command.args(["--seeds", &arguments.seeds.to_string()]);
    if let Some(seed) = arguments.seed {
        command.args(["--seed", &seed.to_string()]);
    }
    if arguments.trace {
        command.arg("--trace");
    }
    tools::run(&mut command)
}
