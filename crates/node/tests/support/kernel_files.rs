//! The kernel's files that the daemon and its operations read, and who reads them. Used by the fuzz target `sysfs`, which
//! breaks them, and by a test that listens whether each is read, and no other.

use host::sim::{Flavour, Machine, SimHost};
use host::{Host, facilities, kernel_argument, lockdown, rdma_mode, vf_count};

/// What the daemon reads of `machine`, one file at a time.
pub const OBSERVED: [&str; 46] = [
    "/etc/kubernetes/kubeconfig",
    "/etc/kubernetes/kubelet.conf",
    "/etc/modprobe.d/sriov_network_operator_modules_config.conf",
    "/etc/os-release",
    "/etc/sriov-operator/infiniband/guids",
    "/proc/1/mounts",
    "/proc/1/net/tcp",
    "/proc/1/net/tcp6",
    "/proc/cmdline",
    "/proc/sys/kernel/random/boot_id",
    "/sys/bus/pci/devices/0000:00:01.0/class",
    "/sys/bus/pci/devices/0000:00:03.0/class",
    "/sys/bus/pci/devices/0000:01:00.0/class",
    "/sys/bus/pci/devices/0000:01:00.0/sriov_totalvfs",
    "/sys/bus/pci/devices/0000:01:00.0/vendor",
    "/sys/bus/pci/devices/0000:03:00.0/class",
    "/sys/bus/pci/devices/0000:03:00.0/device",
    "/sys/bus/pci/devices/0000:03:00.0/numa_node",
    "/sys/bus/pci/devices/0000:03:00.0/sriov_numvfs",
    "/sys/bus/pci/devices/0000:03:00.0/sriov_totalvfs",
    "/sys/bus/pci/devices/0000:03:00.0/sriov_vf_device",
    "/sys/bus/pci/devices/0000:03:00.0/vendor",
    "/sys/bus/pci/devices/0000:03:00.1/class",
    "/sys/bus/pci/devices/0000:03:00.1/device",
    "/sys/bus/pci/devices/0000:03:00.1/numa_node",
    "/sys/bus/pci/devices/0000:03:00.1/sriov_numvfs",
    "/sys/bus/pci/devices/0000:03:00.1/sriov_totalvfs",
    "/sys/bus/pci/devices/0000:03:00.1/sriov_vf_device",
    "/sys/bus/pci/devices/0000:03:00.1/vendor",
    "/sys/bus/pci/devices/0000:03:00.2/class",
    "/sys/bus/pci/devices/0000:03:00.3/class",
    "/sys/class/iscsi_connection/connection0:0/address",
    "/sys/class/iscsi_connection/connection0:0/persistent_address",
    "/sys/class/iscsi_session/session0/targetname",
    "/sys/class/net/enp3s0f0/speed",
    "/sys/class/net/enp3s0f1/speed",
    "/sys/class/nvme/nvme0/address",
    "/sys/class/nvme/nvme0/subsysnqn",
    "/sys/class/nvme/nvme0/transport",
    "/sys/kernel/security/lockdown",
    "/sys/module/ib_core/taint",
    "/var/lib/ironrail/initial.json",
    "/var/lib/ironrail/reboots.json",
    "/var/lib/kubelet/kubeconfig",
    "/var/lib/rancher/k3s/agent/kubelet.kubeconfig",
    "/var/lib/rancher/rke2/agent/kubelet.kubeconfig",
];

/// What `operate` reads of a host that has these alone and `COUNT`.
pub const OPERATED: [&str; 8] = [
    "/proc/1/mounts",
    "/proc/sys/kernel/random/boot_id",
    "/sys/bus/pci/devices/0000:3b:00.0/infiniband_verbs/uverbs0/ibdev",
    "/sys/bus/pci/devices/0000:3b:00.0/sriov_drivers_autoprobe",
    "/sys/bus/pci/devices/0000:3b:00.0/sriov_totalvfs",
    "/sys/kernel/security/lockdown",
    "/sys/module/ib_core/taint",
    "/var/lib/ironrail/autoprobe/0000:3b:00.0",
];
pub const COUNT: &str = "/sys/bus/pci/devices/0000:3b:00.0/sriov_numvfs";

/// A worker with two VFs, whose API server is told by a name, and which has block devices over the network.
pub fn machine() -> Machine {
    let clock = "2026-01-01T00:00:00Z".parse().expect("a time");
    let mut machine = Machine::small_worker("worker-0", Flavour::Ubuntu, clock);
    machine.boot();
    machine.sessions.connections = vec!["10.0.0.3:6443".parse().expect("an address")];
    machine.sessions.iscsi = vec![("iqn.2003-01.org.example:a".to_owned(), "10.9.0.6".to_owned())];
    let nvme = ["tcp", "traddr=10.9.0.7,trsvcid=4420", "nqn.2014-08.org.example:a"];
    machine.sessions.nvme = vec![nvme.map(str::to_owned).into()];
    let kubeconfig = b"server: https://api.example:6443\n".to_vec();
    machine.files.insert("/etc/kubernetes/kubelet.conf".to_owned(), kubeconfig);
    let host = SimHost::new(machine);
    host.write("/sys/bus/pci/devices/0000:03:00.0/sriov_numvfs", "2").expect("VFs are made");
    host.snapshot()
}

/// One VF is asked for, and all that is read on the way to other changes; what came of the VF.
pub fn operate(host: &dyn Host) -> Result<(), String> {
    let pf = "0000:3b:00.0".parse().expect("an address");
    let set = vf_count::set(host, &pf, 1, false);
    let _ = facilities::rdma_device_anywhere(host, &pf);
    let _ = lockdown::is_on(host);
    let _ = kernel_argument::tool(host);
    let _ = rdma_mode::option_writable(host);
    let _ = rdma_mode::in_driver_container(host);
    set.map(drop).map_err(|error| error.to_string())
}
