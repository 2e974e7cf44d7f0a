//! The guide's steps, each with the question to the world that decides whether it worked.

use super::report::{Report, Step, Teller};
use super::user::{Executed, User, until};
use crate::cluster::objects::{self, items, text};
use api::wire::{Method, PatchType, Request};
use api::{annotation, label, names};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::time::{Duration, Instant};

/// The guide, as users read it.
const GUIDE: &str = include_str!("../../../../docs/tutorial/rdma-configuration.md");
const RESOURCE: &str = "openshift.io/rdma_exclusive_device";
const SPACE: &str = names::NAMESPACE;

/// What a demo is run with.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long any one step may take.
    pub patience: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { patience: Duration::from_secs(60) }
    }
}

/// The YAML blocks of the guide's file, in order: pool, policy, network, pod.
pub fn manifests() -> anyhow::Result<Vec<Value>> {
    let mut manifests = Vec::new();
    let mut rest = GUIDE;
    while let Some(start) = rest.find("```yaml\n") {
        let block = &rest[start + 8..];
        let end = block.find("\n```").unwrap_or(block.len());
        manifests.push(serde_saphyr::from_str(&block[..end])?);
        rest = &block[end..];
    }
    anyhow::ensure!(
        manifests.len() == 4,
        "the guide has {} YAML blocks, and not its four",
        manifests.len()
    );
    Ok(manifests)
}

/// Runs the guide on a cluster where ironrail is installed, and reports what the world says.
pub async fn run(user: &User, options: &Options, out: &mut dyn Write) -> Report {
    let mut guide = Guide {
        user,
        options,
        tell: Teller::new(out),
        nodes: Vec::new(),
        boots: BTreeMap::new(),
        drains: BTreeMap::new(),
    };
    let mut report = Report::default();
    let manifests = match manifests() {
        Ok(manifests) => manifests,
        Err(error) => {
            report.steps.push(Step {
                name: "guide",
                problem: Some(format!("{error:#}")),
                seconds: 0.0,
            });
            return report;
        }
    };
    for name in STEPS {
        let start = Instant::now();
        let result = guide.step(name, &manifests, &mut report).await;
        let seconds = start.elapsed().as_secs_f64();
        match &result {
            Ok(()) => guide.tell.detail("ok"),
            Err(problem) => guide.tell.detail(&format!("FAILED: {problem}")),
        }
        let failed = result.is_err();
        report.steps.push(Step { name, problem: result.err(), seconds });
        if failed {
            break;
        }
    }
    report.nodes = guide.node_reports().await;
    report
}

const STEPS: [&str; 8] =
    ["cluster", "labels", "pool", "policy", "network", "pod", "isolation", "commands"];

struct Guide<'a> {
    user: &'a User,
    options: &'a Options,
    tell: Teller<'a>,
    /// Names of the nodes.
    nodes: Vec<String>,
    /// Boot ids that each node had, in order.
    boots: BTreeMap<String, Vec<String>>,
    drains: BTreeMap<String, u32>,
}

