//! Nodes whose own network is a bond over two cards that policies may select. A policy by vendor would take their links
//! down: it is refused and named, while other cards go on. VFs are made under a live link. One node may be cut off for a
//! moment, since a person says so. Each is read from the machines: the kernel counts every change of a link's carrier.

use super::Story;
use super::scene::{SPACE, Scene};
use super::user::until;
use crate::cluster::objects::{items, text};
use api::names;
use serde_json::{Value, json};
use std::time::Duration;

/// The leg of the bond that the story is about, the other leg, and a card with nothing of the host's.
const LEG: &str = "enp59s0";
const OTHER_LEG: &str = "enp3s0";
const FREE: &str = "enp175s0";
const REASON: &str = "Lifeline";

pub struct Lifeline;

impl Story for Lifeline {
    const STEPS: &'static [&'static str] =
        &["cluster", "lives", "vendor", "unharmed", "vfs", "allowed"];

    async fn step(&mut self, scene: &mut Scene<'_>, name: &str) -> Result<(), String> {
        match name {
            "cluster" => scene.cluster().await,
            "lives" => lives(scene).await,
            "vendor" => vendor(scene).await,
            "unharmed" => unharmed(scene).await,
            "vfs" => vfs(scene).await,
            _ => allowed(scene).await,
        }
    }
}

/// Each node says what it lives by, and the kernel agrees.
async fn lives(scene: &mut Scene<'_>) -> Result<(), String> {
    scene.tell.headline("The nodes are reached by a bond of two cards that policies may select");
    for node in scene.nodes.clone() {
        let state = state(scene, &node).await;
        let of = |name: &str| {
            let found = items(&state, "/status/interfaces").iter().find(|i| i["name"] == name);
            found.map(|interface| interface["lifelines"].clone()).unwrap_or_default()
        };
        let over = |name: &str| json!([{ "carries": "DefaultRoute", "over": [name, "bond0"] }]);
        if of(LEG) != over(LEG) || of(OTHER_LEG) != over(OTHER_LEG) || of(FREE) != Value::Null {
            return Err(format!(
                "{node} says that it lives by {LEG} {}, {OTHER_LEG} {}, {FREE} {}",
                of(LEG),
                of(OTHER_LEG),
                of(FREE)
            ));
        }
        if scene.are_few() {
            scene.tell.detail(&format!("{node}  default route over {OTHER_LEG} and {LEG}, bond0"));
        }
    }
    Ok(())
}

/// Selects every card of the vendor and asks for what takes links down.
async fn vendor(scene: &mut Scene<'_>) -> Result<(), String> {
    scene.tell.headline("A policy by vendor asks for switchdev on all cards, the bond's too");
    let manifest = policy("fabric", json!({ "vendor": "15b3" }), "switchdev");
    scene.user.apply(&manifest).await?;
    // The card that nobody lives by goes on.
    for node in scene.nodes.clone() {
        reaches(scene, &node, FREE, "2").await?;
    }
    let message = condition(scene, "fabric", REASON, &["vendor", LEG, "allowLifeline"]).await?;
    let command = format!("kubectl describe sriovnetworknodepolicy fabric -n {SPACE}");
    scene.tell.message(&command, &message);
    let node = scene.nodes.first().cloned().unwrap_or_default();
    let refusal = refusal(scene, &node).await?;
    let command = format!("kubectl describe sriovnetworknodestate {node} -n {SPACE}");
    scene.tell.message(&command, &refusal);
    Ok(())
}

/// Nothing happens to the legs however long one looks.
async fn unharmed(scene: &mut Scene<'_>) -> Result<(), String> {
    scene.tell.headline("The bond's links have not gone down, and will not");
    tokio::time::sleep(Duration::from_secs(3)).await;
    for node in scene.nodes.clone() {
        for leg in [LEG, OTHER_LEG] {
            let (changes, vfs) =
                (carrier(scene, &node, leg).await?, count(scene, &node, leg).await?);
            if (changes.as_str(), vfs.as_str()) != ("0", "0") {
                return Err(format!(
                    "{leg} of {node}: the carrier changed {changes} times, and it has {vfs} VFs"
                ));
            }
        }
    }
    let node = scene.nodes.first().cloned().unwrap_or_default();
    let daemon = scene.daemon(&node).await?;
    scene.show(SPACE, &daemon, &["cat", &carrier_file(LEG)]).await?;
    Ok(())
}

/// VFs on a leg of the bond, in legacy mode: the usual case of a node with few cards.
async fn vfs(scene: &mut Scene<'_>) -> Result<(), String> {
    scene.tell.headline("A policy by name asks for VFs on a leg of the bond: its link stays up");
    delete(scene, "fabric").await?;
    for node in scene.nodes.clone() {
        reaches(scene, &node, FREE, "0").await?;
    }
    scene.user.apply(&policy("train", json!({ "pfNames": [LEG] }), "legacy")).await?;
    for node in scene.nodes.clone() {
        reaches(scene, &node, LEG, "2").await?;
        let changes = carrier(scene, &node, LEG).await?;
        if changes != "0" {
            return Err(format!("the carrier of {LEG} of {node} changed {changes} times"));
        }
        event(scene, &node, "LifelineKept").await?;
    }
    condition(scene, "train", "NodesReady", &[]).await?;
    Ok(())
}

