//! Label keys and values.

/// On Node: `Enabled` where the device plugin has something to offer, else `Disabled`.
pub const DEVICE_PLUGIN: &str = "sriovnetwork.openshift.io/device-plugin";
pub const ENABLED: &str = "Enabled";
pub const DISABLED: &str = "Disabled";
pub const WORKER: &str = "node-role.kubernetes.io/worker";
pub const CONTROL_PLANE: &str = "node-role.kubernetes.io/control-plane";
/// The older label of the same role, which some distributions still set.
pub const MASTER: &str = "node-role.kubernetes.io/master";
pub const OS: &str = "kubernetes.io/os";
