//! How long thinking takes: 1,000 nodes and 20 policies, as a full replan of the operator does it, and one node's plan
//! as its daemon does it. Ratios over inputs, not promises; no test asserts a time.

#![allow(clippy::unwrap_used, reason = "a benchmark may panic")]

#[path = "../tests/model/mod.rs"]
mod model;

use api::nodestate::{InterfaceStatus, NodeStateSpec};
use api::policy::SriovNetworkNodePolicy;
use api::pool::SriovNetworkPoolConfig;
use api::{RdmaMode, Timestamp};
use divan::{Bencher, black_box};
use planner::conflicts::{Cluster, NodeView, find};
use planner::merge::{mode_wish, node_state_spec};
use planner::policy::{Policy, parse_all};
use planner::rollout::{Fleet, FleetNode, next};
use planner::select::NodeFacts;
use planner::{Desired, DrainRequest, Permission};
use std::collections::BTreeMap;

fn main() {
    divan::main();
}

struct Node {
    name: String,
    labels: BTreeMap<String, String>,
    interfaces: Vec<InterfaceStatus>,
}

fn nodes(count: usize) -> Vec<Node> {
    let interfaces: Vec<InterfaceStatus> = (0..8)
        .map(|index| {
            let pci = format!("0000:{:02x}:00.{}", 0x3b + index / 2, index % 2);
            let name = format!("enp{}s0f{}", 59 + index / 2, index % 2);
            model::status(&model::pf(&pci, &name, "15b3", "1017"))
        })
        .collect();
    let node = |index: usize| Node {
        name: format!("worker-{index:04}"),
        labels: [("rack".to_owned(), format!("r{}", index % 20))].into(),
        interfaces: interfaces.clone(),
    };
    (0..count).map(node).collect()
}

/// Each policy takes one PF; half of them are for all nodes, half for the nodes of one rack.
fn policies(count: usize) -> Vec<Policy> {
    let policy = |index: usize| {
        let mut policy = SriovNetworkNodePolicy::default();
        policy.metadata.name = format!("policy-{index:02}");
        policy.spec.resource_name = format!("res_{index}");
        policy.spec.num_vfs = 16;
        policy.spec.priority = Some(i64::try_from(index % 5).unwrap());
        let function = index % 8;
        let range = if index.is_multiple_of(3) { "#0-7" } else { "#8-15" };
        policy.spec.nic_selector.pf_names =
            vec![format!("enp{}s0f{}{range}", 59 + function / 2, function % 2)];
        if index.is_multiple_of(2) {
            policy.spec.node_selector.insert("rack".to_owned(), format!("r{index}"));
        }
        policy
    };
    parse_all(&(0..count).map(policy).collect::<Vec<_>>()).0
}

fn pools(count: usize) -> Vec<SriovNetworkPoolConfig> {
    let pool = |index: usize| {
        let mut pool = SriovNetworkPoolConfig::default();
        pool.metadata.name = format!("pool-{index}");
        pool.spec.rdma_mode = "exclusive".to_owned();
        let selector = pool.spec.node_selector.get_or_insert_default();
        selector.match_labels.insert("rack".to_owned(), format!("r{index}"));
        pool
    };
    (0..count).map(pool).collect()
}

fn facts(node: &Node) -> NodeFacts<'_> {
    NodeFacts { name: &node.name, labels: &node.labels, interfaces: &node.interfaces }
}

#[divan::bench(args = [(1_000, 20), (5_000, 50)])]
fn node_states_of_all_nodes(bencher: Bencher<'_, '_>, (count, rules): (usize, usize)) {
    let (nodes, policies, pools) = (nodes(count), policies(rules), pools(20));
    let before = NodeStateSpec::default();
    bencher.bench(|| {
        for node in &nodes {
            let wish = mode_wish(&node.labels, &pools);
            black_box(node_state_spec(&facts(node), &policies, wish, &before));
        }
    });
}

#[divan::bench(args = [(1_000, 20), (5_000, 50)])]
fn conflicts_in_the_cluster(bencher: Bencher<'_, '_>, (count, rules): (usize, usize)) {
    let (nodes, policies, pools) = (nodes(count), policies(rules), pools(20));
    let view = |node| NodeView { facts: facts(node), mode: Some(RdmaMode::Shared) };
    let views: Vec<NodeView<'_>> = nodes.iter().map(view).collect();
    let cluster = Cluster {
        nodes: &views,
        policies: &policies,
        pools: &pools,
        networks: &[],
        prefix: "openshift.io",
    };
    bencher.bench(|| black_box(find(&cluster)));
}

#[divan::bench(args = [1_000, 5_000])]
fn rollout_when_every_node_asks(bencher: Bencher<'_, '_>, count: usize) {
    let mut fleet = Fleet { pools: pools(20), ..Fleet::default() };
    for node in nodes(count) {
        let asks = FleetNode {
            labels: node.labels,
            ready: true,
            managed: true,
            request: DrainRequest::Reboot,
            ..FleetNode::default()
        };
        fleet.nodes.insert(node.name, asks);
    }
    bencher.bench(|| black_box(next(&fleet, Timestamp::UNIX_EPOCH)));
}

/// One node whose PFs all have the VFs that they should have: the plan of every quiet wake-up.
#[divan::bench(args = [8, 64])]
fn quiet_node(bencher: Bencher<'_, '_>, vfs: u32) {
    let mut machine = model::Machine::default();
    for index in 0..4 {
        let pci = format!("0000:{:02x}:00.0", 0x3b + index);
        let name = format!("enp{}s0f0", 59 + index);
        let mut pf = model::pf(&pci, &name, "15b3", "1017");
        pf.total_vfs = Some(64);
        pf.vfs = (0..vfs).map(|vf| model::ready_vf(&pf, vf)).collect();
        machine.inventory.configured.push(pf.pci);
        machine.inventory.physical_functions.push(pf);
    }
    let mut policy = SriovNetworkNodePolicy::default();
    policy.metadata.name = "all".to_owned();
    policy.spec.resource_name = "all".to_owned();
    policy.spec.num_vfs = i64::from(vfs);
    policy.spec.nic_selector.vendor = "15b3".to_owned();
    let labels = BTreeMap::new();
    let interfaces = machine.interfaces();
    let facts = NodeFacts { name: "worker-0", labels: &labels, interfaces: &interfaces };
    let wish = mode_wish(&labels, &[]);
    let spec = node_state_spec(&facts, &parse_all(&[policy]).0, wish, &NodeStateSpec::default());
    let desired = Desired::parse(&spec);
    let permission = Permission::default();
    let plan = || planner::plan(&desired, &machine.inventory, &permission, machine.now);
    assert!(plan().is_done());
    bencher.bench(|| black_box(plan()));
}
