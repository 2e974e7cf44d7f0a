//! The list of files that the fuzz target `sysfs` breaks, against what is read.

#![allow(clippy::unwrap_used)] // every function here is part of a test

#[path = "support/kernel_files.rs"]
mod kernel_files;
#[allow(dead_code)] // It tampers too.
#[path = "../../cni/tests/scenarios/tampering.rs"]
mod tampering;

use host::Host;
use host::linux::LinuxHost;
use host::sim::SimHost;
use kernel_files::{COUNT, OBSERVED, OPERATED};
use std::collections::BTreeSet;
use std::os::unix::fs::symlink;
use tampering::Tampering;

/// The files that were read of the host meanwhile.
fn read_by(host: &dyn Host, work: impl FnOnce(&dyn Host)) -> BTreeSet<String> {
    let listening = Tampering::listening(host);
    work(&listening);
    let heard = listening.heard().into_iter();
    heard.filter_map(|asked| Some(asked.strip_prefix("read /")?.to_owned())).collect()
}

fn listed(files: &[&str]) -> BTreeSet<String> {
    files.iter().map(|file| file.trim_start_matches('/').to_owned()).collect()
}

#[test]
fn each_file_that_the_daemon_reads_is_broken_once_and_no_other() {
    let host = SimHost::new(kernel_files::machine());
    let read = read_by(&host, |host| drop(node::observe::observe(host, Vec::new()).unwrap()));
    assert_eq!(read, listed(&OBSERVED));
}

/// Links are no files: `the link …` is another question.
#[test]
fn each_file_that_the_operations_read_is_broken_and_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let host = LinuxHost::new(directory.path().to_str().unwrap()).unwrap();
    let mut read = BTreeSet::new();
    for content in ["4\n", "b 4\n"] {
        for file in OPERATED {
            host.replace(file, content.as_bytes(), 0o600).unwrap();
        }
        host.replace(COUNT, b"0\n", 0o600).unwrap();
        let pf = directory.path().join("sys/bus/pci/devices/0000:3b:00.0");
        let _ = symlink("../0000:3b:00.1", pf.join("virtfn0"));
        read.extend(read_by(&host, |host| drop(kernel_files::operate(host))));
    }
    let mut all = listed(&OPERATED);
    all.extend(listed(&[COUNT]));
    assert_eq!(read, all);
}
