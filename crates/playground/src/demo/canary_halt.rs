//! Every machine has the same mistake in its image, and no boot of it brings the new mode. One canary finds that out: the
//! rollout halts and no other node is touched. A person mends the image, has the canary tried once more, looks at it while
//! the rollout is paused, and lets the others follow.

use super::Story;
use super::record::NodeSeen;
use super::scene::{SPACE, Scene, is_ready_in};
use super::user::until;
use crate::cluster::objects::{items, text};
use api::wire::{Method, ObjectKey, PatchType, Request};
use api::{annotation, names};
use planner::rollout::{HALTED, PAUSED};
use serde_json::{Value, json};
use std::time::Duration;

#[derive(Default)]
pub struct CanaryHalt {
    canary: String,
}

impl Story for CanaryHalt {
    const STEPS: &'static [&'static str] =
        &["cluster", "labels", "canary", "halted", "repair", "paused", "goes on"];

    async fn step(&mut self, scene: &mut Scene<'_>, name: &str) -> Result<(), String> {
        match name {
            "cluster" => scene.cluster().await,
            "labels" => scene.labels().await,
            "canary" => self.canary(scene).await,
            "halted" => self.halted(scene).await,
            "repair" => self.repair(scene).await,
            "paused" => self.paused(scene).await,
            _ => self.goes_on(scene).await,
        }
    }
}

impl CanaryHalt {
    async fn canary(&mut self, scene: &mut Scene<'_>) -> Result<(), String> {
        scene.tell.headline(
            "The pool asks for exclusive RDMA mode, one canary first; no machine's boot will heed it",
        );
        scene.manifests.pool["spec"]["rollout"] = json!({ "canary": 1, "pauseAfterCanary": true });
        scene.user.apply(&scene.manifests.pool.clone()).await?;
        let pool = reaches(scene, HALTED).await?;
        self.canary = text(&pool, "/status/rollout/failures/0/node").to_owned();
        scene.show_news();
        let canaries = &pool["status"]["rollout"]["canaries"];
        match *canaries == json!([self.canary]) {
            true => Ok(()),
            false => Err(format!("{} failed, and the canaries are {canaries}", self.canary)),
        }
    }

    /// The pool names the canary and the way out; nobody else was disturbed, however long one looks.
    async fn halted(&mut self, scene: &mut Scene<'_>) -> Result<(), String> {
        scene.tell.headline("The rollout is halted before it does the same to the others");
        let pool = pool(scene).await;
        let message = condition(&pool, "Degraded");
        if !message.contains(&self.canary) || !message.contains("expected exclusive, found shared")
        {
            return Err(format!("the pool does not say what {} came to: {message}", self.canary));
        }
        let path =
            format!("/apis/{}/namespaces/{SPACE}/sriovnetworkpoolconfigs", names::API_VERSION);
        let answer = scene.user.table(&path).await?;
        scene.tell.command(&format!("kubectl get sriovnetworkpoolconfigs -n {SPACE}"), &answer);
        scene.tell.message(&describe(scene), &message);
        for waiting in items(&pool, "/status/waiting") {
            scene.tell.detail(text(waiting, "/because"));
        }
        tokio::time::sleep(Duration::from_secs(4)).await;
        self.disturbed(scene, (1, 1), (0, 0)).await
    }

    /// A person mends the image of all machines, and has the canary tried once more.
    async fn repair(&mut self, scene: &mut Scene<'_>) -> Result<(), String> {
        scene.tell.headline("A person mends the image of the machines, and asks for one more try");
        let hands = scene.hands.clone().ok_or("nobody is there to mend the machines")?;
        scene.nodes.iter().for_each(|node| hands.mend(node));
        let key = ObjectKey::new("v1", "Node", "", &self.canary);
        let typed = format!("kubectl annotate node {} {}=1", self.canary, annotation::RETRY_REBOOT);
        annotate(scene, &key, annotation::RETRY_REBOOT, &typed).await
    }

