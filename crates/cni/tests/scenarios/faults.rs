//! A fault at each step of ADD and DEL: the answer is a code and a sentence, nothing is lost, and the node stays usable.

use crate::bench::{Bench, PF, VF, path, show};
use crate::ib_sriov;
use crate::tampering::{Tamper, Tampering};
use expect_test::expect;
use host::seam::{Errno, LinkQuery};
use host::{Host, Namespace};
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
                must_be_a_sentence(&said, &hit);
                told.insert(said.trim_end().to_owned());
            }
            let when = format!("{} of {}: {hit}", self.verb, self.plugin);
            self.must_go_home(&bench, &home, &when);
        }
        let mut lines = String::new();
        told.iter().for_each(|line| writeln!(lines, "{line}").unwrap());
        lines
    }

    /// Takes the VFs away at each primitive in turn, and makes them anew, before or after the runtime deletes the chain.
    fn loses_its_vf(self, anew_before_del: bool) -> String {
        let mut told = BTreeSet::new();
        let pf = if self.plugin == "ib-sriov" { ib_sriov::PF } else { PF };
        for at in 1.. {
            let bench = self.bench();
            let home = without_addresses(&bench.world());
            self.before(&bench);
            let host = Tampering::new(&bench.host, at, Tamper::VfsGone(pf));
            let reply =
                bench.call_over(&host, self.verb, self.plugin, "a", "net1", &self.options());
            let Some(hit) = host.hit() else { break };
            let when = format!("{} of {}, before {hit}", self.verb, self.plugin);
            let said = show(&reply);
            if reply.exit != 0 {
                must_be_a_sentence(&said, &when);
                told.insert(said.trim_end().to_owned());
            }
            if anew_before_del {
                bench.make_vfs(pf);
            }
            self.deletes_all(&bench, &when);
            if !anew_before_del {
                assert_eq!(bench.world(), "", "{when}");
                bench.make_vfs(pf);
            }
            self.leaks_nothing(&bench, &when);
            assert_eq!(without_addresses(&bench.world()), home, "{when}");
            self.gives_it_again(&bench, &when);
        }
        told.into_iter().collect::<Vec<_>>().join("\n") + "\n"
    }

    /// Pod a is as it was before, and no address is taken.
    fn leaks_nothing(self, bench: &Bench, when: &str) {
        let pod = Namespace::At(path("a"));
        let links = bench.host.links(&pod, &LinkQuery::default()).unwrap();
        let names: Vec<&str> = links.iter().map(|link| link.name.as_str()).collect();
        assert_eq!(names, ["lo"], "{when}");
        assert_eq!(bench.host.rdma_devices(&pod).unwrap(), [], "{when}");
        let machine = bench.host.machine();
        let taken = |file: &&String| file.contains("/networks/") && file.contains("/10.1.");
        assert_eq!(machine.files.keys().find(taken), None, "{when}");
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
        self.deletes_all(bench, when);
        assert_eq!(bench.world(), home, "{when}");
        self.gives_it_again(bench, when);
    }

    fn deletes_all(self, bench: &Bench, when: &str) {
        let chain: &[&'static str] =
            if self.plugin == "ib-sriov" { &["ib-sriov"] } else { &["rdma", "sriov"] };
        for plugin in chain.iter().copied() {
            let options = Self { plugin, verb: "DEL" }.options();
            let reply = bench.call("DEL", plugin, "a", "net1", &options);
            assert_eq!(reply.exit, 0, "{when}: DEL of {plugin}: {}", show(&reply));
        }
    }

    fn gives_it_again(self, bench: &Bench, when: &str) {
        let (plugin, device) =
            if self.plugin == "ib-sriov" { ("ib-sriov", ib_sriov::VF) } else { ("sriov", VF) };
        let reply = bench.call("ADD", plugin, "b", "net1", &json!({ "deviceID": device }));
        assert_eq!(reply.exit, 0, "{when}: the next ADD: {}", show(&reply));
    }
}

