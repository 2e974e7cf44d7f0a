//! Contents of the kernel's files: the same bytes stand in every file that an operation reads, and in one file of a card that
//! is observed. Nothing may panic; an operation that cannot read what it needs changes nothing, and what cannot be observed
//! is named.
#![no_main]

use host::linux::LinuxHost;
use host::sim::{Broken, Flavour, Machine, SimHost};
use host::{Host, cdi, kernel_argument, lockdown, rdma_mode, vf_count};
use libfuzzer_sys::fuzz_target;
use std::path::PathBuf;
use std::sync::LazyLock;

const FILES: [&str; 8] = [
    "sys/bus/pci/devices/0000:3b:00.0/sriov_totalvfs",
    "sys/bus/pci/devices/0000:3b:00.0/sriov_drivers_autoprobe",
    "sys/class/infiniband_verbs/uverbs0/ibdev",
    "sys/class/infiniband_verbs/uverbs0/dev",
    "sys/kernel/security/lockdown",
    "sys/module/ib_core/taint",
    "proc/1/mounts",
    "proc/sys/kernel/osrelease",
];
const COUNT: &str = "sys/bus/pci/devices/0000:3b:00.0/sriov_numvfs";

/// What the daemon reads of a node, one at a time.
const OBSERVED: [&str; 24] = [
    "/sys/bus/pci/devices/0000:03:00.0/class",
    "/sys/bus/pci/devices/0000:03:00.0/vendor",
    "/sys/bus/pci/devices/0000:03:00.0/device",
    "/sys/bus/pci/devices/0000:03:00.0/numa_node",
    "/sys/bus/pci/devices/0000:03:00.0/sriov_totalvfs",
    "/sys/bus/pci/devices/0000:03:00.0/sriov_numvfs",
    "/sys/bus/pci/devices/0000:03:00.0/sriov_vf_device",
    "/sys/bus/pci/devices/0000:03:00.0/sriov_drivers_autoprobe",
    "/sys/bus/pci/devices/0000:03:00.2/vendor",
    "/sys/bus/pci/devices/0000:03:00.2/device",
    "/sys/bus/pci/devices/0000:03:00.2/driver_override",
    "/sys/class/net/enp3s0f0/speed",
    "/sys/class/net/enp3s0f0/phys_port_name",
    "/sys/class/net/enp3s0f0/phys_switch_id",
    "/sys/class/infiniband/mlx5_0/node_guid",
    "/sys/class/infiniband/mlx5_0/ports/1/state",
    "/sys/class/infiniband_verbs/uverbs0/ibdev",
    "/sys/class/infiniband_verbs/uverbs0/dev",
    "/sys/kernel/security/lockdown",
    "/sys/module/ib_core/parameters/netns_mode",
    "/proc/1/mounts",
    "/proc/sys/kernel/random/boot_id",
    "/proc/cmdline",
    "/etc/os-release",
];

static MACHINE: LazyLock<Machine> = LazyLock::new(|| {
    let clock = "2026-01-01T00:00:00Z".parse().expect("a time");
    let mut machine = Machine::small_worker("worker-0", Flavour::Ubuntu, clock);
    machine.boot();
    let host = SimHost::new(machine);
    host.write("/sys/bus/pci/devices/0000:03:00.0/sriov_numvfs", "2").expect("VFs are made");
    host.snapshot()
});

/// The first byte says which file it is.
fn observed(data: &[u8]) {
    let Some((first, content)) = data.split_first() else { return };
    let file = OBSERVED[usize::from(*first) % OBSERVED.len()];
    let says = Broken::Says(String::from_utf8_lossy(content).into_owned());
    let mut machine = MACHINE.clone();
    machine.broken.insert(file.to_owned(), says);
    let host = SimHost::new(machine);
    if let Err(error) = node::observe::observe(&host, Vec::new()) {
        assert!(error.to_string().starts_with("cannot observe "), "{file}: {error}");
    }
}

static ROOT: LazyLock<PathBuf> = LazyLock::new(|| {
    let root = std::env::temp_dir().join(format!("ironrail-fuzz-{}", std::process::id()));
    for file in FILES.iter().chain([&COUNT]) {
        let path = root.join(file);
        std::fs::create_dir_all(path.parent().expect("a file has a directory")).expect("a directory");
    }
    // The VF that an accepted count brings; without it the operation would wait for it, for two minutes.
    let vf = root.join("sys/bus/pci/devices/0000:3b:00.0/virtfn0");
    std::os::unix::fs::symlink("../0000:3b:00.1", vf).expect("a link");
    root
});

fuzz_target!(|data: &[u8]| {
    observed(data);
    for file in FILES {
        std::fs::write(ROOT.join(file), data).expect("a file");
    }
    std::fs::write(ROOT.join(COUNT), "0\n").expect("a file");
    let host = LinuxHost::new(&ROOT.to_string_lossy()).expect("a root");
    let pf = "0000:3b:00.0".parse().expect("an address");
    // The most that a file may say is what a u32 holds; a card that allows none is left alone.
    let set = vf_count::set(&host, &pf, 1, true);
    let count = std::fs::read_to_string(ROOT.join(COUNT)).expect("a file");
    assert_eq!(count, if set.is_ok() { "1" } else { "0\n" }, "{set:?}");
    let _ = cdi::rdma_nodes(&host, "mlx5_0");
    let _ = lockdown::is_on(&host);
    let _ = kernel_argument::tool(&host);
    let _ = rdma_mode::option_writable(&host);
    let _ = rdma_mode::in_driver_container(&host);
});
