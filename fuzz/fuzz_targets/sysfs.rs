//! Contents of the kernel's files: the same bytes stand in every file that an operation reads, and in one file of a node that
//! is observed. Nothing may panic; an operation that cannot read what it needs changes nothing, and what cannot be observed
//! is named. A test of `node` sees to it that each file is read, and no other.
#![no_main]

#[path = "../../crates/node/tests/support/kernel_files.rs"]
mod kernel_files;

use host::linux::LinuxHost;
use host::sim::{Broken, Machine, SimHost};
use kernel_files::{COUNT, OBSERVED, OPERATED};
use libfuzzer_sys::fuzz_target;
use std::path::PathBuf;
use std::sync::LazyLock;

static MACHINE: LazyLock<Machine> = LazyLock::new(kernel_files::machine);

/// The first byte says which file it is.
fn observed(data: &[u8]) {
    let Some((first, content)) = data.split_first() else { return };
    let file = OBSERVED[usize::from(*first) % OBSERVED.len()];
    let says = Broken::Says(String::from_utf8_lossy(content).into_owned());
    let mut machine = MACHINE.clone();
    machine.broken.insert(file.to_owned(), says);
    let host = SimHost::new(machine);
    if let Err(error) = node::observe::observe(&host, Vec::new()) {
        assert!(error.to_string().starts_with("cannot observe "), "{file}: {error}");
    }
}

static ROOT: LazyLock<PathBuf> = LazyLock::new(|| {
    let root = std::env::temp_dir().join(format!("ironrail-fuzz-{}", std::process::id()));
    for file in OPERATED.iter().chain([&COUNT]) {
        let path = root.join(&file[1..]);
        std::fs::create_dir_all(path.parent().expect("a file has a directory")).expect("a directory");
    }
    // The VF that an accepted count brings; without it the operation would wait for it, for two minutes.
    let vf = root.join("sys/bus/pci/devices/0000:3b:00.0/virtfn0");
    std::os::unix::fs::symlink("../0000:3b:00.1", vf).expect("a link");
    root
});

fuzz_target!(|data: &[u8]| {
    observed(data);
    for file in OPERATED {
        std::fs::write(ROOT.join(&file[1..]), data).expect("a file");
    }
    let count = ROOT.join(&COUNT[1..]);
    std::fs::write(&count, "0\n").expect("a file");
    let host = LinuxHost::new(&ROOT.to_string_lossy()).expect("a root");
    // The most that a file may say is what a u32 holds; a card that allows none is left alone.
    let set = kernel_files::operate(&host);
    let count = std::fs::read_to_string(count).expect("a file");
    assert_eq!(count, if set.is_ok() { "1" } else { "0\n" }, "{set:?}");
});
