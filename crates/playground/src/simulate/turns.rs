//! Who may be granted a turn by the phase that the pool's rollout is in: canaries first, nobody while it is paused, and
//! while it is halted only what is worse already.

use super::story::Story;
use crate::cluster::objects::{items, text};
use crate::store::Store;
use api::pool::PoolSpec;
use api::wire::ObjectKey;
use api::{annotation, names};
use planner::pools::limit;
use planner::rollout::{CANARY, HALTED, PAUSED};
use serde_json::Value;
use std::collections::BTreeSet;

/// What is wrong with the grants that a write of the pool's status added.
pub fn check(before: &Value, after: &Value, store: &Store, story: &Story) -> Result<(), String> {
    let same = |pointer: &str| text(before, pointer) == text(after, pointer);
    // A person says go on, or it is another rollout.
    if !same("/status/resumed") || !same("/status/rollout/started") {
        return Ok(());
    }
    let phase = text(before, "/status/rollout/phase");
    let named = |pool: &Value, list: &str| -> BTreeSet<String> {
        items(pool, list).iter().map(|one| text(one, "/node").to_owned()).collect()
    };
    let failures = named(after, "/status/rollout/failures");
    let canaries = |pool: &Value| -> BTreeSet<String> {
        let listed = items(pool, "/status/rollout/canaries").iter();
        listed.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let first = canaries(before);
    // One that failed, was given up or left the pool makes room for another.
    let excused = |name: &String| {
        let leaves = story.leaver(name).is_some();
        let of_two = story.extras.second_pool.as_ref().is_some_and(|(node, ..)| node == name);
        let gone = failures.contains(name) || named(after, "/status/skipped").contains(name);
        gone || leaves || of_two
    };
    let may = |name: &String| match phase {
        PAUSED => first.contains(name),
        HALTED => failures.contains(name) || text(after, "/status/rollout/phase") != HALTED,
        CANARY if text(after, "/status/rollout/phase") == CANARY => {
            let full = first.len() >= wanted(before);
            first.contains(name) || !full || first.iter().any(excused)
        }
        _ => true,
    };
    let had = named(before, "/status/grants");
    let new = named(after, "/status/grants");
    let mut new = new.difference(&had);
    match new.find(|name| !may(name) && !is_disturbed(name, store)) {
        Some(name) => Err(format!("{name} was granted a turn in phase {phase} of its pool")),
        None => Ok(()),
    }
}

/// How many canaries the pool wants of the nodes that it counted.
fn wanted(pool: &Value) -> usize {
    let spec = pool.get("spec").cloned().unwrap_or_default();
    let spec: Option<PoolSpec> = serde_json::from_value(spec).ok();
    let canary = spec.and_then(|spec| spec.rollout).and_then(|rollout| rollout.canary);
    let nodes = pool.pointer("/status/nodes").and_then(Value::as_u64).unwrap_or_default();
    let nodes = usize::try_from(nodes).unwrap_or(usize::MAX);
    canary.map_or(0, |canary| limit(Some(&canary), nodes).nodes())
}

/// Its drain was begun already: it is adopted, whatever the phase.
fn is_disturbed(name: &str, store: &Store) -> bool {
    let key = ObjectKey::new(names::API_VERSION, names::NODE_STATE, names::NAMESPACE, name);
    let annotations = store.object(&key).and_then(|state| state.pointer("/metadata/annotations"));
    let current = annotations.and_then(|all| all.get(annotation::CURRENT_STATE));
    current.and_then(Value::as_str).is_some_and(|current| current != annotation::IDLE)
}
