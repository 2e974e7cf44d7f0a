//! The three network kinds: each becomes one NetworkAttachmentDefinition, and says how that stands.
//!
//! The text of the CNI configuration is `planner::render`'s. Here it is put where it belongs and taken away with its
//! network; a definition that belongs to somebody else is left alone.

use super::patch_if_unchanged;
use crate::conditions::{self, Status, Verdict};
use crate::objects::Place;
use crate::queue::{Key, NetworkKind};
use crate::world::{Problem, World};
use api::condition::Condition;
use api::crd::{Metadata, OwnerReference};
use api::network::NetworkAttachmentDefinition;
use api::wire::{ObjectKey, Outcome, Write};
use api::{Timestamp, annotation, names};
use planner::render::{Network, Rendered, render};
use serde_json::json;

struct Observed<'a> {
    world: &'a World,
    network: Network<'a>,
    conditions: &'a [Condition],
    /// What it becomes, or everything that is wrong with it.
    rendered: Result<Rendered, Vec<planner::Problem>>,
    /// The definition of its name where it aims at.
    attachment: Option<&'a NetworkAttachmentDefinition>,
    /// What the last try to write the definition was refused with.
    refused: Option<String>,
}

fn find<'a>(
    world: &'a World,
    kind: NetworkKind,
    place: &Place,
) -> Option<(Network<'a>, &'a [Condition])> {
    Some(match kind {
        NetworkKind::Sriov => {
            let network = world.sriov_networks.get(place)?;
            (Network::Sriov(network), &network.status.conditions)
        }
        NetworkKind::Ib => {
            let network = world.ib_networks.get(place)?;
            (Network::Infiniband(network), &network.status.conditions)
        }
        NetworkKind::Ovs => {
            let network = world.ovs_networks.get(place)?;
            (Network::Ovs(network), &network.status.conditions)
        }
    })
}

fn places(world: &World, kind: NetworkKind) -> Vec<&Place> {
    match kind {
        NetworkKind::Sriov => world.sriov_networks.keys().collect(),
        NetworkKind::Ib => world.ib_networks.keys().collect(),
        NetworkKind::Ovs => world.ovs_networks.keys().collect(),
    }
}

fn all(world: &World, kind: NetworkKind) -> impl Iterator<Item = Network<'_>> {
    places(world, kind).into_iter().filter_map(move |place| Some(find(world, kind, place)?.0))
}

/// How old a network is, to say which of two came first: unknown ages last, then by name.
type Age = (Timestamp, String);

fn age(network: &Network) -> Age {
    (network.metadata().creation_timestamp.unwrap_or(Timestamp::MAX), network.label())
}

/// Every network of a kind that can be rendered, with its age and its label.
pub(crate) fn rendered(world: &World, kind: NetworkKind) -> Vec<(Age, String, Rendered)> {
    let settings = &world.settings;
    let live = all(world, kind).filter(|n| n.metadata().deletion_timestamp.is_none());
    live.filter_map(|network| {
        let rendered = render(network, &settings.namespace, &settings.resource_prefix).ok()?;
        Some((age(&network), network.label(), rendered))
    })
    .collect()
}

/// Keys of the networks whose definition goes into a namespace.
pub(crate) fn aiming_at(world: &World, namespace: &str) -> Vec<Key> {
    let mut keys = Vec::new();
    for kind in NetworkKind::ALL {
        let aiming = all(world, kind).filter(|network| network.target_namespace() == namespace);
        keys.extend(aiming.map(|network| key_of(kind, network.metadata())));
    }
    keys
}

fn key_of(kind: NetworkKind, metadata: &Metadata) -> Key {
    Key::Network { kind, namespace: metadata.namespace.clone(), name: metadata.name.clone() }
}

