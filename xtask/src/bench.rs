//! `cargo xtask bench`: runs the benchmarks of one crate or of all that have any.
//!
//! They print ratios and numbers for people; nothing here passes or fails by a time.

use crate::tools;
use anyhow::{Context, bail};
use clap::Args;
use std::fs;

#[derive(Args)]
pub struct Arguments {
    /// Crate whose benchmarks to run; all that have any when absent
    package: Option<String>,
    /// Passed on to the benchmarks, after `--`
    #[arg(last = true)]
    rest: Vec<String>,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let known = packages_with_benches()?;
    let packages = match &arguments.package {
        Some(wanted) if !known.contains(wanted) => {
            bail!("no crate {wanted} with benches; those with some: {}", known.join(", "))
        }
        Some(wanted) => vec![wanted.clone()],
        None => known,
    };
    if packages.is_empty() {
        bail!("no crate has benches yet");
    }
    for package in packages {
        let mut command = tools::cargo();
        command.args(["bench", "--quiet", "--package", &package, "--benches", "--"]);
        tools::run(command.args(&arguments.rest))?;
    }
    Ok(())
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
