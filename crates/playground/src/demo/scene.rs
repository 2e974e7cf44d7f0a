//! What every story does: it looks at the cluster through the API, from outside and from inside of pods, and tells it.

use super::Options;
use super::hands::Hands;
use super::manifests::Manifests;
use super::record::{NodeSeen, Record, Stage};
use super::report::{Report, Teller};
use super::user::{Executed, User, until};
use crate::cluster::objects::{self, items, text};
use api::names;
use api::wire::{Method, PatchType, Request};
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::time::{Duration, Instant};

pub const SPACE: &str = names::NAMESPACE;
pub const RESOURCE: &str = "openshift.io/rdma_exclusive_device";
/// Up to this many nodes each is told by itself.
const FEW: usize = 12;
/// How many nodes are asked at a time where each is asked the same.
const AT_A_TIME: usize = 8;

/// A story on its way.
pub struct Scene<'a> {
    pub user: &'a User,
    pub patience: Duration,
    pub tell: Teller<'a>,
    pub manifests: Manifests,
    pub report: Report,
    /// Names of the nodes.
    pub nodes: Vec<String>,
    pub record: Record,
    pub hands: Option<Hands>,
    /// What was last told of each node.
    told: BTreeMap<String, Stage>,
}

impl<'a> Scene<'a> {
    pub fn new(
        user: &'a User,
        options: &Options,
        manifests: Manifests,
        out: &'a mut dyn Write,
    ) -> Self {
        Self {
            user,
            patience: options.patience,
            tell: Teller::new(out),
            manifests,
            report: Report::default(),
            nodes: Vec::new(),
            record: Record::start(&user.client),
            hands: options.hands.clone(),
            told: BTreeMap::new(),
        }
    }

    /// True when each node can be told by itself.
    pub fn are_few(&self) -> bool {
        self.nodes.len() <= FEW
    }

    /// The operator runs, and every node has reported its cards.
    pub async fn cluster(&mut self) -> Result<(), String> {
        self.tell.headline("A cluster with ironrail installed");
        let user = self.user;
        let nodes = user.list("v1", "Node", "").await;
        self.nodes = nodes.iter().map(|node| objects::name(node).to_owned()).collect();
        for node in &self.nodes {
            let state = until(self.patience, async || {
                let state = user.get(names::API_VERSION, names::NODE_STATE, SPACE, node).await;
                let state = state.ok_or(format!("there is no SriovNetworkNodeState {node}"))?;
                match items(&state, "/status/interfaces").is_empty() {
                    true => Err(format!("SriovNetworkNodeState {node} lists no interfaces")),
                    false => Ok(state),
                }
            })
            .await?;
            if self.nodes.len() <= FEW {
                let cards = items(&state, "/status/interfaces").len();
                let mode = text(&state, "/status/system/rdmaMode");
                self.tell.detail(&format!("{node}  {cards} SR-IOV ports, RDMA mode {mode}"));
            }
        }
        if !self.are_few() {
            let nodes = self.nodes.len();
            self.tell.detail(&format!("{nodes} nodes have reported their cards"));
        }
        Ok(())
    }

    /// The label that the guide's pool and policy ask for.
    pub async fn labels(&mut self) -> Result<(), String> {
        self.tell.headline("kubectl label node --all rdma-capable=true");
        for node in &self.nodes {
            let request =
                Request::new(Method::Patch(PatchType::Merge), format!("/api/v1/nodes/{node}"))
                    .with_body(json!({ "metadata": { "labels": { "rdma-capable": "true" } } }));
            let answer = self.user.send(&request).await;
            if !answer.is_done() {
                return Err(format!("cannot label node {node}: {answer}"));
            }
        }
        Ok(())
    }

