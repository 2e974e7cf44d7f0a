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
            patch Node worker-0 {"metadata":{"labels":{"sriovnetwork.openshift.io/device-plugin":"Disabled"}}}
            patch SriovNetworkNodeState sriov-network-operator/worker-0 {"metadata":{"annotations":{"sriovnetwork.openshift.io/desired-state":"Idle","sriovnetwork.openshift.io/current-state":"Idle"}}}
            patch Node worker-0 {"metadata":{"annotations":{"sriovnetwork.openshift.io/state":"Idle"}}}
            apply ConfigMap sriov-network-operator/device-plugin-config {"worker-0":"{\"resourceList\":null}"}
            update SriovNetworkPoolConfig sriov-network-operator/rdma status {"nodes":1} [Ready=False Progressing: 0 of 1 nodes are at their goal]
            event SriovNetworkPoolConfig sriov-network-operator/rdma Progressing: 0 of 1 nodes are at their goal"#]],
    );
    driver.wait(3600);
    check(driver.settle(&mut api), expect![[""]]);
    // Nor does a new operator find anything to write.
    check(Driver::new(&api, settings()).settle(&mut api), expect![[""]]);
}

/// The `Ready` condition of the pool, in each of its statuses in order.
fn readiness(api: &Api) -> String {
    let pools = api.log.iter().filter(|event| event.object["kind"] == "SriovNetworkPoolConfig");
    let mut said = Vec::new();
    for event in pools {
        let conditions = event.object["status"]["conditions"].as_array().into_iter().flatten();
        for ready in conditions.filter(|condition| condition["type"] == "Ready") {
            let text = |name: &str| ready[name].as_str().unwrap().to_owned();
            said.push(format!("{} {}: {}", text("status"), text("reason"), text("message")));
        }
    }
    said.dedup();
    said.join("\n")
}

/// The daemon did everything that the node state asks for now.
fn finish(api: &mut Api, node: &str) {
    api.edit(NODE_STATE, node, |state| {
        let generation = state["metadata"]["generation"].clone();
        state["status"]["syncStatus"] = "Succeeded".into();
        state["status"]["observedGeneration"] = generation;
    });
}

