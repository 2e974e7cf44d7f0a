//! A cluster in a few lines of text, for the tests of grants and waves.

#![allow(dead_code, reason = "each test program uses its own part")]

use api::Timestamp;
use api::pool::{Grant, RolloutSpec, SriovNetworkPoolConfig};
use api::primitives::IntOrString;
use planner::DrainRequest;
use planner::rollout::{Fleet, FleetNode, Progress};

/// Lines: `pool fast max 2 on pool=fast granted w1,w2` and `w1 pool=fast asks reboot draining cordoned …`.
pub fn fleet(text: &str) -> Fleet {
    let mut fleet = Fleet::default();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let mut words = line.split_whitespace();
        let name = words.next().unwrap();
        match name {
            "pool" => pool(&mut fleet, &mut words),
            "granted" => fleet.grants_without_pool = grants(words.next().unwrap()),
            name => {
                fleet.nodes.insert(name.to_owned(), node(words));
            }
        }
    }
    fleet
}

fn pool<'a>(fleet: &mut Fleet, words: &mut impl Iterator<Item = &'a str>) {
    let mut pool = SriovNetworkPoolConfig::default();
    pool.metadata.name = words.next().unwrap().to_owned();
    while let Some(word) = words.next() {
        let value = words.next().unwrap();
        match word {
            "max" => {
                pool.spec.max_unavailable = Some(int_or_string(value));
            }
            "on" => {
                let (key, value) = value.split_once('=').unwrap();
                let selector = pool.spec.node_selector.get_or_insert_default();
                selector.match_labels.insert(key.to_owned(), value.to_owned());
            }
            "granted" => pool.status.grants = grants(value),
            "mode" => pool.spec.rdma_mode = value.to_owned(),
            "deadline" => pool.spec.drain.get_or_insert_default().deadline = value.to_owned(),
            "then" => pool.spec.drain.get_or_insert_default().on_deadline = value.to_owned(),
            "canary" => rollout(&mut pool).canary = Some(int_or_string(value)),
            "pause" => rollout(&mut pool).pause_after_canary = value == "yes",
            "halt" => rollout(&mut pool).halt_after_failures = Some(value.parse().unwrap()),
            "unavailable" => rollout(&mut pool).count_unavailable = value == "count",
            "offload" => pool.spec.ovs_hardware_offload_config.name = value.to_owned(),
            other => panic!("no word about a pool: {other}"),
        }
    }
    fleet.pools.push(pool);
}

fn rollout(pool: &mut SriovNetworkPoolConfig) -> &mut RolloutSpec {
    pool.spec.rollout.get_or_insert_default()
}

fn int_or_string(value: &str) -> IntOrString {
    match value.parse() {
        Ok(number) => IntOrString::Int(number),
        Err(_) => IntOrString::String(value.to_owned()),
    }
}

fn grants(names: &str) -> Vec<Grant> {
    let grant = |name: &str| Grant {
        node: name.to_owned(),
        reason: DrainRequest::Reboot.as_str().to_owned(),
        since: Timestamp::UNIX_EPOCH,
        failing: false,
        reboot_useless: false,
    };
    names.split(',').map(grant).collect()
}

fn node<'a>(words: impl Iterator<Item = &'a str>) -> FleetNode {
    let mut node = FleetNode { ready: true, managed: true, ..FleetNode::default() };
    let mut spent = false;
    for word in words {
        match word {
            "asks" => node.request = DrainRequest::Reboot,
            "asks-drain" => node.request = DrainRequest::Drain,
            "draining" => node.current = Progress::Draining,
            "drained" => node.current = Progress::DrainComplete,
            "cordoned" => node.unschedulable = true,
            "cordoned-by-us" => (node.unschedulable, node.cordoned_by_us) = (true, true),
            // Its drain was undone and it asks still.
            "spent" => spent = true,
            "empty" => node.empty = true,
            "notready" => node.ready = false,
            // Since the beginning of the story.
            "gone" => {
                node.ready = false;
                node.not_ready_since = Some(Timestamp::UNIX_EPOCH);
            }
            "silent" => node.silent_since = Some(Timestamp::UNIX_EPOCH),
            "unmanaged" => node.managed = false,
            "external" => node.external_drainer = true,
            "done" => node.at_goal = true,
            "ordered-exclusive" => node.ordered_mode = Some(api::RdmaMode::Exclusive),
            "used" => node.grant_used = true,
            "stale" => node.stale = true,
            "failing" => node.failing = Some("the card does not answer".to_owned()),
            "useless" => {
                node.failing = Some("the reboot did not help".to_owned());
                node.reboot_useless = true;
            }
            "control-plane" => {
                node.labels.insert(api::label::CONTROL_PLANE.to_owned(), String::new());
            }
            label => {
                let (key, value) = label.split_once('=').unwrap();
                node.labels.insert(key.to_owned(), value.to_owned());
            }
        }
    }
    node.wants = if spent { DrainRequest::Reboot } else { node.request };
    node
}