    /// Tells how the nodes go on until every one of them fits, or none has gone on for as long as a step may take.
    pub async fn follow(&mut self, fits: impl Fn(&NodeSeen) -> bool) -> Result<(), String> {
        let few = self.are_few();
        let (mut before, mut moved) = (BTreeMap::new(), Instant::now());
        let mut crowd = Crowd::default();
        loop {
            let (counts, done) = {
                let seen = self.record.seen();
                let nodes = || self.nodes.iter().filter_map(|name| seen.nodes.get(name));
                let mut counts: BTreeMap<Stage, usize> = BTreeMap::new();
                nodes().for_each(|node| *counts.entry(node.stage).or_default() += 1);
                (counts, nodes().filter(|node| fits(node)).count() == self.nodes.len())
            };
            self.show_news();
            if !few {
                crowd.tell(&mut self.tell, &counts, done);
            }
            self.record.is_whole()?;
            if done {
                return Ok(());
            }
            if counts != before {
                (before, moved) = (counts, Instant::now());
            }
            if moved.elapsed() > self.patience {
                return Err(self.why_not(&fits).await);
            }
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    /// Tells each change of a node's stage since the last call, where nodes are few.
    pub fn show_news(&mut self) {
        let news = std::mem::take(&mut self.record.seen().news);
        for (node, stage) in news {
            if !self.are_few() || stage == Stage::Waiting {
                continue;
            }
            let before = self.told.insert(node.clone(), stage);
            // A node that was ready all the time is no news.
            let quiet = stage == Stage::Ready && before.is_none_or(|before| before == Stage::Ready);
            if !quiet && before != Some(stage) {
                let mode = self.reported_mode(&node);
                self.tell.detail(&format!("{node}  {}", in_words(stage, &mode)));
            }
        }
    }

    fn reported_mode(&self, node: &str) -> String {
        let seen = self.record.seen();
        let state = seen.nodes.get(node).map(|node| text(&node.state, "/status/system/rdmaMode"));
        state.unwrap_or_default().to_owned()
    }

    /// The first node that is not there yet, and what it and its pool say about it.
    async fn why_not(&self, fits: &impl Fn(&NodeSeen) -> bool) -> String {
        let late = {
            let seen = self.record.seen();
            let late = self.nodes.iter().find(|name| !seen.nodes.get(*name).is_some_and(fits));
            late.and_then(|name| Some((name.clone(), seen.nodes.get(name)?.clone())))
        };
        let Some((name, node)) = late else { return "the nodes took too long".to_owned() };
        let blockers: Vec<&str> =
            items(&node.state, "/status/blockers").iter().map(|b| text(b, "/message")).collect();
        let pool = objects::name(&self.manifests.pool);
        let pool = self.user.get(names::API_VERSION, names::POOL, SPACE, pool).await;
        let pool = pool.unwrap_or_default();
        let waiting = items(&pool, "/status/waiting").iter().find(|w| text(w, "/node") == name);
        let said = [
            blockers.join("; "),
            text(&node.state, "/status/lastSyncError").to_owned(),
            waiting.map(|w| text(w, "/because")).unwrap_or_default().to_owned(),
        ];
        let said: Vec<String> = said.into_iter().filter(|text| !text.is_empty()).collect();
        let wanted = text(&self.manifests.pool, "/spec/rdmaMode");
        format!(
            "node {name} is not in {wanted} mode: stage {:?}, sync status {:?}; {}",
            node.stage,
            text(&node.state, "/status/syncStatus"),
            said.join("; "),
        )
    }

    /// An error that names a node in another mode, by RDMA netlink, or with another number of drains or reboots.
    pub async fn disturbed(&self, mode: &str, times: u32) -> Result<(), String> {
        for (node, found) in self.nodes.iter().zip(self.modes().await) {
            let found = found?;
            if found != mode {
                return Err(format!("RDMA netlink on node {node} says {found:?}, and not {mode}"));
            }
        }
        let seen = self.record.seen();
        for node in &self.nodes {
            let (drains, reboots) =
                seen.nodes.get(node).map_or((0, 0), |n| (n.drains, n.reboots()));
            if (drains, reboots) != (times, times as usize) {
                return Err(format!(
                    "node {node} was drained {drains} times and rebooted {reboots} times, and not {times} times"
                ));
            }
        }
        Ok(())
    }

    /// The effective mode, asked of the kernel by `rdma system` in the node's daemon pod.
    pub async fn mode(&self, node: &str) -> Result<String, String> {
        let answer = self.in_daemon(node, &["rdma", "system", "show"]).await?;
        Ok(answer.stdout.split_whitespace().nth(1).unwrap_or_default().to_owned())
    }

    /// The modes of all nodes in their order, some asked at a time.
    async fn modes(&self) -> Vec<Result<String, String>> {
        let nodes = stream::iter(&self.nodes).map(|node| self.mode(node));
        nodes.buffered(AT_A_TIME).collect().await
    }

    pub async fn in_daemon(&self, node: &str, command: &[&str]) -> Result<Executed, String> {
        let pod = self.daemon(node).await?;
        self.user.exec(SPACE, &pod, command).await
    }

    /// The pod of the node's daemon.
    pub async fn daemon(&self, node: &str) -> Result<String, String> {
        let selectors = [
            ("labelSelector", format!("app={}", names::DAEMON)),
            ("fieldSelector", format!("spec.nodeName={node},status.phase=Running")),
        ];
        let pods = self.user.list_by("v1", "Pod", SPACE, &selectors).await;
        let daemon = pods.first();
        let daemon = daemon.ok_or(format!("no running {} pod on node {node}", names::DAEMON))?;
        Ok(objects::name(daemon).to_owned())
    }

    /// The VFs of the guide's policy exist in sysfs, and the kubelet offers them.
    pub async fn policy(&mut self) -> Result<(), String> {
        self.tell.headline("Step 2: the policy makes 4 VFs on enp3s0f0 of each node");
        self.user.apply(&self.manifests.policy).await?;
        let nodes = stream::iter(&self.nodes).map(|node| self.has_vfs(node));
        nodes.buffered(AT_A_TIME).try_collect::<()>().await?;
        let few = self.are_few();
        for node in self.nodes.iter().filter(|_| few) {
            self.tell.detail(&format!("{node}  4 VFs, {RESOURCE}: 4"));
        }
        if !self.are_few() {
            let nodes = self.nodes.len();
            self.tell.detail(&format!("{nodes} nodes have 4 VFs and offer {RESOURCE}: 4"));
        }
        Ok(())
    }

    /// Waits until the kubelet offers the policy's VFs, then counts them in sysfs.
    async fn has_vfs(&self, node: &str) -> Result<(), String> {
        until(self.patience, async || {
            let object = self.user.get("v1", "Node", "", node).await.unwrap_or_default();
            match objects::quantity(&object["status"]["allocatable"][RESOURCE]) / 1000 {
                4 => Ok(()),
                other => {
                    Err(format!("node {node} has {other} of {RESOURCE} allocatable, and not 4"))
                }
            }
        })
        .await?;
        let count = ["cat", "/sys/class/net/enp3s0f0/device/sriov_numvfs"];
        let answer = self.in_daemon(node, &count).await?;
        match answer.stdout.trim() {
            "4" => Ok(()),
            found => Err(format!("enp3s0f0 of node {node} has {found:?} VFs, and not 4")),
        }
    }

    /// Applies a network, and tells the chain of plugins that it became.
    pub async fn network(&mut self, manifest: &Value, chain: &[&str]) -> Result<(), String> {
        self.tell.headline("Step 3: the network becomes a NetworkAttachmentDefinition");
        self.user.apply(manifest).await?;
        let (user, name) = (self.user, objects::name(manifest));
        let definition = until(self.patience, async || {
            let kind = names::NETWORK_ATTACHMENT;
            let definition = user.get(names::NAD_API_VERSION, kind, "default", name).await;
            definition.ok_or(format!("there is no NetworkAttachmentDefinition default/{name}"))
        })
        .await?;
        let config: Value =
            serde_json::from_str(text(&definition, "/spec/config")).map_err(|e| e.to_string())?;
        let list = items(&config, "/plugins");
        // A network of one plugin is written without a list.
        let plugins = if list.is_empty() { std::slice::from_ref(&config) } else { list };
        let found: Vec<&str> = plugins.iter().map(|plugin| text(plugin, "/type")).collect();
        self.tell.detail(&format!("default/{name}: {}", found.join(" → ")));
        match found == chain {
            true => Ok(()),
            false => Err(format!("the chain is {found:?}, and not {}", chain.join(", "))),
        }
    }

    /// Applies a pod, waits until it is Ready, and tells its node and the VF that its environment names.
    pub async fn pod(&mut self, manifest: &Value) -> Result<Value, String> {
        self.user.apply(manifest).await?;
        let (user, name) = (self.user, objects::name(manifest));
        let pod = until(self.patience, async || {
            let pod = user.get("v1", "Pod", "default", name).await.unwrap_or_default();
            match objects::condition(&pod, "Ready") {
                "True" => Ok(pod),
                _ => Err(format!("pod default/{name} is {}", text(&pod, "/status/phase"))),
            }
        })
        .await?;
        let environment = user.exec("default", name, &["env"]).await?;
        let vf = environment
            .stdout
            .lines()
            .find_map(|line| line.strip_prefix("PCIDEVICE_OPENSHIFT_IO_RDMA_EXCLUSIVE_DEVICE="));
        let vf = vf.ok_or(format!("the environment of pod default/{name} names no VF"))?;
        let node = text(&pod, "/spec/nodeName");
        self.tell.detail(&format!("{name} runs on {node} with VF {vf}"));
        Ok(json!({ "name": name, "phase": text(&pod, "/status/phase"), "node": node, "vf": vf }))
    }

    /// Runs a command in a pod and shows it with its answer; an answer that fails or is empty is an error.
    pub async fn show(
        &mut self,
        namespace: &str,
        pod: &str,
        command: &[&str],
    ) -> Result<String, String> {
        let answer = self.user.exec(namespace, pod, command).await?;
        let quoted: Vec<String> = command
            .iter()
            .map(|word| if word.contains(' ') { format!("'{word}'") } else { (*word).to_owned() })
            .collect();
        let typed = format!("kubectl exec {pod} -n {namespace} -- {}", quoted.join(" "));
        self.tell.command(&typed, &answer.stdout);
        match answer.success && !answer.stdout.is_empty() {
            true => Ok(answer.stdout),
            false => Err(format!("{typed} failed: {}", answer.stderr.trim())),
        }
    }

    /// The report, with what became of each node.
    pub async fn finish(mut self) -> Report {
        for (name, mode) in self.nodes.iter().zip(self.modes().await) {
            let mode = mode.unwrap_or_default();
            let seen = self.record.seen();
            let node = seen.nodes.get(name).cloned().unwrap_or_default();
            self.report.nodes.push(json!({
                "name": name, "rdmaMode": mode, "drains": node.drains, "reboots": node.reboots(),
            }));
        }
        self.report
    }
}

/// True when the node says that it has done everything, in this RDMA mode.
pub fn is_ready_in(mode: &str) -> impl Fn(&NodeSeen) -> bool {
    move |node| node.stage == Stage::Ready && text(&node.state, "/status/system/rdmaMode") == mode
}

fn in_words(stage: Stage, mode: &str) -> String {
    match stage {
        Stage::Waiting => "waiting".to_owned(),
        Stage::Draining => "granted, draining".to_owned(),
        Stage::Drained => "drained".to_owned(),
        Stage::Rebooting => "rebooting".to_owned(),
        Stage::Verifying => "rebooted, verifying".to_owned(),
        Stage::Failed => format!("in service again, not at its goal: RDMA mode {mode}"),
        Stage::Ready => format!("ready, RDMA mode {mode}"),
    }
}

/// Names of RDMA devices in the output of `rdma link`.
pub fn devices(output: &str) -> Vec<String> {
    let names = output
        .lines()
        .filter_map(|line| line.strip_prefix("link ")?.split('/').next().map(str::to_owned));
    names.collect()
}

/// The table of a crowd: one line a second, and only where a number changed.
#[derive(Default)]
struct Crowd {
    told: Option<(Instant, [usize; 7])>,
}

impl Crowd {
    const STAGES: [(Stage, &'static str); 7] = [
        (Stage::Ready, "ready"),
        (Stage::Verifying, "verifying"),
        (Stage::Rebooting, "rebooting"),
        (Stage::Drained, "drained"),
        (Stage::Draining, "draining"),
        (Stage::Waiting, "waiting"),
        (Stage::Failed, "failed"),
    ];

    fn tell(&mut self, tell: &mut Teller<'_>, counts: &BTreeMap<Stage, usize>, last: bool) {
        let row = Self::STAGES.map(|(stage, _)| counts.get(&stage).copied().unwrap_or(0));
        let due = match &self.told {
            None => {
                let names = Self::STAGES.map(|(_, name)| format!("{name:>11}"));
                tell.line(&format!("           {}", names.concat()));
                true
            }
            Some((at, before)) => {
                *before != row && (last || at.elapsed() >= Duration::from_secs(1))
            }
        };
        if due {
            let cells = row.map(|count| {
                format!("{:>11}", if count == 0 { "·".to_owned() } else { count.to_string() })
            });
            tell.detail(cells.concat().as_str());
            self.told = Some((Instant::now(), row));
        }
    }
}
