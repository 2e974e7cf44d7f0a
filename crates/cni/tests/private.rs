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
    find /run /var/lib -type f ! -name '*.lock' | sed 's/^/left: /' >&2
    exit $status"#;

/// ADD of the plugin `sriov` on such a node, for a device that no machine has.
fn check(pod: &Space, before: &str, expected: Expect) {
    let Namespace::At(path) = pod.namespace() else { panic!("a namespace has a path") };
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("sriov");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_ironrail-cni"), &program).unwrap();
    let environment = [
        ("CNI_COMMAND", "ADD"),
        ("CNI_CONTAINERID", "a"),
        ("CNI_NETNS", path.as_str()),
        ("CNI_IFNAME", "net1"),
        ("CNI_PATH", "/opt/cni/bin"),
    ];
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", NODE]).arg(&program).arg(before).envs(environment);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let stdin = r#"{"cniVersion":"1.1.0","name":"blue","type":"sriov","deviceID":"fffe:ff:1f.7"}"#;
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap().replace(&path, "POD");
    let status = output.status.code().unwrap();
    let (stdout, stderr) = (text(output.stdout), text(output.stderr));
    expected.assert_eq(&format!("exit {status}\n{stdout}{stderr}"));
}

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
