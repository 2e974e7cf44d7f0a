//! Annotation keys and their values. The drain protocol between daemon and operator is upstream's.

/// On Node: what the daemon asks for: `Idle`, `Drain_Required`, `Reboot_Required`.
pub const NODE_STATE: &str = "sriovnetwork.openshift.io/state";
/// On NodeState: the mirror of the request.
pub const DESIRED_STATE: &str = "sriovnetwork.openshift.io/desired-state";
/// On NodeState: what the operator has done: `Idle`, `Draining`, `DrainComplete`.
pub const CURRENT_STATE: &str = "sriovnetwork.openshift.io/current-state";
/// On NodeState: `"true"` means that somebody else drains this node.
pub const EXTERNAL_DRAINER: &str = "sriovnetwork.openshift.io/use-external-drainer";
/// On the node state: it was this operator, by `USE_EXTERNAL_DRAINER`, that gave it to an external drainer.
pub const HANDED_OVER: &str = "ironrail.dev/handed-to-external-drainer";
/// On NodeState: earliest deletion of a node state whose node left.
pub const KEEP_UNTIL: &str = "sriovnetwork.openshift.io/keep-state-until";
/// On NetworkAttachmentDefinition: `<Kind>.sriovnetwork.openshift.io/<namespace>/<name>`.
pub const OWNER: &str = "sriovnetwork.openshift.io/owner-ref";
/// On NetworkAttachmentDefinition: the resource that Multus and the injector look for.
pub const RESOURCE_NAME: &str = "k8s.v1.cni.cncf.io/resourceName";
/// On network kinds: the namespace where the NetworkAttachmentDefinition was last written.
pub const LAST_NETWORK_NAMESPACE: &str =
    "operator.sriovnetwork.openshift.io/last-network-namespace";
/// On Pod: the networks that Multus attaches.
pub const NETWORKS: &str = "k8s.v1.cni.cncf.io/networks";
/// On Pod: what Multus attached.
pub const NETWORK_STATUS: &str = "k8s.v1.cni.cncf.io/network-status";
/// On Node (ours): `"true"` marks a cordon that the operator set and may undo.
pub const CORDONED_BY_US: &str = "ironrail.dev/cordoned";
/// On NodeState (ours): `since` of the grant under which the last drain was started; such a grant starts no other.
pub const GRANT: &str = "ironrail.dev/grant";
/// On NodeState (ours): the same for the cluster-wide grant of a control-plane node.
pub const CONTROL_PLANE_GRANT: &str = "ironrail.dev/control-plane-grant";
/// On NodeState (ours), while the node is asked to be drained: the pods that have ended there, as `custody::EndedPod`.
pub const ENDED_PODS: &str = "ironrail.dev/ended-pods";
/// On NodeState (ours): the boot of the node that needs no taint any more, where a policy asks for `taintUntilReady`.
pub const VERIFIED_BOOT: &str = "ironrail.dev/verified-boot";
/// On SriovNetworkPoolConfig (ours): a new value resumes a rollout that is halted or paused, and takes up skipped nodes.
pub const RESUME: &str = "ironrail.dev/resume";

/// On Node (ours): each new value is a person's leave to ask once more for reboots that the ledger has closed.
pub const RETRY_REBOOT: &str = "ironrail.dev/retry-reboot";
/// On Node, of OpenShift's Machine Config Operator: the configuration that the node is to have.
pub const DESIRED_CONFIG: &str = "machineconfiguration.openshift.io/desiredConfig";
/// The rendered machine configuration that a node has (OpenShift).
pub const CURRENT_CONFIG: &str = "machineconfiguration.openshift.io/currentConfig";

/// On MachineConfigPool, under the key of `NODE_STATE` as upstream: the pool is paused, and by us.
pub const PAUSED: &str = "Paused";
pub const IDLE: &str = "Idle";
pub const DRAIN_REQUIRED: &str = "Drain_Required";
pub const REBOOT_REQUIRED: &str = "Reboot_Required";
pub const DRAINING: &str = "Draining";
pub const DRAIN_COMPLETE: &str = "DrainComplete";
