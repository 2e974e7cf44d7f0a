//! Offers as text: wanted groups against observed functions, with what was offered before.

use super::*;
use api::custody::Holder;
use api::nodestate::{Interface, NodeStateSpec, VfGroup};
use expect_test::{Expect, expect};
use host::Host;
use host::function::vf_address;
use host::sim::{Flavour, Machine, SimHost};
use serde_json::{Value, json};

fn pci(text: &str) -> PciAddress {
    text.parse().unwrap()
}

fn vf(index: u32, driver: &str) -> VirtualFunction {
    VirtualFunction {
        pci: pci(&format!("0000:3b:00.{}", index + 2)),
        index,
        driver: (!driver.is_empty()).then(|| driver.to_owned()),
        name: (driver == "mlx5_core").then(|| format!("enp59s0v{index}")),
        mac: None,
        admin_mac: None,
        mtu: None,
        permanent_mac: None,
        vlan: 0,
        device: "101e".to_owned(),
        rdma_device: (driver == "mlx5_core").then(|| format!("mlx5_{}", index + 4)),
        rdma_device_anywhere: None,
        guid: None,
        admin_guid: None,
        representor: None,
        iommu_group: None,
        vdpa: None,
        in_pod: None,
    }
}

fn node(vfs: Vec<VirtualFunction>) -> Inventory {
    let function = PhysicalFunction {
        pci: pci("0000:3b:00.0"),
        name: "enp59s0".to_owned(),
        alt_names: vec![],
        mac: String::new(),
        vendor: "15b3".to_owned(),
        device: "1021".to_owned(),
        driver: Some("mlx5_core".to_owned()),
        mtu: 1500,
        admin_up: true,
        speed: None,
        link_type: None,
        eswitch: api::EswitchMode::Legacy,
        total_vfs: Some(16),
        vf_device: None,
        numa_node: Some(0),
        pci_path: String::new(),
        iommu_group: None,
        rdma_device: Some("mlx5_0".to_owned()),
        node_guid: None,
        port_state: None,
        firmware: None,
        net_filter: String::new(),
        unreadable: None,
        vfs,
    };
    Inventory {
        boot_id: "boot-1".to_owned(),
        physical_functions: vec![function],
        ..Inventory::default()
    }
}

/// `rdma 0-1` is a group of RDMA netdevices, `rdma! 2-3` and `rdma~ 2-3` ones without umad and over all rails for the same resource, `rdma- 2-3` one
/// that does not ask for RDMA, `vfio 2-3` one of vfio-pci, `rdma whole` the PF itself.
fn wanted(groups: &[&str]) -> Desired {
    let group = |text: &&str| {
        let (kind, range) = text.split_once(' ').unwrap();
        VfGroup {
            resource_name: kind.trim_end_matches(['!', '~', '-']).to_owned(),
            device_type: if kind == "vfio" { "vfio-pci" } else { "netdevice" }.to_owned(),
            vf_range: range.parse().ok(),
            is_rdma: kind.starts_with("rdma") && !kind.ends_with('-'),
            exclude_umad: kind.ends_with('!'),
            spread_rails: kind.ends_with('~'),
            ..VfGroup::default()
        }
    };
    let whole = groups.iter().any(|group| group.ends_with("whole"));
    let interface = Interface {
        pci_address: pci("0000:3b:00.0"),
        num_vfs: if whole { 0 } else { 4 },
        mtu: 0,
        name: String::new(),
        link_type: String::new(),
        eswitch_mode: String::new(),
        vf_groups: groups.iter().map(group).collect(),
        externally_managed: false,
        allow_lifeline: false,
    };
    Desired::parse(&NodeStateSpec { interfaces: vec![interface], ..NodeStateSpec::default() })
}

fn first(groups: &[&str], inventory: &Inventory) -> Offer {
    offer(None, 0, &wanted(groups), inventory, "openshift.io", &Against::default())
}

