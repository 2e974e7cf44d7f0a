//! Names that users and their scripts know: group, kinds, objects, environment. Upstream's, letter by letter.

/// API group and version of every custom resource.
pub const API_VERSION: &str = "sriovnetwork.openshift.io/v1";
pub const GROUP: &str = "sriovnetwork.openshift.io";
/// API group and version of the NetworkAttachmentDefinition (Network Plumbing Working Group).
pub const NAD_API_VERSION: &str = "k8s.cni.cncf.io/v1";

pub const POLICY: &str = "SriovNetworkNodePolicy";
pub const NODE_STATE: &str = "SriovNetworkNodeState";
pub const POOL: &str = "SriovNetworkPoolConfig";
pub const SRIOV_NETWORK: &str = "SriovNetwork";
pub const IB_NETWORK: &str = "SriovIBNetwork";
pub const OVS_NETWORK: &str = "OVSNetwork";
pub const OPERATOR_CONFIG: &str = "SriovOperatorConfig";
pub const NETWORK_ATTACHMENT: &str = "NetworkAttachmentDefinition";

/// Key of the taint of a node whose devices were not verified since its boot (ours).
pub const NOT_READY: &str = "ironrail.dev/not-ready";

/// The namespace that the manifests install into; at run time it comes from `NAMESPACE`.
pub const NAMESPACE: &str = "sriov-network-operator";
/// Name of the one SriovOperatorConfig that is acted on.
pub const DEFAULT_CONFIG: &str = "default";
/// The resource prefix where `RESOURCE_PREFIX` says nothing else.
pub const RESOURCE_PREFIX: &str = "openshift.io";
/// In `SriovOperatorConfig.spec.featureGates`: the RDMA modules may be reloaded for a mode, where no reboot is needed then.
pub const MODE_RELOAD_GATE: &str = "rdmaModeReload";

/// Field manager of server-side apply, and component of events, on the cluster side.
pub const OPERATOR: &str = "sriov-network-operator";
/// Field manager and event component of the node daemon.
pub const DAEMON: &str = "sriov-network-config-daemon";
pub const DEVICE_PLUGIN: &str = "sriov-device-plugin";
/// ConfigMap in upstream's shape, written for tools that read it; nothing of ours does.
pub const DEVICE_PLUGIN_CONFIG: &str = "device-plugin-config";
pub const SUPPORTED_NIC_IDS: &str = "supported-nic-ids";

/// Finalizers of upstream, kept so that objects of either operator can be deleted under the other.
pub const NETWORK_FINALIZER: &str = "netattdef.finalizers.sriovnetwork.openshift.io";
pub const POOL_FINALIZER: &str = "poolconfig.finalizers.sriovnetwork.openshift.io";
pub const CONFIG_FINALIZER: &str = "operatorconfig.finalizers.sriovnetwork.openshift.io";
