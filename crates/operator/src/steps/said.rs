//! The conditions of a node state that are the operator's, written together.

use super::admitted::ADMITTED;
use super::cards::TESTED;
use super::drain::DRAINED;
use super::waiting::WAITING;
use crate::conditions::{self, Verdict};
use api::condition::Condition;
use api::nodestate::SriovNetworkNodeState;
use api::wire::Write;
use api::{Timestamp, names};
use serde_json::json;

/// Our conditions, by server-side apply, all of them at once: one that is left out is taken away. The other conditions
/// of the node state are the daemon's.
pub(crate) fn say(
    state: &SriovNetworkNodeState,
    verdicts: &[Verdict],
    now: Timestamp,
) -> Vec<Write> {
    let metadata = &state.metadata;
    const OURS: [&str; 4] = [DRAINED, ADMITTED, TESTED, WAITING];
    let ours = |condition: &&Condition| OURS.contains(&condition.kind.as_str());
    let old: Vec<Condition> = state.status.conditions.iter().filter(ours).cloned().collect();
    let mut new = old.clone();
    for verdict in verdicts {
        conditions::set(&mut new, verdict, metadata.generation, now);
    }
    if new == old {
        return Vec::new();
    }
    let object = json!({
        "apiVersion": names::API_VERSION, "kind": names::NODE_STATE,
        "metadata": { "name": metadata.name, "namespace": metadata.namespace },
        "status": { "conditions": new },
    });
    vec![Write::Apply { object, subresource: "status" }]
}