impl Guide<'_> {
    async fn step(
        &mut self,
        name: &str,
        manifests: &[Value],
        report: &mut Report,
    ) -> Result<(), String> {
        match name {
            "cluster" => self.cluster().await,
            "labels" => self.labels().await,
            "pool" => self.pool(&manifests[0]).await,
            "policy" => self.policy(&manifests[1]).await,
            "network" => self.network(&manifests[2]).await,
            "pod" => self.pod(&manifests[3], report).await,
            "isolation" => self.isolation(report).await,
            _ => self.commands().await,
        }
    }

    /// The operator runs, and every node has reported its cards.
    async fn cluster(&mut self) -> Result<(), String> {
        self.tell.headline("A cluster with ironrail installed");
        let user = self.user;
        self.nodes =
            user.list("v1", "Node", "").await.iter().map(|n| objects::name(n).to_owned()).collect();
        for node in &self.nodes {
            let state = until(self.options.patience, async || {
                let state = user.get(names::API_VERSION, names::NODE_STATE, SPACE, node).await;
                let state = state.ok_or(format!("there is no SriovNetworkNodeState {node}"))?;
                match items(&state, "/status/interfaces").is_empty() {
                    true => Err(format!("SriovNetworkNodeState {node} lists no interfaces")),
                    false => Ok(state),
                }
            })
            .await?;
            if self.nodes.len() <= 5 {
                let cards = items(&state, "/status/interfaces").len();
                let mode = text(&state, "/status/system/rdmaMode");
                self.tell.detail(&format!("{node}  {cards} SR-IOV ports, RDMA mode {mode}"));
            }
        }
        self.note_boots().await;
        Ok(())
    }

    async fn labels(&mut self) -> Result<(), String> {
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

    /// Every node in exclusive mode by RDMA netlink, one at a time, with one drain and one reboot each.
    async fn pool(&mut self, manifest: &Value) -> Result<(), String> {
        self.tell
            .headline("Step 1: the pool switches its nodes to exclusive RDMA mode, one at a time");
        self.user.apply(manifest).await?;
        let limit = self.options.patience
            + Duration::from_secs(5) * u32::try_from(self.nodes.len()).unwrap_or(0);
        let start = Instant::now();
        let mut seen: BTreeMap<String, String> = BTreeMap::new();
        loop {
            self.note_boots().await;
            let mut done = 0;
            for node in self.nodes.clone() {
                let stage = self.stage(&node).await;
                done += usize::from(stage == "done");
                if seen.get(&node) != Some(&stage) {
                    let idle = |stage: Option<&String>| stage.is_none_or(|s| s == "waiting");
                    if idle(seen.get(&node)) && stage != "done" && stage != "waiting" {
                        *self.drains.entry(node.clone()).or_default() += 1;
                    }
                    let before = seen.insert(node.clone(), stage.clone());
                    if before.is_some() || stage != "waiting" {
                        self.tell.detail(&format!(
                            "{node}  {}",
                            stage.as_str().replace("done", "ready, RDMA mode exclusive")
                        ));
                    }
                }
            }
            if done == self.nodes.len() {
                break;
            }
            if start.elapsed() > limit {
                return Err(self.why_not().await);
            }
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        for node in self.nodes.clone() {
            let mode = self.mode(&node).await?;
            if mode != "exclusive" {
                return Err(format!(
                    "RDMA netlink on node {node} says {mode:?}, and not exclusive"
                ));
            }
            let reboots = self.reboots(&node);
            if reboots != 1 {
                return Err(format!("node {node} was rebooted {reboots} times, and not once"));
            }
        }
        Ok(())
    }

    /// Where a node stands, in one word for the reader.
    async fn stage(&self, node: &str) -> String {
        let user = self.user;
        let Some(state) = user.get(names::API_VERSION, names::NODE_STATE, SPACE, node).await else {
            return "gone".to_owned();
        };
        let Some(object) = user.get("v1", "Node", "", node).await else { return "gone".to_owned() };
        let annotations = objects::texts(&state, "/metadata/annotations");
        let current = annotations.get(annotation::CURRENT_STATE).copied().unwrap_or_default();
        let exclusive = text(&state, "/status/system/rdmaMode") == "exclusive";
        let synced = text(&state, "/status/syncStatus") == "Succeeded";
        let cordoned = object.pointer("/spec/unschedulable") == Some(&Value::Bool(true));
        let ready = objects::condition(&object, "Ready") == "True";
        match current {
            _ if !ready => "rebooting",
            annotation::DRAINING => "granted, draining",
            annotation::DRAIN_COMPLETE if exclusive || self.reboots(node) > 0 => {
                "rebooted, verifying"
            }
            annotation::DRAIN_COMPLETE => "drained",
            _ if exclusive && synced && !cordoned => "done",
            _ => "waiting",
        }
        .to_owned()
    }

    async fn note_boots(&mut self) {
        for node in self.user.list("v1", "Node", "").await {
            let boot = text(&node, "/status/nodeInfo/bootID").to_owned();
            let seen = self.boots.entry(objects::name(&node).to_owned()).or_default();
            if !boot.is_empty() && seen.last() != Some(&boot) {
                seen.push(boot);
            }
        }
    }

    fn reboots(&self, node: &str) -> usize {
        self.boots.get(node).map_or(0, |boots| boots.len().saturating_sub(1))
    }

    /// The first node that is not there yet, and what it says about it.
    async fn why_not(&self) -> String {
        for node in &self.nodes {
            if self.stage(node).await == "done" {
                continue;
            }
            let state = self
                .user
                .get(names::API_VERSION, names::NODE_STATE, SPACE, node)
                .await
                .unwrap_or_default();
            let blockers: Vec<&str> =
                items(&state, "/status/blockers").iter().map(|b| text(b, "/message")).collect();
            let error = text(&state, "/status/lastSyncError");
            let pool = self
                .user
                .get(names::API_VERSION, names::POOL, SPACE, "rdma-workers")
                .await
                .unwrap_or_default();
            let waiting = items(&pool, "/status/waiting").iter().find(|w| text(w, "/node") == node);
            let pool_says = waiting.map(|w| text(w, "/because")).unwrap_or_default();
            return format!(
                "node {node} is not in exclusive mode: stage {:?}, sync status {:?}; {}",
                self.stage(node).await,
                text(&state, "/status/syncStatus"),
                [blockers.join("; ").as_str(), error, pool_says]
                    .iter()
                    .filter(|s| !s.is_empty())
                    .copied()
                    .collect::<Vec<_>>()
                    .join("; "),
            );
        }
        "the nodes took too long".to_owned()
    }

    /// The effective mode, asked of the kernel by `rdma system` in the node's daemon pod.
    async fn mode(&self, node: &str) -> Result<String, String> {
        let answer = self.in_daemon(node, &["rdma", "system", "show"]).await?;
        Ok(answer.stdout.split_whitespace().nth(1).unwrap_or_default().to_owned())
    }

    async fn in_daemon(&self, node: &str, command: &[&str]) -> Result<Executed, String> {
        let pod = self.daemon(node).await?;
        self.user.exec(SPACE, &pod, command).await
    }

    async fn daemon(&self, node: &str) -> Result<String, String> {
        let pods = self.user.list("v1", "Pod", SPACE).await;
        let daemon = pods.iter().find(|pod| {
            text(pod, "/spec/nodeName") == node
                && objects::texts(pod, "/metadata/labels").get("app") == Some(&names::DAEMON)
                && text(pod, "/status/phase") == "Running"
        });
        let daemon = daemon.ok_or(format!("no running {} pod on node {node}", names::DAEMON))?;
        Ok(objects::name(daemon).to_owned())
    }

    /// The VFs exist in sysfs, and the kubelet offers them.
    async fn policy(&mut self, manifest: &Value) -> Result<(), String> {
        self.tell.headline("Step 2: the policy makes 4 VFs on enp3s0f0 of each node");
        self.user.apply(manifest).await?;
        let user = self.user;
        for node in self.nodes.clone() {
            until(self.options.patience, async || {
                let object = user.get("v1", "Node", "", &node).await.unwrap_or_default();
                let offered = objects::quantity(&object["status"]["allocatable"][RESOURCE]) / 1000;
                match offered {
                    4 => Ok(()),
                    other => {
                        Err(format!("node {node} has {other} of {RESOURCE} allocatable, and not 4"))
                    }
                }
            })
            .await?;
            let answer = self
                .in_daemon(&node, &["cat", "/sys/class/net/enp3s0f0/device/sriov_numvfs"])
                .await?;
            if answer.stdout.trim() != "4" {
                return Err(format!(
                    "enp3s0f0 of node {node} has {:?} VFs, and not 4",
                    answer.stdout.trim()
                ));
            }
            self.tell.detail(&format!("{node}  4 VFs, {RESOURCE}: 4"));
        }
        self.note_boots().await;
        match self.nodes.iter().find(|node| self.reboots(node) != 1) {
            Some(node) => {
                Err(format!("node {node} was rebooted {} times, and not once", self.reboots(node)))
            }
            None => Ok(()),
        }
    }

    async fn network(&mut self, manifest: &Value) -> Result<(), String> {
        self.tell.headline("Step 3: the network becomes a NetworkAttachmentDefinition");
        self.user.apply(manifest).await?;
        let user = self.user;
        let definition = until(self.options.patience, async || {
            let definition = user
                .get(names::NAD_API_VERSION, names::NETWORK_ATTACHMENT, "default", "rdma-network")
                .await;
            definition
                .ok_or("there is no NetworkAttachmentDefinition default/rdma-network".to_owned())
        })
        .await?;
        let config: Value =
            serde_json::from_str(text(&definition, "/spec/config")).map_err(|e| e.to_string())?;
        let chain: Vec<&str> =
            items(&config, "/plugins").iter().map(|p| text(p, "/type")).collect();
        self.tell.detail(&format!("default/rdma-network: {}", chain.join(" → ")));
        match chain.as_slice() {
            ["sriov", "rdma"] => Ok(()),
            other => Err(format!("the chain is {other:?}, and not sriov, rdma")),
        }
    }

    async fn pod(&mut self, manifest: &Value, report: &mut Report) -> Result<(), String> {
        self.tell.headline("Step 4: the pod gets its VF and its RDMA device");
        self.user.apply(manifest).await?;
        let user = self.user;
        let pod = until(self.options.patience, async || {
            let pod = user.get("v1", "Pod", "default", "rdma-app").await.unwrap_or_default();
            match objects::condition(&pod, "Ready") {
                "True" => Ok(pod),
                _ => Err(format!("pod default/rdma-app is {}", text(&pod, "/status/phase"))),
            }
        })
        .await?;
        let environment = user.exec("default", "rdma-app", &["env"]).await?;
        let vf = environment
            .stdout
            .lines()
            .find_map(|line| line.strip_prefix("PCIDEVICE_OPENSHIFT_IO_RDMA_EXCLUSIVE_DEVICE="));
        let vf = vf.ok_or("the pod's environment names no VF")?.to_owned();
        report.pod = json!({
            "name": "rdma-app", "phase": text(&pod, "/status/phase"), "node": text(&pod, "/spec/nodeName"), "vf": vf,
        });
        self.tell
            .detail(&format!("rdma-app runs on {} with VF {vf}", text(&pod, "/spec/nodeName")));
        Ok(())
    }

    /// The pod sees exactly one RDMA device, and no host and no other pod sees that one.
    async fn isolation(&mut self, report: &mut Report) -> Result<(), String> {
        self.tell.headline("The pod sees its own RDMA device, alone");
        let inside = self.user.exec("default", "rdma-app", &["rdma", "link", "show"]).await?;
        let devices = devices(&inside.stdout);
        let [device] = devices.as_slice() else {
            return Err(format!(
                "the pod sees {} RDMA devices ({}), and not exactly one",
                devices.len(),
                devices.join(", ")
            ));
        };
        let links = self.user.exec("default", "rdma-app", &["ip", "link", "show", "net1"]).await?;
        if !links.success {
            return Err(format!("the pod has no interface net1: {}", links.stderr.trim()));
        }
        let node = text(&report.pod, "/node").to_owned();
        let outside = self.in_daemon(&node, &["rdma", "link", "show"]).await?;
        let seen = self::devices(&outside.stdout);
        if seen.contains(device) {
            return Err(format!("node {node} sees {device} too"));
        }
        let vf = text(&report.pod, "/vf").to_owned();
        let own = self
            .user
            .exec("default", "rdma-app", &["ls", &format!("/sys/bus/pci/devices/{vf}/infiniband")])
            .await?;
        if own.stdout.trim() != device {
            return Err(format!(
                "VF {vf} has RDMA device {:?} in the pod, and not {device}",
                own.stdout.trim()
            ));
        }
        report.pod["rdmaDevice"] = device.as_str().into();
        report.pod["interface"] = "net1".into();
        self.tell.detail(&format!(
            "{device} of VF {vf} is in the pod; the node sees {}",
            seen.join(", ")
        ));
        Ok(())
    }

    /// The guide's commands, as a user types them.
    async fn commands(&mut self) -> Result<(), String> {
        self.tell.headline("The guide's commands");
        let node = self.nodes.first().cloned().unwrap_or_default();
        let daemon = self.daemon(&node).await?;
        let device = devices(
            &self.user.exec("default", "rdma-app", &["rdma", "link", "show"]).await?.stdout,
        );
        let counters = format!(
            "cat /sys/class/infiniband/{}/ports/1/counters/*",
            device.first().map_or("", |d| d)
        );
        let commands: [(&str, &str, Vec<&str>); 4] = [
            (SPACE, &daemon, vec!["rdma", "link", "show"]),
            (SPACE, &daemon, vec!["cat", "/sys/class/infiniband/*/device/sriov_numvfs"]),
            ("default", "rdma-app", vec!["rdma", "link", "show"]),
            ("default", "rdma-app", vec!["sh", "-c", &counters]),
        ];
        for (namespace, pod, command) in commands {
            let answer = self.user.exec(namespace, pod, &command).await?;
            let quoted: Vec<String> = command
                .iter()
                .map(|w| if w.contains(' ') { format!("'{w}'") } else { (*w).to_owned() })
                .collect();
            let typed = format!("kubectl exec {pod} -n {namespace} -- {}", quoted.join(" "));
            self.tell.command(&typed, &answer.stdout);
            if !answer.success || answer.stdout.is_empty() {
                return Err(format!("{typed} failed: {}", answer.stderr.trim()));
            }
        }
        let object = self.user.get("v1", "Node", "", &node).await.unwrap_or_default();
        let offered = &object["status"]["allocatable"][RESOURCE];
        self.tell.command(
            &format!("kubectl describe node {node} | grep {RESOURCE}"),
            &format!("{RESOURCE}:  {}", offered.as_str().unwrap_or("0")),
        );
        if objects::texts(&object, "/metadata/labels").get(label::DEVICE_PLUGIN)
            != Some(&label::ENABLED)
        {
            return Err(format!(
                "node {node} does not carry the label {}={}",
                label::DEVICE_PLUGIN,
                label::ENABLED
            ));
        }
        self.operator_log().await
    }

    /// `kubectl logs deployment/sriov-network-operator`: the operator says what it did.
    async fn operator_log(&mut self) -> Result<(), String> {
        let pods = self.user.list("v1", "Pod", SPACE).await;
        let operator = pods.iter().find(|pod| {
            objects::name(pod).starts_with(names::OPERATOR)
                && text(pod, "/status/phase") == "Running"
        });
        let operator = operator.ok_or("no operator pod is running")?;
        let path = format!("/api/v1/namespaces/{SPACE}/pods/{}/log", objects::name(operator));
        let request = http::Request::get(path).body(Vec::new()).map_err(|e| e.to_string())?;
        let log = self
            .user
            .client
            .request_text(request)
            .await
            .map_err(|e| format!("cannot read the operator's log: {e}"))?;
        let lines: Vec<&str> = log.lines().collect();
        let last = lines[lines.len().saturating_sub(3)..].join("\n");
        self.tell
            .command(&format!("kubectl logs deployment/{} -n {SPACE}", names::OPERATOR), &last);
        if lines.is_empty() {
            return Err("the operator's log is empty".to_owned());
        }
        Ok(())
    }

    async fn node_reports(&mut self) -> Vec<Value> {
        let mut reports = Vec::new();
        for node in self.nodes.clone() {
            let mode = self.mode(&node).await.unwrap_or_default();
            reports.push(json!({
                "name": node, "rdmaMode": mode, "drains": self.drains.get(&node).copied().unwrap_or(0),
                "reboots": self.reboots(&node),
            }));
        }
        reports
    }
}

/// Names of RDMA devices in the output of `rdma link`.
fn devices(output: &str) -> Vec<String> {
    let names = output
        .lines()
        .filter_map(|line| line.strip_prefix("link ")?.split('/').next().map(str::to_owned));
    names.collect()
}