fn check(offer: &Offer, expected: Expect) {
    let mut text = format!("offer {}\n", offer.sequence);
    for (name, resource) in &offer.resources {
        text.push_str(&format!("{name}{}\n", if resource.rdma { " with rdma" } else { "" }));
        for device in &resource.devices {
            let state = match &device.state {
                OfferState::Ready => "ready".to_owned(),
                OfferState::Unverified { because } => format!("unverified: {because}"),
                OfferState::Withdrawn { because } => format!("withdrawn: {because}"),
                OfferState::Broken { because } => format!("broken: {because}"),
            };
            text.push_str(&format!("  {} {state}\n", device.pci));
        }
    }
    expected.assert_eq(&text);
}

#[test]
fn each_group_offers_its_vfs() {
    let inventory =
        node((0..4).map(|i| vf(i, if i < 2 { "mlx5_core" } else { "vfio-pci" })).collect());
    check(
        &first(&["rdma 0-1", "vfio 2-3"], &inventory),
        expect![[r#"
        offer 1
        openshift.io/rdma with rdma
          0000:3b:00.2 ready
          0000:3b:00.3 ready
        openshift.io/vfio
          0000:3b:00.4 ready
          0000:3b:00.5 ready
    "#]],
    );
}

#[test]
fn what_one_group_of_a_resource_leaves_out_no_vf_of_it_gives() {
    let inventory = node((0..4).map(|index| vf(index, "mlx5_core")).collect());
    let without = |groups: &[&str]| {
        let offer = first(groups, &inventory);
        offer.resources["openshift.io/rdma"].exclude_umad
    };
    assert!(!without(&["rdma 0-1", "rdma 2-3"]));
    assert!(without(&["rdma 0-1", "rdma! 2-3"]));
    assert!(without(&["rdma! 0-1", "rdma 2-3"]));
}

#[test]
fn a_resource_is_spread_over_rails_where_one_of_its_policies_says_so() {
    let inventory = node((0..4).map(|index| vf(index, "mlx5_core")).collect());
    let spread =
        |groups: &[&str]| first(groups, &inventory).resources["openshift.io/rdma"].spread_rails;
    assert!(!spread(&["rdma 0-1", "rdma 2-3"]));
    assert!(spread(&["rdma 0-1", "rdma~ 2-3"]));
}

#[test]
fn what_is_not_as_asked_for_is_broken_and_says_how() {
    let mut inventory =
        node(vec![vf(0, ""), vf(1, "vfio-pci"), vf(2, "mlx5_core"), vf(3, "mlx5_core")]);
    inventory.physical_functions[0].vfs[2].rdma_device = None;
    inventory.physical_functions[0].vfs[3].name = None;
    check(
        &first(&["rdma 0-3"], &inventory),
        expect![[r#"
        offer 1
        openshift.io/rdma with rdma
          0000:3b:00.2 broken: 0000:3b:00.2 has no driver
          0000:3b:00.3 broken: 0000:3b:00.3 is bound to vfio-pci, and a network interface is asked for
          0000:3b:00.4 broken: VF 2 of 0000:3b:00.0 (0000:3b:00.4) has no RDMA device
          0000:3b:00.5 broken: VF 3 of 0000:3b:00.0 (0000:3b:00.5) has no network interface in the host's namespace
    "#]],
    );
}

#[test]
fn what_one_policy_makes_a_resource_with_rdma_no_policy_fills_with_vfs_without() {
    let mut inventory = node((0..4).map(|i| vf(i, "mlx5_core")).collect());
    inventory.physical_functions[0].vfs[2].rdma_device = None;
    check(
        &first(&["rdma 0-1", "rdma- 2-3"], &inventory),
        expect![[r#"
        offer 1
        openshift.io/rdma with rdma
          0000:3b:00.2 ready
          0000:3b:00.3 ready
          0000:3b:00.4 broken: 0000:3b:00.4 has no RDMA device, and another policy of its resource asks for one
          0000:3b:00.5 ready
    "#]],
    );
    check(
        &first(&["rdma- 2-3"], &inventory),
        expect![[r#"
        offer 1
        openshift.io/rdma
          0000:3b:00.4 ready
          0000:3b:00.5 ready
    "#]],
    );
}

#[test]
fn what_a_pod_holds_is_not_judged() {
    let mut inventory = node(vec![vf(0, "mlx5_core")]);
    inventory.physical_functions[0].vfs[0].name = None;
    inventory.holders = vec![Holder { device: "0000:3b:00.2".to_owned(), ..Holder::default() }];
    check(
        &first(&["rdma 0-3"], &inventory),
        expect![[r#"
        offer 1
        openshift.io/rdma with rdma
          0000:3b:00.2 ready
    "#]],
    );
}

#[test]
fn a_pf_is_offered_whole_only_while_it_has_no_vfs() {
    check(
        &first(&["rdma whole"], &node(vec![])),
        expect![[r#"
        offer 1
        openshift.io/rdma with rdma
          0000:3b:00.0 ready
    "#]],
    );
    check(
        &first(&["rdma whole"], &node(vec![vf(0, "mlx5_core")])),
        expect![[r#"
        offer 1
        openshift.io/rdma with rdma
          0000:3b:00.0 broken: 0000:3b:00.0 has 1 VFs, and the whole PF is asked for
    "#]],
    );
}

#[test]
fn nothing_new_is_the_same_offer_and_a_lost_one_is_never_numbered_again() {
    let inventory = node(vec![vf(0, "mlx5_core")]);
    let desired = wanted(&["rdma 0-3"]);
    let before = first(&["rdma 0-3"], &inventory);
    let again = offer(Some(&before), 1, &desired, &inventory, "openshift.io", &Against::default());
    assert_eq!(again, before);
    let lost = offer(None, 9, &desired, &inventory, "openshift.io", &Against::default());
    assert_eq!(lost.sequence, 10);
}

#[test]
fn a_runtime_without_cdi_makes_a_new_offer_that_says_by_path() {
    let inventory = node(vec![vf(0, "mlx5_core")]);
    let desired = wanted(&["rdma 0-3"]);
    let before = first(&["rdma 0-3"], &inventory);
    let against = Against { no_cdi: true, ..Against::default() };
    let off = offer(Some(&before), 1, &desired, &inventory, "openshift.io", &against);
    assert_eq!((before.by_path, off.by_path, off.sequence), (false, true, 2));
    assert_eq!(off.resources, before.resources);
    let on = offer(Some(&off), 2, &desired, &inventory, "openshift.io", &Against::default());
    assert_eq!((on.by_path, on.sequence), (false, 3));
}

#[test]
fn vfs_that_go_and_come_again_stay_listed() {
    let before = first(&["rdma 0-3"], &node(vec![vf(0, "mlx5_core"), vf(1, "mlx5_core")]));
    let desired = wanted(&["rdma 0-3"]);
    let between =
        offer(Some(&before), 1, &desired, &node(vec![]), "openshift.io", &Against::default());
    check(
        &between,
        expect![[r#"
        offer 2
        openshift.io/rdma with rdma
          0000:3b:00.2 withdrawn: 0000:3b:00.2 does not exist at the moment
          0000:3b:00.3 withdrawn: 0000:3b:00.3 does not exist at the moment
    "#]],
    );
}

#[test]
fn without_a_policy_a_device_leaves_the_list_once_nobody_holds_it() {
    let before = first(&["rdma 0-3"], &node(vec![vf(0, "mlx5_core"), vf(1, "mlx5_core")]));
    let mut inventory = node(vec![vf(0, "mlx5_core"), vf(1, "mlx5_core")]);
    inventory.holders = vec![Holder { device: "0000:3b:00.3".to_owned(), ..Holder::default() }];
    let nothing = Desired::default();
    let held = offer(Some(&before), 1, &nothing, &inventory, "openshift.io", &Against::default());
    check(
        &held,
        expect![[r#"
        offer 2
        openshift.io/rdma with rdma
          0000:3b:00.3 withdrawn: no policy asks for it any more
    "#]],
    );
    inventory.holders.clear();
    let free = offer(Some(&held), 2, &nothing, &inventory, "openshift.io", &Against::default());
    check(
        &free,
        expect![[r#"
        offer 3
    "#]],
    );
}

#[test]
fn what_the_plan_changes_is_withdrawn_with_its_reason() {
    let inventory = node(vec![vf(0, "mlx5_core"), vf(1, "mlx5_core")]);
    let withdrawn =
        Withdrawn::from([(pci("0000:3b:00.3"), "policy train asks for MTU 9000".to_owned())]);
    let withdrawn = Against { withdrawn, ..Against::default() };
    let offer = offer(None, 0, &wanted(&["rdma 0-3"]), &inventory, "openshift.io", &withdrawn);
    check(
        &offer,
        expect![[r#"
        offer 1
        openshift.io/rdma with rdma
          0000:3b:00.2 ready
          0000:3b:00.3 withdrawn: policy train asks for MTU 9000
    "#]],
    );
}

#[test]
fn a_device_by_which_the_host_lives_is_listed_and_not_given_away() {
    use api::lifeline::{Carries, Lifeline};
    let mut inventory = node(vec![vf(0, "mlx5_core"), vf(1, "mlx5_core")]);
    let over = vec!["enp59s0v1".to_owned()];
    let lifeline =
        Lifeline { carries: Carries::DefaultRoute, detail: String::new(), gone_since: None, over };
    inventory.lifelines.insert(pci("0000:3b:00.3"), vec![lifeline]);
    let named = |groups: &[&str], allow: bool| {
        let mut desired = wanted(groups);
        desired.functions[0].allow_lifeline = allow;
        desired.functions[0].groups[0].policy = "train".to_owned();
        desired
    };
    let given = |desired: &Desired, inventory: &Inventory| {
        offer(None, 0, desired, inventory, "openshift.io", &Against::default())
    };
    check(
        &given(&named(&["rdma 0-3"], false), &inventory),
        expect![[r#"
        offer 1
        openshift.io/rdma with rdma
          0000:3b:00.2 ready
          0000:3b:00.3 broken: the host itself has its default route over enp59s0v1; write allowLifeline: true into policy train if a pod may take 0000:3b:00.3 away
    "#]],
    );
    check(
        &given(&named(&["rdma 0-3"], true), &inventory),
        expect![[r#"
        offer 1
        openshift.io/rdma with rdma
          0000:3b:00.2 ready
          0000:3b:00.3 ready
    "#]],
    );
    // The whole PF takes its VFs' port with it.
    inventory.physical_functions[0].vfs.clear();
    let lifelines = std::mem::take(&mut inventory.lifelines);
    inventory.lifelines = lifelines.into_values().map(|all| (pci("0000:3b:00.0"), all)).collect();
    check(
        &given(&named(&["rdma whole"], false), &inventory),
        expect![[r#"
        offer 1
        openshift.io/rdma with rdma
          0000:3b:00.0 broken: the host itself has its default route over enp59s0v1; write allowLifeline: true into policy train if a pod may take 0000:3b:00.0 away
    "#]],
    );
}

/// What the node reported in the boot before, with these VFs.
fn reported(vfs: &[(i64, &str)]) -> NodeStateStatus {
    let status = |(id, address): &(i64, &str)| json!({ "pciAddress": address, "vfID": id });
    let vfs: Vec<Value> = vfs.iter().map(status).collect();
    let interface = json!({ "pciAddress": "0000:3b:00.0", "Vfs": vfs });
    serde_json::from_value(json!({ "bootId": "boot-0", "interfaces": [interface] })).unwrap()
}

/// The second of two boots in a row that made no VFs: the report of the first has none, and the card says where they were.
#[test]
fn a_card_without_vfs_in_the_last_report_says_where_those_of_the_order_will_be() {
    let (status, desired) = (reported(&[]), wanted(&["rdma 1-2"]));
    let machine =
        SimHost::new(Machine::small_worker("worker-0", Flavour::Rhel, api::Timestamp::UNIX_EPOCH));
    let pf: PciAddress = "0000:03:00.0".parse().unwrap();
    let place = |_: &PciAddress, index| vf_address(&machine, &pf, index);
    let offer = of_the_boot_before(&desired, &status, "boot-1", "openshift.io", place).unwrap();
    let devices = &offer.resources["openshift.io/rdma"].devices;
    let found: Vec<_> = devices.iter().map(|device| (device.pci.to_string(), device.vf)).collect();
    machine.write(&pf.file("sriov_numvfs"), "3").unwrap();
    let link = |index: u32| {
        let target = machine.link_target(&pf.file(&format!("virtfn{index}"))).unwrap();
        (target.rsplit('/').next().unwrap().to_owned(), Some(index))
    };
    assert_eq!(found, [link(1), link(2)]);
}

#[test]
fn after_a_boot_nothing_is_ready_before_it_was_found_right() {
    let status = reported(&[(0, "0000:3b:00.2"), (1, "0000:3b:00.3"), (2, "0000:3b:00.4")]);
    let desired = wanted(&["rdma 0-2"]);
    let before =
        of_the_boot_before(&desired, &status, "boot-1", "openshift.io", |_, _| None).unwrap();
    let (absent, mut bare) = (node(vec![]), node(vec![vf(0, "mlx5_core"), vf(1, "mlx5_core")]));
    bare.physical_functions[0].vfs[1].rdma_device = None;
    let at_boot = offer(Some(&before), 0, &desired, &absent, "openshift.io", &Against::default());
    check(
        &at_boot,
        expect![[r#"
        offer 1
        openshift.io/rdma with rdma
          0000:3b:00.2 unverified: 0000:3b:00.2 does not exist at the moment
          0000:3b:00.3 unverified: 0000:3b:00.3 does not exist at the moment
          0000:3b:00.4 unverified: 0000:3b:00.4 does not exist at the moment
    "#]],
    );
    let half = offer(Some(&at_boot), 1, &desired, &bare, "openshift.io", &Against::default());
    check(
        &half,
        expect![[r#"
        offer 2
        openshift.io/rdma with rdma
          0000:3b:00.2 ready
          0000:3b:00.3 unverified: VF 1 of 0000:3b:00.0 (0000:3b:00.3) has no RDMA device
          0000:3b:00.4 unverified: 0000:3b:00.4 does not exist at the moment
    "#]],
    );
    // A defect of later is one of a device that was ready.
    bare.physical_functions[0].vfs[0].driver = None;
    let later = offer(Some(&half), 2, &desired, &bare, "openshift.io", &Against::default());
    check(
        &later,
        expect![[r#"
        offer 3
        openshift.io/rdma with rdma
          0000:3b:00.2 broken: 0000:3b:00.2 has no driver
          0000:3b:00.3 unverified: VF 1 of 0000:3b:00.0 (0000:3b:00.3) has no RDMA device
          0000:3b:00.4 unverified: 0000:3b:00.4 does not exist at the moment
    "#]],
    );
    assert_eq!(of_the_boot_before(&desired, &status, "boot-0", "openshift.io", |_, _| None), None);
}

#[test]
fn mac_guid_and_mtu_are_looked_at_before_a_vf_is_ready() {
    let mut inventory = node((0..3).map(|i| vf(i, "mlx5_core")).collect());
    let function = &mut inventory.physical_functions[0];
    function.vfs[0].mac = Some("00:00:00:00:00:00".to_owned());
    function.vfs[1].mtu = Some(1500);
    let mut desired = wanted(&["rdma 0-2"]);
    desired.functions[0].groups[0].mtu = Some(9000);
    function.vfs[2].mtu = Some(9000);
    let none = Against::default();
    check(
        &offer(None, 0, &desired, &inventory, "openshift.io", &none),
        expect![[r#"
        offer 1
        openshift.io/rdma with rdma
          0000:3b:00.2 broken: VF 0 of 0000:3b:00.0 (0000:3b:00.2) has no MAC address
          0000:3b:00.3 broken: VF 1 of 0000:3b:00.0 (0000:3b:00.3) has another MTU than its policy asks for
          0000:3b:00.4 ready
    "#]],
    );
    let function = &mut inventory.physical_functions[0];
    function.link_type = Some(LinkType::Infiniband);
    function.vfs[2].guid = Some(NO_GUID.to_owned());
    function.vfs[0].mac = Some(format!("{}00:00:00:00:00:00:00:00", "fe:".repeat(12)));
    check(
        &offer(None, 0, &desired, &inventory, "openshift.io", &none),
        expect![[r#"
        offer 1
        openshift.io/rdma with rdma
          0000:3b:00.2 broken: VF 0 of 0000:3b:00.0 (0000:3b:00.2) has no port GUID
          0000:3b:00.3 broken: VF 1 of 0000:3b:00.0 (0000:3b:00.3) has another MTU than its policy asks for
          0000:3b:00.4 broken: VF 2 of 0000:3b:00.0 (0000:3b:00.4) has no GUID
    "#]],
    );
}

#[test]
fn in_a_mode_that_a_reboot_did_not_bring_nothing_is_given_for_rdma() {
    let inventory =
        node((0..4).map(|i| vf(i, if i < 2 { "mlx5_core" } else { "vfio-pci" })).collect());
    let mode = Some("the node came back with shared".to_owned());
    let against = Against { mode, ..Against::default() };
    let desired = wanted(&["rdma 0-1", "vfio 2-3"]);
    check(
        &offer(None, 0, &desired, &inventory, "openshift.io", &against),
        expect![[r#"
        offer 1
        openshift.io/rdma with rdma
          0000:3b:00.2 broken: the node came back with shared
          0000:3b:00.3 broken: the node came back with shared
        openshift.io/vfio
          0000:3b:00.4 ready
          0000:3b:00.5 ready
    "#]],
    );
}

/// After a boot the kubelet lists a pod until it has failed it; the device that it names is nobody's then, and bare.
#[test]
fn what_was_never_ready_in_this_boot_is_judged_whoever_is_listed_with_it() {
    let mut before = first(&["rdma 0-1"], &node(vec![vf(0, "mlx5_core"), vf(1, "mlx5_core")]));
    for device in before.resources.values_mut().flat_map(|resource| &mut resource.devices) {
        device.state = OfferState::Unverified { because: "it was not looked at yet".to_owned() };
    }
    let mut inventory = node(vec![vf(0, ""), vf(1, "mlx5_core")]);
    let holder = |device: &str| Holder { device: device.to_owned(), ..Holder::default() };
    inventory.holders = vec![holder("0000:3b:00.2"), holder("0000:3b:00.3")];
    let wanted = wanted(&["rdma 0-1"]);
    check(
        &offer(Some(&before), 1, &wanted, &inventory, "openshift.io", &Against::default()),
        expect![[r#"
            offer 2
            openshift.io/rdma with rdma
              0000:3b:00.2 unverified: 0000:3b:00.2 has no driver
              0000:3b:00.3 ready
        "#]],
    );
}

/// What the VFs of a card are offered with: the card, then each VF's MAC and spoof check of its profile.
fn profiles(change: impl FnOnce(&mut PhysicalFunction, &mut Desired)) -> String {
    let mut inventory = node(vec![vf(0, "mlx5_core"), vf(1, "vfio-pci")]);
    let function = &mut inventory.physical_functions[0];
    function.link_type = Some(LinkType::Ethernet);
    function.vfs[0].permanent_mac = Some("02:00:00:00:00:01".to_owned());
    let mut desired = wanted(&["rdma 0-0", "vfio 1-1"]);
    change(function, &mut desired);
    let offer = offer(None, 0, &desired, &inventory, "openshift.io", &Against::default());
    let devices = offer.resources.values().flat_map(|resource| &resource.devices);
    let told = devices.map(|device| match &device.profile {
        None => format!("{} none\n", device.pci),
        Some(profile) => {
            let profile = serde_json::to_string(profile).unwrap();
            format!("{} {profile}\n", device.pci)
        }
    });
    told.collect()
}

#[test]
fn an_offer_has_the_profile_of_each_vf_that_is_ours() {
    expect![[r#"
        0000:3b:00.2 {"mac":"02:00:00:00:00:01","vlan":{"id":0,"qos":0,"protocol":33024},"rate":{"min":0,"max":0},"spoofCheck":false,"trust":false,"linkState":"auto"}
        0000:3b:00.3 {"vlan":{"id":0,"qos":0,"protocol":33024},"rate":{"min":0,"max":0},"spoofCheck":false,"trust":false,"linkState":"auto"}
    "#]].assert_eq(&profiles(|_, _| {}));
    expect![[r#"
        0000:3b:00.2 {"mac":"02:00:00:00:00:01","vlan":{"id":0,"qos":0,"protocol":33024},"rate":{"min":0,"max":0},"spoofCheck":true,"trust":false,"linkState":"auto"}
        0000:3b:00.3 {"vlan":{"id":0,"qos":0,"protocol":33024},"rate":{"min":0,"max":0},"spoofCheck":true,"trust":false,"linkState":"auto"}
    "#]].assert_eq(&profiles(|function, _| function.driver = Some("ice".to_owned())));
    // Whose default nobody has read.
    expect![[r#"
        0000:3b:00.2 {"mac":"02:00:00:00:00:01","vlan":{"id":0,"qos":0,"protocol":33024},"rate":{"min":0,"max":0},"trust":false,"linkState":"auto"}
        0000:3b:00.3 {"vlan":{"id":0,"qos":0,"protocol":33024},"rate":{"min":0,"max":0},"trust":false,"linkState":"auto"}
    "#]].assert_eq(&profiles(|function, _| function.driver = Some("bnxt_en".to_owned())));
}

#[test]
fn vfs_whose_settings_are_not_ours_are_offered_without_a_profile() {
    let none = "0000:3b:00.2 none\n0000:3b:00.3 none\n";
    assert_eq!(profiles(|_, desired| desired.functions[0].externally_managed = true), none);
    assert_eq!(profiles(|function, _| function.eswitch = api::EswitchMode::Switchdev), none);
    assert_eq!(profiles(|function, _| function.link_type = None), none);
}

/// The GUID of the RDMA device that the driver has started, and in user space the one that the PF holds.
#[test]
fn on_infiniband_the_profile_is_the_guid_that_the_vf_was_configured_with() {
    let told = profiles(|function, _| {
        function.link_type = Some(LinkType::Infiniband);
        function.vfs[0].guid = Some("0011:2233:4455:6677".to_owned());
        function.vfs[0].admin_guid = Some("0200:0000:0000:0009".to_owned());
        function.vfs[1].admin_guid = Some("0011:2233:4455:6678".to_owned());
    });
    expect![[r#"
        0000:3b:00.2 {"guid":"00:11:22:33:44:55:66:77"}
        0000:3b:00.3 {"guid":"00:11:22:33:44:55:66:78"}
    "#]]
    .assert_eq(&told);
    let none = profiles(|function, _| {
        function.link_type = Some(LinkType::Infiniband);
        function.vfs[0].guid = Some(NO_GUID.to_owned());
    });
    expect![[r#"
        0000:3b:00.2 {}
        0000:3b:00.3 {}
    "#]]
    .assert_eq(&none);
}

/// The interface is in the pod, so that nobody sees the MAC of its driver.
#[test]
fn a_device_that_a_pod_holds_keeps_the_profile_that_it_was_given_with() {
    let seen = |mac: Option<&str>, held: bool| {
        let mut inventory = node(vec![vf(0, "mlx5_core")]);
        inventory.physical_functions[0].link_type = Some(LinkType::Ethernet);
        inventory.physical_functions[0].vfs[0].permanent_mac = mac.map(str::to_owned);
        let device = "0000:3b:00.2".to_owned();
        let holder = Holder {
            device,
            namespace: "ml".to_owned(),
            pod: "train".to_owned(),
            ..Holder::default()
        };
        inventory.holders.extend(held.then_some(holder));
        inventory
    };
    let free = first(&["rdma 0-0"], &seen(Some("02:00:00:00:00:01"), false));
    let next = |previous: &Offer, inventory: &Inventory| {
        offer(
            Some(previous),
            previous.sequence,
            &wanted(&["rdma 0-0"]),
            inventory,
            "openshift.io",
            &Against::default(),
        )
    };
    assert_eq!(next(&free, &seen(None, true)), free, "nothing is told anew");
    assert_ne!(next(&free, &seen(None, false)), free);
}