fn observe<'a>(world: &'a World, kind: NetworkKind, place: &Place) -> Option<Observed<'a>> {
    let (network, conditions) = find(world, kind, place)?;
    let settings = &world.settings;
    let target = Place::new(network.target_namespace(), &place.name);
    let answers = world.answers(&key_of(kind, network.metadata())).iter();
    let refused = answers
        .filter(|answered| answered.target.kind == names::NETWORK_ATTACHMENT)
        .map(|answered| format!("cannot write {}: {}", answered.target, answered.answer))
        .next();
    Some(Observed {
        world,
        network,
        conditions,
        rendered: render(network, &settings.namespace, &settings.resource_prefix),
        attachment: world.attachments.get(&target),
        refused,
    })
}

pub fn reconcile(world: &World, kind: NetworkKind, place: &Place, now: Timestamp) -> Outcome {
    match observe(world, kind, place) {
        Some(seen) if seen.network.metadata().deletion_timestamp.is_some() => release(&seen),
        Some(seen) => commit(&seen, now),
        None => match world.problem(kind.name(), &place.namespace, &place.name) {
            Some(problem) => unreadable(kind, problem, now),
            None => Outcome::default(),
        },
    }
}

/// The network goes: its definition goes with it, and then the finalizer.
fn release(seen: &Observed) -> Outcome {
    let metadata = seen.network.metadata();
    if !metadata.finalizers.iter().any(|name| name == names::NETWORK_FINALIZER) {
        return Outcome::default();
    }
    let mut writes = Vec::new();
    let last = metadata.annotations.get(annotation::LAST_NETWORK_NAMESPACE);
    let mut namespaces = vec![seen.network.target_namespace().to_owned()];
    namespaces.extend(last.filter(|namespace| **namespace != namespaces[0]).cloned());
    for namespace in namespaces {
        writes.extend(take_away(seen, &namespace));
    }
    let rest: Vec<_> =
        metadata.finalizers.iter().filter(|name| *name != names::NETWORK_FINALIZER).collect();
    writes.push(patch_if_unchanged(
        object_key(&seen.network),
        &metadata.resource_version,
        json!({ "metadata": { "finalizers": rest } }),
    ));
    Outcome { writes, look_again: None }
}

/// Deletes the network's definition in a namespace, if there is one and it is this network's. Upstream deletes
/// whatever has the name.
fn take_away(seen: &Observed, namespace: &str) -> Option<Write> {
    let metadata = seen.network.metadata();
    let attachment = seen.world.attachments.get(&Place::new(namespace, &metadata.name))?;
    (owner_of(attachment) == Some(&seen.network.owner())).then(|| Write::Delete {
        key: ObjectKey::new(
            names::NAD_API_VERSION,
            names::NETWORK_ATTACHMENT,
            namespace,
            &metadata.name,
        ),
        uid: attachment.metadata.uid.clone(),
        resource_version: String::new(),
    })
}

/// The network that a definition belongs to; None for one that a user made.
fn owner_of(attachment: &NetworkAttachmentDefinition) -> Option<&String> {
    attachment.metadata.annotations.get(annotation::OWNER).filter(|owner| !owner.is_empty())
}

fn commit(seen: &Observed, now: Timestamp) -> Outcome {
    let metadata = seen.network.metadata();
    let mut writes = Vec::from_iter(finalizer(seen));
    let rendered = match obstacle(seen) {
        Err(verdict) => {
            writes.extend(status(seen, verdict, now));
            return Outcome { writes, look_again: None };
        }
        Ok(rendered) => rendered,
    };
    // It moved: the definition in the old namespace goes first. Upstream clears the annotation in between, and loops
    // for ever when the next write fails.
    let last = metadata.annotations.get(annotation::LAST_NETWORK_NAMESPACE);
    let moved = last.filter(|last| !last.is_empty() && **last != rendered.namespace);
    writes.extend(moved.and_then(|old| take_away(seen, old)));
    if !seen.world.namespaces.contains_key(&rendered.namespace) {
        let message = format!(
            "target namespace {:?} does not exist; create it, or correct networkNamespace",
            rendered.namespace
        );
        writes.extend(status(seen, Verdict::not_ready("NamespaceNotFound", message), now));
        return Outcome { writes, look_again: None };
    }
    let ready = {
        let notes = rendered.notes.iter().map(|note| note.message.clone());
        let text = "NetworkAttachmentDefinition is provisioned and ready".to_owned();
        let all: Vec<String> = [text].into_iter().chain(notes).collect();
        Verdict::ready("NetworkReady", all.join("; "))
    };
    let apply = definition(seen, rendered);
    if let (Some(message), true) = (&seen.refused, apply.is_some()) {
        // Said before the next try, which would end the step.
        let verdict = Verdict::not_ready("NetworkAttachmentDefinitionInvalid", message);
        writes.extend(status(seen, verdict, now));
        writes.extend(apply);
        return Outcome { writes, look_again: None };
    }
    writes.extend(apply);
    if last != Some(&rendered.namespace) {
        writes.push(Write::Patch {
            key: object_key(&seen.network),
            patch_type: api::wire::PatchType::Merge,
            patch: json!({ "metadata": { "annotations": {
                annotation::LAST_NETWORK_NAMESPACE: rendered.namespace,
            } } }),
            subresource: "",
        });
    }
    writes.extend(status(seen, ready, now));
    Outcome { writes, look_again: None }
}

