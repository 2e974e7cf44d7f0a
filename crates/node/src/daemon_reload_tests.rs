//! The reload rung of the RDMA mode over a simulated machine, with a pod's namespace there all the time.

use super::*;
use api::RdmaMode;
use api::nodestate::RebootOutcome;

/// A worker on which no live switch is possible, whose order allows reloads.
fn gated(fault: Option<Fault>) -> Life {
    let mut life = Life::worker();
    if let Some(fault) = fault {
        life.host.machine().faults.insert(fault);
        life.host.machine().boot();
    }
    life.host.machine().start_process_in_new_namespace("pause");
    allow(&mut life);
    life
}

fn allow(life: &mut Life) {
    let gates = &mut life.world.config.spec.feature_gates;
    gates.insert(names::MODE_RELOAD_GATE.to_owned(), true);
}

fn records(life: &Life) -> Vec<String> {
    let bytes = life.host.read(api::files::REBOOTS).unwrap_or_default();
    let records: Vec<RebootRecord> = serde_json::from_slice(&bytes).unwrap_or_default();
    let outcome = |record: &RebootRecord| match &record.outcome {
        RebootOutcome::Pending => "pending".to_owned(),
        RebootOutcome::Void => "void".to_owned(),
        RebootOutcome::Helped => "helped".to_owned(),
        RebootOutcome::Refused { found } => format!("refused: {found}"),
        RebootOutcome::DidNotHelp { found, .. } => format!("did not help: {found}"),
    };
    records.iter().map(|one| format!("{} {} {}", one.reason, one.goal, outcome(one))).collect()
}

