//! Runs the simulation for a number of seeds: `--seeds N [--seed S] [--trace] [--without FAULT…] [--hash]`.

use playground::simulate::{Fault, Options, run};
use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::time::Instant;

fn main() -> ExitCode {
    let mut seeds = 20_u64;
    let mut first = 1_u64;
    let mut only = None;
    let mut trace = false;
    let mut hashes = false;
    let mut faults: BTreeSet<Fault> = Fault::ALL.into();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut number = || arguments.next().and_then(|text| text.parse().ok());
        match argument.as_str() {
            "--seeds" => seeds = number().unwrap_or(seeds),
            "--from" => first = number().unwrap_or(first),
            "--seed" => only = number(),
            "--trace" => trace = true,
            "--hash" => hashes = true,
            "--without" => {
                let name = arguments.next().unwrap_or_default();
                faults.retain(|fault| name != "all" && fault.to_string() != name);
            }
            other => {
                eprintln!("simulate: {other:?} is not an option; see cargo xtask simulate --help");
                return ExitCode::FAILURE;
            }
        }
    }
    let range: Vec<u64> = match only {
        Some(seed) => vec![seed],
        None => (first..first + seeds).collect(),
    };
    let start = Instant::now();
    let mut failed = 0;
    let mut fired: BTreeMap<Fault, (u32, u32)> = BTreeMap::new();
    let mut sizes: BTreeMap<usize, u32> = BTreeMap::new();
    for seed in &range {
        let verdict = run(&Options { seed: *seed, trace, faults: faults.clone() });
        *sizes.entry(verdict.nodes).or_default() += 1;
        for (fault, times) in &verdict.faults.0 {
            let entry = fired.entry(*fault).or_default();
            *entry = (entry.0 + 1, entry.1 + times);
        }
        if hashes {
            println!("seed {seed}: {:016x} after {} events", verdict.hash, verdict.events);
        }
        if let Some(problem) = verdict.problem {
            failed += 1;
            println!(
                "seed {seed} ({} nodes): {problem}\n  again: cargo xtask simulate --seed {seed} --trace",
                verdict.nodes
            );
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{} seeds in {seconds:.1} s, {:.1} seeds a second",
        range.len(),
        range.len() as f64 / seconds
    );
    let sizes: Vec<String> =
        sizes.iter().map(|(nodes, seeds)| format!("{nodes}: {seeds}")).collect();
    println!("seeds by number of nodes: {}", sizes.join(", "));
    for (fault, (seeds, times)) in fired {
        println!("fault {fault}: fired {times} times in {seeds} seeds");
    }
    println!("simulate: {} passed, {failed} failed", range.len() - failed);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
