//! What the sweeper does over a simulated machine: a pod left its VF behind, and the world says this or that about it.

use super::*;
use api::files::CNI_JOURNAL;
use api::journal::{LinkBefore, Owner, RdmaCustody, VERSION, VfCustody, VfProfile};
use api::{RdmaMode, Timestamp};
use expect_test::{Expect, expect};
use host::crashing::{Crash, Crashing, Death, Side, survive};
use host::seam::{LinkChange, RdmaChange, VfSetting};
use host::sim::{Flavour, Machine, SimHost};
use host::{guid, vf_profile};

const VF: &str = "0000:03:00.2";
const POD: &str = "/var/run/netns/cni-a";

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

/// Time since the boot.
fn up(second: u64) -> Duration {
    Duration::from_secs(second)
}

/// A node whose pod train-7 has VF 0 with its RDMA device, and an administrative MAC that was set for it.
fn node() -> SimHost {
    let host = SimHost::new(Machine::small_worker("worker-0", Flavour::Rhel, at(0)));
    host.write("/sys/bus/pci/devices/0000:03:00.0/sriov_numvfs", "2").unwrap();
    host.change_rdma(&Namespace::Host, &RdmaChange::Mode(RdmaMode::Exclusive)).unwrap();
    host.machine().create_namespace(POD).unwrap();
    let pci: PciAddress = VF.parse().unwrap();
    let identity = vf_profile::identify(&host, &pci).unwrap();
    let (pf, before) = vf_profile::look(&host, &identity).unwrap();
    let link = home::interface_at_home(&host, &pci).unwrap().unwrap();
    let rdma = home::rdma_devices_at_home(&host, VF).unwrap().remove(0);
    let pod = host.metadata(POD).unwrap();
    let record = Record {
        version: VERSION,
        boot_id: crate::observe::boot_id(&host).unwrap(),
        device: VF.to_owned(),
        owner: Owner {
            container: "sandbox-a".to_owned(),
            interface: "net1".to_owned(),
            network: "blue".to_owned(),
            namespace: POD.to_owned(),
            namespace_device: pod.device,
            namespace_inode: pod.inode,
            pod_namespace: "ml".to_owned(),
            pod_name: "train-7".to_owned(),
            pod_uid: "u-7".to_owned(),
        },
        since: at(0),
        vf: Some(VfCustody {
            pf: identity.pf,
            index: identity.index,
            before,
            wanted: VfProfile::default(),
            link: Some(LinkBefore {
                name: link.name.clone(),
                address: vf_profile::show_address(&link.address),
                mtu: link.mtu,
                up: link.up,
                alt_names: Some(link.alt_names.clone()),
            }),
        }),
        rdma: Some(RdmaCustody { name: rdma.name.clone(), index: rdma.index }),
    };
    journal::write(&host, &record).unwrap();
    host.replace(&format!("{}/{VF}", api::files::ALLOCATIONS), POD.as_bytes(), 0o600).unwrap();
    let mac = VfSetting::Mac([2, 0, 0, 0, 0, 1]);
    let (pf, vf) = (pf.link, identity.index);
    host.change_link(&Namespace::Host, &LinkChange::Vf { link: pf, vf, setting: mac }).unwrap();
    let space = Namespace::At(POD.to_owned());
    let to = space.clone();
    host.change_rdma(&Namespace::Host, &RdmaChange::Move { device: rdma.index, to }).unwrap();
    let name = Some("net1".to_owned());
    let moving = LinkChange::Move { link: link.index, to: space, name };
    host.change_link(&Namespace::Host, &moving).unwrap();
    host
}

