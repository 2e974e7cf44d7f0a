//! What must hold for any input: no text panics, every plan ends and is sound, no grant exceeds its limit.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod model;

use api::nodestate::NodeStateSpec;
use api::policy::SriovNetworkNodePolicy;
use api::pool::{Grant, SriovNetworkPoolConfig};
use api::primitives::IntOrString;
use api::{RdmaMode, Timestamp};
use model::Machine;
use model::drive::drive;
use planner::merge::{ModeWish, node_state_spec};
use planner::render::{Network, render};
use planner::rollout::{Fleet, FleetNode, Progress, next};
use planner::select::NodeFacts;
use planner::{Desired, DrainRequest, Permission, Turn, policy};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Text as users err: names, ranges, near-JSON, and anything.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-z0-9#:.{}\\[\\]\",' -]{0,16}",
        2 => "(enp3s0f0|alt0|ens1)(#[0-9]{0,12}-?[0-9]{0,12})?",
        1 => "\\PC{0,12}",
        1 => Just(r#"{"type":"rdma"}"#.to_owned()),
        1 => Just(r#"{"type":"a"},{"type":"b"}"#.to_owned()),
    ]
}

fn any_policy() -> impl Strategy<Value = SriovNetworkNodePolicy> {
    let texts = proptest::collection::vec(text(), 8);
    let numbers = (any::<i64>(), -2i64..200, -5i64..80_000);
    let names = proptest::collection::vec(text(), 0..3);
    (texts, numbers, names, any::<[bool; 4]>()).prop_map(
        |(texts, (priority, vfs, mtu), names, flags)| {
            let mut policy = SriovNetworkNodePolicy::default();
            let mut texts = texts.into_iter();
            let mut text = || texts.next().unwrap();
            policy.metadata.name = text();
            let spec = &mut policy.spec;
            spec.resource_name = text();
            spec.device_type = text();
            spec.link_type = text();
            spec.eswitch_mode = text();
            spec.vdpa_type = text();
            spec.nic_selector.vendor = text();
            spec.nic_selector.net_filter = text();
            spec.nic_selector.pf_names = names.clone();
            spec.nic_selector.root_devices = names;
            spec.priority = flags[0].then_some(priority);
            spec.num_vfs = vfs;
            spec.mtu = mtu;
            [spec.is_rdma, spec.externally_managed] = [flags[1], flags[2]];
            policy
        },
    )
}

/// A policy that can be acted on, for one of the two PFs of the machine below.
fn good_policy() -> impl Strategy<Value = SriovNetworkNodePolicy> {
    let numbers = (0u32..6, 0i64..6, 0i64..3);
    let choices = (prop_oneof![Just(""), Just("vfio-pci")], any::<[bool; 5]>());
    (0u8..2, numbers, choices, "[a-e]").prop_map(
        |(pf, (first, more, priority), (kind, flags), name)| {
            let mut policy = SriovNetworkNodePolicy::default();
            let spec = &mut policy.spec;
            spec.resource_name = format!("res-{name}");
            policy.metadata.name = format!("policy-{name}");
            spec.num_vfs = i64::from(first) + more;
            let range = match spec.num_vfs {
                0 => String::new(),
                vfs => format!("#{}-{}", first.min(u32::try_from(vfs).unwrap() - 1), vfs - 1),
            };
            spec.nic_selector.pf_names = vec![format!("enp3s0f{pf}{range}")];
            spec.device_type = kind.to_owned();
            spec.is_rdma = kind.is_empty() && flags[0];
            spec.mtu = if flags[1] { 9000 } else { 0 };
            if flags[2] {
                spec.eswitch_mode = "switchdev".to_owned();
            }
            spec.externally_managed = flags[3] && spec.num_vfs > 0;
            spec.allow_lifeline = flags[4];
            spec.priority = Some(priority);
            policy
        },
    )
}

fn mode() -> impl Strategy<Value = Option<RdmaMode>> {
    prop_oneof![Just(None), Just(Some(RdmaMode::Shared)), Just(Some(RdmaMode::Exclusive))]
}

