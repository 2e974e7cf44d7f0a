//! The operator's cordon on a node that is done: where the operator does not take it back, the daemon does.
//!
//! The operator may have died on another node while every node that could take its pod was cordoned by itself: nobody
//! else would ever undo that. A cordon of anybody else is not looked at here, nor one of a drain that still goes on.

use crate::world::NodeWorld;
use api::nodestate::NodeStateStatus;
use api::wire::{ObjectKey, PatchType, Write};
use api::{Timestamp, annotation};
use serde_json::json;
use std::time::Duration;

/// How long an operator has to take its cordon back: longer than a new one takes to lead and to look at everything.
pub const PATIENCE: Duration = Duration::from_secs(5 * 60);

/// What is said of it.
pub const MESSAGE: &str = "the node has asked for no drain for 5 minutes and was still cordoned by the operator, which may have no place to run: the cordon is taken back";

/// The write that takes the cordon back, where the node asks for nothing, its own report is that old, and the cordon is
/// the operator's. Of the very version that was seen: an administrator's cordon may have taken its place.
pub fn take_back(world: &NodeWorld, status: &NodeStateStatus, now: Timestamp) -> Option<Write> {
    let node = world.node.as_ref()?;
    let rests = |request: &str| request == annotation::IDLE;
    let ready = status.conditions.iter().find(|condition| condition.kind == "Ready")?;
    let due = ready.last_transition_time.checked_add(PATIENCE).ok()?;
    let is_ours = node.annotations.contains_key(annotation::CORDONED_BY_US);
    let asks = !rests(world.desired_state()) || !rests(world.node_request()?);
    let patch = json!({
        "metadata": {
            "resourceVersion": node.resource_version,
            "annotations": { annotation::CORDONED_BY_US: null },
        },
        "spec": { "unschedulable": null },
    });
    (is_ours && !asks && due <= now).then(|| Write::Patch {
        key: ObjectKey::new("v1", "Node", "", &node.name),
        patch_type: PatchType::Merge,
        patch,
        subresource: "",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::Change;
    use api::condition::Condition;
    use api::names;
    use serde_json::Value;

    /// What becomes of a cordon so many seconds after the node reported its goal.
    fn after(seconds: i64, cordoned_by: &str, asks: &str) -> Option<Value> {
        let mut world = NodeWorld::default();
        let mut annotations = json!({ annotation::NODE_STATE: asks });
        if cordoned_by == "operator" {
            annotations[annotation::CORDONED_BY_US] = "true".into();
        }
        world.apply(&Change::Is(json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": { "name": "worker-0", "resourceVersion": "7", "annotations": annotations },
            "spec": { "unschedulable": true },
        })));
        world.apply(&Change::Is(json!({
            "apiVersion": names::API_VERSION, "kind": names::NODE_STATE,
            "metadata": { "name": "worker-0", "annotations": { annotation::DESIRED_STATE: asks } },
        })));
        let ready = Condition {
            kind: "Ready".to_owned(),
            status: "True".to_owned(),
            reason: "AtGoal".to_owned(),
            message: String::new(),
            observed_generation: None,
            last_transition_time: Timestamp::UNIX_EPOCH,
        };
        let status = NodeStateStatus { conditions: vec![ready], ..NodeStateStatus::default() };
        let now = Timestamp::from_second(seconds).unwrap();
        take_back(&world, &status, now).map(|write| match write {
            Write::Patch { patch, .. } => patch,
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn a_cordon_that_the_operator_forgets_is_taken_back_after_five_minutes_of_the_version_seen() {
        assert_eq!(after(299, "operator", annotation::IDLE), None);
        let patch = after(300, "operator", annotation::IDLE).unwrap();
        assert_eq!(patch["metadata"]["resourceVersion"], "7");
        assert_eq!(patch["spec"], json!({ "unschedulable": null }));
    }

    #[test]
    fn a_cordon_of_somebody_else_and_one_of_a_drain_that_goes_on_stay() {
        assert_eq!(after(3000, "administrator", annotation::IDLE), None);
        assert_eq!(after(3000, "operator", annotation::REBOOT_REQUIRED), None);
    }
}
