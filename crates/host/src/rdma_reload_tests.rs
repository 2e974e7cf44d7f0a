use super::*;
use crate::sim::{Fault, Machine, SimHost};
use crate::testing::{self, worker, worker_with_vfs};
use expect_test::expect;

fn exclusive(host: &dyn Host) -> Result<Changed, ReloadError> {
    let modules: Vec<String> = stack(host)?;
    reload(host, RdmaMode::Exclusive, &modules)
}

/// The worker with a pod's namespace, in which nobody switches live.
fn with_pod(mut machine: Machine) -> Machine {
    machine.create_namespace("/var/run/netns/a").unwrap();
    machine
}

#[test]
fn the_modules_go_leaves_first_and_come_back_with_the_core_in_the_new_mode() {
    let out = testing::run_twice(with_pod(worker_with_vfs(2)), |host| {
        reload(
            host,
            RdmaMode::Exclusive,
            &["ib_umad", "irdma", "mlx5_ib", "ib_uverbs", "rdma_cm", "ib_core"].map(str::to_owned),
        )
    });
    expect![[r#"
        Yes
            replace /run/ironrail/rdma-reload.json: {"version":1,"mode":"exclusive","modules":["ib_umad","irdma","mlx5_ib","ib_uverbs","rdma_cm","ib_core"]}
            run rmmod ib_umad
            run rmmod irdma
            run rmmod mlx5_ib
            run rmmod ib_uverbs
            run rmmod rdma_cm
            run rmmod ib_core
            run modprobe ib_core netns_mode=0
            run modprobe rdma_cm
            run modprobe ib_uverbs
            run modprobe mlx5_ib
            run modprobe irdma
            remove /run/ironrail/rdma-reload.json
        AlreadyRight
    "#]].assert_eq(&out);
}

#[test]
fn the_ethernet_interfaces_stay_as_they_are_and_every_rdma_device_comes_again() {
    let host = SimHost::new(with_pod(worker_with_vfs(2)));
    let parents = |host: &SimHost| -> Vec<_> {
        host.snapshot().rdma.devices.values().map(|device| device.parent).collect()
    };
    let links = host.snapshot().links;
    let devices = parents(&host);
    assert_eq!(exclusive(&host), Ok(Changed::Yes));
    assert_eq!(host.snapshot().links, links);
    assert_eq!(parents(&host).len(), devices.len());
    assert_eq!(effective(&host), Ok(Some(RdmaMode::Exclusive)));
}

#[test]
fn what_a_reload_would_meet_is_told_in_full() {
    let mut out = String::new();
    for faults in [vec![], vec![Fault::NvmeOverRdma, Fault::PeerMemory]] {
        let machine = faults.into_iter().fold(worker(), Machine::with);
        let mut machine = machine;
        machine.boot();
        let found = look(&SimHost::new(machine)).unwrap();
        let names = found.stack.iter().map(|module| match module.out_of_tree {
            true => format!("{} (out of tree)", module.name),
            false => module.name.clone(),
        });
        let names: Vec<String> = names.collect();
        out.push_str(&format!("{}\n", names.join(" ")));
        out.push_str(&format!("    {:?}\n", found.kernel_users));
    }
    expect![[r#"
        ib_umad irdma mlx5_ib ib_uverbs rdma_cm ib_core
            {"ib_core": ["mlx5_0", "mlx5_1", "mlx5_2", "irdma0", "mlx5_3"]}
        ib_umad irdma mlx5_ib nvidia_peermem (out of tree) ib_uverbs nvme_rdma rdma_cm ib_core
            {"ib_core": ["mlx5_0", "mlx5_1", "mlx5_2", "irdma0", "mlx5_3"], "nvme_rdma": ["mlx5_0"]}
    "#]]
    .assert_eq(&out);
}

#[test]
fn an_ipoib_interface_counts_once_it_has_an_address() {
    let mut machine = Machine::new("ib", crate::sim::Flavour::Rhel, api::Timestamp::UNIX_EPOCH);
    machine.add_connectx7(0x01, 0, true);
    machine.boot();
    let host = SimHost::new(machine);
    assert_eq!(look(&host).unwrap().addressed_ipoib, Vec::<String>::new());
    let link = host.links(&Namespace::Host, &LinkQuery::default()).unwrap().pop().unwrap();
    let change = crate::seam::AddressChange::Add {
        link: link.index,
        address: "10.0.0.9".parse().unwrap(),
        prefix: 24,
    };
    host.change_address(&Namespace::Host, &change).unwrap();
    assert_eq!(look(&host).unwrap().addressed_ipoib, vec![link.name]);
}

#[test]
fn a_user_that_is_no_module_is_named_before_anything_is_touched() {
    let out = testing::run(worker().with(Fault::RdmaProcess), exclusive);
    expect![[r#"
        cannot reload the RDMA modules for mode exclusive: ib_uverbs is in use by process 812
    "#]]
    .assert_eq(&out);
}

#[test]
fn a_module_that_came_after_the_plan_is_named() {
    let out =
        testing::run(worker(), |host| reload(host, RdmaMode::Exclusive, &["ib_core".to_owned()]));
    expect![[r#"
        cannot reload the RDMA modules for mode exclusive: ib_umad needs ib_core too, and was not to be unloaded
    "#]].assert_eq(&out);
}

#[test]
fn where_a_module_stays_the_others_come_back_in_the_old_mode() {
    let host = SimHost::new(with_pod(worker().with(Fault::ModuleStays)));
    let before = testing::essence(&host.snapshot());
    let error = exclusive(&host).unwrap_err();
    expect!["cannot reload the RDMA modules for mode exclusive: rmmod: ERROR: Module ib_uverbs is in use; the modules are loaded as they were"].assert_eq(&error.to_string());
    assert_eq!(testing::essence(&host.snapshot()), before);
    assert_eq!(effective(&host), Ok(Some(RdmaMode::Shared)));
}

#[test]
fn a_record_that_nobody_understands_is_named_and_kept() {
    let host = SimHost::new(worker());
    host.replace(files::RELOAD, b"{}", 0o644).unwrap();
    let error = finish(&host).unwrap_err();
    expect!["the record of a reload in /run/ironrail/rdma-reload.json cannot be understood: missing field `version` at line 1 column 2; load the host's RDMA modules by hand and remove it"].assert_eq(&error.to_string());
}

#[test]
fn from_every_crash_the_next_run_reaches_the_goal() {
    testing::crash_everywhere(with_pod(worker_with_vfs(2)), |host| {
        // What is loaded at the moment of the crash is not what the plan named.
        let modules = ["ib_umad", "irdma", "mlx5_ib", "ib_uverbs", "rdma_cm", "ib_core"];
        reload(host, RdmaMode::Exclusive, &modules.map(str::to_owned))
    });
}

#[test]
fn after_every_crash_finishing_alone_gives_the_host_its_modules_back() {
    use crate::crashing::{Crash, Crashing, Death, Side, survive};
    let machine = with_pod(worker_with_vfs(2));
    let all = machine.modules.clone();
    for primitive in 1.. {
        let host = Crashing::new(SimHost::new(machine.clone()), Death::Unwind);
        host.arm(Crash { primitive, side: Side::After });
        if survive(|| exclusive(&host)).is_ok() {
            assert!(primitive > 20, "the crash is never in the middle");
            return;
        }
        finish(host.inner()).unwrap();
        assert_eq!(host.inner().machine().modules, all, "{primitive}");
    }
}
