//! Two operators that both believe to lead, with caches of any age, that die between any two writes: the pool's limit
//! holds all the same, and the rollout ends.

#![allow(clippy::unwrap_used)] // A test that cannot find its object has failed.

mod fake;

use api::annotation;
use fake::{Api, Driver, config, node, pod, pool, settings};
use operator::kinds::KINDS;
use serde_json::json;
use std::collections::BTreeMap;

const NODE_STATE: &str = "SriovNetworkNodeState";
const NODES: [&str; 5] = ["w0", "w1", "w2", "w3", "w4"];

/// A small generator of its own, so that a seed means the same for ever.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((self.0 >> 33) as usize) % bound
    }
}

/// What a node's daemon does next, if anything: it asks once, waits for DrainComplete, works, and takes it back.
fn daemon(api: &mut Api, node: &str, drains: &mut BTreeMap<String, u32>) {
    let asked = api.annotation("Node", node, annotation::NODE_STATE);
    let mirror = api.annotation(NODE_STATE, node, annotation::DESIRED_STATE);
    let current = api.annotation(NODE_STATE, node, annotation::CURRENT_STATE);
    let drained = drains.entry(node.to_owned()).or_default();
    let (first, second) = match (asked.as_str(), mirror.as_str(), current.as_str()) {
        // Half-way through asking or taking back.
        ("Idle", "Reboot_Required", _) if *drained > 0 => (None, Some("Idle")),
        ("Idle", "Reboot_Required", _) => (Some("Reboot_Required"), None),
        ("Idle", "Idle", "Idle") if *drained == 0 => (None, Some("Reboot_Required")),
        ("Reboot_Required", _, "DrainComplete") => {
            *drained += 1;
            (Some("Idle"), None)
        }
        _ => return,
    };
    if let Some(value) = first {
        api.annotate("Node", node, annotation::NODE_STATE, value);
    }
    if let Some(value) = second {
        api.annotate(NODE_STATE, node, annotation::DESIRED_STATE, value);
    }
}

/// The limit as the API holds it: grants of the pool, and nodes that are disturbed.
fn assert_limit(api: &Api, limit: usize, story: &str) {
    let grants = &api.get("SriovNetworkPoolConfig", "rdma").unwrap()["status"]["grants"];
    let grants = grants.as_array().map_or(0, Vec::len);
    assert!(grants <= limit, "{story}: {grants} grants, {limit} allowed");
    let disturbed = NODES.iter().filter(|node| {
        let current = api.annotation(NODE_STATE, node, annotation::CURRENT_STATE);
        !current.is_empty() && current != annotation::IDLE
    });
    let disturbed: Vec<_> = disturbed.collect();
    assert!(disturbed.len() <= limit, "{story}: {disturbed:?} disturbed, {limit} allowed");
    for node in NODES {
        let drained = api.annotation(NODE_STATE, node, annotation::CURRENT_STATE)
            == annotation::DRAIN_COMPLETE;
        let asks = api.annotation("Node", node, annotation::NODE_STATE) != annotation::IDLE;
        let cordoned = api.get("Node", node).unwrap()["spec"]["unschedulable"] == true;
        assert!(
            !(drained && asks) || cordoned,
            "{story}: {node} is being changed and not cordoned"
        );
    }
}

/// One pool over all nodes.
fn run(seed: u64) {
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) + 1);
    let limit = 1 + dice.below(2);
    let mut api = Api::default();
    api.put(config());
    api.put(pool("rdma", json!({ "rdmaMode": "exclusive", "maxUnavailable": limit })));
    for name in NODES {
        api.put(node(name));
        api.put(pod(&format!("app-{name}"), name, ""));
    }
    play(seed, &mut dice, &mut api, &|api, story| assert_limit(api, limit, story));
}

/// Control-plane nodes in two pools and in none, each pool with room for all of its nodes.
fn run_control_plane(seed: u64) {
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) + 1);
    let mut api = Api::default();
    api.put(config());
    for name in ["rdma", "other"] {
        let selector = json!({ "matchLabels": { "pool": name } });
        let spec =
            json!({ "rdmaMode": "exclusive", "maxUnavailable": 5, "nodeSelector": selector });
        api.put(pool(name, spec));
    }
    for (index, name) in NODES.into_iter().enumerate() {
        let mut node = node(name);
        node["metadata"]["labels"]["pool"] = ["rdma", "other", "none"][index % 3].into();
        node["metadata"]["labels"]["node-role.kubernetes.io/control-plane"] = "".into();
        api.put(node);
    }
    play(seed, &mut dice, &mut api, &|api, story| {
        let current = |node: &str| api.annotation(NODE_STATE, node, annotation::CURRENT_STATE);
        let busy = |node: &&str| !["", annotation::IDLE].contains(&current(node).as_str());
        let disturbed: Vec<_> = NODES.into_iter().filter(busy).collect();
        assert!(disturbed.len() <= 1, "{story}: {disturbed:?} are disturbed at one time");
    });
}

