//! The guide in shared mode: nothing is drained, two pods on one node use the char devices of their VFs, and a network
//! that asks for what only exclusive mode can do is told so before any pod fails.

use super::Story;
use super::scene::{Scene, is_ready_in};
use super::user::until;
use crate::cluster::objects::{self, items, text};
use api::names;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const PODS: [&str; 2] = ["rdma-app", "rdma-app-2"];

pub struct Shared;

impl Story for Shared {
    const STEPS: &'static [&'static str] = &[
        "cluster",
        "labels",
        "pool",
        "policy",
        "network",
        "pods",
        "devices",
        "undisturbed",
        "mistake",
    ];

    async fn step(&mut self, scene: &mut Scene<'_>, name: &str) -> Result<(), String> {
        match name {
            "cluster" => scene.cluster().await,
            "labels" => scene.labels().await,
            "pool" => pool(scene).await,
            "policy" => scene.policy().await,
            "network" => network(scene).await,
            "pods" => pods(scene).await,
            "devices" => devices(scene).await,
            "undisturbed" => undisturbed(scene).await,
            _ => mistake(scene).await,
        }
    }
}

async fn pool(scene: &mut Scene<'_>) -> Result<(), String> {
    scene.tell.headline("Step 1: the pool asks for rdmaMode shared, which the nodes have already");
    scene.manifests.pool["spec"]["rdmaMode"] = "shared".into();
    let manifest = scene.manifests.pool.clone();
    scene.user.apply(&manifest).await?;
    let (user, name) = (scene.user, objects::name(&manifest));
    let says = until(scene.patience, async || {
        let pool = user.get(names::API_VERSION, names::POOL, super::scene::SPACE, name).await;
        let pool = pool.unwrap_or_default();
        let ready = condition(&pool, "Ready");
        match text(&ready, "/status") == "True" {
            true => Ok(text(&ready, "/message").to_owned()),
            false => Err(format!("pool {name} is not Ready: {}", text(&ready, "/message"))),
        }
    })
    .await?;
    scene.follow(is_ready_in("shared")).await?;
    scene.tell.detail(&format!("pool {name} is Ready: {says}"));
    scene.disturbed("shared", 0).await
}

/// The guide's network without its meta plugin.
async fn network(scene: &mut Scene<'_>) -> Result<(), String> {
    let mut manifest = scene.manifests.network.clone();
    if let Some(spec) = manifest["spec"].as_object_mut() {
        spec.remove("metaPluginsConfig");
    }
    scene.network(&manifest, &["sriov"]).await
}

/// The guide's pod, and one more on the same node.
async fn pods(scene: &mut Scene<'_>) -> Result<(), String> {
    scene.tell.headline("Step 4: two pods on one node, each with a VF");
    let mut manifest = scene.manifests.pod.clone();
    scene.report.pod = scene.pod(&manifest).await?;
    let node = scene.report.pod["node"].clone();
    manifest["metadata"]["name"] = PODS[1].into();
    manifest["spec"]["nodeSelector"] = json!({ "kubernetes.io/hostname": node });
    let second = scene.pod(&manifest).await?;
    let (one, other) = (&scene.report.pod, &second);
    let same = |key: &str| one[key] == other[key];
    if !same("node") || same("vf") {
        return Err(format!("not two VFs of one node: {one} and {other}"));
    }
    scene.report.more_pods.push(second);
    Ok(())
}

