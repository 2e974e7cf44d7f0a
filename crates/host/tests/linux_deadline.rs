//! Changes that the kernel does not come back from. A pipe stands in for sysfs: it blocks its writer until somebody reads.

#![allow(clippy::unwrap_used)] // Helpers of tests may, as the tests do.

use expect_test::expect;
use host::linux::LinuxHost;
use host::seam::{Host, LinkQuery, Namespace, Refusal};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_millis(1100);
const COUNT: &str = "/sys/bus/pci/devices/0000:3b:00.0/sriov_numvfs";

/// Two cards; the first has a VF, and its count is a pipe.
fn tree() -> (TempDir, LinuxHost, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let devices = directory.path().join("sys/bus/pci/devices");
    for function in ["0000:3b:00.0", "0000:3b:00.1", "0000:3b:02.0", "0000:5e:00.0"] {
        fs::create_dir_all(devices.join(function)).unwrap();
        fs::write(devices.join(function).join("driver_override"), "(null)\n").unwrap();
        fs::write(devices.join(function).join("vendor"), "0x15b3\n").unwrap();
    }
    std::os::unix::fs::symlink("../0000:3b:00.0", devices.join("0000:3b:02.0/physfn")).unwrap();
    fs::write(devices.join("0000:5e:00.0/sriov_numvfs"), "0\n").unwrap();
    let pipe = devices.join("0000:3b:00.0/sriov_numvfs");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    let host = LinuxHost::new(directory.path().to_str().unwrap()).unwrap().patient_for(PATIENCE);
    (directory, host, pipe)
}

fn said<T: std::fmt::Debug>(outcome: Result<T, Refusal>) -> String {
    // The time of day is the one thing that differs from run to run.
    let text = outcome.unwrap_err().to_string();
    let (before, after) = text.split_once(" since ").unwrap_or((&text, ""));
    match after.split_once('Z') {
        Some((_, after)) => format!("{before} since T{after}"),
        None => text,
    }
}

fn read_pipe(pipe: &Path) -> String {
    let mut text = String::new();
    fs::File::open(pipe).unwrap().read_to_string(&mut text).unwrap();
    text
}

#[test]
fn a_write_that_blocks_is_given_up_and_nothing_else_is_begun_on_its_card_until_it_is_back() {
    let (_directory, host, pipe) = tree();
    let begun = Instant::now();
    expect!["write 0 to /sys/bus/pci/devices/0000:3b:00.0/sriov_numvfs: timed out (after 1 s the kernel is still at it and cannot be stopped; a process or a connection uses a device of the card: end it (see /dev/infiniband, rdma resource show), or reboot the node)"]
        .assert_eq(&said(host.write(COUNT, "0")));
    assert!(begun.elapsed() >= PATIENCE);
    let late = host.unfinished();
    assert_eq!(late.len(), 1);
    assert_eq!(late[0].card.unwrap().to_string(), "0000:3b:00.0");
    // What must not be begun is refused at once.
    let asked = Instant::now();
    let functions = ["0000:3b:00.0", "0000:3b:00.1", "0000:3b:02.0"];
    let file = |function: &str| format!("/sys/bus/pci/devices/{function}/driver_override");
    for function in functions {
        let refused = said(host.write(&file(function), "vfio-pci"));
        assert!(
            refused.starts_with(&format!(
                "write vfio-pci to {}: operation already in progress",
                file(function)
            )),
            "{refused}"
        );
    }
    expect!["write 0000:3b:02.0 to /sys/bus/pci/drivers/mlx5_core/unbind: operation already in progress (the kernel has been at \"write 0 to /sys/bus/pci/devices/0000:3b:00.0/sriov_numvfs\" since T)"]
        .assert_eq(&said(host.write("/sys/bus/pci/drivers/mlx5_core/unbind", "0000:3b:02.0")));
    expect!["read /sys/bus/pci/devices/0000:3b:00.0/sriov_numvfs: operation already in progress (the kernel has been at \"write 0 to /sys/bus/pci/devices/0000:3b:00.0/sriov_numvfs\" since T)"]
        .assert_eq(&said(host.read(COUNT)));
    expect!["ask devlink about 0000:3b:00.1: operation already in progress (the kernel has been at \"write 0 to /sys/bus/pci/devices/0000:3b:00.0/sriov_numvfs\" since T)"]
        .assert_eq(&said(host.devlink(&"0000:3b:00.1".parse().unwrap())));
    // What does not wait for the change, and other cards, go on.
    assert_eq!(host.read("/sys/bus/pci/devices/0000:3b:00.0/vendor").unwrap(), b"0x15b3\n");
    host.write("/sys/bus/pci/devices/0000:5e:00.0/sriov_numvfs", "4").unwrap();
    assert!(asked.elapsed() < PATIENCE);
    // It comes back, and the card is open again.
    assert_eq!(read_pipe(&pipe), "0");
    while !host.unfinished().is_empty() {
        std::thread::sleep(Duration::from_millis(1));
    }
    host.write(&file("0000:3b:02.0"), "vfio-pci").unwrap();
}

