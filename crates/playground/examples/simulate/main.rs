//! Runs whole clusters under faults, seed by seed; `cargo xtask simulate --help` says what may be asked.
//!
//! Seeds are shared out to threads, each seed is one thread's alone. The last line says how many passed and failed.

mod progress;

use playground::simulate::{Fault, Mutation, Options, Report, Verdict, run, shrink};
use progress::Progress;
use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// A seed is millions of small pieces of JSON, and with the C library's allocator a third of its time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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
    mutations: bool,
    mutation: Option<Mutation>,
    rollout: Option<usize>,
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
            mutations: false,
            mutation: None,
            rollout: None,
        };
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(format!("{word} needs a value"));
            match word.as_str() {
                "--seeds" => seeds = number(&word, &value()?)?,
                "--from" => first = number(&word, &value()?)?,
                "--seed" => listed = Some(vec![number(&word, &value()?)?]),
                "--of" => listed = Some(numbers(&word, &value()?)?),
                "--keep" => arguments.keep = Some(numbers(&word, &value()?)?.into_iter().collect()),
                "--rollout" => arguments.rollout = Some(count(&word, &value()?)?),
                "--mutations" => arguments.mutations = true,
                "--mutation" => arguments.mutation = Some(mutation(&value()?)?),
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
        if listed.is_none() && seeds == 0 {
            return Err("--seeds 0 proves nothing; ask for one at least".to_owned());
        }
        if arguments.rollout == Some(0) {
            return Err("--rollout 0 has no node to roll out over".to_owned());
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
        let (faults, keep) = (self.faults.clone(), self.keep.clone());
        let (mutation, rollout) = (self.mutation, self.rollout);
        Options { seed, trace: self.trace, faults, keep, mutation, rollout }
    }

    fn run(&self) -> ExitCode {
        if self.mutations {
            return self.mutate();
        }
        if let Some(nodes) = self.rollout {
            return self.roll_out(nodes);
        }
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
        let next = AtomicUsize::new(0);
        let verdicts = Mutex::new(BTreeMap::new());
        let progress = Progress::new(self.seeds.len());
        std::thread::scope(|scope| {
            scope.spawn(|| progress.tell());
            let work = || {
                while let Some(seed) = self.seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let verdict = run(&self.options(*seed));
                    progress.note(&verdict);
                    verdicts.lock().expect("no thread panics with it").insert(*seed, verdict);
                }
            };
            let threads = 0..if self.trace { 1 } else { cores() };
            let threads: Vec<_> = threads.map(|_| scope.spawn(work)).collect();
            let all_ended = threads.into_iter().map(|thread| thread.join()).all(|end| end.is_ok());
            progress.end();
            assert!(all_ended, "a seed ended in a panic, which it has told above");
        });
        verdicts.into_inner().expect("all threads have ended")
    }

    /// One rollout without faults: what it costs in time, memory and writes.
    fn roll_out(&self, nodes: usize) -> ExitCode {
        let start = Instant::now();
        let faults = BTreeSet::new();
        let verdict = run(&Options { faults, ..self.options(1) });
        println!(
            "rollout over {nodes} nodes, 10 % at a time: {:.1} s of wall time for {} min of simulated time, {} events",
            start.elapsed().as_secs_f64(),
            verdict.took.as_secs() / 60,
            verdict.events
        );
        println!("memory at its peak: {}", peak_memory());
        for (account, writes) in &verdict.writes {
            println!(
                "writes of {account}: {writes}, {:.1} for each node",
                *writes as f64 / nodes as f64
            );
        }
        match verdict.problem {
            None => ExitCode::SUCCESS,
            Some(problem) => {
                println!("the rollout failed: {problem}");
                ExitCode::FAILURE
            }
        }
    }

    /// Puts the bugs of the old operator back, one at a time: each has to be caught by one of the seeds.
    fn mutate(&self) -> ExitCode {
        let start = Instant::now();
        let mut missed = 0;
        for mutation in Mutation::all() {
            match self.catch(mutation) {
                Some((seeds, verdict)) => println!(
                    "mutation {mutation}: caught after {seeds} seeds, by seed {} ({} nodes): {}",
                    verdict.seed,
                    verdict.nodes,
                    verdict.problem.unwrap_or_default()
                ),
                None => {
                    missed += 1;
                    let words = mutation.caught_by().join("\" or \"");
                    let count = self.seeds.len();
                    println!("mutation {mutation}: NOT caught by \"{words}\" in {count} seeds");
                }
            }
        }
        let count = Mutation::all().count() - missed;
        println!("{:.1} s", start.elapsed().as_secs_f64());
        println!("mutations: {count} caught, {missed} missed");
        if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    /// The first seed in which the invariant that is there for the mutation sees it, and that passes without it; and how
    /// many seeds it took.
    fn catch(&self, mutation: Mutation) -> Option<(usize, Verdict)> {
        let next = AtomicUsize::new(0);
        let caught = Mutex::new(None::<(usize, Verdict)>);
        let found_before = |number: usize| {
            let caught = caught.lock().expect("no thread panics with it");
            caught.as_ref().is_some_and(|(first, _)| *first < number)
        };
        std::thread::scope(|scope| {
            for _ in 0..cores() {
                scope.spawn(|| {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        let Some(seed) = self.seeds.get(number) else { return };
                        if found_before(number + 1) {
                            return;
                        }
                        let sound = self.options(*seed);
                        let verdict = run(&Options { mutation: Some(mutation), ..sound.clone() });
                        let sees = |problem: &String| {
                            mutation.caught_by().iter().any(|words| problem.contains(words))
                        };
                        let seen = verdict.problem.as_ref().is_some_and(sees);
                        if seen && run(&sound).problem.is_none() {
                            let mut caught = caught.lock().expect("no thread panics with it");
                            if caught.as_ref().is_none_or(|(first, _)| number + 1 < *first) {
                                *caught = Some((number + 1, verdict));
                            }
                            return;
                        }
                    }
                });
            }
        });
        caught.into_inner().expect("all threads have ended")
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
        if let Some(mutation) = &self.mutation {
            command.args(["--mutation", &mutation.to_string()]);
        }
        if let Some(keep) = &self.keep {
            let keep: Vec<String> = keep.iter().map(u32::to_string).collect();
            command.args(["--keep", &keep.join(",")]);
        }
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

/// What the kernel says of this process; it holds the whole cluster, machines and API server too.
fn peak_memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes: Option<u64> =
        peak.and_then(|text| text.trim().strip_suffix(" kB")?.parse().ok());
    kilobytes.map_or("unknown".to_owned(), |peak| {
        format!("{} MiB for API server, machines and programs together", peak / 1024)
    })
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn hash_line(verdict: &Verdict) -> String {
    format!("seed {}: {:016x} after {} events", verdict.seed, verdict.hash, verdict.events)
}

fn number(option: &str, text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{option} {text:?} is not a number"))
}

fn count(option: &str, text: &str) -> Result<usize, String> {
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

fn mutation(name: &str) -> Result<Mutation, String> {
    let names: Vec<String> = Mutation::all().map(|mutation| mutation.to_string()).collect();
    Mutation::named(name)
        .ok_or_else(|| format!("{name:?} is no mutation; there are: {}", names.join(", ")))
}