/// Each pod has the uverbs device of its own VF, with the kernel's device number, and not that of the other.
async fn devices(scene: &mut Scene<'_>) -> Result<(), String> {
    scene.tell.headline("Each pod has the char devices of its own VF");
    let pods = [scene.report.pod.clone(), scene.report.more_pods[0].clone()];
    let mut owners: BTreeMap<String, &str> = BTreeMap::new();
    for (pod, report) in PODS.into_iter().zip(&pods) {
        let listing = scene.show("default", pod, &["ls", "-l", "/dev/infiniband"]).await?;
        let nodes = char_devices(&listing);
        let uverbs: Vec<&String> = nodes.keys().filter(|name| name.starts_with("uverbs")).collect();
        let [own] = uverbs.as_slice() else {
            return Err(format!("pod {pod} has {} uverbs devices, and not one", uverbs.len()));
        };
        let link = scene.user.exec("default", pod, &["ip", "link", "show", "net1"]).await?;
        if !link.success {
            return Err(format!("pod {pod} has no interface net1: {}", link.stderr.trim()));
        }
        if !nodes.contains_key("rdma_cm") {
            return Err(format!("pod {pod} has no /dev/infiniband/rdma_cm"));
        }
        let directory = format!("/sys/bus/pci/devices/{}/infiniband_verbs", text(report, "/vf"));
        let made = scene.user.exec("default", pod, &["ls", &directory]).await?;
        if made.stdout.trim() != own.as_str() {
            let (vf, found) = (text(report, "/vf"), made.stdout.trim().to_owned());
            return Err(format!("VF {vf} of pod {pod} has {found:?}, and the pod was given {own}"));
        }
        let number =
            scene.user.exec("default", pod, &["cat", &format!("{directory}/{own}/dev")]).await?;
        if number.stdout.trim() != nodes[*own] {
            return Err(format!(
                "{own} of pod {pod} is device {}, and the kernel says {}",
                nodes[*own],
                number.stdout.trim()
            ));
        }
        if let Some(other) = owners.insert((*own).clone(), pod) {
            return Err(format!("{own} is in pod {pod} and in pod {other}"));
        }
    }
    Ok(())
}

/// `ls -l` of a directory: names of character devices with their numbers, `231:196`.
fn char_devices(listing: &str) -> BTreeMap<String, String> {
    let device = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [mode, _, _, _, major, minor, .., name] = words.as_slice() else { return None };
        mode.starts_with('c')
            .then(|| ((*name).to_owned(), format!("{}:{minor}", major.trim_end_matches(','))))
    };
    listing.lines().filter_map(device).collect()
}

/// Nothing of all this has drained or rebooted a node, or changed its mode.
async fn undisturbed(scene: &mut Scene<'_>) -> Result<(), String> {
    scene.tell.headline("No node was drained or rebooted, and every one is in shared mode still");
    let node = text(&scene.report.pod, "/node").to_owned();
    let daemon = scene.daemon(&node).await?;
    scene.show(super::scene::SPACE, &daemon, &["rdma", "system", "show"]).await?;
    scene.disturbed("shared", 0).await
}

/// A network with the rdma plugin: its condition names pool, node and mode.
async fn mistake(scene: &mut Scene<'_>) -> Result<(), String> {
    scene.tell.headline("A mistake: one network asks for the rdma plugin, as in exclusive mode");
    let mut manifest = scene.manifests.network.clone();
    manifest["metadata"]["name"] = "rdma-network-exclusive".into();
    scene.user.apply(&manifest).await?;
    let (user, name) = (scene.user, objects::name(&manifest));
    let (pool, node) = (objects::name(&scene.manifests.pool), text(&scene.report.pod, "/node"));
    let message = until(scene.patience, async || {
        let network = user.get(names::API_VERSION, "SriovNetwork", "default", name).await;
        let network = network.unwrap_or_default();
        let conditions = items(&network, "/status/conditions");
        let said: Vec<&str> = conditions.iter().map(|c| text(c, "/message")).collect();
        let sentence = said.iter().flat_map(|text| text.split("; its ")).find(|sentence| {
            let names = [format!("pool {pool}"), node.to_owned(), "shared".to_owned()];
            names.iter().all(|name| sentence.contains(name))
        });
        let missing =
            || format!("no condition of network {name} names pool, node and mode: {said:?}");
        let sentence = sentence.map(|sentence| sentence.trim_start_matches("its "));
        sentence.map(str::to_owned).ok_or_else(missing)
    })
    .await?;
    scene.tell.message(&format!("kubectl describe sriovnetwork {name}"), &message);
    Ok(())
}

fn condition(object: &Value, kind: &str) -> Value {
    let found = items(object, "/status/conditions").iter().find(|c| c["type"] == kind);
    found.cloned().unwrap_or_default()
}
