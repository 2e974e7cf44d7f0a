//! Stacks, routes and sessions on simulated machines: which functions the host lives by, and through which interfaces.

use super::*;
use crate::seam::{Host, LinkQuery, RouteChange};
use crate::sim::{Flavour, Machine, SimHost};
use crate::testing::worker;
use api::Timestamp;
use expect_test::{Expect, expect};
use std::net::Ipv4Addr;

fn links(host: &SimHost) -> Vec<Link> {
    host.links(&Namespace::Host, &LinkQuery::default()).unwrap()
}

fn check(host: &SimHost, expected: Expect) {
    let mut text = String::new();
    for (function, lifelines) in observe(host, &links(host)).unwrap() {
        for Lifeline { carries, detail, over, .. } in lifelines {
            let detail = if detail.is_empty() { detail } else { format!(" ({detail})") };
            text += &format!("{function}: {carries:?}{detail} over {}\n", over.join(" < "));
        }
    }
    expected.assert_eq(&text);
}

fn ip(last: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, last).into()
}

/// The host's own address and default route on this interface.
fn live_by(machine: &mut Machine, name: &str) {
    machine.give_address(name, (ip(11), 24), Some(ip(1))).unwrap();
}

fn bonded() -> Machine {
    Machine::bonded_worker("worker-0", Flavour::Rhel, Timestamp::UNIX_EPOCH)
}

#[test]
fn a_machine_without_routes_lives_by_nothing() {
    check(&SimHost::new(worker()), expect![""]);
}