/// The VF as the host sees it, and what is written about it.
fn world(host: &dyn Host) -> String {
    let pci: PciAddress = VF.parse().unwrap();
    let link = home::interface_at_home(host, &pci).unwrap();
    let link =
        link.map(|link| format!("{} {}", link.name, vf_profile::show_address(&link.address)));
    let identity = vf_profile::identify(host, &pci).unwrap();
    let mac = vf_profile::look(host, &identity).unwrap().1.mac.unwrap_or_default();
    let rdma = home::rdma_devices_at_home(host, VF).unwrap().pop().map(|device| device.name);
    let notes =
        host.list(CNI_JOURNAL).unwrap().len() + host.list(api::files::ALLOCATIONS).unwrap().len();
    format!("at home: {link:?} with admin mac {mac}, {rdma:?}; notes on disk: {notes}\n")
}

struct Said {
    sandboxes: Result<BTreeSet<String>, String>,
    pods: Option<Vec<Holder>>,
    ended: Vec<EndedPod>,
}

/// A runtime with one other sandbox, and a kubelet that lists no pod.
fn nobody() -> Said {
    Said {
        sandboxes: Ok(BTreeSet::from(["sandbox-z".to_owned()])),
        pods: Some(Vec::new()),
        ended: Vec::new(),
    }
}

fn knows_the_sandbox() -> Said {
    Said { sandboxes: Ok(BTreeSet::from(["sandbox-a".to_owned()])), ..nobody() }
}

fn holder(namespace: &str, pod: &str) -> Said {
    let holder = Holder {
        device: VF.to_owned(),
        namespace: namespace.to_owned(),
        pod: pod.to_owned(),
        ..Holder::default()
    };
    Said { pods: Some(vec![holder]), ..nobody() }
}

fn look(sweeper: &mut Sweeper, host: &dyn Host, said: &Said, second: u64) -> String {
    let Said { sandboxes, pods, ended } = said;
    let evidence = Evidence { sandboxes, pods: pods.as_deref(), ended };
    let findings = sweeper.sweep(host, &evidence, up(second));
    let told = findings.into_iter().map(|finding| finding.sentence).chain(sweeper.said.clone());
    told.map(|sentence| format!("{second} s: {sentence}\n")).collect()
}

fn check(host: &SimHost, looks: &[(u64, Said)], expected: Expect) {
    let mut sweeper = Sweeper::default();
    let mut out = String::new();
    for (second, said) in looks {
        out.push_str(&look(&mut sweeper, host, said, *second));
    }
    out.push_str(&world(host));
    out.push_str(&format!("{:?}\n", sweeper.counts));
    expected.assert_eq(&out);
}

