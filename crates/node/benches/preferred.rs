//! How long the kubelet waits for a preference among 512 VFs: 8 PFs with 64 each, on two NUMA nodes, with a GPU beside
//! each. Numbers for people.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a benchmark may panic, and reads the clock"
)]

use api::PciAddress;
use api::custody::{OfferState, OfferedDevice, OfferedResource};
use node::nearness::{Choice, Place, Places};
use node::plugin;
use node::proto::v1beta1::{ContainerPreferredAllocationRequest, PreferredAllocationRequest};
use std::time::{Duration, Instant};

const CARDS: u8 = 8;
const VFS: u8 = 64;
const ROUNDS: u32 = 20;

fn pf(card: u8) -> PciAddress {
    PciAddress { domain: 0, bus: 0x10 + card, device: 0, function: 0 }
}

fn place(card: u8) -> Place {
    let above = ["pci0000:00".to_owned(), format!("0000:00:{card:02x}.0")];
    Place { numa_node: Some(u32::from(card / 4)), above: above.into() }
}

fn device(card: u8, vf: u8) -> OfferedDevice {
    OfferedDevice {
        pci: PciAddress { device: 1 + vf / 8, function: vf % 8, ..pf(card) },
        state: OfferState::Ready,
        numa_node: place(card).numa_node,
        parent: pf(card),
        vf: None,
        driver: None,
        rdma_device: None,
        profile: None,
    }
}

fn main() {
    let devices = (0..CARDS).flat_map(|card| (0..VFS).map(move |vf| device(card, vf))).collect();
    let mut resource = OfferedResource { devices, ..OfferedResource::default() };
    let available: Vec<String> = resource.devices.iter().map(|d| d.pci.to_string()).collect();
    let places: Places = (0..CARDS).map(|card| (pf(card), place(card))).collect();
    let gpus: Vec<Place> = (0..CARDS).map(place).collect();
    println!("a preference among {} VFs (best of {ROUNDS}):", available.len());
    for (size, spread_rails) in [(1, false), (8, false), (8, true), (512, false)] {
        resource.spread_rails = spread_rails;
        let choice = Choice { resource: &resource, places: &places, gpus: &gpus };
        let container = ContainerPreferredAllocationRequest {
            available_device_i_ds: available.clone(),
            must_include_device_i_ds: Vec::new(),
            allocation_size: size,
        };
        let request = PreferredAllocationRequest { container_requests: vec![container] };
        let mut best = Duration::MAX;
        for _ in 0..ROUNDS {
            let begun = Instant::now();
            let answer = plugin::preferred(&choice, &request);
            best = best.min(begun.elapsed());
            assert_eq!(
                answer.container_responses[0].device_i_ds.len(),
                available.len().min(usize::try_from(size).unwrap())
            );
        }
        let how = if spread_rails { "over all rails" } else { "near to each other" };
        println!("  {size:>3} of them, {how}: {best:.1?}");
    }
}
