//! The ConfigMap `device-plugin-config` in upstream's exact shape, one JSON text for each node.
//!
//! Nothing of ironrail reads it: it is written for tools that do, and for the way back to upstream's device plugin. So
//! every quirk of its content is kept: it is made of policies and not of what a node got, and for a resource of several
//! policies the weakest decides `IsRdma`, `NeedVhostNet` and `vdpaType`.

use crate::policy::Policy;
use crate::select::{self, NodeFacts};
use api::nodestate::InterfaceStatus;
use api::{DeviceType, LinkType};
use serde::Serialize;
use std::collections::BTreeMap;

/// PCI device id of a PF → that of its VFs, from the ConfigMap `supported-nic-ids`.
pub type VfIds = BTreeMap<String, String>;

/// Reads the values of `supported-nic-ids`: `<vendor> <pf id> <vf id>`. Lines that are something else are passed over.
pub fn vf_ids<'a>(values: impl IntoIterator<Item = &'a str>) -> VfIds {
    let pair = |value: &str| {
        let mut words = value.split_whitespace();
        let (_vendor, pf, vf) = (words.next()?, words.next()?, words.next()?);
        Some((pf.to_owned(), vf.to_owned()))
    };
    values.into_iter().filter_map(pair).collect()
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    /// `null` when empty, as Go writes a nil slice.
    resource_list: Option<Vec<Resource>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Resource {
    resource_name: String,
    #[serde(skip_serializing_if = "is_false")]
    exclude_topology: bool,
    selectors: Selectors,
    /// Go's name of a field without a tag; always null.
    #[serde(rename = "SelectorObj")]
    selector_object: Option<()>,
}

#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Selectors {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    vendors: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    devices: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pci_addresses: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pf_names: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    root_devices: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    link_types: Vec<String>,
    #[serde(rename = "IsRdma")]
    is_rdma: bool,
    #[serde(rename = "NeedVhostNet")]
    need_vhost_net: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    vdpa_type: String,
}

fn is_false(flag: &bool) -> bool {
    !*flag
}

/// The text for one node. `policies` are sorted as `policy::parse_all` returns them.
pub fn for_node(facts: &NodeFacts<'_>, policies: &[Policy], vf_ids: &VfIds) -> String {
    let mut resources: Vec<Resource> = vec![];
    for policy in policies.iter().filter(|policy| select::node(policy, facts.labels).is_ok()) {
        let more = selectors(policy, facts, vf_ids);
        match resources.iter_mut().find(|resource| resource.resource_name == policy.resource) {
            None => resources.push(Resource {
                resource_name: policy.resource.clone(),
                exclude_topology: policy.exclude_topology,
                selectors: more,
                selector_object: None,
            }),
            Some(resource) => {
                resource.exclude_topology = policy.exclude_topology;
                append(&mut resource.selectors, more);
            }
        }
    }
    let config = Config { resource_list: Some(resources).filter(|list| !list.is_empty()) };
    serde_json::to_string(&config).expect("plain structs of strings always become JSON")
}

fn append(into: &mut Selectors, more: Selectors) {
    for (into, more) in [
        (&mut into.vendors, more.vendors),
        (&mut into.devices, more.devices),
        (&mut into.pci_addresses, more.pci_addresses),
        (&mut into.pf_names, more.pf_names),
        (&mut into.root_devices, more.root_devices),
        (&mut into.link_types, more.link_types),
    ] {
        more.into_iter().for_each(|item| add(into, item));
    }
}

fn add(list: &mut Vec<String>, item: String) {
    if !list.contains(&item) {
        list.push(item);
    }
}

fn selectors(policy: &Policy, facts: &NodeFacts<'_>, vf_ids: &VfIds) -> Selectors {
    let nics = &policy.nics;
    let device = nics.device.as_ref().and_then(|pf| match policy.num_vfs {
        0 => Some(pf.clone()),
        _ => vf_ids.get(pf).cloned(),
    });
    let mut pf_names = vec![];
    for entry in &nics.names {
        let name = primary_name(&entry.name, facts.interfaces);
        let range = entry.range.map(|range| format!("#{range}")).unwrap_or_default();
        add(&mut pf_names, format!("{name}{range}"));
    }
    let link_type = policy.link_type.filter(|_| policy.device_type != DeviceType::VfioPci);
    let link_types = link_type.map(|link_type| match link_type {
        LinkType::Ethernet => "ether".to_owned(),
        LinkType::Infiniband => "infiniband".to_owned(),
    });
    let filtered = |found: &&InterfaceStatus| {
        nics.net_filter
            .as_ref()
            .is_some_and(|filter| select::same_network(filter, &found.net_filter))
    };
    let addresses = facts.interfaces.iter().filter(filtered);
    Selectors {
        vendors: nics.vendor.iter().cloned().collect(),
        devices: device.into_iter().collect(),
        pci_addresses: addresses.map(|found| found.pci_address.to_string()).collect(),
        pf_names,
        root_devices: nics.roots.iter().map(ToString::to_string).collect(),
        link_types: link_types.into_iter().collect(),
        is_rdma: policy.spec.is_rdma,
        need_vhost_net: policy.vhost_net,
        vdpa_type: policy.spec.vdpa_type.clone(),
    }
}

/// The name that the host shows for a PF that is named by an alternative name; any other name stays.
pub fn primary_name<'a>(name: &'a str, interfaces: &'a [InterfaceStatus]) -> &'a str {
    let owner = interfaces.iter().find(|found| found.alt_names.iter().any(|alt| alt == name));
    match owner {
        Some(owner) if interfaces.iter().all(|found| found.name != name) => &owner.name,
        _ => name,
    }
}
