//! One plan at a time: the drain protocol's states, escalation, lanes, the ledger's books, and the text for people.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod model;

use api::nodestate::{Interface, NodeStateSpec, RebootOutcome, System, VfGroup};
use api::{RdmaMode, Timestamp};
use expect_test::{Expect, expect};
use model::Machine;
use planner::action::{RebootCause, RebootReason};
use planner::order::Leave;
use planner::{Desired, DrainRequest, Permission, Turn, audit, explain, ledger};

fn machine() -> Machine {
    let mut machine = Machine {
        now: Timestamp::from_second(1_800_000_000).unwrap(),
        default_mode: Some(RdmaMode::Shared),
        ..Machine::default()
    };
    let inventory = &mut machine.inventory;
    inventory.boot_id = "boot-0".to_owned();
    inventory.rdma.mode = Some(RdmaMode::Shared);
    inventory.rdma.modprobe_writable = true;
    inventory.rdma.other_namespaces = 2;
    for bus in ["3b", "5e"] {
        let mut pf = model::pf(&format!("0000:{bus}:00.0"), &format!("enp{bus}"), "15b3", "1017");
        pf.vfs = (0..1).map(|vf| model::ready_vf(&pf, vf)).collect();
        inventory.configured.push(pf.pci);
        inventory.physical_functions.push(pf);
    }
    machine
}

fn hold(machine: &mut Machine, pf: usize) {
    let device = machine.inventory.physical_functions[pf].vfs[0].pci.to_string();
    machine.inventory.holders.push(api::custody::Holder {
        device,
        namespace: "default".to_owned(),
        pod: "nccl-0".to_owned(),
        ..Default::default()
    });
}

/// Two VFs on each PF that is named.
fn wanted(mode: Option<RdmaMode>, buses: &[&str]) -> Desired {
    let interface = |bus: &&str| Interface {
        pci_address: format!("0000:{bus}:00.0").parse().unwrap(),
        num_vfs: 2,
        mtu: 0,
        name: format!("enp{bus}"),
        link_type: String::new(),
        eswitch_mode: String::new(),
        vf_groups: vec![VfGroup {
            resource_name: "res".to_owned(),
            vf_range: Some("0-1".parse().unwrap()),
            policy_name: "train".to_owned(),
            ..VfGroup::default()
        }],
        externally_managed: false,
        allow_lifeline: false,
    };
    let interfaces = buses.iter().map(interface).collect();
    let system = System { rdma_mode: mode };
    Desired::parse(&NodeStateSpec { interfaces, system, ..NodeStateSpec::default() })
}

fn check(machine: &Machine, desired: &Desired, turn: Turn, expected: Expect) {
    let permission = machine.permission(turn);
    let plan = planner::plan(desired, &machine.inventory, &permission, machine.now);
    assert_eq!(audit::plan(desired, &machine.inventory, &permission, &plan), Vec::<String>::new());
    expected.assert_eq(&explain::plan("worker-0", &plan));
}

