//! Objects that are right by themselves and wrong together: each sentence, and the object that it is about.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod model;

use api::RdmaMode;
use api::nodestate::InterfaceStatus;
use api::policy::SriovNetworkNodePolicy;
use api::pool::SriovNetworkPoolConfig;
use expect_test::{Expect, expect};
use planner::conflicts::{Cluster, NodeView, find};
use planner::policy::parse_all;
use planner::render::{Network, render};
use planner::select::NodeFacts;
use std::collections::BTreeMap;

type Node = (String, BTreeMap<String, String>, RdmaMode, Vec<InterfaceStatus>);

/// YAML documents; nodes are `{kind: Node, name: …, labels: {…}, mode: …}` with one ConnectX-5 `enp3s0f0` each.
fn check(documents: &[&str], expected: Expect) {
    let (mut nodes, mut policies, mut pools, mut networks) = (vec![], vec![], vec![], vec![]);
    for document in documents {
        let value: serde_json::Value = serde_saphyr::from_str(document).unwrap();
        match value["kind"].as_str().unwrap() {
            "Node" => nodes.push(node(&value)),
            "Policy" => policies.push(
                serde_json::from_value::<SriovNetworkNodePolicy>(with_metadata(value)).unwrap(),
            ),
            "Pool" => pools.push(
                serde_json::from_value::<SriovNetworkPoolConfig>(with_metadata(value)).unwrap(),
            ),
            "Network" => {
                let network = serde_json::from_value(with_metadata(value)).unwrap();
                let network = Network::Sriov(&network);
                networks.push((network.label(), render(network, "ops", "openshift.io").unwrap()));
            }
            "IBNetwork" => {
                let network = serde_json::from_value(with_metadata(value)).unwrap();
                let network = Network::Infiniband(&network);
                networks.push((network.label(), render(network, "ops", "openshift.io").unwrap()));
            }
            other => panic!("no kind of this test: {other}"),
        }
    }
    let views: Vec<NodeView<'_>> = nodes
        .iter()
        .map(|(name, labels, mode, interfaces): &Node| NodeView {
            facts: NodeFacts { name, labels, interfaces },
            mode: Some(*mode),
        })
        .collect();
    let (policies, problems) = parse_all(&policies);
    assert_eq!(problems, vec![]);
    let cluster = Cluster {
        nodes: &views,
        policies: &policies,
        pools: &pools,
        networks: &networks,
        prefix: "openshift.io",
    };
    let text: String =
        find(&cluster).iter().map(|problem| format!("{} {problem}\n", problem.reason)).collect();
    expected.assert_eq(&text);
}

fn with_metadata(mut value: serde_json::Value) -> serde_json::Value {
    let namespace = value["namespace"].as_str().unwrap_or("ops").to_owned();
    value["metadata"] = serde_json::json!({ "name": value["name"], "namespace": namespace });
    value
}

fn node(value: &serde_json::Value) -> Node {
    let labels = match &value["labels"] {
        serde_json::Value::Null => BTreeMap::new(),
        labels => serde_json::from_value(labels.clone()).unwrap(),
    };
    let mode = value["mode"].as_str().unwrap_or("shared").parse().unwrap();
    let mut pf = model::pf("0000:3b:00.0", "enp3s0f0", "15b3", "1017");
    pf.total_vfs = Some(8);
    (value["name"].as_str().unwrap().to_owned(), labels, mode, vec![model::status(&pf)])
}

const W0: &str = "{kind: Node, name: w0, labels: {worker: '', rdma-capable: 'true'}}";
const W1: &str = "{kind: Node, name: w1, labels: {rdma-capable: 'true'}}";
const POOL: &str = "{kind: Pool, name: rdma-workers, spec: {rdmaMode: exclusive, nodeSelector: {matchLabels: {worker: '', rdma-capable: 'true'}}}}";
const POLICY: &str = "{kind: Policy, name: rdma-policy, spec: {resourceName: rdma, numVfs: 4, isRdma: true, nicSelector: {pfNames: [enp3s0f0]}, nodeSelector: {rdma-capable: 'true'}}}";
const WITH_PLUGIN: &str = r#"{kind: Network, name: net, namespace: default, spec: {resourceName: rdma, metaPlugins: '{"type":"rdma"}'}}"#;
const WITHOUT_PLUGIN: &str =
    "{kind: Network, name: net, namespace: default, spec: {resourceName: rdma}}";

