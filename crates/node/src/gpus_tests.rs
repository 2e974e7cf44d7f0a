#![allow(clippy::disallowed_methods, reason = "the files of the machine are made here")]

use super::*;
use crate::proto::v1::{ContainerResources, NumaNode, TopologyInfo};
use host::linux::LinuxHost;
use std::path::Path;

const A100: &str = "0000:17:00.0";

fn tree(root: &Path) {
    let file = |path: &str, text: &str| {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let function = |pci: &str, above: &str, class: &str, vendor: &str| {
        let path = format!("sys/devices/{above}/{pci}");
        file(&format!("{path}/class"), &format!("{class}\n"));
        file(&format!("{path}/vendor"), &format!("{vendor}\n"));
        file(&format!("{path}/numa_node"), "0\n");
        let link = root.join("sys/bus/pci/devices").join(pci);
        std::fs::create_dir_all(link.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(format!("../../../devices/{above}/{pci}"), link).unwrap();
    };
    function(A100, "pci0000:15/0000:15:01.0/0000:16:00.0", "0x030200", "0x10de");
    function("0000:85:00.0", "pci0000:85/0000:85:00.0", "0x038000", "0x8086");
    file("sys/devices/pci0000:85/0000:85:00.0/0000:85:00.0/drm/card1/dev", "226:1\n");
    // The management controller's picture, and a card that is no GPU.
    function("0000:02:00.0", "pci0000:00/0000:00:1c.4/0000:01:00.0", "0x030000", "0x1a03");
    function("0000:3b:00.0", "pci0000:3a/0000:3a:00.0", "0x020000", "0x15b3");
}

fn driver(root: &Path) {
    let directory = root.join("proc/driver/nvidia/gpus").join(A100);
    std::fs::create_dir_all(&directory).unwrap();
    let text = "Model: \t\t NVIDIA A100-SXM4-80GB\nIRQ:   \t\t 16\nGPU UUID: \t GPU-5a1d\nVideo BIOS: \t 92.00\n";
    std::fs::write(directory.join("information"), text).unwrap();
}

/// `pod: resource=id resource=id`
fn listed(pods: &[&str]) -> ListPodResourcesResponse {
    let given = |text: &str| {
        let (resource, id) = text.split_once('=').unwrap();
        ContainerDevices {
            resource_name: resource.to_owned(),
            device_ids: vec![id.to_owned()],
            topology: Some(TopologyInfo { nodes: vec![NumaNode { id: 1 }] }),
        }
    };
    let pod = |text: &&str| {
        let (name, devices) = text.split_once(':').unwrap();
        let devices = devices.split_whitespace().map(given).collect();
        PodResources {
            name: name.to_owned(),
            namespace: "default".to_owned(),
            containers: vec![ContainerResources { devices, ..ContainerResources::default() }],
        }
    };
    ListPodResourcesResponse { pod_resources: pods.iter().map(pod).collect() }
}

fn host_at(root: &Path) -> LinuxHost {
    LinuxHost::new(root.to_str().unwrap()).unwrap()
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + second).unwrap()
}

fn is_ours(resource: &str) -> bool {
    resource.starts_with("openshift.io/")
}

#[test]
fn a_gpu_is_known_by_the_id_that_its_makers_plugin_gives_it() {
    let directory = tempfile::tempdir().unwrap();
    tree(directory.path());
    let host = host_at(directory.path());
    let pod = ["train: nvidia.com/gpu=GPU-5a1d::2"];
    assert!(Gpus::read(&host).lacks_one_of(&listed(&pod)), "its driver is not there yet");
    driver(directory.path());
    let gpus = Gpus::read(&host);
    assert!(!gpus.lacks_one_of(&listed(&pod)));
    let above = |resource: &str| {
        let mut admissions = Admissions::default();
        admissions.look(&listed(&[]), &gpus, is_ours, at(0));
        admissions.look(&listed(&[&format!("train: {resource}")]), &gpus, is_ours, at(1));
        let found = admissions.of_the_one_admitted(at(1));
        let shown = found.iter().map(|p| format!("{:?} {}", p.numa_node, p.above.join("/")));
        shown.collect::<Vec<_>>().join(", ")
    };
    assert_eq!(above("nvidia.com/gpu=GPU-5a1d"), "Some(0) pci0000:15/0000:15:01.0/0000:16:00.0");
    assert_eq!(above("nvidia.com/gpu=GPU-5a1d::2"), above("nvidia.com/gpu=GPU-5a1d"));
    assert_eq!(above("amd.com/gpu=0000:17:00.0"), above("nvidia.com/gpu=GPU-5a1d"));
    assert_eq!(above("gpu.intel.com/i915=card1-0"), "Some(0) pci0000:85/0000:85:00.0");
    // A part has an id of its own, and the kubelet knows its NUMA node.
    assert_eq!(above("nvidia.com/mig-1g.10gb=MIG-77"), "Some(1) ");
    assert_eq!(above("example.com/fpga=slot-3"), "");
    assert_eq!(above("example.com/vga=0000:02:00.0"), "");
}

#[test]
fn only_one_pod_with_new_gpus_and_none_of_our_devices_is_a_sign() {
    let directory = tempfile::tempdir().unwrap();
    tree(directory.path());
    let gpus = Gpus::read(&host_at(directory.path()));
    let mut admissions = Admissions::default();
    let mut look = |pods: &[&str], second: i64| {
        admissions.look(&listed(pods), &gpus, is_ours, at(second));
        admissions.of_the_one_admitted(at(second)).len()
    };
    let (old, new) = ("old: amd.com/gpu=0000:17:00.0", "new: amd.com/gpu=0000:85:00.0");
    assert_eq!(look(&[old], 0), 0, "it was there before us");
    assert_eq!(look(&[old, new], 10), 1);
    assert_eq!(look(&[old, new], 14), 1, "its next container");
    assert_eq!(look(&[old, new], 15), 0, "it was admitted long ago");
    let served = "new: amd.com/gpu=0000:85:00.0 openshift.io/rdma_vf=0000:3b:00.2";
    assert_eq!(look(&[], 20), 0);
    assert_eq!(look(&[served], 21), 0, "it has its devices");
    assert_eq!(look(&[old, new], 24), 0, "two may be meant: the first has come back");

    let mut admissions = Admissions::default();
    admissions.look(&listed(&[]), &gpus, is_ours, at(0));
    admissions.look(&listed(&[new]), &gpus, is_ours, at(10));
    let meant = |admissions: &Admissions, second| admissions.of_the_one_admitted(at(second)).len();
    assert_eq!((meant(&admissions, 14), meant(&admissions, 15)), (1, 0), "it grows old unseen");
    admissions.forget();
    assert_eq!(meant(&admissions, 11), 0, "it may be the one that was given ours since");
}
