//! The guide's steps, each with the question to the world that decides whether it worked.

use super::Story;
use super::scene::{RESOURCE, SPACE, Scene, devices, is_ready_in};
use crate::cluster::objects::{self, text};
use api::{label, names};
use serde_json::Value;

pub struct Guide;

impl Story for Guide {
    const STEPS: &'static [&'static str] =
        &["cluster", "labels", "pool", "policy", "network", "pod", "isolation", "commands"];

    async fn step(&mut self, scene: &mut Scene<'_>, name: &str) -> Result<(), String> {
        match name {
            "cluster" => scene.cluster().await,
            "labels" => scene.labels().await,
            "pool" => pool(scene).await,
            "policy" => {
                scene.policy().await?;
                scene.disturbed("exclusive", 1).await
            }
            "network" => {
                let network = scene.manifests.network.clone();
                scene.network(&network, &["sriov", "rdma"]).await
            }
            "pod" => {
                scene.tell.headline("Step 4: the pod gets its VF and its RDMA device");
                let pod = scene.manifests.pod.clone();
                scene.report.pod = scene.pod(&pod).await?;
                Ok(())
            }
            "isolation" => isolation(scene).await,
            _ => commands(scene).await,
        }
    }
}

/// Every node in exclusive mode by RDMA netlink, with one drain and one reboot each, never more at a time than allowed.
async fn pool(scene: &mut Scene<'_>) -> Result<(), String> {
    let manifest = scene.manifests.pool.clone();
    let limit = &manifest["spec"]["maxUnavailable"];
    let allowed = allowed(limit, scene.nodes.len());
    let at_a_time = match limit.as_str() {
        Some(percent) => format!("at most {percent} at a time: {allowed} of {}", scene.nodes.len()),
        None if allowed == 1 => "one at a time".to_owned(),
        None => format!("at most {allowed} at a time"),
    };
    scene.tell.headline(&format!(
        "Step 1: the pool switches its nodes to exclusive RDMA mode, {at_a_time}"
    ));
    scene.user.apply(&manifest).await?;
    scene.follow(is_ready_in("exclusive")).await?;
    scene.disturbed("exclusive", 1).await?;
    let most = {
        let seen = scene.record.seen();
        [
            ("had a grant", seen.most_granted),
            ("were draining or drained", seen.most_disturbed),
            ("were cordoned or not Ready", seen.most_away),
        ]
    };
    scene.report.most_disturbed = Some(most.iter().map(|(_, count)| *count).max().unwrap_or(0));
    match most.iter().find(|(_, count)| *count > allowed) {
        Some((what, count)) => Err(format!(
            "{count} nodes at a time {what}, and the pool's maxUnavailable {limit} allows {allowed}"
        )),
        None => Ok(()),
    }
}

/// How many of so many nodes a `maxUnavailable` allows at a time.
fn allowed(limit: &Value, nodes: usize) -> usize {
    let percent = limit.as_str().and_then(|text| text.strip_suffix('%')?.parse::<usize>().ok());
    match (limit.as_u64(), percent) {
        (Some(number), _) => usize::try_from(number).unwrap_or(usize::MAX),
        (None, Some(percent)) => (nodes * percent / 100).max(1),
        (None, None) => 1,
    }
}

