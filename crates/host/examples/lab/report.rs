//! How the lab's programs tell their cases: a heading, one line a case with what was seen, and a last line with the counts.

#![allow(dead_code)] // Each program uses its part.

use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

/// What a case saw that proves its sentence, or the difference.
pub type Outcome = Result<String, String>;

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
        let only = chosen.split(',').filter(|word| !word.is_empty()).map(str::to_owned).collect();
        println!("== {heading}");
        Self { only, passed: 0, failed: 0 }
    }

    /// True when the case is to be run.
    pub fn wants(&self, name: &str) -> bool {
        let chosen = |word: &String| name.contains(word.replace('_', " ").as_str());
        self.only.is_empty() || self.only.iter().any(chosen)
    }

    /// Runs a case and tells its outcome; a panic is a failure with the panic's words.
    pub fn case(&mut self, name: &str, run: impl FnOnce() -> Outcome) {
        if !self.wants(name) {
            return;
        }
        let started = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            Err(text
                .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
                .unwrap_or_default())
        });
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

/// Nothing, where the two are equal; else the sentence that tells them apart.
pub fn equal<T: PartialEq + Debug>(what: &str, found: T, expected: T) -> Result<(), String> {
    if found == expected {
        Ok(())
    } else {
        Err(format!("{what}: found {found:?}, expected {expected:?}"))
    }
}
