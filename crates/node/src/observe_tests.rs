//! The node of the guide, as it is seen: facts as text.

use super::*;
use api::journal::{LinkBefore, Record, VfCustody, VfProfile};
use expect_test::{Expect, expect};
use host::seam::{LinkChange, RdmaChange, VfSetting, Vlan};
use host::sim::{Broken, Fault, Flavour, Machine, SimHost};

fn worker(change: impl FnOnce(&mut Machine)) -> SimHost {
    let mut machine = Machine::rdma_worker("worker-0", Flavour::Rhel, api::Timestamp::UNIX_EPOCH);
    change(&mut machine);
    SimHost::new(machine)
}

fn check(host: &SimHost, expected: Expect) {
    let inventory = observe(host, Vec::new()).unwrap();
    let mut text = rdma_line(&inventory.rdma);
    for function in &inventory.physical_functions {
        text.push_str(&function_line(function));
        for vf in &function.vfs {
            text.push_str(&vf_line(vf));
        }
    }
    expected.assert_eq(&text);
}

fn rdma_line(rdma: &RdmaSubsystem) -> String {
    format!(
        "rdma {}, argument {}, option {}, {} other namespaces, tool {}, modprobe.d {}\n",
        shown(&rdma.mode),
        shown(&rdma.kernel_argument),
        shown(&rdma.modprobe_option),
        rdma.other_namespaces,
        shown(&rdma.kernel_argument_tool),
        if rdma.modprobe_writable { "writable" } else { "read-only" },
    )
}

fn function_line(function: &PhysicalFunction) -> String {
    format!(
        "{} {} {}:{} {} {} of {} vfs ({}), {}, {}, node {}, mtu {}, {}\n",
        function.pci,
        function.name,
        function.vendor,
        function.device,
        shown(&function.driver),
        function.vfs.len(),
        shown(&function.total_vfs),
        shown(&function.vf_device),
        shown(&function.link_type),
        function.eswitch,
        shown(&function.numa_node),
        function.mtu,
        shown(&function.rdma_device),
    )
}

fn vf_line(vf: &VirtualFunction) -> String {
    format!(
        "  {} {} {} {} {} {}\n",
        vf.index,
        vf.pci,
        shown(&vf.driver),
        shown(&vf.name),
        shown(&vf.rdma_device),
        shown(&vf.guid),
    )
}

fn shown<T: std::fmt::Display>(value: &Option<T>) -> String {
    value.as_ref().map_or("-".to_owned(), ToString::to_string)
}

#[test]
fn a_kernel_that_names_no_device_of_an_interface_shows_the_same() {
    let with_vfs = |hides_parents| {
        let host = worker(|machine| machine.hides_parents = hides_parents);
        host::vf_count::set(&host, &"0000:03:00.0".parse().unwrap(), 4, true).unwrap();
        observe(&host, Vec::new()).unwrap()
    };
    let (newer, older) = (with_vfs(false), with_vfs(true));
    assert_eq!(older.physical_functions, newer.physical_functions);
    let named = |vf: &VirtualFunction| vf.name.as_deref().is_some_and(|name| !name.is_empty());
    assert_eq!(older.physical_functions[0].vfs.iter().filter(|vf| named(vf)).count(), 4);
}

