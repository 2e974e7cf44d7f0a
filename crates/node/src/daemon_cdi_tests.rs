//! How devices are handed over while the container runtime is silent at the daemon's start, and when it speaks again.

use super::*;
use crate::cdi::Runtime;
use api::files;

/// containerd 1.7 with CDI off, as it answers.
fn without_cdi() -> Runtime {
    Runtime {
        name: "containerd".to_owned(),
        version: "1.7.24".to_owned(),
        configuration: json!({ "enableCDI": false }).to_string(),
    }
}

/// The offer's way, and what the node state says up to its first semicolon.
fn way(life: &Life) -> (bool, String) {
    let by_path = life.in_force.as_ref().unwrap().by_path;
    let said = life.state["status"]["cdi"].as_str().unwrap_or_default();
    (by_path, said.split(';').next().unwrap_or_default().to_owned())
}

/// A new process: it remembers nothing, and the runtime does not answer it.
fn restarted(life: &mut Life) {
    life.daemon = Daemon::new(NODE, NAMESPACE);
    life.world = NodeWorld::default();
    life.deliver();
    life.settle();
}

fn by_path() -> Life {
    let mut life = Life::worker();
    life.world.runtime = Some(without_cdi());
    life.wants("", 2);
    life.settle();
    life
}

const OFF: &str = "off: containerd 1.7.24 has it switched off";

#[test]
fn a_daemon_that_starts_while_the_runtime_is_silent_goes_on_as_before() {
    let mut life = by_path();
    assert_eq!(way(&life), (true, OFF.to_owned()));
    let before = life.in_force.clone();
    restarted(&mut life);
    assert_eq!((life.in_force.clone(), way(&life).1), (before, OFF.to_owned()));
    life.assert_quiet();
}

#[test]
fn after_a_boot_with_a_silent_runtime_the_node_state_knows() {
    let mut life = by_path();
    power_cut(&mut life);
    restarted(&mut life);
    assert_eq!(way(&life), (true, OFF.to_owned()));
    life.assert_quiet();
}

#[test]
fn where_the_last_status_was_not_written_the_offer_counts_and_the_runtimes_word_ends_it() {
    let mut life = by_path();
    life.state["status"]["cdi"] = json!("on: containerd 2.1.4 has it");
    restarted(&mut life);
    assert_eq!(
        way(&life),
        (
            true,
            "off: devices were last given so in this boot, and the container runtime has not answered since"
                .to_owned()
        )
    );
    life.world.runtime = Some(Runtime { version: "2.1.4".to_owned(), ..Runtime::default() });
    life.world.runtime.as_mut().unwrap().name = "containerd".to_owned();
    life.settle();
    assert_eq!(way(&life), (false, "on: containerd 2.1.4 has it".to_owned()));
    life.assert_quiet();
}

#[test]
fn use_cdi_false_is_said_as_such_until_it_is_taken_out() {
    let mut life = settled("", 2);
    life.world.runtime = Some(Runtime { name: "cri-o".to_owned(), ..Runtime::default() });
    life.world.config.spec.use_cdi = Some(false);
    life.settle();
    let off = "off: SriovOperatorConfig/default says useCDI: false, take it out".to_owned();
    assert_eq!(way(&life), (true, off));
    life.world.config.spec.use_cdi = None;
    life.settle();
    assert!(!way(&life).0 && way(&life).1.starts_with("on: cri-o"), "{:?}", way(&life));
    life.assert_quiet();
}

#[test]
fn a_kubelet_that_keeps_names_to_itself_has_devices_given_by_path_whatever_the_runtime_says() {
    let mut life = settled("", 2);
    life.node["status"]["nodeInfo"] = json!({ "kubeletVersion": "v1.30.4" });
    life.deliver();
    let gate = |value| Some(Ok([("DevicePluginCDIDevices".to_owned(), value)].into()));
    life.world.gates = gate(false);
    life.settle();
    let sentence = "off: the kubelet v1.30.4 has its feature gate DevicePluginCDIDevices switched off, so it keeps CDI names from the runtime";
    assert_eq!(way(&life), (true, sentence.to_owned()));
    life.world.gates = gate(true);
    life.world.runtime = Some(Runtime { name: "cri-o".to_owned(), ..Runtime::default() });
    life.settle();
    assert!(!way(&life).0);
    life.assert_quiet();
}

/// A probe takes numbers of character devices and frees them, between the two moments in which an ADD does.
#[test]
fn by_path_no_vf_is_made_anew_while_an_add_moves_an_rdma_device() {
    let vfs = |life: &Life| life.host.machine().vfs_of(&"0000:03:00.0".parse().unwrap()).len();
    let mut told = Vec::new();
    for is_by_path in [true, false] {
        let mut life = if is_by_path { by_path() } else { settled("", 2) };
        let add = life.host.process().lock(files::RDMA_LOCK, Duration::ZERO).unwrap();
        life.wants("", 4);
        life.settle();
        let error = life.state["status"]["lastSyncError"].as_str().unwrap_or_default().to_owned();
        told.push(format!("by path {is_by_path}: {} VFs, {error:?}", vfs(&life)));
        drop(add);
        life.host.wait(&[], Duration::from_secs(60));
        life.settle();
        told.push(format!("then {} VFs", vfs(&life)));
    }
    expect![[r#"
        by path true: 2 VFs, "a pod's RDMA device is being moved since 2 s (/var/run/cni/ib-sriov/cni.lock is locked), and devices are given by path; trying again later"
        then 4 VFs
        by path false: 4 VFs, ""
        then 4 VFs"#]]
    .assert_eq(&told.join("\n"));
}
