//! From a pool to drained nodes: node states, grants, drains, and what happens when something goes wrong in between.

#![allow(clippy::unwrap_used)] // A test that cannot find its object has failed.

mod fake;

use api::annotation;
use expect_test::{Expect, expect};
use fake::{Api, Driver, config, node, pod, pool, settings};
use serde_json::json;

const NODE_STATE: &str = "SriovNetworkNodeState";

/// A settled cluster: these nodes, and a pool over them that wants exclusive mode.
fn cluster(nodes: &[&str], max_unavailable: serde_json::Value) -> (Api, Driver) {
    let mut api = Api::default();
    api.put(config());
    for name in nodes {
        api.put(node(name));
    }
    let mut spec = json!({
        "nodeSelector": { "matchLabels": { "rdma-capable": "true" } }, "rdmaMode": "exclusive",
    });
    if !max_unavailable.is_null() {
        spec["maxUnavailable"] = max_unavailable;
    }
    api.put(pool("rdma", spec));
    let mut driver = Driver::new(&api, settings());
    driver.settle(&mut api);
    (api, driver)
}

/// What the node daemon does first.
fn ask(api: &mut Api, node: &str, what: &str) {
    api.annotate(NODE_STATE, node, annotation::DESIRED_STATE, what);
    api.annotate("Node", node, annotation::NODE_STATE, what);
}

fn check(text: String, expected: Expect) {
    expected.assert_eq(&text);
}

/// `current-state` of every node, its cordon, and the grants of the pool.
fn state(api: &Api) -> String {
    let mut lines = Vec::new();
    for (key, object) in api.objects.iter().filter(|(key, _)| key.kind == "Node") {
        let current = api.annotation(NODE_STATE, &key.name, annotation::CURRENT_STATE);
        let cordon = match object["spec"]["unschedulable"] == true {
            true => " cordoned",
            false => "",
        };
        lines.push(format!("{}: {current}{cordon}", key.name));
    }
    let grants = &api.get("SriovNetworkPoolConfig", "rdma").unwrap()["status"]["grants"];
    let grants = grants.as_array().into_iter().flatten();
    let granted: Vec<_> = grants.map(|grant| grant["node"].as_str().unwrap()).collect();
    lines.push(format!("granted: {}", granted.join(", ")));
    lines.join("\n")
}

