//! Cards that the ConfigMap `supported-nic-ids` does not name. Upstream does not see them; here they are used like any
//! other card, and a warning says which they are.

use crate::blocker::{list, on_nodes};
use crate::policy::Policy;
use crate::select::{self, NodeFacts};
use api::PciAddress;
use api::nodestate::{InterfaceStatus, SriovNetworkNodeState};
use std::collections::{BTreeMap, BTreeSet};

/// Vendor and device id of PFs, as the ConfigMap names them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tested(BTreeSet<(String, String)>);

impl Tested {
    /// Reads the values of `supported-nic-ids`: `<vendor> <pf id> <vf id>`. Lines that are something else are passed over.
    pub fn read<'a>(values: impl IntoIterator<Item = &'a str>) -> Self {
        let card = |value: &str| {
            let mut words = value.split_whitespace();
            Some((words.next()?.to_lowercase(), words.next()?.to_lowercase()))
        };
        Self(values.into_iter().filter_map(card).collect())
    }

    /// Without any list nothing is known to be untested.
    fn lacks(&self, found: &InterfaceStatus) -> bool {
        let card = (found.vendor.to_lowercase(), found.device_id.to_lowercase());
        !self.0.is_empty() && !self.0.contains(&card)
    }

    /// What is to be said of the cards that a policy takes.
    pub fn warning_of(&self, policy: &Policy, nodes: &[NodeFacts<'_>]) -> Option<String> {
        let mut found: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for node in nodes.iter().filter(|node| select::node(policy, node.labels).is_ok()) {
            for interface in node.interfaces.iter().filter(|interface| self.lacks(interface)) {
                if select::interface(&policy.nics, interface).is_ok() {
                    found.entry(named(interface)).or_default().push(node.name);
                }
            }
        }
        let cards = found.into_iter();
        let cards = cards.map(|(card, nodes)| format!("{card} on {}", on_nodes(nodes.into_iter())));
        sentence(&cards.collect::<Vec<_>>())
    }

    /// What is to be said of the cards that a node has to configure.
    pub fn warning_on(&self, state: &SriovNetworkNodeState) -> Option<String> {
        let ordered: BTreeSet<PciAddress> =
            state.spec.interfaces.iter().map(|wanted| wanted.pci_address).collect();
        let found = state.status.interfaces.iter().filter(|found| self.lacks(found));
        let found = found.filter(|found| ordered.contains(&found.pci_address));
        sentence(&found.map(named).collect::<Vec<_>>())
    }
}

fn named(found: &InterfaceStatus) -> String {
    format!("{} ({}:{})", found.name, found.vendor, found.device_id)
}

fn sentence(cards: &[String]) -> Option<String> {
    (!cards.is_empty()).then(|| {
        format!(
            "used like any other card, though the ConfigMap supported-nic-ids does not name it: {}; once you have seen that it works, add a line with vendor, PF id and VF id there",
            list(cards)
        )
    })
}
