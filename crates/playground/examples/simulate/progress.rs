//! How far a run is, on standard error while it lasts: seeds done, seeds failed, and how long it will take.
//!
//! A run of seconds says nothing. On a terminal one line changes, elsewhere a new line comes every quarter of a minute.

use playground::simulate::Verdict;
use std::io::{IsTerminal, Write, stderr};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

const EVERY_ON_A_TERMINAL: Duration = Duration::from_secs(3);
const EVERY: Duration = Duration::from_secs(15);

#[derive(Default)]
struct Counts {
    done: usize,
    failed: usize,
    over: bool,
}

pub struct Progress {
    seeds: usize,
    start: Instant,
    counts: Mutex<Counts>,
    ended: Condvar,
}

impl Progress {
    pub fn new(seeds: usize) -> Self {
        let (counts, ended) = (Mutex::default(), Condvar::new());
        Self { seeds, start: Instant::now(), counts, ended }
    }

    /// A seed has been run; one that failed is named at once, since the run may be ended before its end.
    pub fn note(&self, verdict: &Verdict) {
        let mut counts = self.counts();
        counts.done += 1;
        if let Some(problem) = &verdict.problem {
            counts.failed += 1;
            let clear = if stderr().is_terminal() { "\r\x1b[K" } else { "" };
            let _ = writeln!(stderr(), "{clear}simulate: seed {}: {problem}", verdict.seed);
        }
    }

    pub fn end(&self) {
        self.counts().over = true;
        self.ended.notify_all();
    }

    /// Tells until the end.
    pub fn tell(&self) {
        let is_terminal = stderr().is_terminal();
        let every = if is_terminal { EVERY_ON_A_TERMINAL } else { EVERY };
        let mut counts = self.counts();
        let mut told = false;
        loop {
            let waited = self.ended.wait_timeout_while(counts, every, |counts| !counts.over);
            counts = waited.unwrap_or_else(PoisonError::into_inner).0;
            if counts.over {
                break;
            }
            let line = self.line(&counts);
            // Nobody who listens is no reason to stop.
            let _ = match is_terminal {
                true => write!(stderr(), "\r{line}\x1b[K"),
                false => writeln!(stderr(), "{line}"),
            };
            told = true;
        }
        if told && is_terminal {
            let _ = write!(stderr(), "\r\x1b[K");
        }
    }

    fn line(&self, counts: &Counts) -> String {
        let Counts { done, failed, .. } = counts;
        let left = match *done {
            0 => String::new(),
            done => {
                let each = self.start.elapsed().as_secs_f64() / done as f64;
                format!(", about {:.0} s to go", each * (self.seeds - done) as f64)
            }
        };
        format!("simulate: {done} of {} seeds, {failed} failed{left}", self.seeds)
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
