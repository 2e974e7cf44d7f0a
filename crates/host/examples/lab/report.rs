//! How the lab's programs tell their cases: a heading, one line a case with what was seen, and a last line with the counts.

#![allow(dead_code)] // Each program uses its part.

use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// The longest case takes a minute and a half, and five on a computer that compiles besides.
const PATIENCE: Duration = Duration::from_secs(420);

/// What a case saw that proves its sentence, or the difference.
pub type Outcome = Result<String, String>;

/// A case that stands on a stage: its name, and what it does there.
pub type StageCase<S> = (&'static str, fn(&mut S) -> Outcome);

/// Words as `LAB_CASES` brings them: the kernel's command line holds no blanks.
fn plain(text: &str) -> String {
    text.replace('_', " ")
}

/// Counts the outcomes and tells each.
pub struct Report {
    only: Vec<String>,
    passed: u32,
    failed: u32,
}

impl Report {
    /// Begins a program's cases; `LAB_CASES` says which of them are wanted.
    pub fn new(heading: &str) -> Self {
        std::panic::set_hook(Box::new(|_| {}));
        let chosen = std::env::var("LAB_CASES").unwrap_or_default();
        let only = chosen.split('|').filter(|word| !word.is_empty()).map(plain).collect();
        println!("== {heading}");
        Self { only, passed: 0, failed: 0 }
    }

    /// True when the case is to be run.
    pub fn wants(&self, name: &str) -> bool {
        let name = plain(name);
        self.only.is_empty() || self.only.iter().any(|word| name.contains(word.as_str()))
    }

    /// Cases on one stage, each standing on those before it: where one is wanted, all are. Without a stage none can be run,
    /// which is told and counts as a failure. What the stage was is returned.
    pub fn on_stage<S>(
        &mut self,
        first: &str,
        set: impl FnOnce() -> Result<(S, String), String>,
        cases: &[StageCase<S>],
    ) -> Option<S> {
        let names: Vec<&str> =
            [first].into_iter().chain(cases.iter().map(|(name, _)| *name)).collect();
        if !names.iter().any(|name| self.wants(name)) {
            return None;
        }
        if !self.only.is_empty() {
            self.only.extend(names.into_iter().map(plain));
        }
        let mut stage = None;
        self.case(first, || {
            let (made, seen) = set()?;
            stage = Some(made);
            Ok(seen)
        });
        for (name, run) in cases {
            match &mut stage {
                Some(stage) => self.case(name, || run(stage)),
                None => self.skipped(name, &format!("it stands on \"{first}\"")),
            }
        }
        stage
    }

    fn skipped(&mut self, name: &str, why: &str) {
        self.failed += 1;
        println!("SKIPPED {name}: {why}");
    }

    /// Runs a case and tells its outcome; a panic is a failure with the panic's words.
    pub fn case(&mut self, name: &str, run: impl FnOnce() -> Outcome) {
        if !self.wants(name) {
            return;
        }
        let started = Instant::now();
        let watch = watch(name);
        let outcome = catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            Err(text
                .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
                .unwrap_or_default())
        });
        drop(watch);
        let seconds = started.elapsed().as_secs_f32();
        match outcome {
            Ok(seen) => {
                self.passed += 1;
                println!("ok {name} ({seconds:.1} s): {seen}");
            }
            Err(difference) => {
                self.failed += 1;
                println!("FAILED {name} ({seconds:.1} s)");
                for line in difference.lines() {
                    println!("    {line}");
                }
            }
        }
    }

    /// The line without which the program counts as dead.
    pub fn end(self) {
        println!("part: {} passed, {} failed", self.passed, self.failed);
    }
}

/// Ends the machine when a case does not end, and says where the kernel holds each task. Until then the case holds what is
/// returned.
fn watch(name: &str) -> Sender<()> {
    let (case, ended) = channel();
    let name = name.to_owned();
    std::thread::spawn(move || {
        if ended.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            println!("HUNG {name}, which had {PATIENCE:?}: the machine ends; its tasks were in");
            println!("{}", tasks());
            // A task that the kernel holds cannot be killed, and neither can its process end.
            let _ = std::fs::write("/proc/sysrq-trigger", "b");
        }
    });
    case
}

/// Each thread that is ours or does not sleep as it should: its name, its state, and the kernel's functions that it is in.
fn tasks() -> String {
    let own = std::process::id().to_string();
    let mut told = String::new();
    let below = |path: &str| -> Vec<String> {
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())).collect()
    };
    for process in below("/proc") {
        for task in below(&format!("/proc/{process}/task")) {
            let read = |file: &str| {
                let path = format!("/proc/{process}/task/{task}/{file}");
                std::fs::read_to_string(path).unwrap_or_default()
            };
            let stat = read("stat");
            let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
            if process == own || !matches!(state, Some('S' | 'I')) {
                let stack = read("stack");
                let functions = stack.lines().map(|line| line.trim_start_matches("[<0>] "));
                let functions = functions.collect::<Vec<_>>().join(" < ");
                let name = read("comm");
                let state = state.unwrap_or('?');
                told.push_str(&format!(
                    "    {process}/{task} {} {state} {functions}\n",
                    name.trim()
                ));
            }
        }
    }
    told
}

/// Nothing, where the two are equal; else the sentence that tells them apart.
pub fn equal<T: PartialEq + Debug>(what: &str, found: T, expected: T) -> Result<(), String> {
    if found == expected {
        Ok(())
    } else {
        Err(format!("{what}: found {found:?}, expected {expected:?}"))
    }
}
