//! What stands in the way of a drain, beside budgets: it is said loudly, and nothing else waits for it.

#![allow(clippy::unwrap_used)] // A test that cannot find its object has failed.

mod fake;

use api::annotation;
use expect_test::{Expect, expect};
use fake::{Api, Driver, config, node, pod, pool, settings};
use operator::settings::Settings;
use serde_json::{Value, json};

const NODE_STATE: &str = "SriovNetworkNodeState";
const POOL: &str = "SriovNetworkPoolConfig";
const MCP: &str = "MachineConfigPool";
const TWO_BUDGETS: &str = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";

/// Two nodes of a pool with this `spec.drain`, and pods a-web and b-app on worker-0, which asks for a reboot. `prepare`
/// has its say before that.
fn cluster(
    drain: Value,
    settings: Settings,
    prepare: impl FnOnce(&mut Api),
) -> (Api, Driver, String) {
    let mut api = Api::default();
    api.put(config());
    for name in ["worker-0", "worker-1"] {
        api.put(node(name));
    }
    api.put(pool("rdma", json!({ "rdmaMode": "exclusive", "drain": drain })));
    api.put(pod("a-web", "worker-0", ""));
    api.put(pod("b-app", "worker-0", ""));
    prepare(&mut api);
    let mut driver = Driver::new(&api, settings);
    driver.settle(&mut api);
    ask(&mut api, "worker-0", annotation::REBOOT_REQUIRED);
    let mut said = driver.settle(&mut api);
    driver.wait(5);
    said.push('\n');
    said.push_str(&driver.settle(&mut api));
    (api, driver, said)
}

fn ask(api: &mut Api, node: &str, what: &str) {
    api.annotate(NODE_STATE, node, annotation::DESIRED_STATE, what);
    api.annotate("Node", node, annotation::NODE_STATE, what);
}

/// The conditions of worker-0 and of the pool, and which events told of it on node and pods.
fn check(api: &Api, said: &str, expected: Expect) {
    let mut lines = Vec::new();
    for (kind, name) in [(NODE_STATE, "worker-0"), (POOL, "rdma")] {
        let object = api.get(kind, name).unwrap();
        for one in object["status"]["conditions"].as_array().into_iter().flatten() {
            let text = |field: &str| one[field].as_str().unwrap();
            lines.push(format!(
                "{name} {}={} {}: {}",
                text("type"),
                text("status"),
                text("reason"),
                text("message")
            ));
        }
    }
    let told = |line: &&str| line.starts_with("event Node ") || line.starts_with("event Pod ");
    lines.extend(said.lines().filter(told).map(str::to_owned));
    expected.assert_eq(&lines.join("\n"));
}

