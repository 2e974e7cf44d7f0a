//! Which controller has to look at what, and when: keys with due times and back-off.
//!
//! Deterministic: the time is an argument, ties go by the order of keys, and there is no jitter. A key is never
//! worked on twice at a time; what comes in meanwhile makes it due again afterwards.

use crate::objects::Place;
use api::Timestamp;
use api::wire::ObjectKey;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

/// One thing that a controller brings in order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    OperatorConfig,
    /// The spec of one node's state, and the state's existence.
    NodeState(String),
    /// Grants and status of one pool.
    Pool(PoolKey),
    /// The drain of one node.
    Drain(String),
    /// What is wrong between objects that are right by themselves.
    Findings,
    Policy(String),
    /// The ConfigMap in upstream's shape.
    DevicePluginConfig,
    Network {
        kind: NetworkKind,
        namespace: String,
        name: String,
    },
    /// A pod with networks or devices.
    Pod(Place),
    /// An object in a namespace where it does not count.
    Misplaced(ObjectKey),
}

/// A pool, or the nodes that are in none.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum PoolKey {
    NoPool,
    Named(String),
}

/// The three kinds that become a NetworkAttachmentDefinition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NetworkKind {
    Sriov,
    Ib,
    Ovs,
}

impl NetworkKind {
    pub const ALL: [Self; 3] = [Self::Sriov, Self::Ib, Self::Ovs];

    pub fn name(self) -> &'static str {
        match self {
            Self::Sriov => api::names::SRIOV_NETWORK,
            Self::Ib => api::names::IB_NETWORK,
            Self::Ovs => api::names::OVS_NETWORK,
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OperatorConfig => f.write_str("operator config"),
            Self::NodeState(node) => write!(f, "node state {node}"),
            Self::Pool(PoolKey::NoPool) => f.write_str("nodes without a pool"),
            Self::Pool(PoolKey::Named(pool)) => write!(f, "pool {pool}"),
            Self::Drain(node) => write!(f, "drain of {node}"),
            Self::Findings => f.write_str("objects at odds"),
            Self::Policy(policy) => write!(f, "policy {policy}"),
            Self::DevicePluginConfig => f.write_str("device plugin config"),
            Self::Network { kind, namespace, name } => {
                write!(f, "{} {namespace}/{name}", kind.name())
            }
            Self::Pod(place) => write!(f, "pod {place}"),
            Self::Misplaced(key) => write!(f, "misplaced {key}"),
        }
    }
}

/// The keys that wait.
#[derive(Debug, Clone, Default)]
pub struct Queue {
    due: BTreeMap<Key, Timestamp>,
    /// The same, of keys that nobody works on, in the order of their turn.
    turns: BTreeSet<(Timestamp, Key)>,
    working: BTreeSet<Key>,
    failures: BTreeMap<Key, u32>,
    /// What the clock said last.
    clock: Option<Timestamp>,
}

/// Back-off after the first failure; it doubles from there.
const FIRST: Duration = Duration::from_millis(200);
/// The longest back-off.
const LONGEST: Duration = Duration::from_secs(60);

impl Queue {
    /// Makes a key due at a time; an earlier time that stands already stays.
    pub fn add(&mut self, key: Key, at: Timestamp) {
        match self.due.get(&key) {
            Some(due) if *due <= at => {}
            _ => self.set(key, at),
        }
    }

    /// Has the keys keep the time that is left to them when the clock was set back: else they would sleep until it has
    /// caught up.
    pub fn tell_time(&mut self, now: Timestamp) {
        let back =
            self.clock.map(|clock| clock.duration_since(now)).filter(|back| back.is_positive());
        self.clock = Some(now);
        let Some(back) = back else { return };
        let earlier = |due: Timestamp| due.checked_sub(back).unwrap_or(Timestamp::MIN);
        self.due.values_mut().for_each(|due| *due = earlier(*due));
        let turns = std::mem::take(&mut self.turns);
        self.turns = turns.into_iter().map(|(due, key)| (earlier(due), key)).collect();
    }

