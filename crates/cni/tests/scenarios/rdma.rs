//! The plugin `rdma`, mostly as the last of a chain.

use crate::bench::{Bench, VF, check, show};
use crate::tampering::Tampering;
use expect_test::{Expect, expect};
use host::seam::RdmaChange;
use host::{Host, Namespace};
use serde_json::{Value, json};

#[test]
fn a_chain_gives_interface_and_rdma_device_to_the_pod_and_to_nobody_else() {
    check(
        "ADD sriov a net1
         ADD rdma a net1
         pod a
         pod b
         world
         CHECK rdma a net1
         CHECK sriov a net1
         DEL rdma a net1
         world
         DEL sriov a net1
         world",
        expect![[r#"
            > ADD sriov a net1
            {"cniVersion":"1.1.0","interfaces":[{"name":"net1","mac":"c2:28:78:c7:4f:2d","mtu":1500,"sandbox":"/run/netns/a","pciID":"0000:03:00.2"}],"dns":{}}
            > ADD rdma a net1
            {"cniVersion":"1.1.0","interfaces":[{"name":"net1","mac":"c2:28:78:c7:4f:2d","mtu":1500,"sandbox":"/run/netns/a","pciID":"0000:03:00.2"}],"dns":{}}
            > pod a
            lo
            net1
            rdma mlx5_2
            > pod b
            lo
            > world
            0000:03:00.2 net1@a c2:28:78:c7:4f:2d mtu 1500 up, mlx5_2@a
            0000:03:00.3 enp3s0f0v1 e2:45:6e:ab:8a:39 mtu 1500 down, mlx5_3
            0000:03:00.4 enp3s0f0v2 e2:45:70:ab:8a:39 mtu 1500 down, mlx5_4
            0000:03:00.5 enp3s0f0v3 e2:45:6a:ab:8a:39 mtu 1500 down, mlx5_5
            /var/lib/cni/sriov/pci/0000:03:00.2
            /var/lib/ironrail/cni/0000:03:00.2.json
            > CHECK rdma a net1
            ok
            > CHECK sriov a net1
            ok
            > DEL rdma a net1
            ok
            > world
            0000:03:00.2 net1@a c2:28:78:c7:4f:2d mtu 1500 up, mlx5_2
            0000:03:00.3 enp3s0f0v1 e2:45:6e:ab:8a:39 mtu 1500 down, mlx5_3
            0000:03:00.4 enp3s0f0v2 e2:45:70:ab:8a:39 mtu 1500 down, mlx5_4
            0000:03:00.5 enp3s0f0v3 e2:45:6a:ab:8a:39 mtu 1500 down, mlx5_5
            /var/lib/cni/sriov/pci/0000:03:00.2
            /var/lib/ironrail/cni/0000:03:00.2.json
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

/// The card's firmware answers for each port, and under the node-wide lock every other pod would wait for it.
#[test]
fn no_call_asks_a_card_for_the_state_of_its_ports() {
    let bench = Bench::new();
    let host = Tampering::listening(&bench.host);
    for (verb, plugin) in
        [("ADD", "sriov"), ("ADD", "rdma"), ("CHECK", "rdma"), ("DEL", "rdma"), ("DEL", "sriov")]
    {
        let reply = bench.call_over(&host, verb, plugin, "a", "net1", &json!({}));
        assert_eq!(reply.exit, 0, "{}", show(&reply));
    }
    let heard = host.heard();
    assert!(heard.contains(&"list the rdma devices".to_owned()), "{heard:?}");
    assert!(!heard.iter().any(|asked| asked.contains("ports")), "{heard:?}");
}

#[test]
fn two_pods_have_a_device_each() {
    check(
        r#"ADD sriov a net1
         ADD rdma a net1
         ADD sriov b net1 {"deviceID": "0000:03:00.3"}
         ADD rdma b net1 {"deviceID": "0000:03:00.3"}
         pod a
         pod b
         DEL rdma a net1
         DEL sriov a net1
         world"#,
        expect![[r#"
            > ADD sriov a net1
            {"cniVersion":"1.1.0","interfaces":[{"name":"net1","mac":"c2:28:78:c7:4f:2d","mtu":1500,"sandbox":"/run/netns/a","pciID":"0000:03:00.2"}],"dns":{}}
            > ADD rdma a net1
            {"cniVersion":"1.1.0","interfaces":[{"name":"net1","mac":"c2:28:78:c7:4f:2d","mtu":1500,"sandbox":"/run/netns/a","pciID":"0000:03:00.2"}],"dns":{}}
            > ADD sriov b net1 {"deviceID": "0000:03:00.3"}
            {"cniVersion":"1.1.0","interfaces":[{"name":"net1","mac":"e2:45:6e:ab:8a:39","mtu":1500,"sandbox":"/run/netns/b","pciID":"0000:03:00.3"}],"dns":{}}
            > ADD rdma b net1 {"deviceID": "0000:03:00.3"}
            {"cniVersion":"1.1.0","interfaces":[{"name":"net1","mac":"e2:45:6e:ab:8a:39","mtu":1500,"sandbox":"/run/netns/b","pciID":"0000:03:00.3"}],"dns":{}}
            > pod a
            lo
            net1
            rdma mlx5_2
            > pod b
            lo
            net1
            rdma mlx5_3
            > DEL rdma a net1
            ok
            > DEL sriov a net1
            ok
            > world
            0000:03:00.2 enp3s0f0v0 c2:28:78:c7:4f:2d mtu 1500 down, mlx5_2
            0000:03:00.3 net1@b e2:45:6e:ab:8a:39 mtu 1500 up, mlx5_3@b
            0000:03:00.4 enp3s0f0v2 e2:45:70:ab:8a:39 mtu 1500 down, mlx5_4
            0000:03:00.5 enp3s0f0v3 e2:45:6a:ab:8a:39 mtu 1500 down, mlx5_5
            /var/lib/cni/sriov/pci/0000:03:00.3
            /var/lib/ironrail/cni/0000:03:00.3.json
        "#]],
    );
}

#[test]
fn add_again_changes_nothing() {
    check(
        "ADD sriov a net1
         ADD rdma a net1
         ADD rdma a net1
         world",
        expect![[r#"
            > ADD sriov a net1
            {"cniVersion":"1.1.0","interfaces":[{"name":"net1","mac":"c2:28:78:c7:4f:2d","mtu":1500,"sandbox":"/run/netns/a","pciID":"0000:03:00.2"}],"dns":{}}
            > ADD rdma a net1
            {"cniVersion":"1.1.0","interfaces":[{"name":"net1","mac":"c2:28:78:c7:4f:2d","mtu":1500,"sandbox":"/run/netns/a","pciID":"0000:03:00.2"}],"dns":{}}
            > ADD rdma a net1
            {"cniVersion":"1.1.0","interfaces":[{"name":"net1","mac":"c2:28:78:c7:4f:2d","mtu":1500,"sandbox":"/run/netns/a","pciID":"0000:03:00.2"}],"dns":{}}
            > world
            0000:03:00.2 net1@a c2:28:78:c7:4f:2d mtu 1500 up, mlx5_2@a
            0000:03:00.3 enp3s0f0v1 e2:45:6e:ab:8a:39 mtu 1500 down, mlx5_3
            0000:03:00.4 enp3s0f0v2 e2:45:70:ab:8a:39 mtu 1500 down, mlx5_4
            0000:03:00.5 enp3s0f0v3 e2:45:6a:ab:8a:39 mtu 1500 down, mlx5_5
            /var/lib/cni/sriov/pci/0000:03:00.2
            /var/lib/ironrail/cni/0000:03:00.2.json
        "#]],
    );
}

#[test]
fn del_is_success_in_any_order_and_any_number() {
    check(
        "DEL rdma a net1
         ADD sriov a net1
         ADD rdma a net1
         DEL rdma a net1
         DEL rdma a net1
         DEL sriov a net1
         DEL rdma a net1
         world",
        expect![[r#"
            > DEL rdma a net1
            ok
            > ADD sriov a net1
            {"cniVersion":"1.1.0","interfaces":[{"name":"net1","mac":"c2:28:78:c7:4f:2d","mtu":1500,"sandbox":"/run/netns/a","pciID":"0000:03:00.2"}],"dns":{}}
            > ADD rdma a net1
            {"cniVersion":"1.1.0","interfaces":[{"name":"net1","mac":"c2:28:78:c7:4f:2d","mtu":1500,"sandbox":"/run/netns/a","pciID":"0000:03:00.2"}],"dns":{}}
            > DEL rdma a net1
            ok
            > DEL rdma a net1
            ok
            > DEL sriov a net1
            ok
            > DEL rdma a net1
            ok
            > world
            0000:03:00.2 enp3s0f0v0 c2:28:78:c7:4f:2d mtu 1500 down, mlx5_2
            0000:03:00.3 enp3s0f0v1 e2:45:6e:ab:8a:39 mtu 1500 down, mlx5_3
            0000:03:00.4 enp3s0f0v2 e2:45:70:ab:8a:39 mtu 1500 down, mlx5_4
            0000:03:00.5 enp3s0f0v3 e2:45:6a:ab:8a:39 mtu 1500 down, mlx5_5
        "#]],
    );
}

#[test]
fn del_of_the_interface_alone_brings_both_home() {
    check(
        "ADD sriov a net1
         ADD rdma a net1
         DEL sriov a net1
         DEL rdma a net1
         world",
        expect![[r#"
            > ADD sriov a net1
            {"cniVersion":"1.1.0","interfaces":[{"name":"net1","mac":"c2:28:78:c7:4f:2d","mtu":1500,"sandbox":"/run/netns/a","pciID":"0000:03:00.2"}],"dns":{}}
            > ADD rdma a net1
            {"cniVersion":"1.1.0","interfaces":[{"name":"net1","mac":"c2:28:78:c7:4f:2d","mtu":1500,"sandbox":"/run/netns/a","pciID":"0000:03:00.2"}],"dns":{}}
            > DEL sriov a net1
            ok
            > DEL rdma a net1
            ok
            > world
            0000:03:00.2 enp3s0f0v0 c2:28:78:c7:4f:2d mtu 1500 down, mlx5_2
            0000:03:00.3 enp3s0f0v1 e2:45:6e:ab:8a:39 mtu 1500 down, mlx5_3
            0000:03:00.4 enp3s0f0v2 e2:45:70:ab:8a:39 mtu 1500 down, mlx5_4
            0000:03:00.5 enp3s0f0v3 e2:45:6a:ab:8a:39 mtu 1500 down, mlx5_5
        "#]],
    );
}

#[test]
fn del_after_the_namespace_is_gone_is_success_and_the_chain_goes_on() {
    check(
        r#"ADD sriov a net1 {"vlan": 100}
         ADD rdma a net1
         end a
         DEL rdma a net1
         DEL sriov a net1
         world"#,
        expect![[r#"
            > ADD sriov a net1 {"vlan": 100}
            {"cniVersion":"1.1.0","interfaces":[{"name":"net1","mac":"c2:28:78:c7:4f:2d","mtu":1500,"sandbox":"/run/netns/a","pciID":"0000:03:00.2"}],"dns":{}}
            > ADD rdma a net1
            {"cniVersion":"1.1.0","interfaces":[{"name":"net1","mac":"c2:28:78:c7:4f:2d","mtu":1500,"sandbox":"/run/netns/a","pciID":"0000:03:00.2"}],"dns":{}}
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
        "#]],
    );
}

#[test]
fn del_without_a_namespace_in_the_call_brings_the_device_home() {
    check(
        r#"ADD sriov a net1
         ADD rdma a net1
         DEL rdma a net1 {"env CNI_NETNS": ""}
         world"#,
        expect![[r#"
            > ADD sriov a net1
            {"cniVersion":"1.1.0","interfaces":[{"name":"net1","mac":"c2:28:78:c7:4f:2d","mtu":1500,"sandbox":"/run/netns/a","pciID":"0000:03:00.2"}],"dns":{}}
            > ADD rdma a net1
            {"cniVersion":"1.1.0","interfaces":[{"name":"net1","mac":"c2:28:78:c7:4f:2d","mtu":1500,"sandbox":"/run/netns/a","pciID":"0000:03:00.2"}],"dns":{}}
            > DEL rdma a net1 {"env CNI_NETNS": ""}
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
fn a_device_that_the_pod_renamed_is_found_by_its_index() {
    let bench = Bench::new();
    bench.run("ADD sriov a net1\nADD rdma a net1");
    let pod = Namespace::At("/run/netns/a".to_owned());
    let device = bench.host.rdma_devices(&pod).unwrap().remove(0);
    let change = RdmaChange::Rename { device: device.index, name: "fast0".to_owned() };
    bench.host.change_rdma(&pod, &change).unwrap();
    expect![[r#"
        > CHECK rdma a net1
        ok
        > DEL rdma a net1
        ok
        > said
        warning: fast0 of 0000:03:00.2 is called mlx5_2 again
        info: the RDMA device of 0000:03:00.2 is home
        > world
        0000:03:00.2 net1@a c2:28:78:c7:4f:2d mtu 1500 up, mlx5_2
        0000:03:00.3 enp3s0f0v1 e2:45:6e:ab:8a:39 mtu 1500 down, mlx5_3
        0000:03:00.4 enp3s0f0v2 e2:45:70:ab:8a:39 mtu 1500 down, mlx5_4
        0000:03:00.5 enp3s0f0v3 e2:45:6a:ab:8a:39 mtu 1500 down, mlx5_5
        /var/lib/cni/sriov/pci/0000:03:00.2
        /var/lib/ironrail/cni/0000:03:00.2.json
    "#]]
    .assert_eq(&bench.run("CHECK rdma a net1\nDEL rdma a net1\nsaid\nworld"));
}

#[test]
fn a_device_that_came_home_with_the_pods_end_gets_its_own_name_again() {
    let bench = Bench::new();
    bench.run("ADD sriov a net1\nADD rdma a net1");
    let pod = Namespace::At("/run/netns/a".to_owned());
    let device = bench.host.rdma_devices(&pod).unwrap().remove(0);
    let change = RdmaChange::Rename { device: device.index, name: "fast0".to_owned() };
    bench.host.change_rdma(&pod, &change).unwrap();
    expect![[r#"
        > end a
        > world
        0000:03:00.2 net1 c2:28:78:c7:4f:2d mtu 1500 down, fast0
        0000:03:00.3 enp3s0f0v1 e2:45:6e:ab:8a:39 mtu 1500 down, mlx5_3
        0000:03:00.4 enp3s0f0v2 e2:45:70:ab:8a:39 mtu 1500 down, mlx5_4
        0000:03:00.5 enp3s0f0v3 e2:45:6a:ab:8a:39 mtu 1500 down, mlx5_5
        /var/lib/cni/sriov/pci/0000:03:00.2
        /var/lib/ironrail/cni/0000:03:00.2.json
        > DEL rdma a net1
        ok
        > said
        warning: fast0 of 0000:03:00.2 is called mlx5_2 again
        info: the RDMA device of 0000:03:00.2 is home
        > world
        0000:03:00.2 net1 c2:28:78:c7:4f:2d mtu 1500 down, mlx5_2
        0000:03:00.3 enp3s0f0v1 e2:45:6e:ab:8a:39 mtu 1500 down, mlx5_3
        0000:03:00.4 enp3s0f0v2 e2:45:70:ab:8a:39 mtu 1500 down, mlx5_4
        0000:03:00.5 enp3s0f0v3 e2:45:6a:ab:8a:39 mtu 1500 down, mlx5_5
        /var/lib/cni/sriov/pci/0000:03:00.2
        /var/lib/ironrail/cni/0000:03:00.2.json
    "#]]
    .assert_eq(&bench.run("end a\nworld\nDEL rdma a net1\nsaid\nworld"));
}

/// Since Linux 7.3 a name is of its namespace: a pod can take one that the host has.
#[test]
fn a_device_that_the_pod_gave_a_name_of_the_hosts_comes_home_under_its_own() {
    let bench = Bench::new();
    bench.host.machine().rdma.names_by_namespace = true;
    bench.run("ADD sriov a net1\nADD rdma a net1\nADD sriov b net1 {\"deviceID\": \"0000:03:00.3\"}\nADD rdma b net1 {\"deviceID\": \"0000:03:00.3\"}");
    for pod in ["/run/netns/a", "/run/netns/b"] {
        let pod = Namespace::At(pod.to_owned());
        let device = bench.host.rdma_devices(&pod).unwrap().remove(0);
        let change = RdmaChange::Rename { device: device.index, name: "mlx5_0".to_owned() };
        bench.host.change_rdma(&pod, &change).unwrap();
    }
    expect![[r#"
        > DEL rdma a net1
        ok
        > end b
        > world
        0000:03:00.2 net1@a c2:28:78:c7:4f:2d mtu 1500 up, mlx5_2
        0000:03:00.3 net1 e2:45:6e:ab:8a:39 mtu 1500 down, ibdev4
        0000:03:00.4 enp3s0f0v2 e2:45:70:ab:8a:39 mtu 1500 down, mlx5_4
        0000:03:00.5 enp3s0f0v3 e2:45:6a:ab:8a:39 mtu 1500 down, mlx5_5
        /var/lib/cni/sriov/pci/0000:03:00.2
        /var/lib/cni/sriov/pci/0000:03:00.3
        /var/lib/ironrail/cni/0000:03:00.2.json
        /var/lib/ironrail/cni/0000:03:00.3.json
        > DEL rdma b net1 {"deviceID": "0000:03:00.3"}
        ok
        > said
        warning: ibdev4 of 0000:03:00.3 is called mlx5_3 again
        info: the RDMA device of 0000:03:00.3 is home
        > world
        0000:03:00.2 net1@a c2:28:78:c7:4f:2d mtu 1500 up, mlx5_2
        0000:03:00.3 net1 e2:45:6e:ab:8a:39 mtu 1500 down, mlx5_3
        0000:03:00.4 enp3s0f0v2 e2:45:70:ab:8a:39 mtu 1500 down, mlx5_4
        0000:03:00.5 enp3s0f0v3 e2:45:6a:ab:8a:39 mtu 1500 down, mlx5_5
        /var/lib/cni/sriov/pci/0000:03:00.2
        /var/lib/cni/sriov/pci/0000:03:00.3
        /var/lib/ironrail/cni/0000:03:00.2.json
        /var/lib/ironrail/cni/0000:03:00.3.json
    "#]].assert_eq(&bench.run(
        "DEL rdma a net1\nend b\nworld\nDEL rdma b net1 {\"deviceID\": \"0000:03:00.3\"}\nsaid\nworld",
    ));
}

#[test]
fn a_device_that_is_home_already_is_success() {
    let bench = Bench::new();
    bench.run("ADD sriov a net1\nADD rdma a net1");
    let pod = Namespace::At("/run/netns/a".to_owned());
    let device = bench.host.rdma_devices(&pod).unwrap().remove(0);
    let change = RdmaChange::Move { device: device.index, to: Namespace::Host };
    bench.host.change_rdma(&pod, &change).unwrap();
    expect![[r#"
        > CHECK rdma a net1
        failed 999: mlx5_2 of 0000:03:00.2 is not in the pod's network namespace any more
        > DEL rdma a net1
        ok
        > world
        0000:03:00.2 net1@a c2:28:78:c7:4f:2d mtu 1500 up, mlx5_2
        0000:03:00.3 enp3s0f0v1 e2:45:6e:ab:8a:39 mtu 1500 down, mlx5_3
        0000:03:00.4 enp3s0f0v2 e2:45:70:ab:8a:39 mtu 1500 down, mlx5_4
        0000:03:00.5 enp3s0f0v3 e2:45:6a:ab:8a:39 mtu 1500 down, mlx5_5
        /var/lib/cni/sriov/pci/0000:03:00.2
        /var/lib/ironrail/cni/0000:03:00.2.json
    "#]]
    .assert_eq(&bench.run("CHECK rdma a net1\nDEL rdma a net1\nworld"));
}

#[test]
fn shared_mode_is_refused_and_status_says_so() {
    let clock = "2026-01-01T00:00:00Z".parse().unwrap();
    let machine = host::sim::Machine::small_worker("w", host::sim::Flavour::Ubuntu, clock);
    let bench = Bench::over(machine);
    bench.make_vfs(crate::bench::PF);
    bench.host.machine().rdma.mode = Some(api::RdmaMode::Shared);
    let told = bench.run(
        "ADD sriov a net1
         ADD rdma a net1
         STATUS rdma
         world",
    );
    expect![[r#"
        > ADD sriov a net1
        {"cniVersion":"1.1.0","interfaces":[{"name":"net1","mac":"52:84:aa:19:49:33","mtu":1500,"sandbox":"/run/netns/a","pciID":"0000:03:00.2"}],"dns":{}}
        > ADD rdma a net1
        failed 999: the RDMA subsystem of this node is in mode shared, in which no device can be given to a pod; set rdmaMode: exclusive in the SriovNetworkPoolConfig of this node
        > STATUS rdma
        failed 50: the RDMA subsystem of this node is in mode shared, in which no device can be given to a pod; set rdmaMode: exclusive in the SriovNetworkPoolConfig of this node
        > world
        0000:03:00.2 net1@a 52:84:aa:19:49:33 mtu 1500 up, mlx5_2
        0000:03:00.3 enp3s0f0v1 82:0b:88:f7:62:cd mtu 1500 down, mlx5_3
        0000:03:00.4 enp3s0f0v2 82:0b:8a:f7:62:cd mtu 1500 down, mlx5_4
        0000:03:00.5 enp3s0f0v3 82:0b:8c:f7:62:cd mtu 1500 down, mlx5_5
        /var/lib/cni/sriov/pci/0000:03:00.2
        /var/lib/ironrail/cni/0000:03:00.2.json
    "#]].assert_eq(&told);
    bench.host.machine().rdma.mode = None;
    expect![[r#"
        > ADD rdma a net1
        failed 999: cannot find out the mode of the RDMA subsystem of this node; is ib_core loaded? (protocol not supported)
        > STATUS rdma
        failed 50: cannot find out the mode of the RDMA subsystem of this node; is ib_core loaded? (protocol not supported)
    "#]].assert_eq(&bench.run("ADD rdma a net1\nSTATUS rdma"));
}

#[test]
fn a_driver_that_cannot_move_its_device_is_named() {
    check(
        "ADD sriov a net1
         fault RdmaMoveUnsupported
         ADD rdma a net1
         world",
        expect![[r#"
            > ADD sriov a net1
            {"cniVersion":"1.1.0","interfaces":[{"name":"net1","mac":"c2:28:78:c7:4f:2d","mtu":1500,"sandbox":"/run/netns/a","pciID":"0000:03:00.2"}],"dns":{}}
            > fault RdmaMoveUnsupported
            > ADD rdma a net1
            failed 999: cannot give mlx5_2 of 0000:03:00.2 to the pod: its driver cannot leave a network namespace, or the mode has just become shared: operation not supported
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

/// ADD of `rdma` alone with this configuration.
fn refused(conf: Value, expected: Expect) {
    let bench = Bench::new();
    let before = bench.world();
    let reply = bench.call("ADD", "rdma", "a", "net1", &conf);
    expected.assert_eq(show(&reply).trim_end());
    assert_eq!(bench.world(), before);
}

#[test]
fn what_cannot_be_is_refused_in_a_sentence() {
    let interface = |mac: &str| json!({"interfaces": [{"name": "net1", "mac": mac}]});
    let two = json!({"interfaces": [{"name": "net1"}, {"name": "net2"}]});
    refused(
        json!({}),
        expect![
            "failed 7: network blue: rdma is expected to be called as part of a plugin chain, after the plugin that gives the interface; there is no prevResult"
        ],
    );
    refused(
        json!({"deviceID": "", "prevResult": two}),
        expect![[
            r#"failed 7: "DeviceID" network configuration attribute is required: the result of the plugin before has 2 interfaces"#
        ]],
    );
    refused(
        json!({"deviceID": "", "prevResult": interface("")}),
        expect![[
            r#"failed 7: deviceID is empty, and the interface of the plugin before has no MAC to find it by ("")"#
        ]],
    );
    refused(
        json!({"deviceID": "", "prevResult": interface("02:00:00:00:00:01")}),
        expect!["failed 999: no VF of this node has the MAC 02:00:00:00:00:01; set deviceID"],
    );
    refused(
        json!({"deviceID": "../../etc", "prevResult": interface("")}),
        expect![[
            r#"failed 7: deviceID "../../etc" is neither a PCI address (0000:3b:00.2) nor an auxiliary device (mlx5_core.sf.4)"#
        ]],
    );
    refused(
        json!({"deviceID": "mlx5_core.sf.4", "prevResult": interface("")}),
        expect![
            "failed 999: no RDMA devices found for mlx5_core.sf.4 in the host's network namespace; is its RDMA driver loaded, or does another pod have it?"
        ],
    );
    refused(
        json!({"prevResult": "none"}),
        expect![[
            r#"failed 6: cannot read prevResult: invalid type: string "none", expected a result object"#
        ]],
    );
    refused(
        json!({"prevResult": {"ips": [{"address": "10.0.0.1"}]}}),
        expect![[
            r#"failed 6: cannot read prevResult: "10.0.0.1" is not an address with a prefix length"#
        ]],
    );
    refused(
        json!({"cniVersion": "0.2.0", "prevResult": {}}),
        expect![
            "failed 7: network blue: the result of the plugin before holds no address, and cniVersion 0.2.0 can say nothing else; write cniVersion 0.3.0 or later"
        ],
    );
}

/// A subfunction (SF) of the PF, which no policy of ours makes and no offer of ours has.
#[test]
fn an_auxiliary_device_goes_into_the_pod_and_comes_home_with_and_without_a_daemon() {
    for offer in [false, true] {
        let bench = Bench::new();
        let name = bench.host.machine().add_subfunction(&crate::bench::PF.parse().unwrap(), 4);
        assert_eq!(name, "mlx5_core.sf.4");
        if offer {
            let offer = json!({
                "version": 1, "bootId": bench.host.machine().boot_id.clone(), "sequence": 1,
                "byPath": false, "resources": {},
            });
            bench.run(&format!("file /run/ironrail/offer.json {offer}"));
        }
        let more = json!({
            "deviceID": name,
            "prevResult": {"interfaces": [{"name": "net1"}]},
        });
        let gone = json!({"deviceID": name, "cni.dev/valid-attachments": []});
        let told = bench.run(&format!(
            "ADD rdma a net1 {more}
             pod a
             CHECK rdma a net1 {more}
             ADD rdma b net1 {more}
             DEL rdma a net1 {more}
             pod a
             ADD rdma a net1 {more}
             GC rdma {gone}
             pod a
             DEL rdma a net1 {more}"
        ));
        let told = told.replace(&more.to_string(), "…").replace(&gone.to_string(), "…");
        expect![[r#"
            > ADD rdma a net1 …
            {"cniVersion":"1.1.0","interfaces":[{"name":"net1"}],"dns":{}}
            > pod a
            lo
            rdma mlx5_6
            > CHECK rdma a net1 …
            ok
            > ADD rdma b net1 …
            failed 11: mlx5_core.sf.4 is already allocated to interface net1 of container a
            > DEL rdma a net1 …
            ok
            > pod a
            lo
            > ADD rdma a net1 …
            {"cniVersion":"1.1.0","interfaces":[{"name":"net1"}],"dns":{}}
            > GC rdma …
            ok
            > pod a
            lo
            > DEL rdma a net1 …
            ok
        "#]]
        .assert_eq(&told);
        assert_eq!(host::home::rdma_devices_at_home(&bench.host, &name).unwrap().len(), 1);
        assert!(host::journal::is_empty(&bench.host).unwrap());
    }
}

#[test]
fn a_chain_without_device_id_is_joined_by_pci_id_or_by_mac() {
    check(
        r#"ADD sriov a net1
         ADD rdma a net1 {"deviceID": ""}
         ADD sriov b net1 {"cniVersion": "1.0.0", "deviceID": "0000:03:00.3", "mac": "02:00:00:00:00:01"}
         ADD rdma b net1 {"cniVersion": "1.0.0", "deviceID": ""}
         pod a
         pod b"#,
        expect![[r#"
            > ADD sriov a net1
            {"cniVersion":"1.1.0","interfaces":[{"name":"net1","mac":"c2:28:78:c7:4f:2d","mtu":1500,"sandbox":"/run/netns/a","pciID":"0000:03:00.2"}],"dns":{}}
            > ADD rdma a net1 {"deviceID": ""}
            {"cniVersion":"1.1.0","interfaces":[{"name":"net1","mac":"c2:28:78:c7:4f:2d","mtu":1500,"sandbox":"/run/netns/a","pciID":"0000:03:00.2"}],"dns":{}}
            > ADD sriov b net1 {"cniVersion": "1.0.0", "deviceID": "0000:03:00.3", "mac": "02:00:00:00:00:01"}
            {"cniVersion":"1.0.0","interfaces":[{"name":"net1","mac":"02:00:00:00:00:01","mtu":1500,"sandbox":"/run/netns/b"}],"dns":{}}
            > ADD rdma b net1 {"cniVersion": "1.0.0", "deviceID": ""}
            {"cniVersion":"1.0.0","interfaces":[{"name":"net1","mac":"02:00:00:00:00:01","mtu":1500,"sandbox":"/run/netns/b"}],"dns":{}}
            > pod a
            lo
            net1
            rdma mlx5_2
            > pod b
            lo
            net1
            rdma mlx5_3
        "#]],
    );
}

#[test]
fn an_old_result_is_read_and_printed_as_it_was() {
    let prev = json!({
        "cniVersion": "0.2.0",
        "ip4": {"ip": "10.1.2.3/24", "gateway": "10.1.2.1", "routes": [{"dst": "0.0.0.0/0"}]},
        "dns": {"nameservers": ["10.1.2.1"]},
    });
    let bench = Bench::new();
    let conf = json!({"cniVersion": "0.2.0", "prevResult": prev});
    let reply = bench.call("ADD", "rdma", "a", "net1", &conf);
    expect![[r#"
        {"cniVersion":"0.2.0","ip4":{"ip":"10.1.2.3/24","gateway":"10.1.2.1","routes":[{"dst":"0.0.0.0/0"}]},"dns":{"nameservers":["10.1.2.1"]}}
    "#]].assert_eq(&show(&reply));
}

/// As plugins that are not written in Go may say it: what Go's decoder takes for absent.
#[test]
fn null_in_a_result_is_as_good_as_nothing() {
    let bench = Bench::new();
    let prev = json!({
        "cniVersion": "1.0.0", "interfaces": [{"name": "net1", "mac": null}], "routes": null,
        "ips": [{"address": "10.1.2.3/24", "gateway": null, "interface": -1}],
        "dns": {"nameservers": null},
    });
    let reply = bench.call("ADD", "rdma", "a", "net1", &json!({"prevResult": prev}));
    let old = json!({
        "cniVersion": "0.2.0", "ip4": {"ip": "10.1.2.3/24", "routes": null}, "ip6": null, "dns": null,
    });
    let old = json!({"cniVersion": "0.2.0", "prevResult": old});
    let old = bench.call("ADD", "rdma", "a", "net1", &old);
    expect![[r#"
        {"cniVersion":"1.1.0","interfaces":[{"name":"net1"}],"ips":[{"address":"10.1.2.3/24"}],"dns":{}}
        {"cniVersion":"0.2.0","ip4":{"ip":"10.1.2.3/24"},"dns":{}}
    "#]]
    .assert_eq(&(show(&reply) + &show(&old)));
}

#[test]
fn the_cdi_spec_follows_the_character_devices() {
    let bench = Bench::new();
    bench.run("fault RenumbersUverbs\nADD sriov a net1");
    let vf = VF.parse().unwrap();
    let nodes = host::cdi::rdma_nodes(&bench.host, VF);
    let nodes: Vec<_> = nodes.into_values().flatten().map(host::cdi::DeviceNode::same).collect();
    host::cdi::write(&bench.host, &vf, &nodes).unwrap();
    let spec = host::cdi::path(&vf);
    let told = bench.run(&format!("show {spec}\nADD rdma a net1\nshow {spec}"));
    expect![[r#"
        > show /var/run/cdi/ironrail.dev-vf-0000:03:00.2.json
        {"cdiVersion":"0.5.0","kind":"ironrail.dev/vf","devices":[{"name":"0000:03:00.2","containerEdits":{"deviceNodes":[{"path":"/dev/infiniband/rdma_cm","permissions":"rw"},{"path":"/dev/infiniband/umad2","permissions":"rw"},{"path":"/dev/infiniband/uverbs2","permissions":"rw"}]}}]}
        > ADD rdma a net1
        {"cniVersion":"1.1.0","interfaces":[{"name":"net1","mac":"c2:28:78:c7:4f:2d","mtu":1500,"sandbox":"/run/netns/a","pciID":"0000:03:00.2"}],"dns":{}}
        > show /var/run/cdi/ironrail.dev-vf-0000:03:00.2.json
        {"cdiVersion":"0.5.0","kind":"ironrail.dev/vf","devices":[{"name":"0000:03:00.2","containerEdits":{"deviceNodes":[{"path":"/dev/infiniband/rdma_cm","permissions":"rw"},{"path":"/dev/infiniband/umad6","permissions":"rw"},{"path":"/dev/infiniband/uverbs6","permissions":"rw"}]}}]}
    "#]].assert_eq(&told);
}

/// The character devices that the CDI spec of a VF names.
fn named(bench: &Bench, vf: &str) -> String {
    let bytes = bench.host.read(&host::cdi::path(&vf.parse().unwrap())).unwrap();
    let spec: Value = serde_json::from_slice(&bytes).unwrap();
    let nodes = spec["devices"][0]["containerEdits"]["deviceNodes"].as_array().unwrap().iter();
    let nodes: Vec<&str> = nodes.map(|node| node["path"].as_str().unwrap()).collect();
    nodes.join(" ").replace("/dev/infiniband/", "")
}

/// Since Linux 7.3 two pods may call their devices alike.
#[test]
fn two_pods_whose_devices_have_one_name_are_each_given_their_own_nodes() {
    let bench = Bench::new();
    bench.host.machine().rdma.names_by_namespace = true;
    let mut told = String::new();
    for (pod, vf) in [("a", "0000:03:00.2"), ("b", "0000:03:00.3")] {
        let nodes = host::cdi::rdma_nodes(&bench.host, vf).into_values().flatten();
        let nodes: Vec<_> = nodes.map(host::cdi::DeviceNode::same).collect();
        host::cdi::write(&bench.host, &vf.parse().unwrap(), &nodes).unwrap();
        let more = format!(r#"{{"deviceID": "{vf}", "rdmaDeviceName": "rdma0"}}"#);
        bench.run(&format!("ADD sriov {pod} net1 {more}\nADD rdma {pod} net1 {more}"));
        told += &format!("{pod} {}\n", bench.run(&format!("pod {pod}")).replace('\n', " "));
    }
    told += &format!("{}\n{}\n", named(&bench, "0000:03:00.2"), named(&bench, "0000:03:00.3"));
    expect![[r#"
        a > pod a lo net1 rdma rdma0 
        b > pod b lo net1 rdma rdma0 
        rdma_cm umad2 uverbs2
        rdma_cm umad3 uverbs3
    "#]]
    .assert_eq(&told);
}

/// After a reboot the kubelet admits a pod again with the CDI name of before, and asks the device plugin nothing.
#[test]
fn a_spec_that_is_missing_is_made_where_the_device_is_offered_with_rdma() {
    let mut told = String::new();
    for (rdma, by_path) in [(true, false), (false, false), (true, true)] {
        let bench = Bench::new();
        let offer = json!({
            "version": 1,
            "bootId": bench.host.machine().boot_id.clone(),
            "sequence": 1,
            "byPath": by_path,
            "resources": {"openshift.io/rdma": {
                "rdma": rdma, "vhostNet": false, "excludeTopology": false, "excludeUmad": true,
                "devices": [{
                    "pci": VF, "state": {"is": "ready"}, "parent": crate::bench::PF,
                    "driver": "mlx5_core",
                }],
            }},
        });
        bench.run(&format!(
            "file /run/ironrail/offer.json {offer}\nADD sriov a net1\nADD rdma a net1"
        ));
        let spec = host::cdi::path(&VF.parse().unwrap());
        let made = match bench.host.read(&spec) {
            Ok(_) => named(&bench, VF),
            Err(refusal) => refusal.reason(),
        };
        told += &format!("rdma {rdma}, by path {by_path}: {made}\n");
    }
    expect![[r#"
        rdma true, by path false: rdma_cm uverbs2
        rdma false, by path false: no such file or directory
        rdma true, by path true: no such file or directory
    "#]]
    .assert_eq(&told);
}

#[test]
fn gc_takes_the_rdma_device_back() {
    check(
        r#"ADD sriov a net1
         ADD rdma a net1
         GC rdma {"cni.dev/valid-attachments": [{"containerID": "a", "ifname": "net1"}]}
         GC rdma {"cni.dev/valid-attachments": []}
         world"#,
        expect![[r#"
            > ADD sriov a net1
            {"cniVersion":"1.1.0","interfaces":[{"name":"net1","mac":"c2:28:78:c7:4f:2d","mtu":1500,"sandbox":"/run/netns/a","pciID":"0000:03:00.2"}],"dns":{}}
            > ADD rdma a net1
            {"cniVersion":"1.1.0","interfaces":[{"name":"net1","mac":"c2:28:78:c7:4f:2d","mtu":1500,"sandbox":"/run/netns/a","pciID":"0000:03:00.2"}],"dns":{}}
            > GC rdma {"cni.dev/valid-attachments": [{"containerID": "a", "ifname": "net1"}]}
            ok
            > GC rdma {"cni.dev/valid-attachments": []}
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
fn a_device_may_have_a_name_of_its_own_in_the_pod() {
    check(
        r#"ADD sriov a net1
         ADD rdma a net1 {"rdmaDeviceName": "fast_0"}
         pod a
         CHECK rdma a net1
         ADD sriov b net1 {"deviceID": "0000:03:00.3"}
         ADD rdma b net1 {"deviceID": "0000:03:00.3", "rdmaDeviceName": "fast_0"}
         ADD rdma b net1 {"deviceID": "0000:03:00.3", "rdmaDeviceName": "fast/0"}
         DEL rdma a net1
         world"#,
        expect![[r#"
            > ADD sriov a net1
            {"cniVersion":"1.1.0","interfaces":[{"name":"net1","mac":"c2:28:78:c7:4f:2d","mtu":1500,"sandbox":"/run/netns/a","pciID":"0000:03:00.2"}],"dns":{}}
            > ADD rdma a net1 {"rdmaDeviceName": "fast_0"}
            {"cniVersion":"1.1.0","interfaces":[{"name":"net1","mac":"c2:28:78:c7:4f:2d","mtu":1500,"sandbox":"/run/netns/a","pciID":"0000:03:00.2"}],"dns":{}}
            > pod a
            lo
            net1
            rdma fast_0
            > CHECK rdma a net1
            ok
            > ADD sriov b net1 {"deviceID": "0000:03:00.3"}
            {"cniVersion":"1.1.0","interfaces":[{"name":"net1","mac":"e2:45:6e:ab:8a:39","mtu":1500,"sandbox":"/run/netns/b","pciID":"0000:03:00.3"}],"dns":{}}
            > ADD rdma b net1 {"deviceID": "0000:03:00.3", "rdmaDeviceName": "fast_0"}
            failed 999: cannot call mlx5_3 fast_0 in the pod: another RDMA device of this node has that name
            > ADD rdma b net1 {"deviceID": "0000:03:00.3", "rdmaDeviceName": "fast/0"}
            failed 7: rdmaDeviceName "fast/0" must be at most 63 letters, digits, '_' and '-'
            > DEL rdma a net1
            ok
            > world
            0000:03:00.2 net1@a c2:28:78:c7:4f:2d mtu 1500 up, mlx5_2
            0000:03:00.3 net1@b e2:45:6e:ab:8a:39 mtu 1500 up, mlx5_3
            0000:03:00.4 enp3s0f0v2 e2:45:70:ab:8a:39 mtu 1500 down, mlx5_4
            0000:03:00.5 enp3s0f0v3 e2:45:6a:ab:8a:39 mtu 1500 down, mlx5_5
            /var/lib/cni/sriov/pci/0000:03:00.2
            /var/lib/cni/sriov/pci/0000:03:00.3
            /var/lib/ironrail/cni/0000:03:00.2.json
            /var/lib/ironrail/cni/0000:03:00.3.json
        "#]],
    );
}

#[test]
fn check_sees_a_name_that_is_not_the_asked_one_and_nodes_of_another_device() {
    let bench = Bench::new();
    bench.run("ADD sriov a net1\nADD rdma a net1");
    let spec = |node: &str| {
        let nodes = json!([{"path": node, "hostPath": node}]);
        let spec = json!({"devices": [{"containerEdits": {"deviceNodes": nodes}}]});
        let path = host::cdi::path(&VF.parse().unwrap());
        bench.host.replace(&path, spec.to_string().as_bytes(), 0o644).unwrap();
    };
    let own = host::cdi::rdma_nodes(&bench.host, VF).into_iter();
    let own = own.filter(|(class, _)| *class == "uverbs").flat_map(|(_, paths)| paths).next();
    spec(&own.unwrap());
    let mut told = bench.run("CHECK rdma a net1");
    spec("/dev/infiniband/uverbs77");
    told += &bench.run("CHECK rdma a net1");
    told += &bench.run(r#"CHECK rdma a net1 {"rdmaDeviceName": "rail0"}"#);
    expect![[r#"
        > CHECK rdma a net1
        ok
        > CHECK rdma a net1
        failed 999: the CDI spec /var/run/cdi/ironrail.dev-vf-0000:03:00.2.json names /dev/infiniband/uverbs77 for mlx5_2 of 0000:03:00.2, which has /dev/infiniband/uverbs2; the pod must be recreated
        > CHECK rdma a net1 {"rdmaDeviceName": "rail0"}
        failed 999: the RDMA device of 0000:03:00.2 is called mlx5_2 in the pod in place of rail0
    "#]].assert_eq(&told);
}
