//! Drains as a user meets them: over HTTPS, with the operator and its own client.

#![allow(clippy::unwrap_used)] // a test stops at the first thing that is missing

use api::names::NAMESPACE;
use playground::demo::User;
use playground::live::{Options, Playground};
use serde_json::{Value, json};
use std::time::Duration;

const POOLS: (&str, &str) = ("sriovnetwork.openshift.io/v1", "SriovNetworkPoolConfig");
const STATES: (&str, &str) = ("sriovnetwork.openshift.io/v1", "SriovNetworkNodeState");

/// A deployment that may lose no pod, and a pool that wants to reboot the only node.
fn manifests() -> [Value; 3] {
    let labels = json!({ "app": "web" });
    [
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": { "name": "web", "namespace": "default" },
            "spec": {
                "replicas": 2, "selector": { "matchLabels": labels },
                "template": {
                    "metadata": { "labels": labels },
                    "spec": { "containers": [
                        { "name": "web", "image": "web", "command": ["sleep", "infinity"] }
                    ] },
                },
            },
        }),
        json!({
            "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
            "metadata": { "name": "web", "namespace": "default" },
            "spec": { "minAvailable": 2, "selector": { "matchLabels": labels } },
        }),
        json!({
            "apiVersion": POOLS.0, "kind": POOLS.1,
            "metadata": { "name": "pool", "namespace": NAMESPACE },
            "spec": { "rdmaMode": "exclusive", "nodeSelector": {} },
        }),
    ]
}

/// Waits until the conditions of an object say the text; the last that they said is the failure.
async fn says(user: &User, kind: (&str, &str), name: &str, text: &str) {
    let mut said = String::new();
    for _ in 0..200 {
        let object = user.get(kind.0, kind.1, NAMESPACE, name).await.unwrap();
        said = object["status"]["conditions"].to_string();
        if said.contains(text) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{} {name} does not say {text:?}: {said}", kind.1);
}

/// The 429 of an eviction is an answer; a client that repeats it until it gives up would hide the sentence.
#[test]
fn a_budgets_sentence_reaches_pool_and_node_state_over_https() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let options = Options { nodes: 2, ..Options::default() };
        let playground = Playground::start(options).await.unwrap();
        let user = playground.admin().unwrap();
        let [deployment, budget, pool] = manifests();
        user.apply(&deployment).await.unwrap();
        user.apply(&budget).await.unwrap();
        for _ in 0..200 {
            let web = user.get("apps/v1", "Deployment", "default", "web").await.unwrap();
            if web["status"]["availableReplicas"] == 2 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        user.apply(&pool).await.unwrap();
        let sentence = "PodDisruptionBudget web allows 0 disruptions";
        says(&user, POOLS, "pool", sentence).await;
        let grants = user.get(POOLS.0, POOLS.1, NAMESPACE, "pool").await.unwrap();
        let node = grants["status"]["grants"][0]["node"].as_str().unwrap().to_owned();
        says(&user, STATES, &node, sentence).await;
    });
}