#[test]
fn a_port_with_the_default_route_is_a_lifeline() {
    let mut machine = worker();
    live_by(&mut machine, "enp94s0");
    check(
        &SimHost::new(machine),
        expect![[r#"
        0000:5e:00.0: DefaultRoute over enp94s0
    "#]],
    );
}

#[test]
fn both_legs_of_a_bond_are_and_again_after_a_boot() {
    let mut machine = bonded();
    machine.boot();
    check(
        &SimHost::new(machine),
        expect![[r#"
        0000:03:00.0: DefaultRoute over enp3s0 < bond0
        0000:3b:00.0: DefaultRoute over enp59s0 < bond0
    "#]],
    );
}

#[test]
fn a_kernel_that_names_no_device_of_an_interface_hides_no_lifeline() {
    let mut machine = bonded();
    machine.hides_parents = true;
    machine.boot();
    check(
        &SimHost::new(machine),
        expect![[r#"
        0000:03:00.0: DefaultRoute over enp3s0 < bond0
        0000:3b:00.0: DefaultRoute over enp59s0 < bond0
    "#]],
    );
}

#[test]
fn a_route_over_vlan_bridge_and_bond_is_followed_to_the_cards() {
    let mut machine = worker();
    machine.add_virtual_link(None, "bond1", "bond").unwrap();
    machine.put_below("enp59s0", "bond1").unwrap();
    machine.put_below("enp175s0", "bond1").unwrap();
    machine.add_vlan("bond1.100", "bond1").unwrap();
    machine.add_virtual_link(None, "br0", "bridge").unwrap();
    machine.put_below("bond1.100", "br0").unwrap();
    live_by(&mut machine, "br0");
    check(
        &SimHost::new(machine),
        expect![[r#"
        0000:3b:00.0: DefaultRoute over enp59s0 < bond1 < bond1.100 < br0
        0000:af:00.0: DefaultRoute over enp175s0 < bond1 < bond1.100 < br0
    "#]],
    );
}

#[test]
fn a_vrf_names_the_table_of_its_default_route() {
    let mut machine = worker();
    machine.add_virtual_link(None, "storage", "vrf").unwrap();
    machine.put_below("enp59s0", "storage").unwrap();
    machine.give_address("enp59s0", (ip(11), 24), None).unwrap();
    let host = SimHost::new(machine);
    let link = links(&host).into_iter().find(|link| link.name == "enp59s0").unwrap();
    let mut route = host.routes(&Namespace::Host).unwrap().remove(0);
    (route.destination, route.gateway, route.table, route.link) =
        ((Ipv4Addr::UNSPECIFIED.into(), 0), Some(ip(1)), 100, Some(link.index));
    host.change_route(&Namespace::Host, &RouteChange::Add(route)).unwrap();
    check(
        &host,
        expect![[r#"
        0000:3b:00.0: DefaultRoute (table 100) over enp59s0
    "#]],
    );
}

#[test]
fn an_internal_port_of_open_vswitch_may_be_carried_by_each_port_of_its_datapath() {
    // OpenShift: the address is on br-ex, which the kernel shows above nothing.
    let mut machine = worker();
    machine.add_virtual_link(None, "ovs-system", "openvswitch").unwrap();
    machine.put_below("enp94s0", "ovs-system").unwrap();
    machine.add_virtual_link(None, "br-ex", "openvswitch").unwrap();
    live_by(&mut machine, "br-ex");
    check(
        &SimHost::new(machine),
        expect![[r#"
        0000:5e:00.0: DefaultRoute over enp94s0 < br-ex
    "#]],
    );
}

#[test]
fn a_default_route_of_a_higher_metric_is_not_in_use() {
    let mut machine = worker();
    live_by(&mut machine, "enp94s0");
    let host = SimHost::new(machine);
    let spare = links(&host).into_iter().find(|link| link.name == "enp59s0").unwrap().index;
    let mut route = host.routes(&Namespace::Host).unwrap().remove(1);
    (route.gateway, route.priority, route.link) = (None, Some(100), Some(spare));
    host.change_route(&Namespace::Host, &RouteChange::Add(route.clone())).unwrap();
    check(
        &host,
        expect![[r#"
        0000:5e:00.0: DefaultRoute over enp94s0
    "#]],
    );
    route.priority = None;
    host.change_route(&Namespace::Host, &RouteChange::Add(route)).unwrap();
    check(
        &host,
        expect![[r#"
        0000:3b:00.0: DefaultRoute over enp59s0
        0000:5e:00.0: DefaultRoute over enp94s0
    "#]],
    );
}

#[test]
fn storage_is_found_by_the_way_to_its_server() {
    let mut machine = bonded();
    machine.give_address("enp175s0", (Ipv4Addr::new(10, 9, 0, 11).into(), 24), None).unwrap();
    let nfs = "10.9.0.5:/home /home nfs4 rw,relatime,vers=4.2,proto=tcp,clientaddr=10.9.0.11,local_lock=none,addr=10.9.0.5 0 0";
    machine.sessions.mounts = vec![nfs.to_owned(), nfs.replace("/home", "/scratch")];
    machine.sessions.iscsi =
        vec![("iqn.2003-01.org.example:disk".to_owned(), "10.9.0.6".to_owned())];
    machine.sessions.nvme = vec![
        (
            "tcp".to_owned(),
            "traddr=10.9.0.7,trsvcid=4420,src_addr=10.9.0.11".to_owned(),
            "nqn.2014-08.org.example:a".to_owned(),
        ),
        ("pcie".to_owned(), "0000:01:00.0".to_owned(), "nqn.local".to_owned()),
    ];
    check(
        &SimHost::new(machine),
        expect![[r#"
            0000:03:00.0: DefaultRoute over enp3s0 < bond0
            0000:3b:00.0: DefaultRoute over enp59s0 < bond0
            0000:af:00.0: NetworkMount (nfs4 from 10.9.0.5) over enp175s0
            0000:af:00.0: IscsiSession (iqn.2003-01.org.example:disk at 10.9.0.6) over enp175s0
            0000:af:00.0: NvmeSession (nqn.2014-08.org.example:a at 10.9.0.7 over tcp) over enp175s0
        "#]],
    );
}

#[test]
fn the_api_server_is_found_by_address_and_behind_a_name_by_its_connection() {
    let config =
        |server: &str| format!("clusters:\n- cluster:\n    server: {server}\n").into_bytes();
    let mut machine = worker();
    machine.give_address("enp59s0", (ip(11), 24), None).unwrap();
    let path = "/etc/kubernetes/kubelet.conf";
    machine.files.insert(path.to_owned(), config("https://10.0.0.2:6443"));
    check(
        &SimHost::new(machine.clone()),
        expect![[r#"
        0000:3b:00.0: ApiServer (10.0.0.2:6443) over enp59s0
    "#]],
    );
    machine.files.insert(path.to_owned(), config("https://api.example:6443"));
    check(&SimHost::new(machine.clone()), expect![""]);
    machine.sessions.connections =
        vec!["10.0.0.3:6443".parse().unwrap(), "192.168.7.7:22".parse().unwrap()];
    check(
        &SimHost::new(machine.clone()),
        expect![[r#"
        0000:3b:00.0: ApiServer (api.example:6443) over enp59s0
    "#]],
    );
    machine.sessions.connections = vec!["[::ffff:10.0.0.3]:6443".parse().unwrap()];
    check(
        &SimHost::new(machine),
        expect![[r#"
        0000:3b:00.0: ApiServer (api.example:6443) over enp59s0
    "#]],
    );
}

#[test]
fn a_vf_of_the_hosts_own_is_a_lifeline_and_so_is_what_a_representor_stands_for() {
    let mut machine = crate::testing::worker_with_vfs(2);
    let vf = machine.links.values_mut().find(|link| link.name == "enp3s0f0v1").unwrap();
    vf.up = true;
    live_by(&mut machine, "enp3s0f0v1");
    check(
        &SimHost::new(machine),
        expect![[r#"
        0000:03:00.3: DefaultRoute over enp3s0f0v1
    "#]],
    );
    let mut machine = worker();
    let host = SimHost::new(machine.clone());
    crate::eswitch::set(&host, &crate::testing::pf(), api::EswitchMode::Switchdev).unwrap();
    machine = host.snapshot();
    crate::testing::shell(&mut machine, &[("/sys/bus/pci/devices/0000:03:00.0/sriov_numvfs", "2")]);
    let representor = machine.links.values_mut().find(|link| link.represents == Some(1)).unwrap();
    representor.up = true;
    live_by(&mut machine, "enp3s0f0_1");
    check(
        &SimHost::new(machine),
        expect![[r#"
        0000:03:00.3: DefaultRoute over enp3s0f0_1
    "#]],
    );
}

#[test]
fn two_ports_of_one_card_in_one_bond_are_a_roce_lag_until_vfs_are_made() {
    let mut machine = worker();
    machine.add_virtual_link(None, "bond1", "bond").unwrap();
    let lags = |machine: &Machine| {
        let host = SimHost::new(machine.clone());
        let names: Vec<String> =
            host.rdma_devices(&Namespace::Host).unwrap().into_iter().map(|d| d.name).collect();
        let legs = roce_lag_legs(&host, &links(&host));
        let legs: Vec<String> =
            legs.into_iter().map(|(pci, bond)| format!("{pci} {bond}")).collect();
        format!("{}; legs: {}\n", names.join(" "), legs.join(", "))
    };
    machine.put_below("enp3s0f0", "bond1").unwrap();
    let mut text = lags(&machine);
    machine.put_below("enp3s0f1", "bond1").unwrap();
    text += &lags(&machine);
    crate::testing::shell(&mut machine, &[("/sys/bus/pci/devices/0000:03:00.1/sriov_numvfs", "1")]);
    text += &lags(&machine);
    crate::testing::shell(&mut machine, &[("/sys/bus/pci/devices/0000:03:00.1/sriov_numvfs", "0")]);
    text += &lags(&machine);
    assert_eq!(machine.contradictions(), Vec::<String>::new());
    expect![[r#"
        mlx5_0 mlx5_1 mlx5_2 irdma0 mlx5_3; legs: 
        mlx5_2 irdma0 mlx5_3 mlx5_bond_0; legs: 0000:03:00.0 bond1, 0000:03:00.1 bond1
        mlx5_2 irdma0 mlx5_3 mlx5_0 mlx5_1 mlx5_4; legs: 
        mlx5_2 irdma0 mlx5_3 mlx5_bond_0; legs: 0000:03:00.0 bond1, 0000:03:00.1 bond1
    "#]]
    .assert_eq(&text);
}