/// Two PFs with some VFs of ours or of others, some of them held, and every kind of lever.
fn machine() -> impl Strategy<Value = Machine> {
    let vfs = proptest::collection::vec((0u32..5, any::<bool>(), any::<bool>()), 2);
    let modes = (mode(), mode(), mode(), mode());
    let lives = any::<[bool; 5]>();
    (vfs, modes, any::<[bool; 5]>(), 0u32..3, lives).prop_map(
        |(vfs, modes, flags, holders, lives)| {
            let mut machine = Machine {
                now: Timestamp::from_second(1_800_000_000).unwrap(),
                default_mode: Some(RdmaMode::Shared),
                ..Machine::default()
            };
            (machine.ignores_levers, machine.ignores_reboot) = (flags[0], flags[1] && flags[2]);
            let inventory = &mut machine.inventory;
            inventory.boot_id = "boot-0".to_owned();
            inventory.initial_rdma_mode = modes.3;
            let rdma = &mut inventory.rdma;
            (rdma.mode, rdma.modprobe_option, rdma.kernel_argument) = (modes.0, modes.1, modes.2);
            machine.next_argument = modes.2;
            rdma.modprobe_writable = flags[3];
            rdma.kernel_argument_tool = flags[4].then(|| "grubby".to_owned());
            rdma.other_namespaces = holders;
            for (index, (count, ours, down)) in vfs.into_iter().enumerate() {
                let (pci, name) = (format!("0000:3b:00.{index}"), format!("enp3s0f{index}"));
                let mut pf = model::pf(&pci, &name, "15b3", "1017");
                pf.admin_up = !down;
                if lives[3] {
                    pf.driver = Some("i40e".to_owned());
                }
                pf.vfs = (0..count).map(|vf| model::ready_vf(&pf, vf)).collect();
                let used = if lives[2] { pf.vfs.first().map(|vf| vf.pci) } else { None };
                if lives[index] {
                    let carries = api::lifeline::Carries::DefaultRoute;
                    let over = vec![name.clone(), "bond0".to_owned()];
                    let lifeline = api::lifeline::Lifeline {
                        carries,
                        detail: String::new(),
                        gone_since: None,
                        over,
                    };
                    inventory.lifelines.insert(used.unwrap_or(pf.pci), vec![lifeline]);
                    if lives[4] {
                        inventory.roce_lags.insert(pf.pci, "bond0".to_owned());
                    }
                }
                let held = pf.vfs.iter().take(usize::try_from(holders).unwrap());
                inventory.holders.extend(held.map(|vf| api::custody::Holder {
                    device: vf.pci.to_string(),
                    namespace: "default".to_owned(),
                    pod: format!("pod-{}", vf.pci),
                    ..Default::default()
                }));
                if ours {
                    inventory.configured.push(pf.pci);
                }
                machine.offered.extend(pf.vfs.iter().map(|vf| vf.pci));
                inventory.physical_functions.push(pf);
            }
            machine
        },
    )
}

