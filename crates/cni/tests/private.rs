//! The binary over the running kernel, on a node of its own: directories in a private mount namespace, pods in private
//! network namespaces. What it is refused there is the kernel's own refusal.

#![allow(clippy::unwrap_used)] // every function here is part of a test

#[path = "../../host/tests/support/mod.rs"]
mod support;

use expect_test::{Expect, expect};
use host::Namespace;
use std::io::Write as _;
use std::process::{Command, Stdio};
use support::{Space, private_space};

/// The node's directories: empty, then as `$1` makes them; what lies in them afterwards is told too. Locks are there to stay.
const NODE: &str = r#"
    mount -t tmpfs tmpfs /run && mount -t tmpfs -o nr_inodes=100 tmpfs /var/lib && eval "$1" || exit 99
    "$0"; status=$?
    find /run /var/lib -type f ! -name '*.lock' | sort | sed 's/^/left: /' >&2
    exit $status"#;

/// A plugin's call on such a node, for a device that no machine has; `more` are fields of the configuration.
fn call(pod: &Space, verb: &str, plugin: &str, more: &str, before: &str) -> String {
    let Namespace::At(path) = pod.namespace() else { panic!("a namespace has a path") };
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join(plugin);
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_ironrail-cni"), &program).unwrap();
    let environment = [
        ("CNI_COMMAND", verb),
        ("CNI_CONTAINERID", "a"),
        ("CNI_NETNS", path.as_str()),
        ("CNI_IFNAME", "net1"),
        ("CNI_PATH", "/run/bin"),
    ];
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", NODE]).arg(&program).arg(before).envs(environment);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let stdin = format!(
        r#"{{"cniVersion":"1.1.0","name":"blue","type":"{plugin}","deviceID":"fffe:ff:1f.7"{more}}}"#
    );
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap().replace(&path, "POD");
    let status = output.status.code().unwrap();
    let (stdout, stderr) = (text(output.stdout), text(output.stderr));
    format!("exit {status}\n{stdout}{stderr}")
}

/// ADD of the plugin `sriov`.
fn check(pod: &Space, before: &str, expected: Expect) {
    expected.assert_eq(&call(pod, "ADD", "sriov", "", before));
}

/// An IPAM plugin that leaves a file for each verb that it is called with.
const IPAM: &str = r#"mkdir /run/bin && printf '#!/bin/sh\n: > /run/called-%s\n' '$CNI_COMMAND' > /run/bin/fake && chmod +x /run/bin/fake"#;
const WITH_IPAM: &str = r#","ipam":{"type":"fake"}"#;

