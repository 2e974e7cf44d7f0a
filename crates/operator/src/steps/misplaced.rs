//! A policy or pool outside the operator's namespace: it is not acted on, and an event on it says so, once.
//!
//! Upstream says nothing and does nothing. Its status stays empty: it is not ours to write there.

use crate::queue::later;
use crate::world::World;
use api::wire::{Event, ObjectKey, Outcome, Write};
use api::{Timestamp, names};
use std::time::Duration;

/// One that has been there for long was told about, or was there before us.
const NEWS: Duration = Duration::from_secs(300);

pub fn reconcile(world: &World, key: &ObjectKey, now: Timestamp) -> Outcome {
    let Some(metadata) = world.misplaced.get(key) else { return Outcome::default() };
    let namespace = &world.settings.namespace;
    let message = format!(
        "{} {}/{} is not acted on: objects of this kind count in namespace {namespace} only; \
         create it there and delete this one",
        key.kind, key.namespace, key.name
    );
    let is_new = metadata.creation_timestamp.is_some_and(|at| now <= later(at, NEWS));
    if !is_new || world.was_told(key, &metadata.uid, &message) {
        return Outcome::default();
    }
    let event = Event {
        regarding: key.clone(),
        uid: metadata.uid.clone(),
        warning: true,
        reason: planner::Reason::WrongNamespace.as_str().to_owned(),
        message,
        component: names::OPERATOR,
        at: now,
    };
    Outcome { writes: vec![Write::Event(event)], look_again: None }
}