/// Networks in the operator's namespace may aim elsewhere, where no owner reference reaches; so they have a finalizer.
fn finalizer(seen: &Observed) -> Option<Write> {
    let metadata = seen.network.metadata();
    let has = metadata.finalizers.iter().any(|name| name == names::NETWORK_FINALIZER);
    (metadata.namespace == seen.world.settings.namespace && !has).then(|| {
        let mut finalizers = metadata.finalizers.clone();
        finalizers.push(names::NETWORK_FINALIZER.to_owned());
        patch_if_unchanged(
            object_key(&seen.network),
            &metadata.resource_version,
            json!({ "metadata": { "finalizers": finalizers } }),
        )
    })
}

/// Why there can be no definition, if there is a reason.
fn obstacle<'a>(seen: &'a Observed) -> Result<&'a Rendered, Verdict> {
    let invalid =
        |message: String| Err(Verdict::not_ready("NetworkAttachmentDefinitionInvalid", message));
    let rendered = match &seen.rendered {
        Ok(rendered) => rendered,
        Err(problems) => {
            let messages: Vec<&str> = problems.iter().map(|p| p.message.as_str()).collect();
            return invalid(messages.join("; "));
        }
    };
    if seen.world.absent.contains(names::NETWORK_ATTACHMENT) {
        return Err(Verdict::not_ready(
            "NetworkAttachmentDefinitionNotFound",
            "the cluster has no kind NetworkAttachmentDefinition; install Multus",
        ));
    }
    let (namespace, name) = (&rendered.namespace, &rendered.name);
    match seen.attachment.map(owner_of) {
        Some(Some(owner)) if *owner != seen.network.owner() => invalid(format!(
            "NetworkAttachmentDefinition '{namespace}/{name}' already exists and is owned by {owner}; \
             rename one of the two"
        )),
        // One that a user made is taken over, as upstream does.
        Some(_) => Ok(rendered),
        None => match older_rival(seen, rendered) {
            Some(rival) => invalid(format!(
                "NetworkAttachmentDefinition '{namespace}/{name}' will be made for {rival}, which is older; \
                 rename one of the two"
            )),
            None => Ok(rendered),
        },
    }
}

/// Another network that aims at the same definition and was there first.
fn older_rival(seen: &Observed, rendered: &Rendered) -> Option<String> {
    let own = age(&seen.network);
    let kinds = NetworkKind::ALL.into_iter();
    let rivals = kinds.flat_map(|kind| all(seen.world, kind)).filter(|other| {
        other.metadata().name == rendered.name
            && other.target_namespace() == rendered.namespace
            && other.metadata().deletion_timestamp.is_none()
    });
    let settings = &seen.world.settings;
    rivals
        .filter(|other| age(other) < own)
        .filter(|other| render(*other, &settings.namespace, &settings.resource_prefix).is_ok())
        .map(|other| other.label())
        .next()
}