/// A person knows what they do, on one node.
async fn allowed(scene: &mut Scene<'_>) -> Result<(), String> {
    let node = scene.nodes.first().cloned().unwrap_or_default();
    scene.tell.headline(&format!("allowLifeline: true lets {node} change the mode of that card"));
    let mut manifest = policy("uplink", json!({ "pfNames": [LEG] }), "switchdev");
    manifest["spec"]["nodeSelector"] = json!({ "kubernetes.io/hostname": node });
    manifest["spec"]["allowLifeline"] = true.into();
    delete(scene, "train").await?;
    for node in scene.nodes.clone() {
        reaches(scene, &node, LEG, "0").await?;
    }
    scene.user.apply(&manifest).await?;
    reaches(scene, &node, LEG, "2").await?;
    event(scene, &node, "LifelineCut").await?;
    for one in scene.nodes.clone() {
        let changes = carrier(scene, &one, LEG).await?;
        let wanted = if one == node { "2" } else { "0" };
        if changes != wanted {
            return Err(format!(
                "the carrier of {LEG} of {one} changed {changes} times, and not {wanted}"
            ));
        }
    }
    scene.tell.detail(&format!("{LEG} of {node} went down and came up once; no other link did"));
    Ok(())
}

fn policy(name: &str, nics: Value, mode: &str) -> Value {
    json!({
        "apiVersion": names::API_VERSION, "kind": names::POLICY,
        "metadata": { "name": name, "namespace": SPACE },
        "spec": {
            "resourceName": name, "numVfs": 2, "nicSelector": nics, "eSwitchMode": mode,
            "nodeSelector": { "kubernetes.io/os": "linux" },
        },
    })
}

async fn state(scene: &Scene<'_>, node: &str) -> Value {
    scene.user.get(names::API_VERSION, names::NODE_STATE, SPACE, node).await.unwrap_or_default()
}

async fn delete(scene: &mut Scene<'_>, name: &str) -> Result<(), String> {
    use api::wire::{Method, ObjectKey, Request};
    scene.tell.command(&format!("kubectl delete sriovnetworknodepolicy {name} -n {SPACE}"), "");
    let key = ObjectKey::new(names::API_VERSION, names::POLICY, SPACE, name);
    let answer = scene.user.send(&Request::new(Method::Delete, key.path())).await;
    match answer.is_done() {
        true => Ok(()),
        false => Err(format!("cannot delete {key}: {answer}")),
    }
}

fn carrier_file(interface: &str) -> String {
    format!("/sys/class/net/{interface}/carrier_changes")
}

/// How often the kernel saw the link go down or come up.
async fn carrier(scene: &Scene<'_>, node: &str, interface: &str) -> Result<String, String> {
    let answer = scene.in_daemon(node, &["cat", &carrier_file(interface)]).await?;
    Ok(answer.stdout.trim().to_owned())
}

async fn count(scene: &Scene<'_>, node: &str, interface: &str) -> Result<String, String> {
    let file = format!("/sys/class/net/{interface}/device/sriov_numvfs");
    let answer = scene.in_daemon(node, &["cat", &file]).await?;
    Ok(answer.stdout.trim().to_owned())
}

/// Waits until the kernel counts so many VFs.
async fn reaches(
    scene: &mut Scene<'_>,
    node: &str,
    interface: &str,
    wanted: &str,
) -> Result<(), String> {
    let looking = &*scene;
    until(looking.patience, async || match count(looking, node, interface).await? {
        found if found == wanted => Ok(()),
        found => {
            let state = state(looking, node).await;
            let error = text(&state, "/status/lastSyncError").to_owned();
            Err(format!("{interface} of {node} has {found} VFs, and not {wanted}; {error}"))
        }
    })
    .await?;
    if scene.are_few() {
        scene.tell.detail(&format!("{node}  {interface}: {wanted} VFs"));
    }
    Ok(())
}

/// The policy's condition, once it has this reason and names all of this.
async fn condition(
    scene: &Scene<'_>,
    policy: &str,
    reason: &str,
    parts: &[&str],
) -> Result<String, String> {
    until(scene.patience, async || {
        let kind = names::POLICY;
        let object = scene.user.get(names::API_VERSION, kind, SPACE, policy).await;
        let object = object.unwrap_or_default();
        let ready = items(&object, "/status/conditions").iter().find(|c| c["type"] == "Ready");
        let (found, message) =
            ready.map_or(("", ""), |c| (text(c, "/reason"), text(c, "/message")));
        match found == reason && parts.iter().all(|part| message.contains(part)) {
            true => Ok(message.to_owned()),
            false => Err(format!("policy {policy} says {found} ({message}), and not {reason}")),
        }
    })
    .await
}

/// What the node says of the action that it refuses.
async fn refusal(scene: &Scene<'_>, node: &str) -> Result<String, String> {
    until(scene.patience, async || {
        let state = state(scene, node).await;
        let found = items(&state, "/status/blockers").iter().find(|b| b["reason"] == REASON);
        let message = found.map(|blocker| text(blocker, "/message").to_owned());
        message.ok_or(format!("{node} has no blocker {REASON}"))
    })
    .await
}

/// An event of the node's state, told with its message.
async fn event(scene: &mut Scene<'_>, node: &str, reason: &str) -> Result<(), String> {
    let looking = &*scene;
    let message = until(looking.patience, async || {
        let events = looking.user.list("v1", "Event", SPACE).await;
        let found = events.iter().find(|event| {
            let regarding = [text(event, "/involvedObject/name"), text(event, "/regarding/name")];
            event["reason"] == reason && regarding.contains(&node)
        });
        let told = found.map(|event| {
            let words = [text(event, "/message"), text(event, "/note")];
            words.into_iter().find(|words| !words.is_empty()).unwrap_or_default().to_owned()
        });
        told.ok_or(format!("no event {reason} of {node}"))
    })
    .await?;
    if scene.are_few() {
        scene.tell.detail(&format!("{node}  {reason}: {message}"));
    }
    Ok(())
}
