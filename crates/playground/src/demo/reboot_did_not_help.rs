//! A machine comes back from its reboot in the old mode: it is back in service at once, says what was tried, expected
//! and found, is never rebooted again for it, and the rollout halts before it does the same to others. A person mends it
//! and asks for one more try; when that has helped, the rollout goes on by itself.

use super::Story;
use super::record::{NodeSeen, Stage};
use super::scene::{SPACE, Scene, is_ready_in};
use crate::cluster::objects::{items, text};
use api::wire::{Method, ObjectKey, PatchType, Request};
use api::{annotation, names};
use planner::rollout::HALTED;
use serde_json::{Value, json};
use std::time::Duration;

/// The machine whose boots ignore what was written for them.
pub const NODE: &str = "worker-0";
const REASON: &str = "RebootDidNotHelp";

pub struct RebootDidNotHelp;

impl Story for RebootDidNotHelp {
    const STEPS: &'static [&'static str] =
        &["cluster", "labels", "pool", "says", "once", "repair", "goes on"];

    async fn step(&mut self, scene: &mut Scene<'_>, name: &str) -> Result<(), String> {
        match name {
            "cluster" => scene.cluster().await,
            "labels" => scene.labels().await,
            "pool" => pool(scene).await,
            "says" => says(scene).await,
            "once" => once(scene).await,
            "repair" => repair(scene).await,
            _ => goes_on(scene).await,
        }
    }
}

fn has_given_up(node: &NodeSeen) -> bool {
    node.stage == Stage::Failed && blocker(&node.state).is_some()
}

/// Has not been touched, and waits for its turn.
fn is_held_back(node: &NodeSeen) -> bool {
    node.stage == Stage::Waiting && node.drains == 0 && text(&node.state, "/metadata/name") != NODE
}

fn blocker(state: &Value) -> Option<&str> {
    let found = items(state, "/status/blockers").iter().find(|b| b["reason"] == REASON);
    found.map(|blocker| text(blocker, "/message"))
}

/// The one node gives its turn back; the others have had theirs, or wait behind the halt.
async fn pool(scene: &mut Scene<'_>) -> Result<(), String> {
    scene
        .tell
        .headline("The pool asks for exclusive RDMA mode; the boots of worker-0 will not heed it");
    scene.user.apply(&scene.manifests.pool.clone()).await?;
    let ready = is_ready_in("exclusive");
    scene.follow(|node| ready(node) || has_given_up(node) || is_held_back(node)).await
}

/// The node names what was tried, what was expected, what was found and what to do.
async fn says(scene: &mut Scene<'_>) -> Result<(), String> {
    scene.tell.headline("worker-0 is back in service, and says what happened");
    let daemon = scene.daemon(NODE).await?;
    let mode = scene.show(SPACE, &daemon, &["rdma", "system", "show"]).await?;
    if !mode.starts_with("netns shared") {
        return Err(format!("RDMA netlink on {NODE} says {mode:?}, and not shared"));
    }
    let state =
        scene.record.seen().nodes.get(NODE).map(|node| node.state.clone()).unwrap_or_default();
    let message = blocker(&state).ok_or(format!("{NODE} does not say {REASON}"))?.to_owned();
    for part in ["expected exclusive", "found shared", "modprobe.d", annotation::RETRY_REBOOT] {
        if !message.contains(part) {
            return Err(format!("the node's message does not name {part:?}: {message}"));
        }
    }
    let path = "/apis/sriovnetwork.openshift.io/v1/namespaces/sriov-network-operator/sriovnetworknodestates";
    let answer = scene.user.table(path).await?;
    scene.tell.command(&format!("kubectl get sriovnetworknodestates -n {SPACE}"), &answer);
    scene
        .tell
        .message(&format!("kubectl describe sriovnetworknodestate {NODE} -n {SPACE}"), &message);
    halt(scene).await?;
    let node = scene.user.get("v1", "Node", "", NODE).await.unwrap_or_default();
    match node.pointer("/spec/unschedulable") {
        Some(Value::Bool(true)) => Err(format!("{NODE} is still cordoned")),
        _ => Ok(()),
    }
}

/// The pool names the node, and goes no further.
async fn halt(scene: &mut Scene<'_>) -> Result<(), String> {
    let pool = &scene.manifests.pool;
    let (name, kind) = (text(pool, "/metadata/name").to_owned(), names::POOL);
    let pool = scene.user.get(names::API_VERSION, kind, SPACE, &name).await.unwrap_or_default();
    let ready = items(&pool, "/status/conditions").iter().find(|c| c["type"] == "Ready");
    let message = ready.map(|condition| text(condition, "/message")).unwrap_or_default();
    if text(&pool, "/status/rollout/phase") != HALTED || !message.contains(NODE) {
        return Err(format!("pool {name} is not halted because of {NODE}: {message}"));
    }
    let command = format!("kubectl describe sriovnetworkpoolconfig {name} -n {SPACE}");
    scene.tell.message(&command, message);
    Ok(())
}

/// One reboot, and no second one however long one looks.
async fn once(scene: &mut Scene<'_>) -> Result<(), String> {
    scene.tell.headline("It is not rebooted again for this");
    tokio::time::sleep(Duration::from_secs(4)).await;
    scene.record.is_whole()?;
    let seen = scene.record.seen();
    let node = seen.nodes.get(NODE);
    let (drains, reboots) = node.map_or((0, 0), |node| (node.drains, node.reboots()));
    drop(seen);
    scene.tell.detail(&format!("{NODE}: {drains} drain, {reboots} reboot"));
    match (drains, reboots) {
        (1, 1) => Ok(()),
        _ => Err(format!(
            "{NODE} was drained {drains} times and rebooted {reboots} times, and not once"
        )),
    }
}

/// A person mends the machine and opens the goal again.
async fn repair(scene: &mut Scene<'_>) -> Result<(), String> {
    scene.tell.headline(
        "A person finds the old initramfs of worker-0, makes it anew, and asks for one more try",
    );
    let hands = scene.hands.clone().ok_or("nobody is there to mend the machine")?;
    hands.mend(NODE);
    scene.tell.command(&format!("kubectl annotate node {NODE} {}=1", annotation::RETRY_REBOOT), "");
    let key = ObjectKey::new("v1", "Node", "", NODE);
    let patch = json!({ "metadata": { "annotations": { annotation::RETRY_REBOOT: "1" } } });
    let request = Request::new(Method::Patch(PatchType::Merge), key.path()).with_body(patch);
    let answer = scene.user.send(&request).await;
    match answer.is_done() {
        true => Ok(()),
        false => Err(format!("cannot annotate {key}: {answer}")),
    }
}

async fn goes_on(scene: &mut Scene<'_>) -> Result<(), String> {
    scene.tell.headline(
        "One more drain, one more reboot: the node is at its goal, and the rollout goes on",
    );
    scene.follow(is_ready_in("exclusive")).await?;
    let mode = scene.mode(NODE).await?;
    if mode != "exclusive" {
        return Err(format!("RDMA netlink on {NODE} says {mode:?}, and not exclusive"));
    }
    let reboots = scene.record.seen().nodes.get(NODE).map_or(0, NodeSeen::reboots);
    match reboots {
        2 => Ok(()),
        _ => Err(format!("{NODE} was rebooted {reboots} times, and not twice")),
    }
}