#[test]
fn a_write_that_is_answered_in_time_is_not_held_against_the_card() {
    let (_directory, host, pipe) = tree();
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| read_pipe(&pipe));
        host.write(COUNT, "4").unwrap();
        assert_eq!(reader.join().unwrap(), "4");
    });
    assert!(host.unfinished().is_empty());
}

/// A pipe in the place of a pod's namespace: opening it waits for somebody who never comes, as a question does behind a
/// lock that is never given back.
#[test]
fn a_question_that_is_not_answered_is_given_up_and_what_would_wait_behind_it_is_refused_at_once() {
    let (directory, host, _) = tree();
    let spaces = directory.path().join("run/netns");
    fs::create_dir_all(&spaces).unwrap();
    mknodat(CWD, spaces.join("pod"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    fs::create_dir_all(directory.path().join("sys/module/ib_core")).unwrap();
    let pod = Namespace::At("/run/netns/pod".to_owned());
    expect!["list the rdma devices of namespace /run/netns/pod: timed out (after 1 s the kernel is still at it and cannot be stopped; a process or a connection uses a device of the card: end it (see /dev/infiniband, rdma resource show), or reboot the node)"]
        .assert_eq(&said(host.rdma_devices(&pod)));
    let asked = Instant::now();
    for refused in [
        said(host.links(&pod, &LinkQuery::default())),
        said(host.rdma_users(&pod)),
        said(host.addresses(&pod, None)),
        said(host.routes(&pod)),
        said(host.set_sysctl(&pod, "net/ipv4/conf/net1/arp_notify", "1")),
        said(host.rdma_mode()),
    ] {
        assert!(
            refused.ends_with(
                ": operation already in progress (the kernel has been at \"list the rdma devices of namespace /run/netns/pod\" since T)"
            ),
            "{refused}"
        );
    }
    assert!(asked.elapsed() < PATIENCE);
    // The card has nothing to do with it.
    host.write("/sys/bus/pci/devices/0000:5e:00.0/sriov_numvfs", "4").unwrap();
    // The kernel answers after all: the pipe is no namespace, and the way is free again.
    fs::OpenOptions::new().write(true).open(spaces.join("pod")).unwrap();
    while !host.unfinished().is_empty() {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(said(host.routes(&Namespace::Host)).contains("no such file or directory"));
}

/// Somebody else's write hangs, so nothing of ours is unfinished: the one who reads waits for the device's lock, not long.
#[test]
fn a_read_that_waits_for_somebody_elses_write_is_given_up_and_bars_its_card_only() {
    let (_directory, host, pipe) = tree();
    let begun = Instant::now();
    expect!["read /sys/bus/pci/devices/0000:3b:00.0/sriov_numvfs: timed out (after 1 s the kernel is still at it and cannot be stopped; a process or a connection uses a device of the card: end it (see /dev/infiniband, rdma resource show), or reboot the node)"]
        .assert_eq(&said(host.read(COUNT)));
    assert!(begun.elapsed() >= PATIENCE);
    let asked = Instant::now();
    expect!["read /sys/bus/pci/devices/0000:3b:00.0/sriov_numvfs: operation already in progress (the kernel has been at \"read /sys/bus/pci/devices/0000:3b:00.0/sriov_numvfs\" since T)"]
        .assert_eq(&said(host.read(COUNT)));
    expect!["write vfio-pci to /sys/bus/pci/devices/0000:3b:02.0/driver_override: operation already in progress (the kernel has been at \"read /sys/bus/pci/devices/0000:3b:00.0/sriov_numvfs\" since T)"]
        .assert_eq(&said(host.write("/sys/bus/pci/devices/0000:3b:02.0/driver_override", "vfio-pci")));
    let other = "/sys/bus/pci/devices/0000:5e:00.0/sriov_numvfs";
    assert_eq!(host.read(other).unwrap(), b"0\n");
    assert_eq!(host.unfinished().len(), 1);
    assert!(asked.elapsed() < PATIENCE);
    // Their write ends, and the card is open again.
    fs::write(&pipe, "0\n").unwrap();
    while !host.unfinished().is_empty() {
        std::thread::sleep(Duration::from_millis(1));
    }
    host.write("/sys/bus/pci/devices/0000:3b:02.0/driver_override", "vfio-pci").unwrap();
}
