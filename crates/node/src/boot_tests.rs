//! A boot of a simulated machine that carries out what the daemon saved before.

use super::*;
use api::names;
use expect_test::{Expect, expect};
use host::crashing::{Crash, Crashing, Death, Side, survive};
use host::sim::{Fault, Flavour, Machine, SimHost};
use serde_json::json;

fn now() -> Timestamp {
    Timestamp::from_second(1_700_000_000).unwrap()
}

fn machine() -> Machine {
    let mut machine = Machine::small_worker("worker-0", Flavour::Rhel, now());
    machine.boot();
    machine
}

fn order(mode: &str, vfs: u32) -> SriovNetworkNodeState {
    serde_json::from_value(json!({
        "apiVersion": names::API_VERSION, "kind": names::NODE_STATE,
        "metadata": { "name": "worker-0", "namespace": names::NAMESPACE, "generation": 3 },
        "spec": { "system": { "rdmaMode": mode }, "bridges": {}, "interfaces": [{
            "pciAddress": "0000:03:00.0", "name": "enp3s0f0", "numVfs": vfs,
            "vfGroups": [{
                "resourceName": "rdma_vf", "deviceType": "netdevice", "policyName": "train",
                "vfRange": format!("0-{}", vfs - 1), "isRdma": true,
            }],
        }] },
        "status": { "system": { "rdmaMode": mode }, "initialRdmaMode": "shared" },
    }))
    .unwrap()
}

fn told(host: &dyn Host) -> String {
    let said = match run(host, now()) {
        Ok(Outcome { done, left, failed }) => {
            let left = left.into_iter().map(|why| format!("LEFT {why}"));
            let failed = failed.into_iter().map(|why| format!("FAILED {why}"));
            done.into_iter().chain(left).chain(failed).collect::<Vec<_>>().join("\n")
        }
        Err(why) => format!("FAILED {why}"),
    };
    let mode = host.rdma_mode().map(|mode| mode.to_string()).unwrap_or_default();
    let count = host.read("/sys/bus/pci/devices/0000:03:00.0/sriov_numvfs").unwrap();
    format!("{said}\nmode {mode}, {} vfs\n", String::from_utf8_lossy(&count).trim())
}

fn check(machine: Machine, saved: Option<SriovNetworkNodeState>, expected: Expect) {
    let host = SimHost::new(machine);
    if let Some(state) = saved {
        save(&host, &state).unwrap();
    }
    let first = told(&host);
    expected.assert_eq(&format!("{first}then {}", told(&host)));
}