/// The pod sees exactly one RDMA device, and no host and no other pod sees that one.
async fn isolation(scene: &mut Scene<'_>) -> Result<(), String> {
    scene.tell.headline("The pod sees its own RDMA device, alone");
    let user = scene.user;
    let inside = user.exec("default", "rdma-app", &["rdma", "link", "show"]).await?;
    let devices = devices(&inside.stdout);
    let [device] = devices.as_slice() else {
        return Err(format!(
            "the pod sees {} RDMA devices ({}), and not exactly one",
            devices.len(),
            devices.join(", ")
        ));
    };
    let links = user.exec("default", "rdma-app", &["ip", "link", "show", "net1"]).await?;
    if !links.success {
        return Err(format!("the pod has no interface net1: {}", links.stderr.trim()));
    }
    let node = text(&scene.report.pod, "/node").to_owned();
    let outside = scene.in_daemon(&node, &["rdma", "link", "show"]).await?;
    let seen = self::devices(&outside.stdout);
    if seen.contains(device) {
        return Err(format!("node {node} sees {device} too"));
    }
    let vf = text(&scene.report.pod, "/vf").to_owned();
    let directory = format!("/sys/bus/pci/devices/{vf}/infiniband");
    let own = user.exec("default", "rdma-app", &["ls", &directory]).await?;
    if own.stdout.trim() != device {
        return Err(format!(
            "VF {vf} has RDMA device {:?} in the pod, and not {device}",
            own.stdout.trim()
        ));
    }
    scene.report.pod["rdmaDevice"] = device.as_str().into();
    scene.report.pod["interface"] = "net1".into();
    scene
        .tell
        .detail(&format!("{device} of VF {vf} is in the pod; the node sees {}", seen.join(", ")));
    Ok(())
}

/// The guide's commands, as a user types them.
async fn commands(scene: &mut Scene<'_>) -> Result<(), String> {
    scene.tell.headline("The guide's commands");
    let node = text(&scene.report.pod, "/node").to_owned();
    let daemon = scene.daemon(&node).await?;
    let device = text(&scene.report.pod, "/rdmaDevice").to_owned();
    let counters = format!("cat /sys/class/infiniband/{device}/ports/1/counters/*");
    let numbers = "/sys/class/infiniband/*/device/sriov_numvfs";
    scene.show(SPACE, &daemon, &["rdma", "link", "show"]).await?;
    scene.show(SPACE, &daemon, &["cat", numbers]).await?;
    scene.show("default", "rdma-app", &["rdma", "link", "show"]).await?;
    scene.show("default", "rdma-app", &["sh", "-c", &counters]).await?;
    let object = scene.user.get("v1", "Node", "", &node).await.unwrap_or_default();
    let offered = &object["status"]["allocatable"][RESOURCE];
    scene.tell.command(
        &format!("kubectl describe node {node} | grep {RESOURCE}"),
        &format!("{RESOURCE}:  {}", offered.as_str().unwrap_or("0")),
    );
    let labels = objects::texts(&object, "/metadata/labels");
    if labels.get(label::DEVICE_PLUGIN) != Some(&label::ENABLED) {
        let (name, value) = (label::DEVICE_PLUGIN, label::ENABLED);
        return Err(format!("node {node} does not carry the label {name}={value}"));
    }
    operator_log(scene).await
}

/// `kubectl logs deployment/sriov-network-operator`: the operator says what it did.
async fn operator_log(scene: &mut Scene<'_>) -> Result<(), String> {
    let pods = scene.user.list("v1", "Pod", SPACE).await;
    let operator = pods.iter().find(|pod| {
        objects::name(pod).starts_with(names::OPERATOR) && text(pod, "/status/phase") == "Running"
    });
    let operator = operator.ok_or("no operator pod is running")?;
    let path = format!("/api/v1/namespaces/{SPACE}/pods/{}/log", objects::name(operator));
    let request = http::Request::get(path).body(Vec::new()).map_err(|e| e.to_string())?;
    let log = scene.user.client.request_text(request).await;
    let log = log.map_err(|e| format!("cannot read the operator's log: {e}"))?;
    let lines: Vec<&str> = log.lines().collect();
    let last = lines[lines.len().saturating_sub(3)..].join("\n");
    let typed = format!("kubectl logs deployment/{} -n {SPACE} --tail 3", names::OPERATOR);
    scene.tell.command(&typed, &last);
    match lines.is_empty() {
        true => Err("the operator's log is empty".to_owned()),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_limit_is_counted_as_the_issue_says() {
        let cases = [
            (json!(1), 1),
            (json!("10%"), 20),
            (json!("0.1%"), 1),
            (json!("1%"), 2),
            (json!(7), 7),
        ];
        for (limit, expected) in cases {
            assert_eq!(allowed(&limit, 200), expected, "{limit}");
        }
        assert_eq!(allowed(&json!("10%"), 3), 1);
    }
}
