//! What many seeds amount to: sizes, how often each fault fired and mattered, and whether that is enough.

use super::faults::{Count, Fault};
use super::features::Feature;
use super::run::Verdict;
use std::collections::BTreeMap;
use std::fmt::Write;

/// Fewer seeds say nothing about a fault that comes once in a hundred.
pub const ENOUGH: usize = 100;
/// In so many seeds each fault and each feature has to make a difference at least once.
const MANY: usize = 1000;

/// The classes of cluster sizes that are told apart.
const SIZES: [(usize, usize, &str); 4] =
    [(1, 5, "1-5"), (6, 10, "6-10"), (11, 100, "11-100"), (101, usize::MAX, "more than 100")];

/// Adds up verdicts.
#[derive(Debug, Default)]
pub struct Report {
    seeds: usize,
    sizes: BTreeMap<usize, u32>,
    faults: BTreeMap<Fault, Sum>,
    features: BTreeMap<Feature, Count>,
}

#[derive(Debug, Default)]
struct Sum {
    times: Count,
    seeds: Count,
}

impl Report {
    pub fn of<'a>(verdicts: impl Iterator<Item = &'a Verdict>) -> Self {
        let mut report = Self::default();
        verdicts.for_each(|verdict| report.add(verdict));
        report
    }

    fn add(&mut self, verdict: &Verdict) {
        self.seeds += 1;
        *self.sizes.entry(verdict.nodes).or_default() += 1;
        for (feature, mattered) in &verdict.features {
            let count = self.features.entry(*feature).or_default();
            count.fired += 1;
            count.mattered += u32::from(*mattered);
        }
        for (fault, count) in &verdict.faults.0 {
            let sum = self.faults.entry(*fault).or_default();
            sum.times.fired += count.fired;
            sum.times.mattered += count.mattered;
            sum.seeds.fired += u32::from(count.fired > 0);
            sum.seeds.mattered += u32::from(count.mattered > 0);
        }
    }

    /// Seeds by size, and a line for each fault.
    pub fn text(&self) -> String {
        let of = |(from, to, label): &(usize, usize, &str)| {
            let seeds: u32 = self.sizes.range(*from..=*to).map(|(_, seeds)| seeds).sum();
            format!("{label}: {seeds}")
        };
        let sizes: Vec<String> = SIZES.iter().map(of).collect();
        let mut text = format!("seeds by number of nodes: {}\n", sizes.join(", "));
        let none = Sum::default();
        for fault in Fault::all() {
            let Sum { times, seeds } = self.faults.get(&fault).unwrap_or(&none);
            let _ = writeln!(
                text,
                "fault {:<22} fired {:>6} times in {:>5} seeds, mattered {:>6} times in {:>5} seeds",
                fault.to_string(),
                times.fired,
                seeds.fired,
                times.mattered,
                seeds.mattered
            );
        }
        for feature in Feature::all() {
            let Count { fired, mattered } = self.feature(feature);
            let _ = writeln!(
                text,
                "feature {feature:<22} drawn in {fired:>5} seeds, mattered in {mattered:>5}"
            );
        }
        text
    }

    fn feature(&self, feature: Feature) -> Count {
        self.features.get(&feature).copied().unwrap_or_default()
    }

    /// Faults that fired in too few seeds to prove anything, or never mattered, one sentence each. Only many seeds can
    /// tell.
    pub fn too_rare(&self) -> Vec<String> {
        let rare = |fault: &Fault| {
            let fired = self.faults.get(fault).map_or(0, |sum| sum.seeds.fired) as usize;
            (fired * 100 < self.seeds).then(|| {
                format!(
                    "fault {fault} fired in {fired} of {} seeds, which is less than 1 %",
                    self.seeds
                )
            })
        };
        let idle = |fault: &Fault| {
            let mattered = self.faults.get(fault).map_or(0, |sum| sum.seeds.mattered);
            (mattered == 0)
                .then(|| format!("fault {fault} mattered in none of {} seeds", self.seeds))
        };
        let mut wrong = Vec::new();
        if self.seeds >= ENOUGH {
            wrong.extend(Fault::all().filter_map(|fault| rare(&fault)));
        }
        if self.seeds >= MANY {
            wrong.extend(Fault::all().filter_map(|fault| idle(&fault)));
            let unmet = |feature: &Feature| self.feature(*feature).mattered == 0;
            wrong.extend(Feature::all().filter(unmet).map(|feature| {
                format!("feature {feature} mattered in none of {} seeds", self.seeds)
            }));
        }
        wrong
    }
}