#[test]
fn the_turn_is_read_from_the_protocols_annotations() {
    let cases = [
        ("", "", false),
        ("Idle", "Idle", false),
        ("Drain_Required", "Idle", false),
        ("Drain_Required", "Draining", false),
        ("Reboot_Required", "DrainComplete", false),
        ("Idle", "DrainComplete", false),
        ("Idle", "Draining", true),
        ("Idle", "Idle", true),
        ("Reboot_Required", "DrainComplete", true),
        ("nonsense", "nonsense", false),
    ];
    let lines: Vec<String> = cases
        .iter()
        .map(|(desired, current, disabled)| {
            let turn = Turn::of(desired, current, *disabled);
            format!("{desired:15} {current:13} drain disabled {disabled:5}: {turn:?}")
        })
        .collect();
    expect![[r#"
                                      drain disabled false: NotYet
        Idle            Idle          drain disabled false: NotYet
        Drain_Required  Idle          drain disabled false: NotYet
        Drain_Required  Draining      drain disabled false: Draining(Drain)
        Reboot_Required DrainComplete drain disabled false: Drained(Reboot)
        Idle            DrainComplete drain disabled false: Ending
        Idle            Draining      drain disabled true : Ending
        Idle            Idle          drain disabled true : DrainDisabled
        Reboot_Required DrainComplete drain disabled true : Drained(Reboot)
        nonsense        nonsense      drain disabled false: NotYet"#]]
    .assert_eq(&lines.join("\n"));
}

#[test]
fn a_card_without_holders_is_changed_while_the_other_waits_for_its_drain() {
    let mut machine = machine();
    hold(&mut machine, 0);
    check(
        &machine,
        &wanted(None, &["3b", "5e"]),
        Turn::NotYet,
        expect![[r#"
            worker-0:
              now 1. set vf count 0000:5e:00.0 2 without drivers  because policy train asks for 2 VFs and the card has 1
              now 2. set vf mac 0000:5e:00.0 vf 0 02:28:81:ad:b1:1e  because the PF holds no MAC for it
              now 3. set vf mac 0000:5e:00.0 vf 1 02:28:81:ad:b2:d1  because the PF holds no MAC for it
              now 4. restore autoprobe 0000:5e:00.0  because its VFs have their addresses, and drivers may take them
              now 5. bind 0000:5e:00.0 vf 0 to its default driver  because policy train asks for netdevice
              now 6. bind 0000:5e:00.0 vf 1 to its default driver  because policy train asks for netdevice
              later 1. set vf count 0000:3b:00.0 2 without drivers  because policy train asks for 2 VFs and the card has 1
              later 2. set vf mac 0000:3b:00.0 vf 0 02:2a:67:27:21:8f  because the PF holds no MAC for it
              later 3. set vf mac 0000:3b:00.0 vf 1 02:2a:67:27:1f:dc  because the PF holds no MAC for it
              later 4. restore autoprobe 0000:3b:00.0  because its VFs have their addresses, and drivers may take them
              later 5. bind 0000:3b:00.0 vf 0 to its default driver  because policy train asks for netdevice
              later 6. bind 0000:3b:00.0 vf 1 to its default driver  because policy train asks for netdevice
              waits: pod default/nccl-0 holds 0000:3b:01.0
              waits: waiting until the pods that hold devices are drained
              asks for Drain_Required
        "#]],
    );
}

#[test]
fn a_card_at_which_the_kernel_is_still_at_work_waits_and_the_other_goes_on() {
    let mut machine = machine();
    let begun = |seconds: i64| Timestamp::from_second(1_800_000_000 - seconds).unwrap();
    machine.inventory.unfinished.push(api::inventory::Unfinished {
        card: Some("0000:3b:00.0".parse().unwrap()),
        tried: "write 0 to /sys/bus/pci/devices/0000:3b:00.0/sriov_numvfs".to_owned(),
        since: begun(299),
    });
    check(
        &machine,
        &wanted(None, &["3b", "5e"]),
        Turn::NotYet,
        expect![[r#"
            worker-0:
              now 1. set vf count 0000:5e:00.0 2 without drivers  because policy train asks for 2 VFs and the card has 1
              now 2. set vf mac 0000:5e:00.0 vf 0 02:28:81:ad:b1:1e  because the PF holds no MAC for it
              now 3. set vf mac 0000:5e:00.0 vf 1 02:28:81:ad:b2:d1  because the PF holds no MAC for it
              now 4. restore autoprobe 0000:5e:00.0  because its VFs have their addresses, and drivers may take them
              now 5. bind 0000:5e:00.0 vf 0 to its default driver  because policy train asks for netdevice
              now 6. bind 0000:5e:00.0 vf 1 to its default driver  because policy train asks for netdevice
              later 1. set vf count 0000:3b:00.0 2 without drivers  because policy train asks for 2 VFs and the card has 1
              later 2. set vf mac 0000:3b:00.0 vf 0 02:2a:67:27:21:8f  because the PF holds no MAC for it
              later 3. set vf mac 0000:3b:00.0 vf 1 02:2a:67:27:1f:dc  because the PF holds no MAC for it
              later 4. restore autoprobe 0000:3b:00.0  because its VFs have their addresses, and drivers may take them
              later 5. bind 0000:3b:00.0 vf 0 to its default driver  because policy train asks for netdevice
              later 6. bind 0000:3b:00.0 vf 1 to its default driver  because policy train asks for netdevice
              waits: the kernel has been at "write 0 to /sys/bus/pci/devices/0000:3b:00.0/sriov_numvfs" since 2027-01-15T07:55:01Z and cannot be stopped; nothing else is changed there until it is done: end what uses a device of the card (see /dev/infiniband, rdma resource show), or reboot the node
        "#]],
    );
    let permission = machine.permission(Turn::NotYet);
    let ends_by_itself = |machine: &Machine| {
        let plan = planner::plan(&wanted(None, &[]), &machine.inventory, &permission, machine.now);
        plan.blockers.iter().map(planner::Blocker::ends_by_itself).collect::<Vec<_>>()
    };
    assert_eq!(ends_by_itself(&machine), [true]);
    machine.inventory.unfinished[0].since = begun(300);
    assert_eq!(ends_by_itself(&machine), [false]);
}

#[test]
fn a_drain_for_devices_is_given_back_before_a_reboot_is_asked_for() {
    // Upstream's C4: the operator would take the finished drain for the one that a reboot needs.
    let machine = machine();
    let desired = wanted(Some(RdmaMode::Exclusive), &[]);
    check(
        &machine,
        &desired,
        Turn::Drained(DrainRequest::Drain),
        expect![[r#"
            worker-0:
              later 1. set modprobe option rdma exclusive  because the pool asks for RDMA mode exclusive and the node has shared; it is not switched live because other network namespaces exist, and the RDMA modules are not reloaded: the feature gate rdmaModeReload is off
              later 2. reboot for RdmaMode exclusive  because the pool asks for RDMA mode exclusive and the node has shared; it is not switched live because other network namespaces exist, and the RDMA modules are not reloaded: the feature gate rdmaModeReload is off
              later 3. set vf count 0000:3b:00.0 0  because no policy asks for VFs on it any more
              later 4. forget 0000:3b:00.0  because no policy asks for VFs on it any more
              later 5. set vf count 0000:5e:00.0 0  because no policy asks for VFs on it any more
              later 6. forget 0000:5e:00.0  because no policy asks for VFs on it any more
              waits: the drain was granted for devices and a reboot is needed now: giving it back before asking again
              waits: VFs are left as they are until the node has RDMA mode exclusive
        "#]],
    );
    check(
        &machine,
        &desired,
        Turn::Ending,
        expect![[r#"
            worker-0:
              later 1. set modprobe option rdma exclusive  because the pool asks for RDMA mode exclusive and the node has shared; it is not switched live because other network namespaces exist, and the RDMA modules are not reloaded: the feature gate rdmaModeReload is off
              later 2. reboot for RdmaMode exclusive  because the pool asks for RDMA mode exclusive and the node has shared; it is not switched live because other network namespaces exist, and the RDMA modules are not reloaded: the feature gate rdmaModeReload is off
              later 3. set vf count 0000:3b:00.0 0  because no policy asks for VFs on it any more
              later 4. forget 0000:3b:00.0  because no policy asks for VFs on it any more
              later 5. set vf count 0000:5e:00.0 0  because no policy asks for VFs on it any more
              later 6. forget 0000:5e:00.0  because no policy asks for VFs on it any more
              waits: waiting until the node is drained for a reboot: the pool asks for RDMA mode exclusive and the node has shared; it is not switched live because other network namespaces exist, and the RDMA modules are not reloaded: the feature gate rdmaModeReload is off
              waits: VFs are left as they are until the node has RDMA mode exclusive
        "#]],
    );
    check(
        &machine,
        &desired,
        Turn::NotYet,
        expect![[r#"
            worker-0:
              later 1. set modprobe option rdma exclusive  because the pool asks for RDMA mode exclusive and the node has shared; it is not switched live because other network namespaces exist, and the RDMA modules are not reloaded: the feature gate rdmaModeReload is off
              later 2. reboot for RdmaMode exclusive  because the pool asks for RDMA mode exclusive and the node has shared; it is not switched live because other network namespaces exist, and the RDMA modules are not reloaded: the feature gate rdmaModeReload is off
              later 3. set vf count 0000:3b:00.0 0  because no policy asks for VFs on it any more
              later 4. forget 0000:3b:00.0  because no policy asks for VFs on it any more
              later 5. set vf count 0000:5e:00.0 0  because no policy asks for VFs on it any more
              later 6. forget 0000:5e:00.0  because no policy asks for VFs on it any more
              waits: waiting until the node is drained for a reboot: the pool asks for RDMA mode exclusive and the node has shared; it is not switched live because other network namespaces exist, and the RDMA modules are not reloaded: the feature gate rdmaModeReload is off
              waits: VFs are left as they are until the node has RDMA mode exclusive
              asks for Reboot_Required
        "#]],
    );
}

#[test]
fn a_reboot_turn_serves_the_vfs_too_and_is_kept_until_they_are_made() {
    let mut machine = machine();
    machine.inventory.rdma.mode = Some(RdmaMode::Exclusive);
    machine.inventory.rdma.modprobe_option = Some(RdmaMode::Exclusive);
    let desired = wanted(Some(RdmaMode::Exclusive), &["3b", "5e"]);
    let turn = Turn::Drained(DrainRequest::Reboot);
    let permission = Permission { turn, ..Permission::default() };
    let plan = planner::plan(&desired, &machine.inventory, &permission, machine.now);
    assert_eq!(plan.request, DrainRequest::Reboot);
    assert!(!plan.steps.is_empty() && plan.later.is_empty());
}

#[test]
fn a_reboot_turn_is_given_back_when_only_what_pods_hold_since_the_boot_is_left_to_do() {
    let mut machine = machine();
    hold(&mut machine, 0);
    hold(&mut machine, 1);
    let turn = Turn::Drained(DrainRequest::Reboot);
    let desired = wanted(None, &["3b", "5e"]);
    let permission = machine.permission(turn);
    let plan = planner::plan(&desired, &machine.inventory, &permission, machine.now);
    assert_eq!((plan.steps, plan.request), (vec![], DrainRequest::Idle));
    let permission = Permission { turn: Turn::NotYet, ..permission };
    let plan = planner::plan(&desired, &machine.inventory, &permission, machine.now);
    assert_eq!(plan.request, DrainRequest::Drain);
}

#[test]
fn a_reboot_turn_is_kept_while_a_claim_is_waited_for_that_nobody_has_named_yet() {
    let mut machine = machine();
    hold(&mut machine, 0);
    hold(&mut machine, 1);
    machine.inventory.holders.iter_mut().for_each(|holder| holder.pod.clear());
    let turn = Turn::Drained(DrainRequest::Reboot);
    let permission = machine.permission(turn);
    let plan =
        planner::plan(&wanted(None, &["3b", "5e"]), &machine.inventory, &permission, machine.now);
    assert_eq!((plan.steps, plan.request), (vec![], DrainRequest::Reboot));
}

#[test]
fn while_the_node_is_drained_its_devices_are_withdrawn_and_nothing_is_touched() {
    let mut machine = machine();
    hold(&mut machine, 0);
    machine.offered = machine
        .inventory
        .physical_functions
        .iter()
        .flat_map(|pf| pf.vfs.iter().map(|vf| vf.pci))
        .collect();
    let turn = Turn::Draining(DrainRequest::Drain);
    let permission = machine.permission(turn);
    let desired = wanted(None, &["3b", "5e"]);
    let plan = planner::plan(&desired, &machine.inventory, &permission, machine.now);
    assert_eq!(plan.steps, vec![]);
    assert!(plan.withdraw.is_superset(&machine.offered));
    // Waiting for its turn, the held card stays in service.
    let permission = Permission { turn: Turn::NotYet, ..permission };
    let plan = planner::plan(&desired, &machine.inventory, &permission, machine.now);
    let held = machine.inventory.physical_functions[0].vfs[0].pci;
    assert!(!plan.withdraw.contains(&held));
}

#[test]
fn an_entry_that_cannot_be_understood_is_neither_configured_nor_reset() {
    let machine = machine();
    let mut broken = wanted(None, &["3b"]).functions[0].interface.clone();
    broken.eswitch_mode = "sideways".to_owned();
    let mut kept = wanted(None, &["5e"]).functions[0].interface.clone();
    kept.num_vfs = 1;
    let spec = NodeStateSpec { interfaces: vec![broken, kept], ..NodeStateSpec::default() };
    let desired = Desired::parse(&spec);
    expect![[
        r#"interface 0000:3b:00.0: eSwitchMode "sideways" is unknown; write legacy or switchdev"#
    ]]
    .assert_eq(&desired.problems[0].to_string());
    check(
        &machine,
        &desired,
        Turn::NotYet,
        expect![[r#"
        worker-0: nothing to do
    "#]],
    );
}

#[test]
fn a_booked_reboot_is_one_record_with_every_lever_however_often_it_is_asked_for() {
    let now = Timestamp::from_second(1_800_000_000).unwrap();
    let cause = |levers: &[&str]| RebootCause {
        reason: RebootReason::RdmaMode,
        goal: "exclusive".to_owned(),
        levers: levers.iter().map(|lever| (*lever).to_owned()).collect(),
    };
    let first = ledger::book(&[], (&[cause(&["modprobe.d"])], 1), "boot-0", "", now);
    let again =
        ledger::book(&first, (&[cause(&["kernel argument by grubby"])], 2), "boot-0", "", now);
    assert_eq!(again.len(), 1);
    assert_eq!(again[0].attempt, 2);
    assert_eq!(again[0].levers, ["kernel argument by grubby", "modprobe.d"]);
    let other_boot = ledger::book(&again, (&[cause(&[])], 1), "boot-1", "", now);
    assert_eq!(other_boot.len(), 2);
}

#[test]
fn of_two_books_the_one_that_knows_more_counts() {
    let pending = model::record("exclusive", "boot-0", RebootOutcome::Pending);
    let helped = model::record("exclusive", "boot-0", RebootOutcome::Helped);
    let other = model::record("shared", "boot-1", RebootOutcome::Pending);
    let union = ledger::union(&[pending.clone(), other.clone()], std::slice::from_ref(&helped));
    assert_eq!(union, [helped.clone(), other.clone()]);
    // A new disk has no book of its own.
    let ours = std::slice::from_ref(&helped);
    assert_eq!(ledger::union(&[], ours), ours);
    assert_eq!(ledger::union(ours, &[pending]), ours);
}

#[test]
fn a_clock_that_was_set_back_does_not_bring_an_old_record_before_a_new_one() {
    let old = model::record("exclusive", "boot-0", RebootOutcome::Helped);
    let mut new = model::record("shared", "boot-1", RebootOutcome::Pending);
    new.asked_at = Timestamp::from_second(old.asked_at.as_second() - 3600).unwrap();
    let both = [old.clone(), new.clone()];
    assert_eq!(ledger::union(&both, &both), both);
    assert_eq!(ledger::union(std::slice::from_ref(&old), &both), both);
    assert_eq!(ledger::union(std::slice::from_ref(&new), &both), both);
    assert_eq!(ledger::union(&[], &both), both);
    assert_eq!(ledger::union(&both, std::slice::from_ref(&old)), both);
    // It is asked for once: the record that says so is the newest.
    let newest = ledger::latest(&both, RebootReason::RdmaMode, "shared");
    assert_eq!(newest, Some(&new));
}

fn question(boot_id: &str, levers_in_place: bool, now: Timestamp) -> ledger::Question<'_> {
    const LEAVE: &Leave = &Leave { by_person: false, retry: String::new() };
    ledger::Question {
        reason: RebootReason::RdmaMode,
        goal: "exclusive",
        boot_id,
        levers_in_place,
        leave: LEAVE,
        now,
    }
}

#[test]
fn a_clock_that_was_set_back_does_not_keep_a_reboot_from_being_asked_for() {
    let mut record = model::record("exclusive", "boot-0", RebootOutcome::Pending);
    record.asked_at = Timestamp::from_second(2_000_000_000).unwrap();
    let now = Timestamp::from_second(1_800_000_000).unwrap();
    let verdict = ledger::verdict(&[record], &question("boot-0", false, now));
    assert_eq!(verdict, ledger::Verdict::Ask { attempt: 2 });
}

#[test]
fn a_helped_reboot_whose_levers_were_taken_away_may_be_repeated() {
    let record = model::record("exclusive", "boot-0", RebootOutcome::Helped);
    let now = Timestamp::from_second(1_800_000_000).unwrap();
    let verdict = |in_place| {
        ledger::verdict(std::slice::from_ref(&record), &question("boot-1", in_place, now))
    };
    assert_eq!(verdict(false), ledger::Verdict::Ask { attempt: 1 });
    let ledger::Verdict::No(blocker) = verdict(true) else { panic!("a boot in vain") };
    expect!["a reboot did not bring RDMA mode: expected exclusive, found another value after a later boot, after modprobe.d; no further reboot for this: look for another netns_mode in modprobe.d, the initramfs or the boot loader, then annotate the node with ironrail.dev/retry-reboot=<a new value>"].assert_eq(&blocker.to_string());
}

#[test]
fn before_a_reboot_a_pf_that_is_offered_whole_is_withdrawn_as_the_vfs_are() {
    let mut machine = machine();
    machine.inventory.physical_functions[1].vfs.clear();
    let mut desired = wanted(Some(RdmaMode::Exclusive), &["3b", "5e"]);
    desired.functions[1].num_vfs = 0;
    for (turn, expected) in [
        (Turn::NotYet, expect![[""]]),
        (Turn::Draining(DrainRequest::Reboot), expect!["0000:3b:01.0 0000:5e:00.0"]),
    ] {
        let plan =
            planner::plan(&desired, &machine.inventory, &machine.permission(turn), machine.now);
        let withdrawn: Vec<String> = plan.withdraw.iter().map(ToString::to_string).collect();
        expected.assert_eq(&withdrawn.join(" "));
    }
}
