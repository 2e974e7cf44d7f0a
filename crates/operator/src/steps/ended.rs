//! Pods that have ended on a node that asks to be drained: named to its daemon, which has no rights to read pods.
//!
//! A kubelet before 1.34 lists their devices in PodResources on, and the daemon would wait for them for ever.

use super::{key_of_state, patch_if_unchanged};
use crate::objects::Pod;
use crate::world::World;
use api::annotation;
use api::custody::EndedPod;
use api::nodestate::{HOLDERS_LISTED, SriovNetworkNodeState};
use api::wire::Write;
use serde_json::{Value, json};

/// What differs in the annotation. `asked`: the node wants to be drained, so that somebody reads it.
pub(crate) fn write(
    world: &World,
    name: &str,
    state: &SriovNetworkNodeState,
    asked: bool,
) -> Option<Write> {
    let ended = if asked { ended(world, name) } else { Vec::new() };
    let wanted = match ended.is_empty() {
        true => None,
        false => serde_json::to_string(&ended).ok(),
    };
    let stands = state.metadata.annotations.get(annotation::ENDED_PODS);
    (stands != wanted.as_ref()).then(|| {
        let value = wanted.map_or(Value::Null, Value::from);
        let patch = json!({ "metadata": { "annotations": { annotation::ENDED_PODS: value } } });
        patch_if_unchanged(key_of_state(state), &state.metadata.resource_version, patch)
    })
}

/// Those that had asked for a resource of ours; of very many the latest, since what is left of their devices may be theirs.
fn ended(world: &World, name: &str) -> Vec<EndedPod> {
    let prefix = format!("{}/", world.settings.resource_prefix);
    let asked = |pod: &&Pod| pod.requests.keys().any(|resource| resource.starts_with(&prefix));
    let pods = world.pods_on(name).filter(asked).filter_map(|pod| {
        let (namespace, pod_name) = (pod.metadata.namespace.clone(), pod.metadata.name.clone());
        Some(EndedPod { namespace, pod: pod_name, finished_at: pod.finished_at? })
    });
    let mut pods: Vec<EndedPod> = pods.collect();
    pods.sort_by(|a, b| {
        (b.finished_at, &a.namespace, &a.pod).cmp(&(a.finished_at, &b.namespace, &b.pod))
    });
    pods.truncate(HOLDERS_LISTED);
    pods
}