#[test]
fn a_pool_becomes_node_states_and_then_the_world_is_quiet() {
    let mut api = Api::default();
    api.put(config());
    api.put(node("worker-0"));
    api.put(pool("rdma", json!({ "rdmaMode": "exclusive" })));
    let mut driver = Driver::new(&api, settings());
    check(
        driver.settle(&mut api),
        expect![[r#"
        apply DaemonSet sriov-network-operator/sriov-network-config-daemon 
        apply DaemonSet sriov-network-operator/sriov-device-plugin 
        update SriovOperatorConfig sriov-network-operator/default status {} [Ready=True OperatorConfigReady: SriovOperatorConfig reconciled successfully]
        event SriovOperatorConfig sriov-network-operator/default OperatorConfigReady: SriovOperatorConfig reconciled successfully
        apply SriovNetworkNodeState sriov-network-operator/worker-0 {"bridges":{},"system":{"rdmaMode":"exclusive"}}
        patch SriovNetworkNodeState sriov-network-operator/worker-0 {"metadata":{"annotations":{"sriovnetwork.openshift.io/desired-state":"Idle","sriovnetwork.openshift.io/current-state":"Idle"}}}
        patch Node worker-0 {"metadata":{"annotations":{"sriovnetwork.openshift.io/state":"Idle"}}}
        update SriovNetworkPoolConfig sriov-network-operator/rdma status {"nodes":1} [Ready=False Progressing: 0 of 1 nodes are at their goal]
        event SriovNetworkPoolConfig sriov-network-operator/rdma Progressing: 0 of 1 nodes are at their goal"#]],
    );
    driver.wait(3600);
    check(driver.settle(&mut api), expect![[""]]);
    // Nor does a new operator find anything to write.
    check(Driver::new(&api, settings()).settle(&mut api), expect![[""]]);
}

#[test]
fn a_reboot_goes_from_request_to_grant_to_drain_and_back() {
    let (mut api, mut driver) = cluster(&["worker-0", "worker-1"], json!(null));
    api.put(pod("app", "worker-0", ""));
    ask(&mut api, "worker-0", annotation::REBOOT_REQUIRED);
    ask(&mut api, "worker-1", annotation::REBOOT_REQUIRED);
    check(
        driver.settle(&mut api),
        expect![[r#"
            update SriovNetworkPoolConfig sriov-network-operator/rdma status {"waiting":[{"node":"worker-1","because":"worker-1 waits: 1 of 1 allowed nodes (worker-0) is draining"}],"grants":[{"node":"worker-0","reason":"Reboot_Required","since":"2026-11-22T12:00:00.06Z"}],"nodes":2} [Ready=False Progressing: 0 of 2 nodes are at their goal; draining worker-0]
            event SriovNetworkPoolConfig sriov-network-operator/rdma Granted: worker-0 may be drained: 1 of 1 allowed
            patch SriovNetworkNodeState sriov-network-operator/worker-0 {"metadata":{"annotations":{"sriovnetwork.openshift.io/current-state":"Draining","ironrail.dev/grant":"2026-11-22T12:00:00.06Z"}}}
            event SriovNetworkNodeState sriov-network-operator/worker-0 DrainController: draining: the node asks for Reboot_Required
            patch Node worker-0 {"metadata":{"annotations":{"ironrail.dev/cordoned":"true"}},"spec":{"unschedulable":true}}
            apply SriovNetworkNodeState sriov-network-operator/worker-0 status {} [Drained=False Draining: evicting pod default/app: the node is drained for a reboot]
            evict Pod default/app
            patch SriovNetworkNodeState sriov-network-operator/worker-0 {"metadata":{"annotations":{"sriovnetwork.openshift.io/current-state":"DrainComplete"}}}
            event SriovNetworkNodeState sriov-network-operator/worker-0 DrainController: node is drained
            apply SriovNetworkNodeState sriov-network-operator/worker-0 status {} [Drained=True DrainComplete: every pod that had to go has gone]"#]],
    );
    check(
        state(&api),
        expect![[r#"
        worker-0: DrainComplete cordoned
        worker-1: Idle
        granted: worker-0"#]],
    );
    // The daemon rebooted, is at its goal and takes its request back.
    ask(&mut api, "worker-0", annotation::IDLE);
    check(
        driver.settle(&mut api),
        expect![[r#"
            patch Node worker-0 {"metadata":{"annotations":{"ironrail.dev/cordoned":null}},"spec":{"unschedulable":null}}
            patch SriovNetworkNodeState sriov-network-operator/worker-0 {"metadata":{"annotations":{"sriovnetwork.openshift.io/current-state":"Idle"}}}
            event SriovNetworkNodeState sriov-network-operator/worker-0 DrainController: node is uncordoned and idle again
            apply SriovNetworkNodeState sriov-network-operator/worker-0 status {} [Drained=False Idle: no drain is asked for]
            update SriovNetworkPoolConfig sriov-network-operator/rdma status {"nodes":2,"grants":[{"node":"worker-1","reason":"Reboot_Required","since":"2026-11-22T12:00:00.28Z"}]} [Ready=False Progressing: 0 of 2 nodes are at their goal; draining worker-1]
            event SriovNetworkPoolConfig sriov-network-operator/rdma Granted: worker-1 may be drained: 1 of 1 allowed
            event SriovNetworkPoolConfig sriov-network-operator/rdma GrantGivenBack: worker-0 asks for nothing more and is uncordoned
            patch SriovNetworkNodeState sriov-network-operator/worker-1 {"metadata":{"annotations":{"sriovnetwork.openshift.io/current-state":"Draining","ironrail.dev/grant":"2026-11-22T12:00:00.28Z"}}}
            event SriovNetworkNodeState sriov-network-operator/worker-1 DrainController: draining: the node asks for Reboot_Required
            patch Node worker-1 {"metadata":{"annotations":{"ironrail.dev/cordoned":"true"}},"spec":{"unschedulable":true}}
            patch SriovNetworkNodeState sriov-network-operator/worker-1 {"metadata":{"annotations":{"sriovnetwork.openshift.io/current-state":"DrainComplete"}}}
            event SriovNetworkNodeState sriov-network-operator/worker-1 DrainController: node is drained
            apply SriovNetworkNodeState sriov-network-operator/worker-1 status {} [Drained=True DrainComplete: every pod that had to go has gone]"#]],
    );
    check(
        state(&api),
        expect![[r#"
        worker-0: Idle
        worker-1: DrainComplete cordoned
        granted: worker-1"#]],
    );
}
