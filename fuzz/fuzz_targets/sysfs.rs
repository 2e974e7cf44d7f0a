//! Contents of the kernel's files: the same bytes stand in every file that an operation reads. Nothing may panic, and an
//! operation that cannot read what it needs changes nothing.
#![no_main]

use host::linux::LinuxHost;
use host::{cdi, firmware, kernel_argument, rdma_mode, vf_count};
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
    let _ = firmware::locked_down(&host);
    let _ = kernel_argument::tool(&host);
    let _ = rdma_mode::option_writable(&host);
    let _ = rdma_mode::in_driver_container(&host);
});