fn desired(machine: &Machine, policies: &[SriovNetworkNodePolicy], wish: ModeWish) -> Desired {
    let labels = BTreeMap::new();
    let interfaces = machine.interfaces();
    let facts = NodeFacts { name: "worker-0", labels: &labels, interfaces: &interfaces };
    let (policies, _) = policy::parse_all(policies);
    Desired::parse(&node_state_spec(&facts, &policies, wish, &NodeStateSpec::default()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..Default::default() })]

    #[test]
    fn no_policy_text_panics(policies in proptest::collection::vec(any_policy(), 0..4), machine in machine()) {
        let desired = desired(&machine, &policies, ModeWish::Is(None));
        let permission = Permission::default();
        let plan = planner::plan(&desired, &machine.inventory, &permission, machine.now);
        planner::explain::plan("worker-0", &plan);
        for problem in policy::parse_all(&policies).1 {
            prop_assert!(!problem.message.is_empty());
        }
    }

    #[test]
    fn whatever_is_rendered_is_json(texts in proptest::collection::vec(text(), 8), vlan in -3i64..5000) {
        let mut network = api::network::SriovNetwork::default();
        network.metadata.name = texts[0].clone();
        network.spec.resource_name = texts[1].clone();
        network.spec.ipam = texts[2].clone();
        network.spec.capabilities = texts[3].clone();
        network.spec.meta_plugins = texts[4].clone();
        network.spec.meta_plugins_config = texts[5].clone();
        network.spec.log_file = texts[6].clone();
        network.spec.vlan = Some(vlan);
        if let Ok(rendered) = render(Network::Sriov(&network), "ops", "openshift.io") {
            let config: serde_json::Value = serde_json::from_str(&rendered.config).unwrap();
            prop_assert_eq!(&config["name"], &texts[0]);
        }
    }

    #[test]
    fn every_machine_reaches_its_goal_or_says_why_not(
        mut machine in machine(),
        policies in proptest::collection::vec(good_policy(), 0..4),
        wanted in mode(),
        no_drain in any::<bool>(),
    ) {
        let desired = desired(&machine, &policies, ModeWish::Is(wanted));
        let turn = if no_drain { Turn::DrainDisabled } else { Turn::NotYet };
        let (turn, findings) = drive(&mut machine, &desired, turn, &[], |_, _| {});
        prop_assert_eq!(findings, Vec::<String>::new());
        let permission = machine.permission(turn);
        let again = planner::plan(&desired, &machine.inventory, &permission, machine.now);
        prop_assert_eq!(&again.steps, &vec![]);
        // The turn for a reboot that was asked for and never came is kept for the person who is asked then.
        let kept = again.blockers.iter().any(|b| b.reason() == planner::Reason::RebootDidNotHappen);
        prop_assert!(again.later.is_empty() || no_drain || kept, "left over: {:?}", again);
        // Without drains it asks for what a pod holds, and nobody answers here.
        let asks = again.request != DrainRequest::Idle;
        let answered = no_drain && !machine.inventory.holders.is_empty();
        prop_assert!(!asks || answered || kept, "{:?}", again);
        let boots = machine.boots;
        prop_assert!(boots <= 1, "{boots} boots for one goal");
    }

    #[test]
    fn no_grant_exceeds_the_limit_it_was_decided_on(
        limits in proptest::collection::vec(prop_oneof![
            Just(None), (0i64..4).prop_map(|n| Some(IntOrString::Int(n))),
            (0u8..120).prop_map(|n| Some(IntOrString::String(format!("{n}%")))),
        ], 0..3),
        nodes in proptest::collection::vec((0usize..4, 0u8..3, 0u8..3, any::<[bool; 4]>()), 0..12),
    ) {
        let mut fleet = Fleet::default();
        for (index, limit) in limits.iter().enumerate() {
            let mut pool = SriovNetworkPoolConfig::default();
            pool.metadata.name = format!("pool-{index}");
            pool.spec.max_unavailable.clone_from(limit);
            let selector = pool.spec.node_selector.get_or_insert_default();
            selector.match_labels.insert(format!("in-{index}"), String::new());
            fleet.pools.push(pool);
        }
        for (index, (pool, request, current, flags)) in nodes.into_iter().enumerate() {
            let mut node = FleetNode { managed: true, ready: flags[0], ..FleetNode::default() };
            node.labels.insert(format!("in-{pool}"), String::new());
            if flags[1] {
                node.labels.insert("in-0".to_owned(), String::new());
            }
            if flags[2] {
                node.labels.insert(api::label::CONTROL_PLANE.to_owned(), String::new());
            }
            node.request = [DrainRequest::Idle, DrainRequest::Drain, DrainRequest::Reboot][usize::from(request)];
            node.current = [Progress::Idle, Progress::Draining, Progress::DrainComplete][usize::from(current)];
            let name = format!("node-{index}");
            if let (true, Some(pool)) = (flags[3], fleet.pools.get_mut(pool)) {
                let (node, reason) = (name.clone(), String::new());
                pool.status.grants.push(Grant { node, reason, since: Timestamp::UNIX_EPOCH, failing: false, reboot_useless: false });
            }
            fleet.nodes.insert(name, node);
        }
        let rollout = next(&fleet, Timestamp::UNIX_EPOCH);
        let mut granted = BTreeMap::new();
        for (name, pool) in &rollout.pools {
            prop_assert!(pool.added.is_empty() || pool.grants.len() <= pool.limit.nodes(), "{name}: {pool:?}");
            pool.grants.iter().for_each(|grant| *granted.entry(&grant.node).or_insert(0) += 1);
        }
        prop_assert!(rollout.without_pool.added.is_empty() || rollout.without_pool.grants.len() <= 1);
        prop_assert!(granted.values().all(|count| *count == 1), "granted twice: {granted:?}");
        // Every node that asks has a grant or a reason.
        for (name, node) in &fleet.nodes {
            let asks = node.request != DrainRequest::Idle;
            prop_assert!(!asks || rollout.grant_of(name).is_some() || rollout.waits(name).is_some(), "{name}");
        }
    }
}
