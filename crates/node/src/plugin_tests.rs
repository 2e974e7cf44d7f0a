//! The device plugin's messages as text.

use super::*;
use crate::proto::v1beta1::ContainerAllocateRequest;
use expect_test::{Expect, expect};

const RESOURCE: &str = "openshift.io/rdma_exclusive_device";
const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn pci(text: &str) -> PciAddress {
    text.parse().unwrap()
}

/// Eight VFs of two PFs on two NUMA nodes, one withdrawn and one broken.
fn offer() -> Offer {
    let device = |bus: &str, function: u32, node| OfferedDevice {
        pci: pci(&format!("0000:{bus}:00.{function}")),
        state: OfferState::Ready,
        numa_node: node,
        parent: pci(&format!("0000:{bus}:00.0")),
        vf: None,
        driver: Some("mlx5_core".to_owned()),
        rdma_device: None,
        profile: None,
    };
    let mut devices: Vec<OfferedDevice> = (2..6)
        .map(|function| device("3b", function, Some(0)))
        .chain((2..5).map(|function| device("af", function, Some(1))))
        .chain([device("c1", 2, None)])
        .collect();
    devices[1].state = OfferState::Withdrawn { because: "policy train asks for 8 VFs".to_owned() };
    devices[4].state = OfferState::Broken { because: "0000:af:00.2 has no driver".to_owned() };
    let resource = OfferedResource { devices, rdma: true, ..OfferedResource::default() };
    let resources = BTreeMap::from([(RESOURCE.to_owned(), resource)]);
    Offer {
        version: VERSION,
        boot_id: "boot-1".to_owned(),
        sequence: 7,
        resources,
        ..Offer::default()
    }
}

fn rdma(uverbs: u32) -> Facilities {
    let node = |name: String| vec![format!("/dev/infiniband/{name}")];
    Facilities {
        rdma_device: format!("mlx5_{uverbs}"),
        rdma: BTreeMap::from([
            ("uverbs", node(format!("uverbs{uverbs}"))),
            ("rdma_cm", node("rdma_cm".to_owned())),
        ]),
        ..Facilities::default()
    }
}

fn check_allocate(ids: &[&str], delivery: Delivery, expected: Expect) {
    check_allocate_of(&offer(), ids, delivery, expected);
}

fn check_allocate_of(offer: &Offer, ids: &[&str], delivery: Delivery, expected: Expect) {
    let ids: Vec<String> = ids.iter().map(|id| (*id).to_owned()).collect();
    let request =
        AllocateRequest { container_requests: vec![ContainerAllocateRequest { devices_ids: ids }] };
    let facilities =
        BTreeMap::from([(pci("0000:3b:00.2"), rdma(4)), (pci("0000:3b:00.4"), rdma(6))]);
    let old = Claim { resource: RESOURCE.to_owned(), at: NOW, nodes: Vec::new() };
    let claims = Claims {
        version: VERSION,
        boot_id: "boot-1".to_owned(),
        sequence: 6,
        claims: BTreeMap::from([(pci("0000:3b:00.5"), old)]),
    };
    let later = Timestamp::from_second(300).unwrap();
    let answer = allocate(offer, RESOURCE, &request, &claims, &facilities, delivery, later);
    expected.assert_eq(&match answer {
        Err(sentence) => sentence,
        Ok((response, claims)) => shown(&response, &claims),
    });
}

fn shown(response: &AllocateResponse, claims: &Claims) -> String {
    let mut text = String::new();
    for container in &response.container_responses {
        for (name, value) in &container.envs {
            text.push_str(&format!("{name}={value}\n"));
        }
        for cdi in &container.cdi_devices {
            text.push_str(&format!("cdi {}\n", cdi.name));
        }
        for device in &container.devices {
            text.push_str(&format!("device {} {}\n", device.host_path, device.permissions));
        }
    }
    for (device, claim) in &claims.claims {
        text.push_str(&format!("claim {device} at {}\n", claim.at));
    }
    text + &format!("acknowledged {}\n", claims.sequence)
}

