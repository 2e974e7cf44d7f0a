//! A failing seed made small: faults are left out one at a time while it still fails.
//!
//! First whole kinds, then single strokes. Every attempt is a run of its own, so the result replays exactly.

use super::faults::Fault;
use super::run::{Options, Verdict, run};
use std::collections::BTreeSet;

/// A seed that fails once shrunk is tried no more often than this.
const PATIENCE: u32 = 80;

/// The smallest set of faults found with which the seed still fails, and how it fails with them.
pub fn shrink(options: &Options, failed: Verdict) -> (Options, Verdict) {
    let mut best = (Options { trace: false, ..options.clone() }, failed);
    let mut left = PATIENCE;
    let kinds: BTreeSet<Fault> = best.1.strokes.iter().map(|(_, fault)| *fault).collect();
    best.0.faults = options.faults.intersection(&kinds).copied().collect();
    // Kinds that never struck are out already; the numbers of strokes count only kinds that are in.
    if !attempt(&mut best, options.faults.intersection(&kinds).copied().collect(), None, &mut left)
    {
        best.0.faults = options.faults.clone();
    }
    for kind in kinds {
        let mut fewer = best.0.faults.clone();
        fewer.remove(&kind);
        attempt(&mut best, fewer, None, &mut left);
    }
    let strokes: Vec<u32> = best.1.strokes.iter().map(|(number, _)| *number).collect();
    let mut kept: BTreeSet<u32> = strokes.iter().copied().collect();
    for stroke in strokes.into_iter().rev() {
        let mut fewer = kept.clone();
        fewer.remove(&stroke);
        let faults = best.0.faults.clone();
        if attempt(&mut best, faults, Some(fewer.clone()), &mut left) {
            kept = fewer;
        }
    }
    best
}

/// Runs with fewer faults; true when that fails too, and then it is the best so far.
fn attempt(
    best: &mut (Options, Verdict),
    faults: BTreeSet<Fault>,
    keep: Option<BTreeSet<u32>>,
    left: &mut u32,
) -> bool {
    if *left == 0 {
        return false;
    }
    *left -= 1;
    let options = Options { faults, keep, ..best.0.clone() };
    let verdict = run(&options);
    // Another failure is another story.
    let fails = kind_of(&verdict) == kind_of(&best.1) && verdict.problem.is_some();
    if fails {
        *best = (options, verdict);
    }
    fails
}

/// What failed, without when, where and with what names: the words alone, up to what the world says to it.
fn kind_of(verdict: &Verdict) -> Option<String> {
    let problem = verdict.problem.as_ref()?;
    let (_, what) = problem.split_once(" s: ").unwrap_or(("", problem));
    let words = what.split("; what it says").next().unwrap_or_default().split_whitespace();
    let words = words.filter(|word| word.chars().all(|c| c.is_ascii_alphabetic() || c == ','));
    Some(words.collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_failure_elsewhere_is_the_same_and_another_one_is_not() {
        let kind = |problem: &str| {
            let verdict = Verdict { problem: Some(problem.to_owned()), ..Verdict::default() };
            kind_of(&verdict)
        };
        let first = kind("at 12 s: node worker-0 is left cordoned; what it says: []");
        assert_eq!(first, kind("at 900 s: node worker-7 is left cordoned; what it says: [\"x\"]"));
        assert_ne!(first, kind("at 12 s: node worker-0 offers 2 VFs and not 4"));
    }
}
