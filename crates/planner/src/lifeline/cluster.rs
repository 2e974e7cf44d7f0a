//! Policies against the lifelines of all nodes: what is refused, said in the policy's status, and what a policy that
//! names no PF takes blindly.
//!
//! Judged by what the nodes reported; the nodes judge for themselves by what they see.

use super::carried;
use super::drivers::{Change, Link, effect};
use crate::blocker::on_nodes;
use crate::desired::{Desired, DesiredFunction};
use crate::functions::{driver_fits, driver_for};
use crate::merge;
use crate::policy::{NicSelector, Policy};
use crate::reason::{Problem, Reason};
use crate::select::{self, NodeFacts};
use api::nodestate::{InterfaceStatus, NodeStateSpec};
use std::collections::BTreeMap;

/// What is refused on nodes: one problem for each policy and sentence, with the nodes in it.
pub(crate) fn problems<'a>(
    nodes: impl Iterator<Item = &'a NodeFacts<'a>>,
    policies: &[Policy],
) -> Vec<Problem> {
    let mut refused: BTreeMap<(String, Refusal), Vec<&str>> = BTreeMap::new();
    for node in nodes {
        for (wanted, found) in wanted_on(node, policies) {
            let Some(refusal) = refusal(&wanted, found) else { continue };
            for group in &wanted.groups {
                let key = (group.policy.clone(), refusal.clone());
                refused.entry(key).or_default().push(node.name);
            }
        }
    }
    let problem = |((name, refusal), nodes): ((String, Refusal), Vec<&str>)| {
        let policy = policies.iter().find(|policy| policy.name == name);
        let broad = policy.and_then(|policy| broad(&policy.nics));
        let way_out = match broad {
            Some(by) => {
                format!("or name the PFs that you mean in pfNames: it selects by {by} only")
            }
            None => format!("or take {} out of nicSelector", refusal.interface),
        };
        let Refusal { interface, change, effect, carries } = refusal;
        let message = format!(
            "{change} on {interface} is refused: {effect}, and the host has {carries}; on {}; write allowLifeline: true if that may be, {way_out}",
            on_nodes(nodes.into_iter())
        );
        Problem::new(Reason::Lifeline, &format!("policy {name}"), message)
    };
    refused.into_iter().map(problem).collect()
}

/// The PFs with lifelines that a policy takes without naming them; `None` where it names its PFs or takes none.
pub fn taken_blindly(policy: &Policy, nodes: &[NodeFacts<'_>]) -> Option<String> {
    let by = broad(&policy.nics)?;
    if policy.allow_lifeline || policy.externally_managed {
        return None;
    }
    let mut taken: BTreeMap<(String, String), Vec<&str>> = BTreeMap::new();
    for node in nodes.iter().filter(|node| select::node(policy, node.labels).is_ok()) {
        let lifelines = node.interfaces.iter().filter(|found| !found.lifelines.is_empty());
        for found in lifelines.filter(|found| select::interface(&policy.nics, found).is_ok()) {
            let key = (found.name.clone(), carried(&found.lifelines));
            taken.entry(key).or_default().push(node.name);
        }
    }
    let list = taken.into_iter().map(|((interface, carries), nodes)| {
        format!("{interface} on {} (the host has {carries})", on_nodes(nodes.into_iter()))
    });
    let list: Vec<String> = list.collect();
    (!list.is_empty()).then(|| {
        format!(
            "it selects by {by} only, and so it takes PFs by which hosts live: {}; name the PFs that you mean in pfNames",
            crate::blocker::list(&list)
        )
    })
}

/// `vendor`, `vendor and deviceID`: a selector that says what cards are and not which.
fn broad(nics: &NicSelector) -> Option<&'static str> {
    if !nics.names.is_empty() || !nics.roots.is_empty() || nics.net_filter.is_some() {
        return None;
    }
    match (&nics.vendor, &nics.device) {
        (Some(_), Some(_)) => Some("vendor and deviceID"),
        (Some(_), None) => Some("vendor"),
        (None, Some(_)) => Some("deviceID"),
        (None, None) => None,
    }
}

