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
    /// Take our programs as they were built last
    #[arg(long)]
    as_built: bool,
    /// Show all that the machine says, and not only the outcome of each case
    #[arg(long)]
    console: bool,
}

/// What the machine gets: kind of target, its name, and where it lies in the machine.
const PROGRAMS: [(&str, &str, &str); 4] = [
    ("example", "lab-contract", "usr/bin/lab-1-contract"),
    ("example", "lab-custody", "usr/bin/lab-2-custody"),
    ("bin", "ironrail-cni", "opt/cni/bin/sriov"),
    ("bin", "ironrail-cni", "opt/cni/bin/rdma"),
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
    let programs = build(arguments.as_built)?;
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

/// Our programs, in one call over the whole workspace: with the features that `cargo test --workspace` has compiled.
fn build(as_built: bool) -> anyhow::Result<Vec<Program>> {
    let mut cargo = tools::cargo();
    cargo.args(["build", "--quiet", "--workspace"]);
    for (kind, name, _) in PROGRAMS {
        cargo.arg(format!("--{kind}")).arg(name);
    }
    if !as_built {
        tools::run(&mut cargo)?;
    }
    let below = |kind| if kind == "example" { "debug/examples" } else { "debug" };
    let path = |kind, name| tools::target().join(below(kind)).join(name);
    let built = PROGRAMS.map(|(kind, name, place)| Program { path: path(kind, name), place });
    Ok(built.into())
}

/// Writes a file only when all of its content is there, so that an interrupted run leaves no half of one.
fn write_whole(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let partial = path.with_extension("partial");
    std::fs::write(&partial, content)
        .with_context(|| format!("cannot write {}", partial.display()))?;
    std::fs::rename(&partial, path).with_context(|| format!("cannot write {}", path.display()))
}
