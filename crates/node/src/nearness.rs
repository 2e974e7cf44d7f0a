//! Which of its free devices a container had best be given: near to the GPUs of its pod, and near to each other or, where
//! the policy says `spreadRails`, each on a PF of its own. Pure.
//!
//! The kubelet waits for the answer without a limit, so nothing is read here, and a device more is a step more: what is
//! weighed is PFs, of which there are few. It has cut the list to what its topology manager left over, and may ignore the
//! answer.

use api::PciAddress;
use api::custody::{OfferedDevice, OfferedResource};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// Where a PCI function is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    pub numa_node: Option<u32>,
    /// What is above it in `/sys/devices`: root complex, root port, and each port of switches below that.
    pub above: Vec<String>,
}

impl Place {
    /// How near to each other: 0 is apart, 1 on one NUMA node, 2 below one root complex, 3 and more below one root port, and so
    /// below a switch, from where traffic between the two need not go up to the processor.
    fn nearness(&self, other: &Self) -> usize {
        let shared = self.above.iter().zip(&other.above).take_while(|(a, b)| a == b).count();
        match shared {
            0 => usize::from(self.numa_node.is_some() && self.numa_node == other.numa_node),
            shared => 1 + shared,
        }
    }
}

/// By PF: where it is. Its VFs are beside it.
pub type Places = BTreeMap<PciAddress, Place>;

/// The devices of one PF: beside each other, so worth the same to a container.
struct Rail {
    pf: Option<PciAddress>,
    place: Place,
    /// Those that are free, the first by address last.
    free: Vec<String>,
    chosen: usize,
}

impl Rail {
    fn is_of(&self, device: Option<&OfferedDevice>) -> bool {
        self.pf == device.map(|device| device.parent)
            && self.place.numa_node == device.and_then(|device| device.numa_node)
    }

    fn is_on_numa_node_of(&self, other: &Self) -> bool {
        self.place.numa_node == other.place.numa_node
    }

    /// Below one root port; where sysfs does not tell, the NUMA node is all that is known.
    fn is_on_switch_of(&self, other: &Self) -> bool {
        let root_ports = (self.place.above.get(..2), other.place.above.get(..2));
        self.is_on_numa_node_of(other) && root_ports.0 == root_ports.1
    }
}

/// The devices of a resource from which a container is served.
pub struct Choice<'a> {
    pub resource: &'a OfferedResource,
    pub places: &'a Places,
    /// The GPUs of the pod, where it is known which pod this is.
    pub gpus: &'a [Place],
}

impl Choice<'_> {
    /// `size` devices with all that `must` be among them, the best of those `available`, in order of address.
    pub fn make(&self, available: &[String], must: &[String], size: usize) -> Vec<String> {
        let free: BTreeSet<&String> = available.iter().filter(|id| !must.contains(id)).collect();
        let mut rails = self.rails(&free, must);
        let mut served = Served::new(self.gpus, size);
        for rail in &rails {
            (0..rail.chosen).for_each(|_| served.by(&rail.place));
        }
        let mut chosen = must.to_vec();
        while chosen.len() < size {
            let missing = size - chosen.len();
            let merit = |rail: &Rail| match self.resource.spread_rails {
                // Where the most are left, so that pods with one device each are spread too.
                true => {
                    let unused = (Reverse(rail.chosen), rail.free.len());
                    (Some(unused), served.need(&rail.place), None)
                }
                false => (None, served.need(&rail.place), Some(near(rail, &rails, missing))),
            };
            let with_some = rails.iter().enumerate().filter(|(_, rail)| !rail.free.is_empty());
            // Of equals the first by address.
            let best = with_some
                .map(|(at, rail)| (merit(rail), Reverse(rail.free.last()), at))
                .max()
                .map(|(.., at)| at);
            let Some(best) = best.map(|at| &mut rails[at]) else { break };
            served.by(&best.place);
            best.chosen += 1;
            chosen.extend(best.free.pop());
        }
        chosen.sort();
        chosen
    }

    fn rails(&self, free: &BTreeSet<&String>, must: &[String]) -> Vec<Rail> {
        let devices: BTreeMap<String, &OfferedDevice> =
            self.resource.devices.iter().map(|device| (device.pci.to_string(), device)).collect();
        let mut rails: Vec<Rail> = Vec::new();
        for (id, is_free) in
            free.iter().rev().map(|id| (*id, true)).chain(must.iter().map(|id| (id, false)))
        {
            let device = devices.get(id).copied();
            let at = rails.iter().position(|rail| rail.is_of(device)).unwrap_or_else(|| {
                rails.push(self.rail(device));
                rails.len() - 1
            });
            match is_free {
                true => rails[at].free.push(id.clone()),
                false => rails[at].chosen += 1,
            }
        }
        rails
    }

    fn rail(&self, device: Option<&OfferedDevice>) -> Rail {
        let pf = device.map(|device| device.parent);
        let place = pf.and_then(|pf| self.places.get(&pf)).cloned().unwrap_or_default();
        let numa_node = device.and_then(|device| device.numa_node);
        Rail { pf, place: Place { numa_node, ..place }, free: Vec::new(), chosen: 0 }
    }
}

/// What speaks for a rail, the weightiest first: what was chosen before is below its switch, or on its NUMA node; its switch
/// has enough for all that is missing; and then where the most are left, so that the rest fits too.
type Near = (usize, usize, bool, usize, usize, usize, usize);

fn near(one: &Rail, rails: &[Rail], missing: usize) -> Near {
    let on_numa_node = || rails.iter().filter(|rail| rail.is_on_numa_node_of(one));
    let on_switch = || rails.iter().filter(|rail| rail.is_on_switch_of(one));
    let left_on_switch = on_switch().map(|rail| rail.free.len()).sum();
    (
        on_switch().map(|rail| rail.chosen).sum(),
        on_numa_node().map(|rail| rail.chosen).sum(),
        left_on_switch >= missing,
        on_numa_node().map(|rail| rail.free.len()).sum(),
        left_on_switch,
        one.chosen,
        one.free.len(),
    )
}

/// The GPUs that have no device near to them yet: each device serves as many as there are GPUs for one.
struct Served<'a> {
    all: &'a [Place],
    waiting: Vec<&'a Place>,
    each: usize,
}

impl<'a> Served<'a> {
    fn new(all: &'a [Place], size: usize) -> Self {
        Self { all, waiting: all.iter().collect(), each: all.len().div_ceil(size.max(1)) }
    }

    /// How near a device is to the GPUs that it would serve.
    fn need(&self, device: &Place) -> usize {
        let mut near: Vec<usize> = self.waiting.iter().map(|gpu| gpu.nearness(device)).collect();
        near.sort_unstable_by_key(|near| Reverse(*near));
        near.into_iter().take(self.each).sum()
    }

    fn by(&mut self, device: &Place) {
        self.waiting.sort_by_key(|gpu| Reverse(gpu.nearness(device)));
        self.waiting.drain(..self.each.min(self.waiting.len()));
        if self.waiting.is_empty() {
            self.waiting = self.all.iter().collect();
        }
    }
}

#[cfg(test)]
#[path = "nearness_tests.rs"]
mod tests;
