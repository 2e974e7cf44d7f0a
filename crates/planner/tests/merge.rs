//! Policies over one another: upstream's merge table (spec/operator.md 8.2), the node state of the guide (Appendix B),
//! the device plugin's ConfigMap (3.1.5), and near misses.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod model;

use api::nodestate::{Interface, InterfaceStatus, NodeStateSpec, VfGroup};
use api::policy::{PolicySpec, SriovNetworkNodePolicy};
use expect_test::{Expect, expect};
use planner::merge::{ModeWish, apply, node_state_spec};
use planner::policy::{Policy, parse, parse_all};
use planner::select::{NodeFacts, select};
use std::collections::BTreeMap;

/// Upstream's test host: three PFs of an Intel card.
fn host() -> Vec<InterfaceStatus> {
    let function = |number: u8, device: &str| {
        let name = format!("ens803f{number}");
        let mut pf = model::pf(&format!("0000:86:00.{number}"), &name, "8086", device);
        pf.alt_names = vec![format!("alt{number}")];
        model::status(&pf)
    };
    vec![function(0, "158b"), function(1, "158b"), function(2, "1015")]
}

/// Upstream's policy p1, and what a case changes in it.
fn policy(change: impl FnOnce(&mut PolicySpec)) -> SriovNetworkNodePolicy {
    let mut policy = SriovNetworkNodePolicy::default();
    policy.metadata.name = "p1".to_owned();
    let spec = &mut policy.spec;
    spec.device_type = "netdevice".to_owned();
    spec.nic_selector.pf_names = vec!["ens803f1".to_owned()];
    spec.nic_selector.root_devices = vec!["0000:86:00.1".to_owned()];
    spec.nic_selector.vendor = "8086".to_owned();
    spec.num_vfs = 2;
    spec.priority = Some(99);
    spec.resource_name = "p1res".to_owned();
    change(spec);
    policy
}

/// `f1 4 mtu2000: p2res netdevice 2-3 p2`: PF, VFs, MTU, groups.
fn existing(function: u8, num_vfs: i64, mtu: i64, groups: &[&str]) -> Interface {
    let group = |text: &&str| {
        let words: Vec<&str> = text.split(' ').collect();
        VfGroup {
            resource_name: words[0].to_owned(),
            device_type: words[1].to_owned(),
            vf_range: Some(words[2].parse().unwrap()),
            policy_name: words[3].to_owned(),
            vdpa_type: words.get(4).copied().unwrap_or_default().to_owned(),
            ..VfGroup::default()
        }
    };
    Interface {
        pci_address: format!("0000:86:00.{function}").parse().unwrap(),
        num_vfs,
        mtu,
        name: format!("ens803f{function}"),
        link_type: String::new(),
        eswitch_mode: String::new(),
        vf_groups: groups.iter().map(group).collect(),
        externally_managed: false,
        allow_lifeline: false,
    }
}

fn print(interfaces: &[Interface]) -> String {
    let mut out = String::new();
    for entry in interfaces {
        let mtu = if entry.mtu == 0 { String::new() } else { format!(" mtu {}", entry.mtu) };
        let external = if entry.externally_managed { " external" } else { "" };
        out += &format!("{} numVfs {}{mtu}{external}\n", entry.name, entry.num_vfs);
        for group in &entry.vf_groups {
            let range = group.vf_range.map_or("whole".to_owned(), |range| range.to_string());
            let rdma = if group.is_rdma { " rdma" } else { "" };
            out += format!(
                "  {} {} {range} {}{rdma} {}",
                group.resource_name, group.device_type, group.policy_name, group.vdpa_type
            )
            .trim_end();
            out.push('\n');
        }
    }
    out
}

