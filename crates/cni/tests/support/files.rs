//! Files that others write and the plugins read: one of them broken, all others as they are when all is well. Used by the
//! mutation tests and by the fuzz target `cni`.

use host::Host;
use host::sim::{Machine, SimHost};
use serde_json::Value;
use std::collections::BTreeMap;

/// By path, each as it is when all is well; `BOOT` stands for the identity of this boot.
pub const FILES: [(&str, &str); 8] = [
    (
        "/run/ironrail/offer.json",
        r#"{"version":1,"bootId":"BOOT","sequence":1,"byPath":false,"resources":{"openshift.io/nic":{"rdma":true,"vhostNet":false,"excludeTopology":false,"devices":[{"pci":"0000:03:00.2","state":{"is":"ready"},"numaNode":0,"parent":"0000:03:00.0","vf":0,"driver":"mlx5_core","profile":{"mac":"02:00:00:00:00:01"}}]}}}"#,
    ),
    (
        "/run/ironrail/claims.json",
        r#"{"version":1,"bootId":"BOOT","sequence":1,"claims":{"0000:03:00.2":{"resource":"openshift.io/nic","at":"2026-01-01T00:00:00Z","nodes":["/dev/infiniband/uverbs2"]}}}"#,
    ),
    (
        "/var/run/cdi/ironrail.dev-vf-0000:03:00.2.json",
        r#"{"cdiVersion":"0.5.0","kind":"ironrail.dev/vf","devices":[{"name":"0000:03:00.2","containerEdits":{"deviceNodes":[{"path":"/dev/infiniband/rdma_cm","permissions":"rw"},{"path":"/dev/infiniband/uverbs2","hostPath":"/dev/infiniband/uverbs2","permissions":"rw"}]}}]}"#,
    ),
    (
        "/var/lib/ironrail/cni/0000:03:00.2.json",
        r#"{"version":1,"bootId":"BOOT","device":"0000:03:00.2","owner":{"container":"a","interface":"net1","network":"blue","namespace":"/var/run/netns/a"},"since":"2026-01-01T00:00:00Z","vf":{"pf":"0000:03:00.0","index":0,"before":{"vlan":{"id":0,"qos":0,"protocol":33024},"rate":{"min":0,"max":0},"trust":false,"linkState":"auto"},"wanted":{"guid":"02:00:00:00:00:00:00:01"},"link":{"name":"enp3s0f0v0","address":"02:00:00:00:00:01","mtu":1500,"up":false,"altNames":["a"]}},"rdma":{"name":"mlx5_2","index":3}}"#,
    ),
    (
        "/var/lib/cni/sriov/a-net1",
        r#"{"cniVersion":"1.0.0","name":"blue","type":"sriov","deviceID":"0000:03:00.2","vlan":100,"trust":"on","VFID":0,"Master":"enp3s0f0","MTU":1500,"OrigVfState":{"HostIFName":"enp3s0f0v0","SpoofChk":false,"Trust":false,"AdminMAC":"00:00:00:00:00:00","EffectiveMAC":"","Vlan":0,"VlanQoS":0,"VlanProto":0,"MinTxRate":0,"MaxTxRate":0,"LinkState":0,"MTU":1500}}"#,
    ),
    (
        "/var/lib/cni/ib-sriov/a-net1",
        r#"{"cniVersion":"1.0.0","name":"blue","type":"ib-sriov","deviceID":"0000:03:00.2","link_state":"enable","HostIFNames":"enp3s0f0v0","HostIFGUID":"02:00:00:00:00:00:00:02","VFID":0,"RdmaNetState":{"ContainerRdmaDevName":"mlx5_2"},"runtimeConfig":{"infinibandGUID":"02:00:00:00:00:00:00:01"}}"#,
    ),
    (
        "/var/lib/cni/rdma/blue-a-net1",
        r#"{"version":"1.0","deviceID":"0000:03:00.2","sandboxRdmaDevName":"mlx5_2","containerRdmaDevName":"mlx5_2"}"#,
    ),
    ("/var/lib/cni/sriov/pci/0000:03:00.2", "/var/run/netns/a"),
];

/// The good content of a file, on this machine.
pub fn good(number: usize, machine: &Machine) -> Vec<u8> {
    FILES[number].1.replace("BOOT", &machine.boot_id).into_bytes()
}

/// The machine with an offer, and with one file that has this in it. A number beyond the files is counted round.
pub fn with(machine: &Machine, number: usize, content: &[u8]) -> SimHost {
    let host = SimHost::new(machine.clone());
    host.replace(FILES[0].0, &good(0, machine), 0o600).expect("an offer is written");
    host.replace(FILES[number % FILES.len()].0, content, 0o600).expect("a file is written");
    host
}

/// Everything that a runtime may ask, each answered by a result or by an error in words; tells what was refused.
pub fn ask_all(host: &SimHost) -> Vec<String> {
    let mut refused = Vec::new();
    for (plugin, verb) in [
        ("sriov", "STATUS"),
        ("sriov", "ADD"),
        ("rdma", "ADD"),
        ("rdma", "CHECK"),
        ("sriov", "CHECK"),
        ("rdma", "DEL"),
        ("sriov", "DEL"),
        ("ib-sriov", "ADD"),
        ("ib-sriov", "CHECK"),
        ("ib-sriov", "DEL"),
        ("rdma", "GC"),
        ("sriov", "GC"),
    ] {
        let environment = BTreeMap::from(
            [
                ("CNI_COMMAND", verb),
                ("CNI_CONTAINERID", "a"),
                ("CNI_NETNS", "/var/run/netns/a"),
                ("CNI_IFNAME", "net1"),
                ("CNI_PATH", "/opt/cni/bin"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned())),
        );
        let stdin = format!(
            r#"{{"cniVersion":"1.1.0","name":"blue","type":"{plugin}","deviceID":"0000:03:00.2","prevResult":{{"interfaces":[{{"name":"net1"}}]}},"cni.dev/valid-attachments":[]}}"#
        );
        let reply = cni::call(plugin, &environment, stdin.as_bytes(), host);
        if reply.exit != 0 {
            let answer: Value = serde_json::from_slice(&reply.stdout).expect("an error is JSON");
            assert!(answer["code"].as_u64().is_some_and(|code| code > 0), "{answer}");
            assert!(answer["msg"].as_str().is_some_and(|text| text.len() > 5), "{answer}");
            refused
                .push(format!("{verb} {plugin}: {}", answer["msg"].as_str().unwrap_or_default()));
        }
    }
    refused
}
