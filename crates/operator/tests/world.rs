//! What the operator makes of lists and events: late ones, doubled ones, and objects that cannot be read.

#![allow(clippy::unwrap_used)] // A test that cannot find its object has failed.

mod fake;

use fake::{config, node, pool, settings};
use operator::kinds::{self, KINDS};
use operator::world::{Change, Noticed, WatchEvent, World};
use serde_json::{Value, json};

fn world() -> World {
    let mut world = World::new(settings());
    KINDS.iter().for_each(|kind| drop(world.relisted(kind, Vec::new())));
    world
}

fn at(mut object: Value, version: &str) -> WatchEvent {
    object["metadata"]["uid"] = "u".into();
    object["metadata"]["resourceVersion"] = version.into();
    WatchEvent { change: Change::Modified, object: object.into() }
}

fn labelled(version: &str, label: &str) -> WatchEvent {
    let mut object = node("w0");
    object["metadata"]["labels"]["zone"] = label.into();
    at(object, version)
}

#[test]
fn half_a_world_is_not_complete() {
    let mut world = World::new(settings());
    for kind in KINDS {
        assert!(!world.is_complete(), "before {}", kind.kind);
        world.relisted(kind, Vec::new());
    }
    assert!(world.is_complete());
}

#[test]
fn an_event_that_comes_late_or_twice_changes_nothing() {
    let mut world = world();
    assert_eq!(world.apply(&labelled("10", "new")), Noticed::Intent);
    assert_eq!(world.apply(&labelled("10", "new")), Noticed::Nothing);
    assert_eq!(world.apply(&labelled("9", "old")), Noticed::Nothing);
    assert_eq!(world.nodes["w0"].metadata.labels["zone"], "new");
    // A heartbeat: a new version and nothing that is read here.
    assert_eq!(world.apply(&labelled("11", "new")), Noticed::Nothing);
    assert_eq!(world.nodes["w0"].metadata.resource_version, "11");
}

#[test]
fn a_list_is_the_truth_whatever_its_version() {
    let mut world = world();
    world.apply(&labelled("10", "new"));
    let nodes = kinds::find("v1", "Node").unwrap();
    world.relisted(nodes, vec![labelled("3", "restored").object]);
    assert_eq!(world.nodes["w0"].metadata.labels["zone"], "restored");
    world.relisted(nodes, Vec::new());
    assert!(world.nodes.is_empty());
}

#[test]
fn an_object_that_cannot_be_read_is_a_problem_of_its_own() {
    let mut world = world();
    let mut bad = pool("bad", json!({ "maxUnavailable": [] }));
    bad["metadata"]["generation"] = 3.into();
    world.apply(&at(bad, "1"));
    world.apply(&at(pool("good", json!({})), "2"));
    let mut config = config();
    config["status"] = json!({ "grants": "none" });
    world.apply(&at(config, "3"));
    let problems: Vec<String> = world
        .problems
        .iter()
        .map(|(key, problem)| {
            format!("{key} at {}: {}", problem.metadata.generation, problem.message)
        })
        .collect();
    expect_test::expect![[r#"
        SriovNetworkPoolConfig sriov-network-operator/bad at 3: SriovNetworkPoolConfig bad cannot be read: data did not match any variant of untagged enum IntOrString
        SriovOperatorConfig sriov-network-operator/default at 0: the status of SriovOperatorConfig default cannot be read: invalid type: string "none", expected a sequence"#]].assert_eq(&problems.join("\n"));
    assert_eq!(world.pools.keys().collect::<Vec<_>>(), ["good"]);
    // It could be read without its status.
    assert!(world.config.is_some());
    world.apply(&at(pool("bad", json!({})), "4"));
    assert!(!world.has_problem_of("SriovNetworkPoolConfig"));
}

#[test]
fn a_mode_that_a_node_reports_anew_has_the_networks_judged_again() {
    let mut world = world();
    let reports = |version: &str, mode: &str, sync: &str| {
        let state = json!({
            "apiVersion": "sriovnetwork.openshift.io/v1", "kind": "SriovNetworkNodeState",
            "metadata": { "name": "w0", "namespace": settings().namespace },
            "spec": {}, "status": { "syncStatus": sync, "system": { "rdmaMode": mode } },
        });
        at(state, version)
    };
    assert_eq!(world.apply(&reports("1", "exclusive", "InProgress")), Noticed::Intent);
    assert_eq!(world.apply(&reports("2", "exclusive", "Succeeded")), Noticed::Progress);
    assert_eq!(world.apply(&reports("3", "shared", "Succeeded")), Noticed::Intent);
}