#[test]
fn a_pod_under_two_budgets_is_named_and_the_other_pods_go_meanwhile() {
    let (api, _, said) = cluster(json!({}), settings(), |api| {
        api.fail_evictions.insert("a-web".into(), (500, TWO_BUDGETS.into()));
    });
    assert!(api.get("Pod", "b-app").is_none(), "the other pod went");
    check(
        &api,
        &said,
        expect![[r#"
        worker-0 Drained=False EvictionRefused: cannot evict pod default/a-web: refused with 500: This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.
        rdma Ready=False DrainBlocked: 0 of 2 nodes are at their goal; cannot evict pod default/a-web: refused with 500: This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.
        event Node worker-0 EvictionRefused: cannot evict pod default/a-web: refused with 500: This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.
        event Pod default/a-web EvictionRefused: node worker-0 is being drained: cannot evict pod default/a-web: refused with 500: This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."#]],
    );
}

#[test]
fn force_ends_a_pod_under_two_budgets_and_what_even_force_does_not_end_is_loud() {
    let force = json!({ "deadline": "10m", "onDeadline": "force" });
    for refused in [false, true] {
        let (mut api, mut driver, _) = cluster(force.clone(), settings(), |api| {
            api.fail_evictions.insert("a-web".into(), (500, TWO_BUDGETS.into()));
            if refused {
                api.refuse_deletions.insert("a-web".into(), "the webhook says no".into());
            }
        });
        driver.wait(600);
        driver.settle(&mut api);
        assert_eq!(api.get("Pod", "a-web").is_some(), refused);
        driver.wait(5);
        let said = driver.settle(&mut api);
        if refused {
            check(
                &api,
                &said,
                expect![[r#"
                worker-0 Drained=False DrainDeadline: worker-0 is not drained 10m after its turn came, and spec.drain.onDeadline: force does not end what is in the way; free it; cannot delete pod default/a-web: refused with 403: the webhook says no
                rdma Ready=False DrainBlocked: 0 of 2 nodes are at their goal; worker-0 is not drained 10m after its turn came, and spec.drain.onDeadline: force does not end what is in the way; free it; cannot delete pod default/a-web: refused with 403: the webhook says no
                rdma Degraded=True DrainDeadline: worker-0 is not drained 10m after its turn came, and spec.drain.onDeadline: force does not end what is in the way; free it; cannot delete pod default/a-web: refused with 403: the webhook says no
                event Pod default/a-web DrainForced: deleting pod default/a-web past its disruption budget, as spec.drain.onDeadline: force says: the node is drained for a reboot
                event Node worker-0 DrainForced: deleting pod default/a-web past its disruption budget, as spec.drain.onDeadline: force says: the node is drained for a reboot"#]],
            );
        }
    }
}

#[test]
fn a_server_that_is_not_well_is_no_word_about_a_pod() {
    let force = json!({ "deadline": "10m", "onDeadline": "force" });
    let (mut api, mut driver, _) = cluster(force, settings(), |api| {
        api.fail_evictions.insert("a-web".into(), (503, "shutting down".into()));
    });
    driver.wait(700);
    let said = driver.settle(&mut api);
    assert!(api.get("Pod", "a-web").is_some() && api.get("Pod", "b-app").is_some());
    check(
        &api,
        &said,
        expect![[r#"
        worker-0 Drained=False DrainDeadline: worker-0 is not drained 10m after its turn came, and spec.drain.onDeadline: force does not end what is in the way; free it; cannot evict Pod default/a-web: refused with 503: shutting down
        rdma Ready=False DrainBlocked: 0 of 2 nodes are at their goal; worker-0 is not drained 10m after its turn came, and spec.drain.onDeadline: force does not end what is in the way; free it; cannot evict Pod default/a-web: refused with 503: shutting down
        rdma Degraded=True DrainDeadline: worker-0 is not drained 10m after its turn came, and spec.drain.onDeadline: force does not end what is in the way; free it; cannot evict Pod default/a-web: refused with 503: shutting down
        event Node worker-0 DrainDeadline: worker-0 is not drained 10m after its turn came, and spec.drain.onDeadline: force does not end what is in the way; free it; cannot evict Pod default/a-web: refused with 503: shutting down"#]],
    );
}

#[test]
fn a_pod_that_outstays_its_grace_period_is_told_everywhere_also_where_its_pool_forces() {
    for (policy, expected) in [
        (
            "wait",
            expect![[r#"
        worker-0 Drained=False DrainDeadline: worker-0 is not drained 10m after its turn came; free what is in the way, or write skipNode or force into spec.drain.onDeadline of its pool; pod default/a-web is still there: whoever set finalizer example.com/backup on it has not removed that yet
        rdma Ready=False DrainBlocked: 0 of 2 nodes are at their goal; worker-0 is not drained 10m after its turn came; free what is in the way, or write skipNode or force into spec.drain.onDeadline of its pool; pod default/a-web is still there: whoever set finalizer example.com/backup on it has not removed that yet
        rdma Degraded=True DrainDeadline: worker-0 is not drained 10m after its turn came; free what is in the way, or write skipNode or force into spec.drain.onDeadline of its pool; pod default/a-web is still there: whoever set finalizer example.com/backup on it has not removed that yet
        event Node worker-0 DrainDeadline: worker-0 is not drained 10m after its turn came; free what is in the way, or write skipNode or force into spec.drain.onDeadline of its pool; pod default/a-web is still there: whoever set finalizer example.com/backup on it has not removed that yet
        event Pod default/a-web DrainDeadline: node worker-0 is being drained: pod default/a-web is still there: whoever set finalizer example.com/backup on it has not removed that yet"#]],
        ),
        (
            "force",
            expect![[r#"
        worker-0 Drained=False DrainDeadline: worker-0 is not drained 10m after its turn came, and spec.drain.onDeadline: force does not end what is in the way; free it; pod default/a-web is still there: whoever set finalizer example.com/backup on it has not removed that yet
        rdma Ready=False DrainBlocked: 0 of 2 nodes are at their goal; worker-0 is not drained 10m after its turn came, and spec.drain.onDeadline: force does not end what is in the way; free it; pod default/a-web is still there: whoever set finalizer example.com/backup on it has not removed that yet
        rdma Degraded=True DrainDeadline: worker-0 is not drained 10m after its turn came, and spec.drain.onDeadline: force does not end what is in the way; free it; pod default/a-web is still there: whoever set finalizer example.com/backup on it has not removed that yet
        event Node worker-0 DrainDeadline: worker-0 is not drained 10m after its turn came, and spec.drain.onDeadline: force does not end what is in the way; free it; pod default/a-web is still there: whoever set finalizer example.com/backup on it has not removed that yet
        event Pod default/a-web DrainDeadline: node worker-0 is being drained: pod default/a-web is still there: whoever set finalizer example.com/backup on it has not removed that yet"#]],
        ),
    ] {
        let drain = json!({ "deadline": "10m", "onDeadline": policy });
        let (mut api, mut driver, early) = cluster(drain, settings(), |api| {
            api.edit("Pod", "a-web", |pod| {
                pod["metadata"]["deletionTimestamp"] = "2026-11-22T12:00:00Z".into();
                pod["metadata"]["finalizers"] = json!(["example.com/backup"]);
            });
        });
        assert!(!early.contains("event Pod"), "within its grace period: {early}");
        driver.wait(60);
        let said = driver.settle(&mut api);
        assert!(said.contains("event Pod default/a-web PodTerminating"), "{said}");
        let page = operator::metrics::text(&driver.operator.world, &driver.operator.metrics);
        assert!(page.contains("ironrail_drains_blocked{reason=\"PodTerminating\"} 1"), "{page}");
        driver.wait(600);
        let said = driver.settle(&mut api);
        check(&api, &said, expected);
    }
}

#[test]
fn without_drains_the_pod_that_is_in_the_way_is_told_on_node_and_pod() {
    let (mut api, mut driver, _) = cluster(json!({}), settings(), |api| {
        api.fail_evictions.insert("a-web".into(), (500, TWO_BUDGETS.into()));
    });
    let uid = api.get("Pod", "a-web").unwrap()["metadata"]["uid"].clone();
    api.edit(NODE_STATE, "worker-0", |state| {
        state["status"]["holders"] = json!([{
            "device": "0000:3b:00.2", "resource": "openshift.io/rdma", "namespace": "default",
            "pod": "a-web", "uid": uid,
        }]);
    });
    api.edit("SriovOperatorConfig", "default", |c| c["spec"]["disableDrain"] = true.into());
    let said = driver.settle(&mut api);
    check(
        &api,
        &said,
        expect![[r#"
        worker-0 Drained=False DrainDisabled: pod default/a-web holds 0000:3b:00.2 and disableDrain is set: end the pod, take disableDrain back, or write force into spec.drain.onDeadline of the node's pool
        rdma Ready=False DrainBlocked: 0 of 2 nodes are at their goal; pod default/a-web holds 0000:3b:00.2 and disableDrain is set: end the pod, take disableDrain back, or write force into spec.drain.onDeadline of the node's pool
        event Node worker-0 DrainDisabled: pod default/a-web holds 0000:3b:00.2 and disableDrain is set: end the pod, take disableDrain back, or write force into spec.drain.onDeadline of the node's pool
        event Pod default/a-web DrainDisabled: node worker-0 is being drained: pod default/a-web holds 0000:3b:00.2 and disableDrain is set: end the pod, take disableDrain back, or write force into spec.drain.onDeadline of the node's pool"#]],
    );
}

/// As above, on OpenShift, with the machine-config pool `worker` of both nodes.
fn on_openshift(drain: Value) -> (Api, Driver, String) {
    let openshift = Settings { cluster_type: "openshift".into(), ..settings() };
    cluster(drain, openshift, |api| {
        for name in ["worker-0", "worker-1"] {
            api.edit("Node", name, |node| {
                node["metadata"]["annotations"] =
                    json!({ annotation::DESIRED_CONFIG: "rendered-worker-1" });
            });
        }
        api.put(json!({
            "apiVersion": "machineconfiguration.openshift.io/v1", "kind": MCP,
            "metadata": { "name": "worker" },
            "spec": { "paused": false, "configuration": { "name": "a" } },
            "status": { "configuration": { "name": "a" } },
        }));
        api.put(json!({
            "apiVersion": "config.openshift.io/v1", "kind": "Infrastructure",
            "metadata": { "name": "cluster" }, "status": { "controlPlaneTopology": "x" },
        }));
        api.forbid.insert(MCP.into(), "a webhook keeps the pools as they are".into());
    })
}

#[test]
fn a_pause_that_is_refused_is_said_and_is_overdue_at_the_deadline() {
    let (mut api, mut driver, said) = on_openshift(json!({ "deadline": "10m" }));
    check(
        &api,
        &said,
        expect![[r#"
        worker-0 Drained=False Refused: cannot write MachineConfigPool worker: refused with 403: a webhook keeps the pools as they are
        rdma Ready=False DrainBlocked: 0 of 2 nodes are at their goal; cannot write MachineConfigPool worker: refused with 403: a webhook keeps the pools as they are
        event Node worker-0 Refused: cannot write MachineConfigPool worker: refused with 403: a webhook keeps the pools as they are"#]],
    );
    driver.wait(600);
    let said = driver.settle(&mut api);
    check(
        &api,
        &said,
        expect![[r#"
        worker-0 Drained=False DrainDeadline: worker-0 is not drained 10m after its turn came; free what is in the way, or write skipNode or force into spec.drain.onDeadline of its pool; cannot write MachineConfigPool worker: refused with 403: a webhook keeps the pools as they are
        rdma Ready=False DrainBlocked: 0 of 2 nodes are at their goal; worker-0 is not drained 10m after its turn came; free what is in the way, or write skipNode or force into spec.drain.onDeadline of its pool; cannot write MachineConfigPool worker: refused with 403: a webhook keeps the pools as they are
        rdma Degraded=True DrainDeadline: worker-0 is not drained 10m after its turn came; free what is in the way, or write skipNode or force into spec.drain.onDeadline of its pool; cannot write MachineConfigPool worker: refused with 403: a webhook keeps the pools as they are
        event Node worker-0 DrainDeadline: worker-0 is not drained 10m after its turn came; free what is in the way, or write skipNode or force into spec.drain.onDeadline of its pool; cannot write MachineConfigPool worker: refused with 403: a webhook keeps the pools as they are"#]],
    );
}

#[test]
fn a_resume_that_is_refused_is_said_and_keeps_no_turn() {
    let (mut api, mut driver, _) = on_openshift(json!({}));
    api.forbid.clear();
    driver.wait(60);
    driver.settle(&mut api);
    assert_eq!(api.get(MCP, "worker").unwrap()["spec"]["paused"], true);
    api.forbid.insert(MCP.into(), "a webhook keeps the pools as they are".into());
    ask(&mut api, "worker-0", annotation::IDLE);
    let said = driver.settle(&mut api);
    assert!(
        api.get(POOL, "rdma").unwrap()["status"]["grants"].as_array().is_none_or(Vec::is_empty)
    );
    check(
        &api,
        &said,
        expect![[r#"
        worker-0 Drained=False Refused: cannot write MachineConfigPool worker: refused with 403: a webhook keeps the pools as they are
        rdma Ready=False Progressing: 0 of 2 nodes are at their goal
        event Node worker-0 Refused: cannot write MachineConfigPool worker: refused with 403: a webhook keeps the pools as they are"#]],
    );
    // The pool can be written again.
    api.forbid.clear();
    driver.wait(60);
    let said = driver.settle(&mut api);
    assert_eq!(api.get(MCP, "worker").unwrap()["spec"]["paused"], false);
    check(
        &api,
        &said,
        expect![[r#"
        worker-0 Drained=False Idle: no drain is asked for
        rdma Ready=False Progressing: 0 of 2 nodes are at their goal"#]],
    );
}

/// Three control-plane nodes without a pool; c0 asks.
fn control_plane() -> (Api, Driver) {
    let mut api = Api::default();
    api.put(config());
    for name in ["c0", "c1", "c2"] {
        let mut node = node(name);
        node["metadata"]["labels"][api::label::CONTROL_PLANE] = "".into();
        api.put(node);
    }
    api.put(pod("a-web", "c0", ""));
    api.refuse_evictions.insert("a-web".into(), "The budget says no.".into());
    let mut driver = Driver::new(&api, settings());
    driver.settle(&mut api);
    ask(&mut api, "c0", annotation::REBOOT_REQUIRED);
    (api, driver)
}

fn make_ready(api: &mut Api, name: &str, ready: &str) {
    api.edit("Node", name, |node| node["status"]["conditions"][0]["status"] = ready.into());
}

fn drained(api: &Api, name: &str) -> String {
    let state = api.get(NODE_STATE, name).unwrap();
    let all = state["status"]["conditions"].as_array().unwrap();
    let one = all.iter().find(|one| one["type"] == "Drained").unwrap();
    format!("{}: {}", one["reason"].as_str().unwrap(), one["message"].as_str().unwrap())
}

#[test]
fn a_control_plane_node_is_not_drained_on_while_another_one_that_failed_after_its_grant_is_not_back()
 {
    let (mut api, mut driver) = control_plane();
    driver.settle(&mut api);
    driver.wait(5);
    driver.settle(&mut api);
    make_ready(&mut api, "c2", "False");
    api.refuse_evictions.clear();
    driver.wait(5);
    driver.settle(&mut api);
    assert!(api.get("Pod", "a-web").is_some(), "nobody is evicted meanwhile");
    assert_eq!(api.annotation(NODE_STATE, "c0", annotation::CURRENT_STATE), annotation::DRAINING);
    expect!["ControlPlaneBusy: c0 waits: control-plane nodes go only while the others are Ready, and c2 is not"].assert_eq(&drained(&api, "c0"));
    make_ready(&mut api, "c2", "True");
    driver.wait(5);
    driver.settle(&mut api);
    assert_eq!(
        api.annotation(NODE_STATE, "c0", annotation::CURRENT_STATE),
        annotation::DRAIN_COMPLETE
    );
}

#[test]
fn a_control_plane_node_with_a_grant_of_its_pool_says_for_which_other_one_it_waits() {
    let (mut api, _) = control_plane();
    api.edit("SriovOperatorConfig", "default", |config| {
        config["status"]["grants"] = json!([{
            "node": "c0", "reason": "Reboot_Required", "since": "2026-11-22T12:00:00Z",
        }]);
    });
    // The operator died with its node before it gave the grant of the whole cluster.
    make_ready(&mut api, "c1", "False");
    let mut driver = Driver::new(&api, settings());
    driver.settle(&mut api);
    assert_eq!(api.annotation(NODE_STATE, "c0", annotation::CURRENT_STATE), annotation::IDLE);
    expect!["ControlPlaneBusy: c0 waits: control-plane nodes go only while the others are Ready, and c1 is not"].assert_eq(&drained(&api, "c0"));
    make_ready(&mut api, "c1", "True");
    driver.settle(&mut api);
    assert_eq!(api.annotation(NODE_STATE, "c0", annotation::CURRENT_STATE), annotation::DRAINING);
}

/// Ready of the pool.
fn of_pool(api: &Api) -> String {
    let pool = api.get(POOL, "rdma").unwrap();
    let one = &pool["status"]["conditions"][0];
    let text = |field: &str| one[field].as_str().unwrap().to_owned();
    format!("{} {}: {}", text("status"), text("reason"), text("message"))
}

#[test]
fn a_paused_pool_says_so_also_when_nobody_waits() {
    let (mut api, mut driver, _) = cluster(json!({}), settings(), |_| {});
    ask(&mut api, "worker-0", annotation::IDLE);
    api.edit(POOL, "rdma", |pool| pool["spec"]["maxUnavailable"] = 0.into());
    driver.settle(&mut api);
    expect![
        "False Paused: 0 of 2 nodes are at their goal; the pool is paused by maxUnavailable: 0"
    ]
    .assert_eq(&of_pool(&api));
    for name in ["worker-0", "worker-1"] {
        api.edit(NODE_STATE, name, |state| {
            state["status"]["syncStatus"] = "Succeeded".into();
            state["status"]["observedGeneration"] = state["metadata"]["generation"].clone();
        });
    }
    driver.settle(&mut api);
    expect!["True Paused: 2 of 2 nodes are at their goal; the pool is paused by maxUnavailable: 0"]
        .assert_eq(&of_pool(&api));
}

#[test]
fn the_pool_names_who_else_uses_up_its_limit_also_while_one_of_ours_drains() {
    let (mut api, mut driver, _) = cluster(json!({}), settings(), |api| {
        api.edit(POOL, "rdma", |pool| {
            pool["spec"]["maxUnavailable"] = 2.into();
            pool["spec"]["rollout"] = json!({ "countUnavailable": true });
        });
        api.put(node("worker-2"));
    });
    ask(&mut api, "worker-2", annotation::REBOOT_REQUIRED);
    api.edit("Node", "worker-1", |node| node["spec"]["unschedulable"] = true.into());
    driver.settle(&mut api);
    expect!["False Progressing: 0 of 3 nodes are at their goal; draining worker-0; worker-2 waits: the 2 allowed nodes are used up (worker-0 is draining, worker-1 is cordoned by somebody else)"].assert_eq(&of_pool(&api));
}

#[test]
fn a_node_that_is_ready_after_its_boot_and_whose_daemon_is_silent_is_told_after_a_quarter_of_an_hour()
 {
    let (mut api, mut driver, _) = cluster(json!({}), settings(), |_| {});
    let boots = |api: &mut Api, id: &str, at: &str| {
        api.edit("Node", "worker-0", |node| {
            node["status"]["nodeInfo"] = json!({ "bootID": id });
            node["status"]["conditions"][0]["lastTransitionTime"] = at.into();
        });
    };
    api.edit(NODE_STATE, "worker-0", |state| state["status"]["bootId"] = "b1".into());
    boots(&mut api, "b1", "2026-11-01T12:00:00Z");
    driver.settle(&mut api);
    assert_eq!(
        api.annotation(NODE_STATE, "worker-0", annotation::CURRENT_STATE),
        annotation::DRAIN_COMPLETE
    );
    boots(&mut api, "b2", "2026-11-22T12:05:00Z");
    driver.wait(14 * 60);
    driver.settle(&mut api);
    let degraded = |api: &Api| {
        let all = api.get(POOL, "rdma").unwrap()["status"]["conditions"].clone();
        all.as_array().unwrap().iter().find(|one| one["type"] == "Degraded").cloned()
    };
    assert_eq!(degraded(&api), None);
    driver.wait(7 * 60);
    driver.settle(&mut api);
    let said = degraded(&api).unwrap();
    expect![[r#""RolloutHalted" "worker-0 is worse: its daemon sriov-network-config-daemon has said nothing of the boot that is Ready since 2026-11-22T12:05:00Z""#]].assert_eq(&format!("{} {}", said["reason"], said["message"]));
}

/// A kubelet before 1.34 lists the devices of finished pods, and the daemon, which may not read pods, believes it.
#[test]
fn pods_that_have_ended_are_named_to_the_daemon_while_its_node_is_drained() {
    let finished = |name: &str, resource: &str, ends: Value| {
        let mut pod = pod(name, "worker-0", resource);
        pod["status"] = json!({ "phase": "Succeeded", "startTime": "2026-11-22T10:00:00Z",
            "containerStatuses": [{ "state": { "terminated": ends } }] });
        pod
    };
    let (mut api, mut driver, _) = cluster(json!({}), settings(), |api| {
        let end = json!({ "finishedAt": "2026-11-22T11:00:00Z" });
        api.put(finished("job-1", "openshift.io/rdma", end.clone()));
        api.put(finished("job-2", "openshift.io/rdma", json!({})));
        api.put(finished("web-1", "", end));
    });
    let named = |api: &Api| api.annotation(NODE_STATE, "worker-0", annotation::ENDED_PODS);
    expect![[r#"[{"namespace":"default","pod":"job-1","finishedAt":"2026-11-22T11:00:00Z"},{"namespace":"default","pod":"job-2","finishedAt":"2026-11-22T10:00:00Z"}]"#]]
        .assert_eq(&named(&api));
    assert_eq!(api.annotation(NODE_STATE, "worker-0", annotation::CURRENT_STATE), "DrainComplete");
    // One that has gone is not named on: a pod of its name may come.
    let key = api.objects.keys().find(|key| key.name == "job-1").cloned();
    api.remove(&key.unwrap());
    driver.settle(&mut api);
    assert!(!named(&api).contains("job-1"), "{}", named(&api));
    // After the drain the pod that is there would be taken for a holder again.
    ask(&mut api, "worker-0", annotation::IDLE);
    driver.settle(&mut api);
    assert!(named(&api).contains("job-2"), "{}", named(&api));
    let key = api.objects.keys().find(|key| key.name == "job-2").cloned();
    api.remove(&key.unwrap());
    driver.settle(&mut api);
    assert_eq!(named(&api), "");
}

#[test]
fn a_pod_that_ended_is_named_also_without_a_drain_where_its_node_lists_it_a_minute_later() {
    let (mut api, mut driver, _) = cluster(json!({}), settings(), |_| {});
    ask(&mut api, "worker-0", annotation::IDLE);
    driver.settle(&mut api);
    let mut job = pod("job-1", "worker-0", "openshift.io/rdma");
    let end = json!({ "finishedAt": driver.now });
    job["status"] =
        json!({ "phase": "Succeeded", "containerStatuses": [{ "state": { "terminated": end } }] });
    api.put(job);
    let holder = json!({ "device": "0000:03:00.2", "resource": "openshift.io/rdma",
        "namespace": "default", "pod": "job-1" });
    api.edit(NODE_STATE, "worker-0", |state| state["status"]["holders"] = json!([holder]));
    let named = |api: &Api| api.annotation(NODE_STATE, "worker-0", annotation::ENDED_PODS);
    driver.settle(&mut api);
    driver.wait(50);
    driver.settle(&mut api);
    assert_eq!(named(&api), "");
    driver.wait(10);
    driver.settle(&mut api);
    assert!(named(&api).contains("job-1"), "{}", named(&api));
    // Its daemon takes it for no holder any more, and it stays named while it is there.
    api.edit(NODE_STATE, "worker-0", |state| state["status"]["holders"] = json!([]));
    assert!(!driver.settle(&mut api).contains("patch"));
}

/// As the kubelet says it, and once for each pod, whatever comes again.
#[test]
fn a_pod_that_its_kubelet_did_not_admit_is_counted_once() {
    let (mut api, mut driver, _) = cluster(json!({}), settings(), |_| {});
    let counted = |driver: &Driver| {
        let page = operator::metrics::text(&driver.operator.world, &driver.operator.metrics);
        let line = page.lines().find(|line| line.starts_with("ironrail_pods_not_admitted_total "));
        line.map(str::to_owned)
    };
    api.put(pod("train-0", "worker-1", "openshift.io/rdma"));
    driver.settle(&mut api);
    assert_eq!(counted(&driver).as_deref(), Some("ironrail_pods_not_admitted_total 0"));
    let refused = |pod: &mut Value| {
        pod["status"] = json!({
            "phase": "Failed", "reason": "UnexpectedAdmissionError",
            "message": "Pod was rejected: Allocate failed due to no healthy devices present; cannot allocate unhealthy devices openshift.io/rdma, which is unexpected",
        });
    };
    api.edit("Pod", "train-0", refused);
    driver.settle(&mut api);
    assert_eq!(counted(&driver).as_deref(), Some("ironrail_pods_not_admitted_total 1"));
    api.edit("Pod", "train-0", |pod| pod["metadata"]["labels"] = json!({ "seen": "yes" }));
    driver.settle(&mut api);
    assert_eq!(counted(&driver).as_deref(), Some("ironrail_pods_not_admitted_total 1"));
}
