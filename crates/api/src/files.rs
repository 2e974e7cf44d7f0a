//! Paths on the host that more than one of our programs, or upstream, uses.

/// tmpfs directory of offer, claims and locks; a boot starts it empty.
pub const RUN: &str = "/run/ironrail";
pub const OFFER: &str = "/run/ironrail/offer.json";
pub const CLAIMS: &str = "/run/ironrail/claims.json";
/// Held by the device plugin for life: free means that none is running.
pub const DEVICE_PLUGIN_LOCK: &str = "/run/ironrail/device-plugin.lock";
/// The RDMA modules that are to be loaded again, while they are reloaded.
pub const RELOAD: &str = "/run/ironrail/rdma-reload.json";
/// What the host lives by, and lived by a moment ago.
pub const LIFELINES: &str = "/run/ironrail/lifelines.json";
/// Directory of one lock per VF, by PCI address; held by the daemon and by CNI ADD and DEL.
pub const VF_LOCKS: &str = "/run/ironrail/vf";
/// Durable state on the host.
pub const STATE: &str = "/var/lib/ironrail";
/// The last order of the daemon, for the boot phases.
pub const ORDER: &str = "/var/lib/ironrail/order.json";
/// Where systemd runs, and nothing else does.
pub const RUN_SYSTEMD: &str = "/run/systemd/system";
pub const REBOOTS: &str = "/var/lib/ironrail/reboots.json";
/// Directory of the CNI journal: one file per device, by PCI address.
pub const CNI_JOURNAL: &str = "/var/lib/ironrail/cni";
/// Upstream's notes of the namespace that each VF was given to: one file per device, by PCI address.
pub const ALLOCATIONS: &str = "/var/lib/cni/sriov/pci";
/// What the host was like when we first saw it.
pub const INITIAL: &str = "/var/lib/ironrail/initial.json";
/// Upstream's file of the RDMA mode; kept, so that either operator finds the other's.
pub const MODPROBE: &str = "/etc/modprobe.d/sriov_network_operator_modules_config.conf";
/// First line of that file.
pub const MODPROBE_HEADER: &str = "# This file is managed by sriov-network-operator do not edit.";
/// The one file of `modprobe.d` that NVIDIA's driver container mounts from the host.
pub const MODPROBE_OF_CONTAINER: &str = "/etc/modprobe.d/ib_core.conf";
/// Upstream's PF store: one JSON file per PF that the operator configured.
pub const PF_STORE: &str = "/etc/sriov-operator/pci";
/// Static GUIDs for InfiniBand VFs, written by an administrator in upstream's format.
pub const GUIDS: &str = "/etc/sriov-operator/infiniband/guids";
/// CDI specs of our devices.
pub const CDI: &str = "/var/run/cdi";
pub const DEVICE_PLUGINS: &str = "/var/lib/kubelet/device-plugins";
/// What the kubelet's device manager remembers of the devices that it gave, where the kubelet has its default root.
pub const KUBELET_CHECKPOINT: &str = "/var/lib/kubelet/device-plugins/kubelet_internal_checkpoint";
pub const KUBELET_SOCKET: &str = "/var/lib/kubelet/device-plugins/kubelet.sock";
pub const POD_RESOURCES_SOCKET: &str = "/var/lib/kubelet/pod-resources/kubelet.sock";
/// Node-wide lock of RDMA device moves; upstream's `ib-sriov` takes the same one.
pub const RDMA_LOCK: &str = "/var/run/cni/ib-sriov/cni.lock";
