//! A fault at each step of ADD and DEL: the answer is a code and a sentence, nothing is lost, and the node stays usable.

use crate::bench::{Bench, VF, show};
use crate::ib_sriov;
use crate::tampering::{Tamper, Tampering};
use expect_test::expect;
use host::Host;
use host::seam::Errno;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// Which plugin is struck, and what it is asked for.
#[derive(Clone, Copy)]
struct Struck {
    plugin: &'static str,
    verb: &'static str,
}

impl Struck {
    fn options(self) -> Value {
        match self.plugin {
            "sriov" => json!({
                "vlan": 100, "trust": "on", "mac": "02:00:00:00:00:07", "mtu": 9000,
                "ipam": { "type": "host-local", "ranges": [[{"subnet": "10.1.2.0/24"}]] },
            }),
            "ib-sriov" => json!({
                "deviceID": ib_sriov::VF, "rdmaIsolation": true, "link_state": "enable",
                "runtimeConfig": { "infinibandGUID": "02:00:00:00:00:00:00:01" },
                "ipam": { "type": "host-local", "ranges": [[{"subnet": "10.1.3.0/24"}]] },
            }),
            _ => json!({}),
        }
    }

    fn bench(self) -> Bench {
        if self.plugin == "ib-sriov" { ib_sriov::bench() } else { Bench::new() }
    }

    /// Strikes at each primitive in turn; what was said, each sentence once with what it was said for.
    fn at_each(self, tamper: Tamper) -> String {
        let mut told = BTreeSet::new();
        for at in 1.. {
            let bench = self.bench();
            let home = bench.world();
            self.before(&bench);
            let host = Tampering::new(&bench.host, at, tamper);
            let reply =
                bench.call_over(&host, self.verb, self.plugin, "a", "net1", &self.options());
            let Some(hit) = host.hit() else { break };
            let said = show(&reply);
            if reply.exit != 0 {
                let (code, message) =
                    said.strip_prefix("failed ").unwrap().split_once(": ").unwrap();
                assert!(code.parse::<u64>().is_ok_and(|code| code > 0), "{hit}: {said}");
                assert!(message.len() > 15, "{hit}: {said}");
                told.insert(said.trim_end().to_owned());
            }
            let when = format!("{} of {}: {hit}", self.verb, self.plugin);
            self.must_go_home(&bench, &home, &when);
        }
        let mut lines = String::new();
        told.iter().for_each(|line| writeln!(lines, "{line}").unwrap());
        lines
    }

    /// What the runtime has done before.
    fn before(self, bench: &Bench) {
        let sriov = Self { plugin: "sriov", verb: "ADD" };
        let chain: &[Self] = match (self.plugin, self.verb) {
            ("rdma", "ADD") => &[sriov],
            ("rdma", _) => &[sriov, Self { plugin: "rdma", verb: "ADD" }],
            ("sriov", "DEL") => &[sriov],
            ("ib-sriov", "DEL") => &[Self { plugin: "ib-sriov", verb: "ADD" }],
            _ => &[],
        };
        for call in chain {
            let reply = bench.call("ADD", call.plugin, "a", "net1", &call.options());
            assert_eq!(reply.exit, 0, "{}", show(&reply));
        }
    }

