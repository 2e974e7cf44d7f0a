//! Messages of kubelet and container runtime, as protobuf brings them, and what the device plugin answers: what it gives is
//! offered, ready and written down first, what it refuses it refuses with a sentence, and what it prefers was free.
#![no_main]

use api::custody::{Claims, Offer, OfferState, OfferedDevice, OfferedResource, VERSION};
use api::{PciAddress, RdmaMode};
use host::Host;
use host::sim::{Flavour, Machine, SimHost};
use libfuzzer_sys::fuzz_target;
use node::nearness::{Choice, Places};
use node::plugin::{self, Delivery};
use node::proto::runtime_v1::ListPodSandboxResponse;
use node::proto::v1::ListPodResourcesResponse;
use node::proto::v1beta1::{AllocateRequest, PreferredAllocationRequest};
use node::{custody, give, holders};
use prost::Message;
use std::collections::BTreeMap;
use std::sync::LazyLock;

const RESOURCE: &str = "openshift.io/vf";

/// A card with four VFs, and the offer of all of them: two are ready, and the others are not.
static NODE: LazyLock<(Machine, Offer)> = LazyLock::new(|| {
    let clock = "2026-01-01T00:00:00Z".parse().expect("a time");
    let mut machine = Machine::small_worker("worker-0", Flavour::Ubuntu, clock);
    machine.boot();
    let host = SimHost::new(machine);
    host.write("/sys/bus/pci/devices/0000:03:00.0/sriov_numvfs", "4").expect("VFs are made");
    let exclusive = host::seam::RdmaChange::Mode(RdmaMode::Exclusive);
    host.change_rdma(&host::Namespace::Host, &exclusive).expect("the mode changes");
    let because = || "a policy asks for another driver".to_owned();
    let states = [
        OfferState::Ready,
        OfferState::Ready,
        OfferState::Withdrawn { because: because() },
        OfferState::Broken { because: because() },
    ];
    let parent: PciAddress = "0000:03:00.0".parse().expect("an address");
    let devices = states.into_iter().zip(0..).map(|(state, index)| OfferedDevice {
        pci: host::function::vf(&host, &parent, index).expect("a VF"),
        state,
        numa_node: Some(0),
        parent,
        vf: Some(index),
        driver: Some("mlx5_core".to_owned()),
        rdma_device: None,
        profile: None,
    });
    let resource = OfferedResource { devices: devices.collect(), rdma: true, ..OfferedResource::default() };
    let boot_id = node::observe::boot_id(&host).expect("a boot");
    let resources = BTreeMap::from([(RESOURCE.to_owned(), resource)]);
    let offer = Offer { version: VERSION, boot_id, sequence: 1, by_path: false, resources };
    custody::write_offer(&host, &offer).expect("a file");
    (host.snapshot(), offer)
});

fuzz_target!(|data: &[u8]| {
    if let Ok(request) = AllocateRequest::decode(data) {
        allocate(&request, Delivery::Cdi);
        allocate(&request, Delivery::DeviceSpecs);
    }
    if let Ok(request) = PreferredAllocationRequest::decode(data) {
        prefer(&request);
    }
    let _ = ListPodSandboxResponse::decode(data);
    if let Ok(response) = ListPodResourcesResponse::decode(data) {
        let _ = holders::of_pod_resources(&response);
    }
});

fn allocate(request: &AllocateRequest, delivery: Delivery) {
    let (machine, offer) = &*NODE;
    let host = SimHost::new(machine.clone());
    let asked = || request.container_requests.iter().flat_map(|container| &container.devices_ids);
    let answer = match give::allocate(&host, offer, RESOURCE, request, delivery) {
        Ok(answer) => answer,
        Err(why) => {
            assert!(why.len() > 20, "{why:?}");
            assert!(asked().next().is_some(), "nothing was asked for, and that was refused: {why}");
            return;
        }
    };
    assert_eq!(answer.container_responses.len(), request.container_requests.len());
    let claims: Claims = custody::read_claims(&host, &offer.boot_id).good().expect("claims");
    let ready = |id: &str| {
        let devices = &offer.resources[RESOURCE].devices;
        devices.iter().any(|d| d.pci.to_string() == id && d.state == OfferState::Ready)
    };
    for id in asked() {
        assert!(ready(id), "{id} was given, and is not ready");
        let claimed = claims.claims.keys().any(|pci| pci.to_string() == *id);
        assert!(claimed, "{id} was given, and is not written down");
    }
}

fn prefer(request: &PreferredAllocationRequest) {
    let (_, offer) = &*NODE;
    for spread_rails in [false, true] {
        let resource = OfferedResource { spread_rails, ..offer.resources[RESOURCE].clone() };
        let choice = Choice { resource: &resource, places: &Places::new(), gpus: &[] };
        let answer = plugin::preferred(&choice, request);
        for (container, chosen) in request.container_requests.iter().zip(&answer.container_responses) {
            let (free, must) =
                (&container.available_device_i_ds, &container.must_include_device_i_ds);
            for id in &chosen.device_i_ds {
                assert!(free.contains(id) || must.contains(id), "{id:?} was not to be had");
            }
            assert!(must.iter().all(|id| chosen.device_i_ds.contains(id)), "{chosen:?}");
            let size = usize::try_from(container.allocation_size).unwrap_or(0);
            assert!(chosen.device_i_ds.len() <= size.max(must.len()), "{chosen:?}");
        }
    }
}