/// The definition, where it is not as it should be. What users add to it is theirs and stays.
fn definition(seen: &Observed, rendered: &Rendered) -> Option<Write> {
    let metadata = seen.network.metadata();
    let owners: Vec<OwnerReference> = match metadata.namespace == rendered.namespace {
        true => vec![OwnerReference {
            api_version: names::API_VERSION.to_owned(),
            kind: seen.network.kind().to_owned(),
            name: metadata.name.clone(),
            uid: metadata.uid.clone(),
            ..OwnerReference::default()
        }],
        // An owner must be in the same namespace.
        false => Vec::new(),
    };
    let same = seen.attachment.is_some_and(|attachment| {
        let found = &attachment.metadata;
        attachment.spec.config == rendered.config
            && rendered.annotations.iter().all(|(k, v)| found.annotations.get(k) == Some(v))
            && owners.iter().all(|owner| found.owner_references.contains(owner))
    });
    if same {
        return None;
    }
    let mut object = json!({
        "apiVersion": names::NAD_API_VERSION, "kind": names::NETWORK_ATTACHMENT,
        "metadata": {
            "name": rendered.name, "namespace": rendered.namespace,
            "annotations": rendered.annotations,
        },
        "spec": { "config": rendered.config },
    });
    if !owners.is_empty() {
        object["metadata"]["ownerReferences"] = json!(owners);
    }
    Some(Write::Apply { object, subresource: "" })
}

/// Ready, and beside it whether pods will get what the network promises.
fn status(seen: &Observed, ready: Verdict, now: Timestamp) -> Vec<Write> {
    let findings = seen.world.findings_of(&seen.network.label());
    let verdict = |status, reason, message| Verdict { kind: USABLE, status, reason, message };
    let usable = match (findings.first(), ready.status) {
        (Some(first), _) => {
            let messages: Vec<&str> = findings.iter().map(|f| f.message.as_str()).collect();
            verdict(Status::False, first.reason.as_str(), messages.join("; "))
        }
        (None, Status::True) => {
            verdict(Status::True, "NothingFound", "nothing speaks against using it".to_owned())
        }
        (None, _) => verdict(Status::False, "NotReady", "see the condition Ready".to_owned()),
    };
    let metadata = seen.network.metadata();
    write_status(&object_key(&seen.network), metadata, seen.conditions, &[ready, usable], now)
}

/// Condition of a network: False names what will go wrong for its pods, before one fails.
const USABLE: &str = "Usable";

fn write_status(
    key: &ObjectKey,
    metadata: &Metadata,
    old: &[Condition],
    verdicts: &[Verdict],
    now: Timestamp,
) -> Vec<Write> {
    let mut new = old.to_vec();
    let mut events = Vec::new();
    for verdict in verdicts {
        let turned = conditions::set(&mut new, verdict, metadata.generation, now);
        // Of what it is used for, only what was found is news.
        let quiet =
            verdict.kind == USABLE && ["NothingFound", "NotReady"].contains(&verdict.reason);
        if turned && !quiet {
            let at = crate::queue::later(now, std::time::Duration::from_nanos(events.len() as u64));
            events.push(conditions::event(key.clone(), &metadata.uid, verdict, at));
        }
    }
    if new == old {
        return Vec::new();
    }
    let object = json!({
        "apiVersion": key.api_version, "kind": key.kind,
        "metadata": { "name": key.name, "namespace": key.namespace },
        "status": { "conditions": new },
    });
    let mut writes = vec![Write::Apply { object, subresource: "status" }];
    writes.extend(events);
    writes
}

/// A network that cannot be read at all says so.
fn unreadable(kind: NetworkKind, problem: &Problem, now: Timestamp) -> Outcome {
    let metadata = &problem.metadata;
    let key = ObjectKey::new(names::API_VERSION, kind.name(), &metadata.namespace, &metadata.name);
    let verdict = Verdict::not_ready("NetworkAttachmentDefinitionInvalid", &problem.message);
    let writes = write_status(&key, metadata, &problem.conditions, &[verdict], now);
    Outcome { writes, look_again: None }
}

fn object_key(network: &Network) -> ObjectKey {
    let metadata = network.metadata();
    ObjectKey::new(names::API_VERSION, network.kind(), &metadata.namespace, &metadata.name)
}
