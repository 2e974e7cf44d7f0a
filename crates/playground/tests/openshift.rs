//! OpenShift on a live playground: over HTTPS, with the operator's own rights, its machine-config pool is held for the
//! whole rollout and goes on after it; what an administrator paused stays so.

#![allow(clippy::unwrap_used)] // a test stops at the first thing that is missing

use api::names::NAMESPACE;
use api::wire::{Method, ObjectKey, PatchType, Request};
use playground::demo::User;
use playground::live::{Options, Playground};
use serde_json::{Value, json};
use std::time::Duration;

const STATES: (&str, &str) = ("sriovnetwork.openshift.io/v1", "SriovNetworkNodeState");

fn rdma_pool() -> Value {
    json!({
        "apiVersion": "sriovnetwork.openshift.io/v1", "kind": "SriovNetworkPoolConfig",
        "metadata": { "name": "pool", "namespace": NAMESPACE },
        "spec": { "rdmaMode": "exclusive", "nodeSelector": {} },
    })
}

/// The machine-config pool as a word for each look: what was seen, without repetitions, until the test is content.
async fn watch(user: &User, until: impl Fn(&[String]) -> bool) -> Vec<String> {
    let mut seen: Vec<String> = Vec::new();
    for _ in 0..1200 {
        let pool = machine_config_pool(user).await;
        let states = user.list(STATES.0, STATES.1, NAMESPACE).await;
        let modes = states.iter().filter(|s| s["status"]["system"]["rdmaMode"] == "exclusive");
        let ours = pool["metadata"]["annotations"]["sriovnetwork.openshift.io/state"].clone();
        let line =
            format!("paused {}, state {ours}, {} exclusive", pool["spec"]["paused"], modes.count());
        if seen.last() != Some(&line) {
            seen.push(line);
        }
        if until(&seen) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    seen
}

async fn machine_config_pool(user: &User) -> Value {
    let version = "machineconfiguration.openshift.io/v1";
    user.get(version, "MachineConfigPool", "", "worker").await.unwrap()
}

#[test]
fn the_machine_config_pool_is_held_while_nodes_are_disturbed_and_no_longer() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let options = Options { nodes: 2, openshift: true, ..Options::default() };
        let playground = Playground::start(options).await.unwrap();
        let user = playground.admin().unwrap();
        user.apply(&rdma_pool()).await.unwrap();
        let released = |seen: &[String]| {
            seen.last().is_some_and(|last| last == "paused false, state \"Idle\", 2 exclusive")
        };
        let seen = watch(&user, released).await;
        assert!(released(&seen), "{seen:#?}");
        let held = seen.iter().position(|line| line.starts_with("paused true")).unwrap();
        let first = seen.iter().position(|line| line.ends_with("1 exclusive")).unwrap();
        assert!(held < first, "paused before the first node changed: {seen:#?}");
        // From the pause to the last node's change it is never let go.
        let last = seen.iter().position(|line| line.ends_with("2 exclusive")).unwrap();
        assert!(seen[held..last].iter().all(|line| line.starts_with("paused true")), "{seen:#?}");
    });
}

async fn set(user: &User, key: &ObjectKey, patch: Value) {
    let patch = Request::new(Method::Patch(PatchType::Merge), key.path()).with_body(patch);
    let answer = user.send(&patch).await;
    assert!(answer.is_done(), "{answer}");
}

#[test]
fn what_an_administrator_paused_stays_so_and_an_update_is_waited_for() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let options = Options { nodes: 1, openshift: true, ..Options::default() };
        let playground = Playground::start(options).await.unwrap();
        let user = playground.admin().unwrap();
        let version = "machineconfiguration.openshift.io/v1";
        let pool = ObjectKey::new(version, "MachineConfigPool", "", "worker");
        // He paused it in the middle of an update: the node that it has begun with is still on its way.
        set(&user, &pool, json!({ "spec": { "paused": true } })).await;
        let nodes = user.list("v1", "Node", "").await;
        let wanted = "machineconfiguration.openshift.io/desiredConfig";
        let wanted = nodes[0]["metadata"]["annotations"][wanted].as_str().unwrap();
        let node = nodes[0]["metadata"]["name"].as_str().unwrap().to_owned();
        let node = ObjectKey::new("v1", "Node", "", &node);
        let has = |config: &str| json!({ "metadata": { "annotations": { "machineconfiguration.openshift.io/currentConfig": config } } });
        set(&user, &node, has("rendered-worker-before")).await;
        user.apply(&rdma_pool()).await.unwrap();
        let waits = |seen: &Value| seen.to_string().contains("machine-config pool worker is being updated");
        let mut said = Value::Null;
        for _ in 0..1200 {
            let states = user.list(STATES.0, STATES.1, NAMESPACE).await;
            said = states.first().map_or(Value::Null, |state| state["status"].clone());
            if waits(&said) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(waits(&said), "{said:#}");
        assert_ne!(said["system"]["rdmaMode"], "exclusive");
        // The update of the node ends; his pause does not.
        set(&user, &node, has(wanted)).await;
        let done = |seen: &[String]| seen.last().is_some_and(|last| last.ends_with("1 exclusive"));
        let seen = watch(&user, done).await;
        let expected = ["paused true, state null, 0 exclusive", "paused true, state null, 1 exclusive"];
        assert_eq!(seen, expected);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(machine_config_pool(&user).await["spec"]["paused"], true);
    });
}
