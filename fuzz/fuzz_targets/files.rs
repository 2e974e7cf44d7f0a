//! Offer, claims, saved order and ledger: good, missing, or bad with a sentence that names the file. And the kubelet's
//! checkpoint, of which what is broken names nobody.
#![no_main]

use api::files;
use host::Host;
use host::sim::{Flavour, Machine, SimHost};
use libfuzzer_sys::fuzz_target;
use node::boot;
use node::{checkpoint, custody, ledger};
use std::sync::LazyLock;

static MACHINE: LazyLock<Machine> = LazyLock::new(|| {
    Machine::new("worker-0", Flavour::Ubuntu, "2026-01-01T00:00:00Z".parse().expect("a time"))
});

fuzz_target!(|data: &[u8]| {
    let host = SimHost::new(MACHINE.clone());
    host.replace(files::CLAIMS, data, 0o600).expect("a file");
    if let custody::Found::Bad(why) = custody::read_claims(&host, "b1") {
        assert!(why.contains(files::CLAIMS), "{why}");
    }
    host.replace(files::KUBELET_CHECKPOINT, data, 0o600).expect("a file");
    let device = "0000:03:00.2".parse().expect("an address");
    assert!(checkpoint::holders(&host, &[device].into()).iter().all(|holder| !holder.uid.is_empty()));
    host.replace(files::REBOOTS, data, 0o600).expect("a file");
    let _ = ledger::read(&host);
    host.replace(files::ORDER, data, 0o600).expect("a file");
    let _ = boot::run(&host, host.now());
    host.replace(files::OFFER, data, 0o600).expect("a file");
    if let custody::Found::Bad(why) = custody::read_offer(&host, "b1") {
        assert!(why.contains(files::OFFER), "{why}");
    }
});
