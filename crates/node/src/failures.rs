//! What failed and when it is tried again: a pause that doubles, lane by lane, and ends with a new order.
//!
//! The changes of a failed attempt are themselves events that wake the daemon; without a pause it would try in a circle.

use api::Timestamp;
use planner::{Blocker, Lane};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// Why a lane failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// A sentence.
    Error(String),
    /// What is in the way, and will be the next time.
    Blocked(Blocker),
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Error(sentence) => f.write_str(sentence),
            Self::Blocked(blocker) => blocker.fmt(f),
        }
    }
}

impl From<String> for Why {
    fn from(sentence: String) -> Self {
        Self::Error(sentence)
    }
}

/// Each lane that failed.
pub type Failed = BTreeMap<Lane, Why>;

const FIRST: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(300);

/// What failed lately.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Failures {
    /// Of the node state that was tried.
    generation: i64,
    by_lane: BTreeMap<Lane, Failure>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Failure {
    error: Why,
    pause: Duration,
    until: Timestamp,
}

impl Failures {
    /// Lanes that are not tried yet, each with the sentence that it failed with.
    pub fn waiting(&self, generation: i64, now: Timestamp) -> Failed {
        let current = self.by_lane.iter().filter(|_| self.generation == generation);
        // A clock that was set back must not make the pause longer than it is.
        let waits = |failure: &Failure| {
            now < failure.until && failure.until.duration_since(now).unsigned_abs() <= failure.pause
        };
        let waiting = current.filter(|(_, failure)| waits(failure));
        waiting.map(|(lane, failure)| (*lane, failure.error.clone())).collect()
    }

    /// Takes in what a step came to: `failed` are the lanes that waited and those that failed now.
    pub fn note(&mut self, generation: i64, failed: &Failed, now: Timestamp) {
        let waited = self.waiting(generation, now);
        let before = std::mem::take(&mut self.by_lane);
        let known = before.into_iter().filter(|_| self.generation == generation);
        let known: BTreeMap<Lane, Failure> = known.collect();
        self.generation = generation;
        for (lane, error) in failed {
            let earlier = known.get(lane);
            let failure = match earlier.filter(|_| waited.contains_key(lane)) {
                Some(still) => still.clone(),
                None => {
                    let pause = earlier.map_or(FIRST, |f| f.pause.saturating_mul(2).min(LONGEST));
                    let until = now.checked_add(pause).unwrap_or(now);
                    Failure { error: error.clone(), pause, until }
                }
            };
            self.by_lane.insert(*lane, failure);
        }
    }

    /// When the first lane is due again.
    pub fn next(&self) -> Option<Timestamp> {
        self.by_lane.values().map(|failure| failure.until).min()
    }
}
