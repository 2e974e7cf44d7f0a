//! Broken configurations, environments and files of others: each gets a CNI error with a sentence, and nothing of the
//! machine is left changed.

#![allow(clippy::unwrap_used)] // every function here is part of a test

#[path = "support/files.rs"]
mod files;
#[path = "../../host/tests/support/mutate.rs"]
mod mutate;

use expect_test::expect;
use host::Host;
use host::sim::{Flavour, Machine, SimHost};
use serde_json::Value;
use std::collections::BTreeMap;

const CONFIGURATIONS: [&[u8]; 6] = [
    br#"{"cniVersion":"1.0.0","name":"blue","type":"sriov","deviceID":"0000:03:00.2","vlan":100,"vlanQoS":3,"vlanProto":"802.1Q","mac":"02:00:00:00:00:01","min_tx_rate":0,"max_tx_rate":500,"spoofchk":"on","trust":"on","link_state":"enable","logLevel":"debug"}"#,
    br#"{"cniVersion":"0.4.0","name":"blue","type":"sriov","deviceID":"0000:03:00.2","ipam":{"type":"host-local","ranges":[[{"subnet":"10.1.2.0/24"}]],"routes":[{"dst":"10.9.0.0/16"}]}}"#,
    br#"{"cniVersion":"1.1.0","name":"blue","type":"ib-sriov","deviceID":"0000:03:00.2","rdmaIsolation":true,"pkey":"0x7fff","link_state":"auto","args":{"cni":{"guid":"02:00:00:00:00:00:00:01"}}}"#,
    br#"{"cniVersion":"0.3.1","name":"blue","type":"rdma","deviceID":"0000:03:00.2","prevResult":{"cniVersion":"0.3.1","interfaces":[{"name":"net1","sandbox":"/var/run/netns/a"}],"ips":[{"version":"4","address":"10.1.2.3/24","interface":0}],"dns":{}}}"#,
    br#"{"cniVersion":"1.1.0","name":"blue","type":"rdma","cni.dev/valid-attachments":[{"containerID":"a","ifname":"net1"}],"cni.dev/attachments":[]}"#,
    br#"{"cniVersion":"0.2.0","name":"blue","type":"sriov","deviceID":"0000:03:00.3","runtimeConfig":{"mac":"02:00:00:00:00:02"},"capabilities":{"mac":true}}"#,
];

const ARGUMENTS: [&[u8]; 3] = [
    b"ADD|a|/var/run/netns/a|net1|IgnoreUnknown=true;K8S_POD_NAMESPACE=default;K8S_POD_NAME=rdma-app;MAC=02:00:00:00:00:09",
    b"DEL|a|/var/run/netns/a|net1|IP=10.0.0.1",
    b"GC|||x y|",
];

const POD: &str = "/var/run/netns/a";

fn bench() -> SimHost {
    let mut machine =
        Machine::small_worker("worker-0", Flavour::Ubuntu, "2026-01-01T00:00:00Z".parse().unwrap());
    machine.boot();
    let host = SimHost::new(machine);
    host.write("/sys/bus/pci/devices/0000:03:00.0/sriov_numvfs", "2").unwrap();
    let exclusive = host::seam::RdmaChange::Mode(api::RdmaMode::Exclusive);
    host.change_rdma(&host::Namespace::Host, &exclusive).unwrap();
    host.machine().create_namespace(POD).unwrap();
    host
}

/// What the journal knows: nothing, unless an ADD succeeded.
fn journal(host: &SimHost) -> Vec<String> {
    host.list(api::files::CNI_JOURNAL).unwrap_or_default()
}

fn environment(words: &[u8]) -> BTreeMap<String, String> {
    let text = String::from_utf8_lossy(words).into_owned();
    let names = ["CNI_COMMAND", "CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS"];
    let given = names
        .iter()
        .zip(text.split('|'))
        .map(|(name, value)| ((*name).to_owned(), value.to_owned()));
    given.chain([("CNI_PATH".to_owned(), "/opt/cni/bin".to_owned())]).collect()
}

fn check(fresh: &SimHost, plugin: &str, environment: &BTreeMap<String, String>, stdin: &[u8]) {
    let host = SimHost::new(fresh.snapshot());
    let reply = cni::call(plugin, environment, stdin, &host);
    if reply.exit == 0 {
        return;
    }
    let answer: Value = serde_json::from_slice(&reply.stdout).expect("an error is JSON");
    assert!(answer["code"].as_u64().is_some_and(|code| code > 0), "{answer}");
    assert!(answer["msg"].as_str().is_some_and(|text| text.len() > 5), "{answer}");
    assert_eq!(journal(&host), Vec::<String>::new(), "a failed call left a journal: {answer}");
}

#[test]
fn a_broken_configuration_is_an_error_in_words_and_leaves_nothing() {
    let fresh = bench();
    for (plugin, verb) in [
        ("sriov", ARGUMENTS[0]),
        ("ib-sriov", ARGUMENTS[0]),
        ("rdma", ARGUMENTS[0]),
        ("sriov", ARGUMENTS[2]),
    ] {
        let environment = environment(verb);
        mutate::run(&CONFIGURATIONS, 4, |stdin| check(&fresh, plugin, &environment, stdin));
    }
}

#[test]
fn a_broken_environment_is_an_error_in_words_and_leaves_nothing() {
    let fresh = bench();
    mutate::run(&ARGUMENTS, 2, |words| {
        check(&fresh, "sriov", &environment(words), CONFIGURATIONS[0]);
    });
}

/// Offer, claims, CDI spec, journal, and what upstream's plugins wrote down.
#[test]
fn a_broken_file_of_somebody_elses_is_an_error_in_words() {
    let machine = bench().snapshot();
    let mut told = String::new();
    for (number, (path, _)) in files::FILES.iter().enumerate() {
        let good = files::good(number, &machine);
        let refused = files::ask_all(&files::with(&machine, number, &good));
        // The card has no InfiniBand, which is not the files' fault.
        let refused = refused.iter().filter(|line| !line.contains("ib-sriov: "));
        told += &format!("{path}\n");
        refused.for_each(|line| told += &format!("  {line}\n"));
        mutate::run(&[good.as_slice()], 40, |content| {
            files::ask_all(&files::with(&machine, number, content));
        });
    }
    expect![[r#"
        /run/ironrail/offer.json
        /run/ironrail/claims.json
        /var/run/cdi/ironrail.dev-vf-0000:03:00.2.json
        /var/lib/ironrail/cni/0000:03:00.2.json
        /var/lib/cni/sriov/a-net1
        /var/lib/cni/ib-sriov/a-net1
        /var/lib/cni/rdma/blue-a-net1
        /var/lib/cni/sriov/pci/0000:03:00.2
          ADD sriov: 0000:03:00.2 is already allocated to the network namespace /var/run/netns/a
    "#]]
    .assert_eq(&told);
}
