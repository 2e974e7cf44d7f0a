//! Pods and the networks that they name: what is at odds between the two is said on the pod, in an event.
//!
//! The judgement is `planner::inject`'s. A pod is never changed: the operator has no right to. What was said stands in
//! the world, so that it is said once.

use super::admitted;
use crate::objects::{Place, Pod};
use crate::queue::later;
use crate::world::World;
use api::wire::{Event, ObjectKey, Outcome, Write};
use api::{DeviceType, Timestamp, annotation, names};
use planner::inject::{self, Attachment, NetworkRef, NodeSupply, PodNetworks, Supply};
use planner::policy::Policy;
use std::collections::BTreeMap;
use std::time::Duration;

/// An operator that starts does not speak of every pod of the cluster again: one that runs longer is no news.
const NEWS: Duration = Duration::from_secs(300);

/// True for a pod that has to do with our networks or resources.
pub(crate) fn concerns(world: &World, pod: &Pod) -> bool {
    let prefix = &world.settings.resource_prefix;
    let asks = pod
        .requests
        .keys()
        .any(|name| name.strip_prefix(prefix.as_str()).is_some_and(|rest| rest.starts_with('/')));
    asks || pod.metadata.annotations.contains_key(annotation::NETWORKS)
}

struct Observed<'a> {
    pod: &'a Pod,
    networks: PodNetworks,
}

fn observe<'a>(world: &'a World, place: &Place, now: Timestamp) -> Option<Observed<'a>> {
    let pod = world.pods.get(place)?;
    let metadata = &pod.metadata;
    let is_new = is_new(pod, now);
    let over = pod.is_finished() || metadata.deletion_timestamp.is_some();
    if over || !(is_new || pod.phase == "Pending") {
        return None;
    }
    let annotation = metadata.annotations.get(annotation::NETWORKS);
    let networks = PodNetworks {
        namespace: metadata.namespace.clone(),
        name: metadata.name.clone(),
        annotation: annotation.cloned().unwrap_or_default(),
        requests: pod.requests.clone(),
    };
    Some(Observed { pod, networks })
}

fn is_new(pod: &Pod, now: Timestamp) -> bool {
    pod.metadata.creation_timestamp.is_some_and(|at| now <= later(at, NEWS))
}

/// The pod was not admitted, and nobody was told yet.
fn not_admitted(world: &World, place: &Place, now: Timestamp) -> Option<Vec<Write>> {
    let pod = world.pods.get(place)?;
    let sentence = admitted::refusal(world, pod)?;
    let key = ObjectKey::new("v1", crate::kinds::POD, &place.namespace, &place.name);
    let said = world.was_told(&key, &pod.metadata.uid, &admitted::said(pod, sentence));
    let is_news = pod.not_admitted_is_news || is_new(pod, now);
    (is_news && !said).then(|| admitted::events(world, pod, sentence, now).to_vec())
}

pub fn reconcile(world: &World, place: &Place, now: Timestamp) -> Outcome {
    if let Some(writes) = not_admitted(world, place, now) {
        return Outcome { writes, look_again: None };
    }
    let Some(seen) = observe(world, place, now) else { return Outcome::default() };
    let prefix = &world.settings.resource_prefix;
    let attachment = |network: &NetworkRef| attachment(world, network);
    let mut problems =
        inject::check(&seen.networks, prefix, attachment, |resource| stands_alone(world, resource));
    if seen.pod.node.is_empty() {
        problems.extend(inject::shortage(&seen.networks, prefix, &supply(world)));
    }
    commit(world, &seen, &problems, now)
}

fn attachment(world: &World, network: &NetworkRef) -> Attachment {
    let found = world.attachments.get(&Place::new(&network.namespace, &network.name));
    match found.map(|found| found.metadata.annotations.get(annotation::RESOURCE_NAME)) {
        None => Attachment::Absent,
        Some(None) => Attachment::Plain,
        Some(Some(resource)) => Attachment::Of(resource.clone()),
    }
}

/// A program in the pod drives such a device by itself, without any network.
fn stands_alone(world: &World, resource: &str) -> bool {
    let mut policies = of_resource(world, resource).peekable();
    policies.peek().is_some()
        && policies.all(|policy| policy.device_type == DeviceType::VfioPci || policy.num_vfs == 0)
}

fn of_resource<'a>(world: &'a World, resource: &'a str) -> impl Iterator<Item = &'a Policy> {
    let prefix = &world.settings.resource_prefix;
    world.parsed.iter().filter(move |policy| format!("{prefix}/{}", policy.resource) == resource)
}

/// What policies and nodes offer of each resource, and what pods have taken of it.
fn supply(world: &World) -> BTreeMap<String, Supply> {
    let mut supply: BTreeMap<String, Supply> = BTreeMap::new();
    for policy in &world.parsed {
        let resource = format!("{}/{}", world.settings.resource_prefix, policy.resource);
        supply.entry(resource).or_default().policies.push(policy.name.clone());
    }
    for (resource, found) in &mut supply {
        found.nodes = world.nodes.keys().filter_map(|node| left(world, node, resource)).collect();
    }
    supply
}

fn left(world: &World, node: &str, resource: &str) -> Option<NodeSupply> {
    let allocatable = *world.nodes.get(node)?.allocatable.get(resource)?;
    let holders = world.pods_on(node).filter(|pod| !pod.is_finished());
    let taken: u64 = holders.filter_map(|pod| pod.requests.get(resource)).sum();
    let free = allocatable.saturating_sub(taken);
    Some(NodeSupply { node: node.to_owned(), allocatable, free })
}

fn commit(
    world: &World,
    seen: &Observed,
    problems: &[planner::Problem],
    now: Timestamp,
) -> Outcome {
    let metadata = &seen.pod.metadata;
    let key = ObjectKey::new("v1", crate::kinds::POD, &metadata.namespace, &metadata.name);
    let new = problems.iter().filter(|p| !world.was_told(&key, &metadata.uid, &p.message));
    let writes = new.enumerate().map(|(index, problem)| {
        Write::Event(Event {
            regarding: key.clone(),
            uid: metadata.uid.clone(),
            warning: true,
            reason: problem.reason.as_str().to_owned(),
            message: problem.message.clone(),
            component: names::OPERATOR,
            // An event is named by reason and time.
            at: later(now, Duration::from_nanos(u64::try_from(index).unwrap_or_default())),
        })
    });
    Outcome { writes: writes.collect(), look_again: None }
}