fn check(policy: SriovNetworkNodePolicy, existing: Vec<Interface>, equal: bool, expected: Expect) {
    let parsed = parse(&policy);
    let mut interfaces = existing;
    let mut text: String =
        parsed.problems.iter().map(|problem| format!("problem: {problem}\n")).collect();
    if let Some(policy) = parsed.policy {
        apply(&mut interfaces, &policy, &host(), equal);
    }
    text += &print(&interfaces);
    expected.assert_eq(&text);
}

#[test]
fn starting_config() {
    check(
        policy(|_| {}),
        vec![],
        false,
        expect![[r#"
        ens803f1 numVfs 2
          p1res netdevice 0-1 p1
    "#]],
    );
}

#[test]
fn another_pf_is_present() {
    let f0 = existing(0, 1, 0, &["prevres netdevice 0-1 p2"]);
    check(
        policy(|_| {}),
        vec![f0],
        false,
        expect![[r#"
        ens803f0 numVfs 1
          prevres netdevice 0-1 p2
        ens803f1 numVfs 2
          p1res netdevice 0-1 p1
    "#]],
    );
}

#[test]
fn same_pf_and_another_priority_is_overridden() {
    let f1 = existing(1, 3, 0, &["vfiores vfio-pci 0-1 p2"]);
    check(
        policy(|_| {}),
        vec![f1],
        false,
        expect![[r#"
        ens803f1 numVfs 2
          p1res netdevice 0-1 p1
    "#]],
    );
}

#[test]
fn same_priority_and_overlap_keeps_the_larger_numbers() {
    let f1 = existing(1, 3, 2000, &["vfiores vfio-pci 0-1 p2"]);
    check(
        policy(|_| {}),
        vec![f1],
        true,
        expect![[r#"
        ens803f1 numVfs 3 mtu 2000
          p1res netdevice 0-1 p1
    "#]],
    );
}

#[test]
fn same_priority_and_partition() {
    let f1 = existing(1, 5, 0, &["vfiores vfio-pci 2-4 p2"]);
    check(
        policy(|_| {}),
        vec![f1],
        true,
        expect![[r#"
        ens803f1 numVfs 5
          p1res netdevice 0-1 p1
          vfiores vfio-pci 2-4 p2
    "#]],
    );
}

#[test]
fn vdpa_partition() {
    let f1 = existing(1, 4, 0, &["vhostvdpa netdevice 0-1 p2 vhost"]);
    let p1 = policy(|spec| {
        spec.nic_selector.pf_names = vec!["ens803f1#2-3".to_owned()];
        spec.num_vfs = 4;
        spec.resource_name = "virtiovdpa".to_owned();
        spec.vdpa_type = "virtio".to_owned();
        spec.eswitch_mode = "switchdev".to_owned();
    });
    check(
        p1,
        vec![f1],
        true,
        expect![[r#"
        ens803f1 numVfs 4
          virtiovdpa netdevice 2-3 p1 virtio
          vhostvdpa netdevice 0-1 p2 vhost
    "#]],
    );
}

#[test]
fn two_groups_are_overlapped() {
    let f1 = existing(1, 2, 0, &["vfiores1 vfio-pci 0-0 p2", "vfiores2 vfio-pci 1-1 p3"]);
    check(
        policy(|_| {}),
        vec![f1],
        true,
        expect![[r#"
        ens803f1 numVfs 2
          p1res netdevice 0-1 p1
    "#]],
    );
}

#[test]
fn same_resource_name_without_overlap_drops_the_old_group() {
    let f1 = existing(1, 4, 0, &["p1res vfio-pci 2-3 p2"]);
    check(
        policy(|_| {}),
        vec![f1],
        true,
        expect![[r#"
        ens803f1 numVfs 4
          p1res netdevice 0-1 p1
    "#]],
    );
}

#[test]
fn another_priority_without_overlap_is_merged_all_the_same() {
    let f1 = existing(1, 4, 0, &["p2res netdevice 2-3 p2"]);
    check(
        policy(|_| {}),
        vec![f1],
        false,
        expect![[r#"
        ens803f1 numVfs 4
          p1res netdevice 0-1 p1
          p2res netdevice 2-3 p2
    "#]],
    );
}

#[test]
fn no_selectors() {
    let p1 = policy(|spec| spec.nic_selector = Default::default());
    check(
        p1,
        vec![],
        false,
        expect![[r#"
        problem: policy p1: nicSelector is empty and would match nothing; name at least one of vendor, deviceID, pfNames, rootDevices, netFilter
    "#]],
    );
}

#[test]
fn bad_range() {
    let p1 = policy(|spec| spec.nic_selector.pf_names = vec!["ens803f0#a-c".to_owned()]);
    check(
        p1,
        vec![],
        false,
        expect![[r#"
        problem: policy p1: pfNames[0] "ens803f0#a-c" has a VF range that is not two numbers; write ens803f0#0-1
    "#]],
    );
}

#[test]
fn vhost_vdpa_alone() {
    let p1 = policy(|spec| {
        spec.vdpa_type = "vhost".to_owned();
        spec.eswitch_mode = "switchdev".to_owned();
    });
    check(
        p1,
        vec![],
        false,
        expect![[r#"
        ens803f1 numVfs 2
          p1res netdevice 0-1 p1 vhost
    "#]],
    );
}

#[test]
fn the_range_of_an_alternative_name_is_kept() {
    let p1 = policy(|spec| {
        spec.nic_selector.pf_names = vec!["alt1#2-3".to_owned()];
        spec.num_vfs = 4;
    });
    check(
        p1,
        vec![],
        false,
        expect![[r#"
        ens803f1 numVfs 4
          p1res netdevice 2-3 p1
    "#]],
    );
}

#[test]
fn a_whole_pf_leaves_no_room_for_vfs_of_weaker_policies() {
    let f1 = existing(1, 4, 0, &["p2res netdevice 2-3 p2"]);
    check(
        policy(|spec| spec.num_vfs = 0),
        vec![f1],
        true,
        expect![[r#"
        ens803f1 numVfs 0
          p1res netdevice whole p1
    "#]],
    );
}

#[test]
fn an_infiniband_netdevice_is_rdma_without_being_asked() {
    // Upstream's webhook sets isRdma there.
    check(
        policy(|spec| spec.link_type = "ib".to_owned()),
        vec![],
        false,
        expect![[r#"
        ens803f1 numVfs 2
          p1res netdevice 0-1 p1 rdma
    "#]],
    );
}

const GUIDE_POLICY: &str = r#"
apiVersion: sriovnetwork.openshift.io/v1
kind: SriovNetworkNodePolicy
metadata: {name: rdma-policy, namespace: sriov-network-operator}
spec:
  deviceType: netdevice
  isRdma: true
  nicSelector: {vendor: "15b3", deviceID: "1017", pfName: ["enp3s0f0"]}
  nodeSelector: {rdma-capable: "true"}
  numVfs: 4
  priority: 90
  resourceName: rdma_exclusive_device
"#;

fn guide_policies() -> Vec<Policy> {
    let value: serde_json::Value = serde_saphyr::from_str(GUIDE_POLICY).unwrap();
    parse_all(&[serde_json::from_value(value).unwrap()]).0
}

fn guide_node() -> (BTreeMap<String, String>, Vec<InterfaceStatus>) {
    let labels = [("rdma-capable".to_owned(), "true".to_owned())].into();
    (labels, vec![model::status(&model::pf("0000:3b:00.0", "enp3s0f0", "15b3", "1017"))])
}

#[test]
fn the_guides_node_state_is_upstreams() {
    let (labels, interfaces) = guide_node();
    let facts = NodeFacts { name: "n1", labels: &labels, interfaces: &interfaces };
    let wish = ModeWish::Is(Some(api::RdmaMode::Exclusive));
    let spec = node_state_spec(&facts, &guide_policies(), wish, &NodeStateSpec::default());
    expect![[r#"{"interfaces":[{"pciAddress":"0000:3b:00.0","numVfs":4,"name":"enp3s0f0","vfGroups":[{"resourceName":"rdma_exclusive_device","deviceType":"netdevice","vfRange":"0-3","policyName":"rdma-policy","isRdma":true}]}],"bridges":{},"system":{"rdmaMode":"exclusive"}}"#]].assert_eq(&serde_json::to_string(&spec).unwrap());
}

#[test]
fn a_node_that_has_not_reported_keeps_its_vfs() {
    let (labels, interfaces) = guide_node();
    let facts = NodeFacts { name: "n1", labels: &labels, interfaces: &interfaces };
    let wish = ModeWish::Is(None);
    let policies = guide_policies();
    let spec = node_state_spec(&facts, &policies, wish, &NodeStateSpec::default());
    let silent = NodeFacts { interfaces: &[], ..facts };
    assert_eq!(node_state_spec(&silent, &policies, wish, &spec), spec);
    let fresh = node_state_spec(&silent, &policies, wish, &NodeStateSpec::default());
    assert_eq!(fresh.interfaces, vec![]);
}

#[test]
fn a_node_in_two_pools_keeps_the_mode_of_its_spec() {
    let (labels, interfaces) = guide_node();
    let facts = NodeFacts { name: "n1", labels: &labels, interfaces: &interfaces };
    let exclusive = ModeWish::Is(Some(api::RdmaMode::Exclusive));
    let before = node_state_spec(&facts, &[], exclusive, &NodeStateSpec::default());
    let after = node_state_spec(&facts, &[], ModeWish::Keep, &before);
    assert_eq!(after.system.rdma_mode, Some(api::RdmaMode::Exclusive));
}

#[test]
fn a_pf_inside_a_pod_is_still_selected_by_its_name() {
    let (labels, mut interfaces) = guide_node();
    let facts = NodeFacts { name: "n1", labels: &labels, interfaces: &interfaces };
    let (policies, wish) = (guide_policies(), ModeWish::Is(None));
    let before = node_state_spec(&facts, &policies, wish, &NodeStateSpec::default());
    interfaces[0].name = String::new();
    let facts = NodeFacts { name: "n1", labels: &labels, interfaces: &interfaces };
    assert_eq!(node_state_spec(&facts, &policies, wish, &before), before);
}

fn devices_config(policies: Vec<SriovNetworkNodePolicy>, expected: Expect) {
    let (mut labels, mut interfaces) = guide_node();
    labels.clear();
    interfaces.extend(host());
    let facts = NodeFacts { name: "n1", labels: &labels, interfaces: &interfaces };
    let (policies, problems) = parse_all(&policies);
    assert_eq!(problems, vec![]);
    let ids = planner::devices_config::vf_ids(["15b3 1017 1018", "broken"]);
    expected.assert_eq(&planner::devices_config::for_node(&facts, &policies, &ids));
}

#[test]
fn the_guides_device_plugin_config_is_upstreams() {
    let (labels, interfaces) = guide_node();
    let facts = NodeFacts { name: "n1", labels: &labels, interfaces: &interfaces };
    let ids = planner::devices_config::vf_ids(["15b3 1017 1018"]);
    let text = planner::devices_config::for_node(&facts, &guide_policies(), &ids);
    expect![[r#"{"resourceList":[{"resourceName":"rdma_exclusive_device","selectors":{"vendors":["15b3"],"devices":["1018"],"pfNames":["enp3s0f0"],"IsRdma":true,"NeedVhostNet":false},"SelectorObj":null}]}"#]].assert_eq(&text);
}

#[test]
fn a_node_without_policies_has_a_null_list() {
    devices_config(vec![], expect![[r#"{"resourceList":null}"#]]);
}

#[test]
fn partitions_become_two_resources_with_upstreams_strings() {
    let part = |name: &str, resource: &str, range: &str, device_type: &str| {
        let mut policy = SriovNetworkNodePolicy::default();
        policy.metadata.name = name.to_owned();
        policy.spec.resource_name = resource.to_owned();
        policy.spec.num_vfs = 20;
        policy.spec.device_type = device_type.to_owned();
        policy.spec.nic_selector.vendor = "8086".to_owned();
        policy.spec.nic_selector.pf_names = vec![range.to_owned()];
        policy
    };
    devices_config(
        vec![
            part("a", "netres", "ens803f1#0-9", "netdevice"),
            part("b", "vfiores", "alt1#10-19", "vfio-pci"),
        ],
        expect![[
            r#"{"resourceList":[{"resourceName":"netres","selectors":{"vendors":["8086"],"pfNames":["ens803f1#0-9"],"IsRdma":false,"NeedVhostNet":false},"SelectorObj":null},{"resourceName":"vfiores","selectors":{"vendors":["8086"],"pfNames":["ens803f1#10-19"],"IsRdma":false,"NeedVhostNet":false},"SelectorObj":null}]}"#
        ]],
    );
}

#[test]
fn one_resource_of_two_policies_is_a_union_and_the_weakest_decides_is_rdma() {
    let other = policy(|spec| {
        spec.resource_name = "shared".to_owned();
        spec.priority = Some(5);
        spec.is_rdma = true;
        spec.exclude_topology = true;
        spec.link_type = "eth".to_owned();
        spec.nic_selector.vendor = "15b3".to_owned();
        spec.nic_selector.device_id = "1017".to_owned();
    });
    let mut one = policy(|spec| spec.resource_name = "shared".to_owned());
    one.metadata.name = "p0".to_owned();
    devices_config(
        vec![other, one],
        expect![[
            r#"{"resourceList":[{"resourceName":"shared","excludeTopology":true,"selectors":{"vendors":["8086","15b3"],"devices":["1018"],"pfNames":["ens803f1"],"rootDevices":["0000:86:00.1"],"linkTypes":["ether"],"IsRdma":false,"NeedVhostNet":false},"SelectorObj":null}]}"#
        ]],
    );
}

#[test]
fn near_misses_name_the_first_predicate_that_failed() {
    let (labels, interfaces) = guide_node();
    let unlabelled = BTreeMap::new();
    let host = host();
    let nodes = [
        NodeFacts { name: "n1", labels: &labels, interfaces: &interfaces },
        NodeFacts { name: "n2", labels: &unlabelled, interfaces: &host },
    ];
    let print = |policy: &Policy| {
        let selection = select(policy, &nodes);
        let mut out = String::new();
        for matched in &selection.matched {
            out += &format!("{}: {}\n", matched.node, matched.interfaces.join(" "));
        }
        for miss in &selection.near_misses {
            out += &format!("not {} {}: {}\n", miss.node, miss.interface, miss.because);
        }
        out
    };
    expect![[r#"
        n1: enp3s0f0
    "#]]
    .assert_eq(&print(&guide_policies()[0]));
    let everywhere = policy(|spec| {
        spec.nic_selector.root_devices.clear();
        spec.nic_selector.device_id = "158b".to_owned();
    });
    expect![[r#"
        n2: ens803f1
        not n1 enp3s0f0: its vendor is 15b3, the policy asks for 8086
        not n2 ens803f0: its name is ens803f0, the policy asks for ens803f1
        not n2 ens803f2: its device id is 1015, the policy asks for 158b
    "#]]
    .assert_eq(&print(&parse(&everywhere).policy.unwrap()));
    let nowhere = policy(|spec| {
        spec.node_selector.insert("rdma-capable".to_owned(), "yes".to_owned());
    });
    expect![[r#"
        not n1 : its label rdma-capable is "true", the policy asks for "yes"
        not n2 : it has no label rdma-capable, the policy asks for "yes"
    "#]]
    .assert_eq(&print(&parse(&nowhere).policy.unwrap()));
}
