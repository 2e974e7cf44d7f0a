//! Label keys and values.

/// On Node: `Enabled` where the device plugin has something to offer, else `Disabled`.
pub const DEVICE_PLUGIN: &str = "sriovnetwork.openshift.io/device-plugin";
pub const ENABLED: &str = "Enabled";
pub const DISABLED: &str = "Disabled";
pub const WORKER: &str = "node-role.kubernetes.io/worker";
pub const CONTROL_PLANE: &str = "node-role.kubernetes.io/control-plane";
pub const OS: &str = "kubernetes.io/os";
