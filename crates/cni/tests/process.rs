//! The binary as a runtime starts it: by the name of a plugin, with an environment and stdin. Needs no privilege,
//! since everything here is refused or answered before the machine is touched.

#![allow(clippy::unwrap_used)] // every function here is part of a test

use expect_test::{Expect, expect};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

fn check(
    plugin: &str,
    arguments: &[&str],
    environment: &[(&str, &str)],
    stdin: &str,
    expected: Expect,
) {
    expected.assert_eq(&run(plugin, arguments, environment, stdin));
}

/// Starts the binary under a plugin's name and returns exit status, stdout and stderr.
fn run(plugin: &str, arguments: &[&str], environment: &[(&str, &str)], stdin: &str) -> String {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join(plugin);
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_ironrail-cni"), &program).unwrap();
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(environment.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that does not read closes the pipe; that is its right.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    let output = child.wait_with_output().unwrap();
    format!(
        "exit {}\n{}{}",
        output.status.code().unwrap(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

#[test]
fn the_version_of_the_specification_is_told_without_input() {
    check(
        "sriov",
        &[],
        &[("CNI_COMMAND", "VERSION")],
        "",
        expect![[r#"
        exit 0
        {"cniVersion":"1.1.0","supportedVersions":["0.1.0","0.2.0","0.3.0","0.3.1","0.4.0","1.0.0","1.1.0"]}
    "#]],
    );
}

#[test]
fn the_version_of_the_program_is_told_to_people() {
    check(
        "rdma",
        &["--version"],
        &[],
        "",
        expect![[r#"
        exit 0
        ironrail-cni 0.1.0
    "#]],
    );
}

#[test]
fn an_error_is_json_on_stdout_a_line_on_stderr_and_exit_1() {
    check(
        "rdma",
        &[],
        &[],
        "",
        expect![[r#"
        exit 1
        {"code":4,"msg":"required env variables [CNI_COMMAND] missing"}
        error: required env variables [CNI_COMMAND] missing
    "#]],
    );
    let environment = [("CNI_COMMAND", "STATUS"), ("CNI_PATH", "/opt/cni/bin")];
    check(
        "ib-sriov",
        &[],
        &environment,
        "{",
        expect![[r#"
        exit 1
        {"code":6,"msg":"cannot read the network configuration on stdin: EOF while parsing an object at line 1 column 1"}
        error: cannot read the network configuration on stdin: EOF while parsing an object at line 1 column 1
    "#]],
    );
}

#[test]
fn a_namespace_path_that_leads_to_no_namespace_is_refused_by_the_real_kernel_too() {
    let directory = tempfile::tempdir().unwrap();
    let link = |name: &str, target: &str| {
        let path = directory.path().join(name);
        std::os::unix::fs::symlink(target, &path).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let told = |path: &str, code: u32, expected: &str| {
        let environment = [
            ("CNI_COMMAND", "ADD"),
            ("CNI_CONTAINERID", "a"),
            ("CNI_NETNS", path),
            ("CNI_IFNAME", "net1"),
            ("CNI_PATH", "/opt/cni/bin"),
        ];
        let stdin =
            r#"{"cniVersion":"1.1.0","name":"blue","type":"sriov","deviceID":"0000:3b:00.2"}"#;
        let said = run("sriov", &[], &environment, stdin);
        let expected = format!(r#""code":{code},"msg":"{}""#, expected.replace("PATH", path));
        assert!(said.contains(&expected), "{said}\n{expected}");
    };
    let none = "cannot use CNI_NETNS PATH: it is not a network namespace";
    told("/etc/hostname", 8, none);
    told("/proc/self/ns/uts", 8, none);
    told(&link("to-a-file", "/etc/hostname"), 8, none);
    told(
        &link("to-nothing", "/nowhere"),
        8,
        "cannot use CNI_NETNS PATH: no such file or directory",
    );
    let own = "CNI_NETNS PATH is the host's own network namespace; a pod needs one of its own";
    told(&link("to-the-hosts", "/proc/self/ns/net"), 8, own);
}

/// A process with a network namespace of its own, until it is dropped.
struct Pod(Child);

impl Drop for Pod {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A namespace of its own is there only for who may make one: the kernel lets anybody make one inside a user namespace,
/// where a distribution does not forbid that.
#[test]
fn a_symlink_that_leads_to_a_network_namespace_is_followed() {
    let child = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "sh", "-c", "echo ready && exec sleep 60"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pod = Pod(child);
    let mut word = String::new();
    BufReader::new(pod.0.stdout.take().unwrap()).read_line(&mut word).unwrap();
    if word.trim() != "ready" {
        let why = "this machine lets nobody make a network namespace";
        let required = std::env::var("IRONRAIL_REQUIRE").unwrap_or_default();
        let required = required.split(',').any(|word| word == "root");
        assert!(!required, "{why}, and IRONRAIL_REQUIRE asks for root");
        // To standard error itself: the test harness swallows what `eprintln!` says.
        let _ = writeln!(std::io::stderr(), "SKIPPED: {why}; it takes root");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (path, again) = (directory.path().join("pod"), directory.path().join("again"));
    std::os::unix::fs::symlink(format!("/proc/{}/ns/net", pod.0.id()), &path).unwrap();
    std::os::unix::fs::symlink(&path, &again).unwrap();
    let told = |path: &Path| {
        let environment = [
            ("CNI_COMMAND", "ADD"),
            ("CNI_CONTAINERID", "a"),
            ("CNI_NETNS", path.to_str().unwrap()),
            ("CNI_IFNAME", "net1"),
            ("CNI_PATH", "/opt/cni/bin"),
        ];
        // No machine has this device: what is refused is past the namespace.
        let stdin =
            r#"{"cniVersion":"1.1.0","name":"blue","type":"sriov","deviceID":"fffe:ff:1f.7"}"#;
        run("sriov", &[], &environment, stdin)
    };
    let said = [told(&path), told(&again)];
    assert_eq!(said[0], said[1]);
    expect![[r#"
        exit 1
        {"cniVersion":"1.1.0","code":999,"msg":"there is no PCI device fffe:ff:1f.7 on this node"}
        error: there is no PCI device fffe:ff:1f.7 on this node
    "#]]
    .assert_eq(&said[0]);
}

#[test]
fn a_namespace_that_is_not_there_is_refused_by_the_real_kernel_too() {
    let environment = [
        ("CNI_COMMAND", "ADD"),
        ("CNI_CONTAINERID", "a"),
        ("CNI_NETNS", "/nowhere/netns"),
        ("CNI_IFNAME", "net1"),
        ("CNI_PATH", "/opt/cni/bin"),
    ];
    let stdin = r#"{"cniVersion":"1.1.0","name":"blue","type":"sriov","deviceID":"0000:3b:00.2"}"#;
    check(
        "sriov",
        &[],
        &environment,
        stdin,
        expect![[r#"
        exit 1
        {"cniVersion":"1.1.0","code":8,"msg":"cannot use CNI_NETNS /nowhere/netns: no such file or directory"}
        error: cannot use CNI_NETNS /nowhere/netns: no such file or directory
    "#]],
    );
}

/// Plugins of many pods end at once and have one log file; each adds its line, and none is lost.
#[test]
fn lines_of_plugins_that_end_at_once_are_all_in_the_log_file() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("logs/sriov.log");
    std::fs::create_dir(directory.path().join("logs")).unwrap();
    let stdin = format!(
        r#"{{"cniVersion":"1.1.0","name":"blue","type":"sriov","deviceID":"none","logFile":"{}"}}"#,
        log.display()
    );
    let environment = [
        ("CNI_COMMAND", "ADD"),
        ("CNI_CONTAINERID", "a"),
        ("CNI_NETNS", "/nowhere/netns"),
        ("CNI_IFNAME", "net1"),
        ("CNI_PATH", "/opt/cni/bin"),
    ];
    std::thread::scope(|scope| {
        for _ in 0..40 {
            scope.spawn(|| run("sriov", &[], &environment, &stdin));
        }
    });
    let lines = std::fs::read_to_string(&log).unwrap();
    assert_eq!(lines.lines().filter(|line| line.starts_with("error: deviceID")).count(), 40);
    assert_eq!(lines.lines().count(), 40, "{lines}");
}
