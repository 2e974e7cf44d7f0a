//! `cargo xtask fuzz`: coverage-guided fuzzing with the stable compiler, for so many seconds a target.
//!
//! Does what `cargo fuzz` does without its nightly: the coverage pass is one of LLVM's and needs no sanitizer. What is
//! found is kept below `target/fuzz`; a crash ends the command with the file that makes it.

use crate::tools;
use anyhow::Context;
use clap::Args;
use std::fs;

const TARGETS: [&str; 6] = ["cni", "device_plugin", "files", "journal", "netlink", "sysfs"];
/// libFuzzer's view of a program: counters of edges, their addresses, and what is compared with what.
const COVERAGE: [&str; 6] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cdebug-assertions",
];

#[derive(Args)]
pub struct Arguments {
    /// Targets, as below fuzz/fuzz_targets; all when absent
    targets: Vec<String>,
    /// How long each runs
    #[arg(long, default_value_t = 10)]
    seconds: u32,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if let Some(unknown) = arguments.targets.iter().find(|name| !TARGETS.contains(&name.as_str())) {
        anyhow::bail!("no fuzz target {unknown}; there are {}", TARGETS.join(", "));
    }
    let wanted: Vec<&str> = match arguments.targets.as_slice() {
        [] => TARGETS.to_vec(),
        named => named.iter().map(String::as_str).collect(),
    };
    for target in wanted {
        fuzz(target, arguments.seconds)?;
    }
    Ok(())
}

fn fuzz(target: &str, seconds: u32) -> anyhow::Result<()> {
    let kept = tools::target().join("fuzz");
    let corpus = kept.join("corpus").join(target);
    let found = kept.join("found").join(target);
    for directory in [&corpus, &found] {
        fs::create_dir_all(directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
    }
    let mut command = tools::cargo();
    // With a target named, build scripts and macros are compiled without the coverage.
    command.args(["run", "--quiet", "--release", "--manifest-path", "fuzz/Cargo.toml"]);
    command.args(["--target", "x86_64-unknown-linux-gnu", "--bin", target]);
    command.arg("--target-dir").arg(&kept).arg("--");
    command.arg(corpus).arg(tools::root().join("fuzz/corpus").join(target));
    command.arg(format!("-max_total_time={seconds}"));
    command.arg(format!("-artifact_prefix={}/", found.display()));
    // A panic is a crash; what is logged on the way is no news.
    command.args(["-print_final_stats=1", "-verbosity=0", "-print_funcs=0", "-close_fd_mask=1"]);
    tools::run(command.env("RUSTFLAGS", COVERAGE.join(" ")))
}
