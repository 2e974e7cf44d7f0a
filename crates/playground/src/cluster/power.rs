//! Power of the machines, and what the cluster notices of it: a reboot that was asked for is carried out, a node whose
//! machine is down becomes NotReady, and the kubelet starts with the machine.

use super::kubelet::{Kubelet, Runtime};
use super::objects::{self, items, text};
use api::Timestamp;
use api::wire::{ObjectKey, PatchType, Write};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// One machine with its kubelet.
pub struct NodeSlot {
    pub kubelet: Kubelet,
    /// When the machine is up again; None while it runs.
    pub down_until: Option<Timestamp>,
    /// When its kubelet wants to look again by itself.
    pub look_again: Option<Timestamp>,
    /// How long a reboot takes.
    pub boot_time: Duration,
    /// Reboots that were carried out, for tests and the demo.
    pub reboots: u32,
    /// Set by a test: the kubelet ends and starts again at the next look. Containers do not notice.
    pub restart_kubelet: bool,
}

impl NodeSlot {
    pub fn new(kubelet: Kubelet, boot_time: Duration) -> Self {
        Self {
            kubelet,
            down_until: None,
            look_again: None,
            boot_time,
            reboots: 0,
            restart_kubelet: false,
        }
    }

    pub fn is_up(&self) -> bool {
        self.down_until.is_none()
    }

    /// False also while somebody has stopped the kubelet of a machine that runs, as a reboot does first.
    pub fn kubelet_runs(&self) -> bool {
        self.is_up() && self.kubelet.host.machine().unit_runs("kubelet.service")
    }

    /// Carries out a requested reboot, and ends one whose time has come. True when the power state changed.
    pub fn power(&mut self, runtime: &mut dyn Runtime, now: Timestamp) -> bool {
        if self.down_until.is_some_and(|until| now >= until) {
            self.down_until = None;
            self.kubelet.host.machine().boot();
            return true;
        }
        if self.is_up() && self.kubelet.host.machine().is_about_to_reboot() {
            self.cut(runtime, now + self.boot_time);
            self.reboots += 1;
            return true;
        }
        false
    }

    /// Takes the power away until then.
    pub fn cut(&mut self, runtime: &mut dyn Runtime, until: Timestamp) {
        self.kubelet.machine_stopped(runtime);
        self.down_until = Some(until);
        // The node controller notices the silence, whatever else happens on the node.
        self.look_again = Some(Timestamp::MIN);
    }
}

/// How long pods stay on a node that nobody hears of: the default `tolerationSeconds` of `node.kubernetes.io/unreachable`.
const PATIENCE: Duration = Duration::from_secs(300);

/// What the taint manager writes of a node that is down too long: its pods are marked for deletion, so that their
/// controllers make others. A DaemonSet's pods tolerate it and stay. Answers when to look again.
pub fn abandon(
    node: &Value,
    pods: &[Arc<Value>],
    now: Timestamp,
) -> (Vec<Write>, Option<Timestamp>) {
    let conditions = items(node, "/status/conditions").iter();
    let unknown = conditions.filter(|c| c["type"] == "Ready" && c["status"] == "Unknown");
    let since = unknown.filter_map(|c| text(c, "/lastTransitionTime").parse().ok()).next();
    let Some(due) = since.map(|since: Timestamp| since + PATIENCE) else {
        return (Vec::new(), Some(now + Duration::from_secs(1)));
    };
    if now < due {
        return (Vec::new(), Some(due));
    }
    let stays = |pod: &Value| {
        let mut owners = items(pod, "/metadata/ownerReferences").iter();
        objects::is_deleting(pod) || owners.any(|owner| owner["kind"] == "DaemonSet")
    };
    let delete = |pod: &Arc<Value>| Write::Delete {
        key: ObjectKey::of(pod),
        uid: objects::uid(pod).to_owned(),
        resource_version: String::new(),
    };
    (pods.iter().filter(|pod| !stays(pod)).map(delete).collect(), None)
}

/// What the node lifecycle controller writes when it hears nothing of the node, and takes back when it does.
pub fn lifecycle(node: &Value, up: bool, now: Timestamp) -> Vec<Write> {
    const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
    let mut writes = Vec::new();
    let key = ObjectKey::new("v1", "Node", "", objects::name(node));
    if !up {
        let message = "Kubelet stopped posting node status.";
        if let Some(conditions) =
            objects::with_condition(node, "Ready", "Unknown", "NodeStatusUnknown", message, now)
        {
            writes.push(Write::Patch {
                key: key.clone(),
                patch_type: PatchType::Merge,
                patch: json!({ "status": { "conditions": conditions } }),
                subresource: "status",
            });
        }
    }
    let tainted = items(node, "/spec/taints").iter().any(|t| text(t, "/key") == UNREACHABLE);
    if tainted == up {
        let mut taints = items(node, "/spec/taints").to_vec();
        taints.retain(|t| text(t, "/key") != UNREACHABLE);
        if !up {
            taints.push(json!({ "key": UNREACHABLE, "effect": "NoSchedule", "timeAdded": now }));
        }
        let taints = if taints.is_empty() { Value::Null } else { Value::from(taints) };
        writes.push(Write::Patch {
            key,
            patch_type: PatchType::Merge,
            patch: json!({ "spec": { "taints": taints } }),
            subresource: "",
        });
    }
    writes
}
