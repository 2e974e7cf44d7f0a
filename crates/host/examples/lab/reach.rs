//! Which misbehaviours of the simulation the lab's machine shows, and why it cannot show the others.

use host::sim::Fault;

pub enum Reach {
    /// The case that shows it.
    Seen(&'static str),
    /// Why not here.
    Not(&'static str),
}

/// Every fault; a new one does not compile until it is judged here.
pub fn of(fault: Fault) -> Reach {
    use Reach::{Not, Seen};
    const FIRMWARE: &str = "the emulated card has no firmware that could do it";
    const OTHER_BOOT: &str = "it happens between two boots, and the machine boots once";
    match fault {
        Fault::RdmaMoveUnsupported => {
            Seen("a soft rdma device is found by its interface and cannot be moved")
        }
        Fault::RefusesRdmaMode => Seen("the rdma mode changes while no other namespace exists"),
        Fault::RdmaProcess => {
            Seen("an rdma device that a process has open keeps the modules, and none is touched")
        }
        Fault::NvmeOverRdma => Not("the machine has no target for NVMe over RDMA"),
        Fault::PeerMemory => Not("the machine has no GPU"),
        Fault::ModuleLoadsNoMore => Not("the machine's modules load whenever they are asked for"),
        Fault::ModuleStays => Not("it is a race of a moment"),
        Fault::IgnoresKernelArgument | Fault::IgnoresModprobeOption => {
            Not("it takes an initramfs that holds an older modprobe.d; the machine's holds none")
        }
        Fault::DriverContainer => {
            Not("a driver container is NVIDIA's, and its modules need a card")
        }
        Fault::LosesKernelArgument
        | Fault::IgnoresReboot
        | Fault::RefusesReboot
        | Fault::ServiceWithPrivateNetwork => Not(OTHER_BOOT),
        Fault::VfsAppearLate | Fault::DriverMakesFewerVfs | Fault::NoRoomForVfs => Not(FIRMWARE),
        Fault::VfCountBusy => {
            Not("igb gives its VFs back whatever holds them; other drivers do not")
        }
        Fault::VfRemovalBlocks => {
            Not("soft RDMA of Linux 7.2 does it, by hand; that of 7.3 lets go of its users")
        }
        Fault::VfProbeFails => Not("igbvf takes every VF of an emulated card"),
        Fault::RenamesAfterRebind => Not("the machine has no udev that could lose the race"),
        Fault::RenumbersUverbs => Seen("an rdma device that moves takes the lowest free numbers"),
        Fault::IgnoresVfMac => Not(FIRMWARE),
        Fault::GuidStaysZero => Not("QEMU has no InfiniBand card"),
        Fault::NoIommu => Not(
            "the machine boots with its IOMMU; without one the probe of vfio-pci fails, seen by hand",
        ),
        Fault::LockedDown => {
            Not("lockdown cannot be taken back in a running kernel, and other cases need it off")
        }
        Fault::DiskFull | Fault::ReadOnlyEtc => Not(
            "files are tested on this computer's own file systems: crates/host/tests/linux_files.rs",
        ),
    }
}

pub const ALL: [Fault; 28] = [
    Fault::DriverContainer,
    Fault::IgnoresKernelArgument,
    Fault::IgnoresModprobeOption,
    Fault::LosesKernelArgument,
    Fault::IgnoresReboot,
    Fault::RefusesReboot,
    Fault::ServiceWithPrivateNetwork,
    Fault::RefusesRdmaMode,
    Fault::NvmeOverRdma,
    Fault::PeerMemory,
    Fault::RdmaProcess,
    Fault::ModuleStays,
    Fault::ModuleLoadsNoMore,
    Fault::RdmaMoveUnsupported,
    Fault::VfsAppearLate,
    Fault::DriverMakesFewerVfs,
    Fault::VfCountBusy,
    Fault::NoRoomForVfs,
    Fault::VfRemovalBlocks,
    Fault::VfProbeFails,
    Fault::RenamesAfterRebind,
    Fault::RenumbersUverbs,
    Fault::IgnoresVfMac,
    Fault::GuidStaysZero,
    Fault::NoIommu,
    Fault::LockedDown,
    Fault::DiskFull,
    Fault::ReadOnlyEtc,
];

/// One line for each that cannot be seen here.
pub fn tell() {
    for fault in ALL {
        match of(fault) {
            Reach::Seen(case) => println!("-- {fault:?}: seen in \"{case}\""),
            Reach::Not(why) => println!("-- {fault:?}: not reachable here: {why}"),
        }
    }
}