#[test]
fn an_orphan_comes_home_after_a_minute_of_evidence_as_it_was_before() {
    check(
        &node(),
        &[(0, nobody()), (30, nobody()), (59, nobody()), (60, nobody()), (90, nobody())],
        expect![[r#"
            60 s: brought 0000:03:00.2 home: sandbox sandbox-a of pod ml/train-7, which had it as net1, is gone
            at home: Some("enp3s0f0v0 c2:28:7c:c7:4f:2d") with admin mac 00:00:00:00:00:00, Some("mlx5_2"); notes on disk: 0
            SweepStatus { swept: 1, failed: 0, suspects: 0, blind: false }
        "#]],
    );
}

#[test]
fn what_the_runtime_or_the_kubelet_knows_is_left_alone() {
    check(
        &node(),
        &[(0, knows_the_sandbox()), (90, knows_the_sandbox())],
        expect![[r#"
            at home: None with admin mac 02:00:00:00:00:01, None; notes on disk: 2
            SweepStatus { swept: 0, failed: 0, suspects: 0, blind: false }
        "#]],
    );
    check(
        &node(),
        &[(0, holder("ml", "train-7")), (90, holder("ml", "train-7"))],
        expect![[r#"
            at home: None with admin mac 02:00:00:00:00:01, None; notes on disk: 2
            SweepStatus { swept: 0, failed: 0, suspects: 0, blind: false }
        "#]],
    );
}

#[test]
fn a_device_that_the_kubelet_has_promised_to_another_pod_is_an_orphan_still() {
    check(
        &node(),
        &[(0, holder("ml", "train-8")), (60, holder("ml", "train-8"))],
        expect![[r#"
            60 s: brought 0000:03:00.2 home: sandbox sandbox-a of pod ml/train-7, which had it as net1, is gone
            at home: Some("enp3s0f0v0 c2:28:7c:c7:4f:2d") with admin mac 00:00:00:00:00:00, Some("mlx5_2"); notes on disk: 0
            SweepStatus { swept: 1, failed: 0, suspects: 0, blind: false }
        "#]],
    );
}

#[test]
fn whoever_cannot_be_asked_is_a_reason_to_touch_nothing_and_to_begin_anew() {
    let silent = || Said {
        sandboxes: Err("cannot ask the container runtime at /run/x.sock: gone".to_owned()),
        ..nobody()
    };
    let no_kubelet = || Said { pods: None, ..nobody() };
    check(
        &node(),
        &[(0, nobody()), (40, silent()), (80, nobody()), (120, no_kubelet()), (130, nobody())],
        expect![[r#"
            40 s: devices of pods that are gone stay where they are: cannot ask the container runtime at /run/x.sock: gone
            120 s: devices of pods that are gone stay where they are: the kubelet's PodResources does not answer
            at home: None with admin mac 02:00:00:00:00:01, None; notes on disk: 2
            SweepStatus { swept: 0, failed: 0, suspects: 1, blind: false }
        "#]],
    );
}

#[test]
fn a_pod_that_has_ended_and_that_an_old_kubelet_lists_on_keeps_no_device() {
    let listed = |ended: &str| {
        let mut said = holder("ml", "train-7");
        let holders = said.pods.iter_mut().flatten();
        holders.for_each(|holder| holder.resource = "openshift.io/rdma".to_owned());
        let (namespace, pod) = ("ml".to_owned(), ended.to_owned());
        said.ended.push(EndedPod { namespace, pod, finished_at: at(30) });
        said
    };
    check(
        &node(),
        &[
            (0, listed("train-8")),
            (60, listed("train-8")),
            (90, listed("train-7")),
            (150, listed("train-7")),
        ],
        expect![[r#"
            150 s: brought 0000:03:00.2 home: sandbox sandbox-a of pod ml/train-7, which had it as net1, is gone
            at home: Some("enp3s0f0v0 c2:28:7c:c7:4f:2d") with admin mac 00:00:00:00:00:00, Some("mlx5_2"); notes on disk: 0
            SweepStatus { swept: 1, failed: 0, suspects: 0, blind: false }
        "#]],
    );
}

#[test]
fn a_sandbox_that_was_seen_in_between_makes_the_minute_begin_anew() {
    check(
        &node(),
        &[(0, nobody()), (30, knows_the_sandbox()), (61, nobody()), (90, nobody())],
        expect![[r#"
            at home: None with admin mac 02:00:00:00:00:01, None; notes on disk: 2
            SweepStatus { swept: 0, failed: 0, suspects: 1, blind: false }
        "#]],
    );
}

#[test]
fn a_device_in_a_namespace_that_is_not_the_journals_is_named_and_left_there() {
    let host = node();
    // The path leads to another namespace now, to which somebody moved the interface.
    host.machine().delete_namespace(POD).unwrap();
    host.machine().create_namespace(POD).unwrap();
    let link = home::interface_at_home(&host, &VF.parse().unwrap()).unwrap().unwrap();
    let to = Namespace::At(POD.to_owned());
    let moving = LinkChange::Move { link: link.index, to, name: None };
    host.change_link(&Namespace::Host, &moving).unwrap();
    check(
        &host,
        &[(0, nobody()), (60, nobody())],
        expect![[r#"
            0 s: 0000:03:00.2 was given to sandbox sandbox-a, which is gone, and is now in the network namespace /var/run/netns/cni-a, which is not the one it was given to; look whose that is, and call the plugin's DEL or remove the journal
            60 s: 0000:03:00.2 was given to sandbox sandbox-a, which is gone, and is now in the network namespace /var/run/netns/cni-a, which is not the one it was given to; look whose that is, and call the plugin's DEL or remove the journal
            at home: None with admin mac 02:00:00:00:00:01, Some("mlx5_2"); notes on disk: 2
            SweepStatus { swept: 0, failed: 0, suspects: 0, blind: false }
        "#]],
    );
}

#[test]
fn an_orphan_whose_namespace_is_gone_is_configured_as_before() {
    let host = node();
    host.machine().delete_namespace(POD).unwrap();
    check(
        &host,
        &[(0, nobody()), (60, nobody())],
        expect![[r#"
            60 s: brought 0000:03:00.2 home: sandbox sandbox-a of pod ml/train-7, which had it as net1, is gone
            at home: Some("enp3s0f0v0 c2:28:7c:c7:4f:2d") with admin mac 00:00:00:00:00:00, Some("mlx5_2"); notes on disk: 0
            SweepStatus { swept: 1, failed: 0, suspects: 0, blind: false }
        "#]],
    );
}

#[test]
fn a_device_in_somebodys_hands_is_left_for_the_next_time() {
    let host = node();
    let lock = device_lock::take(&host.process(), &VF.parse().unwrap(), Duration::ZERO).unwrap();
    check(
        &host,
        &[(0, nobody()), (60, nobody())],
        expect![[r#"
            at home: None with admin mac 02:00:00:00:00:01, None; notes on disk: 2
            SweepStatus { swept: 0, failed: 0, suspects: 1, blind: false }
        "#]],
    );
    drop(lock);
    check(
        &host,
        &[(0, nobody()), (60, nobody())],
        expect![[r#"
            60 s: brought 0000:03:00.2 home: sandbox sandbox-a of pod ml/train-7, which had it as net1, is gone
            at home: Some("enp3s0f0v0 c2:28:7c:c7:4f:2d") with admin mac 00:00:00:00:00:00, Some("mlx5_2"); notes on disk: 0
            SweepStatus { swept: 1, failed: 0, suspects: 0, blind: false }
        "#]],
    );
}

#[test]
fn a_garbled_record_is_named_and_does_not_hide_the_others() {
    let host = node();
    host.replace("/var/lib/ironrail/cni/0000:03:00.3.json", b"{", 0o600).unwrap();
    check(
        &host,
        &[(0, nobody()), (60, nobody())],
        expect![[r#"
            0 s: cannot read the journal /var/lib/ironrail/cni/0000:03:00.3.json: EOF while parsing an object at line 1 column 1; look at the device, then remove the file
            60 s: brought 0000:03:00.2 home: sandbox sandbox-a of pod ml/train-7, which had it as net1, is gone
            60 s: cannot read the journal /var/lib/ironrail/cni/0000:03:00.3.json: EOF while parsing an object at line 1 column 1; look at the device, then remove the file
            at home: Some("enp3s0f0v0 c2:28:7c:c7:4f:2d") with admin mac 00:00:00:00:00:00, Some("mlx5_2"); notes on disk: 1
            SweepStatus { swept: 1, failed: 0, suspects: 0, blind: false }
        "#]],
    );
}

#[test]
fn a_record_that_was_never_finished_is_removed_once_nobody_is_at_the_device() {
    let host = node();
    let other = "0000:03:00.3".parse().unwrap();
    host.replace(&format!("{CNI_JOURNAL}/.0000:03:00.3.json.3672.0.new"), b"{", 0o600).unwrap();
    let left = || host.list(CNI_JOURNAL).unwrap().join(" ");
    let mut sweeper = Sweeper::default();
    let lock = device_lock::take(&host.process(), &other, Duration::ZERO).unwrap();
    look(&mut sweeper, &host, &knows_the_sandbox(), 0);
    assert_eq!(left(), ".0000:03:00.3.json.3672.0.new 0000:03:00.2.json");
    drop(lock);
    look(&mut sweeper, &host, &knows_the_sandbox(), 30);
    assert_eq!(left(), "0000:03:00.2.json");
}

#[test]
fn a_record_of_an_earlier_boot_is_forgotten_and_the_device_not_touched() {
    let host = node();
    host.machine().boot();
    host.write("/sys/bus/pci/devices/0000:03:00.0/sriov_numvfs", "2").unwrap();
    check(
        &host,
        &[(0, nobody()), (60, nobody())],
        expect![[r#"
            60 s: brought 0000:03:00.2 home: sandbox sandbox-a of pod ml/train-7, which had it as net1, is gone; it was given away before a reboot
            at home: Some("enp3s0f0v0 e2:45:6a:ab:8a:39") with admin mac 00:00:00:00:00:00, Some("mlx5_2"); notes on disk: 0
            SweepStatus { swept: 1, failed: 0, suspects: 0, blind: false }
        "#]],
    );
}

/// chrony sets the clock soon after a boot, an administrator whenever he likes.
#[test]
fn a_clock_that_is_set_makes_no_minute_of_two_looks() {
    let host = node();
    let looks = |sweeper: &mut Sweeper| {
        let uptime = host::uptime::read(&host).unwrap();
        let Said { sandboxes, pods, ended } = nobody();
        let evidence = Evidence { sandboxes: &sandboxes, pods: pods.as_deref(), ended: &ended };
        sweeper.is_due(&host, uptime).then(|| sweeper.sweep(&host, &evidence, uptime).len())
    };
    let mut sweeper = Sweeper::default();
    let mut told = vec![looks(&mut sweeper)];
    for second in [3600, -7200] {
        host.machine().set_clock(at(second));
        told.push(looks(&mut sweeper));
    }
    for _ in 0..2 {
        host.machine().advance(Duration::from_secs(30));
        told.push(looks(&mut sweeper));
    }
    assert_eq!(told, [Some(0), None, None, Some(0), Some(1)]);
}

#[test]
fn a_sweep_is_due_twice_a_minute_and_only_when_there_is_a_record() {
    let host = node();
    let mut sweeper = Sweeper::default();
    assert!(sweeper.is_due(&host, up(0)));
    look(&mut sweeper, &host, &nobody(), 0);
    let due = [1, 29, 30].map(|second| sweeper.is_due(&host, up(second)));
    assert_eq!(due, [false, false, true]);
    look(&mut sweeper, &host, &nobody(), 60);
    assert!(!sweeper.is_due(&host, up(200)), "nothing is left to ask about");
}

#[test]
fn from_every_crash_the_next_daemon_brings_the_orphan_home() {
    let calm = Crashing::new(node(), Death::Unwind);
    let sweep_twice = |host: &dyn Host| {
        let mut sweeper = Sweeper::default();
        look(&mut sweeper, host, &nobody(), 0);
        look(&mut sweeper, host, &nobody(), 60)
    };
    sweep_twice(&calm);
    let home = world(calm.inner());
    assert!(calm.count() > 20, "{}", calm.count());
    for primitive in 1..=calm.count() {
        for side in [Side::Before, Side::After] {
            let host = Crashing::new(node(), Death::Unwind);
            host.arm(Crash { primitive, side });
            survive(|| sweep_twice(&host)).expect_err("nobody died");
            let next = host.inner().process();
            sweep_twice(&next);
            assert_eq!(world(&next), home, "died at {primitive} {side:?}");
        }
    }
}

#[test]
fn a_new_daemon_counts_on_from_what_the_node_state_says_and_a_quiet_one_says_nothing() {
    let mut sweeper = Sweeper::default();
    assert_eq!(sweeper.status(None), None);
    sweeper.counts.swept += 1;
    let said = sweeper.status(None);
    assert_eq!(said, Some(SweepStatus { swept: 1, ..SweepStatus::default() }));
    // The daemon dies, and its successor brings another one home.
    let mut next = Sweeper::default();
    next.counts.swept += 1;
    assert_eq!(next.status(said).map(|status| status.swept), Some(2));
    assert_eq!(next.status(said).map(|status| status.swept), Some(2), "taken up once");
    next.counts.blind = true;
    assert!(next.status(said).unwrap().blind);
}

/// The same pod as upstream's plugin leaves it: its memory in place of our journal, and its namespace gone.
fn node_of_the_old_plugin() -> SimHost {
    let host = node();
    let record = journal::read(&host, VF).unwrap().unwrap();
    host.remove(&journal::path(VF)).unwrap();
    let (before, link) = record.vf.map(|vf| (vf.before, vf.link.unwrap())).unwrap();
    let cache = serde_json::json!({
        "cniVersion": "1.0.0", "name": "blue", "type": "sriov", "deviceID": VF, "VFID": 0,
        "MAC": "02:00:00:00:00:01",
        "OrigVfState": {
            "HostIFName": link.name, "AdminMAC": before.mac, "EffectiveMAC": link.address, "MTU": link.mtu,
        },
    });
    remember(&host, Plugin::Sriov, "sandbox-a-net1", &cache);
    // As upstream does inside the pod.
    let pod = Namespace::At(POD.to_owned());
    let link = home::interface_in(&host, &pod, &VF.parse().unwrap()).unwrap().unwrap().index;
    let address = vec![2, 0, 0, 0, 0, 1];
    host.change_link(&pod, &LinkChange::Address { link, address }).unwrap();
    host.machine().delete_namespace(POD).unwrap();
    host
}

fn remember(host: &SimHost, plugin: Plugin, name: &str, cache: &serde_json::Value) {
    let file = format!("{}/{name}", plugin.directory());
    host.replace(&file, cache.to_string().as_bytes(), 0o600).unwrap();
}

/// What upstream's plugins remember still.
fn memories(host: &SimHost) -> Vec<String> {
    Plugin::ALL.into_iter().flat_map(|plugin| old_plugins::names(host, plugin).unwrap()).collect()
}

#[test]
fn what_the_old_plugin_gave_to_a_pod_that_is_gone_comes_home_the_second_time() {
    let host = node_of_the_old_plugin();
    assert!(Sweeper::default().is_due(&host, up(0)), "there is something to ask about");
    check(
        &host,
        &[(0, nobody()), (59, nobody()), (60, nobody())],
        expect![[r#"
            60 s: brought 0000:03:00.2 home: sandbox sandbox-a of a pod of the old plugin, which had it as net1, is gone
            at home: Some("enp3s0f0v0 c2:28:7c:c7:4f:2d") with admin mac 00:00:00:00:00:00, Some("mlx5_2"); notes on disk: 1
            SweepStatus { swept: 1, failed: 0, suspects: 0, blind: false }
        "#]],
    );
    let left = memories(&host);
    assert!(left.is_empty() && !Sweeper::default().is_due(&host, up(120)), "{left:?}");
}

#[test]
fn what_the_old_plugin_gave_to_a_sandbox_that_the_runtime_knows_is_left_alone() {
    let host = node_of_the_old_plugin();
    check(
        &host,
        &[(0, knows_the_sandbox()), (61, knows_the_sandbox())],
        expect![[r#"
            at home: Some("net1 02:00:00:00:00:01") with admin mac 02:00:00:00:00:01, Some("mlx5_2"); notes on disk: 1
            SweepStatus { swept: 0, failed: 0, suspects: 0, blind: false }
        "#]],
    );
}

/// A pod died without DEL, and the VF is another pod's by now.
#[test]
fn a_device_of_which_two_memories_speak_is_left_alone() {
    let host = node_of_the_old_plugin();
    let file = |sandbox: &str| format!("{}/{sandbox}-net1", Plugin::Sriov.directory());
    let memory = host.read(&file("sandbox-a")).unwrap();
    host.replace(&file("sandbox-b"), &memory, 0o600).unwrap();
    check(
        &host,
        &[(0, nobody()), (61, nobody())],
        expect![[r#"
            at home: Some("net1 02:00:00:00:00:01") with admin mac 02:00:00:00:00:01, Some("mlx5_2"); notes on disk: 1
            SweepStatus { swept: 0, failed: 0, suspects: 0, blind: false }
        "#]],
    );
}

#[test]
fn a_garbled_memory_of_the_old_plugin_is_named_and_left_alone() {
    let host = node_of_the_old_plugin();
    let file = format!("{}/sandbox-a-net1", Plugin::Sriov.directory());
    host.replace(&file, b"{", 0o600).unwrap();
    check(
        &host,
        &[(0, nobody()), (61, nobody())],
        expect![[r#"
            0 s: the state file /var/lib/cni/sriov/sandbox-a-net1 of the old plugin is unreadable: EOF while parsing an object at line 1 column 1
            61 s: the state file /var/lib/cni/sriov/sandbox-a-net1 of the old plugin is unreadable: EOF while parsing an object at line 1 column 1
            at home: Some("net1 02:00:00:00:00:01") with admin mac 02:00:00:00:00:01, Some("mlx5_2"); notes on disk: 1
            SweepStatus { swept: 0, failed: 0, suspects: 0, blind: false }
        "#]],
    );
}

/// A chain `sriov`, `rdma` of upstream's: each remembers its part of the attachment.
#[test]
fn both_memories_of_a_chain_of_the_old_plugins_are_one_orphans() {
    let state = serde_json::json!({
        "version": "1.0", "deviceID": VF, "sandboxRdmaDevName": "mlx5_2", "containerRdmaDevName": "mlx5_2",
    });
    let host = node_of_the_old_plugin();
    remember(&host, Plugin::Rdma, "blue-sandbox-a-net1", &state);
    check(
        &host,
        &[(0, knows_the_sandbox()), (61, knows_the_sandbox())],
        expect![[r#"
        at home: Some("net1 02:00:00:00:00:01") with admin mac 02:00:00:00:00:01, Some("mlx5_2"); notes on disk: 1
        SweepStatus { swept: 0, failed: 0, suspects: 0, blind: false }
    "#]],
    );
    assert_eq!(memories(&host), ["blue-sandbox-a-net1", "sandbox-a-net1"]);
    check(
        &host,
        &[(0, nobody()), (60, nobody())],
        expect![[r#"
        60 s: brought 0000:03:00.2 home: sandbox sandbox-a of a pod of the old plugin, which had it as net1, is gone
        at home: Some("enp3s0f0v0 c2:28:7c:c7:4f:2d") with admin mac 00:00:00:00:00:00, Some("mlx5_2"); notes on disk: 1
        SweepStatus { swept: 1, failed: 0, suspects: 0, blind: false }
    "#]],
    );
    assert!(memories(&host).is_empty());
}

/// Nothing but its own file speaks of the device, which is with a living namespace.
#[test]
fn an_rdma_device_that_the_old_plugin_gave_to_a_living_namespace_is_named_and_left_there() {
    let host = node();
    host.remove(&journal::path(VF)).unwrap();
    let state = serde_json::json!({
        "version": "1.0", "deviceID": VF, "sandboxRdmaDevName": "mlx5_2", "containerRdmaDevName": "mlx5_2",
    });
    remember(&host, Plugin::Rdma, "blue-sandbox-net1", &state);
    check(
        &host,
        &[(0, nobody()), (60, nobody())],
        expect![[r#"
        0 s: 0000:03:00.2 was given to sandbox sandbox, which is gone, and is now in the network namespace /var/run/netns/cni-a, which is not the one it was given to; look whose that is, and call the plugin's DEL or remove the journal
        60 s: 0000:03:00.2 was given to sandbox sandbox, which is gone, and is now in the network namespace /var/run/netns/cni-a, which is not the one it was given to; look whose that is, and call the plugin's DEL or remove the journal
        at home: None with admin mac 02:00:00:00:00:01, None; notes on disk: 1
        SweepStatus { swept: 0, failed: 0, suspects: 0, blind: false }
    "#]],
    );
    host.machine().delete_namespace(POD).unwrap();
    check(
        &host,
        &[(120, nobody()), (180, nobody())],
        expect![[r#"
        180 s: brought 0000:03:00.2 home: sandbox sandbox of a pod of the old plugin, which had it as net1, is gone
        at home: Some("net1 c2:28:7c:c7:4f:2d") with admin mac 02:00:00:00:00:01, Some("mlx5_2"); notes on disk: 1
        SweepStatus { swept: 1, failed: 0, suspects: 0, blind: false }
    "#]],
    );
    assert!(memories(&host).is_empty());
}

/// A pod of upstream's `ib-sriov` that asked for a GUID, on a card of InfiniBand; its namespace is gone. What the VF is like
/// after two looks, a minute apart.
fn infiniband(asked: &str, found: u64) -> String {
    const VF: &str = "0000:3b:00.1";
    let mut machine = Machine::new("ib-0", Flavour::Rhel, at(0));
    machine.add_connectx7(0x3b, 0, true);
    machine.boot();
    let host = SimHost::new(machine);
    host.write("/sys/bus/pci/devices/0000:3b:00.0/sriov_numvfs", "1").unwrap();
    let pci: PciAddress = VF.parse().unwrap();
    let guid = |host: &SimHost| {
        let link = home::interface_at_home(host, &pci).unwrap().unwrap();
        (link.name, guid::of_address(&link.address).unwrap())
    };
    let (name, before) = guid(&host);
    let pf = "0000:3b:00.0".parse().unwrap();
    host::vf_settings::set_guid(&host, &pf, 0, &host::vf_settings::show_guid(found)).unwrap();
    guid::rebind(&host, &pci).unwrap();
    let cache = serde_json::json!({
        "cniVersion": "1.0.0", "name": "blue", "type": "ib-sriov", "deviceID": VF, "VFID": 0,
        "HostIFNames": name, "HostIFGUID": before, "args": {"cni": {"guid": asked}},
    });
    remember(&host, Plugin::IbSriov, "sandbox-a-ib0", &cache);
    let mut sweeper = Sweeper::default();
    let told = look(&mut sweeper, &host, &nobody(), 0) + &look(&mut sweeper, &host, &nobody(), 60);
    let is_before = guid(&host) == (name, before);
    format!("{told}as before: {is_before}; memories: {:?}\n", memories(&host))
}

#[test]
fn what_the_old_plugin_gave_on_infiniband_has_its_guid_again() {
    expect![[r#"
        60 s: brought 0000:3b:00.1 home: sandbox sandbox-a of a pod of the old plugin, which had it as ib0, is gone
        as before: true; memories: []
    "#]].assert_eq(&infiniband("02:00:00:00:00:00:00:01", 0x0200_0000_0000_0001));
}

/// After a reboot the VF is another, and the memory of its GUID is of the one before.
#[test]
fn a_guid_that_the_pod_did_not_ask_for_is_not_taken_from_a_vf_of_infiniband() {
    expect![[r#"
        60 s: brought 0000:3b:00.1 home: sandbox sandbox-a of a pod of the old plugin, which had it as ib0, is gone
        as before: false; memories: []
    "#]].assert_eq(&infiniband("02:00:00:00:00:00:00:01", 0x0200_0000_0000_0002));
}