#[test]
fn an_interface_name_that_is_taken_in_the_pod_is_refused_and_the_interface_left_alone() {
    let Some(pod) = private_space() else { return };
    pod.veth("net1", "peer");
    let before = pod.index("net1");
    check(
        &pod,
        "true",
        expect![[r#"
        exit 1
        {"cniVersion":"1.1.0","code":999,"msg":"the pod's network namespace POD already has an interface net1; it is left alone"}
        error: the pod's network namespace POD already has an interface net1; it is left alone
    "#]],
    );
    assert_eq!(pod.index("net1"), before);
}

#[test]
fn a_state_directory_that_became_read_only_is_named() {
    let Some(pod) = private_space() else { return };
    check(
        &pod,
        "mount -o remount,ro /var/lib",
        expect![[r#"
        exit 1
        {"cniVersion":"1.1.0","code":5,"msg":"cannot lock fffe:ff:1f.7 by /var/lib/cni/sriov/pci/vf_lock/fffe:ff:1f.7.lock: read-only file system"}
        error: cannot lock fffe:ff:1f.7 by /var/lib/cni/sriov/pci/vf_lock/fffe:ff:1f.7.lock: read-only file system
    "#]],
    );
}

#[test]
fn a_disk_without_room_for_a_lock_is_named() {
    let Some(pod) = private_space() else { return };
    let full = "for n in $(seq 98); do : > /var/lib/$n.lock; done";
    check(
        &pod,
        full,
        expect![[r#"
        exit 1
        {"cniVersion":"1.1.0","code":5,"msg":"cannot lock fffe:ff:1f.7 by /var/lib/cni/sriov/pci/vf_lock/fffe:ff:1f.7.lock: no space left on device"}
        error: cannot lock fffe:ff:1f.7 by /var/lib/cni/sriov/pci/vf_lock/fffe:ff:1f.7.lock: no space left on device
    "#]],
    );
}

#[test]
fn del_of_what_nobody_knows_gives_the_addresses_back() {
    let Some(pod) = private_space() else { return };
    let told = ["sriov", "ib-sriov"].map(|plugin| call(&pod, "DEL", plugin, WITH_IPAM, IPAM));
    expect![[r#"
        exit 0
        left: /run/bin/fake
        left: /run/called-DEL
        exit 0
        left: /run/bin/fake
        left: /run/called-DEL
    "#]]
    .assert_eq(&told.concat());
}

#[test]
fn status_asks_the_program_that_gives_addresses() {
    let Some(pod) = private_space() else { return };
    expect![[r#"
        exit 0
        left: /run/bin/fake
        left: /run/called-STATUS
    "#]]
    .assert_eq(&call(&pod, "STATUS", "sriov", WITH_IPAM, IPAM));
    expect![[r#"
        exit 1
        {"cniVersion":"1.1.0","code":50,"msg":"IPAM plugin fake failed at STATUS: no addresses are left"}
        error: IPAM plugin fake failed at STATUS: no addresses are left
        left: /run/bin/fake
    "#]]
    .assert_eq(&call(
        &pod,
        "STATUS",
        "sriov",
        WITH_IPAM,
        &IPAM.replace(": > /run/called-%s", "echo no addresses are left >&2; exit 1 # %s"),
    ));
}

#[test]
fn without_the_rdma_subsystem_the_plugin_rdma_says_so() {
    let Some(pod) = private_space() else { return };
    if std::fs::exists("/sys/module/ib_core").unwrap() {
        return support::skip("root", "ib_core is loaded here, so that nobody misses it");
    }
    let chain = r#","prevResult":{"interfaces":[{"name":"net1"}]}"#;
    expect![[r#"
        exit 1
        {"cniVersion":"1.1.0","code":999,"msg":"cannot find out the mode of the RDMA subsystem of this node; is ib_core loaded? (protocol not supported)"}
        error: cannot find out the mode of the RDMA subsystem of this node; is ib_core loaded? (protocol not supported)
    "#]]
    .assert_eq(&call(&pod, "ADD", "rdma", chain, "true"));
    expect![[r#"
        exit 0
    "#]]
    .assert_eq(&call(&pod, "DEL", "rdma", chain, "true"));
}

/// The VF went with its card, and whoever had it is not valid any more.
#[test]
fn gc_forgets_a_device_that_there_is_no_more() {
    let Some(pod) = private_space() else { return };
    let record = r#"{"version":1,"bootId":"%s","device":"fffe:ff:1f.7","owner":{"container":"a","interface":"net1","network":"blue"},"since":"2026-01-01T00:00:00Z","vf":{"pf":"fffe:ff:1f.0","index":6,"before":{},"wanted":{},"link":{"name":"enp0v6","address":"02:00:00:00:00:01","mtu":1500,"up":false}}}"#;
    let journal = "/var/lib/ironrail/cni";
    let before = format!(
        "mkdir -p {journal} && printf '{record}' $(cat /proc/sys/kernel/random/boot_id) > {journal}/fffe:ff:1f.7.json"
    );
    let lists = [r#"[{"containerID":"a","ifname":"net1"}]"#, "[]"]
        .map(|list| format!(r#","cni.dev/valid-attachments":{list}"#));
    let told = lists.map(|list| call(&pod, "GC", "sriov", &list, &before));
    expect![[r#"
        exit 0
        left: /var/lib/ironrail/cni/fffe:ff:1f.7.json
        exit 0
        warning: fffe:ff:1f.7 does not exist any more
        info: fffe:ff:1f.7 is home by GC
    "#]]
    .assert_eq(&told.concat());
}
