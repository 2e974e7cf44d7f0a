//! The node's commands as processes: what they do, what they refuse, and the words they use.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a process is killed here, and what it leaves are files of this computer"
)]

use clap::CommandFactory;
use expect_test::{Expect, expect};
use host::Host;
use host::linux::LinuxHost;
use host::sim::{Flavour, Machine, SimHost};
use node::process::{Arguments, Process, run};
use node::wake::Pace;
use std::collections::BTreeMap;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

fn host() -> SimHost {
    let clock = api::Timestamp::UNIX_EPOCH;
    SimHost::threaded(Machine::small_worker("worker-0", Flavour::Rhel, clock))
}

/// Runs a command to its end, in an image that has one file.
async fn ends(host: &SimHost, arguments: &[&str]) -> String {
    let (_stop, stop) = watch::channel(false);
    let process = Process {
        arguments: ["ironrail-node"].iter().chain(arguments).map(|s| (*s).to_owned()).collect(),
        environment: BTreeMap::new(),
        cluster: None,
        host: Arc::new(host.clone()),
        kubelet: PathBuf::from("/nowhere"),
        root: PathBuf::from("/nowhere"),
        pace: Pace::Every(Duration::from_millis(10)),
        image: Box::new(|path| match path {
            "/usr/bin/ironrail-cni" => Ok(b"ELF".to_vec()),
            _ => Err(io::Error::from(io::ErrorKind::NotFound)),
        }),
        log: Box::new(io::sink()),
        stop,
    };
    match run(process).await {
        Ok(()) => "ended well".to_owned(),
        Err(error) => format!("{error:#}"),
    }
}

async fn check(arguments: &[&str], expected: Expect) {
    expected.assert_eq(&ends(&host(), arguments).await);
}

#[tokio::test]
async fn install_cni_puts_the_binary_under_each_name() {
    let host = host();
    assert_eq!(ends(&host, &["install-cni", "--to", "/opt/cni/bin/"]).await, "ended well");
    for plugin in ["sriov", "ib-sriov", "rdma"] {
        assert_eq!(host.read(&format!("/opt/cni/bin/{plugin}")).unwrap(), b"ELF");
    }
}

/// The kernel kills a process that writes past its limit for files (SIGXFSZ): a death in the middle of a replacement.
#[test]
fn what_a_killed_installation_left_goes_with_the_next_one() {
    let directory = tempfile::tempdir().unwrap();
    let at = |path: &str| directory.path().join(path);
    std::fs::create_dir_all(at("opt/cni/bin")).unwrap();
    std::fs::write(at("plugin"), vec![7; 100_000]).unwrap();
    std::fs::write(at("opt/cni/bin/.bridge.7.0.new"), "somebody else's").unwrap();
    let install = |limit: &str| {
        let command =
            format!("ulimit -c 0; ulimit -f {limit}; exec \"$0\" install-cni --from \"$1\"");
        let mut shell = std::process::Command::new("sh");
        shell.arg("-c").arg(command).arg(env!("CARGO_BIN_EXE_ironrail-node")).arg(at("plugin"));
        shell.env("HOST_ROOT", directory.path()).output().unwrap().status
    };
    let there = || {
        LinuxHost::new(directory.path().to_str().unwrap()).unwrap().list("/opt/cni/bin").unwrap()
    };
    let killed = install("16");
    assert_eq!(killed.signal(), Some(25), "{killed}");
    let left = there();
    assert!(left.len() == 2 && left[1].starts_with(".sriov."), "{left:?}");
    assert!(install("unlimited").success());
    assert_eq!(there(), [".bridge.7.0.new", "ib-sriov", "rdma", "sriov"]);
    assert_eq!(std::fs::read(at("opt/cni/bin/sriov")).unwrap().len(), 100_000);
}

#[tokio::test]
async fn install_cni_names_a_binary_that_is_not_there() {
    check(&["install-cni", "--from", "/x"], expect!["cannot read /x: entity not found"]).await;
}

#[tokio::test]
async fn the_boot_phases_need_no_cluster_and_a_host_without_systemd_is_named() {
    check(&["boot", "pre"], expect!["ended well"]).await;
    check(&["install-boot", "--from", "/usr/bin/ironrail-cni"], expect!["cannot install the boot phases: this host has no systemd (/run/systemd/system is not there); without them the daemon sets mode and VFs after the container runtime has started"]).await;
}

#[tokio::test]
async fn a_daemon_without_a_node_says_what_to_set() {
    check(&["daemon"], expect!["cannot tell which node this is: set NODE_NAME or --node-name"])
        .await;
}

#[test]
fn the_help_teaches() {
    let help = Arguments::command().render_long_help().to_string();
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in ["daemon", "device-plugin", "install-cni", "describe sriovnetworknodestate NODE"] {
        assert!(help.contains(part), "{part} is not in:\n{help}");
    }
}
