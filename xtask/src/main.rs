//! Every developer command: `cargo xtask --help`.
//!
//! Depends on nothing of ours: it starts cargo and the binaries of the crates, so that a broken crate cannot take
//! the command away that would say so. One module per command; what blocks a change is in `check`.

mod bench;
mod check;
mod codegen;
mod fuzz;
mod image;
mod lab;
mod simulate;
mod tools;

use clap::{Parser, Subcommand};

/// Developer commands of ironrail.
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run what can block a change: offline, without root, hardware or a cluster
    Check(check::Arguments),
    /// Run whole clusters under faults, by seed, and check the invariants after every step
    Simulate(simulate::Arguments),
    /// Make the gRPC code in crates/node/src/proto again from crates/node/proto
    Codegen(codegen::Arguments),
    /// Run our code on a real kernel with SR-IOV cards, in a virtual machine
    Lab(lab::Arguments),
    /// Feed what parses bytes from outside with bytes that reach new code, for some seconds each
    Fuzz(fuzz::Arguments),
    /// Make the two container images as archives, without a container tool
    Image(image::Arguments),
    /// Run benchmarks of the crates
    Bench(bench::Arguments),
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Check(arguments) => check::run(&arguments),
        Command::Simulate(arguments) => simulate::run(&arguments),
        Command::Codegen(arguments) => codegen::run(&arguments),
        Command::Lab(arguments) => lab::run(&arguments),
        Command::Fuzz(arguments) => fuzz::run(&arguments),
        Command::Image(arguments) => image::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
    }
}
