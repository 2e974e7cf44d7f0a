//! Which of its free devices a container had best be given: near to the GPUs of its pod, and near to each other or, where
//! the policy says `spreadRails`, each on a PF of its own. Pure.
//!
//! The kubelet waits for the answer without a limit, so nothing is read here and the work grows with the devices and no
//! faster. It has cut the list to what its topology manager left over, and may ignore the answer.

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

/// One device as it counts here.
struct Candidate {
    id: String,
    numa_node: Option<u32>,
    parent: Option<PciAddress>,
    place: Place,
}

impl Candidate {
    fn root_port(&self) -> &[String] {
        self.place.above.get(..2).unwrap_or_default()
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
        let devices: BTreeMap<String, &OfferedDevice> =
            self.resource.devices.iter().map(|device| (device.pci.to_string(), device)).collect();
        let candidate = |id: &String| self.candidate(id, devices.get(id).copied());
        let mut served = Served::new(self.gpus, size);
        let mut chosen: Vec<Candidate> = must.iter().map(candidate).collect();
        chosen.iter().for_each(|one| served.by(one));
        let mut counts = Counts::of(chosen.iter());
        let free: BTreeSet<&String> = available.iter().filter(|id| !must.contains(id)).collect();
        let mut rest: Vec<Candidate> = free.into_iter().map(candidate).collect();
        let mut left = Counts::of(rest.iter());
        while chosen.len() < size && !rest.is_empty() {
            // With nothing chosen yet, where the most are left, so that the rest fits too.
            let group = if chosen.is_empty() { &left } else { &counts };
            let merit = |one: &Candidate| match self.resource.spread_rails {
                true => {
                    let rail = (Reverse(counts.on_pf(one)), left.on_pf(one));
                    (Some(rail), served.need(one), (0, 0, 0))
                }
                false => (None, served.need(one), group.near(one)),
            };
            // Of equals the first by address: `max_by_key` takes the last, so it walks backwards.
            let best = (0..rest.len()).rev().max_by_key(|at| merit(&rest[*at]));
            let Some(best) = best else { break };
            let best = rest.remove(best);
            served.by(&best);
            counts.add(&best);
            left.remove(&best);
            chosen.push(best);
        }
        let mut ids: Vec<String> = chosen.into_iter().map(|one| one.id).collect();
        ids.sort();
        ids
    }

    fn candidate(&self, id: &str, device: Option<&OfferedDevice>) -> Candidate {
        let numa_node = device.and_then(|device| device.numa_node);
        let parent = device.map(|device| device.parent);
        let place = parent.and_then(|parent| self.places.get(&parent)).cloned();
        let place = Place { numa_node, ..place.unwrap_or_default() };
        Candidate { id: id.to_owned(), numa_node, parent, place }
    }
}

/// How many of some devices are on each NUMA node, below each root port, on each PF.
#[derive(Default)]
struct Counts {
    numa_nodes: BTreeMap<Option<u32>, usize>,
    root_ports: BTreeMap<Vec<String>, usize>,
    pfs: BTreeMap<Option<PciAddress>, usize>,
}

impl Counts {
    fn of<'a>(devices: impl Iterator<Item = &'a Candidate>) -> Self {
        let mut counts = Self::default();
        devices.for_each(|device| counts.add(device));
        counts
    }

    fn add(&mut self, device: &Candidate) {
        *self.numa_nodes.entry(device.numa_node).or_default() += 1;
        *self.root_ports.entry(device.root_port().to_vec()).or_default() += 1;
        *self.pfs.entry(device.parent).or_default() += 1;
    }

    fn remove(&mut self, device: &Candidate) {
        let less = |count: Option<&mut usize>| count.into_iter().for_each(|count| *count -= 1);
        less(self.numa_nodes.get_mut(&device.numa_node));
        less(self.root_ports.get_mut(device.root_port()));
        less(self.pfs.get_mut(&device.parent));
    }

    fn near(&self, device: &Candidate) -> (usize, usize, usize) {
        let of = |count: Option<&usize>| count.copied().unwrap_or_default();
        (
            of(self.numa_nodes.get(&device.numa_node)),
            of(self.root_ports.get(device.root_port())),
            self.on_pf(device),
        )
    }

    fn on_pf(&self, device: &Candidate) -> usize {
        self.pfs.get(&device.parent).copied().unwrap_or_default()
    }
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
    fn need(&self, device: &Candidate) -> usize {
        let mut near: Vec<usize> =
            self.waiting.iter().map(|gpu| gpu.nearness(&device.place)).collect();
        near.sort_unstable_by_key(|near| Reverse(*near));
        near.into_iter().take(self.each).sum()
    }

    fn by(&mut self, device: &Candidate) {
        self.waiting.sort_by_key(|gpu| Reverse(gpu.nearness(&device.place)));
        self.waiting.drain(..self.each.min(self.waiting.len()));
        if self.waiting.is_empty() {
            self.waiting = self.all.iter().collect();
        }
    }
}

#[cfg(test)]
#[path = "nearness_tests.rs"]
mod tests;
