//! Pods that have ended and that a node's daemon takes for holders: named to it, since it has no rights to read pods.
//!
//! A kubelet before 1.34 lists their devices in PodResources on, and the daemon would wait for them for ever, or ask for
//! a drain that nobody needs.

use super::{key_of_state, patch_if_unchanged};
use crate::objects::Pod;
use crate::queue::later;
use crate::world::World;
use api::custody::EndedPod;
use api::nodestate::{HOLDERS_LISTED, SriovNetworkNodeState};
use api::wire::Write;
use api::{Timestamp, annotation};
use serde_json::{Value, json};
use std::time::Duration;

/// A kubelet that forgets pods that have ended has done so by then, and its daemon, which looks every half a minute, has
/// said so.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// What differs in the annotation. `asked`: the node wants to be drained, and every pod that has ended is named at once.
pub(crate) fn write(
    world: &World,
    name: &str,
    state: &SriovNetworkNodeState,
    asked: bool,
    now: Timestamp,
) -> Option<Write> {
    let stands = state.metadata.annotations.get(annotation::ENDED_PODS);
    let named: Vec<EndedPod> =
        stands.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    // One that is named stays so while it is there: it would be taken for a holder again.
    let counts = |pod: &EndedPod| {
        let listed_on = later(pod.finished_at, FORGOTTEN) <= now && is_listed(state, pod);
        asked || listed_on || named.contains(pod)
    };
    let mut ended: Vec<EndedPod> = ended(world, name).filter(counts).collect();
    // Of very many the latest, since what is left of their devices may be theirs.
    ended.sort_by(|a, b| {
        (b.finished_at, &a.namespace, &a.pod).cmp(&(a.finished_at, &b.namespace, &b.pod))
    });
    ended.truncate(HOLDERS_LISTED);
    let wanted = match ended.is_empty() {
        true => None,
        false => serde_json::to_string(&ended).ok(),
    };
    (stands != wanted.as_ref()).then(|| {
        let value = wanted.map_or(Value::Null, Value::from);
        let patch = json!({ "metadata": { "annotations": { annotation::ENDED_PODS: value } } });
        patch_if_unchanged(key_of_state(state), &state.metadata.resource_version, patch)
    })
}

/// When a pod that has just ended, and that the node lists, has to be named if it is listed still.
pub(crate) fn look_again(world: &World, name: &str, now: Timestamp) -> Option<Timestamp> {
    let state = world.node_states.get(name)?;
    let listed = ended(world, name).filter(|pod| is_listed(state, pod));
    listed.map(|pod| later(pod.finished_at, FORGOTTEN)).filter(|at| now < *at).min()
}

fn is_listed(state: &SriovNetworkNodeState, pod: &EndedPod) -> bool {
    let mut holders = state.status.holders.iter();
    holders.any(|holder| (&holder.namespace, &holder.pod) == (&pod.namespace, &pod.pod))
}

/// Those that had asked for a resource of ours.
fn ended<'a>(world: &'a World, name: &'a str) -> impl Iterator<Item = EndedPod> + 'a {
    let prefix = format!("{}/", world.settings.resource_prefix);
    let asked = move |pod: &&Pod| pod.requests.keys().any(|resource| resource.starts_with(&prefix));
    world.pods_on(name).filter(asked).filter_map(|pod| {
        let (namespace, pod_name) = (pod.metadata.namespace.clone(), pod.metadata.name.clone());
        Some(EndedPod { namespace, pod: pod_name, finished_at: pod.finished_at? })
    })
}
