//! The queue: events in order of time, and of arrival where times are equal.

use api::Timestamp;
use std::collections::BTreeMap;

/// What may happen next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The built-in controllers and kubelets look.
    Cluster,
    /// A watch of a process delivers what it has.
    Deliver { process: String, watch: usize },
    /// A process takes a step.
    Step { process: String },
    /// The user, or fate, does something: the n-th thing of the story.
    Act(usize),
}

#[derive(Debug, Default)]
pub struct Queue {
    events: BTreeMap<(Timestamp, u64), Event>,
    sequence: u64,
}

impl Queue {
    pub fn add(&mut self, at: Timestamp, event: Event) {
        self.sequence += 1;
        self.events.insert((at, self.sequence), event);
    }

    pub fn next(&mut self) -> Option<(Timestamp, Event)> {
        self.events.pop_first().map(|((at, _), event)| (at, event))
    }
}
