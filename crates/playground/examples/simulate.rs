//! Runs whole clusters under faults, seed by seed; `cargo xtask simulate --help` says what may be asked.
//!
//! Seeds are shared out to threads, each seed is one thread's alone. The last line says how many passed and failed.

use playground::simulate::{Fault, Options, Report, Verdict, run, shrink};
use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// Seeds of each run that a second process repeats.
const REPLAYED: usize = 20;
/// Failing seeds that are shrunk; the others are only named.
const SHRUNK: usize = 3;

struct Arguments {
    seeds: Vec<u64>,
    trace: bool,
    hash: bool,
    faults: BTreeSet<Fault>,
    keep: Option<BTreeSet<u32>>,
    single: bool,
}

fn main() -> ExitCode {
    match Arguments::read(std::env::args().skip(1)) {
        Ok(arguments) => arguments.run(),
        Err(why) => {
            eprintln!("simulate: {why}");
            ExitCode::FAILURE
        }
    }
}

impl Arguments {
    fn read(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let (mut seeds, mut first, mut listed) = (20, 1, None);
        let mut arguments = Self {
            seeds: Vec::new(),
            trace: false,
            hash: false,
            faults: Fault::all().collect(),
            keep: None,
            single: false,
        };
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(format!("{word} needs a value"));
            match word.as_str() {
                "--seeds" => seeds = number(&word, &value()?)?,
                "--from" => first = number(&word, &value()?)?,
                "--seed" => listed = Some(vec![number(&word, &value()?)?]),
                "--of" => listed = Some(numbers(&word, &value()?)?),
                "--keep" => arguments.keep = Some(numbers(&word, &value()?)?.into_iter().collect()),
                "--trace" => arguments.trace = true,
                "--hash" => arguments.hash = true,
                "--without" => arguments.leave_out(&value()?)?,
                "--only" => {
                    let only: Result<_, _> =
                        value()?.split(',').filter(|n| !n.is_empty()).map(fault).collect();
                    arguments.faults = only?;
                }
                other => {
                    return Err(format!(
                        "{other:?} is not an option; see cargo xtask simulate --help"
                    ));
                }
            }
        }
        arguments.single = listed.is_some();
        arguments.seeds = listed.unwrap_or_else(|| (first..first.saturating_add(seeds)).collect());
        Ok(arguments)
    }

    fn leave_out(&mut self, name: &str) -> Result<(), String> {
        match name {
            "all" => self.faults.clear(),
            name => drop(self.faults.remove(&fault(name)?)),
        }
        Ok(())
    }

    fn options(&self, seed: u64) -> Options {
        Options { seed, trace: self.trace, faults: self.faults.clone(), keep: self.keep.clone() }
    }

    fn run(&self) -> ExitCode {
        let start = Instant::now();
        let verdicts = self.play();
        let seconds = start.elapsed().as_secs_f64();
        if self.hash {
            for verdict in verdicts.values() {
                println!("{}", hash_line(verdict));
            }
        }
        let failed: Vec<&Verdict> = verdicts.values().filter(|v| v.problem.is_some()).collect();
        for (number, verdict) in failed.iter().enumerate() {
            self.explain(verdict, number < SHRUNK && !self.single);
        }
        let count = verdicts.len();
        println!("{count} seeds in {seconds:.1} s, {:.1} seeds a second", count as f64 / seconds);
        let report = Report::of(verdicts.values());
        print!("{}", report.text());
        let mut wrong = report.too_rare();
        if !self.single {
            wrong.extend(self.replay(&verdicts));
        }
        wrong.iter().for_each(|why| println!("{why}"));
        println!("simulate: {} passed, {} failed", count - failed.len(), failed.len());
        if failed.is_empty() && wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    /// Runs the seeds on all cores; a trace is printed by one.
    fn play(&self) -> BTreeMap<u64, Verdict> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let next = AtomicUsize::new(0);
        let verdicts = Mutex::new(BTreeMap::new());
        std::thread::scope(|scope| {
            for _ in 0..if self.trace { 1 } else { cores } {
                scope.spawn(|| {
                    while let Some(seed) = self.seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let verdict = run(&self.options(*seed));
                        verdicts.lock().expect("no thread panics with it").insert(*seed, verdict);
                    }
                });
            }
        });
        verdicts.into_inner().expect("all threads have ended")
    }

    /// Says what went wrong in a seed, with as few faults as it takes.
    fn explain(&self, verdict: &Verdict, small: bool) {
        let seed = verdict.seed;
        let (options, verdict) = match small {
            true => shrink(&self.options(seed), verdict.clone()),
            false => (self.options(seed), verdict.clone()),
        };
        let problem = verdict.problem.unwrap_or_default();
        let mut again = format!("cargo xtask simulate --seed {seed} --trace");
        if options.faults.len() != Fault::all().count() {
            let names: Vec<String> = options.faults.iter().map(Fault::to_string).collect();
            again += &format!(" --only '{}'", names.join(","));
        }
        if let Some(keep) = &options.keep {
            let keep: Vec<String> = keep.iter().map(u32::to_string).collect();
            again += &format!(" --keep '{}'", keep.join(","));
        }
        println!("seed {seed} ({} nodes): {problem}\n  again: {again}", verdict.nodes);
    }

    /// Runs some of the seeds in a second process, which has to tell the same story.
    fn replay(&self, verdicts: &BTreeMap<u64, Verdict>) -> Option<String> {
        let step = (verdicts.len() / REPLAYED).max(1);
        let some: Vec<&Verdict> = verdicts.values().step_by(step).take(REPLAYED).collect();
        let seeds: Vec<String> = some.iter().map(|verdict| verdict.seed.to_string()).collect();
        let only: Vec<String> = self.faults.iter().map(Fault::to_string).collect();
        let program = std::env::current_exe().ok()?;
        let mut command = Command::new(program);
        command.args(["--hash", "--of", &seeds.join(","), "--only", &only.join(",")]);
        let output = match command.stderr(Stdio::inherit()).output() {
            Ok(output) => String::from_utf8_lossy(&output.stdout).into_owned(),
            Err(error) => return Some(format!("cannot start a second process: {error}")),
        };
        let told: BTreeSet<&str> = output.lines().collect();
        let other = some.iter().filter(|verdict| !told.contains(hash_line(verdict).as_str()));
        let other: Vec<String> = other.map(|verdict| verdict.seed.to_string()).collect();
        match other.is_empty() {
            true => {
                println!("{} seeds were replayed by a second process, event by event", some.len());
                None
            }
            false => {
                Some(format!("a second process tells another story of seeds {}", other.join(", ")))
            }
        }
    }
}

fn hash_line(verdict: &Verdict) -> String {
    format!("seed {}: {:016x} after {} events", verdict.seed, verdict.hash, verdict.events)
}

fn number(option: &str, text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{option} {text:?} is not a number"))
}

fn numbers<T: std::str::FromStr>(option: &str, text: &str) -> Result<Vec<T>, String> {
    let words = text.split(',').filter(|word| !word.is_empty());
    words
        .map(|word| word.parse().map_err(|_| format!("{option}: {word:?} is not a number")))
        .collect()
}

fn fault(name: &str) -> Result<Fault, String> {
    let names: Vec<String> = Fault::all().map(|fault| fault.to_string()).collect();
    Fault::named(name)
        .ok_or_else(|| format!("{name:?} is no fault; there are: {}", names.join(", ")))
}
