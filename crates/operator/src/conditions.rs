//! Conditions in the status of our kinds: set in place, with a transition time only where the status changes.

use api::Timestamp;
use api::condition::Condition;
use api::wire::{Event, ObjectKey, Write};

/// The first few texts, then how many more there are, and of what: a node has hundreds of pods.
pub fn some_of(texts: &[String], shown: usize, separator: &str, what: &str) -> String {
    let first = texts[..texts.len().min(shown)].join(separator);
    match texts.len().saturating_sub(shown) {
        0 => first,
        more => format!("{first}{separator}and {more} {what}"),
    }
}

/// The reason of what is not there yet and needs nobody.
pub const PROGRESSING: &str = "Progressing";

/// What one condition is to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub kind: &'static str,
    pub status: Status,
    pub reason: &'static str,
    pub message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    True,
    False,
    Unknown,
}

impl Status {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl Verdict {
    /// The condition that every kind of ours has, and that `kubectl wait --for=condition=Ready` waits for.
    pub fn ready(reason: &'static str, message: impl Into<String>) -> Self {
        Self { kind: "Ready", status: Status::True, reason, message: message.into() }
    }

    pub fn not_ready(reason: &'static str, message: impl Into<String>) -> Self {
        Self { kind: "Ready", status: Status::False, reason, message: message.into() }
    }
}

/// Puts a verdict among the conditions. Returns true when status or reason changed, which is worth an event.
pub fn set(
    conditions: &mut Vec<Condition>,
    verdict: &Verdict,
    generation: i64,
    now: Timestamp,
) -> bool {
    let old = conditions.iter_mut().find(|condition| condition.kind == verdict.kind);
    let turned = old.as_ref().is_none_or(|old| old.status != verdict.status.as_str());
    let changed = turned || old.as_ref().is_none_or(|old| old.reason != verdict.reason);
    let condition = Condition {
        kind: verdict.kind.to_owned(),
        status: verdict.status.as_str().to_owned(),
        observed_generation: Some(generation),
        last_transition_time: match &old {
            Some(old) if !turned => old.last_transition_time,
            // Whole seconds, as Kubernetes writes this field.
            _ => Timestamp::from_second(now.as_second()).unwrap_or(now),
        },
        reason: verdict.reason.to_owned(),
        message: verdict.message.clone(),
    };
    match old {
        Some(old) => *old = condition,
        None => conditions.push(condition),
    }
    changed
}

/// The event that tells of a verdict: a warning unless all is well or on its way.
pub fn event(regarding: ObjectKey, uid: &str, verdict: &Verdict, now: Timestamp) -> Write {
    Write::Event(Event {
        regarding,
        uid: uid.to_owned(),
        warning: verdict.status != Status::True && verdict.reason != PROGRESSING,
        reason: verdict.reason.to_owned(),
        message: verdict.message.clone(),
        component: api::names::OPERATOR,
        at: now,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_its_way_warns_nobody() {
        let warns = |verdict: &Verdict| {
            let object = ObjectKey::new("v1", "Node", "", "worker-0");
            match event(object, "", verdict, Timestamp::UNIX_EPOCH) {
                Write::Event(event) => event.warning,
                other => panic!("an event was asked for: {other:?}"),
            }
        };
        assert!(!warns(&Verdict::ready("NodesReady", "3 of 3 nodes are at their goal")));
        assert!(!warns(&Verdict::not_ready(PROGRESSING, "2 of 3 nodes are at their goal")));
        assert!(warns(&Verdict::not_ready("NothingSelected", "no node matches")));
    }
}
