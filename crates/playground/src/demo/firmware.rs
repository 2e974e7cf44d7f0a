//! Cards as they are delivered: SR-IOV off in firmware, room for too few VFs, and one whose firmware shows what was set
//! and never uses it. Pool and policy are applied together, and there is one drain and one reboot for all of it; the card
//! that did not follow is named with parameter, wanted, current and next value, and is not rebooted for again.

use super::Story;
use super::record::{NodeSeen, Stage};
use super::scene::{RESOURCE, SPACE, Scene, is_ready_in};
use super::user::until;
use crate::cluster::objects::{self, items, text};
use api::wire::{Method, ObjectKey, PatchType, Request};
use api::{annotation, names};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

/// The machine with such cards.
pub const NODE: &str = "worker-0";
/// Each card's first port, how many VFs the kernel allows at first, and how many there are in the end. Without SR-IOV in
/// the firmware the kernel sees no such capability; the third is deaf to what is written.
const CARDS: [(&str, &str, Option<&str>, &str); 3] = [
    ("0000:03:00.0", "enp3s0f0", None, "4"),
    ("0000:05:00.0", "enp5s0f0", Some("2"), "4"),
    ("0000:09:00.0", "enp9s0f0", Some("2"), "0"),
];
const REASON: &str = "RebootDidNotHelp";

pub struct Firmware;

impl Story for Firmware {
    const STEPS: &'static [&'static str] =
        &["cluster", "cards", "labels", "ask", "one reboot", "VFs", "says", "goes on"];

    async fn step(&mut self, scene: &mut Scene<'_>, name: &str) -> Result<(), String> {
        match name {
            "cluster" => scene.cluster().await,
            "cards" => cards(scene).await,
            "labels" => scene.labels().await,
            "ask" => ask(scene).await,
            "one reboot" => one_reboot(scene).await,
            "VFs" => vfs(scene).await,
            "says" => says(scene).await,
            _ => goes_on(scene).await,
        }
    }
}

/// What the kernel shows before anybody asks for anything.
async fn cards(scene: &mut Scene<'_>) -> Result<(), String> {
    scene.tell.headline("The ConnectX-5 cards of worker-0 come as cards do");
    for (pci, port, expected, _) in CARDS {
        let file = format!("/sys/bus/pci/devices/{pci}/sriov_totalvfs");
        let answer = scene.in_daemon(NODE, &["cat", &file]).await?;
        let found = answer.success.then(|| answer.stdout.trim());
        let words = |count: Option<&str>| {
            count.map_or("no SR-IOV".to_owned(), |count| format!("room for {count} VFs"))
        };
        let shown = words(found);
        scene.tell.detail(&format!("{port}  the kernel shows {shown}"));
        if found != expected {
            return Err(format!("{port} of {NODE} shows {shown}, and not {}", words(expected)));
        }
    }
    Ok(())
}

/// Both at once, as from one file.
async fn ask(scene: &mut Scene<'_>) -> Result<(), String> {
    scene.tell.headline("Pool and policy together: exclusive mode, and 4 VFs on each of the three");
    let ports: Vec<&str> = CARDS.iter().map(|(_, port, ..)| *port).collect();
    scene.manifests.policy["spec"]["nicSelector"]["pfName"] = json!(ports);
    scene.user.apply(&scene.manifests.pool.clone()).await?;
    scene.user.apply(&scene.manifests.policy.clone()).await?;
    let stands = |node: &NodeSeen| {
        let is_it = text(&node.state, "/metadata/name") == NODE;
        match is_it {
            true => node.stage == Stage::Failed && blocker(&node.state).is_some(),
            // They have had their turn, or wait behind the one that came back with a card missing.
            false => [Stage::Ready, Stage::Waiting].contains(&node.stage),
        }
    };
    scene.follow(stands).await
}