#[test]
fn where_the_gate_allows_it_the_modules_are_reloaded_after_the_drain_and_nothing_boots() {
    let mut life = gated(None);
    life.wants("exclusive", 2);
    life.settle();
    life.tell(expect![[r#"
        wanted: rdma "exclusive", 2 vfs
        status InProgress, rdma shared, 0 vfs, WaitingForDrain, WaitingForReboot
        event SyncStatusChanged: Status changed from:  to: InProgress
        SriovNetworkNodeState desired-state := Drain_Required
        Node state := Drain_Required
        operator: Draining
        plugin: offer 1 []
        kubelet: allocatable {"openshift.io/rdma_vf":"0"}
        status InProgress, rdma shared, 0 vfs, WaitingForDrain, WaitingForReboot, fenced with 0 held
        operator: DrainComplete
        status Succeeded, rdma exclusive, 2 vfs, fenced with 0 held, reboot 1 helped
        event SyncStatusChanged: Status changed from: InProgress to: Succeeded
        SriovNetworkNodeState desired-state := Idle
        Node state := Idle
        operator: Idle
        plugin: offer 3 [ready ready]
        kubelet: allocatable {"openshift.io/rdma_vf":"2"}
        status Succeeded, rdma exclusive, 2 vfs, reboot 1 helped
    "#]]);
    let boots = life.machine_says().2;
    assert_eq!(life.machine_says(), (Some(RdmaMode::Exclusive), 2, boots));
    assert_eq!(boots, 1);
    expect!["RdmaReload exclusive helped"].assert_eq(&records(&life).join("\n"));
    life.assert_quiet();
}

#[test]
fn modules_that_cannot_be_loaded_again_come_with_the_reboot() {
    let mut life = gated(Some(Fault::ModuleLoadsNoMore));
    life.wants("exclusive", 0);
    life.settle();
    life.tell(expect![[r#"
        wanted: rdma "exclusive", 0 vfs
        status InProgress, rdma shared, 0 vfs, WaitingForDrain
        event SyncStatusChanged: Status changed from:  to: InProgress
        SriovNetworkNodeState desired-state := Drain_Required
        Node state := Drain_Required
        operator: Draining
        plugin: offer 1 []
        kubelet: allocatable {}
        status InProgress, rdma shared, 0 vfs, WaitingForDrain, fenced with 0 held
        operator: DrainComplete
        status InProgress, rdma exclusive, 0 vfs, WaitingForDrain, fenced with 0 held, reboot 1 refused
        SriovNetworkNodeState desired-state := Idle
        Node state := Idle
        operator: Idle
        status InProgress, rdma exclusive, 0 vfs, WaitingForDrain, reboot 1 refused
        SriovNetworkNodeState desired-state := Reboot_Required
        Node state := Reboot_Required
        operator: Draining
        status InProgress, rdma exclusive, 0 vfs, WaitingForDrain, fenced with 0 held, reboot 1 refused
        operator: DrainComplete
        status InProgress, rdma exclusive, 0 vfs, fenced with 0 held, reboot 1 refused, reboot 1 pending
        status InProgress, rdma exclusive, 0 vfs, fenced with 0 held, reboot 1 refused, reboot 1 pending
        event RebootNode: rebooting for RdmaMode exclusive
        the machine boots
        status Succeeded, rdma exclusive, 0 vfs, fenced with 0 held, reboot 1 refused, reboot 1 helped
        event SyncStatusChanged: Status changed from: InProgress to: Succeeded
        SriovNetworkNodeState desired-state := Idle
        Node state := Idle
        operator: Idle
        plugin: offer 1 []
        status Succeeded, rdma exclusive, 0 vfs, reboot 1 refused, reboot 1 helped
    "#]]);
    assert_eq!(life.machine_says().0, Some(RdmaMode::Exclusive));
    assert!(life.host.read(api::files::RELOAD).is_err());
    expect![[r#"
        RdmaReload exclusive refused: cannot load the RDMA modules again: modprobe: ERROR: could not insert 'mlx5_ib': Cannot allocate memory; load them by hand (modprobe), or reboot the host
        RdmaMode exclusive helped"#]].assert_eq(&records(&life).join("\n"));
    life.assert_quiet();
}

#[test]
fn a_user_of_rdma_in_the_kernel_is_named_and_the_node_reboots() {
    let mut life = gated(Some(Fault::NvmeOverRdma));
    life.wants("exclusive", 0);
    life.settle();
    life.tell(expect![[r#"
        wanted: rdma "exclusive", 0 vfs
        status InProgress, rdma shared, 0 vfs, WaitingForDrain, ReloadRefused
        event SyncStatusChanged: Status changed from:  to: InProgress
        SriovNetworkNodeState desired-state := Reboot_Required
        Node state := Reboot_Required
        operator: Draining
        plugin: offer 1 []
        kubelet: allocatable {}
        status InProgress, rdma shared, 0 vfs, WaitingForDrain, ReloadRefused, fenced with 0 held
        operator: DrainComplete
        status InProgress, rdma shared, 0 vfs, ReloadRefused, fenced with 0 held, reboot 1 pending
        status InProgress, rdma shared, 0 vfs, ReloadRefused, fenced with 0 held, reboot 1 pending
        event RebootNode: rebooting for RdmaMode exclusive
        the machine boots
        status Succeeded, rdma exclusive, 0 vfs, fenced with 0 held, reboot 1 helped
        event SyncStatusChanged: Status changed from: InProgress to: Succeeded
        SriovNetworkNodeState desired-state := Idle
        Node state := Idle
        operator: Idle
        plugin: offer 1 []
        status Succeeded, rdma exclusive, 0 vfs, reboot 1 helped
    "#]]);
    assert_eq!(life.machine_says().0, Some(RdmaMode::Exclusive));
    life.assert_quiet();
}

#[test]
fn a_reload_that_a_module_stops_is_closed_and_the_node_reboots() {
    let mut life = gated(Some(Fault::ModuleStays));
    life.wants("exclusive", 0);
    life.settle();
    life.tell(expect![[r#"
        wanted: rdma "exclusive", 0 vfs
        status InProgress, rdma shared, 0 vfs, WaitingForDrain
        event SyncStatusChanged: Status changed from:  to: InProgress
        SriovNetworkNodeState desired-state := Drain_Required
        Node state := Drain_Required
        operator: Draining
        plugin: offer 1 []
        kubelet: allocatable {}
        status InProgress, rdma shared, 0 vfs, WaitingForDrain, fenced with 0 held
        operator: DrainComplete
        status InProgress, rdma shared, 0 vfs, WaitingForDrain, ReloadRefused, fenced with 0 held, reboot 1 refused
        SriovNetworkNodeState desired-state := Idle
        Node state := Idle
        operator: Idle
        status InProgress, rdma shared, 0 vfs, WaitingForDrain, ReloadRefused, reboot 1 refused
        SriovNetworkNodeState desired-state := Reboot_Required
        Node state := Reboot_Required
        operator: Draining
        status InProgress, rdma shared, 0 vfs, WaitingForDrain, ReloadRefused, fenced with 0 held, reboot 1 refused
        operator: DrainComplete
        status InProgress, rdma shared, 0 vfs, ReloadRefused, fenced with 0 held, reboot 1 refused, reboot 1 pending
        status InProgress, rdma shared, 0 vfs, ReloadRefused, fenced with 0 held, reboot 1 refused, reboot 1 pending
        event RebootNode: rebooting for RdmaMode exclusive
        the machine boots
        status Succeeded, rdma exclusive, 0 vfs, fenced with 0 held, reboot 1 refused, reboot 1 helped
        event SyncStatusChanged: Status changed from: InProgress to: Succeeded
        SriovNetworkNodeState desired-state := Idle
        Node state := Idle
        operator: Idle
        plugin: offer 1 []
        status Succeeded, rdma exclusive, 0 vfs, reboot 1 refused, reboot 1 helped
    "#]]);
    assert_eq!(life.machine_says().0, Some(RdmaMode::Exclusive));
    expect![[r#"
        RdmaReload exclusive refused: cannot reload the RDMA modules for mode exclusive: rmmod: ERROR: Module ib_uverbs is in use; the modules are loaded as they were
        RdmaMode exclusive helped"#]].assert_eq(&records(&life).join("\n"));
    life.assert_quiet();
}

#[test]
fn a_process_with_a_device_open_stops_a_reload_before_anything_is_touched() {
    let mut life = gated(Some(Fault::RdmaProcess));
    life.wants("exclusive", 0);
    life.settle();
    expect![[r#"
        RdmaReload exclusive refused: cannot reload the RDMA modules for mode exclusive: ib_uverbs is in use by process 812
        RdmaMode exclusive helped"#]].assert_eq(&records(&life).join("\n"));
    let unloaded = life.host.journal().iter().filter(|line| line.contains("rmmod")).count();
    assert_eq!(unloaded, 0);
    assert_eq!(life.machine_says().0, Some(RdmaMode::Exclusive));
}

#[test]
fn a_crash_at_any_moment_of_a_reload_ends_at_the_goal_with_every_module_loaded() {
    crash_at_any_moment_between("", ("exclusive", RdmaMode::Exclusive));
}

#[test]
fn a_crash_at_any_moment_of_an_undo_by_reload_ends_in_the_mode_that_the_node_had_before() {
    crash_at_any_moment_between("exclusive", ("", RdmaMode::Shared));
}

fn crash_at_any_moment_between(before: &str, (wanted, mode): (&str, RdmaMode)) {
    let start = || {
        let mut life = gated(None);
        life.wants(before, 2);
        life.settle();
        life
    };
    let boots = start().machine_says().2;
    let (begin, end) = {
        let mut life = start();
        let counting = Crashing::new(life.host.clone(), Death::Unwind);
        let unloads = |life: &Life| {
            let journal = life.host.journal();
            journal.iter().filter(|line| line.contains("rmmod")).count()
        };
        let unloaded = unloads(&life);
        life.wants(wanted, 2);
        let mut begin = 0;
        while life.machine_says().0 != Some(mode) {
            begin = if unloads(&life) > unloaded { begin } else { counting.count() };
            life.turn(&counting);
        }
        (begin, counting.count())
    };
    // The whole turn of the reload, at both sides by turns.
    for primitive in (begin + 1..=end).step_by(((end - begin) / 40).max(1) as usize) {
        let side = if primitive % 2 == 0 { Side::Before } else { Side::After };
        let mut life = start();
        let modules = life.host.machine().modules.clone();
        let dying = Crashing::new(life.host.clone(), Death::Unwind);
        dying.arm(Crash { primitive, side });
        life.wants(wanted, 2);
        if survive(|| life.settle_over(&dying)).is_err() {
            life.world = NodeWorld::default();
            life.daemon = Daemon::new(NODE, NAMESPACE);
            allow(&mut life);
            life.deliver();
            life.settle();
        }
        let story = life.told.join("\n");
        assert_eq!(life.machine_says().0, Some(mode), "{primitive}:\n{story}");
        assert!(life.machine_says().2 <= boots + 1, "{primitive}:\n{story}");
        assert_eq!(life.host.machine().modules, modules, "{primitive}:\n{story}");
        life.assert_quiet();
    }
}
