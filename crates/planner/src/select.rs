//! Does a policy match a node, and which of its PFs: yes, or the first predicate that failed, as a sentence.
//!
//! The predicates run in a fixed order, from the coarse to the fine, so that a near miss names what a person would
//! look at first. Nothing is merged here.

use crate::policy::{NicSelector, PfName, Policy};
use api::VfRange;
use api::nodestate::InterfaceStatus;
use api::policy::{MatchedNode, NearMiss};
use std::collections::BTreeMap;

/// How many nodes and near misses a policy's status lists.
pub const LISTED: usize = 50;

/// One node, as far as policies look at it.
#[derive(Debug, Clone, Copy)]
pub struct NodeFacts<'a> {
    pub name: &'a str,
    pub labels: &'a BTreeMap<String, String>,
    /// What its daemon reported; empty until it has.
    pub interfaces: &'a [InterfaceStatus],
}

/// What a policy matches in the cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// All nodes with a matching PF, in the order given.
    pub matched: Vec<MatchedNode>,
    /// PFs of selected nodes that do not match; when no node is selected at all, nodes. At most `LISTED`.
    pub near_misses: Vec<NearMiss>,
    /// Nodes that the node selector takes, with or without a matching PF.
    pub selected_nodes: usize,
}

/// What a policy matches, and what it nearly matches.
pub fn select(policy: &Policy, nodes: &[NodeFacts<'_>]) -> Selection {
    let mut selection = Selection::default();
    let mut nodes_missed = vec![];
    for facts in nodes {
        if let Err(because) = node(policy, facts.labels) {
            if nodes_missed.len() < LISTED {
                let node = facts.name.to_owned();
                nodes_missed.push(NearMiss { node, interface: String::new(), because });
            }
            continue;
        }
        selection.selected_nodes += 1;
        let (matched, missed) = interfaces(policy, facts);
        if !matched.is_empty() {
            selection
                .matched
                .push(MatchedNode { node: facts.name.to_owned(), interfaces: matched });
        }
        let room = LISTED - selection.near_misses.len();
        selection.near_misses.extend(missed.into_iter().take(room));
    }
    if selection.selected_nodes == 0 {
        selection.near_misses = nodes_missed;
    }
    selection
}

fn interfaces(policy: &Policy, facts: &NodeFacts<'_>) -> (Vec<String>, Vec<NearMiss>) {
    let (mut matched, mut missed) = (vec![], vec![]);
    for found in facts.interfaces {
        let label = match found.name.is_empty() {
            true => found.pci_address.to_string(),
            false => found.name.clone(),
        };
        match interface(&policy.nics, found) {
            Ok(()) => matched.push(label),
            Err(because) => {
                missed.push(NearMiss { node: facts.name.to_owned(), interface: label, because });
            }
        }
    }
    if facts.interfaces.is_empty() {
        let because = "its node state lists no PF yet".to_owned();
        missed.push(NearMiss { node: facts.name.to_owned(), interface: String::new(), because });
    }
    (matched, missed)
}

/// Node selector: exact equality of every label, as upstream.
pub fn node(policy: &Policy, labels: &BTreeMap<String, String>) -> Result<(), String> {
    for (key, wanted) in &policy.node_selector {
        match labels.get(key) {
            Some(found) if found == wanted => {}
            Some(found) => {
                return Err(format!(
                    "its label {key} is {found:?}, the policy asks for {wanted:?}"
                ));
            }
            None => return Err(format!("it has no label {key}, the policy asks for {wanted:?}")),
        }
    }
    Ok(())
}

/// NIC selector: every part that is present must hold.
pub fn interface(nics: &NicSelector, found: &InterfaceStatus) -> Result<(), String> {
    if *nics == NicSelector::default() {
        return Err("the nicSelector is empty".to_owned());
    }
    let differs = |what: &str, wanted: &str, found: &str| {
        Err(format!("its {what} is {found}, the policy asks for {wanted}"))
    };
    match &nics.vendor {
        Some(vendor) if *vendor != found.vendor => return differs("vendor", vendor, &found.vendor),
        _ => {}
    }
    match &nics.device {
        Some(device) if *device != found.device_id => {
            return differs("device id", device, &found.device_id);
        }
        _ => {}
    }
    if !nics.roots.is_empty() && !nics.roots.contains(&found.pci_address) {
        let roots: Vec<String> = nics.roots.iter().map(ToString::to_string).collect();
        return differs("address", &roots.join(", "), &found.pci_address.to_string());
    }
    if !nics.names.is_empty() && !nics.names.iter().any(|entry| is_named(found, entry)) {
        let names: Vec<&str> = nics.names.iter().map(|entry| entry.name.as_str()).collect();
        return differs("name", &names.join(", "), &found.name);
    }
    match &nics.net_filter {
        Some(filter) if !same_network(filter, &found.net_filter) => {
            differs("network", filter, &found.net_filter)
        }
        _ => Ok(()),
    }
}

/// The entry names the PF by its name or by one of its alternative names.
fn is_named(found: &InterfaceStatus, entry: &PfName) -> bool {
    found.name == entry.name || found.alt_names.contains(&entry.name)
}

/// The VF range that a policy asks for on this PF: of the first entry of `pfNames` that names it, else all VFs.
///
/// Alternative names count here as they do in the match; upstream forgets the range of an alternative name.
pub fn range(policy: &Policy, found: &InterfaceStatus) -> Option<VfRange> {
    let last = policy.num_vfs.checked_sub(1)?;
    let entry = policy.nics.names.iter().find(|entry| is_named(found, entry));
    Some(entry.and_then(|entry| entry.range).unwrap_or(VfRange { first: 0, last }))
}

/// `openstack/NetworkID:<id>` against another: what is before and behind the first colon must be equal.
pub(crate) fn same_network(wanted: &str, found: &str) -> bool {
    let pair = |text: &str| -> Option<(String, String)> {
        let (key, value) = text.split_once(':')?;
        let key = key.split_whitespace().next_back()?.to_owned();
        let value = value.split_whitespace().next()?.to_owned();
        Some((key, value))
    };
    pair(wanted).is_some_and(|wanted| pair(found) == Some(wanted))
}
