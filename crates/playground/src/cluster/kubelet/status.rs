//! What the kubelet says of a pod: phase, conditions, containers, and the networks that it was attached to.
//!
//! A write is made only where something differs, so that a quiet node writes nothing.

use super::super::multus;
use super::super::objects::{self, items, text};
use super::{Run, Runtime};
use api::Timestamp;
use api::wire::{ObjectKey, PatchType, Write};
use serde_json::{Value, json};

/// A pod that the kubelet does not admit: failed for good, as Kubernetes does it.
pub(super) fn rejected(pod: &Value, why: &str, now: Timestamp) -> Write {
    Write::Patch {
        key: ObjectKey::of(pod),
        patch_type: PatchType::Merge,
        patch: json!({ "status": {
            "phase": "Failed", "reason": "UnexpectedAdmissionError",
            "message": format!("Pod was rejected: {why}"), "startTime": now,
        } }),
        subresource: "status",
    }
}

/// Pod status where it differs from what stands; the network-status annotation with it.
pub(super) fn status(
    pod: &Value,
    run: &Run,
    host_ip: &str,
    runtime: &mut dyn Runtime,
    now: Timestamp,
) -> Vec<Write> {
    let mut ready = run.sandboxed;
    let mut started = run.sandboxed;
    let mut report = |path: &str, main: bool| -> Vec<Value> {
        items(pod, path)
            .iter()
            .map(|spec| {
                let (value, is_ready) = container_status(spec, run, runtime, main);
                if main {
                    ready &= is_ready;
                    started &= value["started"] == true;
                }
                value
            })
            .collect()
    };
    let init = report("/spec/initContainers", false);
    let main = report("/spec/containers", true);
    let phase = if started { "Running" } else { "Pending" };
    let mut status = json!({
        "phase": phase, "hostIP": host_ip, "containerStatuses": main,
        "startTime": match text(pod, "/status/startTime") { "" => Value::from(now.to_string()), at => at.into() },
    });
    if run.sandboxed {
        status["podIP"] = run.ip.as_str().into();
        status["podIPs"] = json!([{ "ip": run.ip }]);
    }
    if !init.is_empty() {
        status["initContainerStatuses"] = init.into();
    }
    let conditions = pod.pointer("/status/conditions").cloned().unwrap_or_default();
    let mut conditioned = json!({ "status": { "conditions": conditions } });
    let initialised = run.initialised == items(pod, "/spec/initContainers").len();
    for (kind, holds, reason) in [
        ("PodScheduled", true, ""),
        ("Initialized", initialised, "ContainersNotInitialized"),
        ("ContainersReady", ready, "ContainersNotReady"),
        ("Ready", ready, "ContainersNotReady"),
    ] {
        let word = if holds { "True" } else { "False" };
        let why = if holds { "" } else { reason };
        if let Some(conditions) = objects::with_condition(&conditioned, kind, word, why, "", now) {
            objects::put(&mut conditioned, &["status", "conditions"], conditions.into());
        }
    }
    status["conditions"] = conditioned["status"]["conditions"].clone();
    let mut writes = Vec::new();
    let same = status.as_object().is_some_and(|fields| {
        fields.iter().all(|(key, value)| pod["status"].get(key) == Some(value))
    });
    if !same {
        writes.push(Write::Patch {
            key: ObjectKey::of(pod),
            patch_type: PatchType::Merge,
            patch: json!({ "status": status }),
            subresource: "status",
        });
    }
    if run.sandboxed && !run.attached.is_empty() {
        let networks: Vec<Value> =
            run.attached.iter().map(|(a, c, r)| multus::status(a, c, r)).collect();
        let networks = serde_json::to_string_pretty(&networks).unwrap_or_default();
        if text(pod, "/metadata/annotations/k8s.v1.cni.cncf.io~1network-status") != networks {
            writes.push(Write::Patch {
                key: ObjectKey::of(pod),
                patch_type: PatchType::Merge,
                patch: json!({ "metadata": { "annotations": { api::annotation::NETWORK_STATUS: networks } } }),
                subresource: "",
            });
        }
    }
    writes
}

fn container_status(
    spec: &Value,
    run: &Run,
    runtime: &mut dyn Runtime,
    main: bool,
) -> (Value, bool) {
    let name = text(spec, "/name");
    let image = text(spec, "/image");
    let Some(instance) = run.containers.get(name) else {
        let reason = if main && !run.sandboxed { "ContainerCreating" } else { "PodInitializing" };
        let waiting = json!({
            "name": name, "image": image, "imageID": "", "ready": false, "started": false, "restartCount": 0,
            "state": { "waiting": { "reason": reason } },
        });
        return (waiting, false);
    };
    let ready = instance.running && runtime.ready(&instance.container.id);
    let ended = instance.last.as_ref().map(|(status, message)| {
        let reason = if *status == 0 { "Completed" } else { "Error" };
        json!({ "terminated": { "exitCode": status, "reason": reason, "message": message } })
    });
    let state = match (instance.running, &ended) {
        (true, _) => json!({ "running": { "startedAt": instance.since } }),
        (false, Some(ended)) if ended["terminated"]["exitCode"] == 0 => ended.clone(),
        (false, _) => json!({ "waiting": { "reason": "CrashLoopBackOff" } }),
    };
    let mut status = json!({
        "name": name, "image": image, "imageID": image, "containerID": format!("playground://{}", instance.container.id),
        "ready": ready, "started": instance.running, "restartCount": instance.starts.saturating_sub(1), "state": state,
    });
    if let Some(ended) = ended {
        status["lastState"] = ended;
    }
    (status, ready)
}
