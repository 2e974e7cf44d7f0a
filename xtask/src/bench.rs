//! `cargo xtask bench`: runs the benchmarks of one crate or of all that have any.
//!
//! They print ratios and numbers for people; nothing here passes or fails by a time. `rollout` is one more, which the
//! simulation runs: a whole cluster in simulated time.

mod cni;
mod node;

use crate::tools;
use anyhow::{Context, bail};
use clap::Args;
use std::fs;

/// The benchmark that is no crate's.
const ROLLOUT: &str = "rollout";

#[derive(Args)]
pub struct Arguments {
    /// Crate whose benchmarks to run, or `rollout`; all that there are when absent
    package: Option<String>,
    /// Nodes of the rollout; 5,000 take some four minutes and 4.3 GiB of memory
    #[arg(long, default_value_t = 5000)]
    nodes: u32,
    /// Only the programs as processes, not the crate's own benchmarks
    #[arg(long)]
    processes: bool,
    /// Passed on to the benchmarks, after `--`
    #[arg(last = true)]
    rest: Vec<String>,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if arguments.package.as_deref() == Some(ROLLOUT) {
        return rollout(arguments.nodes);
    }
    let known = packages_with_benches()?;
    let packages = match &arguments.package {
        Some(wanted) if !known.contains(wanted) => {
            bail!(
                "no crate {wanted} with benches; those with some: {}, and {ROLLOUT}",
                known.join(", ")
            )
        }
        Some(wanted) => vec![wanted.clone()],
        None => known,
    };
    if packages.is_empty() {
        bail!("no crate has benches yet");
    }
    for package in packages {
        if !arguments.processes {
            benches(&package, &arguments.rest)?;
        }
        // Beside what happens in a process, the processes themselves.
        match package.as_str() {
            "cni" => cni::run()?,
            "node" => node::run()?,
            _ => {}
        }
    }
    match arguments.package {
        Some(_) => Ok(()),
        None if arguments.processes => Ok(()),
        None => rollout(arguments.nodes),
    }
}

/// The benchmarks in a crate's `benches/`.
fn benches(package: &str, rest: &[String]) -> anyhow::Result<()> {
    let mut command = tools::cargo();
    command.args(["bench", "--quiet", "--profile", "simulation", "--package", package]);
    tools::run(command.args(["--benches", "--"]).args(rest))
}

/// A mode and VFs for a whole cluster: wall time, memory, writes for each node.
fn rollout(nodes: u32) -> anyhow::Result<()> {
    tools::run(crate::simulate::command().args(["--rollout", &nodes.to_string()]))
}

/// Crates with a directory `benches`; a crate's directory carries its name.
fn packages_with_benches() -> anyhow::Result<Vec<String>> {
    let crates = tools::root().join("crates");
    let mut names = Vec::new();
    for entry in fs::read_dir(&crates).context("cannot list crates/")? {
        let path = entry.context("cannot read a directory entry")?.path();
        if path.join("benches").is_dir() {
            names.extend(path.file_name().map(|name| name.to_string_lossy().into_owned()));
        }
    }
    names.sort();
    Ok(names)
}
