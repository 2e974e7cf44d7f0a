//! Condition `WaitingForTurn` of the node states whose nodes no pool's status lists: those in no pool, which go one at a
//! time in the whole cluster, those in several, and those that wait for a person behind the ones that the list has room for.

use super::key_of_state;
use super::said::say;
use crate::conditions::{self, Status, Verdict};
use crate::kinds;
use crate::world::World;
use api::Timestamp;
use api::nodestate::SriovNetworkNodeState;
use api::wire::{ObjectKey, Write};
use planner::Blocker;
use planner::rollout::{PoolRollout, Rollout};
use std::collections::BTreeMap;

pub const WAITING: &str = "WaitingForTurn";

/// The place in the line is told to so many: with each turn that ends it is another one for everybody behind.
const TOLD_PLACES: usize = 20;

/// The conditions that differ, each with its event.
pub(crate) fn writes(world: &World, rollout: &Rollout, now: Timestamp) -> Vec<Write> {
    let waiting = waiting(rollout);
    let mut writes = Vec::new();
    for (name, state) in &world.node_states {
        let verdict = match waiting.get(name.as_str()) {
            Some(verdict) => verdict.clone(),
            None if waits(state) => Verdict {
                kind: WAITING,
                status: Status::False,
                reason: "AsExpected",
                message: match rollout.waits(name) {
                    Some(_) => "its pool says what the node waits for".to_owned(),
                    None => "the node waits for no turn".to_owned(),
                },
            },
            None => continue,
        };
        writes.extend(tell(world, state, &verdict, now));
    }
    writes
}

/// Who waits, each with why.
fn waiting(rollout: &Rollout) -> BTreeMap<&str, Verdict> {
    let verdict = |blocker: &Blocker, message| Verdict {
        kind: WAITING,
        status: Status::True,
        reason: blocker.reason().as_str(),
        message,
    };
    let line = &rollout.without_pool.waiting;
    let in_line = line.iter().enumerate().map(|(place, (node, blocker))| {
        let message = match place < TOLD_PLACES {
            true => format!("{blocker}; it is number {} of those that wait without a pool", place + 1),
            false => format!(
                "{node} waits: more than {TOLD_PLACES} nodes without a pool are before it, and one goes at a time; a pool with maxUnavailable lets more of them go"
            ),
        };
        (node.as_str(), verdict(blocker, message))
    });
    let in_pools = rollout.pools.values().flat_map(|pool| &pool.waiting);
    let in_two = in_pools.filter(|(_, blocker)| matches!(blocker, Blocker::TwoPools { .. }));
    let unlisted = rollout.pools.values().flat_map(PoolRollout::unlisted);
    let for_a_person = in_two.chain(unlisted);
    let for_a_person =
        for_a_person.map(|(node, blocker)| (node.as_str(), verdict(blocker, blocker.to_string())));
    in_line.chain(for_a_person).collect()
}

fn waits(state: &SriovNetworkNodeState) -> bool {
    state.status.conditions.iter().any(|one| one.kind == WAITING && one.status == "True")
}

fn tell(
    world: &World,
    state: &SriovNetworkNodeState,
    verdict: &Verdict,
    now: Timestamp,
) -> Vec<Write> {
    let mut writes = say(state, std::slice::from_ref(verdict), now);
    let before = state.status.conditions.iter().find(|one| one.kind == WAITING);
    let turned = before.is_none_or(|one| {
        (one.status.as_str(), one.reason.as_str()) != (verdict.status.as_str(), verdict.reason)
    });
    // That it waits no more is told by what begins then.
    if !writes.is_empty() && turned && verdict.status == Status::True {
        let metadata = &state.metadata;
        writes.push(conditions::event(key_of_state(state), &metadata.uid, verdict, now));
        let node = ObjectKey::new("v1", kinds::NODE, "", &metadata.name);
        let uid = world.nodes.get(&metadata.name).map_or("", |node| &node.metadata.uid);
        writes.push(conditions::event(node, uid, verdict, now));
    }
    writes
}
