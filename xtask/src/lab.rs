//! The lab: a virtual machine with a real kernel and emulated SR-IOV cards, in which our code runs.
//!
//! Everything comes from Debian's packages, found through the machine's own package sources and kept below `target/lab`.
//! Nothing is installed on the machine, and no privilege is needed. The cases are in
//! the programs `examples/lab-*` of the crates; each prints a line a case, with what was seen.

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

/// What the machine gets: package, kind of target, its name, and where it lies in the machine.
const PROGRAMS: [(&str, &str, &str, &str); 4] = [
    ("host", "example", "lab-contract", "usr/bin/lab-1-contract"),
    ("cni", "example", "lab-custody", "usr/bin/lab-2-custody"),
    ("cni", "bin", "ironrail-cni", "opt/cni/bin/sriov"),
    ("cni", "bin", "ironrail-cni", "opt/cni/bin/rdma"),
];

/// One of our programs and its place in the machine.
struct Program {
    path: PathBuf,
    place: &'static str,
}

/// Where everything of the lab is kept.
fn directory() -> PathBuf {
    tools::root().join("target/lab")
}

pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if std::env::consts::ARCH != "x86_64" {
        bail!(
            "the lab's machine is x86_64 and so must this computer be; it is {}",
            std::env::consts::ARCH
        )
    }
    let started = Instant::now();
    let step = |what: &str| eprintln!("[{:>3} s] {what}", started.elapsed().as_secs());
    std::fs::create_dir_all(directory())?;
    step("packages");
    let packages = packages::ready()?;
    step("kernel");
    let kernel = kernel::ready(&packages)?;
    step("our programs");
    let programs = build()?;
    step("initramfs");
    let initramfs = initramfs::make(&packages, &kernel, &programs)?;
    let runs = programs.iter().filter(|program| program.place.contains("/lab-")).count();
    step("machine");
    let outcome = machine::run(&packages, &kernel, &initramfs, runs, arguments)?;
    step("done");
    println!("{}", outcome.summary);
    if outcome.failed {
        bail!("the lab found differences; all that was said is in {}", outcome.log.display())
    }
    Ok(())
}

/// Our programs, built as `cargo test` builds them, so that what is compiled already is not compiled again.
fn build() -> anyhow::Result<Vec<Program>> {
    let mut built = Vec::new();
    for (package, kind, name, place) in PROGRAMS {
        let mut cargo = tools::cargo();
        cargo.args(["build", "--quiet", "--package", package, &format!("--{kind}"), name]);
        tools::run(&mut cargo)?;
        let below = if kind == "example" { "debug/examples" } else { "debug" };
        built.push(Program { path: tools::target().join(below).join(name), place });
    }
    Ok(built)
}

/// Writes a file only when all of its content is there, so that an interrupted run leaves no half of one.
fn write_whole(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let partial = path.with_extension("partial");
    std::fs::write(&partial, content)
        .with_context(|| format!("cannot write {}", partial.display()))?;
    std::fs::rename(&partial, path).with_context(|| format!("cannot write {}", path.display()))
}