    /// DEL of the whole chain, with a machine that works again; then another pod gets the device.
    fn must_go_home(self, bench: &Bench, home: &str, when: &str) {
        let chain: &[&'static str] =
            if self.plugin == "ib-sriov" { &["ib-sriov"] } else { &["rdma", "sriov"] };
        for plugin in chain.iter().copied() {
            let options = Self { plugin, verb: "DEL" }.options();
            let reply = bench.call("DEL", plugin, "a", "net1", &options);
            assert_eq!(reply.exit, 0, "{when}: DEL of {plugin}: {}", show(&reply));
        }
        assert_eq!(bench.world(), home, "{when}");
        let (plugin, device) =
            if self.plugin == "ib-sriov" { ("ib-sriov", ib_sriov::VF) } else { ("sriov", VF) };
        let reply = bench.call("ADD", plugin, "b", "net1", &json!({ "deviceID": device }));
        assert_eq!(reply.exit, 0, "{when}: the next ADD: {}", show(&reply));
    }
}

const ALL: [Struck; 6] = [
    Struck { plugin: "sriov", verb: "ADD" },
    Struck { plugin: "sriov", verb: "DEL" },
    Struck { plugin: "rdma", verb: "ADD" },
    Struck { plugin: "rdma", verb: "DEL" },
    Struck { plugin: "ib-sriov", verb: "ADD" },
    Struck { plugin: "ib-sriov", verb: "DEL" },
];

/// An answer that cannot be read is BADMSG, which is what `host::linux` makes of a garbled netlink message.
#[test]
fn whatever_step_of_add_fails_the_sentence_tells_and_del_brings_all_home() {
    let told = Struck { plugin: "sriov", verb: "ADD" }.at_each(Tamper::Refuse(Errno::BADMSG));
    expect![[r#"
        failed 5: cannot lock 0000:03:00.2 by /var/lib/cni/sriov/pci/vf_lock/0000:03:00.2.lock: bad message
        failed 5: cannot read /var/lib/cni/sriov/pci/0000:03:00.2: bad message
        failed 5: cannot read /var/lib/ironrail/cni/0000:03:00.2.json: bad message
        failed 5: cannot replace /var/lib/cni/sriov/pci/0000:03:00.2: bad message
        failed 5: cannot replace /var/lib/ironrail/cni/0000:03:00.2.json: bad message
        failed 5: cannot tell which boot this is by /proc/sys/kernel/random/boot_id: bad message
        failed 7: there is no IPAM plugin host-local in CNI_PATH /opt/cni/bin; install it, or correct ipam.type
        failed 8: cannot use CNI_NETNS /run/netns/a: bad message
        failed 999: cannot change an interface: bad message
        failed 999: cannot give 10.1.2.2/24 to net1: bad message
        failed 999: cannot list /sys/bus/pci/devices/0000:03:00.0/net: bad message
        failed 999: cannot list /sys/bus/pci/devices/0000:03:00.0: bad message
        failed 999: cannot list /sys/bus/pci/devices/0000:03:00.2/net: bad message
        failed 999: cannot list the interfaces: bad message
        failed 999: cannot move enp3s0f0v0 of 0000:03:00.2 into the pod: change an interface: bad message
        failed 999: cannot read the link /sys/bus/pci/devices/0000:03:00.0/virtfn0: bad message
        failed 999: cannot read the link /sys/bus/pci/devices/0000:03:00.2/physfn: bad message
        failed 999: cannot run IPAM plugin host-local for ADD: bad message
        failed 999: cannot set MAC 02:00:00:00:00:07 on VF 0 of enp3s0f0: bad message
        failed 999: cannot set trust on on VF 0 of enp3s0f0: bad message
        failed 999: cannot set vlan 100 qos 0 802.1q on VF 0 of enp3s0f0: bad message
    "#]].assert_eq(&told);
    let told = Struck { plugin: "rdma", verb: "ADD" }.at_each(Tamper::Refuse(Errno::BADMSG));
    expect![[r#"
        failed 5: cannot lock 0000:03:00.2 by /var/lib/cni/sriov/pci/vf_lock/0000:03:00.2.lock: bad message
        failed 5: cannot lock the RDMA devices of this node by /var/run/cni/ib-sriov/cni.lock: bad message
        failed 5: cannot read /var/lib/ironrail/cni/0000:03:00.2.json: bad message
        failed 5: cannot replace /var/lib/ironrail/cni/0000:03:00.2.json: bad message
        failed 8: cannot use CNI_NETNS /run/netns/a: bad message
        failed 999: cannot find out the mode of the RDMA subsystem of this node; is ib_core loaded? (bad message)
        failed 999: cannot give mlx5_2 of 0000:03:00.2 to the pod: bad message
        failed 999: cannot list /sys/bus/pci/devices/0000:03:00.2/infiniband: bad message
        failed 999: cannot list the rdma devices: bad message
        failed 999: cannot read /run/ironrail/claims.json: bad message
        failed 999: cannot read /var/run/cdi/ironrail.dev-vf-0000:03:00.2.json: bad message
    "#]].assert_eq(&told);
    let told = Struck { plugin: "ib-sriov", verb: "ADD" }.at_each(Tamper::Refuse(Errno::BADMSG));
    expect![[r#"
        failed 5: cannot lock 0000:3b:00.1 by /var/lib/cni/sriov/pci/vf_lock/0000:3b:00.1.lock: bad message
        failed 5: cannot lock the RDMA devices of this node by /var/run/cni/ib-sriov/cni.lock: bad message
        failed 5: cannot read /var/lib/cni/sriov/pci/0000:3b:00.1: bad message
        failed 5: cannot read /var/lib/ironrail/cni/0000:3b:00.1.json: bad message
        failed 5: cannot replace /var/lib/ironrail/cni/0000:3b:00.1.json: bad message
        failed 5: cannot tell which boot this is by /proc/sys/kernel/random/boot_id: bad message
        failed 7: there is no IPAM plugin host-local in CNI_PATH /opt/cni/bin; install it, or correct ipam.type
        failed 8: cannot use CNI_NETNS /run/netns/a: bad message
        failed 999: cannot change an interface: bad message
        failed 999: cannot find out the mode of the RDMA subsystem of this node; is ib_core loaded? (bad message)
        failed 999: cannot give 10.1.3.2/24 to net1: bad message
        failed 999: cannot give mlx5_1 of 0000:3b:00.1 to the pod: bad message
        failed 999: cannot list /sys/bus/pci/devices/0000:3b:00.0/net: bad message
        failed 999: cannot list /sys/bus/pci/devices/0000:3b:00.0: bad message
        failed 999: cannot list /sys/bus/pci/devices/0000:3b:00.1/infiniband: bad message
        failed 999: cannot list /sys/bus/pci/devices/0000:3b:00.1/net: bad message
        failed 999: cannot list the interfaces: bad message
        failed 999: cannot list the rdma devices: bad message
        failed 999: cannot move ibp59s0v0 of 0000:3b:00.1 into the pod: change an interface: bad message
        failed 999: cannot read /run/ironrail/claims.json: bad message
        failed 999: cannot read /var/run/cdi/ironrail.dev-vf-0000:3b:00.1.json: bad message
        failed 999: cannot read the link /sys/bus/pci/devices/0000:3b:00.0/virtfn0: bad message
        failed 999: cannot read the link /sys/bus/pci/devices/0000:3b:00.1/driver: bad message
        failed 999: cannot read the link /sys/bus/pci/devices/0000:3b:00.1/physfn: bad message
        failed 999: cannot run IPAM plugin host-local for ADD: bad message
        failed 999: cannot set link_state enable on VF 0 of ibp59s0: bad message
        failed 999: cannot set node GUID 02:00:00:00:00:00:00:01 on VF 0 of ibp59s0: bad message
        failed 999: cannot set port GUID 02:00:00:00:00:00:00:01 on VF 0 of ibp59s0: bad message
        failed 999: cannot write 0000:3b:00.1 to /sys/bus/pci/drivers/mlx5_core/bind: bad message
        failed 999: cannot write 0000:3b:00.1 to /sys/bus/pci/drivers/mlx5_core/unbind: bad message
    "#]].assert_eq(&told);
}

/// Not with ENOENT and ENODEV, which say that something is gone: that is what DEL hopes for.
#[test]
fn whatever_step_fails_in_whatever_way_nothing_is_lost() {
    let errnos = [Errno::ACCESS, Errno::IO, Errno::TIMEDOUT, Errno::BUSY, Errno::NOMEM];
    for errno in errnos {
        for struck in ALL {
            struck.at_each(Tamper::Refuse(errno));
        }
    }
}

#[test]
fn a_file_that_is_empty_garbled_or_another_than_before_loses_nothing() {
    for content in [b"".as_slice(), b"\xff\xfe\0garbage\n", b"4294967296\n", b"-1\n", b"{}"] {
        for struck in ALL {
            struck.at_each(Tamper::Content(content));
        }
    }
}

#[test]
fn a_read_only_state_directory_stops_add_with_code_5_before_anything_is_changed() {
    let mut told = BTreeSet::new();
    for at in 1.. {
        let bench = Bench::new();
        let home = bench.world();
        let host = Tampering::new(&bench.host, at, Tamper::Refuse(Errno::ROFS));
        let reply = bench.call_over(&host, "ADD", "sriov", "a", "net1", &json!({}));
        let Some(hit) = host.hit() else { break };
        if hit.starts_with("lock ") || hit.starts_with("replace ") {
            told.insert(show(&reply).trim_end().to_owned());
            assert_eq!(bench.world(), home, "{hit}");
        }
    }
    expect![[r#"
        failed 5: cannot lock 0000:03:00.2 by /var/lib/cni/sriov/pci/vf_lock/0000:03:00.2.lock: read-only file system
        failed 5: cannot replace /var/lib/cni/sriov/pci/0000:03:00.2: read-only file system
        failed 5: cannot replace /var/lib/ironrail/cni/0000:03:00.2.json: read-only file system"#]].assert_eq(&told.into_iter().collect::<Vec<_>>().join("\n"));
}

#[test]
fn a_clock_that_is_set_back_between_add_and_del_changes_nothing() {
    let bench = Bench::new();
    let home = bench.world();
    for plugin in ["sriov", "rdma"] {
        assert_eq!(bench.call("ADD", plugin, "a", "net1", &json!({})).exit, 0);
    }
    bench.host.machine().clock = "1999-12-31T23:59:59Z".parse().unwrap();
    assert_eq!(bench.host.now().to_string(), "1999-12-31T23:59:59Z");
    for plugin in ["rdma", "sriov"] {
        let reply = bench.call("DEL", plugin, "a", "net1", &json!({}));
        assert_eq!(reply.exit, 0, "{}", show(&reply));
    }
    assert_eq!(bench.world(), home);
    assert_eq!(bench.call("ADD", "sriov", "b", "net1", &json!({})).exit, 0, "{VF}");
}
