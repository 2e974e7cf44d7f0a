//! Pods that a kubelet did not admit, because a device of ours was not to be had: after a power cut, above all, when a
//! pod that the node still has is admitted again before its device is verified.
//!
//! The kubelet fails such a pod for good, and its controller makes another one. Here it is said and counted.

use crate::conditions::{self, Status, Verdict};
use crate::kinds;
use crate::objects::{Place, Pod};
use crate::world::World;
use api::nodestate::SriovNetworkNodeState;
use api::wire::{Event, ObjectKey, Write};
use api::{Timestamp, names};

/// Condition of the node state that the operator owns: the node's kubelet gave every pod its devices.
pub const ADMITTED: &str = "PodsAdmitted";
/// Reason of the events; the metric counts those of pods.
pub const NOT_ADMITTED: &str = "PodNotAdmitted";
/// How many pods the condition names.
const NAMED: usize = 3;

/// The kubelet's sentence, where it speaks of a resource of ours.
pub(crate) fn refusal<'a>(world: &World, pod: &'a Pod) -> Option<&'a str> {
    let ours = format!("{}/", world.settings.resource_prefix);
    pod.not_admitted.as_deref().filter(|sentence| sentence.contains(&ours))
}

/// What the condition is to say; None where there was never anything to say.
pub(crate) fn condition(
    world: &World,
    name: &str,
    state: &SriovNetworkNodeState,
) -> Option<Verdict> {
    let refused: Vec<(&Pod, &str)> = world
        .pods_on(name)
        .filter_map(|pod| refusal(world, pod).map(|sentence| (pod, sentence)))
        .collect();
    let verdict = |status, reason, message| Verdict { kind: ADMITTED, status, reason, message };
    if refused.is_empty() {
        let said = state.status.conditions.iter().any(|condition| condition.kind == ADMITTED);
        let message = "no pod is left that the kubelet did not admit".to_owned();
        return said.then(|| verdict(Status::True, "AsExpected", message));
    }
    let one = |(pod, sentence): &(&Pod, &str)| {
        format!("{}: {sentence}; {}", Place::of(&pod.metadata), way_out(pod))
    };
    let named =
        conditions::some_of(&refused.iter().map(one).collect::<Vec<_>>(), NAMED, " | ", "more");
    let count = match refused.len() {
        1 => "1 pod was not admitted".to_owned(),
        count => format!("{count} pods were not admitted"),
    };
    Some(verdict(Status::False, NOT_ADMITTED, format!("{count}: {named}")))
}

fn way_out(pod: &Pod) -> String {
    match pod.controller() {
        Some((kind, name)) => format!("{kind} {name} makes another one"),
        None => "nobody makes another one, so create it again".to_owned(),
    }
}

/// One event on the pod, and one on its node.
pub(crate) fn events(world: &World, pod: &Pod, sentence: &str, now: Timestamp) -> [Write; 2] {
    let metadata = &pod.metadata;
    let tell = |regarding, uid: &str, message| {
        Write::Event(Event {
            regarding,
            uid: uid.to_owned(),
            warning: true,
            reason: NOT_ADMITTED.to_owned(),
            message,
            component: names::OPERATOR,
            at: now,
        })
    };
    let on_pod = ObjectKey::new("v1", kinds::POD, &metadata.namespace, &metadata.name);
    let on_node = ObjectKey::new("v1", kinds::NODE, "", &pod.node);
    let node_uid = world.nodes.get(&pod.node).map_or("", |node| &node.metadata.uid);
    let said = said(pod, sentence);
    let of_node = format!("pod {}: {said}", Place::of(metadata));
    [tell(on_pod, &metadata.uid, said), tell(on_node, node_uid, of_node)]
}

/// What is said on the pod; it stands in the world once it was.
pub(crate) fn said(pod: &Pod, sentence: &str) -> String {
    format!("node {} did not admit it: {sentence}; {}", pod.node, way_out(pod))
}