/// The PFs of a node by which it lives, each with what all policies together want of it.
fn wanted_on<'a>(
    facts: &NodeFacts<'a>,
    policies: &[Policy],
) -> Vec<(DesiredFunction, &'a InterfaceStatus)> {
    let mut wanted = Vec::new();
    let lives = |found: &&InterfaceStatus| !found.lifelines.is_empty();
    if !facts.interfaces.iter().any(|found| lives(&found)) {
        return wanted;
    }
    let of_node = policies.iter().filter(|policy| select::node(policy, facts.labels).is_ok());
    let of_node: Vec<&Policy> = of_node.collect();
    for found in facts.interfaces.iter().filter(lives) {
        let mut interfaces = Vec::new();
        let mut weaker = None;
        for policy in &of_node {
            let equal = weaker == Some(policy.priority);
            merge::apply(&mut interfaces, policy, std::slice::from_ref(found), equal);
            weaker = Some(policy.priority);
        }
        let spec = NodeStateSpec { interfaces, ..NodeStateSpec::default() };
        wanted.extend(Desired::parse(&spec).functions.into_iter().map(|wanted| (wanted, found)));
    }
    wanted
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Refusal {
    interface: String,
    change: String,
    effect: String,
    carries: String,
}

fn refusal(wanted: &DesiredFunction, found: &InterfaceStatus) -> Option<Refusal> {
    if wanted.allow_lifeline {
        return None;
    }
    let used = found.lifelines.iter().filter_map(|lifeline| lifeline.over.first());
    let used_vf = used.into_iter().find(|name| **name != found.name);
    let link = Link {
        driver: &found.driver,
        roce_lag: Some(found.roce_lag.as_str()).filter(|bond| !bond.is_empty()),
        used_vf: used_vf.map(|name| format!("a VF ({name})")),
    };
    let of_vf = link.used_vf.as_ref().and(used_vf).and_then(|name| of_vf(wanted, found, name));
    let (change, effect) = changes(wanted, found)
        .into_iter()
        .chain(of_vf)
        .find_map(|(words, change)| Some((words, effect(change, &link)?)))?;
    let carries = carried(&found.lifelines);
    Some(Refusal { interface: found.name.clone(), change, effect, carries })
}

/// What is wanted and is not so yet.
fn changes(wanted: &DesiredFunction, found: &InterfaceStatus) -> Vec<(String, Change)> {
    if wanted.whole().is_some() {
        return vec![("numVfs 0 (the PF itself)".to_owned(), Change::Whole)];
    }
    if wanted.externally_managed {
        return vec![];
    }
    let mut changes = vec![];
    if wanted.eswitch.to_string() != found.eswitch_mode && !found.eswitch_mode.is_empty() {
        changes.push((format!("eSwitchMode {}", wanted.eswitch), Change::Eswitch));
    }
    let have = u32::try_from(found.num_vfs).unwrap_or_default();
    let count = Change::VfCount { have, wanted: wanted.num_vfs };
    changes.push((format!("numVfs {}", wanted.num_vfs), count));
    match wanted.mtu {
        Some(mtu) if i64::from(mtu) > found.mtu => {
            changes.push((format!("mtu {mtu}"), Change::Mtu))
        }
        _ => {}
    }
    changes
}

/// What is wanted of the VF that the host uses and takes it from the host: another driver, or another MTU.
fn of_vf(
    wanted: &DesiredFunction,
    found: &InterfaceStatus,
    name: &str,
) -> Option<(String, Change)> {
    let vf = found.vfs.iter().find(|vf| vf.name == name && !vf.driver.is_empty())?;
    let index = u32::try_from(vf.vf_id).ok()?;
    let group = wanted.group_of(index)?;
    let driver = driver_for(group.device_type);
    let other_mtu = group.mtu.filter(|mtu| i64::from(*mtu) != vf.mtu);
    let words = match (driver_fits(Some(&vf.driver), driver), other_mtu) {
        (false, _) => format!("deviceType {}", group.device_type),
        (true, Some(mtu)) => format!("mtu {mtu}"),
        (true, None) => return None,
    };
    Some((format!("{words} of VF {index}"), Change::Vf))
}
