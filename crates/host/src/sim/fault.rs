//! The misbehaviours that a machine can be told to have. The plain rules of the kernel are not here: a fault is
//! what some machines in the field do and others do not.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Fault {
    /// The kernel command line shows `ib_core.netns_mode`, and the module does not heed it.
    IgnoresKernelArgument,
    /// ib_core is loaded by an initramfs that holds an older modprobe.d.
    IgnoresModprobeOption,
    /// ib_core comes from a driver container, which mounts `/etc/modprobe.d/ib_core.conf` of the host and no other.
    DriverContainer,
    /// The boot-loader tool says yes and the next boot has the old command line.
    LosesKernelArgument,
    /// A reboot is accepted and never happens.
    IgnoresReboot,
    /// The program `reboot` ends with an error, as where the host's policy or an inhibitor refuses it.
    RefusesReboot,
    /// A boot starts a service with a network namespace of its own, so that no boot is free of other namespaces.
    ServiceWithPrivateNetwork,
    /// A change of the RDMA mode is refused with EBUSY even when the host's namespace is the only one.
    RefusesRdmaMode,
    /// The host has a disk by NVMe over RDMA: `nvme_rdma` is loaded and has queue pairs on the first RDMA device.
    NvmeOverRdma,
    /// The GPU's driver for RDMA into its memory is loaded (`nvidia_peermem`), which is not of the kernel's tree.
    PeerMemory,
    /// A process of the host has an RDMA device open.
    RdmaProcess,
    /// `ib_uverbs` cannot be unloaded, and nothing shows why: a process opened a device a moment ago.
    ModuleStays,
    /// `mlx5_ib` was unloaded and cannot be loaded again: modprobe ends with the kernel's ENOMEM (belief).
    ModuleLoadsNoMore,
    /// `vhost_net` is not signed with a key that the kernel knows, and such a module is refused with EPERM
    /// (kernel/module/signing.c, module_sig_check, under lockdown; belief: kmod's words for it).
    ModuleNotSigned,
    /// The driver has no `disassociate_ucontext`: moving its RDMA device is EOPNOTSUPP in exclusive mode too.
    RdmaMoveUnsupported,
    /// VFs appear on the bus three seconds after the write of `sriov_numvfs` has returned.
    VfsAppearLate,
    /// The driver makes one VF fewer than asked, and the write succeeds.
    DriverMakesFewerVfs,
    /// `sriov_numvfs` refuses every change with EBUSY.
    VfCountBusy,
    /// `sriov_numvfs` refuses new VFs with ENOMEM: the firmware reserved no address space.
    NoRoomForVfs,
    /// Taking VFs away blocks the writer for two minutes, as an open queue pair on one of them does until its process ends
    /// (lab.md section 3).
    VfRemovalBlocks,
    /// The driver rejects VFs when it probes them.
    VfProbeFails,
    /// The interface of a VF comes three seconds after its driver was bound: iavf registers it when the PF has answered
    /// (drivers/net/ethernet/intel/iavf/iavf_main.c, iavf_init_config_adapter, called by its watchdog).
    VfInterfaceLate,
    /// The first start of a VF's driver makes no interface, and the second one does: the PF was at a reset (belief).
    VfInterfaceLost,
    /// udev loses the race after a rebind: the netdev comes up as `eth<n>`.
    RenamesAfterRebind,
    /// A move of an RDMA device never gets its old uverbs number back.
    RenumbersUverbs,
    /// The driver of a VF makes up a MAC although the PF holds one for it (belief: it was down and did not answer; igbvf,
    /// drivers/net/ethernet/intel/igbvf/netdev.c, igbvf_probe).
    VfIgnoresItsMac,
    /// The PF accepts a VF's MAC and keeps the old one.
    IgnoresVfMac,
    /// The PF accepts a VF's port GUID and keeps the old one (belief).
    IgnoresVfPortGuid,
    /// The node GUID of a VF stays zero whatever is set.
    GuidStaysZero,
    /// No IOMMU: vfio-pci refuses to probe.
    NoIommu,
    /// The kernel is locked down (integrity): firmware tools are refused.
    LockedDown,
    /// Durable directories are full: ENOSPC on replace.
    DiskFull,
    /// `/etc` is read-only.
    ReadOnlyEtc,
}
