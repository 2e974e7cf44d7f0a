//! Nodes that somebody else drains, by upstream's annotation: handed over, left alone, and taken back.

use super::{Observed, marks, patch_state, rest};
use crate::steps::DrainState;
use crate::world::World;
use api::nodestate::SriovNetworkNodeState;
use api::wire::{Outcome, Write};
use api::{Timestamp, annotation};
use planner::DrainRequest;
use planner::rollout::Progress;
use serde_json::{Value, json};

/// `USE_EXTERNAL_DRAINER`: every node is somebody else's to drain, from the moment that no drain of ours is under way.
pub(super) fn hand_over(world: &World, seen: &Observed) -> Option<Write> {
    (world.settings.external_drainer && rests(seen)).then(|| {
        let mut annotations = marks(seen);
        for key in [annotation::EXTERNAL_DRAINER, annotation::HANDED_OVER] {
            annotations.insert(key.to_owned(), "true".into());
        }
        patch_state(seen, json!({ "metadata": { "annotations": annotations } }))
    })
}

/// A node that somebody else drains. While nobody does, what is left of ours ends; and one that we handed over because of
/// a setting that is no more is ours again. What others annotated stays theirs.
pub(super) fn elsewhere(world: &World, seen: &Observed, now: Timestamp) -> Outcome {
    if !rests(seen) {
        return Outcome::default();
    }
    let handed_over = seen.state.metadata.annotations.contains_key(annotation::HANDED_OVER);
    if handed_over && !world.settings.external_drainer {
        let keys = [annotation::EXTERNAL_DRAINER, annotation::HANDED_OVER];
        let annotations: serde_json::Map<String, Value> =
            keys.into_iter().map(|key| (key.to_owned(), Value::Null)).collect();
        let write = patch_state(seen, json!({ "metadata": { "annotations": annotations } }));
        return Outcome { writes: vec![write], look_again: Some(now) };
    }
    rest(seen, now)
}

/// Nobody asks for a drain, and none is under way.
fn rests(seen: &Observed) -> bool {
    let DrainState { request, mirror, current } = seen.drain;
    [request, mirror] == [DrainRequest::Idle; 2] && current == Progress::Idle
}

/// The node is somebody else's to drain.
pub(crate) fn has_external_drainer(state: &SriovNetworkNodeState) -> bool {
    state.metadata.annotations.get(annotation::EXTERNAL_DRAINER).is_some_and(|v| v == "true")
}
