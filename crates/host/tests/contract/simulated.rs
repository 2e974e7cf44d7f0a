//! The stage of the contract's cases in the simulation: a machine with two 82576 ports and nothing else.

use super::cases::{Case, Pods, run};
use host::seam::Namespace;
use host::sim::{Flavour, Machine, SimHost};
use std::cell::RefCell;

struct SimulatedPods<'a> {
    host: &'a SimHost,
    paths: RefCell<Vec<String>>,
}

impl Pods for SimulatedPods<'_> {
    fn start(&self) -> Namespace {
        let mut paths = self.paths.borrow_mut();
        let path = format!("/run/netns/pod{}", paths.len());
        self.host.machine().create_namespace(&path).expect("the path is free");
        paths.push(path.clone());
        Namespace::At(path)
    }

    fn end(&self) {
        for path in self.paths.borrow_mut().drain(..) {
            self.host.machine().delete_namespace(&path).expect("the namespace is there");
        }
    }
}

/// What the simulation says in a case, on a machine of its own.
#[allow(dead_code)] // Not every program that looks here has such cases.
pub fn lines(case: &Case) -> String {
    lines_on(case, |machine| {
        machine.add_82576(0x01, 0);
        machine.add_82576(0x02, 1);
        // Both kernels of the lab are of those.
        machine.renames_while_up = true;
    })
}

/// The same with cards whose driver makes RDMA devices.
#[allow(dead_code)] // Not every program that looks here has such cases.
pub fn rdma_lines(case: &Case) -> String {
    lines_on(case, |machine| {
        machine.add_connectx7(0x01, 0, false);
        machine.add_connectx7(0x02, 1, false);
        // The lab's kernel with RDMA devices is one of those.
        machine.rdma.names_by_namespace = true;
    })
}

fn lines_on(case: &Case, cards: impl FnOnce(&mut Machine)) -> String {
    let mut machine = Machine::new("lab", Flavour::Ubuntu, api::Timestamp::UNIX_EPOCH);
    cards(&mut machine);
    machine.boot();
    let host = SimHost::new(machine);
    let pods = SimulatedPods { host: &host, paths: RefCell::default() };
    let address = |text: &str| text.parse().expect("an address of a slot");
    run(case, &host, &pods, address("0000:01:00.0"), address("0000:02:00.0"))
}
