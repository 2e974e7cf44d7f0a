use super::*;
use api::custody::OfferState;
use expect_test::{Expect, expect};

/// Two processors. Below the first: PFs 11 and 12 with a GPU on one switch, PF 15 on a root port of its own. Below the second:
/// PFs 91 and 92 on one switch with a GPU each below ports of their own.
const PLACES: [(&str, u32, &str); 5] = [
    ("11", 0, "pci0000:10/0000:10:01.0/0000:1a:00.0/0000:1b:00.0"),
    ("12", 0, "pci0000:10/0000:10:01.0/0000:1a:00.0/0000:1b:01.0"),
    ("15", 0, "pci0000:14/0000:14:00.0"),
    ("91", 1, "pci0000:90/0000:90:01.0/0000:9a:00.0/0000:9b:00.0"),
    ("92", 1, "pci0000:90/0000:90:01.0/0000:9a:00.0/0000:9b:01.0"),
];

fn place(numa_node: u32, above: &str) -> Place {
    Place { numa_node: Some(numa_node), above: above.split('/').map(str::to_owned).collect() }
}

fn gpu(name: &str) -> Place {
    match name {
        "left" => place(0, "pci0000:10/0000:10:01.0/0000:1a:00.0/0000:1b:02.0"),
        "right" => place(1, "pci0000:90/0000:90:01.0/0000:9a:00.0/0000:9b:00.0"),
        "right too" => place(1, "pci0000:90/0000:90:01.0/0000:9a:00.0/0000:9b:01.0"),
        "part on node 1" => Place { numa_node: Some(1), above: Vec::new() },
        _ => panic!("no GPU {name}"),
    }
}

fn pf(bus: &str) -> PciAddress {
    format!("0000:{bus}:00.0").parse().unwrap()
}

/// Three VFs on each PF, but for those in `taken`.
fn check(gpus: &[&str], spread: bool, taken: &[&str], must: &[&str], size: usize, want: Expect) {
    let device = |(bus, numa, _): &(&str, u32, &str), function: u8| OfferedDevice {
        pci: PciAddress { function, ..pf(bus) },
        state: OfferState::Ready,
        numa_node: Some(*numa),
        parent: pf(bus),
        vf: None,
        driver: None,
        rdma_device: None,
        profile: None,
    };
    let devices: Vec<OfferedDevice> = PLACES
        .iter()
        .flat_map(|place| (1..4).map(move |function| device(place, function)))
        .collect();
    let resource = OfferedResource { devices, spread_rails: spread, ..OfferedResource::default() };
    let places = PLACES.iter().map(|(bus, numa, above)| (pf(bus), place(*numa, above))).collect();
    let gpus: Vec<Place> = gpus.iter().map(|name| gpu(name)).collect();
    let free = resource.devices.iter().map(|device| device.pci.to_string());
    let free: Vec<String> =
        free.filter(|id| !taken.iter().any(|taken| id.contains(&format!(":{taken}")))).collect();
    let must: Vec<String> = must.iter().map(|id| format!("0000:{id}")).collect();
    let choice = Choice { resource: &resource, places: &places, gpus: &gpus };
    want.assert_eq(&choice.make(&free, &must, size).join(" ").replace("0000:", ""));
}

#[test]
fn devices_of_one_request_lie_on_one_pf_below_one_switch_on_one_numa_node() {
    check(&[], false, &[], &[], 2, expect!["11:00.1 11:00.2"]);
    check(&[], false, &[], &[], 4, expect!["11:00.1 11:00.2 11:00.3 12:00.1"]);
    check(
        &[],
        false,
        &[],
        &[],
        8,
        expect!["11:00.1 11:00.2 11:00.3 12:00.1 12:00.2 12:00.3 15:00.1 15:00.2"],
    );
    // The topology manager left the second processor's.
    check(&[], false, &["1"], &[], 4, expect!["91:00.1 91:00.2 91:00.3 92:00.1"]);
    check(&[], false, &[], &["92:00.2"], 2, expect!["92:00.1 92:00.2"]);
    check(&[], false, &["92:00.1", "92:00.3"], &["92:00.2"], 2, expect!["91:00.1 92:00.2"]);
    // Where few are left, few are given.
    check(&[], false, &["1", "91"], &[], 5, expect!["92:00.1 92:00.2 92:00.3"]);
}