#[test]
fn every_card_with_sriov_is_seen_whatever_its_vendor_and_nothing_else() {
    check(
        &worker(|_| {}),
        expect![[r#"
        rdma shared, argument -, option -, 0 other namespaces, tool grubby, modprobe.d writable
        0000:03:00.0 enp3s0f0 15b3:1017 mlx5_core 0 of 8 vfs (1018), ETH, legacy, node 0, mtu 1500, mlx5_0
        0000:03:00.1 enp3s0f1 15b3:1017 mlx5_core 0 of 8 vfs (1018), ETH, legacy, node 0, mtu 1500, mlx5_1
        0000:07:00.0 enp7s0 8086:10c9 igb 0 of 7 vfs (10ca), ETH, legacy, node 0, mtu 1500, -
        0000:3b:00.0 enp59s0 15b3:1021 mlx5_core 0 of 16 vfs (101e), ETH, legacy, node 0, mtu 1500, mlx5_2
        0000:5e:00.0 enp94s0 8086:1592 ice 0 of 64 vfs (1889), ETH, legacy, node 0, mtu 1500, irdma0
        0000:af:00.0 enp175s0 15b3:1021 mlx5_core 0 of 16 vfs (101e), ETH, legacy, node 1, mtu 1500, mlx5_3
    "#]],
    );
}

#[test]
fn vfs_are_seen_with_their_rdma_devices() {
    let host = worker(|_| {});
    host.write("/sys/bus/pci/devices/0000:03:00.0/sriov_numvfs", "2").unwrap();
    check(
        &host,
        expect![[r#"
        rdma shared, argument -, option -, 0 other namespaces, tool grubby, modprobe.d writable
        0000:03:00.0 enp3s0f0 15b3:1017 mlx5_core 2 of 8 vfs (1018), ETH, legacy, node 0, mtu 1500, mlx5_0
          0 0000:03:00.2 mlx5_core enp3s0f0v0 mlx5_4 0000:0000:0000:0000
          1 0000:03:00.3 mlx5_core enp3s0f0v1 mlx5_5 0000:0000:0000:0000
        0000:03:00.1 enp3s0f1 15b3:1017 mlx5_core 0 of 8 vfs (1018), ETH, legacy, node 0, mtu 1500, mlx5_1
        0000:07:00.0 enp7s0 8086:10c9 igb 0 of 7 vfs (10ca), ETH, legacy, node 0, mtu 1500, -
        0000:3b:00.0 enp59s0 15b3:1021 mlx5_core 0 of 16 vfs (101e), ETH, legacy, node 0, mtu 1500, mlx5_2
        0000:5e:00.0 enp94s0 8086:1592 ice 0 of 64 vfs (1889), ETH, legacy, node 0, mtu 1500, irdma0
        0000:af:00.0 enp175s0 15b3:1021 mlx5_core 0 of 16 vfs (101e), ETH, legacy, node 1, mtu 1500, mlx5_3
    "#]],
    );
}

#[test]
fn a_file_of_ours_and_an_argument_are_facts_of_their_own() {
    let host = worker(|machine| machine.faults.extend([Fault::IgnoresKernelArgument]));
    let text = format!("{}\noptions ib_core netns_mode=0\n", files::MODPROBE_HEADER);
    host.replace(files::MODPROBE, text.as_bytes(), 0o644).unwrap();
    check(
        &host,
        expect![[r#"
        rdma shared, argument -, option exclusive, 0 other namespaces, tool grubby, modprobe.d writable
        0000:03:00.0 enp3s0f0 15b3:1017 mlx5_core 0 of 8 vfs (1018), ETH, legacy, node 0, mtu 1500, mlx5_0
        0000:03:00.1 enp3s0f1 15b3:1017 mlx5_core 0 of 8 vfs (1018), ETH, legacy, node 0, mtu 1500, mlx5_1
        0000:07:00.0 enp7s0 8086:10c9 igb 0 of 7 vfs (10ca), ETH, legacy, node 0, mtu 1500, -
        0000:3b:00.0 enp59s0 15b3:1021 mlx5_core 0 of 16 vfs (101e), ETH, legacy, node 0, mtu 1500, mlx5_2
        0000:5e:00.0 enp94s0 8086:1592 ice 0 of 64 vfs (1889), ETH, legacy, node 0, mtu 1500, irdma0
        0000:af:00.0 enp175s0 15b3:1021 mlx5_core 0 of 16 vfs (101e), ETH, legacy, node 1, mtu 1500, mlx5_3
    "#]],
    );
}

#[test]
fn the_last_kernel_argument_counts() {
    let line = "ro ib_core.netns_mode=0 quiet ib_core.netns_mode=1";
    assert_eq!(argument(line), Some(RdmaMode::Shared));
    assert_eq!(argument("ro ib_core.netns_mode=N"), Some(RdmaMode::Exclusive));
    assert_eq!(argument("ro xib_core.netns_mode=0"), None);
}

#[test]
fn everything_that_a_node_state_says_of_a_card_is_found_on_an_infiniband_worker() {
    let host = worker(|machine| {
        *machine = Machine::new("worker-0", Flavour::Rhel, api::Timestamp::UNIX_EPOCH);
        machine.add_connectx7(0x3b, 1, true);
        machine.boot();
        machine.list_firmware_in_devlink(0x3b);
    });
    host.write("/sys/bus/pci/devices/0000:3b:00.0/sriov_numvfs", "1").unwrap();
    let inventory = observe(&host, Vec::new()).unwrap();
    let state = api::nodestate::SriovNetworkNodeState::default();
    let progress = crate::status::Progress::default();
    let status = crate::status::status(&state, Some(&inventory), &progress, host.now());
    expect![[r#"
        [
          {
            "pciAddress": "0000:3b:00.0",
            "name": "ibp59s0",
            "mac": "00:00:10:86:fe:80:00:00:00:00:00:00:0c:42:a1:ff:fe:ea:01:b0",
            "driver": "mlx5_core",
            "vendor": "15b3",
            "deviceID": "1021",
            "mtu": 2044,
            "numVfs": 1,
            "linkSpeed": "400000 Mb/s",
            "linkType": "IB",
            "linkAdminState": "up",
            "eSwitchMode": "legacy",
            "totalvfs": 16,
            "Vfs": [
              {
                "pciAddress": "0000:3b:00.1",
                "vfID": 0,
                "name": "ibp59s0v0",
                "mac": "00:00:10:86:fe:80:00:00:00:00:00:00:c2:28:7e:ff:fe:c7:4f:2d",
                "driver": "mlx5_core",
                "vendor": "15b3",
                "deviceID": "101e",
                "mtu": 2044,
                "guid": "0000:0000:0000:0000",
                "rdmaDevice": "mlx5_1",
                "iommuGroup": 47210
              }
            ],
            "pciPath": "pci0000:80/0000:80:1b.0/0000:3b:00.0",
            "numaNode": 1,
            "iommuGroup": 472,
            "rdmaDevice": "mlx5_0",
            "nodeGuid": "0c42:a1ff:feea:01b0",
            "portState": "ACTIVE",
            "firmware": {
              "sriovEnabled": true,
              "sriovEnabledNext": true,
              "totalVfs": 16,
              "totalVfsNext": 16
            }
          }
        ]"#]]
    .assert_eq(&serde_json::to_string_pretty(&status.interfaces).unwrap());
}

/// What cannot be told of the cards, and how many VFs each has; or why nothing at all is told.
fn told(broken: &[(&str, Broken)]) -> String {
    let host = worker(|_| {});
    host.write("/sys/bus/pci/devices/0000:03:00.0/sriov_numvfs", "2").unwrap();
    for (asked, answer) in broken {
        host.machine().broken.insert((*asked).to_owned(), answer.clone());
    }
    match observe(&host, Vec::new()) {
        Err(error) => format!("{error}: {}\n", error.source),
        Ok(inventory) => {
            let line = |pf: &PhysicalFunction| {
                let trouble = pf.unreadable.clone()?;
                Some(format!("{} with {} vfs: {trouble}\n", pf.pci, pf.vfs.len()))
            };
            let count = inventory.physical_functions.len();
            let lines: String = inventory.physical_functions.iter().filter_map(line).collect();
            format!("{lines}{count} cards\n")
        }
    }
}

#[test]
fn a_card_of_which_the_kernel_does_not_tell_all_is_there_and_what_is_missing_is_said() {
    let refuses = |errno: Errno| Broken::Refuses(errno.raw_os_error());
    let says = |text: &str| Broken::Says(text.to_owned());
    const PF: &str = "/sys/bus/pci/devices/0000:03:00.0";
    let file = |name: &str| format!("{PF}/{name}");
    let mut out = String::new();
    for (name, answer) in [
        ("sriov_totalvfs", refuses(Errno::IO)),
        ("sriov_totalvfs", says("")),
        ("sriov_numvfs", refuses(Errno::IO)),
        ("sriov_numvfs", says("two\n")),
        // More than there are: they went between two reads, or come later. No trouble, and none is made up.
        ("sriov_numvfs", says("4\n")),
        ("vendor", refuses(Errno::ACCESS)),
        ("class", says("")),
        ("class", refuses(Errno::IO)),
        // It went while we looked.
        ("class", refuses(Errno::NODEV)),
    ] {
        out.push_str(&told(&[(&file(name), answer)]));
    }
    expect![[r#"
        0000:03:00.0 with 2 vfs: read /sys/bus/pci/devices/0000:03:00.0/sriov_totalvfs: input/output error
        6 cards
        0000:03:00.0 with 2 vfs: /sys/bus/pci/devices/0000:03:00.0/sriov_totalvfs says "", which is no number
        6 cards
        0000:03:00.0 with 2 vfs: read /sys/bus/pci/devices/0000:03:00.0/sriov_numvfs: input/output error
        6 cards
        0000:03:00.0 with 2 vfs: /sys/bus/pci/devices/0000:03:00.0/sriov_numvfs says "two", which is no number
        6 cards
        6 cards
        0000:03:00.0 with 2 vfs: read /sys/bus/pci/devices/0000:03:00.0/vendor: permission denied
        6 cards
        cannot observe the PCI function 0000:03:00.0: read a class from /sys/bus/pci/devices/0000:03:00.0/class: no data available
        cannot observe the PCI function 0000:03:00.0: read /sys/bus/pci/devices/0000:03:00.0/class: input/output error
        5 cards
    "#]].assert_eq(&out);
}

#[test]
fn a_card_that_cannot_be_read_stays_in_the_status_as_it_was() {
    let host = worker(|_| {});
    let mut state = api::nodestate::SriovNetworkNodeState::default();
    let status = |state: &api::nodestate::SriovNetworkNodeState| {
        let inventory = observe(&host, Vec::new()).unwrap();
        let progress = crate::status::Progress::default();
        crate::status::status(state, Some(&inventory), &progress, host.now())
    };
    state.status = status(&state);
    let broken = ["vendor", "sriov_totalvfs"].map(|name| {
        let path = format!("/sys/bus/pci/devices/0000:03:00.0/{name}");
        (path, Broken::Refuses(Errno::IO.raw_os_error()))
    });
    host.machine().broken.extend(broken);
    assert_eq!(status(&state).interfaces, state.status.interfaces);
}

#[test]
fn only_a_driver_without_a_switch_is_a_legacy_one() {
    let mut out = String::new();
    for errno in
        [Errno::NODEV, Errno::OPNOTSUPP, Errno::PERM, Errno::NOMEM, Errno::MSGSIZE, Errno::IO]
    {
        let answer = Broken::Refuses(errno.raw_os_error());
        out.push_str(&told(&[("devlink 0000:03:00.0", answer)]));
    }
    expect![[r#"
        6 cards
        6 cards
        6 cards
        0000:03:00.0 with 2 vfs: ask devlink about 0000:03:00.0: cannot allocate memory
        6 cards
        0000:03:00.0 with 2 vfs: ask devlink about 0000:03:00.0: message too long
        6 cards
        0000:03:00.0 with 2 vfs: ask devlink about 0000:03:00.0: input/output error
        6 cards
    "#]]
    .assert_eq(&out);
}

#[test]
fn marks_in_the_pf_store_tell_whose_the_vfs_are() {
    let host = worker(|_| {});
    let marks = [
        ("0000:03:00.0", r#"{"pciAddress":"0000:03:00.0","numVfs":2,"allowLifeline":true}"#),
        ("0000:03:00.1", r#"{"pciAddress":"0000:03:00.1","numVfs":2,"externallyManaged":true}"#),
        ("0000:07:00.0", ""),
        ("no-address", "{}"),
    ];
    for (name, mark) in marks {
        host.replace(&format!("{}/{name}", files::PF_STORE), mark.as_bytes(), 0o644).unwrap();
    }
    let inventory = observe(&host, Vec::new()).unwrap();
    let said = format!(
        "ours or marked {:?}\nexternal {:?}\nlifelines allowed {:?}\n",
        inventory.configured, inventory.external, inventory.lifelines_allowed
    );
    expect![[r#"
        ours or marked [0000:03:00.0, 0000:03:00.1, 0000:07:00.0]
        external {0000:03:00.1, 0000:07:00.0}
        lifelines allowed {0000:03:00.0}
    "#]]
    .assert_eq(&said);
}

/// The VFs of the node state.
fn vfs_in_status(host: &SimHost) -> String {
    let state = api::nodestate::SriovNetworkNodeState::default();
    let seen = crate::see::without_holders(host, &state).unwrap();
    let progress = crate::status::Progress::default();
    let status = crate::status::status(&state, Some(&seen.inventory), &progress, host.now());
    serde_json::to_string_pretty(&status.interfaces[0].vfs).unwrap()
}

/// Moves interface and RDMA device of a VF into a pod, and writes the journal as ADD does.
fn into_a_pod(host: &SimHost, vf: &str, pf: &str, wanted: VfProfile, before: VfProfile) {
    host.machine().create_namespace("/var/run/netns/pod").unwrap();
    let pod = || Namespace::At("/var/run/netns/pod".to_owned());
    let link = home::interface_at_home(host, &vf.parse().unwrap()).unwrap().unwrap();
    let before_us = LinkBefore {
        name: link.name.clone(),
        address: host::vf_profile::show_address(&link.address),
        mtu: link.mtu,
        ..LinkBefore::default()
    };
    let record = Record {
        version: api::journal::VERSION,
        boot_id: boot_id(host).unwrap(),
        device: vf.to_owned(),
        owner: api::journal::Owner::default(),
        since: host.now(),
        vf: Some(VfCustody {
            pf: pf.parse().unwrap(),
            index: 0,
            before,
            wanted,
            link: Some(before_us),
        }),
        rdma: None,
    };
    host::journal::write(host, &record).unwrap();
    let rdma = home::rdma_devices_at_home(host, vf).unwrap().remove(0).index;
    host.change_rdma(&Namespace::Host, &RdmaChange::Move { device: rdma, to: pod() }).unwrap();
    // The move of an InfiniBand device makes its interface anew.
    let link = home::interface_at_home(host, &vf.parse().unwrap()).unwrap().unwrap().index;
    let change = LinkChange::Move { link, to: pod(), name: Some("net1".to_owned()) };
    host.change_link(&Namespace::Host, &change).unwrap();
}

#[test]
fn vfs_inside_pods_are_complete_in_the_status() {
    let host = worker(|_| {});
    host.write("/sys/bus/pci/devices/0000:03:00.0/sriov_numvfs", "1").unwrap();
    host.machine().rdma.mode = Some(RdmaMode::Exclusive);
    let pf = home::interface_at_home(&host, &"0000:03:00.0".parse().unwrap()).unwrap().unwrap();
    let set = |setting| {
        let change = LinkChange::Vf { link: pf.index, vf: 0, setting };
        host.change_link(&Namespace::Host, &change).unwrap();
    };
    set(VfSetting::Mac([2, 0, 0, 0, 0, 7]));
    set(VfSetting::Vlan(Vlan { id: 100, qos: 0, protocol: 0x8100 }));
    let wanted = VfProfile { mac: Some("02:00:00:00:00:08".to_owned()), ..VfProfile::default() };
    into_a_pod(&host, "0000:03:00.2", "0000:03:00.0", wanted, VfProfile::default());
    let known = vfs_in_status(&host);
    expect![[r#"
        [
          {
            "pciAddress": "0000:03:00.2",
            "vfID": 0,
            "name": "enp3s0f0v0",
            "mac": "02:00:00:00:00:08",
            "driver": "mlx5_core",
            "vendor": "15b3",
            "deviceID": "1018",
            "Vlan": 100,
            "mtu": 1500,
            "rdmaDevice": "mlx5_4",
            "iommuGroup": 2410
          }
        ]"#]]
    .assert_eq(&known);
    // Of a pod that somebody else's plugin started there is no journal: what cannot be known is absent.
    host::journal::forget(&host, "0000:03:00.2").unwrap();
    let unknown = known.replace("00:08", "00:07");
    let unknown: Vec<&str> = unknown
        .lines()
        .filter(|line| !line.contains("\"name\"") && !line.contains("\"mtu\""))
        .collect();
    assert_eq!(vfs_in_status(&host), unknown.join("\n"));
}

#[test]
fn the_guid_of_an_infiniband_vf_is_told_while_a_pod_has_it() {
    let mut machine = Machine::new("ib-0", Flavour::Ubuntu, api::Timestamp::UNIX_EPOCH);
    machine.add_connectx7(0x3b, 0, true);
    machine.boot();
    let host = SimHost::new(machine);
    host.write("/sys/bus/pci/devices/0000:3b:00.0/sriov_numvfs", "1").unwrap();
    host.machine().rdma.mode = Some(RdmaMode::Exclusive);
    let wanted =
        VfProfile { guid: Some("02:00:00:00:00:00:00:01".to_owned()), ..VfProfile::default() };
    into_a_pod(&host, "0000:3b:00.1", "0000:3b:00.0", wanted, VfProfile::default());
    let told = vfs_in_status(&host);
    let fields: Vec<&str> = told
        .lines()
        .map(str::trim)
        .filter(|line| ["\"guid", "\"mac", "\"mtu", "\"name"].iter().any(|k| line.starts_with(k)))
        .collect();
    assert_eq!(
        fields.join(" "),
        r#""name": "ibp59s0v0", "mtu": 2044, "guid": "0200:0000:0000:0001","#
    );
}

#[test]
fn a_vdpa_device_that_somebody_made_on_a_vf_is_told() {
    let host = worker(|_| {});
    host.write("/sys/bus/pci/devices/0000:03:00.0/sriov_numvfs", "3").unwrap();
    let types = |host: &SimHost| -> Vec<Option<String>> {
        let inventory = observe(host, Vec::new()).unwrap();
        inventory.physical_functions[0].vfs.iter().map(|vf| vf.vdpa.clone()).collect()
    };
    assert_eq!(types(&host), [None, None, None]);
    for (vf, driver) in [("0000:03:00.2", "virtio_vdpa"), ("0000:03:00.4", "vhost_vdpa")] {
        host.machine().vdpa.insert(vf.parse().unwrap(), driver.to_owned());
    }
    assert_eq!(types(&host), [Some("virtio".to_owned()), None, Some("vhost".to_owned())]);
}
