//! `cargo xtask check`: everything that can block a change, each part also by itself.
//!
//! The code rules that can be a `#[test]` are tests (xtask/tests, crates/api/tests), so `test` runs them too.

use crate::{codegen, tools};
use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use std::fs;
use std::path::Path;
use std::process::Command;

#[derive(Args)]
pub struct Arguments {
    /// Which parts to run, in this order; all of them when none is named
    #[arg(value_enum)]
    parts: Vec<Part>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// rustfmt finds nothing to change
    Fmt,
    /// clippy finds nothing, warnings count
    Clippy,
    /// All tests of the workspace
    Test,
    /// Only the tests of the architecture: which crate may see which, and what no crate may do
    Arrows,
    /// Licences, banned crates and sources of all dependencies
    Deny,
    /// Committed generated code is what the generator makes
    Generated,
    /// Count the behaviours of the simulated machine that nobody has seen on a real kernel
    Beliefs,
}

/// `Arrows` is not among them: `Test` runs those as well.
const ALL: [Part; 6] =
    [Part::Fmt, Part::Clippy, Part::Deny, Part::Generated, Part::Beliefs, Part::Test];

pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let parts = if arguments.parts.is_empty() { &ALL[..] } else { &arguments.parts[..] };
    for part in parts {
        match part {
            Part::Fmt => tools::run(tools::cargo().args(["fmt", "--all", "--check"])),
            Part::Clippy => clippy(),
            Part::Test => tools::run(tools::cargo().args(["test", "--workspace"])),
            Part::Arrows => tools::run(tools::cargo().args(["test", "--package", "xtask"])),
            Part::Deny => deny(),
            Part::Generated => codegen::check(),
            Part::Beliefs => beliefs(),
        }?;
    }
    Ok(())
}

fn clippy() -> anyhow::Result<()> {
    let arguments = ["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"];
    tools::run(tools::cargo().args(arguments))
}

fn deny() -> anyhow::Result<()> {
    let mut command = Command::new(tools::cargo_deny()?);
    command.current_dir(tools::root());
    command.args(["--workspace", "check", "--hide-inclusion-graph", "licenses", "bans", "sources"]);
    tools::run(&mut command)?;
    eprintln!(
        "not checked: security advisories. Their database is not among the package registries; \
         run `cargo deny check advisories` where it can be fetched."
    );
    Ok(())
}

/// Each behaviour of `host::sim` names its witness in a comment; the word `belief` stands where there is none.
fn beliefs() -> anyhow::Result<()> {
    let sim = tools::root().join("crates/host/src/sim");
    let mut found = Vec::new();
    for file in rust_files(&sim)? {
        let text =
            fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let name = file.strip_prefix(tools::root()).unwrap_or(&file).display().to_string();
        for (index, line) in text.lines().enumerate() {
            if is_belief(line) {
                found.push(format!("{name}:{}: {}", index + 1, line.trim()));
            }
        }
    }
    for belief in &found {
        println!("{belief}");
    }
    println!("beliefs of the simulated machine: {}", found.len());
    Ok(())
}

/// True for a comment that has `belief` as a word; in backticks it speaks about the word.
fn is_belief(line: &str) -> bool {
    line.split_once("//").is_some_and(|(_, comment)| {
        let mut words = comment.split(|c: char| !c.is_alphanumeric() && !"_`".contains(c));
        words.any(|word| word.eq_ignore_ascii_case("belief"))
    })
}

fn rust_files(directory: &Path) -> anyhow::Result<Vec<std::path::PathBuf>> {
    if !directory.is_dir() {
        bail!("{} is gone; tell `cargo xtask check beliefs` where it went", directory.display());
    }
    let mut files = Vec::new();
    let mut waiting = vec![directory.to_owned()];
    while let Some(directory) = waiting.pop() {
        let entries = fs::read_dir(&directory)
            .with_context(|| format!("cannot list {}", directory.display()))?;
        for entry in entries {
            let path = entry.context("cannot read a directory entry")?.path();
            if path.is_dir() {
                waiting.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::is_belief;

    #[test]
    fn a_belief_is_a_comment_with_that_word() {
        for line in ["// belief: devlink answers late", "x(); // Belief", "/// no source: belief."]
        {
            assert!(is_belief(line), "{line}");
        }
        for line in ["let belief = 1;", "// beyond belief_count", "// disbelief", "// or `belief`"]
        {
            assert!(!is_belief(line), "{line}");
        }
    }
}