#[test]
fn a_pool_is_not_ready_before_its_mode_has_reached_the_nodes() {
    let mut api = Api::default();
    api.put(config());
    api.put(node("worker-0"));
    let mut driver = Driver::new(&api, settings());
    driver.settle(&mut api);
    finish(&mut api, "worker-0");
    driver.settle(&mut api);
    // The node is at its goal, which is an older one, and the new one takes its time to get there.
    api.forbid.insert(NODE_STATE.to_owned(), "not now".to_owned());
    api.put(pool("rdma", json!({ "rdmaMode": "exclusive" })));
    driver.settle(&mut api);
    api.forbid.clear();
    driver.wait(600);
    driver.settle(&mut api);
    finish(&mut api, "worker-0");
    driver.settle(&mut api);
    api.edit("SriovNetworkPoolConfig", "rdma", |pool| pool["spec"]["rdmaMode"] = "shared".into());
    driver.settle(&mut api);
    check(
        readiness(&api),
        expect![[r#"
        False Progressing: 0 of 1 nodes are at their goal
        True NodesReady: 1 of 1 nodes are at their goal
        False Progressing: 0 of 1 nodes are at their goal"#]],
    );
}

#[test]
fn a_pool_is_not_ready_while_a_node_of_it_has_no_state_yet() {
    let mut api = Api::default();
    api.put(config());
    api.put(pool("rdma", json!({ "rdmaMode": "exclusive" })));
    let mut driver = Driver::new(&api, settings());
    driver.settle(&mut api);
    api.forbid.insert(NODE_STATE.to_owned(), "not now".to_owned());
    api.put(node("worker-0"));
    driver.settle(&mut api);
    check(
        readiness(&api),
        expect![[r#"
        True NoNodes: the node selector matches no node
        False Progressing: 0 of 1 nodes are at their goal"#]],
    );
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
            update SriovNetworkPoolConfig sriov-network-operator/rdma status {"rollout":{"phase":"Rolling","started":"2026-11-22T12:00:00.1222Z","nodes":2,"canariesPassed":true},"grants":[{"node":"worker-0","reason":"Reboot_Required","since":"2026-11-22T12:00:00.1222Z"}],"nodes":2,"waiting":[{"node":"worker-1","because":"worker-1 waits: 1 of 1 allowed nodes (worker-0) is draining"}],"draining":1} [Ready=False Progressing: 0 of 2 nodes are at their goal; draining worker-0]
            event SriovNetworkPoolConfig sriov-network-operator/rdma Granted: worker-0 may be drained: 1 of 1 allowed
            patch SriovNetworkNodeState sriov-network-operator/worker-0 {"metadata":{"annotations":{"ironrail.dev/grant":"2026-11-22T12:00:00.1222Z","sriovnetwork.openshift.io/current-state":"Draining"}}}
            event SriovNetworkNodeState sriov-network-operator/worker-0 DrainController: draining: the node asks for Reboot_Required
            apply SriovNetworkNodeState sriov-network-operator/worker-0 status {} [Drained=False Draining: evicting pod default/app: the node is drained for a reboot]
            patch Node worker-0 {"metadata":{"annotations":{"ironrail.dev/cordoned":"true"}},"spec":{"unschedulable":true}}
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
            patch SriovNetworkNodeState sriov-network-operator/worker-0 {"metadata":{"annotations":{"sriovnetwork.openshift.io/current-state":"Idle"}}}
            patch Node worker-0 {"metadata":{"annotations":{"ironrail.dev/cordoned":null}},"spec":{"unschedulable":null}}
            event SriovNetworkNodeState sriov-network-operator/worker-0 DrainController: node is uncordoned and idle again
            apply SriovNetworkNodeState sriov-network-operator/worker-0 status {} [Drained=False Idle: no drain is asked for]
            update SriovNetworkPoolConfig sriov-network-operator/rdma status {"rollout":{"phase":"Rolling","started":"2026-11-22T12:00:00.1222Z","nodes":1,"canariesPassed":true},"grants":[{"node":"worker-1","reason":"Reboot_Required","since":"2026-11-22T12:00:00.2444Z"}],"nodes":2,"draining":1} [Ready=False Progressing: 0 of 2 nodes are at their goal; draining worker-1]
            event SriovNetworkPoolConfig sriov-network-operator/rdma Granted: worker-1 may be drained: 1 of 1 allowed
            event SriovNetworkPoolConfig sriov-network-operator/rdma GrantGivenBack: worker-0 asks for nothing more and is uncordoned
            patch SriovNetworkNodeState sriov-network-operator/worker-1 {"metadata":{"annotations":{"ironrail.dev/grant":"2026-11-22T12:00:00.2444Z","sriovnetwork.openshift.io/current-state":"Draining"}}}
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

#[test]
fn a_drain_for_devices_moves_only_the_pods_whose_device_is_in_the_way() {
    let (mut api, mut driver) = cluster(&["worker-0", "worker-1"], json!(null));
    api.put(pod("plain", "worker-0", ""));
    api.put(pod("wants", "worker-0", "openshift.io/rdma"));
    api.put(pod("other", "worker-0", "openshift.io/rdma"));
    api.put(pod("elsewhere", "worker-1", "openshift.io/rdma"));
    api.edit(NODE_STATE, "worker-0", |state| {
        let holder = |pod: &str, device: &str| json!({ "namespace": "default", "pod": pod, "device": device });
        state["status"]["holders"] =
            json!([holder("other", "0000:5e:00.1"), holder("wants", "0000:3b:00.2")]);
        state["status"]["drain"] = json!({ "fenced": true, "devices": ["0000:3b:00.2"] });
    });
    ask(&mut api, "worker-0", annotation::DRAIN_REQUIRED);
    check(
        driver.settle(&mut api),
        expect![[r#"
            update SriovNetworkPoolConfig sriov-network-operator/rdma status {"rollout":{"phase":"Rolling","started":"2026-11-22T12:00:00.1222Z","nodes":1,"canariesPassed":true},"grants":[{"node":"worker-0","reason":"Drain_Required","since":"2026-11-22T12:00:00.1222Z"}],"nodes":2,"draining":1} [Ready=False Progressing: 0 of 2 nodes are at their goal; draining worker-0]
            event SriovNetworkPoolConfig sriov-network-operator/rdma Granted: worker-0 may be drained: 1 of 1 allowed
            patch SriovNetworkNodeState sriov-network-operator/worker-0 {"metadata":{"annotations":{"ironrail.dev/grant":"2026-11-22T12:00:00.1222Z","sriovnetwork.openshift.io/current-state":"Draining"}}}
            event SriovNetworkNodeState sriov-network-operator/worker-0 DrainController: draining: the node asks for Drain_Required
            apply SriovNetworkNodeState sriov-network-operator/worker-0 status {} [Drained=False Draining: evicting pod default/wants: it holds 0000:3b:00.2]
            patch Node worker-0 {"metadata":{"annotations":{"ironrail.dev/cordoned":"true"}},"spec":{"unschedulable":true}}
            evict Pod default/wants
            patch SriovNetworkNodeState sriov-network-operator/worker-0 {"metadata":{"annotations":{"sriovnetwork.openshift.io/current-state":"DrainComplete"}}}
            event SriovNetworkNodeState sriov-network-operator/worker-0 DrainController: node is drained; pod default/other stays: 0000:5e:00.1 stays as it is
            apply SriovNetworkNodeState sriov-network-operator/worker-0 status {} [Drained=True DrainComplete: every pod that had to go has gone; pod default/other stays: 0000:5e:00.1 stays as it is]"#]],
    );
    check(
        state(&api),
        expect![[r#"
        worker-0: DrainComplete cordoned
        worker-1: Idle
        granted: worker-0"#]],
    );
}

#[test]
fn a_budgets_sentence_reaches_node_state_pool_and_event_and_holds_up_no_other_pod() {
    let (mut api, mut driver) = cluster(&["worker-0", "worker-1"], json!(null));
    api.put(pod("a-guarded", "worker-0", ""));
    api.put(pod("b-free", "worker-0", ""));
    api.edit("Pod", "a-guarded", |pod| pod["metadata"]["labels"] = json!({ "app": "web" }));
    api.put(json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
        "metadata": { "name": "web", "namespace": "default" },
        "spec": { "selector": { "matchLabels": { "app": "web" } } },
        "status": { "disruptionsAllowed": 0 },
    }));
    let sentence = "Cannot evict pod as it would violate the pod's disruption budget.";
    api.refuse_evictions.insert("a-guarded".into(), sentence.into());
    ask(&mut api, "worker-0", annotation::REBOOT_REQUIRED);
    check(
        driver.settle(&mut api),
        expect![[r#"
            update SriovNetworkPoolConfig sriov-network-operator/rdma status {"rollout":{"phase":"Rolling","started":"2026-11-22T12:00:00.1222Z","nodes":1,"canariesPassed":true},"grants":[{"node":"worker-0","reason":"Reboot_Required","since":"2026-11-22T12:00:00.1222Z"}],"nodes":2,"draining":1} [Ready=False Progressing: 0 of 2 nodes are at their goal; draining worker-0]
            event SriovNetworkPoolConfig sriov-network-operator/rdma Granted: worker-0 may be drained: 1 of 1 allowed
            patch SriovNetworkNodeState sriov-network-operator/worker-0 {"metadata":{"annotations":{"ironrail.dev/grant":"2026-11-22T12:00:00.1222Z","sriovnetwork.openshift.io/current-state":"Draining"}}}
            event SriovNetworkNodeState sriov-network-operator/worker-0 DrainController: draining: the node asks for Reboot_Required
            apply SriovNetworkNodeState sriov-network-operator/worker-0 status {} [Drained=False Draining: evicting pod default/a-guarded: the node is drained for a reboot; evicting pod default/b-free: the node is drained for a reboot]
            patch Node worker-0 {"metadata":{"annotations":{"ironrail.dev/cordoned":"true"}},"spec":{"unschedulable":true}}
            evict Pod default/a-guarded -> Cannot evict pod as it would violate the pod's disruption budget.
            evict Pod default/b-free
            apply SriovNetworkNodeState sriov-network-operator/worker-0 status {} [Drained=False DisruptionBudget: cannot evict pod default/a-guarded: Cannot evict pod as it would violate the pod's disruption budget. PodDisruptionBudget web allows 0 disruptions.]
            event SriovNetworkNodeState sriov-network-operator/worker-0 DisruptionBudget: cannot evict pod default/a-guarded: Cannot evict pod as it would violate the pod's disruption budget. PodDisruptionBudget web allows 0 disruptions.
            event Node worker-0 DisruptionBudget: cannot evict pod default/a-guarded: Cannot evict pod as it would violate the pod's disruption budget. PodDisruptionBudget web allows 0 disruptions.
            event Pod default/a-guarded DisruptionBudget: node worker-0 is being drained: cannot evict pod default/a-guarded: Cannot evict pod as it would violate the pod's disruption budget. PodDisruptionBudget web allows 0 disruptions.
            evict Pod default/a-guarded -> Cannot evict pod as it would violate the pod's disruption budget.
            evict Pod default/a-guarded -> Cannot evict pod as it would violate the pod's disruption budget.
            update SriovNetworkPoolConfig sriov-network-operator/rdma status {"rollout":{"phase":"Rolling","started":"2026-11-22T12:00:00.1222Z","nodes":1,"canariesPassed":true},"grants":[{"node":"worker-0","reason":"Reboot_Required","since":"2026-11-22T12:00:00.1222Z"}],"nodes":2,"draining":1} [Ready=False DrainBlocked: 0 of 2 nodes are at their goal; cannot evict pod default/a-guarded: Cannot evict pod as it would violate the pod's disruption budget. PodDisruptionBudget web allows 0 disruptions.]
            event SriovNetworkPoolConfig sriov-network-operator/rdma DrainBlocked: 0 of 2 nodes are at their goal; cannot evict pod default/a-guarded: Cannot evict pod as it would violate the pod's disruption budget. PodDisruptionBudget web allows 0 disruptions."#]],
    );
    driver.wait(5);
    check(
        driver.settle(&mut api),
        expect![
            "evict Pod default/a-guarded -> Cannot evict pod as it would violate the pod's disruption budget."
        ],
    );
    // It is tried again every five seconds, and said once.
    driver.wait(5);
    check(
        driver.settle(&mut api),
        expect![
            "evict Pod default/a-guarded -> Cannot evict pod as it would violate the pod's disruption budget."
        ],
    );
    api.refuse_evictions.clear();
    driver.wait(5);
    check(
        driver.settle(&mut api),
        expect![[r#"
            evict Pod default/a-guarded
            patch SriovNetworkNodeState sriov-network-operator/worker-0 {"metadata":{"annotations":{"sriovnetwork.openshift.io/current-state":"DrainComplete"}}}
            event SriovNetworkNodeState sriov-network-operator/worker-0 DrainController: node is drained
            apply SriovNetworkNodeState sriov-network-operator/worker-0 status {} [Drained=True DrainComplete: every pod that had to go has gone]
            update SriovNetworkPoolConfig sriov-network-operator/rdma status {"rollout":{"phase":"Rolling","started":"2026-11-22T12:00:00.1222Z","nodes":1,"canariesPassed":true},"grants":[{"node":"worker-0","reason":"Reboot_Required","since":"2026-11-22T12:00:00.1222Z"}],"nodes":2,"draining":1} [Ready=False Progressing: 0 of 2 nodes are at their goal; draining worker-0]
            event SriovNetworkPoolConfig sriov-network-operator/rdma Progressing: 0 of 2 nodes are at their goal; draining worker-0"#]],
    );
    check(
        state(&api),
        expect![[r#"
        worker-0: DrainComplete cordoned
        worker-1: Idle
        granted: worker-0"#]],
    );
}

#[test]
fn a_cordon_of_somebody_else_is_left_alone() {
    let (mut api, mut driver) = cluster(&["worker-0", "worker-1"], json!(null));
    api.edit("Node", "worker-0", |node| node["spec"]["unschedulable"] = true.into());
    ask(&mut api, "worker-0", annotation::REBOOT_REQUIRED);
    driver.settle(&mut api);
    check(
        state(&api),
        expect![[r#"
        worker-0: DrainComplete cordoned
        worker-1: Idle
        granted: worker-0"#]],
    );
    ask(&mut api, "worker-0", annotation::IDLE);
    driver.settle(&mut api);
    check(
        state(&api),
        expect![[r#"
        worker-0: Idle cordoned
        worker-1: Idle
        granted: "#]],
    );
}

#[test]
fn somebody_elses_drain_is_left_to_them() {
    let (mut api, mut driver) = cluster(&["worker-0"], json!(null));
    api.annotate(NODE_STATE, "worker-0", annotation::EXTERNAL_DRAINER, "true");
    ask(&mut api, "worker-0", annotation::REBOOT_REQUIRED);
    check(
        driver.settle(&mut api),
        expect![[r#"
            update SriovNetworkPoolConfig sriov-network-operator/rdma status {"rollout":{"phase":"Rolling","started":"2026-11-22T12:00:00.1211Z","nodes":1,"canariesPassed":true},"nodes":1,"waiting":[{"node":"worker-0","because":"worker-0 waits for somebody else's drain: its node state has sriovnetwork.openshift.io/use-external-drainer"}]} [Ready=False ExternalDrainer: 0 of 1 nodes are at their goal; worker-0 waits for somebody else's drain: its node state has sriovnetwork.openshift.io/use-external-drainer]
            event SriovNetworkPoolConfig sriov-network-operator/rdma ExternalDrainer: 0 of 1 nodes are at their goal; worker-0 waits for somebody else's drain: its node state has sriovnetwork.openshift.io/use-external-drainer"#]],
    );
    check(
        state(&api),
        expect![[r#"
        worker-0: Idle
        granted: "#]],
    );
}

#[test]
fn the_only_node_is_not_cordoned_and_its_pods_stay_for_a_reboot() {
    let (mut api, mut driver) = cluster(&["worker-0"], json!(null));
    api.put(pod("app", "worker-0", ""));
    ask(&mut api, "worker-0", annotation::REBOOT_REQUIRED);
    driver.settle(&mut api);
    check(
        state(&api),
        expect![[r#"
        worker-0: DrainComplete
        granted: worker-0"#]],
    );
    assert!(api.get("Pod", "app").is_some());
}

#[test]
fn as_many_nodes_go_as_the_pool_allows() {
    for (allowed, expected) in [
        (
            json!(2),
            expect![[r#"
                worker-0: DrainComplete cordoned
                worker-1: DrainComplete cordoned
                worker-2: Idle
                granted: worker-0, worker-1
                0 of 3 nodes are at their goal; draining worker-0, worker-1"#]],
        ),
        (
            json!("100%"),
            expect![[r#"
                worker-0: DrainComplete cordoned
                worker-1: DrainComplete cordoned
                worker-2: DrainComplete cordoned
                granted: worker-0, worker-1, worker-2
                0 of 3 nodes are at their goal; draining worker-0, worker-1, worker-2"#]],
        ),
        (
            json!("34%"),
            expect![[r#"
            worker-0: DrainComplete cordoned
            worker-1: Idle
            worker-2: Idle
            granted: worker-0
            0 of 3 nodes are at their goal; draining worker-0"#]],
        ),
        (
            json!(0),
            expect![[r#"
            worker-0: Idle
            worker-1: Idle
            worker-2: Idle
            granted: 
            0 of 3 nodes are at their goal; worker-0 waits: pool rdma is paused by maxUnavailable: 0"#]],
        ),
        (
            json!("many"),
            expect![[r#"
            worker-0: Idle
            worker-1: Idle
            worker-2: Idle
            granted: 
            maxUnavailable "many" is no limit; write a number of nodes, or a percentage from 1% to 100%"#]],
        ),
    ] {
        let (mut api, mut driver) = cluster(&["worker-0", "worker-1", "worker-2"], allowed);
        for node in ["worker-0", "worker-1", "worker-2"] {
            ask(&mut api, node, annotation::REBOOT_REQUIRED);
        }
        driver.settle(&mut api);
        let pool = api.get("SriovNetworkPoolConfig", "rdma").unwrap();
        let said = pool["status"]["conditions"][0]["message"].as_str().unwrap();
        check(format!("{}\n{said}", state(&api)), expected);
    }
}

#[test]
fn nodes_in_no_pool_go_one_at_a_time_under_the_operator_config() {
    let mut api = Api::default();
    api.put(config());
    for name in ["worker-0", "worker-1"] {
        api.put(node(name));
    }
    let mut driver = Driver::new(&api, settings());
    driver.settle(&mut api);
    ask(&mut api, "worker-0", annotation::DRAIN_REQUIRED);
    ask(&mut api, "worker-1", annotation::DRAIN_REQUIRED);
    driver.settle(&mut api);
    let grants = api.get("SriovOperatorConfig", "default").unwrap()["status"]["grants"].clone();
    assert_eq!(grants.as_array().unwrap().len(), 1);
    assert_eq!(grants[0]["node"], "worker-0");
    assert_eq!(api.annotation(NODE_STATE, "worker-1", annotation::CURRENT_STATE), "Idle");
}

#[test]
fn a_request_that_is_withdrawn_gives_its_grant_back_unused() {
    let (mut api, mut driver) = cluster(&["worker-0", "worker-1"], json!(null));
    ask(&mut api, "worker-0", annotation::REBOOT_REQUIRED);
    driver.deliver(&api);
    // One step of the pool: granted, and not yet seen by the drain.
    while api.get("SriovNetworkPoolConfig", "rdma").unwrap()["status"]["grants"].is_null() {
        assert!(driver.step(&mut api));
    }
    ask(&mut api, "worker-0", annotation::IDLE);
    driver.trace.clear();
    check(
        driver.settle(&mut api),
        expect![[r#"
            patch SriovNetworkNodeState sriov-network-operator/worker-0 {"metadata":{"annotations":{"ironrail.dev/grant":"2026-11-22T12:00:00.1222Z"}}}
            update SriovNetworkPoolConfig sriov-network-operator/rdma status {"nodes":2} [Ready=False Progressing: 0 of 2 nodes are at their goal]
            event SriovNetworkPoolConfig sriov-network-operator/rdma GrantGivenBack: worker-0 asks for nothing more and is uncordoned"#]],
    );
    check(
        state(&api),
        expect![[r#"
        worker-0: Idle
        worker-1: Idle
        granted: "#]],
    );
}

#[test]
fn a_node_in_two_pools_keeps_its_mode_and_both_pools_say_so() {
    let (mut api, mut driver) = cluster(&["worker-0"], json!(null));
    api.put(pool("second", json!({ "rdmaMode": "shared" })));
    check(
        driver.settle(&mut api),
        expect![[r#"
        update SriovNetworkPoolConfig sriov-network-operator/rdma status {"nodes":1} [Ready=False TwoPools: worker-0 waits: it is in 2 pools (rdma, second); change the node selectors so that one is left]
        event SriovNetworkPoolConfig sriov-network-operator/rdma TwoPools: worker-0 waits: it is in 2 pools (rdma, second); change the node selectors so that one is left
        update SriovNetworkPoolConfig sriov-network-operator/second status {"nodes":1} [Ready=False TwoPools: worker-0 waits: it is in 2 pools (rdma, second); change the node selectors so that one is left]
        event SriovNetworkPoolConfig sriov-network-operator/second TwoPools: worker-0 waits: it is in 2 pools (rdma, second); change the node selectors so that one is left"#]],
    );
    let state = api.get(NODE_STATE, "worker-0").unwrap();
    assert_eq!(state["spec"]["system"]["rdmaMode"], "exclusive");
}

#[test]
fn a_misspelt_pool_changes_nothing_and_says_what_to_write() {
    let (mut api, mut driver) = cluster(&["worker-0"], json!(null));
    api.edit("SriovNetworkPoolConfig", "rdma", |pool| pool["spec"]["rdmaMode"] = "exclusiv".into());
    check(
        driver.settle(&mut api),
        expect![[r#"
        update SriovNetworkPoolConfig sriov-network-operator/rdma status {"nodes":1} [Ready=False InvalidPool: rdmaMode "exclusiv" is not an RDMA mode; write shared or exclusive]
        event SriovNetworkPoolConfig sriov-network-operator/rdma InvalidPool: rdmaMode "exclusiv" is not an RDMA mode; write shared or exclusive"#]],
    );
    // One that cannot even be read: nobody knows which nodes are its.
    api.edit("SriovNetworkPoolConfig", "rdma", |pool| pool["spec"]["nodeSelector"] = 7.into());
    check(
        driver.settle(&mut api),
        expect![
            "apply SriovNetworkPoolConfig sriov-network-operator/rdma status {} [Ready=False InvalidPool: SriovNetworkPoolConfig rdma cannot be read: invalid type: integer `7`, expected struct LabelSelector]"
        ],
    );
    let state = api.get(NODE_STATE, "worker-0").unwrap();
    assert_eq!(state["spec"]["system"]["rdmaMode"], "exclusive");
    driver.wait(3600);
    check(driver.settle(&mut api), expect![[""]]);
}

#[test]
fn a_pool_that_goes_takes_its_mode_along() {
    let (mut api, mut driver) = cluster(&["worker-0"], json!(null));
    let key = api.objects.keys().find(|key| key.kind == "SriovNetworkPoolConfig").cloned();
    api.remove(&key.unwrap());
    check(
        driver.settle(&mut api),
        expect![[r#"
        patch SriovNetworkNodeState sriov-network-operator/worker-0 {"spec":{"system":{"rdmaMode":null}},"metadata":{}}
        apply SriovNetworkNodeState sriov-network-operator/worker-0 {"bridges":{},"system":{}}"#]],
    );
    driver.wait(3600);
    check(driver.settle(&mut api), expect![[""]]);
}

#[test]
fn the_state_of_a_node_that_left_is_kept_for_a_while() {
    let (mut api, mut driver) = cluster(&["worker-0", "worker-1"], json!(null));
    api.edit("Node", "worker-0", |node| {
        node["metadata"]["labels"]
            .as_object_mut()
            .unwrap()
            .remove("node-role.kubernetes.io/worker");
    });
    check(
        driver.settle(&mut api),
        expect![[r#"
            patch SriovNetworkNodeState sriov-network-operator/worker-0 {"metadata":{"annotations":{"sriovnetwork.openshift.io/keep-state-until":"2026-11-22T12:30:00Z"}}}
            patch Node worker-0 {"metadata":{"labels":{"sriovnetwork.openshift.io/device-plugin":null}}}
            update SriovNetworkPoolConfig sriov-network-operator/rdma status {"nodes":1} [Ready=False Progressing: 0 of 1 nodes are at their goal]
            apply ConfigMap sriov-network-operator/device-plugin-config {"worker-1":"{\"resourceList\":null}"}"#]],
    );
    // It comes back in time.
    api.put(node("worker-0"));
    check(
        driver.settle(&mut api),
        expect![[r#"
            patch SriovNetworkNodeState sriov-network-operator/worker-0 {"metadata":{"annotations":{"sriovnetwork.openshift.io/keep-state-until":null}}}
            patch Node worker-0 {"metadata":{"labels":{"sriovnetwork.openshift.io/device-plugin":"Disabled"}}}
            patch Node worker-0 {"metadata":{"annotations":{"sriovnetwork.openshift.io/state":"Idle"}}}
            update SriovNetworkPoolConfig sriov-network-operator/rdma status {"nodes":2} [Ready=False Progressing: 0 of 2 nodes are at their goal]"#]],
    );
    let gone = api.objects.keys().find(|key| key.kind == "Node" && key.name == "worker-1").cloned();
    api.remove(&gone.unwrap());
    driver.settle(&mut api);
    driver.wait(31 * 60);
    check(
        driver.settle(&mut api),
        expect![[r#"
        delete SriovNetworkNodeState sriov-network-operator/worker-1
        apply ConfigMap sriov-network-operator/device-plugin-config {"worker-0":"{\"resourceList\":null}"}"#]],
    );
    assert!(api.get(NODE_STATE, "worker-0").is_some());
}

#[test]
fn without_a_delay_the_state_of_a_node_that_left_goes_at_once() {
    let (mut api, _) = cluster(&["worker-0"], json!(null));
    let gone = api.objects.keys().find(|key| key.kind == "Node").cloned();
    api.remove(&gone.unwrap());
    let at_once = operator::settings::Settings {
        stale_node_state_delay: std::time::Duration::ZERO,
        ..settings()
    };
    check(
        Driver::new(&api, at_once).settle(&mut api),
        expect![[r#"
        delete SriovNetworkNodeState sriov-network-operator/worker-0
        apply ConfigMap sriov-network-operator/device-plugin-config {}
        update SriovNetworkPoolConfig sriov-network-operator/rdma status {} [Ready=True NoNodes: the node selector matches no node]
        event SriovNetworkPoolConfig sriov-network-operator/rdma NoNodes: the node selector matches no node"#]],
    );
}

#[test]
fn a_right_that_is_missing_is_said_on_the_node_state_and_the_pool() {
    let (mut api, mut driver) = cluster(&["worker-0", "worker-1"], json!(null));
    api.put(pod("app", "worker-0", ""));
    api.forbid.insert("Pod".into(), "pods/eviction is forbidden".into());
    ask(&mut api, "worker-0", annotation::REBOOT_REQUIRED);
    for _ in 0..30 {
        driver.deliver(&api);
        driver.step(&mut api);
    }
    let said = |kind: &str, name: &str| {
        let conditions = api.get(kind, name).unwrap()["status"]["conditions"].clone();
        let condition = &conditions[0];
        format!("{} {}: {}", condition["type"], condition["reason"], condition["message"])
    };
    check(
        [said(NODE_STATE, "worker-0"), said("SriovNetworkPoolConfig", "rdma")].join("\n"),
        expect![[r#"
            "Drained" "EvictionRefused": "cannot evict pod default/app: refused with 403: pods/eviction is forbidden"
            "Ready" "DrainBlocked": "0 of 2 nodes are at their goal; cannot evict pod default/app: refused with 403: pods/eviction is forbidden""#]],
    );
}

#[test]
fn what_is_refused_for_the_hosts_sake_halts_no_rollout_and_any_other_error_does() {
    let (mut api, mut driver) = cluster(&["worker-0", "worker-1"], json!(null));
    for node in ["worker-0", "worker-1"] {
        ask(&mut api, node, annotation::REBOOT_REQUIRED);
    }
    driver.settle(&mut api);
    let refused = "will not set vf count 0000:03:00.0 4 (enp3s0f0): it ends the RoCE LAG of bond0; write allowLifeline: true";
    let report = |api: &mut Api, error: &str| {
        api.edit(NODE_STATE, "worker-0", |state| {
            state["status"] = json!({
                "syncStatus": "Failed", "lastSyncError": error,
                "observedGeneration": state["metadata"]["generation"],
                "blockers": [{ "reason": "Lifeline", "message": refused }],
            });
        });
    };
    let failures = |api: &Api| {
        let pool = api.get("SriovNetworkPoolConfig", "rdma").unwrap();
        pool["status"]["rollout"]["failures"].to_string()
    };
    report(&mut api, refused);
    driver.settle(&mut api);
    check(failures(&api), expect!["null"]);
    // A reboot that is a person's by `disableReboot` is waited for, and nobody is worse.
    let left = "a reboot for RdmaMode exclusive is needed and disableReboot is set";
    report(&mut api, left);
    api.edit(NODE_STATE, "worker-0", |state| {
        let blocker = json!({ "reason": "RebootDisabled", "message": left });
        state["status"]["blockers"].as_array_mut().unwrap().push(blocker);
    });
    driver.settle(&mut api);
    check(failures(&api), expect!["null"]);
    report(&mut api, &format!("{refused}; the card does not answer"));
    driver.settle(&mut api);
    check(
        failures(&api),
        expect![[r#"[{"node":"worker-0","because":"the card does not answer"}]"#]],
    );
}

/// What the node states say of whose turn it is, and the events on Nodes.
fn turns(api: &Api, said: &str) -> String {
    let states = api.objects.iter().filter(|(key, _)| key.kind == NODE_STATE);
    let mut lines = Vec::new();
    for (key, state) in states {
        let all = state["status"]["conditions"].as_array().into_iter().flatten();
        for one in all.filter(|one| one["type"] == "WaitingForTurn") {
            let text = |field: &str| one[field].as_str().unwrap().to_owned();
            lines.push(format!(
                "{} {} {}: {}",
                key.name,
                text("status"),
                text("reason"),
                text("message")
            ));
        }
    }
    lines.extend(said.lines().filter(|line| line.starts_with("event Node ")).map(str::to_owned));
    lines.join("\n")
}

#[test]
fn nodes_that_no_pools_status_lists_say_themselves_what_they_wait_for() {
    let mut api = Api::default();
    api.put(config());
    for name in ["a", "b", "c"] {
        api.put(node(name));
    }
    let mut driver = Driver::new(&api, settings());
    driver.settle(&mut api);
    for name in ["a", "b", "c"] {
        ask(&mut api, name, annotation::REBOOT_REQUIRED);
    }
    let said = driver.settle(&mut api);
    check(
        turns(&api, &said),
        expect![[r#"
        b True PoolLimit: b waits: 1 of 1 allowed nodes (a) is draining; it is number 1 of those that wait without a pool
        c True PoolLimit: c waits: 1 of 1 allowed nodes (a) is draining; it is number 2 of those that wait without a pool
        event Node b PoolLimit: b waits: 1 of 1 allowed nodes (a) is draining; it is number 1 of those that wait without a pool
        event Node c PoolLimit: c waits: 1 of 1 allowed nodes (a) is draining; it is number 2 of those that wait without a pool"#]],
    );
    ask(&mut api, "a", annotation::IDLE);
    let said = driver.settle(&mut api);
    check(
        turns(&api, &said),
        expect![[r#"
        b False AsExpected: the node waits for no turn
        c True PoolLimit: c waits: 1 of 1 allowed nodes (b) is draining; it is number 1 of those that wait without a pool"#]],
    );
    driver.wait(600);
    check(driver.settle(&mut api), expect![[""]]);
    // A node in two pools waits for a person.
    for name in ["fast", "slow"] {
        let selector = json!({ "matchLabels": { "kubernetes.io/os": "linux" } });
        api.put(pool(name, json!({ "nodeSelector": selector, "rdmaMode": "exclusive" })));
    }
    let said = driver.settle(&mut api);
    check(
        turns(&api, &said),
        expect![[r#"
        b False AsExpected: the node waits for no turn
        c True TwoPools: c waits: it is in 2 pools (fast, slow); change the node selectors so that one is left
        event Node c TwoPools: c waits: it is in 2 pools (fast, slow); change the node selectors so that one is left"#]],
    );
}

#[test]
fn nodes_that_wait_for_a_person_behind_the_fifty_that_their_pool_lists_say_so_themselves() {
    let mut api = Api::default();
    api.put(config());
    let names: Vec<String> = (0..52).map(|number| format!("n-{number:02}")).collect();
    for name in &names {
        api.put(node(name));
    }
    let selector = json!({ "matchLabels": { "kubernetes.io/os": "linux" } });
    let frozen = |max: u32| {
        pool(
            "rdma",
            json!({ "nodeSelector": selector, "rdmaMode": "exclusive", "maxUnavailable": max }),
        )
    };
    api.put(frozen(0));
    let mut driver = Driver::new(&api, settings());
    driver.settle(&mut api);
    for name in &names {
        ask(&mut api, name, annotation::REBOOT_REQUIRED);
    }
    let said = driver.settle(&mut api);
    let listed = api.get("SriovNetworkPoolConfig", "rdma").unwrap()["status"]["waiting"].clone();
    assert_eq!(listed.as_array().map(Vec::len), Some(50));
    check(
        turns(&api, &said),
        expect![[r#"
        n-50 True Paused: n-50 waits: pool rdma is paused by maxUnavailable: 0
        n-51 True Paused: n-51 waits: pool rdma is paused by maxUnavailable: 0
        event Node n-50 Paused: n-50 waits: pool rdma is paused by maxUnavailable: 0
        event Node n-51 Paused: n-51 waits: pool rdma is paused by maxUnavailable: 0"#]],
    );
    // Whoever waits for a turn is spoken for by the pool: with each turn his place would be another.
    api.edit("SriovNetworkPoolConfig", "rdma", |pool| pool["spec"]["maxUnavailable"] = 1.into());
    let said = driver.settle(&mut api);
    check(
        turns(&api, &said),
        expect![[r#"
        n-50 False AsExpected: its pool says what the node waits for
        n-51 False AsExpected: its pool says what the node waits for"#]],
    );
    driver.wait(600);
    check(driver.settle(&mut api), expect![[""]]);
}

/// With `disableDrain` nobody asks the operator before a reboot: it is booked in the node state, and then it comes.
#[test]
fn a_node_whose_reboot_is_booked_without_a_drain_is_tainted_before_it_goes_down() {
    let mut api = Api::default();
    let mut disabled = config();
    disabled["spec"]["disableDrain"] = true.into();
    api.put(disabled);
    let mut booted = node("worker-0");
    booted["status"]["nodeInfo"] = json!({ "bootID": "boot-1" });
    api.put(booted);
    api.put(json!({
        "apiVersion": "sriovnetwork.openshift.io/v1", "kind": "SriovNetworkNodePolicy",
        "metadata": { "name": "train", "namespace": "sriov-network-operator" },
        "spec": {
            "resourceName": "rdma", "numVfs": 4, "nodeSelector": {}, "taintUntilReady": true,
            "nicSelector": { "vendor": "15b3" },
        },
    }));
    let mut driver = Driver::new(&api, settings());
    driver.settle(&mut api);
    let taints = |api: &Api| api.get("Node", "worker-0").unwrap()["spec"]["taints"].to_string();
    let reboot = |api: &mut Api, outcome: &str, attempt: u32| {
        api.edit(NODE_STATE, "worker-0", |state| {
            state["status"]["bootId"] = "boot-1".into();
            state["status"]["reboots"] = json!([{
                "reason": "RdmaMode", "goal": "exclusive", "bootIdBefore": "boot-1", "levers": [],
                "attempt": attempt, "askedAt": "2026-11-22T12:01:00Z", "outcome": { "state": outcome },
            }]);
        });
    };
    // One that is left to a person may be days away.
    reboot(&mut api, "pending", 0);
    driver.settle(&mut api);
    assert_eq!(taints(&api), "null");
    reboot(&mut api, "pending", 1);
    driver.settle(&mut api);
    check(taints(&api), expect![[r#"[{"key":"ironrail.dev/not-ready","effect":"NoSchedule"}]"#]]);
    // The wish is gone: the daemon books it as void, or says, with the firmware's value as it is, that all is as wanted.
    api.edit(NODE_STATE, "worker-0", |state| {
        state["status"]["syncStatus"] = "Succeeded".into();
        state["status"]["observedGeneration"] = state["metadata"]["generation"].clone();
    });
    driver.settle(&mut api);
    assert_eq!(taints(&api), "null");
    api.edit(NODE_STATE, "worker-0", |state| state["status"]["syncStatus"] = "InProgress".into());
    driver.settle(&mut api);
    assert_ne!(taints(&api), "null");
    reboot(&mut api, "void", 1);
    driver.settle(&mut api);
    assert_eq!(taints(&api), "null");
}