#[test]
fn a_policy_whose_nodes_are_not_all_in_the_pool_is_told_before_a_pod_fails() {
    check(
        &[W0, W1, POOL, POLICY],
        expect![[r#"
        RdmaModeMismatch policy rdma-policy: its nodes do not have one RDMA mode: w0 is exclusive, w1 is shared (w1 is in no pool); a pod may land on any of them, so select all in one pool or narrow the nodeSelector
    "#]],
    );
}

#[test]
fn one_pool_for_all_nodes_is_fine() {
    check(&[W0, POOL, POLICY, WITH_PLUGIN], expect![[""]]);
}

#[test]
fn the_rdma_plugin_in_shared_mode_names_pool_node_and_mode() {
    let pool = "{kind: Pool, name: all, spec: {rdmaMode: shared}}";
    check(
        &[W0, W1, pool, POLICY, WITH_PLUGIN],
        expect![[r#"
        RdmaModeMismatch SriovNetwork default/net: its rdma plugin needs RDMA mode exclusive, and w0, w1 have shared (pool all); set rdmaMode: exclusive in a pool of these nodes, or take the plugin out
    "#]],
    );
    check(
        &[W1, POLICY, WITH_PLUGIN],
        expect![[r#"
        RdmaModeMismatch SriovNetwork default/net: its rdma plugin needs RDMA mode exclusive, and w1 has shared (w1 is in no pool); set rdmaMode: exclusive in a pool of these nodes, or take the plugin out
    "#]],
    );
}

#[test]
fn a_network_without_the_rdma_plugin_in_exclusive_mode_is_told() {
    check(
        &[W0, POOL, POLICY, WITHOUT_PLUGIN],
        expect![[r#"
        RdmaModeMismatch SriovNetwork default/net: its pods get no RDMA device: w0 has RDMA mode exclusive (pool rdma-workers) and metaPlugins has no rdma plugin; write metaPlugins: '{"type": "rdma"}'
    "#]],
    );
}

#[test]
fn a_plain_network_in_exclusive_mode_is_fine() {
    let policy = "{kind: Policy, name: plain, spec: {resourceName: rdma, numVfs: 4, nicSelector: {pfNames: [enp3s0f0]}}}";
    check(&[W0, POOL, policy, WITHOUT_PLUGIN], expect![[""]]);
}

#[test]
fn host_local_addresses_on_two_nodes_are_told() {
    let network = r#"{kind: Network, name: net, namespace: default, spec: {resourceName: rdma, ipam: '{"type":"host-local","subnet":"10.10.10.0/24"}'}}"#;
    check(
        &[W0, W1, POLICY, network],
        expect![[r#"
        AddressRangeShared SriovNetwork default/net: ipam host-local gives the same addresses on each of 2 nodes (w0, w1); use whereabouts or nv-ipam, or one network with a range of its own per node
    "#]],
    );
    check(&[W0, POLICY, network], expect![[""]]);
}

#[test]
fn a_network_of_a_resource_that_no_policy_has_is_told() {
    check(
        &[
            "{kind: Node, name: worker-0, labels: {}}",
            "{kind: Policy, name: train, spec: {resourceName: rdma, numVfs: 4, nodeSelector: {}, nicSelector: {vendor: 15b3}}}",
            "{kind: Network, name: net, spec: {resourceName: rmda}}",
        ],
        expect![[r#"
            ResourceNotOffered SriovNetwork ops/net: no policy has its resourceName "rmda"; create one, or write one of rdma
        "#]],
    );
}

#[test]
fn two_networks_with_one_target_are_told() {
    let one = "{kind: Network, name: net, spec: {resourceName: x, networkNamespace: default}}";
    let other = "{kind: IBNetwork, name: net, namespace: default, spec: {resourceName: x}}";
    check(
        &[one, other],
        expect![[r#"
            Conflict SriovIBNetwork default/net: the NetworkAttachmentDefinition default/net belongs to SriovNetwork ops/net already; rename one of the two
            ResourceNotOffered SriovNetwork ops/net: no policy has its resourceName "x"; create one
            ResourceNotOffered SriovIBNetwork default/net: no policy has its resourceName "x"; create one
        "#]],
    );
}

#[test]
fn overlapping_ranges_are_told_to_the_one_that_loses() {
    let policy = |name: &str, range: &str, priority: u8| {
        format!(
            "{{kind: Policy, name: {name}, spec: {{resourceName: {name}, numVfs: 8, priority: {priority}, nicSelector: {{pfNames: ['enp3s0f0#{range}']}}}}}}"
        )
    };
    check(
        &[W0, W1, &policy("a", "0-3", 10), &policy("b", "3-5", 10)],
        expect![[r#"
            Conflict policy a: VFs 0-3 of enp3s0f0 overlap with 3-5 of policy b: both have priority 10 and the later name wins, and this policy gets none of them; write ranges that do not overlap, here for example enp3s0f0#0-2; on w0, w1
        "#]],
    );
    check(
        &[W0, &policy("a", "0-3", 10), &policy("b", "3-5", 20)],
        expect![[r#"
            Conflict policy b: VFs 3-5 of enp3s0f0 overlap with 0-3 of policy a: priority 10 wins over 20, and this policy gets none of them; write ranges that do not overlap, here for example enp3s0f0#4-7; on w0
        "#]],
    );
    check(
        &[W0, &policy("a", "0-7", 10), &policy("b", "3-5", 20)],
        expect![[r#"
        Conflict policy b: VFs 3-5 of enp3s0f0 overlap with 0-7 of policy a: priority 10 wins over 20, and this policy gets none of them; no VF is left: raise numVfs and write ranges in both; on w0
    "#]],
    );
    check(&[W0, &policy("a", "0-2", 10), &policy("b", "3-5", 20)], expect![[""]]);
}

#[test]
fn settings_that_one_pf_cannot_have_twice_are_told() {
    let one = "{kind: Policy, name: a, spec: {resourceName: x, numVfs: 2, externallyManaged: true, excludeTopology: true, nicSelector: {pfNames: ['enp3s0f0#0-0']}}}";
    let other = "{kind: Policy, name: b, spec: {resourceName: x, numVfs: 2, eSwitchMode: switchdev, nicSelector: {pfNames: ['enp3s0f0#1-1']}}}";
    check(
        &[W0, one, other],
        expect![[r#"
        Conflict policy a: eSwitchMode is legacy here and switchdev in policy b for enp3s0f0: both have priority 0 and the later name wins; write the same in both; on w0
        Conflict policy a: externallyManaged is true here and false in policy b for enp3s0f0: both have priority 0 and the later name wins; write the same in both; on w0
        Conflict policy b: excludeTopology is false here and true in policy a for the same resource x; write the same in both
    "#]],
    );
}

#[test]
fn a_whole_pf_and_vfs_of_it_cannot_be_had_together() {
    let whole = "{kind: Policy, name: whole, spec: {resourceName: x, numVfs: 0, priority: 5, nicSelector: {pfNames: [enp3s0f0]}}}";
    check(
        &[W0, POLICY, whole],
        expect![[r#"
            Conflict policy whole: enp3s0f0 is offered as a whole here and cut into VFs by policy rdma-policy: priority 0 wins over 5; take it out of one of them; on w0
        "#]],
    );
}

#[test]
fn a_selector_that_matches_nothing_is_told_with_the_nearest_miss() {
    let no_node = "{kind: Policy, name: a, spec: {resourceName: x, numVfs: 1, nicSelector: {vendor: '15b3'}, nodeSelector: {rdma-capable: 'yes'}}}";
    let no_pf = "{kind: Policy, name: b, spec: {resourceName: x, numVfs: 1, nicSelector: {vendor: '8086'}}}";
    check(
        &[W0, no_node, no_pf],
        expect![[r#"
        NothingSelected policy a: its nodeSelector takes none of the managed nodes; nearest: w0: its label rdma-capable is "true", the policy asks for "yes"
        NothingSelected policy b: its nicSelector takes no PF of the 1 selected nodes; nearest: enp3s0f0 of w0: its vendor is 15b3, the policy asks for 8086
    "#]],
    );
}

#[test]
fn more_vfs_than_the_card_allows_are_told() {
    let policy = "{kind: Policy, name: many, spec: {resourceName: x, numVfs: 9, nicSelector: {vendor: '15b3'}}}";
    check(
        &[W0, W1, policy],
        expect![[r#"
        VfLimit policy many: numVfs 9 is more than enp3s0f0 on w0, w1 allows, which is 8; ask for fewer or raise the number in firmware
    "#]],
    );
}
