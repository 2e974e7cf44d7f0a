//! What the operator is told by its environment, read once by the binary's main (or by the playground in its place).

use api::names;
use std::collections::BTreeMap;
use std::time::Duration;

/// The environment of the operator, by the names that upstream's manifests use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `NAMESPACE`: where the operator lives; policies, pools and node states count only there.
    pub namespace: String,
    /// `POD_NAME`: the operator's own pod, which moves first when its node is drained.
    pub pod_name: String,
    /// `RESOURCE_PREFIX`.
    pub resource_prefix: String,
    /// `CLUSTER_TYPE`: `kubernetes` or `openshift`.
    pub cluster_type: String,
    /// `SRIOV_NETWORK_CONFIG_DAEMON_IMAGE`.
    pub daemon_image: String,
    /// `SRIOV_DEVICE_PLUGIN_IMAGE`.
    pub device_plugin_image: String,
    /// `SRIOV_CNI_BIN_PATH`: directory on the host.
    pub cni_bin_path: String,
    /// `KUBELET_ROOT_DIR`: the kubelet's `--root-dir` on the nodes.
    pub kubelet_root: String,
    /// `IMAGE_PULL_SECRETS`, separated by commas.
    pub image_pull_secrets: Vec<String>,
    /// `USE_EXTERNAL_DRAINER`, exactly `true`.
    pub external_drainer: bool,
    /// `STALE_NODE_STATE_CLEANUP_DELAY_MINUTES`: how long the state of a node that left is kept.
    pub stale_node_state_delay: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            namespace: names::NAMESPACE.to_owned(),
            pod_name: String::new(),
            resource_prefix: names::RESOURCE_PREFIX.to_owned(),
            cluster_type: "kubernetes".to_owned(),
            daemon_image: String::new(),
            device_plugin_image: String::new(),
            cni_bin_path: "/opt/cni/bin".to_owned(),
            kubelet_root: "/var/lib/kubelet".to_owned(),
            image_pull_secrets: Vec::new(),
            external_drainer: false,
            stale_node_state_delay: STALE_DELAY,
        }
    }
}

/// Upstream's default.
const STALE_DELAY: Duration = Duration::from_secs(30 * 60);

impl Settings {
    /// Reads the environment. Like upstream it refuses to start without a resource prefix, since pods would ask
    /// for resources that nobody offers.
    pub fn of(environment: &BTreeMap<String, String>) -> Result<Self, String> {
        let text = |name: &str| environment.get(name).cloned().unwrap_or_default();
        let or = |name: &str, default: String| match text(name) {
            empty if empty.is_empty() => default,
            given => given,
        };
        let defaults = Self::default();
        let resource_prefix = text("RESOURCE_PREFIX");
        if resource_prefix.is_empty() {
            return Err(format!(
                "RESOURCE_PREFIX is empty; set it in the operator's Deployment, for example to {}",
                names::RESOURCE_PREFIX
            ));
        }
        let cluster_type = or("CLUSTER_TYPE", defaults.cluster_type);
        if !["kubernetes", "openshift"].contains(&cluster_type.as_str()) {
            return Err(format!("CLUSTER_TYPE is {cluster_type:?}; write kubernetes or openshift"));
        }
        // Upstream's rule: a number that makes no sense counts as the default, 0 means at once.
        let minutes = text("STALE_NODE_STATE_CLEANUP_DELAY_MINUTES").parse::<u32>();
        let daemon_image = text("SRIOV_NETWORK_CONFIG_DAEMON_IMAGE");
        Ok(Self {
            namespace: or("NAMESPACE", defaults.namespace),
            pod_name: text("POD_NAME"),
            resource_prefix,
            cluster_type,
            device_plugin_image: or("SRIOV_DEVICE_PLUGIN_IMAGE", daemon_image.clone()),
            daemon_image,
            cni_bin_path: or("SRIOV_CNI_BIN_PATH", defaults.cni_bin_path),
            kubelet_root: or("KUBELET_ROOT_DIR", defaults.kubelet_root),
            image_pull_secrets: text("IMAGE_PULL_SECRETS")
                .split(',')
                .map(|name| name.trim().to_owned())
                .filter(|name| !name.is_empty())
                .collect(),
            external_drainer: text("USE_EXTERNAL_DRAINER") == "true",
            stale_node_state_delay: minutes
                .map_or(STALE_DELAY, |minutes| Duration::from_secs(u64::from(minutes) * 60)),
        })
    }

    /// True where machine-config pools have to be paused around drains.
    pub fn is_openshift(&self) -> bool {
        self.cluster_type == "openshift"
    }

    /// The full name of a resource: `openshift.io/rdma_vf`.
    pub fn resource(&self, name: &str) -> String {
        format!("{}/{name}", self.resource_prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(environment: &[(&str, &str)], expected: Expect) {
        let environment =
            environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let text = match Settings::of(&environment) {
            Ok(settings) => format!(
                "{} {} {} after {} s",
                settings.namespace,
                settings.resource("r"),
                settings.device_plugin_image,
                settings.stale_node_state_delay.as_secs()
            ),
            Err(problem) => problem,
        };
        expected.assert_eq(&text);
    }

    #[test]
    fn without_a_prefix_it_does_not_start() {
        check(
            &[],
            expect![
                "RESOURCE_PREFIX is empty; set it in the operator's Deployment, for example to openshift.io"
            ],
        );
    }

    #[test]
    fn an_unknown_cluster_type_is_refused() {
        check(
            &[("RESOURCE_PREFIX", "x"), ("CLUSTER_TYPE", "nomad")],
            expect![[r#"CLUSTER_TYPE is "nomad"; write kubernetes or openshift"#]],
        );
    }

    #[test]
    fn a_delay_that_is_no_number_is_half_an_hour_and_one_image_serves_both() {
        let all = [
            ("NAMESPACE", "ours"),
            ("RESOURCE_PREFIX", "acme.io"),
            ("SRIOV_NETWORK_CONFIG_DAEMON_IMAGE", "ironrail"),
            ("STALE_NODE_STATE_CLEANUP_DELAY_MINUTES", "-5"),
        ];
        check(&all, expect!["ours acme.io/r ironrail after 1800 s"]);
    }
}
