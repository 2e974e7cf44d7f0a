//! Journal records of the CNI: read, or refused by the file's name; what is read is written again as it was.
#![no_main]

use host::sim::{Flavour, Machine, SimHost};
use host::{Host, journal};
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static MACHINE: LazyLock<Machine> = LazyLock::new(|| {
    Machine::new("worker-0", Flavour::Ubuntu, "2026-01-01T00:00:00Z".parse().expect("a time"))
});

fuzz_target!(|data: &[u8]| {
    let host = SimHost::new(MACHINE.clone());
    let path = format!("{}/0000:03:00.2.json", api::files::CNI_JOURNAL);
    host.replace(&path, data, 0o600).expect("a file");
    for record in journal::list(&host).expect("a directory") {
        match record {
            Ok(record) => {
                let text = serde_json::to_vec(&record).expect("a record is JSON");
                let again: api::journal::Record = serde_json::from_slice(&text).expect("it is read again");
                assert_eq!(again, record);
            }
            Err(error) => assert!(error.to_string().contains("0000:03:00.2"), "{error}"),
        }
    }
});