/// One drain and one reboot, booked for the mode and for each card.
async fn one_reboot(scene: &mut Scene<'_>) -> Result<(), String> {
    scene.tell.headline("One drain and one reboot brought the mode and the firmware");
    scene.record.is_whole()?;
    let node = scene.record.seen().nodes.get(NODE).cloned().unwrap_or_default();
    if (node.drains, node.reboots()) != (1, 1) {
        let (drains, reboots) = (node.drains, node.reboots());
        return Err(format!("{NODE} was drained {drains} times and rebooted {reboots} times"));
    }
    let records = items(&node.state, "/status/reboots");
    let boots: BTreeSet<&str> = records.iter().map(|one| text(one, "/bootIdBefore")).collect();
    for record in records {
        scene.tell.detail(&format!(
            "{} {}: {}",
            text(record, "/reason"),
            text(record, "/goal"),
            text(record, "/outcome/state")
        ));
    }
    match (records.len(), boots.len()) {
        (4, 1) => {}
        (records, boots) => {
            return Err(format!("{records} reasons are booked for {boots} boots, and not 4 for 1"));
        }
    }
    match scene.mode(NODE).await?.as_str() {
        "exclusive" => Ok(()),
        mode => Err(format!("RDMA netlink on {NODE} says {mode:?}, and not exclusive")),
    }
}

/// The two cards that follow have their VFs, and pods are offered them.
async fn vfs(scene: &mut Scene<'_>) -> Result<(), String> {
    scene.tell.headline("Two cards have their VFs, and the kubelet offers them");
    for (pci, port, _, wanted) in CARDS {
        let file = format!("/sys/bus/pci/devices/{pci}/sriov_numvfs");
        let answer = scene.in_daemon(NODE, &["cat", &file]).await?;
        let found = answer.stdout.trim();
        scene.tell.detail(&format!("{port}  {found} VFs"));
        if found != wanted {
            return Err(format!("{port} of {NODE} has {found:?} VFs, and not {wanted}"));
        }
    }
    let user = scene.user;
    until(scene.patience, async || {
        let node = user.get("v1", "Node", "", NODE).await.unwrap_or_default();
        match objects::quantity(&node["status"]["allocatable"][RESOURCE]) / 1000 {
            8 => Ok(()),
            other => Err(format!("node {NODE} has {other} of {RESOURCE} allocatable, and not 8")),
        }
    })
    .await
}

fn blocker(state: &Value) -> Option<&str> {
    let found = items(state, "/status/blockers").iter().find(|b| b["reason"] == REASON);
    found.map(|blocker| text(blocker, "/message"))
}

/// The third is named with parameter, wanted, current and next value, and never rebooted for again.
async fn says(scene: &mut Scene<'_>) -> Result<(), String> {
    scene.tell.headline("The third card is named, and the node is not rebooted for it again");
    let state = scene.user.get(names::API_VERSION, names::NODE_STATE, SPACE, NODE).await;
    let state = state.unwrap_or_default();
    let message = blocker(&state).ok_or(format!("{NODE} does not say {REASON}"))?.to_owned();
    let parts = ["0000:09:00.0", "NUM_OF_VFS=4", "NUM_OF_VFS=2", "next boot", "cold power cycle"];
    for part in parts {
        if !message.contains(part) {
            return Err(format!("the node's message does not name {part:?}: {message}"));
        }
    }
    scene
        .tell
        .message(&format!("kubectl describe sriovnetworknodestate {NODE} -n {SPACE}"), &message);
    tokio::time::sleep(Duration::from_secs(4)).await;
    match scene.record.seen().nodes.get(NODE).map_or(0, NodeSeen::reboots) {
        1 => Ok(()),
        reboots => Err(format!("{NODE} was rebooted {reboots} times, and not once")),
    }
}

/// Somebody has read it, and lets the other nodes follow: they need the mode only.
async fn goes_on(scene: &mut Scene<'_>) -> Result<(), String> {
    scene.tell.headline("A person accepts that card, and the other nodes follow");
    let name = text(&scene.manifests.pool, "/metadata/name").to_owned();
    let resume = annotation::RESUME;
    let typed = format!("kubectl annotate sriovnetworkpoolconfig {name} -n {SPACE} {resume}=1");
    scene.tell.command(&typed, "");
    let key = ObjectKey::new(names::API_VERSION, names::POOL, SPACE, &name);
    let patch = json!({ "metadata": { "annotations": { resume: "1" } } });
    let request = Request::new(Method::Patch(PatchType::Merge), key.path()).with_body(patch);
    let answer = scene.user.send(&request).await;
    if !answer.is_done() {
        return Err(format!("cannot annotate {key}: {answer}"));
    }
    let ready = is_ready_in("exclusive");
    scene.follow(|node| ready(node) || text(&node.state, "/metadata/name") == NODE).await?;
    scene.disturbed("exclusive", 1).await
}