#[test]
fn the_list_keeps_every_device_and_says_which_are_healthy() {
    let offer = offer();
    let list = list(&offer.resources[RESOURCE]);
    let line = |device: &Device| {
        let node = device.topology.as_ref().and_then(|t| t.nodes.first()).map(|node| node.id);
        format!("{} {} {node:?}", device.id, device.health)
    };
    let lines: Vec<String> = list.devices.iter().map(line).collect();
    expect![[r#"
        0000:3b:00.2 Healthy Some(0)
        0000:3b:00.3 Unhealthy Some(0)
        0000:3b:00.4 Healthy Some(0)
        0000:3b:00.5 Healthy Some(0)
        0000:af:00.2 Unhealthy Some(1)
        0000:af:00.3 Healthy Some(1)
        0000:af:00.4 Healthy Some(1)
        0000:c1:00.2 Healthy None"#]]
    .assert_eq(&lines.join("\n"));
}

#[test]
fn a_topology_that_is_excluded_is_not_told() {
    let mut offer = offer();
    let resource = offer.resources.get_mut(RESOURCE).unwrap();
    resource.exclude_topology = true;
    assert!(list(resource).devices.iter().all(|device| device.topology.is_none()));
}

#[test]
fn devices_are_given_by_cdi_name_and_a_claim_stands_until_its_device_is_given_anew() {
    check_allocate(
        &["0000:3b:00.4", "0000:3b:00.2"],
        Delivery::Cdi,
        expect![[r#"
            PCIDEVICE_OPENSHIFT_IO_RDMA_EXCLUSIVE_DEVICE=0000:3b:00.2,0000:3b:00.4
            PCIDEVICE_OPENSHIFT_IO_RDMA_EXCLUSIVE_DEVICE_INFO={"0000:3b:00.2":{"generic":{"deviceID":"0000:3b:00.2"},"rdma":{"rdma_cm":"/dev/infiniband/rdma_cm","rdma_dev":"mlx5_4","uverbs":"/dev/infiniband/uverbs4"}},"0000:3b:00.4":{"generic":{"deviceID":"0000:3b:00.4"},"rdma":{"rdma_cm":"/dev/infiniband/rdma_cm","rdma_dev":"mlx5_6","uverbs":"/dev/infiniband/uverbs6"}}}
            cdi ironrail.dev/vf=0000:3b:00.4
            cdi ironrail.dev/vf=0000:3b:00.2
            claim 0000:3b:00.2 at 1970-01-01T00:05:00Z
            claim 0000:3b:00.4 at 1970-01-01T00:05:00Z
            claim 0000:3b:00.5 at 1970-01-01T00:00:00Z
            acknowledged 6
        "#]],
    );
}

#[test]
fn without_cdi_each_node_is_given_once() {
    check_allocate(
        &["0000:3b:00.2", "0000:3b:00.4"],
        Delivery::DeviceSpecs,
        expect![[r#"
            PCIDEVICE_OPENSHIFT_IO_RDMA_EXCLUSIVE_DEVICE=0000:3b:00.2,0000:3b:00.4
            PCIDEVICE_OPENSHIFT_IO_RDMA_EXCLUSIVE_DEVICE_INFO={"0000:3b:00.2":{"generic":{"deviceID":"0000:3b:00.2"},"rdma":{"rdma_cm":"/dev/infiniband/rdma_cm","rdma_dev":"mlx5_4","uverbs":"/dev/infiniband/uverbs4"}},"0000:3b:00.4":{"generic":{"deviceID":"0000:3b:00.4"},"rdma":{"rdma_cm":"/dev/infiniband/rdma_cm","rdma_dev":"mlx5_6","uverbs":"/dev/infiniband/uverbs6"}}}
            device /dev/infiniband/rdma_cm rw
            device /dev/infiniband/uverbs4 rw
            device /dev/infiniband/uverbs6 rw
            claim 0000:3b:00.2 at 1970-01-01T00:05:00Z
            claim 0000:3b:00.4 at 1970-01-01T00:05:00Z
            claim 0000:3b:00.5 at 1970-01-01T00:00:00Z
            acknowledged 6
        "#]],
    );
}

#[test]
fn a_device_without_nodes_has_no_cdi_name_where_no_rdma_is_promised() {
    let mut offer = offer();
    offer.resources.get_mut(RESOURCE).unwrap().rdma = false;
    check_allocate_of(
        &offer,
        &["0000:af:00.3"],
        Delivery::Cdi,
        expect![[r#"
            PCIDEVICE_OPENSHIFT_IO_RDMA_EXCLUSIVE_DEVICE=0000:af:00.3
            PCIDEVICE_OPENSHIFT_IO_RDMA_EXCLUSIVE_DEVICE_INFO={"0000:af:00.3":{"generic":{"deviceID":"0000:af:00.3"}}}
            claim 0000:3b:00.5 at 1970-01-01T00:00:00Z
            claim 0000:af:00.3 at 1970-01-01T00:05:00Z
            acknowledged 6
        "#]],
    );
}

#[test]
fn a_device_without_uverbs_is_refused_where_rdma_is_promised() {
    for delivery in [Delivery::Cdi, Delivery::DeviceSpecs] {
        check_allocate(
            &["0000:3b:00.2", "0000:af:00.3"],
            delivery,
            expect![
                "0000:af:00.3 (openshift.io/rdma_exclusive_device) has no uverbs device: /sys/bus/pci/devices/0000:af:00.3/infiniband_verbs is empty or not there; load ib_uverbs and the card's RDMA driver, then create the pod again"
            ],
        );
    }
}

#[test]
fn a_device_whose_vfio_or_vhost_nodes_are_not_there_is_refused_by_name() {
    let offer = offer();
    let resource = &offer.resources[RESOURCE];
    let said = |driver: &str, absent: &[&str]| {
        let device =
            OfferedDevice { driver: Some(driver.to_owned()), ..resource.devices[0].clone() };
        let absent = absent.iter().map(|path| (*path).to_owned()).collect();
        missing(resource, &device, &Facilities { absent, ..rdma(4) }).unwrap_or_default()
    };
    let told = [
        said("vfio-pci", &["/dev/vfio/12"]),
        said("mlx5_core", &["/dev/vhost-net", "/dev/net/tun"]),
        said("vfio-pci", &[]),
    ];
    expect![[r#"
        is for vfio-pci, and /dev/vfio/12 is not there; load vfio-pci, see that the node has an IOMMU and the device its driver, then create the pod again
        comes with vhost-net (needVhostNet: true), and /dev/vhost-net, /dev/net/tun is not there; load vhost_net and tun on the node, then create the pod again
    "#]].assert_eq(&told.join("\n"));
}

#[test]
fn a_withdrawn_device_is_refused_with_its_reason() {
    check_allocate(
        &["0000:3b:00.2", "0000:3b:00.3"],
        Delivery::Cdi,
        expect![
            "0000:3b:00.3 (openshift.io/rdma_exclusive_device) is withdrawn: policy train asks for 8 VFs; the pod must be created again"
        ],
    );
}

#[test]
fn a_broken_device_is_refused_with_its_defect() {
    check_allocate(
        &["0000:af:00.2"],
        Delivery::Cdi,
        expect![
            "0000:af:00.2 (openshift.io/rdma_exclusive_device) is not usable: 0000:af:00.2 has no driver"
        ],
    );
}

#[test]
fn a_device_that_was_never_offered_is_refused() {
    check_allocate(
        &["0000:99:00.2"],
        Delivery::Cdi,
        expect!["0000:99:00.2 is not offered as openshift.io/rdma_exclusive_device on this node"],
    );
}

#[test]
fn a_resource_that_is_gone_is_refused() {
    let request = AllocateRequest::default();
    let claims = Claims::default();
    let answer = allocate(
        &offer(),
        "openshift.io/gone",
        &request,
        &claims,
        &BTreeMap::new(),
        Delivery::Cdi,
        NOW,
    );
    expect![
        "openshift.io/gone is not offered on this node any more; the pod must be created again"
    ]
    .assert_eq(&answer.unwrap_err());
}

#[test]
fn an_acknowledgement_of_a_new_boot_drops_the_claims_of_the_old_one() {
    let claim = Claim { resource: RESOURCE.to_owned(), at: NOW, nodes: Vec::new() };
    let claims = Claims {
        boot_id: "boot-0".to_owned(),
        sequence: 90,
        claims: BTreeMap::from([(pci("0000:3b:00.2"), claim)]),
        ..Claims::default()
    };
    let acknowledged = acknowledge(&offer(), &claims);
    assert_eq!((acknowledged.sequence, acknowledged.claims.len()), (7, 0));
}