fn play(seed: u64, dice: &mut Dice, api: &mut Api, check: &dyn Fn(&Api, &str)) {
    let mut operators = vec![Driver::new(api, settings())];
    operators[0].settle(api);
    operators.push(Driver::new(api, settings()));
    let mut drains = BTreeMap::new();
    for step in 0..600 {
        let story = format!("seed {seed}, step {step}");
        let who = dice.below(2);
        match dice.below(8) {
            0 => daemon(api, NODES[dice.below(NODES.len())], &mut drains),
            // One watch delivers a little.
            1..=3 => {
                let kind = KINDS[dice.below(KINDS.len())].kind;
                for _ in 0..=dice.below(6) {
                    operators[who].deliver_one(api, kind);
                }
            }
            _ => {
                let operator = &mut operators[who];
                operator.wait(dice.below(3) as u64);
                let Some(work) = operator.operator.step(operator.now) else { continue };
                // Now and then it dies in the middle, and another starts with what the API has.
                let dies = dice.below(12) == 0;
                let most = if dies { dice.below(work.writes.len() + 1) } else { usize::MAX };
                operator.carry_out(api, work, most);
                if dies {
                    let now = operator.now;
                    operators[who] = Driver::at(api, settings(), now);
                }
            }
        }
        check(api, &story);
    }
    // Left alone, the rollout ends: every node was drained once, nothing is left behind.
    let mut last = Driver::at(api, settings(), operators.iter().map(|o| o.now).max().unwrap());
    for _ in 0..40 {
        last.settle(api);
        check(api, &format!("seed {seed}, at the end"));
        for node in NODES {
            daemon(api, node, &mut drains);
        }
        last.wait(5);
    }
    for node in NODES {
        assert_eq!(drains.get(node), Some(&1), "seed {seed}: {node}");
        assert_eq!(api.annotation(NODE_STATE, node, annotation::CURRENT_STATE), "Idle");
        assert!(api.get("Node", node).unwrap()["spec"]["unschedulable"].is_null());
        assert_eq!(api.annotation("Node", node, annotation::CORDONED_BY_US), "");
    }
    let pool = api.get("SriovNetworkPoolConfig", "rdma").unwrap();
    assert!(pool["status"]["grants"].as_array().is_none_or(Vec::is_empty), "seed {seed}");
}

#[test]
fn the_limit_holds_with_two_leaders_stale_caches_and_deaths_in_between() {
    for seed in 0..12 {
        run(seed);
    }
}

#[test]
fn two_pools_with_control_plane_nodes_never_disturb_two_of_them() {
    for seed in 0..12 {
        run_control_plane(seed);
    }
}

/// Steps until a write of this beginning was made; of this kind nothing is heard meanwhile.
fn until(operator: &mut Driver, api: &mut Api, deaf_for: &str, beginning: &str) {
    for _ in 0..1000 {
        assert!(operator.step(api), "nothing more to do; it wrote:\n{}", operator.trace.join("\n"));
        if operator.trace.iter().any(|line| line.starts_with(beginning)) {
            return;
        }
        for kind in KINDS.iter().filter(|kind| kind.kind != deaf_for) {
            while operator.deliver_one(api, kind.kind) {}
        }
    }
    panic!("no {beginning}; it wrote:\n{}", operator.trace.join("\n"));
}

#[test]
fn a_cordon_that_lands_after_the_other_operator_has_undone_the_drain_is_taken_back_and_the_node_gets_its_turn()
 {
    let mut api = Api::default();
    api.put(config());
    api.put(pool("rdma", json!({ "rdmaMode": "exclusive" })));
    for name in ["w0", "w1"] {
        api.put(node(name));
    }
    api.put(pod("app-w0", "w0", ""));
    let mut first = Driver::new(&api, settings());
    first.settle(&mut api);
    api.annotate(NODE_STATE, "w0", annotation::DESIRED_STATE, annotation::REBOOT_REQUIRED);
    api.annotate("Node", "w0", annotation::NODE_STATE, annotation::REBOOT_REQUIRED);
    // The other one lists before the grant, and its watch of pools is late from then on.
    let mut second = Driver::new(&api, settings());
    first.deliver(&api);
    let said = "event SriovNetworkNodeState sriov-network-operator/w0 DrainController: ";
    until(&mut first, &mut api, NODE_STATE, &format!("{said}draining"));
    while first.deliver_one(&api, NODE_STATE) {}
    while second.deliver_one(&api, NODE_STATE) {}
    until(&mut second, &mut api, "SriovNetworkPoolConfig", &format!("{said}the drain is undone"));
    until(&mut first, &mut api, NODE_STATE, "patch Node w0");
    let current = |api: &Api| api.annotation(NODE_STATE, "w0", annotation::CURRENT_STATE);
    let cordoned = |api: &Api| api.get("Node", "w0").unwrap()["spec"]["unschedulable"] == true;
    assert_eq!((current(&api).as_str(), cordoned(&api)), (annotation::IDLE, true));
    first.settle(&mut api);
    first.wait(5);
    let written = first.settle(&mut api);
    assert_eq!(
        (current(&api).as_str(), cordoned(&api)),
        (annotation::DRAIN_COMPLETE, true),
        "{written}"
    );
}