    /// When the next key is due that nobody works on.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.turns.first().map(|(due, _)| *due)
    }

    /// When the last of all keys is due, as far as is known now.
    pub fn last_due(&self) -> Option<Timestamp> {
        self.turns.last().map(|(due, _)| *due)
    }

    /// Takes the key that is due the longest. It has to be given back by `done` or `failed`.
    pub fn take(&mut self, now: Timestamp) -> Option<Key> {
        if self.next_due()? > now {
            return None;
        }
        let (_, key) = self.turns.pop_first()?;
        self.due.remove(&key);
        self.working.insert(key.clone());
        Some(key)
    }

    /// The step of a key and its writes went through.
    pub fn done(&mut self, key: Key, look_again: Option<Timestamp>) {
        self.working.remove(&key);
        self.failures.remove(&key);
        let due = [self.due.remove(&key), look_again].into_iter().flatten().min();
        if let Some(at) = due {
            self.set(key, at);
        }
    }

    /// A write of the key's step was refused: look again, later with each time.
    pub fn failed(&mut self, key: Key, now: Timestamp) {
        self.working.remove(&key);
        let times = self.failures.entry(key.clone()).or_default();
        let delay = FIRST.saturating_mul(1 << (*times).min(16)).min(LONGEST);
        *times += 1;
        // What came in meanwhile waits as well: it would fail in the same way.
        self.set(key, later(now, delay));
    }

    fn set(&mut self, key: Key, at: Timestamp) {
        if let Some(before) = self.due.insert(key.clone(), at) {
            self.turns.remove(&(before, key.clone()));
        }
        if !self.working.contains(&key) {
            self.turns.insert((at, key));
        }
    }
}

/// The time a while after `now`; at the end of time it stays there.
pub fn later(now: Timestamp, delay: Duration) -> Timestamp {
    now.checked_add(delay).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn drain(node: &str) -> Key {
        Key::Drain(node.to_owned())
    }

    #[test]
    fn keys_come_in_order_of_their_due_time_then_of_their_name() {
        let mut queue = Queue::default();
        queue.add(drain("b"), second(5));
        queue.add(drain("a"), second(5));
        queue.add(drain("c"), second(4));
        queue.add(drain("late"), second(9));
        let order: Vec<_> = std::iter::from_fn(|| queue.take(second(5))).collect();
        assert_eq!(order, [drain("c"), drain("a"), drain("b")]);
    }

    #[test]
    fn a_clock_that_is_set_back_by_a_day_delays_nobody() {
        let mut queue = Queue::default();
        let day = 86_400;
        queue.tell_time(second(day));
        queue.add(drain("a"), second(day + 5));
        queue.tell_time(second(2));
        assert_eq!(queue.next_due(), Some(second(7)));
        assert_eq!(queue.take(second(7)), Some(drain("a")));
        queue.failed(drain("a"), second(7));
        queue.tell_time(second(1));
        assert_eq!(queue.next_due(), Some(later(second(1), Duration::from_millis(5200))));
    }

    #[test]
    fn a_key_that_is_worked_on_waits_for_its_end() {
        let mut queue = Queue::default();
        queue.add(drain("a"), second(1));
        assert_eq!(queue.take(second(1)), Some(drain("a")));
        queue.add(drain("a"), second(1));
        assert_eq!(queue.take(second(1)), None);
        assert_eq!(queue.next_due(), None);
        queue.done(drain("a"), None);
        assert_eq!(queue.take(second(1)), Some(drain("a")));
    }

    #[test]
    fn failures_of_one_key_wait_longer_and_longer_up_to_a_minute() {
        let mut queue = Queue::default();
        let mut now = second(0);
        let mut waits = Vec::new();
        queue.add(drain("a"), now);
        for _ in 0..12 {
            let key = queue.take(now).unwrap();
            queue.failed(key, now);
            let due = queue.next_due().unwrap();
            waits.push((due.as_millisecond() - now.as_millisecond()).to_string());
            now = due;
        }
        expect_test::expect!["200 400 800 1600 3200 6400 12800 25600 51200 60000 60000 60000"]
            .assert_eq(&waits.join(" "));
        let key = queue.take(now).unwrap();
        queue.done(key, None);
        assert_eq!(queue.next_due(), None);
    }
}
