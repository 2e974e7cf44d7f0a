//! The plugin `ib-sriov`: GUIDs, isolation, user space.

use crate::bench::{Bench, show};
use crate::tampering::{Tamper, Tampering};
use expect_test::{Expect, expect};
use host::seam::LinkChange;
use host::sim::{Fault, Flavour, Machine};
use host::{Host, Namespace, guid, vf_profile, vf_settings};
use serde_json::{Value, json};

/// VF 0 of an InfiniBand ConnectX-7.
pub const VF: &str = "0000:3b:00.1";
pub const PF: &str = "0000:3b:00.0";

pub fn bench() -> Bench {
    let clock = "2026-01-01T00:00:00Z".parse().unwrap();
    let mut machine = Machine::new("ib-0", Flavour::Ubuntu, clock);
    machine.add_lifeline(0x01);
    machine.add_connectx7(0x3b, 0, true);
    machine.boot();
    let bench = Bench::over(machine);
    bench.make_vfs("0000:3b:00.0");
    bench
}

fn check(scenario: &str, expected: Expect) {
    expected.assert_eq(&bench().run(&scenario.replace("VF", VF)));
}

#[test]
fn a_guid_is_given_and_taken_back() {
    check(
        r#"world
         ADD ib-sriov a ib0 {"deviceID": "VF", "runtimeConfig": {"infinibandGUID": "02:00:00:00:00:00:00:01"}}
         world
         CHECK ib-sriov a ib0 {"deviceID": "VF"}
         DEL ib-sriov a ib0 {"deviceID": "VF"}
         world"#,
        expect![[r#"
            > world
            0000:3b:00.1 ibp59s0v0 00:00:10:86:fe:80:00:00:00:00:00:00:b2:42:ef:ff:fe:c2:59:de mtu 2044 down, mlx5_1
            0000:3b:00.2 ibp59s0v1 00:00:10:86:fe:80:00:00:00:00:00:00:f2:3e:c8:ff:fe:3e:b5:2f mtu 2044 down, mlx5_2
            0000:3b:00.3 ibp59s0v2 00:00:10:86:fe:80:00:00:00:00:00:00:f2:3e:ca:ff:fe:3e:b5:2f mtu 2044 down, mlx5_3
            0000:3b:00.4 ibp59s0v3 00:00:10:86:fe:80:00:00:00:00:00:00:f2:3e:c4:ff:fe:3e:b5:2f mtu 2044 down, mlx5_4
            > ADD ib-sriov a ib0 {"deviceID": "0000:3b:00.1", "runtimeConfig": {"infinibandGUID": "02:00:00:00:00:00:00:01"}}
            {"cniVersion":"1.1.0","interfaces":[{"name":"ib0","mtu":2044,"sandbox":"/run/netns/a","pciID":"0000:3b:00.1"}],"dns":{}}
            > world
            0000:3b:00.1 ib0@a 00:00:10:86:fe:80:00:00:00:00:00:00:02:00:00:00:00:00:00:01 mtu 2044 up, mlx5_1
            0000:3b:00.2 ibp59s0v1 00:00:10:86:fe:80:00:00:00:00:00:00:f2:3e:c8:ff:fe:3e:b5:2f mtu 2044 down, mlx5_2
            0000:3b:00.3 ibp59s0v2 00:00:10:86:fe:80:00:00:00:00:00:00:f2:3e:ca:ff:fe:3e:b5:2f mtu 2044 down, mlx5_3
            0000:3b:00.4 ibp59s0v3 00:00:10:86:fe:80:00:00:00:00:00:00:f2:3e:c4:ff:fe:3e:b5:2f mtu 2044 down, mlx5_4
            /var/lib/ironrail/cni/0000:3b:00.1.json
            > CHECK ib-sriov a ib0 {"deviceID": "0000:3b:00.1"}
            ok
            > DEL ib-sriov a ib0 {"deviceID": "0000:3b:00.1"}
            ok
            > world
            0000:3b:00.1 ibp59s0v0 00:00:10:86:fe:80:00:00:00:00:00:00:b2:42:ef:ff:fe:c2:59:de mtu 2044 down, mlx5_1
            0000:3b:00.2 ibp59s0v1 00:00:10:86:fe:80:00:00:00:00:00:00:f2:3e:c8:ff:fe:3e:b5:2f mtu 2044 down, mlx5_2
            0000:3b:00.3 ibp59s0v2 00:00:10:86:fe:80:00:00:00:00:00:00:f2:3e:ca:ff:fe:3e:b5:2f mtu 2044 down, mlx5_3
            0000:3b:00.4 ibp59s0v3 00:00:10:86:fe:80:00:00:00:00:00:00:f2:3e:c4:ff:fe:3e:b5:2f mtu 2044 down, mlx5_4
        "#]],
    );
}

/// The rebind frees the number of the VF's uverbs and takes the lowest that is free, here the one of a VF whose driver
/// went before (drivers/infiniband/core/uverbs_main.c, ib_uverbs_add_one: ida_alloc_max).
#[test]
fn without_isolation_the_nodes_that_a_rebind_made_anew_are_described_or_refused() {
    const OTHER: &str = "0000:3b:00.2";
    let add = format!(
        r#"ADD ib-sriov a ib0 {{"deviceID": "{OTHER}", "args": {{"cni": {{"guid": "02:00:00:00:00:00:00:01"}}}}}}"#
    );
    let free_a_number = format!("write /sys/bus/pci/devices/{VF}/driver/unbind {VF}");
    let nodes = |bench: &Bench| -> Vec<String> {
        host::cdi::rdma_nodes(&bench.host, OTHER).into_values().flatten().collect()
    };

    let by_name = bench();
    let vf = OTHER.parse().unwrap();
    let announced: Vec<_> = nodes(&by_name).into_iter().map(host::cdi::DeviceNode::same).collect();
    host::cdi::write(&by_name.host, &vf, &announced).unwrap();
    let mut told = by_name.run(&format!("show {}\n{free_a_number}\n{add}", host::cdi::path(&vf)));
    told += &by_name.run(&format!("show {}", host::cdi::path(&vf)));

    let by_path = bench();
    let boot_id = by_path.host.machine().boot_id.clone();
    let mut given = nodes(&by_path);
    given.retain(|node| !node.ends_with("rdma_cm"));
    let claim =
        json!({"resource": "openshift.io/ib", "at": "2026-01-01T00:00:00Z", "nodes": given});
    let claims = json!({"version": 1, "bootId": boot_id, "sequence": 1, "claims": {OTHER: claim}});
    let device = json!({"pci": OTHER, "state": {"is": "ready"}, "parent": "0000:3b:00.0"});
    let resource = json!({
        "rdma": true, "vhostNet": false, "excludeTopology": false, "devices": [device],
    });
    let offer = json!({
        "version": 1, "bootId": boot_id, "sequence": 1, "byPath": true,
        "resources": {"openshift.io/ib": resource},
    });
    for (file, content) in [(api::files::OFFER, offer), (api::files::CLAIMS, claims)] {
        by_path.host.replace(file, content.to_string().as_bytes(), 0o600).unwrap();
    }
    told += &by_path.run(&format!("{free_a_number}\n{add}"));
    expect![[r#"
        > show /var/run/cdi/ironrail.dev-vf-0000:3b:00.2.json
        {"cdiVersion":"0.5.0","kind":"ironrail.dev/vf","devices":[{"name":"0000:3b:00.2","containerEdits":{"deviceNodes":[{"path":"/dev/infiniband/issm2","permissions":"rw"},{"path":"/dev/infiniband/rdma_cm","permissions":"rw"},{"path":"/dev/infiniband/umad2","permissions":"rw"},{"path":"/dev/infiniband/uverbs2","permissions":"rw"}]}}]}
        > write /sys/bus/pci/devices/0000:3b:00.1/driver/unbind 0000:3b:00.1
        > ADD ib-sriov a ib0 {"deviceID": "0000:3b:00.2", "args": {"cni": {"guid": "02:00:00:00:00:00:00:01"}}}
        {"cniVersion":"1.1.0","interfaces":[{"name":"ib0","mtu":2044,"sandbox":"/run/netns/a","pciID":"0000:3b:00.2"}],"dns":{}}
        > show /var/run/cdi/ironrail.dev-vf-0000:3b:00.2.json
        {"cdiVersion":"0.5.0","kind":"ironrail.dev/vf","devices":[{"name":"0000:3b:00.2","containerEdits":{"deviceNodes":[{"path":"/dev/infiniband/issm1","permissions":"rw"},{"path":"/dev/infiniband/rdma_cm","permissions":"rw"},{"path":"/dev/infiniband/umad1","permissions":"rw"},{"path":"/dev/infiniband/uverbs1","permissions":"rw"}]}}]}
        > write /sys/bus/pci/devices/0000:3b:00.1/driver/unbind 0000:3b:00.1
        > ADD ib-sriov a ib0 {"deviceID": "0000:3b:00.2", "args": {"cni": {"guid": "02:00:00:00:00:00:00:01"}}}
        failed 999: the pod must be recreated: 0000:3b:00.2 had /dev/infiniband/issm2, /dev/infiniband/umad2, /dev/infiniband/uverbs2 when the pod was admitted, which is given by path, and has /dev/infiniband/issm1, /dev/infiniband/umad1, /dev/infiniband/uverbs1 now; with CDI switched on in the container runtime, and useCDI not false, numbers may change
    "#]]
    .assert_eq(&told);
}

#[test]
fn isolation_moves_the_rdma_device_before_the_interface() {
    check(
        r#"ADD ib-sriov a ib0 {"deviceID": "VF", "rdmaIsolation": true, "link_state": "enable", "args": {"cni": {"guid": "02:00:00:00:00:00:00:01"}}}
         pod a
         world
         CHECK ib-sriov a ib0 {"deviceID": "VF", "rdmaIsolation": true}
         DEL ib-sriov a ib0 {"deviceID": "VF", "rdmaIsolation": true}
         DEL ib-sriov a ib0 {"deviceID": "VF", "rdmaIsolation": true}
         world"#,
        expect![[r#"
            > ADD ib-sriov a ib0 {"deviceID": "0000:3b:00.1", "rdmaIsolation": true, "link_state": "enable", "args": {"cni": {"guid": "02:00:00:00:00:00:00:01"}}}
            {"cniVersion":"1.1.0","interfaces":[{"name":"ib0","mtu":2044,"sandbox":"/run/netns/a","pciID":"0000:3b:00.1"}],"dns":{}}
            > pod a
            lo
            ib0
            rdma mlx5_1
            > world
            0000:3b:00.1 ib0@a 00:00:10:86:fe:80:00:00:00:00:00:00:02:00:00:00:00:00:00:01 mtu 2044 up, mlx5_1@a, link Enable
            0000:3b:00.2 ibp59s0v1 00:00:10:86:fe:80:00:00:00:00:00:00:f2:3e:c8:ff:fe:3e:b5:2f mtu 2044 down, mlx5_2
            0000:3b:00.3 ibp59s0v2 00:00:10:86:fe:80:00:00:00:00:00:00:f2:3e:ca:ff:fe:3e:b5:2f mtu 2044 down, mlx5_3
            0000:3b:00.4 ibp59s0v3 00:00:10:86:fe:80:00:00:00:00:00:00:f2:3e:c4:ff:fe:3e:b5:2f mtu 2044 down, mlx5_4
            /var/lib/ironrail/cni/0000:3b:00.1.json
            > CHECK ib-sriov a ib0 {"deviceID": "0000:3b:00.1", "rdmaIsolation": true}
            ok
            > DEL ib-sriov a ib0 {"deviceID": "0000:3b:00.1", "rdmaIsolation": true}
            ok
            > DEL ib-sriov a ib0 {"deviceID": "0000:3b:00.1", "rdmaIsolation": true}
            ok
            > world
            0000:3b:00.1 ibp59s0v0 00:00:10:86:fe:80:00:00:00:00:00:00:b2:42:ef:ff:fe:c2:59:de mtu 2044 down, mlx5_1
            0000:3b:00.2 ibp59s0v1 00:00:10:86:fe:80:00:00:00:00:00:00:f2:3e:c8:ff:fe:3e:b5:2f mtu 2044 down, mlx5_2
            0000:3b:00.3 ibp59s0v2 00:00:10:86:fe:80:00:00:00:00:00:00:f2:3e:ca:ff:fe:3e:b5:2f mtu 2044 down, mlx5_3
            0000:3b:00.4 ibp59s0v3 00:00:10:86:fe:80:00:00:00:00:00:00:f2:3e:c4:ff:fe:3e:b5:2f mtu 2044 down, mlx5_4
        "#]],
    );
}

#[test]
fn del_after_the_namespace_is_gone_restores_the_guid() {
    check(
        r#"ADD ib-sriov a ib0 {"deviceID": "VF", "rdmaIsolation": true, "args": {"cni": {"guid": "02:00:00:00:00:00:00:01"}}}
         end a
         DEL ib-sriov a ib0 {"deviceID": "VF"}
         world"#,
        expect![[r#"
            > ADD ib-sriov a ib0 {"deviceID": "0000:3b:00.1", "rdmaIsolation": true, "args": {"cni": {"guid": "02:00:00:00:00:00:00:01"}}}
            {"cniVersion":"1.1.0","interfaces":[{"name":"ib0","mtu":2044,"sandbox":"/run/netns/a","pciID":"0000:3b:00.1"}],"dns":{}}
            > end a
            > DEL ib-sriov a ib0 {"deviceID": "0000:3b:00.1"}
            ok
            > world
            0000:3b:00.1 ibp59s0v0 00:00:10:86:fe:80:00:00:00:00:00:00:b2:42:ef:ff:fe:c2:59:de mtu 2044 down, mlx5_1
            0000:3b:00.2 ibp59s0v1 00:00:10:86:fe:80:00:00:00:00:00:00:f2:3e:c8:ff:fe:3e:b5:2f mtu 2044 down, mlx5_2
            0000:3b:00.3 ibp59s0v2 00:00:10:86:fe:80:00:00:00:00:00:00:f2:3e:ca:ff:fe:3e:b5:2f mtu 2044 down, mlx5_3
            0000:3b:00.4 ibp59s0v3 00:00:10:86:fe:80:00:00:00:00:00:00:f2:3e:c4:ff:fe:3e:b5:2f mtu 2044 down, mlx5_4
        "#]],
    );
}

#[test]
fn a_guid_that_the_firmware_does_not_take_is_found_out_and_undone() {
    check(
        r#"fault GuidStaysZero
         ADD ib-sriov a ib0 {"deviceID": "VF", "args": {"cni": {"guid": "02:00:00:00:00:00:00:01"}}}
         world"#,
        expect![[r#"
            > fault GuidStaysZero
            > ADD ib-sriov a ib0 {"deviceID": "0000:3b:00.1", "args": {"cni": {"guid": "02:00:00:00:00:00:00:01"}}}
            failed 999: 0000:3b:00.1 has port GUID b2:42:ef:ff:fe:c2:59:de after 02:00:00:00:00:00:00:01 was set
            > world
            0000:3b:00.1 ibp59s0v0 00:00:10:86:fe:80:00:00:00:00:00:00:b2:42:ef:ff:fe:c2:59:de mtu 2044 down, mlx5_1
            0000:3b:00.2 ibp59s0v1 00:00:10:86:fe:80:00:00:00:00:00:00:f2:3e:c8:ff:fe:3e:b5:2f mtu 2044 down, mlx5_2
            0000:3b:00.3 ibp59s0v2 00:00:10:86:fe:80:00:00:00:00:00:00:f2:3e:ca:ff:fe:3e:b5:2f mtu 2044 down, mlx5_3
            0000:3b:00.4 ibp59s0v3 00:00:10:86:fe:80:00:00:00:00:00:00:f2:3e:c4:ff:fe:3e:b5:2f mtu 2044 down, mlx5_4
        "#]],
    );
}

#[test]
fn a_vf_for_user_space_gets_its_guid_and_stays() {
    check(
        r#"modprobe vfio-pci
         write /sys/bus/pci/drivers/mlx5_core/unbind VF
         write /sys/bus/pci/devices/VF/driver_override vfio-pci
         write /sys/bus/pci/drivers_probe VF
         ADD ib-sriov a ib0 {"deviceID": "VF", "vfioPciMode": true, "args": {"cni": {"guid": "02:00:00:00:00:00:00:01"}}, "ipam": {"type": "host-local"}}
         DEL ib-sriov a ib0 {"deviceID": "VF", "ipam": {"type": "host-local"}}
         world"#,
        expect![[r#"
            > modprobe vfio-pci
            > write /sys/bus/pci/drivers/mlx5_core/unbind 0000:3b:00.1
            > write /sys/bus/pci/devices/0000:3b:00.1/driver_override vfio-pci
            > write /sys/bus/pci/drivers_probe 0000:3b:00.1
            > ADD ib-sriov a ib0 {"deviceID": "0000:3b:00.1", "vfioPciMode": true, "args": {"cni": {"guid": "02:00:00:00:00:00:00:01"}}, "ipam": {"type": "host-local"}}
            {"cniVersion":"1.1.0","interfaces":[{"name":"ib0","sandbox":"/run/netns/a","pciID":"0000:3b:00.1"}],"dns":{}}
            > DEL ib-sriov a ib0 {"deviceID": "0000:3b:00.1", "ipam": {"type": "host-local"}}
            ok
            > world
            0000:3b:00.1 vfio-pci
            0000:3b:00.2 ibp59s0v1 00:00:10:86:fe:80:00:00:00:00:00:00:f2:3e:c8:ff:fe:3e:b5:2f mtu 2044 down, mlx5_2
            0000:3b:00.3 ibp59s0v2 00:00:10:86:fe:80:00:00:00:00:00:00:f2:3e:ca:ff:fe:3e:b5:2f mtu 2044 down, mlx5_3
            0000:3b:00.4 ibp59s0v3 00:00:10:86:fe:80:00:00:00:00:00:00:f2:3e:c4:ff:fe:3e:b5:2f mtu 2044 down, mlx5_4
        "#]],
    );
}

/// The GUID that the daemon has configured.
const GOLDEN: &str = "02:00:00:00:00:00:0a:01";

/// A VF that the daemon has given a GUID, and the offer of it.
fn offered() -> Bench {
    let bench = bench();
    configure(&bench, GOLDEN);
    let boot_id = bench.host.machine().boot_id.clone();
    let device = json!({
        "pci": VF, "state": {"is": "ready"}, "parent": "0000:3b:00.0", "profile": {"guid": GOLDEN},
    });
    let resource = json!({
        "rdma": true, "vhostNet": false, "excludeTopology": false, "devices": [device],
    });
    let offer = json!({
        "version": 1, "bootId": boot_id, "sequence": 1, "resources": {"openshift.io/ib": resource},
    });
    bench.host.replace(api::files::OFFER, offer.to_string().as_bytes(), 0o600).unwrap();
    bench
}

/// Has the PF hold this GUID for the VF, and its driver take it.
fn configure(bench: &Bench, guid: &str) {
    let pf = "0000:3b:00.0".parse().unwrap();
    vf_settings::set_guid(&bench.host, &pf, 0, guid).unwrap();
    guid::rebind(&bench.host, &VF.parse().unwrap()).unwrap();
}

/// The VF's two GUIDs.
fn guids(bench: &Bench) -> String {
    let vf = vf_profile::identify(&bench.host, &VF.parse().unwrap()).unwrap();
    let seen = guid::seen(&bench.host, &vf).unwrap();
    let seen: Vec<String> = seen.iter().map(|(what, guid)| format!("{what} {guid}\n")).collect();
    seen.concat()
}

#[test]
fn a_guid_that_somebody_unknown_has_left_is_gone_before_the_next_pod_and_after_it() {
    let bench = offered();
    configure(&bench, "02:00:00:00:00:00:00:09");
    let mut told = guids(&bench);
    told += &bench.run(&format!(
        "ADD ib-sriov a ib0 {{\"deviceID\": \"{VF}\"}}\nsaid\nDEL ib-sriov a ib0 {{\"deviceID\": \"{VF}\"}}"
    ));
    told += &guids(&bench);
    let asked = json!({"deviceID": VF, "args": {"cni": {"guid": "02:00:00:00:00:00:00:01"}}});
    told += &bench.run(&format!("ADD ib-sriov b ib0 {asked}\nsaid\nDEL ib-sriov b ib0 {asked}"));
    told += &guids(&bench);
    expect![[r#"
        port GUID 02:00:00:00:00:00:00:09
        node GUID 02:00:00:00:00:00:00:09
        > ADD ib-sriov a ib0 {"deviceID": "0000:3b:00.1"}
        {"cniVersion":"1.1.0","interfaces":[{"name":"ib0","mtu":2044,"sandbox":"/run/netns/a","pciID":"0000:3b:00.1"}],"dns":{}}
        > said
        warning: 0000:3b:00.1 had port GUID 02:00:00:00:00:00:00:09 and node GUID 02:00:00:00:00:00:00:09 in place of 02:00:00:00:00:00:0a:01, which no journal knows of, and was brought back to what it is offered with; a GUID for a pod belongs into its network or its annotation
        > DEL ib-sriov a ib0 {"deviceID": "0000:3b:00.1"}
        ok
        port GUID 02:00:00:00:00:00:0a:01
        node GUID 02:00:00:00:00:00:0a:01
        > ADD ib-sriov b ib0 {"deviceID":"0000:3b:00.1","args":{"cni":{"guid":"02:00:00:00:00:00:00:01"}}}
        {"cniVersion":"1.1.0","interfaces":[{"name":"ib0","mtu":2044,"sandbox":"/run/netns/b","pciID":"0000:3b:00.1"}],"dns":{}}
        > said
        > DEL ib-sriov b ib0 {"deviceID":"0000:3b:00.1","args":{"cni":{"guid":"02:00:00:00:00:00:00:01"}}}
        ok
        port GUID 02:00:00:00:00:00:0a:01
        node GUID 02:00:00:00:00:00:0a:01
    "#]]
    .assert_eq(&told);
}

#[test]
fn a_vf_whose_guid_does_not_come_back_is_not_given() {
    let bench = offered();
    configure(&bench, "02:00:00:00:00:00:00:09");
    bench.host.machine().faults.insert(Fault::GuidStaysZero);
    let mut told = bench.run(&format!(
        "ADD ib-sriov a ib0 {{\"deviceID\": \"{VF}\"}}\nDEL ib-sriov a ib0 {{\"deviceID\": \"{VF}\"}}"
    ));
    told += &guids(&bench);
    expect![[r#"
        > ADD ib-sriov a ib0 {"deviceID": "0000:3b:00.1"}
        failed 999: 0000:3b:00.1 has port GUID 02:00:00:00:00:00:00:09 and node GUID 02:00:00:00:00:00:00:09 in place of 02:00:00:00:00:00:0a:01, which no journal knows of, and cannot be brought back to what it is offered with: it has port GUID b2:42:ef:ff:fe:c2:59:de and node GUID 00:00:00:00:00:00:00:00 after 02:00:00:00:00:00:0a:01 was set
        > DEL ib-sriov a ib0 {"deviceID": "0000:3b:00.1"}
        ok
        port GUID b2:42:ef:ff:fe:c2:59:de
        node GUID 00:00:00:00:00:00:00:00
    "#]]
    .assert_eq(&told);
}

#[test]
fn in_user_space_the_pf_holds_what_the_daemon_configured_again_after_a_pod() {
    let bench = offered();
    let asked = json!({
        "deviceID": VF, "vfioPciMode": true, "args": {"cni": {"guid": "02:00:00:00:00:00:00:01"}},
    });
    bench.run(&format!(
        "modprobe vfio-pci
         write /sys/bus/pci/drivers/mlx5_core/unbind {VF}
         write /sys/bus/pci/devices/{VF}/driver_override vfio-pci
         write /sys/bus/pci/drivers_probe {VF}"
    ));
    let mut told = guids(&bench);
    told += &bench.run(&format!("ADD ib-sriov a ib0 {asked}"));
    told += &guids(&bench);
    told += &bench.run(&format!("DEL ib-sriov a ib0 {asked}"));
    told += &guids(&bench);
    expect![[r#"
        port GUID 02:00:00:00:00:00:0a:01
        node GUID 02:00:00:00:00:00:0a:01
        > ADD ib-sriov a ib0 {"deviceID":"0000:3b:00.1","vfioPciMode":true,"args":{"cni":{"guid":"02:00:00:00:00:00:00:01"}}}
        {"cniVersion":"1.1.0","interfaces":[{"name":"ib0","sandbox":"/run/netns/a","pciID":"0000:3b:00.1"}],"dns":{}}
        port GUID 02:00:00:00:00:00:00:01
        node GUID 02:00:00:00:00:00:00:01
        > DEL ib-sriov a ib0 {"deviceID":"0000:3b:00.1","vfioPciMode":true,"args":{"cni":{"guid":"02:00:00:00:00:00:00:01"}}}
        ok
        port GUID 02:00:00:00:00:00:0a:01
        node GUID 02:00:00:00:00:00:0a:01
    "#]]
    .assert_eq(&told);
}

#[test]
fn what_cannot_be_is_refused_in_a_sentence() {
    let refused = |conf: Value, expected: Expect| {
        let bench = bench();
        let before = bench.world();
        let mut all = json!({"deviceID": VF});
        all.as_object_mut().unwrap().extend(conf.as_object().unwrap().clone());
        let reply = bench.call("ADD", "ib-sriov", "a", "ib0", &all);
        expected.assert_eq(show(&reply).trim_end());
        assert_eq!(bench.world(), before);
    };
    refused(
        json!({"deviceID": "0000:3b:00.0"}),
        expect![
            "failed 7: 0000:3b:00.0 is a whole PF, which can be given to a pod only with the driver vfio-pci"
        ],
    );
    refused(
        json!({"link_state": "on"}),
        expect![[r#"failed 7: link_state "on" is none of auto, enable, disable"#]],
    );
    refused(
        json!({"args": {"cni": {"guid": "zz:00:00:00:00:00:00:01"}}}),
        expect![[
            r#"failed 7: GUID "zz:00:00:00:00:00:00:01" is not eight bytes; write 00:11:22:33:44:55:66:77"#
        ]],
    );
    refused(
        json!({"args": {"cni": {"guid": "02:00"}}}),
        expect![[r#"failed 7: GUID "02:00" is not eight bytes; write 00:11:22:33:44:55:66:77"#]],
    );
    refused(
        json!({"args": {"cni": {"guid": "00:00:00:00:00:00:00:00"}}}),
        expect![[r#"failed 7: GUID "00:00:00:00:00:00:00:00" is zero, which means none"#]],
    );
    refused(
        json!({"args": {"cni": {"guid": 7}}}),
        expect!["failed 6: args.cni.guid must be text, but is 7"],
    );
    refused(
        json!({"ibKubernetesEnabled": true}),
        expect![
            "failed 11: ib-kubernetes has not configured this network for the pod yet (no mellanox.infiniband.app: configured in args.cni)"
        ],
    );
    refused(
        json!({"ibKubernetesEnabled": true, "args": {"cni": {"mellanox.infiniband.app": "configured"}}}),
        expect![
            "failed 7: ib-kubernetes is enabled, and there is no GUID for 0000:3b:00.1; enable the capability infinibandGUID"
        ],
    );
    refused(
        json!({"vfioPciMode": true}),
        expect![
            "failed 7: vfioPciMode is set, and 0000:3b:00.1 has mlx5_core in place of vfio-pci"
        ],
    );
    refused(
        json!({"ipam": {"type": "dhcp"}}),
        expect![
            "failed 7: ipam type dhcp does not work on InfiniBand; use another, for example whereabouts"
        ],
    );
}

#[test]
fn rdma_after_ib_sriov_is_refused_before_it_destroys_the_interface() {
    check(
        r#"ADD ib-sriov a ib0 {"deviceID": "VF", "args": {"cni": {"guid": "02:00:00:00:00:00:00:01"}}}
         ADD rdma a ib0 {"deviceID": "VF"}
         pod a"#,
        expect![[r#"
            > ADD ib-sriov a ib0 {"deviceID": "0000:3b:00.1", "args": {"cni": {"guid": "02:00:00:00:00:00:00:01"}}}
            {"cniVersion":"1.1.0","interfaces":[{"name":"ib0","mtu":2044,"sandbox":"/run/netns/a","pciID":"0000:3b:00.1"}],"dns":{}}
            > ADD rdma a ib0 {"deviceID": "0000:3b:00.1"}
            failed 7: rdma after ib-sriov would destroy the interface of 0000:3b:00.1; take rdma out of the chain and set rdmaIsolation: true for ib-sriov
            > pod a
            lo
            ib0
        "#]],
    );
}

#[test]
fn a_pod_that_upstreams_plugin_started_is_checked_and_released() {
    let bench = bench();
    let asked = json!({
        "deviceID": VF, "rdmaIsolation": true, "link_state": "enable",
        "args": {"cni": {"guid": "02:00:00:00:00:00:00:01"}},
    });
    let mut told = bench.run("world");
    bench.call("ADD", "ib-sriov", "a", "ib0", &asked);
    let rdma = bench.rdma_name(&VF.parse().unwrap());
    bench.forget();
    let cache = json!({
        "cniVersion": "1.0.0", "name": "blue", "type": "ib-sriov", "deviceID": VF, "VFID": 0,
        "link_state": "enable", "rdmaIsolation": true, "Master": "ibp59s0",
        "HostIFNames": "ibp59s0v0", "HostIFGUID": "b2:42:ef:ff:fe:c2:59:de", "ContIFNames": "ib0",
        "RdmaNetState": {"SandboxRdmaDevName": rdma, "ContainerRdmaDevName": rdma},
    });
    told += &bench.run(&format!(
        r#"file /var/lib/cni/ib-sriov/a-ib0 {cache}
         world
         CHECK ib-sriov a ib0 {asked}
         DEL ib-sriov a ib0 {asked}
         world"#
    ));
    expect![[r#"
        > world
        0000:3b:00.1 ibp59s0v0 00:00:10:86:fe:80:00:00:00:00:00:00:b2:42:ef:ff:fe:c2:59:de mtu 2044 down, mlx5_1
        0000:3b:00.2 ibp59s0v1 00:00:10:86:fe:80:00:00:00:00:00:00:f2:3e:c8:ff:fe:3e:b5:2f mtu 2044 down, mlx5_2
        0000:3b:00.3 ibp59s0v2 00:00:10:86:fe:80:00:00:00:00:00:00:f2:3e:ca:ff:fe:3e:b5:2f mtu 2044 down, mlx5_3
        0000:3b:00.4 ibp59s0v3 00:00:10:86:fe:80:00:00:00:00:00:00:f2:3e:c4:ff:fe:3e:b5:2f mtu 2044 down, mlx5_4
        > file /var/lib/cni/ib-sriov/a-ib0 {"cniVersion":"1.0.0","name":"blue","type":"ib-sriov","deviceID":"0000:3b:00.1","VFID":0,"link_state":"enable","rdmaIsolation":true,"Master":"ibp59s0","HostIFNames":"ibp59s0v0","HostIFGUID":"b2:42:ef:ff:fe:c2:59:de","ContIFNames":"ib0","RdmaNetState":{"SandboxRdmaDevName":"mlx5_1","ContainerRdmaDevName":"mlx5_1"}}
        > world
        0000:3b:00.1 ib0@a 00:00:10:86:fe:80:00:00:00:00:00:00:02:00:00:00:00:00:00:01 mtu 2044 up, mlx5_1@a, link Enable
        0000:3b:00.2 ibp59s0v1 00:00:10:86:fe:80:00:00:00:00:00:00:f2:3e:c8:ff:fe:3e:b5:2f mtu 2044 down, mlx5_2
        0000:3b:00.3 ibp59s0v2 00:00:10:86:fe:80:00:00:00:00:00:00:f2:3e:ca:ff:fe:3e:b5:2f mtu 2044 down, mlx5_3
        0000:3b:00.4 ibp59s0v3 00:00:10:86:fe:80:00:00:00:00:00:00:f2:3e:c4:ff:fe:3e:b5:2f mtu 2044 down, mlx5_4
        /var/lib/cni/ib-sriov/a-ib0
        > CHECK ib-sriov a ib0 {"deviceID":"0000:3b:00.1","rdmaIsolation":true,"link_state":"enable","args":{"cni":{"guid":"02:00:00:00:00:00:00:01"}}}
        ok
        > DEL ib-sriov a ib0 {"deviceID":"0000:3b:00.1","rdmaIsolation":true,"link_state":"enable","args":{"cni":{"guid":"02:00:00:00:00:00:00:01"}}}
        ok
        > world
        0000:3b:00.1 ibp59s0v0 00:00:10:86:fe:80:00:00:00:00:00:00:b2:42:ef:ff:fe:c2:59:de mtu 2044 down, mlx5_1
        0000:3b:00.2 ibp59s0v1 00:00:10:86:fe:80:00:00:00:00:00:00:f2:3e:c8:ff:fe:3e:b5:2f mtu 2044 down, mlx5_2
        0000:3b:00.3 ibp59s0v2 00:00:10:86:fe:80:00:00:00:00:00:00:f2:3e:ca:ff:fe:3e:b5:2f mtu 2044 down, mlx5_3
        0000:3b:00.4 ibp59s0v3 00:00:10:86:fe:80:00:00:00:00:00:00:f2:3e:c4:ff:fe:3e:b5:2f mtu 2044 down, mlx5_4
    "#]].assert_eq(&told);
}

#[test]
fn a_del_that_comes_after_a_boot_gives_the_vf_no_guid_of_before_it() {
    let bench = bench();
    let cache = json!({
        "cniVersion": "1.0.0", "name": "blue", "type": "ib-sriov", "deviceID": VF, "VFID": 0,
        "Master": "ibp59s0", "HostIFNames": "ibp59s0v0", "HostIFGUID": "02:00:00:00:00:00:00:11",
        "ContIFNames": "ib0", "args": {"cni": {"guid": "02:00:00:00:00:00:00:01"}},
    });
    bench.run(&format!("file /var/lib/cni/ib-sriov/a-ib0 {cache}"));
    bench.host.machine().boot();
    bench.make_vfs("0000:3b:00.0");
    let anew = bench.world();
    let told = bench.run("DEL ib-sriov a ib0");
    assert!(told.ends_with("ok\n"), "{told}");
    let home: Vec<&str> = anew.lines().filter(|line| !line.starts_with('/')).collect();
    assert!(home[0].contains("ibp59s0v0"), "{anew}");
    assert_eq!(bench.world().lines().collect::<Vec<_>>(), home);
}

const IPAM: &str = r#""ipam": {"type": "host-local", "ranges": [[{"subnet": "10.1.3.0/24", "rangeStart": "10.1.3.7", "rangeEnd": "10.1.3.7"}]]}"#;

/// An IPAM plugin may need minutes, and every other pod with RDMA would wait for it.
#[test]
fn the_node_wide_lock_is_not_held_while_addresses_are_asked_for() {
    let bench = bench();
    let host = Tampering::new(&bench.host, 1, Tamper::Locks("/var/run/cni/ib-sriov/cni.lock"));
    let conf: Value =
        serde_json::from_str(&format!(r#"{{"deviceID": "{VF}", "rdmaIsolation": true, {IPAM}}}"#))
            .unwrap();
    let reply = bench.call_over(&host, "ADD", "ib-sriov", "a", "ib0", &conf);
    assert_eq!((reply.exit, host.hit().as_deref()), (0, Some("run a program")), "{}", show(&reply));
}

/// There is one address, so the second pod has it only if the first has given it back.
#[test]
fn del_without_a_namespace_gives_vf_guid_and_address_back() {
    let bench = bench();
    let home = bench.world();
    let conf = format!(
        r#"{{"deviceID": "{VF}", "rdmaIsolation": true, "runtimeConfig": {{"infinibandGUID": "02:00:00:00:00:00:00:01"}}, {IPAM}"#
    );
    for pod in ["a", "b"] {
        let told = bench.run(&format!("ADD ib-sriov {pod} ib0 {conf}}}"));
        assert!(told.contains("10.1.3.7/24"), "{told}");
        bench.run(&format!("end {pod}"));
        let told = bench.run(&format!(r#"DEL ib-sriov {pod} ib0 {conf}, "env CNI_NETNS": ""}}"#));
        assert!(told.ends_with("\nok\n"), "{told}");
        assert_eq!(bench.world(), home);
    }
}

#[test]
fn the_rdma_device_may_have_a_name_of_its_own_in_the_pod() {
    let bench = bench();
    let home = bench.world();
    let told = bench.run(
        &r#"ADD ib-sriov a ib0 {"deviceID": "VF", "rdmaDeviceName": "rail0"}
         ADD ib-sriov a ib0 {"deviceID": "VF", "rdmaDeviceName": "rail0", "rdmaIsolation": true}
         pod a
         CHECK ib-sriov a ib0 {"deviceID": "VF", "rdmaDeviceName": "rail0", "rdmaIsolation": true}
         CHECK ib-sriov a ib0 {"deviceID": "VF", "rdmaDeviceName": "rail1", "rdmaIsolation": true}
         DEL ib-sriov a ib0 {"deviceID": "VF"}"#
            .replace("VF", VF),
    );
    expect![[r#"
        > ADD ib-sriov a ib0 {"deviceID": "0000:3b:00.1", "rdmaDeviceName": "rail0"}
        failed 7: rdmaDeviceName "rail0" needs rdmaIsolation: true; without it the RDMA device stays on the host
        > ADD ib-sriov a ib0 {"deviceID": "0000:3b:00.1", "rdmaDeviceName": "rail0", "rdmaIsolation": true}
        {"cniVersion":"1.1.0","interfaces":[{"name":"ib0","mtu":2044,"sandbox":"/run/netns/a","pciID":"0000:3b:00.1"}],"dns":{}}
        > pod a
        lo
        ib0
        rdma rail0
        > CHECK ib-sriov a ib0 {"deviceID": "0000:3b:00.1", "rdmaDeviceName": "rail0", "rdmaIsolation": true}
        ok
        > CHECK ib-sriov a ib0 {"deviceID": "0000:3b:00.1", "rdmaDeviceName": "rail1", "rdmaIsolation": true}
        failed 999: the RDMA device of 0000:3b:00.1 is called rail0 in the pod in place of rail1
        > DEL ib-sriov a ib0 {"deviceID": "0000:3b:00.1"}
        ok
    "#]].assert_eq(&told);
    assert_eq!(bench.world(), home);
}

#[test]
fn check_compares_guid_and_link_state() {
    let bench = bench();
    let conf = |guid: u8, state: &str| {
        format!(
            r#"ib-sriov a ib0 {{"deviceID": "{VF}", "link_state": "{state}", "runtimeConfig": {{"infinibandGUID": "02:00:00:00:00:00:00:0{guid}"}}}}"#
        )
    };
    bench.run(&format!("ADD {}", conf(1, "enable")));
    let check = |(guid, state)| {
        let told = bench.run(&format!("CHECK {}", conf(guid, state)));
        told.lines().last().unwrap_or_default().to_owned()
    };
    let mut told = [(1, "enable"), (2, "enable"), (1, "disable")].map(check).to_vec();
    let pod = Namespace::At("/run/netns/a".to_owned());
    let link = host::home::interface_in(&bench.host, &pod, &VF.parse().unwrap()).unwrap().unwrap();
    bench.host.change_link(&pod, &LinkChange::Mtu { link: link.index, mtu: 1280 }).unwrap();
    told.push(check((1, "enable")));
    expect![[r#"
        ok
        failed 999: 0000:3b:00.1 in the pod has GUID 02:00:00:00:00:00:00:01 in place of 02:00:00:00:00:00:00:02
        failed 999: VF 0 of ibp59s0 has link_state enable in place of link_state disable
        failed 999: 0000:3b:00.1 in the pod has MTU 1280 in place of 2044"#]]
    .assert_eq(&told.join("\n"));
}

/// A whole PF for user space: the record has neither a VF nor an RDMA device.
#[test]
fn gc_forgets_a_whole_function_too() {
    let bench = bench();
    let pf = "0000:3b:00.0";
    bench.run(&format!("write /sys/bus/pci/devices/{pf}/sriov_numvfs 0"));
    bench.run("modprobe vfio-pci");
    bench.run(&format!(
        "write /sys/bus/pci/drivers/mlx5_core/unbind {pf}
         write /sys/bus/pci/devices/{pf}/driver_override vfio-pci
         write /sys/bus/pci/drivers/vfio-pci/bind {pf}"
    ));
    let told = bench.run(&format!(
        r#"ADD ib-sriov a ib0 {{"deviceID": "{pf}", "vfioPciMode": true}}
         GC ib-sriov {{"cni.dev/valid-attachments": []}}"#
    ));
    assert!(told.contains("\"pciID\":\"0000:3b:00.0\""), "{told}");
    assert!(told.ends_with("\nok\n"), "{told}");
    assert!(Host::read(&bench.host, "/var/lib/ironrail/cni/0000:3b:00.0.json").is_err());
}
