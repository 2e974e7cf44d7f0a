//! Death at every primitive: what the runtime does next brings everything home.

use crate::bench::{Bench, VF, path};
use host::cdi::{self, DeviceNode};
use host::crashing::{Crash, Crashing, Death, Killed, Side, survive};
use host::sim::{Flavour, Machine, SimHost};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;

/// A plugin and what is merged over its configuration.
type Call = (&'static str, Value);

/// A chain as a network makes it: every plugin with its options, for interface net1 of a pod.
struct Chain {
    bench: fn() -> Bench,
    calls: fn() -> Vec<Call>,
}

const ETHERNET: Chain = Chain { bench: Bench::new, calls: ethernet };
const INFINIBAND: Chain = Chain { bench: infiniband_bench, calls: infiniband };

fn ethernet() -> Vec<Call> {
    let ipam = json!({
        "type": "host-local",
        "ranges": [[{"subnet": "10.1.2.0/24", "gateway": "10.1.2.1"}]],
        "routes": [{"dst": "10.9.0.0/16"}],
    });
    let sriov = json!({
        "vlan": 100, "vlanQoS": 3, "mac": "02:00:00:00:00:01", "max_tx_rate": 500,
        "spoofchk": "on", "trust": "on", "link_state": "enable", "ipam": ipam,
    });
    vec![("sriov", sriov), ("rdma", json!({}))]
}

fn infiniband() -> Vec<Call> {
    let options = json!({
        "deviceID": "0000:3b:00.1", "rdmaIsolation": true, "link_state": "enable",
        "runtimeConfig": {"infinibandGUID": "02:00:00:00:00:00:00:01"},
    });
    vec![("ib-sriov", options)]
}

fn infiniband_bench() -> Bench {
    let clock = "2026-01-01T00:00:00Z".parse().unwrap();
    let mut machine = Machine::new("ib-0", Flavour::Ubuntu, clock);
    machine.add_connectx7(0x3b, 0, true);
    machine.boot();
    let bench = Bench::over(machine);
    bench.make_vfs("0000:3b:00.0");
    bench
}

impl Chain {
    /// The runtime's ADD: in order, stopping at the first failure, which dies with the process if it must.
    fn add(&self, bench: &Bench, host: &Crashing<SimHost>, pod: &str) -> Result<bool, Killed> {
        survive(|| {
            (self.calls)().iter().all(|(plugin, options)| {
                bench.call_over(host, "ADD", plugin, pod, "net1", options).exit == 0
            })
        })
    }

    /// The runtime's DEL: in reverse.
    fn del(&self, bench: &Bench, host: &Crashing<SimHost>, pod: &str) -> Result<bool, Killed> {
        survive(|| {
            (self.calls)().iter().rev().all(|(plugin, options)| {
                let reply = bench.call_over(host, "DEL", plugin, pod, "net1", options);
                assert!(reply.exit == 0, "{}", crate::bench::show(&reply));
                true
            })
        })
    }

    /// Runs a case for a death at each primitive of ADD, or of the DEL after it.
    fn at_every_death(&self, of: Of, case: impl Fn(&Bench, &str)) {
        let deaths = self.primitives(of);
        assert!(deaths.end > deaths.start + 20, "{deaths:?}");
        for primitive in deaths {
            // Before a call is after the one before it: nothing else touches the machine.
            let sides = if primitive == 1 {
                [Side::Before, Side::After].as_slice()
            } else {
                &[Side::After]
            };
            for side in sides.iter().copied() {
                let bench = (self.bench)();
                let host = Crashing::new(bench.host.clone(), Death::Unwind);
                host.arm(Crash { primitive, side });
                let added = self.add(&bench, &host, "a");
                let ended = match of {
                    Of::Add => added,
                    Of::Del => self.del(&bench, &host, "a"),
                };
                assert!(ended.is_err(), "nobody died at {primitive} {side:?}");
                case(&bench, &format!("{of:?} died at {primitive} {side:?}"));
            }
        }
    }

    fn primitives(&self, of: Of) -> Range<u64> {
        let bench = (self.bench)();
        let host = Crashing::new(bench.host.clone(), Death::Unwind);
        assert_eq!(self.add(&bench, &host, "a"), Ok(true));
        let added = host.count();
        assert_eq!(self.del(&bench, &host, "a"), Ok(true));
        match of {
            Of::Add => 1..added + 1,
            Of::Del => added + 1..host.count() + 1,
        }
    }

    /// DEL as often as a runtime asks again, and the machine as it was.
    fn must_come_home(&self, bench: &Bench, pod: &str, when: &str) {
        let home = HOME.with_borrow_mut(|homes| {
            homes.entry((self.calls)()[0].0).or_insert_with(|| (self.bench)().world()).clone()
        });
        let host = Crashing::new(bench.host.clone(), Death::Unwind);
        for _ in 0..2 {
            assert_eq!(self.del(bench, &host, pod), Ok(true), "{when}");
            assert_eq!(bench.world(), home, "{when}");
        }
        let addresses =
            bench.host.machine().files.keys().filter(|f| f.contains("blue/10.")).count();
        assert_eq!(addresses, 0, "{when}: an address is still given out");
    }
}

thread_local! {
    /// What each chain's machine is like at first, made once.
    static HOME: RefCell<BTreeMap<&'static str, String>> = const { RefCell::new(BTreeMap::new()) };
}

#[derive(Debug, Clone, Copy)]
enum Of {
    Add,
    Del,
}

#[test]
fn del_after_a_death_in_add_brings_everything_home() {
    for chain in [ETHERNET, INFINIBAND] {
        chain.at_every_death(Of::Add, |bench, when| chain.must_come_home(bench, "a", when));
    }
}

#[test]
fn del_after_a_death_in_add_and_the_end_of_the_pod_brings_everything_home() {
    for chain in [ETHERNET, INFINIBAND] {
        chain.at_every_death(Of::Add, |bench, when| {
            bench.host.machine().delete_namespace(&path("a")).unwrap();
            chain.must_come_home(bench, "a", when);
        });
    }
}

#[test]
fn del_after_a_death_in_del_brings_everything_home() {
    for chain in [ETHERNET, INFINIBAND] {
        chain.at_every_death(Of::Del, |bench, when| chain.must_come_home(bench, "a", when));
    }
}

#[test]
fn add_again_after_a_death_in_add_gives_what_the_first_would_have_given() {
    for chain in [ETHERNET, INFINIBAND] {
        let other = (chain.bench)();
        let calm = Crashing::new(other.host.clone(), Death::Unwind);
        assert_eq!(chain.add(&other, &calm, "a"), Ok(true));
        let given = other.world();
        chain.at_every_death(Of::Add, |bench, when| {
            let host = Crashing::new(bench.host.clone(), Death::Unwind);
            assert_eq!(chain.add(bench, &host, "a"), Ok(true), "{when}");
            assert_eq!(bench.world(), given, "{when}");
            chain.must_come_home(bench, "a", when);
        });
    }
}

/// A kernel that never gives a uverbs number back, and a CDI spec as Allocate leaves it.
fn announced_bench() -> Bench {
    let bench = Bench::new();
    bench.run("fault RenumbersUverbs");
    let vf = VF.parse().unwrap();
    cdi::write(&bench.host, &vf, &nodes(&bench)).unwrap();
    bench
}

/// The character devices of the VF as they are now.
fn nodes(bench: &Bench) -> Vec<DeviceNode> {
    cdi::rdma_nodes(&bench.host, VF).into_values().flatten().map(DeviceNode::same).collect()
}

#[test]
fn whenever_add_succeeds_the_cdi_spec_names_the_character_devices_of_now() {
    let chain = Chain { bench: announced_bench, calls: ethernet };
    chain.at_every_death(Of::Add, |bench, when| {
        let host = Crashing::new(bench.host.clone(), Death::Unwind);
        assert_eq!(chain.add(bench, &host, "a"), Ok(true), "{when}");
        let spec = cdi::path(&VF.parse().unwrap());
        let found = bench.run(&format!("show {spec}"));
        cdi::write(&bench.host, &VF.parse().unwrap(), &nodes(bench)).unwrap();
        assert_eq!(found, bench.run(&format!("show {spec}")), "{when}");
    });
}

#[test]
fn another_pod_gets_the_device_after_a_death_in_add_and_the_end_of_the_first() {
    for chain in [ETHERNET, INFINIBAND] {
        chain.at_every_death(Of::Add, |bench, when| {
            bench.host.machine().delete_namespace(&path("a")).unwrap();
            let host = Crashing::new(bench.host.clone(), Death::Unwind);
            assert_eq!(chain.add(bench, &host, "b"), Ok(true), "{when}");
            let given = bench.world();
            // The late DEL of the first pod must not take what is the second's.
            assert_eq!(chain.del(bench, &host, "a"), Ok(true), "{when}");
            assert_eq!(bench.world(), given, "{when}");
            chain.must_come_home(bench, "b", when);
        });
    }
}

#[test]
fn gc_after_a_death_in_add_brings_everything_home() {
    ETHERNET.at_every_death(Of::Add, |bench, when| {
        let nobody = json!({"cni.dev/valid-attachments": [], "cni.dev/attachments": []});
        for (plugin, options) in ethernet().iter().rev() {
            let mut conf = nobody.clone();
            if let Some(ipam) = options.get("ipam") {
                conf["ipam"] = ipam.clone();
            }
            let reply = bench.call("GC", plugin, "", "", &conf);
            assert_eq!(crate::bench::show(&reply), "ok", "{when}");
        }
        assert_eq!(bench.world(), Bench::new().world(), "{when}");
    });
}
