//! The lab: a virtual machine with a real kernel and emulated SR-IOV cards, in which our code runs.
//!
//! Everything comes from Debian's packages, found through the machine's own package sources and kept below `target/lab`.
//! Nothing is installed on the machine, and no privilege is needed. The cases are in `crates/host/examples/lab.rs`.

mod initramfs;
mod kernel;
mod machine;
mod packages;

use crate::tools;
use anyhow::{Context, bail};
use std::path::{Path, PathBuf};
use std::time::Instant;

#[derive(clap::Args)]
pub struct Arguments {
    /// Only the cases whose name contains one of these
    cases: Vec<String>,
    /// Show all that the machine says, and not only the outcome of each case
    #[arg(long)]
    console: bool,
}

/// Where everything of the lab is kept.
fn directory() -> PathBuf {
    tools::root().join("target/lab")
}

pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let started = Instant::now();
    let step = |what: &str| eprintln!("[{:>3} s] {what}", started.elapsed().as_secs());
    std::fs::create_dir_all(directory())?;
    step("packages");
    let packages = packages::ready()?;
    step("kernel");
    let kernel = kernel::ready(&packages)?;
    step("lab program");
    let program = build()?;
    step("initramfs");
    let initramfs = initramfs::make(&packages, &kernel, &program)?;
    step("machine");
    let outcome = machine::run(&packages, &kernel, &initramfs, arguments)?;
    step("done");
    println!("{}", outcome.summary);
    if outcome.failed {
        bail!("the lab found differences; all that was said is in {}", outcome.log.display())
    }
    Ok(())
}

/// Our program for the machine. It is static, since the machine's C library is not this computer's.
fn build() -> anyhow::Result<PathBuf> {
    const TARGET: &str = "x86_64-unknown-linux-gnu";
    let directory = directory().join("build");
    let mut cargo = tools::cargo();
    cargo.args(["build", "--quiet", "--package", "host", "--example", "lab", "--target", TARGET]);
    cargo.arg("--target-dir").arg(&directory).env("RUSTFLAGS", "-C target-feature=+crt-static");
    tools::run(&mut cargo)?;
    Ok(directory.join(TARGET).join("debug/examples/lab"))
}

/// Writes a file only when all of its content is there, so that an interrupted run leaves no half of one.
fn write_whole(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let partial = path.with_extension("partial");
    std::fs::write(&partial, content)
        .with_context(|| format!("cannot write {}", partial.display()))?;
    std::fs::rename(&partial, path).with_context(|| format!("cannot write {}", path.display()))
}