#[test]
fn the_last_order_is_carried_out_and_then_there_is_nothing_to_do() {
    check(
        machine(),
        Some(order("exclusive", 2)),
        expect![[r#"
            switch rdma mode to exclusive
            remember 0000:03:00.0
            set vf count 0000:03:00.0 2 without drivers
            set vf mac 0000:03:00.0 vf 0 02:03:72:63:97:c7
            set vf mac 0000:03:00.0 vf 1 02:03:72:63:96:14
            restore autoprobe 0000:03:00.0
            bind 0000:03:00.0 vf 0 to its default driver
            bind 0000:03:00.0 vf 1 to its default driver
            mode exclusive, 2 vfs
            then 
            mode exclusive, 2 vfs
        "#]],
    );
}

/// The order of a node whose pool asks for no mode; it has exclusive.
fn nobody_asks() -> SriovNetworkNodeState {
    let mut state = order("exclusive", 2);
    state.spec.system.rdma_mode = None;
    state
}

#[test]
fn a_mode_that_nobody_asks_for_is_not_kept_over_a_boot() {
    check(
        machine(),
        Some(nobody_asks()),
        expect![[r#"
            remember 0000:03:00.0
            set vf count 0000:03:00.0 2 without drivers
            set vf mac 0000:03:00.0 vf 0 02:03:72:63:97:c7
            set vf mac 0000:03:00.0 vf 1 02:03:72:63:96:14
            restore autoprobe 0000:03:00.0
            bind 0000:03:00.0 vf 0 to its default driver
            bind 0000:03:00.0 vf 1 to its default driver
            mode shared, 2 vfs
            then 
            mode shared, 2 vfs
        "#]],
    );
}

#[test]
fn a_mode_of_ours_that_still_waits_for_its_undoing_is_kept() {
    let mut state = nobody_asks();
    state.status.reboots = serde_json::from_value(json!([{
        "reason": "RdmaMode", "goal": "exclusive", "bootIdBefore": "a", "attempt": 1,
        "levers": ["boot unit"], "askedAt": "2026-01-01T00:00:00Z", "outcome": { "state": "helped" },
    }]))
    .unwrap();
    check(
        machine(),
        Some(state),
        expect![[r#"
            switch rdma mode to exclusive
            remember 0000:03:00.0
            set vf count 0000:03:00.0 2 without drivers
            set vf mac 0000:03:00.0 vf 0 02:03:72:63:97:c7
            set vf mac 0000:03:00.0 vf 1 02:03:72:63:96:14
            restore autoprobe 0000:03:00.0
            bind 0000:03:00.0 vf 0 to its default driver
            bind 0000:03:00.0 vf 1 to its default driver
            mode exclusive, 2 vfs
            then 
            mode exclusive, 2 vfs
        "#]],
    );
}

#[test]
fn without_an_order_nothing_is_changed() {
    check(
        machine(),
        None,
        expect![[r#"
            LEFT no order is saved in /var/lib/ironrail/order.json yet; nothing is changed
            mode shared, 0 vfs
            then LEFT no order is saved in /var/lib/ironrail/order.json yet; nothing is changed
            mode shared, 0 vfs
        "#]],
    );
}

#[test]
fn a_mode_that_cannot_be_switched_now_is_left_to_the_daemon_and_the_vfs_wait_for_it() {
    check(
        machine().with(Fault::RefusesRdmaMode),
        Some(order("exclusive", 2)),
        expect![[r#"
            LEFT VFs are left as they are until the node has RDMA mode exclusive
            FAILED cannot switch to RDMA mode exclusive now: set rdma mode exclusive from the host's namespace: device or resource busy
            mode shared, 0 vfs
            then LEFT VFs are left as they are until the node has RDMA mode exclusive
            FAILED cannot switch to RDMA mode exclusive now: set rdma mode exclusive from the host's namespace: device or resource busy
            mode shared, 0 vfs
        "#]],
    );
}

#[test]
fn a_card_that_refuses_is_named() {
    check(
        machine().with(Fault::NoRoomForVfs),
        Some(order("shared", 2)),
        expect![[r#"
            remember 0000:03:00.0
            FAILED cannot set 2 VFs on 0000:03:00.0: the BIOS reserved no address space for them; boot with pci=realloc or switch SR-IOV on in the BIOS
            mode shared, 0 vfs
            then FAILED cannot set 2 VFs on 0000:03:00.0: the BIOS reserved no address space for them; boot with pci=realloc or switch SR-IOV on in the BIOS
            mode shared, 0 vfs
        "#]],
    );
}

#[test]
fn a_card_that_is_gone_is_named_and_the_others_get_their_vfs() {
    let mut state = order("exclusive", 2);
    let mut gone = state.spec.interfaces[0].clone();
    gone.pci_address = "0000:99:00.0".parse().unwrap();
    gone.name = "enp153s0f0".to_owned();
    state.spec.interfaces.push(gone);
    check(
        machine(),
        Some(state),
        expect![[r#"
            switch rdma mode to exclusive
            remember 0000:03:00.0
            set vf count 0000:03:00.0 2 without drivers
            set vf mac 0000:03:00.0 vf 0 02:03:72:63:97:c7
            set vf mac 0000:03:00.0 vf 1 02:03:72:63:96:14
            restore autoprobe 0000:03:00.0
            bind 0000:03:00.0 vf 0 to its default driver
            bind 0000:03:00.0 vf 1 to its default driver
            LEFT cannot configure 0000:99:00.0 (enp153s0f0): the node has no such network function; put the card back, or have no policy select it
            mode exclusive, 2 vfs
            then LEFT cannot configure 0000:99:00.0 (enp153s0f0): the node has no such network function; put the card back, or have no policy select it
            mode exclusive, 2 vfs
        "#]],
    );
}

#[test]
fn a_daemon_at_work_a_newer_order_and_garbage_are_refused_by_name() {
    let host = SimHost::new(machine());
    let mut out = String::new();
    for text in ["{", r#"{"version":2}"#, r#"{"version":1}"#] {
        host.replace(ORDER, text.as_bytes(), 0o600).unwrap();
        out.push_str(&told(&host));
    }
    host.replace(OFFER, b"{}", 0o600).unwrap();
    out.push_str(&told(&host));
    expect![[r#"
        FAILED the saved order /var/lib/ironrail/order.json cannot be understood: EOF while parsing an object at line 1 column 1; the daemon saves it anew
        mode shared, 0 vfs
        FAILED the saved order /var/lib/ironrail/order.json has version 2, and this program knows 1
        mode shared, 0 vfs
        FAILED the saved order /var/lib/ironrail/order.json cannot be understood: missing field `generation` at line 1 column 13; the daemon saves it anew
        mode shared, 0 vfs
        FAILED the daemon is at work in this boot (/run/ironrail/offer.json is there), and boot phases are for before it; nothing is changed
        mode shared, 0 vfs
    "#]].assert_eq(&out);
}

#[test]
fn an_order_is_saved_once() {
    let host = SimHost::new(machine());
    for _ in 0..2 {
        save(&host, &order("shared", 2)).unwrap();
    }
    assert_eq!(host.take_journal().len(), 1);
    save(&host, &order("shared", 4)).unwrap();
    assert_eq!(host.take_journal().len(), 1);
}

#[test]
fn from_every_crash_the_next_boot_phase_reaches_the_goal() {
    let saved = order("exclusive", 2);
    let fresh = || {
        let host = SimHost::new(machine());
        save(&host, &saved).unwrap();
        host
    };
    let calm = Crashing::new(fresh(), Death::Unwind);
    run(&calm, now()).unwrap();
    for primitive in 1..=calm.count() {
        let host = Crashing::new(fresh(), Death::Unwind);
        host.arm(Crash { primitive, side: Side::After });
        survive(|| run(&host, now())).expect_err("nobody died");
        let next = host.inner().process();
        run(&next, now()).unwrap();
        assert_eq!(told(&next), "\nmode exclusive, 2 vfs\n", "died at {primitive}");
    }
}

#[test]
fn a_card_by_which_the_host_lived_is_not_cut_before_its_network_is_up() {
    // Before the network nothing shows what the card carries; the status of the boot before does.
    let clock = now();
    let host = SimHost::new(Machine::bonded_worker("worker-0", Flavour::Rhel, clock));
    let mut state = order("shared", 2);
    state.spec.interfaces[0].eswitch_mode = "switchdev".to_owned();
    let seen = observe::observe(&host, Vec::new()).unwrap();
    state.status = crate::status::status(&state, Some(&seen), &Default::default(), clock);
    save(&host, &state).unwrap();
    host.machine().network = None;
    host.machine().boot();
    expect![[r#"
        LEFT will not set eswitch mode 0000:03:00.0 switchdev (enp3s0): mlx5_core sets the PF's own interface up anew for it, and this host has its default route over enp3s0, bond0; write allowLifeline: true into policy train if that may be, or give the host another way
        mode shared, 0 vfs
    "#]].assert_eq(&told(&host));
    // What keeps the link up is done.
    state.spec.interfaces[0].eswitch_mode = String::new();
    save(&host, &state).unwrap();
    assert!(told(&host).contains("set vf count 0000:03:00.0 2"));
    // And what is allowed.
    state.spec.interfaces[0].eswitch_mode = "switchdev".to_owned();
    state.spec.interfaces[0].allow_lifeline = true;
    save(&host, &state).unwrap();
    host.machine().boot();
    assert!(told(&host).contains("set eswitch mode 0000:03:00.0 switchdev"));
}

/// An order of a mode that the node has not.
fn wish(mode: &str) -> SriovNetworkNodeState {
    let mut state = order(mode, 2);
    state.status.system.rdma_mode = Some(RdmaMode::Shared);
    state
}

#[test]
fn a_power_cut_before_the_nodes_turn_changes_no_mode() {
    check(
        machine(),
        Some(wish("exclusive")),
        expect![[r#"
            remember 0000:03:00.0
            set vf count 0000:03:00.0 2 without drivers
            set vf mac 0000:03:00.0 vf 0 02:03:72:63:97:c7
            set vf mac 0000:03:00.0 vf 1 02:03:72:63:96:14
            restore autoprobe 0000:03:00.0
            bind 0000:03:00.0 vf 0 to its default driver
            bind 0000:03:00.0 vf 1 to its default driver
            mode shared, 2 vfs
            then 
            mode shared, 2 vfs
        "#]],
    );
}

#[test]
fn once_the_turn_has_come_the_boot_unit_brings_the_mode_that_no_other_lever_brings() {
    let host = SimHost::new(machine().with(Fault::IgnoresModprobeOption));
    save(&host, &wish("exclusive")).unwrap();
    arm(&host, RdmaMode::Exclusive).unwrap();
    // The daemon's next step saves the same order again.
    save(&host, &wish("exclusive")).unwrap();
    host.machine().boot();
    expect![[r#"
        switch rdma mode to exclusive
        remember 0000:03:00.0
        set vf count 0000:03:00.0 2 without drivers
        set vf mac 0000:03:00.0 vf 0 02:03:72:63:97:c7
        set vf mac 0000:03:00.0 vf 1 02:03:72:63:96:14
        restore autoprobe 0000:03:00.0
        bind 0000:03:00.0 vf 0 to its default driver
        bind 0000:03:00.0 vf 1 to its default driver
        mode exclusive, 2 vfs
    "#]]
    .assert_eq(&told(&host));
    // Another wish is not what the turn was for.
    let mut other = wish("shared");
    other.status.system.rdma_mode = Some(RdmaMode::Exclusive);
    save(&host, &other).unwrap();
    host.machine().boot();
    host.change_rdma(&host::Namespace::Host, &host::seam::RdmaChange::Mode(RdmaMode::Exclusive))
        .unwrap();
    expect![[r#"
        set vf count 0000:03:00.0 2 without drivers
        set vf mac 0000:03:00.0 vf 0 02:03:72:63:97:c7
        set vf mac 0000:03:00.0 vf 1 02:03:72:63:96:14
        restore autoprobe 0000:03:00.0
        bind 0000:03:00.0 vf 0 to its default driver
        bind 0000:03:00.0 vf 1 to its default driver
        mode exclusive, 2 vfs
    "#]]
    .assert_eq(&told(&host));
}

#[test]
fn a_lever_without_a_saved_order_is_refused_by_name() {
    let error = arm(&SimHost::new(machine()), RdmaMode::Exclusive).unwrap_err();
    expect!["cannot have the boot unit set RDMA mode exclusive: no order is saved"]
        .assert_eq(&error);
}