#[test]
fn one_switch_with_enough_free_devices_goes_before_the_numa_node_with_the_most() {
    // The first NUMA node has six on two switches, three on each; the second four on one.
    let taken = ["11:00.1", "11:00.2", "12:00.3", "91:00.1", "92:00.1"];
    check(&[], false, &taken, &[], 4, expect!["91:00.2 91:00.3 92:00.2 92:00.3"]);
    check(&[], false, &taken, &[], 3, expect!["15:00.1 15:00.2 15:00.3"]);
    // No switch has enough: one NUMA node then.
    check(&[], false, &taken, &[], 5, expect!["12:00.1 12:00.2 15:00.1 15:00.2 15:00.3"]);
    // What must be among them says which switch it is.
    check(&[], false, &taken, &["15:00.3"], 3, expect!["15:00.1 15:00.2 15:00.3"]);
}

#[test]
fn with_spread_rails_each_device_lies_on_a_pf_of_its_own_as_long_as_there_is_one() {
    check(&[], true, &[], &[], 5, expect!["11:00.1 12:00.1 15:00.1 91:00.1 92:00.1"]);
    check(&[], true, &[], &[], 6, expect!["11:00.1 11:00.2 12:00.1 15:00.1 91:00.1 92:00.1"]);
    // Where the most are left, so that pods with one device each are spread too.
    check(&[], true, &["11:00.1", "12:00.2"], &[], 1, expect!["15:00.1"]);
    check(&[], true, &[], &["15:00.2"], 2, expect!["11:00.1 15:00.2"]);
}

#[test]
fn devices_lie_below_the_switch_of_the_pods_gpus() {
    check(&["right"], false, &[], &[], 1, expect!["91:00.1"]);
    check(&["right too"], false, &[], &[], 1, expect!["92:00.1"]);
    check(&["right too"], false, &["92"], &[], 1, expect!["91:00.1"]);
    check(&["left"], false, &["11"], &[], 2, expect!["12:00.1 12:00.2"]);
    check(&["part on node 1"], false, &[], &[], 1, expect!["91:00.1"]);
    // A device for each GPU, or for each half of them.
    check(&["left", "right", "right too"], false, &[], &[], 3, expect!["11:00.1 91:00.1 92:00.1"]);
    check(&["right", "right too", "left", "left"], false, &[], &[], 2, expect!["11:00.1 91:00.1"]);
    check(&["left", "right"], false, &[], &["11:00.3"], 2, expect!["11:00.3 91:00.1"]);
    check(&["right"], true, &[], &[], 2, expect!["91:00.1 92:00.1"]);
}

#[test]
fn five_hundred_devices_are_chosen_from_with_no_more_work_than_there_is() {
    let pfs: Vec<PciAddress> = (0..16).map(|bus| PciAddress { bus, ..pf("00") }).collect();
    let device = |parent: &PciAddress, at: u8| OfferedDevice {
        pci: PciAddress { device: 1 + at / 8, function: at % 8, ..*parent },
        state: OfferState::Ready,
        numa_node: Some(0),
        parent: *parent,
        vf: None,
        driver: None,
        rdma_device: None,
        profile: None,
    };
    let devices = pfs.iter().flat_map(|pf| (0..32).map(move |at| device(pf, at))).collect();
    let resource = OfferedResource { devices, ..OfferedResource::default() };
    let free: Vec<String> = resource.devices.iter().map(|d| d.pci.to_string()).collect();
    let gpus: Vec<Place> = (0..8).map(|_| gpu("left")).collect();
    let places = Places::new();
    let choice = Choice { resource: &resource, places: &places, gpus: &gpus };
    let chosen = choice.make(&free, &[], 33);
    assert_eq!((chosen.len(), &*chosen[0], &*chosen[32]), (33, "0000:00:01.0", "0000:01:01.0"));
}
