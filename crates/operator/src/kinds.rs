//! What the operator watches: each kind with its scope, and the paths of the API that list it.
//!
//! A table only; who reads the events is `controllers`, who opens the connections is `drive`.

use api::names;
use api::wire::ObjectKey;

/// Where the objects of a kind are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    Cluster,
    /// Only the operator's own namespace counts, as upstream: elsewhere these kinds are not acted on.
    OurNamespace,
    /// Counts in our namespace; elsewhere it is seen, to say that it does not count there.
    OursSeenEverywhere,
    AllNamespaces,
}

/// One watched kind.
#[derive(Debug, PartialEq, Eq)]
pub struct Kind {
    pub api_version: &'static str,
    pub kind: &'static str,
    pub scope: Scope,
    /// True where a cluster may lack the kind: without Multus there is no NetworkAttachmentDefinition.
    pub optional: bool,
    /// Watched on OpenShift only: elsewhere nobody has the right to, and the API says so before it says that there is
    /// no such kind. The operator works without it, and waits where it would have to know.
    pub openshift: bool,
}

impl Kind {
    const fn new(api_version: &'static str, kind: &'static str, scope: Scope) -> Self {
        Self { api_version, kind, scope, optional: false, openshift: false }
    }

    /// The path that lists and watches the kind.
    pub fn path(&self, namespace: &str) -> String {
        let namespace = match self.scope {
            Scope::OurNamespace => namespace,
            Scope::Cluster | Scope::OursSeenEverywhere | Scope::AllNamespaces => "",
        };
        ObjectKey::new(self.api_version, self.kind, namespace, "").collection_path()
    }
}

pub const NODE: &str = "Node";
pub const POD: &str = "Pod";
pub const BUDGET: &str = "PodDisruptionBudget";
pub const NAMESPACE: &str = "Namespace";
pub const DAEMON_SET: &str = "DaemonSet";
pub const CONFIG_MAP: &str = "ConfigMap";
pub const MACHINE_CONFIG_POOL: &str = "MachineConfigPool";
pub const INFRASTRUCTURE: &str = "Infrastructure";

/// Every kind that the operator watches. A step may read nothing else.
pub const KINDS: &[Kind] = &[
    Kind::new(names::API_VERSION, names::OPERATOR_CONFIG, Scope::OurNamespace),
    Kind::new(names::API_VERSION, names::POOL, Scope::OursSeenEverywhere),
    Kind::new(names::API_VERSION, names::POLICY, Scope::OursSeenEverywhere),
    Kind::new(names::API_VERSION, names::NODE_STATE, Scope::OurNamespace),
    Kind::new(names::API_VERSION, names::SRIOV_NETWORK, Scope::AllNamespaces),
    Kind::new(names::API_VERSION, names::IB_NETWORK, Scope::AllNamespaces),
    Kind::new(names::API_VERSION, names::OVS_NETWORK, Scope::AllNamespaces),
    Kind {
        optional: true,
        ..Kind::new(names::NAD_API_VERSION, names::NETWORK_ATTACHMENT, Scope::AllNamespaces)
    },
    Kind {
        optional: true,
        openshift: true,
        ..Kind::new("machineconfiguration.openshift.io/v1", MACHINE_CONFIG_POOL, Scope::Cluster)
    },
    Kind {
        optional: true,
        openshift: true,
        ..Kind::new("config.openshift.io/v1", INFRASTRUCTURE, Scope::Cluster)
    },
    Kind::new("v1", NODE, Scope::Cluster),
    Kind::new("v1", NAMESPACE, Scope::Cluster),
    Kind::new("v1", POD, Scope::AllNamespaces),
    Kind::new("v1", CONFIG_MAP, Scope::OurNamespace),
    Kind::new("policy/v1", BUDGET, Scope::AllNamespaces),
    Kind::new("apps/v1", DAEMON_SET, Scope::OurNamespace),
];

/// The row of the table for a kind; None for a kind that nobody here reads.
pub fn find(api_version: &str, kind: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|row| row.api_version == api_version && row.kind == kind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn each_kind_is_watched_where_it_counts() {
        let paths: Vec<String> = KINDS.iter().map(|kind| kind.path("ours")).collect();
        expect![[r#"
            /apis/sriovnetwork.openshift.io/v1/namespaces/ours/sriovoperatorconfigs
            /apis/sriovnetwork.openshift.io/v1/sriovnetworkpoolconfigs
            /apis/sriovnetwork.openshift.io/v1/sriovnetworknodepolicies
            /apis/sriovnetwork.openshift.io/v1/namespaces/ours/sriovnetworknodestates
            /apis/sriovnetwork.openshift.io/v1/sriovnetworks
            /apis/sriovnetwork.openshift.io/v1/sriovibnetworks
            /apis/sriovnetwork.openshift.io/v1/ovsnetworks
            /apis/k8s.cni.cncf.io/v1/network-attachment-definitions
            /apis/machineconfiguration.openshift.io/v1/machineconfigpools
            /apis/config.openshift.io/v1/infrastructures
            /api/v1/nodes
            /api/v1/namespaces
            /api/v1/pods
            /api/v1/namespaces/ours/configmaps
            /apis/policy/v1/poddisruptionbudgets
            /apis/apps/v1/namespaces/ours/daemonsets"#]]
        .assert_eq(&paths.join("\n"));
    }
}