    /// The canary is where it should be, and everybody waits for a person's word.
    async fn paused(&mut self, scene: &mut Scene<'_>) -> Result<(), String> {
        scene
            .tell
            .headline("The canary is at its goal; the rollout waits until somebody has looked");
        let pool = reaches(scene, PAUSED).await?;
        scene.show_news();
        let message = condition(&pool, "Ready");
        if !message.contains("pauseAfterCanary") || !message.contains(annotation::RESUME) {
            return Err(format!("the pool does not say what it waits for: {message}"));
        }
        scene.tell.message(&describe(scene), &message);
        let mode = scene.mode(&self.canary).await?;
        if mode != "exclusive" {
            let canary = &self.canary;
            return Err(format!("RDMA netlink on {canary} says {mode:?}, and not exclusive"));
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        self.disturbed(scene, (2, 2), (0, 0)).await
    }

    async fn goes_on(&mut self, scene: &mut Scene<'_>) -> Result<(), String> {
        scene.tell.headline("The person is content, and the others follow");
        let name = text(&scene.manifests.pool, "/metadata/name").to_owned();
        let key = ObjectKey::new(names::API_VERSION, names::POOL, SPACE, &name);
        let typed = format!(
            "kubectl annotate sriovnetworkpoolconfig {name} -n {SPACE} {}=1",
            annotation::RESUME
        );
        annotate(scene, &key, annotation::RESUME, &typed).await?;
        scene.follow(is_ready_in("exclusive")).await?;
        self.disturbed(scene, (2, 2), (1, 1)).await
    }

    /// Drains and reboots of the canary, and of each other node.
    async fn disturbed(
        &self,
        scene: &mut Scene<'_>,
        canary: (u32, usize),
        others: (u32, usize),
    ) -> Result<(), String> {
        scene.record.is_whole()?;
        for node in scene.nodes.clone() {
            let wanted = if node == self.canary { canary } else { others };
            let seen = scene.record.seen().nodes.get(&node).cloned().unwrap_or_default();
            let found = (seen.drains, NodeSeen::reboots(&seen));
            if found != wanted {
                return Err(format!(
                    "{node} was drained {} times and rebooted {} times, and not {} and {}",
                    found.0, found.1, wanted.0, wanted.1
                ));
            }
            if scene.are_few() {
                scene.tell.detail(&format!("{node}  drains: {}, reboots: {}", found.0, found.1));
            }
        }
        Ok(())
    }
}

/// Waits for a phase of the pool's rollout.
async fn reaches(scene: &Scene<'_>, phase: &str) -> Result<Value, String> {
    until(scene.patience, async || {
        let pool = pool(scene).await;
        match text(&pool, "/status/rollout/phase") == phase {
            true => Ok(pool),
            false => Err(format!(
                "the rollout of the pool is {:?}, and not {phase}; it says: {}",
                text(&pool, "/status/rollout/phase"),
                condition(&pool, "Ready")
            )),
        }
    })
    .await
}

async fn pool(scene: &Scene<'_>) -> Value {
    let name = text(&scene.manifests.pool, "/metadata/name");
    let pool = scene.user.get(names::API_VERSION, names::POOL, SPACE, name).await;
    pool.unwrap_or_default()
}

/// The message of a condition.
fn condition(object: &Value, kind: &str) -> String {
    let found = items(object, "/status/conditions").iter().find(|c| c["type"] == kind);
    found.map(|condition| text(condition, "/message").to_owned()).unwrap_or_default()
}

fn describe(scene: &Scene<'_>) -> String {
    let name = text(&scene.manifests.pool, "/metadata/name");
    format!("kubectl describe sriovnetworkpoolconfig {name} -n {SPACE}")
}

async fn annotate(
    scene: &mut Scene<'_>,
    key: &ObjectKey,
    name: &str,
    typed: &str,
) -> Result<(), String> {
    scene.tell.command(typed, "");
    let patch = json!({ "metadata": { "annotations": { name: "1" } } });
    let request = Request::new(Method::Patch(PatchType::Merge), key.path()).with_body(patch);
    let answer = scene.user.send(&request).await;
    match answer.is_done() {
        true => Ok(()),
        false => Err(format!("cannot annotate {key}: {answer}")),
    }
}
