//! How soon a DaemonSet's failed pod is replaced: at once, and again and again more and more slowly.
//!
//! The real controller's `failedPodsBackoff`: from one second to a quarter of an hour, for each set and node. It forgets
//! after twice the longest time.

use crate::cluster::objects::uid;
use api::Timestamp;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(15 * 60);

/// A DaemonSet by uid, and a node by name.
type Place = (String, String);

#[derive(Debug, Default)]
pub struct FailedPods {
    /// When a pod last went from there, and how long the next one stays.
    gone: BTreeMap<Place, (Timestamp, Duration)>,
    /// Where one stays, and until when.
    staying: BTreeMap<Place, Timestamp>,
}

impl FailedPods {
    /// The sets of which a failed pod may go now.
    pub fn take_due(&mut self, now: Timestamp) -> BTreeSet<String> {
        let is_due = |(_, until): &(&Place, &Timestamp)| **until <= now;
        let due = self.staying.iter().filter(is_due).map(|(place, _)| place.0.clone()).collect();
        self.staying.retain(|_, until| *until > now);
        due
    }

    /// True when a failed pod of this set may be replaced now; else it stays, and is looked at again in its time.
    pub fn may_go(&mut self, set: &Value, node: &str, now: Timestamp) -> bool {
        let place = (uid(set).to_owned(), node.to_owned());
        let lately = self.gone.get(&place).filter(|(at, _)| now < *at + 2 * LONGEST);
        let until = lately.map(|(at, delay)| *at + *delay).filter(|until| now < *until);
        if let Some(until) = until {
            self.staying.insert(place, until);
            return false;
        }
        let next = lately.map_or(FIRST, |(_, delay)| (*delay * 2).min(LONGEST));
        self.gone.insert(place, (now, next));
        true
    }

    /// When the next failed pod may go.
    pub fn next(&self) -> Option<Timestamp> {
        self.staying.values().min().copied()
    }
}
