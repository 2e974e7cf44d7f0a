//! What a runtime gives a plugin: the environment in the first line, words apart by `|`, and stdin below it. What
//! begins with a zero is a file of somebody else's that the plugins read: which one, then what is in it.
//!
//! Whatever comes, the answer is a result or an error with a code and a sentence, and a failed call leaves no journal.
#![no_main]

#[path = "../../crates/cni/tests/support/files.rs"]
mod files;

use host::Host;
use host::sim::{Flavour, Machine, SimHost};
use libfuzzer_sys::fuzz_target;
use std::collections::BTreeMap;
use std::sync::LazyLock;

const POD: &str = "/var/run/netns/a";
const NAMES: [&str; 6] =
    ["plugin", "CNI_COMMAND", "CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS"];

static MACHINE: LazyLock<Machine> = LazyLock::new(|| {
    let clock = "2026-01-01T00:00:00Z".parse().expect("a time");
    let mut machine = Machine::small_worker("worker-0", Flavour::Ubuntu, clock);
    machine.boot();
    let host = SimHost::new(machine);
    host.write("/sys/bus/pci/devices/0000:03:00.0/sriov_numvfs", "2").expect("VFs are made");
    let exclusive = host::seam::RdmaChange::Mode(api::RdmaMode::Exclusive);
    host.change_rdma(&host::Namespace::Host, &exclusive).expect("the mode changes");
    host.machine().create_namespace(POD).expect("a namespace");
    host.snapshot()
});

fuzz_target!(|data: &[u8]| {
    if let [0, number, content @ ..] = data {
        files::ask_all(&files::with(&MACHINE, usize::from(*number), content));
        return;
    }
    let line = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (words, stdin) = data.split_at(line);
    let words = String::from_utf8_lossy(words).into_owned();
    let mut environment: BTreeMap<String, String> =
        NAMES.iter().zip(words.split('|')).map(|(n, v)| ((*n).to_owned(), v.to_owned())).collect();
    let plugin = environment.remove("plugin").unwrap_or_default();
    let host = SimHost::new(MACHINE.clone());
    let reply = cni::call(&plugin, &environment, stdin, &host);
    if reply.exit == 0 {
        return;
    }
    let answer: serde_json::Value = serde_json::from_slice(&reply.stdout).expect("an error is JSON");
    assert!(answer["code"].as_u64().is_some_and(|code| code > 0), "{answer}");
    assert!(answer["msg"].as_str().is_some_and(|text| text.len() > 5), "{answer}");
    let journal = host.list(api::files::CNI_JOURNAL).unwrap_or_default();
    assert!(journal.is_empty(), "a failed call left a journal: {answer}");
});
