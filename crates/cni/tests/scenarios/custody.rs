//! Who may have a device: the daemon's offer, other pods, earlier pods, and pods that upstream's plugins started.

use crate::bench::{Bench, PF, VF, check};
use api::PciAddress;
use expect_test::expect;
use host::seam::{LinkChange, LinkQuery, VfLinkState, VfSetting, Vlan};
use host::sim::Fault;
use host::{Host, Namespace, guid, vf_settings};
use serde_json::json;

#[test]
fn two_adds_for_one_vf_give_it_once() {
    check(
        "ADD sriov a net1
         ADD sriov b net1
         ADD rdma b net1 {\"prevResult\": {\"interfaces\": []}}
         world
         DEL sriov b net1
         world",
        expect![[r#"
            > ADD sriov a net1
            {"cniVersion":"1.1.0","interfaces":[{"name":"net1","mac":"c2:28:78:c7:4f:2d","mtu":1500,"sandbox":"/run/netns/a","pciID":"0000:03:00.2"}],"dns":{}}
            > ADD sriov b net1
            failed 11: 0000:03:00.2 is already allocated to interface net1 of container a
            > ADD rdma b net1 {"prevResult": {"interfaces": []}}
            failed 11: 0000:03:00.2 is already allocated to interface net1 of container a
            > world
            0000:03:00.2 net1@a c2:28:78:c7:4f:2d mtu 1500 up, mlx5_2
            0000:03:00.3 enp3s0f0v1 e2:45:6e:ab:8a:39 mtu 1500 down, mlx5_3
            0000:03:00.4 enp3s0f0v2 e2:45:70:ab:8a:39 mtu 1500 down, mlx5_4
            0000:03:00.5 enp3s0f0v3 e2:45:6a:ab:8a:39 mtu 1500 down, mlx5_5
            /var/lib/cni/sriov/pci/0000:03:00.2
            /var/lib/ironrail/cni/0000:03:00.2.json
            > DEL sriov b net1
            ok
            > world
            0000:03:00.2 net1@a c2:28:78:c7:4f:2d mtu 1500 up, mlx5_2
            0000:03:00.3 enp3s0f0v1 e2:45:6e:ab:8a:39 mtu 1500 down, mlx5_3
            0000:03:00.4 enp3s0f0v2 e2:45:70:ab:8a:39 mtu 1500 down, mlx5_4
            0000:03:00.5 enp3s0f0v3 e2:45:6a:ab:8a:39 mtu 1500 down, mlx5_5
            /var/lib/cni/sriov/pci/0000:03:00.2
            /var/lib/ironrail/cni/0000:03:00.2.json
        "#]],
    );
}

#[test]
fn a_vf_of_a_pod_that_died_without_del_is_brought_home_for_the_next() {
    check(
        r#"ADD sriov a net1 {"vlan": 100, "mac": "02:00:00:00:00:01"}
         ADD rdma a net1
         end a
         ADD sriov b net1
         world
         DEL sriov a net1
         world"#,
        expect![[r#"
            > ADD sriov a net1 {"vlan": 100, "mac": "02:00:00:00:00:01"}
            {"cniVersion":"1.1.0","interfaces":[{"name":"net1","mac":"02:00:00:00:00:01","mtu":1500,"sandbox":"/run/netns/a","pciID":"0000:03:00.2"}],"dns":{}}
            > ADD rdma a net1
            {"cniVersion":"1.1.0","interfaces":[{"name":"net1","mac":"02:00:00:00:00:01","mtu":1500,"sandbox":"/run/netns/a","pciID":"0000:03:00.2"}],"dns":{}}
            > end a
            > ADD sriov b net1
            {"cniVersion":"1.1.0","interfaces":[{"name":"net1","mac":"c2:28:78:c7:4f:2d","mtu":1500,"sandbox":"/run/netns/b","pciID":"0000:03:00.2"}],"dns":{}}
            > world
            0000:03:00.2 net1@b c2:28:78:c7:4f:2d mtu 1500 up, mlx5_2
            0000:03:00.3 enp3s0f0v1 e2:45:6e:ab:8a:39 mtu 1500 down, mlx5_3
            0000:03:00.4 enp3s0f0v2 e2:45:70:ab:8a:39 mtu 1500 down, mlx5_4
            0000:03:00.5 enp3s0f0v3 e2:45:6a:ab:8a:39 mtu 1500 down, mlx5_5
            /var/lib/cni/sriov/pci/0000:03:00.2
            /var/lib/ironrail/cni/0000:03:00.2.json
            > DEL sriov a net1
            ok
            > world
            0000:03:00.2 net1@b c2:28:78:c7:4f:2d mtu 1500 up, mlx5_2
            0000:03:00.3 enp3s0f0v1 e2:45:6e:ab:8a:39 mtu 1500 down, mlx5_3
            0000:03:00.4 enp3s0f0v2 e2:45:70:ab:8a:39 mtu 1500 down, mlx5_4
            0000:03:00.5 enp3s0f0v3 e2:45:6a:ab:8a:39 mtu 1500 down, mlx5_5
            /var/lib/cni/sriov/pci/0000:03:00.2
            /var/lib/ironrail/cni/0000:03:00.2.json
        "#]],
    );
}

#[test]
fn a_path_that_is_used_again_is_not_the_old_owner() {
    check(
        r#"ADD sriov a net1 {"vlan": 100}
         end a
         start a
         ADD sriov b net1
         world"#,
        expect![[r#"
            > ADD sriov a net1 {"vlan": 100}
            {"cniVersion":"1.1.0","interfaces":[{"name":"net1","mac":"c2:28:78:c7:4f:2d","mtu":1500,"sandbox":"/run/netns/a","pciID":"0000:03:00.2"}],"dns":{}}
            > end a
            > start a
            > ADD sriov b net1
            {"cniVersion":"1.1.0","interfaces":[{"name":"net1","mac":"c2:28:78:c7:4f:2d","mtu":1500,"sandbox":"/run/netns/b","pciID":"0000:03:00.2"}],"dns":{}}
            > world
            0000:03:00.2 net1@b c2:28:78:c7:4f:2d mtu 1500 up, mlx5_2
            0000:03:00.3 enp3s0f0v1 e2:45:6e:ab:8a:39 mtu 1500 down, mlx5_3
            0000:03:00.4 enp3s0f0v2 e2:45:70:ab:8a:39 mtu 1500 down, mlx5_4
            0000:03:00.5 enp3s0f0v3 e2:45:6a:ab:8a:39 mtu 1500 down, mlx5_5
            /var/lib/cni/sriov/pci/0000:03:00.2
            /var/lib/ironrail/cni/0000:03:00.2.json
        "#]],
    );
}

#[test]
fn after_a_reboot_the_journal_is_only_a_memory() {
    let bench = Bench::new();
    bench.run(r#"ADD sriov a net1 {"vlan": 100, "trust": "on"}"#);
    bench.host.machine().boot();
    bench.make_vfs(PF);
    expect![[r#"
        > world
        0000:03:00.2 enp3s0f0v0 e2:3b:5e:ab:8a:31 mtu 1500 down, mlx5_2
        0000:03:00.3 enp3s0f0v1 e2:3b:60:ab:8a:31 mtu 1500 down, mlx5_3
        0000:03:00.4 enp3s0f0v2 e2:3b:5a:ab:8a:31 mtu 1500 down, mlx5_4
        0000:03:00.5 enp3s0f0v3 e2:3b:5c:ab:8a:31 mtu 1500 down, mlx5_5
        /var/lib/cni/sriov/pci/0000:03:00.2
        /var/lib/ironrail/cni/0000:03:00.2.json
        > DEL sriov a net1
        ok
        > world
        0000:03:00.2 enp3s0f0v0 e2:3b:5e:ab:8a:31 mtu 1500 down, mlx5_2
        0000:03:00.3 enp3s0f0v1 e2:3b:60:ab:8a:31 mtu 1500 down, mlx5_3
        0000:03:00.4 enp3s0f0v2 e2:3b:5a:ab:8a:31 mtu 1500 down, mlx5_4
        0000:03:00.5 enp3s0f0v3 e2:3b:5c:ab:8a:31 mtu 1500 down, mlx5_5
    "#]]
    .assert_eq(&bench.run("world\nDEL sriov a net1\nworld"));
}

#[test]
fn a_vf_that_is_gone_is_no_reason_to_fail_a_del() {
    check(
        "ADD sriov a net1
         ADD rdma a net1
         write /sys/bus/pci/devices/0000:03:00.0/sriov_numvfs 0
         DEL rdma a net1
         DEL sriov a net1
         world",
        expect![[r#"
            > ADD sriov a net1
            {"cniVersion":"1.1.0","interfaces":[{"name":"net1","mac":"c2:28:78:c7:4f:2d","mtu":1500,"sandbox":"/run/netns/a","pciID":"0000:03:00.2"}],"dns":{}}
            > ADD rdma a net1
            {"cniVersion":"1.1.0","interfaces":[{"name":"net1","mac":"c2:28:78:c7:4f:2d","mtu":1500,"sandbox":"/run/netns/a","pciID":"0000:03:00.2"}],"dns":{}}
            > write /sys/bus/pci/devices/0000:03:00.0/sriov_numvfs 0
            > DEL rdma a net1
            ok
            > DEL sriov a net1
            ok
            > world
        "#]],
    );
}

#[test]
fn a_garbled_journal_is_named_and_not_guessed_at() {
    check(
        "file /var/lib/ironrail/cni/0000:03:00.2.json {\"version\":
         ADD sriov a net1
         DEL sriov a net1
         file /var/lib/ironrail/cni/0000:03:00.2.json {\"version\": 2}
         ADD sriov a net1",
        expect![[r#"
            > file /var/lib/ironrail/cni/0000:03:00.2.json {"version":
            > ADD sriov a net1
            failed 5: cannot read the journal /var/lib/ironrail/cni/0000:03:00.2.json: EOF while parsing a value at line 1 column 11; look at the device, then remove the file
            > DEL sriov a net1
            failed 5: cannot read the journal /var/lib/ironrail/cni/0000:03:00.2.json: EOF while parsing a value at line 1 column 11; look at the device, then remove the file
            > file /var/lib/ironrail/cni/0000:03:00.2.json {"version": 2}
            > ADD sriov a net1
            failed 5: the journal /var/lib/ironrail/cni/0000:03:00.2.json has version 2, and this program knows 1; upgrade it
        "#]],
    );
}

#[test]
fn a_full_disk_stops_add_before_anything_is_changed() {
    check(
        "fault DiskFull
         ADD sriov a net1 {\"vlan\": 100}
         world
         mend
         ADD sriov a net1 {\"vlan\": 100}",
        expect![[r#"
            > fault DiskFull
            > ADD sriov a net1 {"vlan": 100}
            failed 5: cannot lock 0000:03:00.2 by /var/lib/cni/sriov/pci/vf_lock/0000:03:00.2.lock: no space left on device
            > world
            0000:03:00.2 enp3s0f0v0 c2:28:78:c7:4f:2d mtu 1500 down, mlx5_2
            0000:03:00.3 enp3s0f0v1 e2:45:6e:ab:8a:39 mtu 1500 down, mlx5_3
            0000:03:00.4 enp3s0f0v2 e2:45:70:ab:8a:39 mtu 1500 down, mlx5_4
            0000:03:00.5 enp3s0f0v3 e2:45:6a:ab:8a:39 mtu 1500 down, mlx5_5
            > mend
            > ADD sriov a net1 {"vlan": 100}
            {"cniVersion":"1.1.0","interfaces":[{"name":"net1","mac":"c2:28:78:c7:4f:2d","mtu":1500,"sandbox":"/run/netns/a","pciID":"0000:03:00.2"}],"dns":{}}
        "#]],
    );
}

#[test]
fn a_full_disk_keeps_nobody_from_giving_back() {
    check(
        "ADD sriov a net1 {\"vlan\": 100}
         ADD rdma a net1
         fault DiskFull
         DEL rdma a net1
         said
         DEL sriov a net1
         world",
        expect![[r#"
            > ADD sriov a net1 {"vlan": 100}
            {"cniVersion":"1.1.0","interfaces":[{"name":"net1","mac":"c2:28:78:c7:4f:2d","mtu":1500,"sandbox":"/run/netns/a","pciID":"0000:03:00.2"}],"dns":{}}
            > ADD rdma a net1
            {"cniVersion":"1.1.0","interfaces":[{"name":"net1","mac":"c2:28:78:c7:4f:2d","mtu":1500,"sandbox":"/run/netns/a","pciID":"0000:03:00.2"}],"dns":{}}
            > fault DiskFull
            > DEL rdma a net1
            ok
            > said
            warning: cannot replace /var/lib/ironrail/cni/0000:03:00.2.json: no space left on device
            info: the RDMA device of 0000:03:00.2 is home
            > DEL sriov a net1
            ok
            > world
            0000:03:00.2 enp3s0f0v0 c2:28:78:c7:4f:2d mtu 1500 down, mlx5_2
            0000:03:00.3 enp3s0f0v1 e2:45:6e:ab:8a:39 mtu 1500 down, mlx5_3
            0000:03:00.4 enp3s0f0v2 e2:45:70:ab:8a:39 mtu 1500 down, mlx5_4
            0000:03:00.5 enp3s0f0v3 e2:45:6a:ab:8a:39 mtu 1500 down, mlx5_5
        "#]],
    );
}

/// The offer of the daemon with the VF in a state.
fn offer(bench: &Bench, boot: Option<&str>, state: serde_json::Value) {
    let boot_id = match boot {
        Some(boot) => boot.to_owned(),
        None => bench.host.machine().boot_id.clone(),
    };
    let offer = json!({
        "version": 1, "bootId": boot_id, "sequence": 7,
        "resources": {"openshift.io/rdma": {
            "rdma": true, "vhostNet": false, "excludeTopology": false,
            "devices": [{"pci": VF, "state": state, "parent": "0000:03:00.0"}],
        }},
    });
    bench.run(&format!("file /run/ironrail/offer.json {offer}"));
}

#[test]
fn add_asks_the_daemons_offer() {
    let bench = Bench::new();
    let mut told = bench.run("file /run/ironrail/device-plugin.lock x\nADD sriov a net1");
    offer(&bench, None, json!({"is": "withdrawn", "because": "the VF count changes"}));
    told += &bench.run("ADD sriov a net1");
    offer(&bench, None, json!({"is": "broken", "because": "it has no driver"}));
    told += &bench.run("ADD sriov a net1\nADD sriov a net1 {\"deviceID\": \"0000:03:00.3\"}");
    offer(&bench, Some("another"), json!({"is": "ready"}));
    told += &bench.run("ADD sriov a net1");
    told += &bench.run("file /run/ironrail/offer.json {\"version\"\nADD sriov a net1");
    told += &bench.run("world");
    offer(&bench, None, json!({"is": "ready"}));
    told += &bench.run("ADD sriov a net1");
    // Withdrawn between the two plugins of a chain: the pod has the VF already.
    offer(&bench, None, json!({"is": "withdrawn", "because": "a drain"}));
    told += &bench.run("ADD rdma a net1\nDEL rdma a net1\nDEL sriov a net1\nworld");
    expect![[r#"
        > file /run/ironrail/device-plugin.lock x
        > ADD sriov a net1
        failed 11: 0000:03:00.2 is not offered: the node daemon has made no offer yet (/run/ironrail/offer.json: no such file or directory)
        > ADD sriov a net1
        failed 11: 0000:03:00.2 is not offered: it is withdrawn, the VF count changes
        > ADD sriov a net1
        failed 11: 0000:03:00.2 is not offered: it is broken, it has no driver
        > ADD sriov a net1 {"deviceID": "0000:03:00.3"}
        failed 11: 0000:03:00.3 is not offered: no policy of this node asks for it
        > ADD sriov a net1
        failed 11: 0000:03:00.2 is not offered: the offer in /run/ironrail/offer.json is from an earlier boot
        > file /run/ironrail/offer.json {"version"
        > ADD sriov a net1
        failed 11: 0000:03:00.2 is not offered: the offer in /run/ironrail/offer.json cannot be read (EOF while parsing an object at line 1 column 10)
        > world
        0000:03:00.2 enp3s0f0v0 c2:28:78:c7:4f:2d mtu 1500 down, mlx5_2
        0000:03:00.3 enp3s0f0v1 e2:45:6e:ab:8a:39 mtu 1500 down, mlx5_3
        0000:03:00.4 enp3s0f0v2 e2:45:70:ab:8a:39 mtu 1500 down, mlx5_4
        0000:03:00.5 enp3s0f0v3 e2:45:6a:ab:8a:39 mtu 1500 down, mlx5_5
        /run/ironrail/offer.json
        > ADD sriov a net1
        {"cniVersion":"1.1.0","interfaces":[{"name":"net1","mac":"c2:28:78:c7:4f:2d","mtu":1500,"sandbox":"/run/netns/a","pciID":"0000:03:00.2"}],"dns":{}}
        > ADD rdma a net1
        {"cniVersion":"1.1.0","interfaces":[{"name":"net1","mac":"c2:28:78:c7:4f:2d","mtu":1500,"sandbox":"/run/netns/a","pciID":"0000:03:00.2"}],"dns":{}}
        > DEL rdma a net1
        ok
        > DEL sriov a net1
        ok
        > world
        0000:03:00.2 enp3s0f0v0 c2:28:78:c7:4f:2d mtu 1500 down, mlx5_2
        0000:03:00.3 enp3s0f0v1 e2:45:6e:ab:8a:39 mtu 1500 down, mlx5_3
        0000:03:00.4 enp3s0f0v2 e2:45:70:ab:8a:39 mtu 1500 down, mlx5_4
        0000:03:00.5 enp3s0f0v3 e2:45:6a:ab:8a:39 mtu 1500 down, mlx5_5
        /run/ironrail/offer.json
    "#]].assert_eq(&told);
}

/// VFs are made anew and their addresses with them: what was offered under the address was another VF.
#[test]
fn an_address_that_is_another_vf_by_now_is_refused() {
    let bench = Bench::new();
    let boot = bench.host.machine().boot_id.clone();
    let mut told = String::new();
    for (parent, vf) in [(PF, 1), ("0000:03:00.1", 0), (PF, 0)] {
        let offer = json!({
            "version": 1, "bootId": boot, "sequence": 7,
            "resources": {"openshift.io/rdma": {
                "rdma": true, "vhostNet": false, "excludeTopology": false,
                "devices": [{"pci": VF, "state": {"is": "ready"}, "parent": parent, "vf": vf}],
            }},
        });
        bench
            .host
            .replace("/run/ironrail/offer.json", offer.to_string().as_bytes(), 0o600)
            .unwrap();
        told += &bench.run("ADD sriov a net1");
    }
    expect![[r#"
        > ADD sriov a net1
        failed 11: 0000:03:00.2 is not offered: it was offered as VF 1 of 0000:03:00.0, and is VF 0 of 0000:03:00.0 now; the node daemon makes a new offer
        > ADD sriov a net1
        failed 11: 0000:03:00.2 is not offered: it was offered as VF 0 of 0000:03:00.1, and is VF 0 of 0000:03:00.0 now; the node daemon makes a new offer
        > ADD sriov a net1
        {"cniVersion":"1.1.0","interfaces":[{"name":"net1","mac":"c2:28:78:c7:4f:2d","mtu":1500,"sandbox":"/run/netns/a","pciID":"0000:03:00.2"}],"dns":{}}
    "#]].assert_eq(&told);
}

#[test]
fn status_is_not_ready_while_no_add_could_use_an_offer() {
    let bench = Bench::new();
    let mut told =
        bench.run("file /run/ironrail/device-plugin.lock x\nSTATUS sriov\nSTATUS ib-sriov");
    offer(&bench, None, json!({"is": "withdrawn", "because": "the VF count changes"}));
    told += &bench.run("STATUS sriov");
    expect![[r#"
        > file /run/ironrail/device-plugin.lock x
        > STATUS sriov
        failed 50: no device is offered to pods: the node daemon has made no offer yet (/run/ironrail/offer.json: no such file or directory)
        > STATUS ib-sriov
        failed 50: no device is offered to pods: the node daemon has made no offer yet (/run/ironrail/offer.json: no such file or directory)
        > STATUS sriov
        ok
    "#]].assert_eq(&told);
}

#[test]
fn a_vf_that_the_daemon_is_changing_is_waited_for() {
    let bench = Bench::new();
    offer(&bench, None, json!({"is": "ready"}));
    let lock = Host::lock(&bench.host, "/run/ironrail/vf/0000:03:00.2", std::time::Duration::ZERO);
    expect![[r#"
        > ADD sriov a net1
        failed 11: another program has been changing 0000:03:00.2 for 60 s (/run/ironrail/vf/0000:03:00.2 is locked)
        > world
        0000:03:00.2 enp3s0f0v0 c2:28:78:c7:4f:2d mtu 1500 down, mlx5_2
        0000:03:00.3 enp3s0f0v1 e2:45:6e:ab:8a:39 mtu 1500 down, mlx5_3
        0000:03:00.4 enp3s0f0v2 e2:45:70:ab:8a:39 mtu 1500 down, mlx5_4
        0000:03:00.5 enp3s0f0v3 e2:45:6a:ab:8a:39 mtu 1500 down, mlx5_5
        /run/ironrail/offer.json
    "#]].assert_eq(&bench.run("ADD sriov a net1\nworld"));
    drop(lock);
    expect![[r#"
        > ADD sriov a net1
        {"cniVersion":"1.1.0","interfaces":[{"name":"net1","mac":"c2:28:78:c7:4f:2d","mtu":1500,"sandbox":"/run/netns/a","pciID":"0000:03:00.2"}],"dns":{}}
    "#]].assert_eq(&bench.run("ADD sriov a net1"));
}

/// A pod as upstream's plugins leave it: moved and configured, and their files.
fn upstream(bench: &Bench) {
    bench.run(r#"ADD sriov a net1 {"vlan": 100, "trust": "on"}"#);
    bench.run("ADD rdma a net1");
    bench.forget();
    let vf = VF.parse().unwrap();
    let device = bench.rdma_name(&vf);
    let sriov = json!({
        "cniVersion": "1.0.0", "name": "blue", "type": "sriov", "deviceID": VF,
        "vlan": 100, "trust": "on", "VFID": 0, "Master": "enp3s0f0np0", "MTU": 1500,
        "OrigVfState": {
            "HostIFName": "enp3s0f0v0", "SpoofChk": false, "Trust": false,
            "AdminMAC": "00:00:00:00:00:00", "EffectiveMAC": "", "Vlan": 0, "VlanQoS": 0,
            "VlanProto": 0, "MinTxRate": 0, "MaxTxRate": 0, "LinkState": 0, "MTU": 1500,
        },
    });
    let rdma = json!({
        "version": "1.0", "deviceID": VF, "sandboxRdmaDevName": device, "containerRdmaDevName": device,
    });
    bench.run(&format!(
        "file /var/lib/cni/sriov/a-net1 {sriov}
         file /var/lib/cni/rdma/blue-a-net1 {rdma}"
    ));
}

#[test]
fn pods_that_upstreams_plugins_started_are_checked_and_released() {
    let bench = Bench::new();
    upstream(&bench);
    let told = bench.run(
        r#"world
         ADD sriov b net1
         CHECK rdma a net1
         CHECK sriov a net1 {"vlan": 100, "trust": "on"}
         DEL rdma a net1
         DEL sriov a net1
         world"#,
    );
    expect![[r#"
        > world
        0000:03:00.2 net1@a c2:28:78:c7:4f:2d mtu 1500 up, mlx5_2@a, vlan 100 qos 0 0x8100, trust
        0000:03:00.3 enp3s0f0v1 e2:45:6e:ab:8a:39 mtu 1500 down, mlx5_3
        0000:03:00.4 enp3s0f0v2 e2:45:70:ab:8a:39 mtu 1500 down, mlx5_4
        0000:03:00.5 enp3s0f0v3 e2:45:6a:ab:8a:39 mtu 1500 down, mlx5_5
        /var/lib/cni/rdma/blue-a-net1
        /var/lib/cni/sriov/a-net1
        /var/lib/cni/sriov/pci/0000:03:00.2
        > ADD sriov b net1
        failed 11: 0000:03:00.2 is already allocated to the network namespace /run/netns/a
        > CHECK rdma a net1
        ok
        > CHECK sriov a net1 {"vlan": 100, "trust": "on"}
        ok
        > DEL rdma a net1
        ok
        > DEL sriov a net1
        ok
        > world
        0000:03:00.2 enp3s0f0v0 c2:28:78:c7:4f:2d mtu 1500 down, mlx5_2
        0000:03:00.3 enp3s0f0v1 e2:45:6e:ab:8a:39 mtu 1500 down, mlx5_3
        0000:03:00.4 enp3s0f0v2 e2:45:70:ab:8a:39 mtu 1500 down, mlx5_4
        0000:03:00.5 enp3s0f0v3 e2:45:6a:ab:8a:39 mtu 1500 down, mlx5_5
    "#]]
    .assert_eq(&told);
}

#[test]
fn pods_of_upstreams_plugins_are_released_after_their_namespace_is_gone() {
    let bench = Bench::new();
    upstream(&bench);
    expect![[r#"
        > end a
        > DEL rdma a net1
        ok
        > DEL sriov a net1
        ok
        > world
        0000:03:00.2 enp3s0f0v0 c2:28:78:c7:4f:2d mtu 1500 down, mlx5_2
        0000:03:00.3 enp3s0f0v1 e2:45:6e:ab:8a:39 mtu 1500 down, mlx5_3
        0000:03:00.4 enp3s0f0v2 e2:45:70:ab:8a:39 mtu 1500 down, mlx5_4
        0000:03:00.5 enp3s0f0v3 e2:45:6a:ab:8a:39 mtu 1500 down, mlx5_5
    "#]]
    .assert_eq(&bench.run("end a\nDEL rdma a net1\nDEL sriov a net1\nworld"));
}

/// The runtime names no namespace, or a plain file is left where it was mounted.
#[test]
fn pods_of_upstreams_plugins_are_released_also_where_the_path_says_nothing() {
    for (before, more) in
        [("end a", r#" {"env CNI_NETNS": ""}"#), ("end a\nfile /run/netns/a x", "")]
    {
        let bench = Bench::new();
        upstream(&bench);
        bench.run(before);
        let told = bench.run(&format!("DEL rdma a net1{more}\nDEL sriov a net1{more}"));
        assert_eq!(told.matches("\nok\n").count(), 2, "{before}: {told}");
        assert!(!bench.world().contains("/var/lib/cni/"), "{}", bench.world());
    }
}

/// Neither the settings of the dead pod nor its state files are the next pod's, and what is restored in the end is what the
/// VF had before both. Without upstream's memory it is what a new VF has.
#[test]
fn what_a_dead_pod_of_upstreams_left_is_not_inherited() {
    for remembers in [true, false] {
        let bench = Bench::new();
        let home = bench.world();
        upstream(&bench);
        bench.run("end a");
        if !remembers {
            bench.host.remove("/var/lib/cni/sriov/a-net1").unwrap();
        }
        bench.host.remove("/var/lib/cni/rdma/blue-a-net1").unwrap();
        let told = bench.run("world\nADD sriov b net1\nworld");
        let vf: Vec<&str> = told.lines().filter(|line| line.starts_with(VF)).collect();
        assert!(vf[0].ends_with("vlan 100 qos 0 0x8100, trust"), "{told}");
        assert_eq!(vf[1], "0000:03:00.2 net1@b c2:28:78:c7:4f:2d mtu 1500 up, mlx5_2");
        assert!(!bench.world().contains("a-net1"), "{}", bench.world());
        bench.run("DEL sriov b net1");
        if remembers {
            assert_eq!(bench.world(), home);
        }
    }
}

/// The runtime deletes after a boot what it had before it. The VF was made anew since, under another address, and maybe
/// with one of the daemon's: what upstream remembers of addresses is of another VF.
#[test]
fn a_del_that_comes_after_a_boot_gives_the_vf_no_address_of_before_it() {
    let bench = Bench::new();
    bench.run(r#"ADD sriov a net1 {"mac": "02:00:00:00:00:07", "vlan": 100}"#);
    bench.forget();
    let memory = json!({
        "cniVersion": "1.0.0", "name": "blue", "type": "sriov", "deviceID": VF,
        "mac": "02:00:00:00:00:07", "vlan": 100, "VFID": 0, "Master": "enp3s0f0np0",
        "OrigVfState": {
            "HostIFName": "enp3s0f0v0", "AdminMAC": "02:00:00:00:00:11",
            "EffectiveMAC": "02:00:00:00:00:11", "Vlan": 0, "VlanQoS": 0, "MTU": 1500,
        },
    });
    let remember = format!("file /var/lib/cni/sriov/a-net1 {memory}");
    // Without a boot the pod's address is on the VF still, and goes.
    bench.run(&format!("{remember}\nend a\nDEL sriov a net1"));
    let vf = bench.world().lines().next().unwrap().to_owned();
    assert_eq!(
        vf,
        "0000:03:00.2 enp3s0f0v0 02:00:00:00:00:11 mtu 1500 down, mlx5_2, mac 02:00:00:00:00:11"
    );
    bench.run(&remember);
    bench.host.machine().boot();
    bench.make_vfs(PF);
    let anew = bench.world();
    let told = bench.run("DEL sriov a net1");
    assert!(told.ends_with("ok\n"), "{told}");
    let home: Vec<&str> = anew.lines().filter(|line| !line.starts_with('/')).collect();
    assert!(home[0].contains("enp3s0f0v0") && !home[0].contains(":11"), "{anew}");
    assert_eq!(bench.world().lines().collect::<Vec<_>>(), home);
}

/// DEL comes again for pods that are long gone. The VF is another pod's by now, given by upstream's plugin.
#[test]
fn del_of_an_old_pod_leaves_the_vf_to_the_pod_that_has_it_since() {
    let bench = Bench::new();
    upstream(&bench);
    let cache = bench.host.read("/var/lib/cni/sriov/a-net1").unwrap();
    bench.run("end a\nADD sriov b net1");
    bench.forget();
    bench.host.replace("/var/lib/cni/sriov/a-net1", &cache, 0o600).unwrap();
    let told = bench.run("DEL sriov a net1\nworld");
    expect![[r#"
        > DEL sriov a net1
        ok
        > world
        0000:03:00.2 net1@b c2:28:78:c7:4f:2d mtu 1500 up, mlx5_2
        0000:03:00.3 enp3s0f0v1 e2:45:6e:ab:8a:39 mtu 1500 down, mlx5_3
        0000:03:00.4 enp3s0f0v2 e2:45:70:ab:8a:39 mtu 1500 down, mlx5_4
        0000:03:00.5 enp3s0f0v3 e2:45:6a:ab:8a:39 mtu 1500 down, mlx5_5
        /var/lib/cni/rdma/blue-a-net1
        /var/lib/cni/sriov/pci/0000:03:00.2
    "#]]
    .assert_eq(&told);
}

/// A pod that lives keeps its VF, whatever the list says.
#[test]
fn gc_sees_what_upstreams_plugins_remember() {
    let bench = Bench::new();
    let home = bench.world();
    upstream(&bench);
    let mut left = Vec::new();
    for (before, call) in [
        ("", r#"{"cni.dev/valid-attachments": []}"#),
        ("", r#"{"cni.dev/valid-attachments": [{"containerID": "a", "ifname": "net1"}]}"#),
        ("end a", r#"{"cni.dev/valid-attachments": [{"containerID": "a", "ifname": "net1"}]}"#),
        ("", r#"{"name": "green", "cni.dev/valid-attachments": []}"#),
        ("", r#"{"cni.dev/valid-attachments": []}"#),
    ] {
        bench.run(before);
        for plugin in ["rdma", "sriov"] {
            // Upstream's allocation file says that a pod lives; its `sriov` has no other word for that.
            if before.is_empty() && left.is_empty() && plugin == "sriov" {
                continue;
            }
            assert!(bench.run(&format!("GC {plugin} {call}")).ends_with("\nok\n"));
        }
        let has = |file: &str| bench.world().contains(file);
        left.push((has("/var/lib/cni/sriov/a-net1"), has("/var/lib/cni/rdma/blue-a-net1")));
    }
    let (both, none) = ((true, true), (false, false));
    assert_eq!(left, [both, both, both, both, none]);
    assert_eq!(bench.world(), home);
}

/// The sandbox is gone and its namespace lives on. No allocation file of `sriov` speaks for it: the chain is another
/// one.
#[test]
fn gc_brings_an_rdma_device_home_that_upstreams_plugin_left_in_a_namespace() {
    let bench = Bench::new();
    upstream(&bench);
    for file in ["/var/lib/cni/sriov/a-net1", "/var/lib/cni/sriov/pci/0000:03:00.2"] {
        bench.host.remove(file).unwrap();
    }
    let mut told = Vec::new();
    for call in [
        r#"{"name": "blu", "cni.dev/valid-attachments": []}"#,
        r#"{"cni.dev/valid-attachments": [{"containerID": "a", "ifname": "net1"}]}"#,
        r#"{"cni.dev/valid-attachments": []}"#,
    ] {
        assert!(bench.run(&format!("GC rdma {call}")).ends_with("\nok\n"));
        let world = bench.world();
        told.push((world.contains("mlx5_2@a"), world.contains("/rdma/blue-a-net1")));
    }
    assert_eq!(told, [(true, true), (true, true), (false, false)]);
}

#[test]
fn a_garbled_state_file_of_an_old_plugin_is_no_reason_to_fail_a_del() {
    check(
        "file /var/lib/cni/sriov/a-net1 {\"deviceID\"
         file /var/lib/cni/rdma/blue-a-net1 {\"deviceID\": 7}
         DEL rdma a net1
         DEL sriov a net1
         said",
        expect![[r#"
            > file /var/lib/cni/sriov/a-net1 {"deviceID"
            > file /var/lib/cni/rdma/blue-a-net1 {"deviceID": 7}
            > DEL rdma a net1
            ok
            > DEL sriov a net1
            ok
            > said
            warning: the state file /var/lib/cni/sriov/a-net1 of the old plugin is unreadable: EOF while parsing an object at line 1 column 11
        "#]],
    );
}

#[test]
fn of_two_hundred_parallel_adds_one_wins_for_each_vf_and_all_go_home() {
    let clock = "2026-01-01T00:00:00Z".parse().unwrap();
    let machine = host::sim::Machine::small_worker("w", host::sim::Flavour::Ubuntu, clock);
    let bench = Bench::threaded(machine);
    bench.make_vfs(PF);
    let before = bench.world();
    let vfs = ["0000:03:00.2", "0000:03:00.3", "0000:03:00.4", "0000:03:00.5"];
    let pods: Vec<String> = (0..200).map(|number| format!("pod-{number}")).collect();
    for pod in &pods {
        bench.host.machine().create_namespace(&crate::bench::path(pod)).unwrap();
    }
    let call = |verb: &str, plugin: &str, pod: &str, vf: &str| {
        let prev = json!({"interfaces": [{"name": "net1"}]});
        let conf = json!({"deviceID": vf, "prevResult": prev});
        // A process of its own; the bench's cache of results is for one thread.
        crate::bench::call_plainly(&bench.host.process(), verb, plugin, pod, &conf)
    };
    let won: Vec<(usize, bool)> = std::thread::scope(|scope| {
        let call = &call;
        let threads: Vec<_> = pods
            .iter()
            .enumerate()
            .map(|(number, pod)| {
                let vf = number % vfs.len();
                let run = move || {
                    let all = ["sriov", "rdma"]
                        .into_iter()
                        .all(|plugin| call("ADD", plugin, pod, vfs[vf]).exit == 0);
                    (vf, all)
                };
                scope.spawn(run)
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for (number, vf) in vfs.iter().enumerate() {
        let winners = won.iter().filter(|(of, all)| *of == number && *all).count();
        assert_eq!(winners, 1, "{vf} of {won:?}");
    }
    let given = bench.world();
    assert_eq!(given.matches(", mlx5_").count(), 4, "{given}");
    assert_eq!(given.matches("@pod-").count(), 8, "{given}");
    std::thread::scope(|scope| {
        for (number, pod) in pods.iter().enumerate() {
            let call = &call;
            scope.spawn(move || {
                for plugin in ["rdma", "sriov"] {
                    assert_eq!(call("DEL", plugin, pod, vfs[number % vfs.len()]).exit, 0);
                }
            });
        }
    });
    assert_eq!(bench.world(), before);
}

/// What somebody has left on a VF whom no file names.
fn dirt(bench: &Bench) {
    let home = |name: &str| LinkQuery { name: Some(name.to_owned()), ..LinkQuery::default() };
    let link = |name| bench.host.links(&Namespace::Host, &home(name)).unwrap()[0].index;
    let (pf, vf) = (link("enp3s0f0"), link("enp3s0f0v0"));
    let settings = [
        VfSetting::Vlan(Vlan { id: 100, qos: 3, protocol: 0x8100 }),
        VfSetting::Rate { min: 0, max: 500 },
        VfSetting::Mac([2, 0, 0, 0, 0, 9]),
        VfSetting::Trust(true),
        VfSetting::SpoofCheck(true),
        VfSetting::LinkState(VfLinkState::Disable),
    ];
    let mut changes: Vec<LinkChange> =
        settings.into_iter().map(|setting| LinkChange::Vf { link: pf, vf: 0, setting }).collect();
    changes.push(LinkChange::Address { link: vf, address: vec![2, 0, 0, 0, 0, 8] });
    changes.push(LinkChange::Promiscuous { link: vf, on: true });
    for change in changes {
        bench.host.change_link(&Namespace::Host, &change).unwrap();
    }
}

/// A VF with the MAC that its PF held when its driver started, and the offer of it.
fn offered_with(profile: serde_json::Value) -> Bench {
    let bench = Bench::new();
    let device: PciAddress = VF.parse().unwrap();
    let pf: PciAddress = PF.parse().unwrap();
    vf_settings::set_mac(&bench.host, &pf, 0, "02:00:00:00:00:01").unwrap();
    guid::rebind(&bench.host, &device).unwrap();
    let id = bench.host.read("/proc/sys/kernel/random/boot_id").unwrap();
    let mut device = json!({"pci": VF, "state": {"is": "ready"}, "parent": PF});
    device["profile"] = profile;
    let offer = json!({
        "version": 1, "bootId": String::from_utf8(id).unwrap().trim(), "sequence": 1,
        "resources": {"openshift.io/lab": {
            "devices": [device], "rdma": true, "vhostNet": false, "excludeTopology": false,
        }},
    });
    bench.run(&format!("file /run/ironrail/offer.json {offer}"));
    bench
}

fn golden() -> serde_json::Value {
    json!({
        "mac": "02:00:00:00:00:01", "vlan": {"id": 0, "qos": 0, "protocol": 0x8100},
        "rate": {"min": 0, "max": 0}, "spoofCheck": false, "trust": false, "linkState": "auto",
    })
}

#[test]
fn what_somebody_unknown_has_left_on_a_vf_is_gone_before_the_next_pod() {
    let bench = offered_with(golden());
    dirt(&bench);
    let told = bench.run("world\nADD sriov a net1\nsaid\nworld\nDEL sriov a net1\nworld");
    expect![[r#"
        > world
        0000:03:00.2 enp3s0f0v0 02:00:00:00:00:08 mtu 1500 down, mlx5_2, mac 02:00:00:00:00:09, vlan 100 qos 3 0x8100, rate 0 to 500, spoofchk, trust, link Disable
        0000:03:00.3 enp3s0f0v1 e2:45:6e:ab:8a:39 mtu 1500 down, mlx5_3
        0000:03:00.4 enp3s0f0v2 e2:45:70:ab:8a:39 mtu 1500 down, mlx5_4
        0000:03:00.5 enp3s0f0v3 e2:45:6a:ab:8a:39 mtu 1500 down, mlx5_5
        /run/ironrail/offer.json
        > ADD sriov a net1
        {"cniVersion":"1.1.0","interfaces":[{"name":"net1","mac":"02:00:00:00:00:01","mtu":1500,"sandbox":"/run/netns/a","pciID":"0000:03:00.2"}],"dns":{}}
        > said
        warning: 0000:03:00.2 had vlan 100 qos 3 802.1q in place of vlan 0 qos 0 802.1q, MAC 02:00:00:00:00:09 in place of MAC 02:00:00:00:00:01, rate 0 to 500 Mbit/s in place of rate 0 to 0 Mbit/s, spoofchk on in place of spoofchk off, trust on in place of trust off, link_state disable in place of link_state auto, interface address 02:00:00:00:00:08 in place of interface address 02:00:00:00:00:01, which no journal knows of, and was brought back to what it is offered with; settings for pods belong into their network, and a PF whose VFs others set up is externallyManaged in its policy
        info: 0000:03:00.2 is net1 of container a
        > world
        0000:03:00.2 net1@a 02:00:00:00:00:01 mtu 1500 up, mlx5_2, mac 02:00:00:00:00:01
        0000:03:00.3 enp3s0f0v1 e2:45:6e:ab:8a:39 mtu 1500 down, mlx5_3
        0000:03:00.4 enp3s0f0v2 e2:45:70:ab:8a:39 mtu 1500 down, mlx5_4
        0000:03:00.5 enp3s0f0v3 e2:45:6a:ab:8a:39 mtu 1500 down, mlx5_5
        /run/ironrail/offer.json
        /var/lib/cni/sriov/pci/0000:03:00.2
        /var/lib/ironrail/cni/0000:03:00.2.json
        > DEL sriov a net1
        ok
        > world
        0000:03:00.2 enp3s0f0v0 02:00:00:00:00:01 mtu 1500 down, mlx5_2, mac 02:00:00:00:00:01
        0000:03:00.3 enp3s0f0v1 e2:45:6e:ab:8a:39 mtu 1500 down, mlx5_3
        0000:03:00.4 enp3s0f0v2 e2:45:70:ab:8a:39 mtu 1500 down, mlx5_4
        0000:03:00.5 enp3s0f0v3 e2:45:6a:ab:8a:39 mtu 1500 down, mlx5_5
        /run/ironrail/offer.json
    "#]].assert_eq(&told);
}

#[test]
fn a_vf_as_it_is_offered_is_not_touched_before_a_pod() {
    let bench = offered_with(golden());
    expect![[r#"
        > world
        0000:03:00.2 enp3s0f0v0 02:00:00:00:00:01 mtu 1500 down, mlx5_2, mac 02:00:00:00:00:01
        0000:03:00.3 enp3s0f0v1 e2:45:6e:ab:8a:39 mtu 1500 down, mlx5_3
        0000:03:00.4 enp3s0f0v2 e2:45:70:ab:8a:39 mtu 1500 down, mlx5_4
        0000:03:00.5 enp3s0f0v3 e2:45:6a:ab:8a:39 mtu 1500 down, mlx5_5
        /run/ironrail/offer.json
        > ADD sriov a net1
        {"cniVersion":"1.1.0","interfaces":[{"name":"net1","mac":"02:00:00:00:00:01","mtu":1500,"sandbox":"/run/netns/a","pciID":"0000:03:00.2"}],"dns":{}}
        > said
        info: 0000:03:00.2 is net1 of container a
    "#]].assert_eq(&bench.run("world\nADD sriov a net1\nsaid"));
}

#[test]
fn without_a_profile_what_a_vf_has_is_its_own() {
    let bench = offered_with(serde_json::Value::Null);
    dirt(&bench);
    let told = bench.run("ADD sriov a net1\nDEL sriov a net1\nworld");
    expect![[r#"
        > ADD sriov a net1
        {"cniVersion":"1.1.0","interfaces":[{"name":"net1","mac":"02:00:00:00:00:08","mtu":1500,"sandbox":"/run/netns/a","pciID":"0000:03:00.2"}],"dns":{}}
        > DEL sriov a net1
        ok
        > world
        0000:03:00.2 enp3s0f0v0 02:00:00:00:00:08 mtu 1500 down, mlx5_2, mac 02:00:00:00:00:09, vlan 100 qos 3 0x8100, rate 0 to 500, spoofchk, trust, link Disable
        0000:03:00.3 enp3s0f0v1 e2:45:6e:ab:8a:39 mtu 1500 down, mlx5_3
        0000:03:00.4 enp3s0f0v2 e2:45:70:ab:8a:39 mtu 1500 down, mlx5_4
        0000:03:00.5 enp3s0f0v3 e2:45:6a:ab:8a:39 mtu 1500 down, mlx5_5
        /run/ironrail/offer.json
    "#]].assert_eq(&told);
}

#[test]
fn a_vf_that_cannot_be_brought_back_to_its_profile_is_not_given() {
    let bench = offered_with(golden());
    dirt(&bench);
    bench.host.machine().faults.insert(Fault::IgnoresVfMac);
    expect![[r#"
        > ADD sriov a net1
        failed 999: 0000:03:00.2 has vlan 100 qos 3 802.1q in place of vlan 0 qos 0 802.1q, MAC 02:00:00:00:00:09 in place of MAC 02:00:00:00:00:01, rate 0 to 500 Mbit/s in place of rate 0 to 0 Mbit/s, spoofchk on in place of spoofchk off, trust on in place of trust off, link_state disable in place of link_state auto, interface address 02:00:00:00:00:08 in place of interface address 02:00:00:00:00:01, which no journal knows of, and cannot be brought back to what it is offered with: VF 0 of enp3s0f0 has MAC 02:00:00:00:00:09 after MAC 02:00:00:00:00:01 was set
        > DEL sriov a net1
        ok
        > world
        0000:03:00.2 enp3s0f0v0 02:00:00:00:00:08 mtu 1500 down, mlx5_2, mac 02:00:00:00:00:09, trust
        0000:03:00.3 enp3s0f0v1 e2:45:6e:ab:8a:39 mtu 1500 down, mlx5_3
        0000:03:00.4 enp3s0f0v2 e2:45:70:ab:8a:39 mtu 1500 down, mlx5_4
        0000:03:00.5 enp3s0f0v3 e2:45:6a:ab:8a:39 mtu 1500 down, mlx5_5
        /run/ironrail/offer.json
    "#]].assert_eq(&bench.run("ADD sriov a net1\nDEL sriov a net1\nworld"));
}
