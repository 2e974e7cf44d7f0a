//! A disruption budget holds a node back: the pool and the node say which pod and which budget, nobody else is
//! disturbed meanwhile, and the rollout goes on by itself once the budget allows it.

use super::Story;
use super::scene::{SPACE, Scene, is_ready_in};
use super::user::until;
use crate::cluster::objects::{self, items, text};
use api::names;
use api::wire::{Method, ObjectKey, PatchType, Request};
use serde_json::{Value, json};
use std::time::Duration;

const APP: &str = "database";

pub struct BlockedDrain;

impl Story for BlockedDrain {
    const STEPS: &'static [&'static str] =
        &["cluster", "labels", "app", "pool", "blocked", "room", "goes on"];

    async fn step(&mut self, scene: &mut Scene<'_>, name: &str) -> Result<(), String> {
        match name {
            "cluster" => scene.cluster().await,
            "labels" => scene.labels().await,
            "app" => app(scene).await,
            "pool" => pool(scene).await,
            "blocked" => blocked(scene).await,
            "room" => room(scene).await,
            _ => goes_on(scene).await,
        }
    }
}

/// An application of one pod, of which the budget demands one.
async fn app(scene: &mut Scene<'_>) -> Result<(), String> {
    scene.tell.headline("An application of one pod, with a budget that wants one pod at any time");
    let labels = json!({ "app": APP });
    let objects = [
        json!({
            "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
            "metadata": { "name": APP, "namespace": "default" },
            "spec": { "minAvailable": 1, "selector": { "matchLabels": labels } },
        }),
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": { "name": APP, "namespace": "default" },
            "spec": {
                "replicas": 1, "selector": { "matchLabels": labels },
                "template": { "metadata": { "labels": labels }, "spec": {
                    "containers": [{ "name": APP, "image": "example.com/database:1", "command": ["sleep", "infinity"] }],
                } },
            },
        }),
    ];
    for object in &objects {
        scene.user.apply(object).await?;
    }
    let ready = until(scene.patience, async || match ready_pods(scene).await.as_slice() {
        [one] => Ok(one.clone()),
        other => Err(format!("{} pods of {APP} are Ready, and not 1", other.len())),
    })
    .await?;
    scene.tell.detail(&format!("{} runs on {}", objects::name(&ready), node_of(&ready)));
    let answer =
        scene.user.table("/apis/policy/v1/namespaces/default/poddisruptionbudgets").await?;
    scene.tell.command("kubectl get poddisruptionbudgets", &answer);
    Ok(())
}

/// Running pods of the application.
async fn ready_pods(scene: &Scene<'_>) -> Vec<Value> {
    let mut pods = scene.user.list("v1", "Pod", "default").await;
    pods.retain(|pod| {
        objects::texts(pod, "/metadata/labels").get("app") == Some(&APP)
            && objects::condition(pod, "Ready") == "True"
            && !objects::is_deleting(pod)
    });
    pods
}

fn node_of(pod: &Value) -> &str {
    text(pod, "/spec/nodeName")
}

async fn pool(scene: &mut Scene<'_>) -> Result<(), String> {
    scene.tell.headline(
        "The pool asks for exclusive RDMA mode: a drain and a reboot of each node, one at a time",
    );
    scene.user.apply(&scene.manifests.pool.clone()).await
}

/// The drain of the application's node stands still, the others wait, and the pod runs on.
async fn blocked(scene: &mut Scene<'_>) -> Result<(), String> {
    scene.tell.headline("The drain stands still, and says why");
    let pods = ready_pods(scene).await;
    let [pod] = pods.as_slice() else {
        return Err(format!("{} pods of {APP} are Ready", pods.len()));
    };
    let (name, node) = (objects::name(pod).to_owned(), node_of(pod).to_owned());
    let (user, patience) = (scene.user, scene.patience);
    let pool_name = objects::name(&scene.manifests.pool).to_owned();
    // The nodes before it in line may go first.
    let message = until(patience * 2, async || {
        let pool = user.get(names::API_VERSION, names::POOL, SPACE, &pool_name).await;
        let pool = pool.unwrap_or_default();
        let conditions = items(&pool, "/status/conditions");
        let ready = conditions.iter().find(|condition| condition["type"] == "Ready");
        let (reason, message) = ready.map_or(("", ""), |c| (text(c, "/reason"), text(c, "/message")));
        let names_all = [&name, APP].iter().all(|name| message.contains(*name));
        match reason == "DrainBlocked" && names_all {
            true => Ok(message.to_owned()),
            false => Err(format!(
                "the pool says {reason} ({message}), and not DrainBlocked with pod {name} and budget {APP}"
            )),
        }
    })
    .await?;
    scene.show_news();
    let kind = "sriovnetworkpoolconfig";
    scene.tell.message(&format!("kubectl describe {kind} {pool_name} -n {SPACE}"), &message);
    tokio::time::sleep(Duration::from_secs(6)).await;
    let still = ready_pods(scene).await;
    if still.iter().map(objects::name).ne([name.as_str()]) {
        return Err(format!("pod {name} was taken away against its budget"));
    }
    let (disturbed, reboots) = {
        let seen = scene.record.seen();
        (seen.most_disturbed, seen.nodes.get(&node).map_or(0, |node| node.reboots()))
    };
    if disturbed > 1 || reboots > 0 {
        return Err(format!(
            "{disturbed} nodes were disturbed at a time, {node} rebooted {reboots} times"
        ));
    }
    scene
        .tell
        .detail(&format!("{name} runs on; {node} keeps its turn, and no other node is disturbed"));
    Ok(())
}

/// A person makes room: a second pod elsewhere.
async fn room(scene: &mut Scene<'_>) -> Result<(), String> {
    scene.tell.headline("A person makes room: one more pod, on another node");
    scene.tell.command(&format!("kubectl scale deployment {APP} --replicas 2"), "");
    let key = ObjectKey::new("apps/v1", "Deployment", "default", APP);
    let request = Request::new(Method::Patch(PatchType::Merge), key.path())
        .with_body(json!({ "spec": { "replicas": 2 } }));
    let answer = scene.user.send(&request).await;
    match answer.is_done() {
        true => Ok(()),
        false => Err(format!("cannot scale {key}: {answer}")),
    }
}

/// Nobody has to say "go on": the node is drained at the next try, and the others follow.
async fn goes_on(scene: &mut Scene<'_>) -> Result<(), String> {
    scene.tell.headline("The rollout goes on by itself");
    scene.follow(is_ready_in("exclusive")).await?;
    scene.disturbed("exclusive", 1).await?;
    let most = scene.record.seen().most_disturbed;
    match most {
        0 | 1 => Ok(()),
        most => Err(format!("{most} nodes were disturbed at a time, and the pool allows 1")),
    }
}