/// VFs that are made anew have other addresses.
fn without_addresses(world: &str) -> Vec<String> {
    let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let is_address = |word: &str| word.len() >= 17 && word.matches(':').count() >= 5;
    let plain = |line| words(line).into_iter().filter(|word| !is_address(word));
    world.lines().map(|line| plain(line).collect::<Vec<_>>().join(" ")).collect()
}

/// A code of the specification or of the plugin, and what it means.
fn must_be_a_sentence(said: &str, when: &str) {
    let (code, message) = said.strip_prefix("failed ").unwrap().split_once(": ").unwrap();
    assert!(code.parse::<u64>().is_ok_and(|code| code > 0), "{when}: {said}");
    assert!(message.len() > 15, "{when}: {said}");
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
fn a_vf_that_appears_late_is_refused_and_then_given() {
    for struck in ALL.into_iter().filter(|struck| struck.verb == "ADD" && struck.plugin != "rdma") {
        let bench = struck.bench();
        let home = without_addresses(&bench.world());
        let pf = if struck.plugin == "ib-sriov" { ib_sriov::PF } else { PF };
        bench.host.write(&format!("/sys/bus/pci/devices/{pf}/sriov_numvfs"), "0").unwrap();
        let add = || bench.call("ADD", struck.plugin, "a", "net1", &struck.options());
        let said = show(&add());
        assert!(said.starts_with("failed 999: there is no PCI device "), "{said}");
        assert_eq!(bench.world(), "", "{}", struck.plugin);
        bench.make_vfs(pf);
        assert_eq!(add().exit, 0, "{}", struck.plugin);
        struck.deletes_all(&bench, struck.plugin);
        struck.leaks_nothing(&bench, struck.plugin);
        assert_eq!(without_addresses(&bench.world()), home, "{}", struck.plugin);
    }
}

/// The PF's count is set to 0 by whoever it was, in the middle of a call.
#[test]
fn a_vf_that_vanishes_at_whatever_step_is_said_and_the_one_made_anew_is_usable() {
    for anew_before_del in [false, true] {
        let told = ALL.map(|struck| {
            let said = struck.loses_its_vf(anew_before_del);
            format!("{} of {}:\n{said}", struck.verb, struck.plugin)
        });
        if anew_before_del {
            continue;
        }
        expect![[r#"
            ADD of sriov:
            failed 999: 0000:03:00.2 has neither an interface nor a driver
            failed 999: 0000:03:00.2 is not among the VFs of its PF 0000:03:00.0
            failed 999: 0000:03:00.2 is not among the VFs of its PF 0000:03:00.0; 0000:03:00.2 is gone since: somebody has changed the VFs of its card
            failed 999: PF 0000:03:00.0 has no interface in the host's network namespace that shows VF 0
            failed 999: PF 0000:03:00.0 has no interface in the host's network namespace that shows VF 0; 0000:03:00.2 is gone since: somebody has changed the VFs of its card
            failed 999: cannot give 10.1.2.2/24 to net1: no such device; 0000:03:00.2 is gone since: somebody has changed the VFs of its card
            failed 999: cannot move enp3s0f0v0 of 0000:03:00.2 into the pod: move link 5 to namespace /run/netns/a as net1 in the host's namespace: no such device; 0000:03:00.2 is gone since: somebody has changed the VFs of its card
            failed 999: cannot read the link /sys/bus/pci/devices/0000:03:00.0/virtfn0: no such file or directory
            failed 999: cannot read the link /sys/bus/pci/devices/0000:03:00.0/virtfn0: no such file or directory; 0000:03:00.2 is gone since: somebody has changed the VFs of its card
            failed 999: cannot set MAC 02:00:00:00:00:07 on VF 0 of enp3s0f0: invalid argument; 0000:03:00.2 is gone since: somebody has changed the VFs of its card
            failed 999: cannot set link 5 up in namespace /run/netns/a: no such device; 0000:03:00.2 is gone since: somebody has changed the VFs of its card
            failed 999: cannot set trust on on VF 0 of enp3s0f0: invalid argument; 0000:03:00.2 is gone since: somebody has changed the VFs of its card
            failed 999: cannot set vlan 100 qos 0 802.1q on VF 0 of enp3s0f0: invalid argument; 0000:03:00.2 is gone since: somebody has changed the VFs of its card
            failed 999: the pod's network namespace has no interface of 0000:03:00.2; 0000:03:00.2 is gone since: somebody has changed the VFs of its card
            failed 999: there is no PCI device 0000:03:00.2 on this node
            failed 999: there is no PCI device 0000:03:00.2 on this node; 0000:03:00.2 is gone since: somebody has changed the VFs of its card
            DEL of sriov:

            ADD of rdma:
            failed 999: cannot give mlx5_2 of 0000:03:00.2 to the pod: invalid argument; 0000:03:00.2 is gone since: somebody has changed the VFs of its card
            failed 999: mlx5_2 of 0000:03:00.2 did not arrive in the pod's network namespace; 0000:03:00.2 is gone since: somebody has changed the VFs of its card
            failed 999: no RDMA devices found for 0000:03:00.2 in the host's network namespace; is its RDMA driver loaded, or does another pod have it?
            DEL of rdma:

            ADD of ib-sriov:
            failed 999: 0000:3b:00.1 has no interface in the host's network namespace
            failed 999: 0000:3b:00.1 has no interface in the host's network namespace; 0000:3b:00.1 is gone since: somebody has changed the VFs of its card
            failed 999: 0000:3b:00.1 is not among the VFs of its PF 0000:3b:00.0
            failed 999: PF 0000:3b:00.0 has no interface in the host's network namespace that shows VF 0
            failed 999: PF 0000:3b:00.0 has no interface in the host's network namespace that shows VF 0; 0000:3b:00.1 is gone since: somebody has changed the VFs of its card
            failed 999: cannot give 10.1.3.2/24 to net1: no such device; 0000:3b:00.1 is gone since: somebody has changed the VFs of its card
            failed 999: cannot give mlx5_1 of 0000:3b:00.1 to the pod: invalid argument; 0000:3b:00.1 is gone since: somebody has changed the VFs of its card
            failed 999: cannot move ibp59s0v0 of 0000:3b:00.1 into the pod: move link 9 to namespace /run/netns/a as net1 in the host's namespace: no such device; 0000:3b:00.1 is gone since: somebody has changed the VFs of its card
            failed 999: cannot read the link /sys/bus/pci/devices/0000:3b:00.0/virtfn0: no such file or directory
            failed 999: cannot set link 9 up in namespace /run/netns/a: no such device; 0000:3b:00.1 is gone since: somebody has changed the VFs of its card
            failed 999: cannot set link_state enable on VF 0 of ibp59s0: invalid argument; 0000:3b:00.1 is gone since: somebody has changed the VFs of its card
            failed 999: cannot set node GUID 02:00:00:00:00:00:00:01 on VF 0 of ibp59s0: invalid argument; 0000:3b:00.1 is gone since: somebody has changed the VFs of its card
            failed 999: cannot set port GUID 02:00:00:00:00:00:00:01 on VF 0 of ibp59s0: invalid argument; 0000:3b:00.1 is gone since: somebody has changed the VFs of its card
            failed 999: cannot write 0000:3b:00.1 to /sys/bus/pci/drivers/mlx5_core/bind: no such device; 0000:3b:00.1 is gone since: somebody has changed the VFs of its card
            failed 999: cannot write 0000:3b:00.1 to /sys/bus/pci/drivers/mlx5_core/unbind: no such device; 0000:3b:00.1 is gone since: somebody has changed the VFs of its card
            failed 999: mlx5_1 of 0000:3b:00.1 did not arrive in the pod's network namespace; 0000:3b:00.1 is gone since: somebody has changed the VFs of its card
            failed 999: no RDMA devices found for 0000:3b:00.1 in the host's network namespace; is its RDMA driver loaded, or does another pod have it?; 0000:3b:00.1 is gone since: somebody has changed the VFs of its card
            failed 999: the pod's network namespace has no interface of 0000:3b:00.1; 0000:3b:00.1 is gone since: somebody has changed the VFs of its card
            failed 999: there is no PCI device 0000:3b:00.1 on this node
            DEL of ib-sriov:

        "#]].assert_eq(&told.concat());
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
