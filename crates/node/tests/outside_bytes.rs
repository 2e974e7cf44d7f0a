//! Broken files and messages on the node: offer, claims, saved order, journal, ledger, what kubelet and runtime send.
//! Each is refused or read, never a panic, and never taken for a good one of another kind.

#![allow(clippy::unwrap_used)] // every function here is part of a test
#![allow(clippy::disallowed_methods, reason = "a test reads its own switches from the environment")]

#[path = "../../host/tests/support/mutate.rs"]
mod mutate;

use api::custody::Holder;
use api::{PciAddress, Timestamp, files};
use host::sim::{Flavour, Machine, SimHost};
use host::{Host, journal};
use node::boot;
use node::proto::runtime_v1::ListPodSandboxResponse;
use node::proto::v1::{
    ClaimResource, ContainerResources, DynamicResource, ListPodResourcesResponse, PodResources,
};
use node::proto::v1beta1::AllocateRequest;
use node::{checkpoint, custody, holders, ledger};
use prost::Message;

const BOOT: &str = "b1";

/// The first is a seed of the fuzzer too, and what `cargo xtask bench node` makes its offer of.
const OFFERS: [&[u8]; 2] = [
    include_bytes!("../../../fuzz/corpus/files/01"),
    br#"{"version":1,"bootId":"b1","sequence":8,"resources":{}}"#,
];
const CLAIMS: [&[u8]; 1] =
    [br#"{"version":1,"bootId":"b1","sequence":7,"claims":{"0000:03:00.2":{"resource":"openshift.io/rdma_vf","at":"2026-01-01T00:00:00Z"}}}"#];
const ORDERS: [&[u8]; 1] =
    [br#"{"version":1,"generation":3,"spec":{"interfaces":[{"pciAddress":"0000:03:00.0","name":"enp3s0f0","numVfs":2,"mtu":9000,"linkType":"ETH","vfGroups":[{"resourceName":"rdma_vf","deviceType":"netdevice","policyName":"train","vfRange":"0-1","isRdma":true}]}],"bridges":{},"system":{"rdmaMode":"exclusive"}}}"#];
const RECORDS: [&[u8]; 1] =
    [br#"{"version":1,"bootId":"b1","device":"0000:03:00.2","owner":{"container":"a","interface":"net1","network":"blue","namespace":"/var/run/netns/a","namespaceDevice":4,"namespaceInode":4026532000},"since":"2026-01-01T00:00:00Z","vf":{"pf":"0000:03:00.0","index":0,"before":{"mac":"00:00:00:00:00:00","vlan":{"id":0,"qos":0,"protocol":33024}},"wanted":{},"link":{"name":"enp3s0f0v0","address":"02:00:00:00:00:01","mtu":1500,"up":false}},"rdma":{"name":"mlx5_2","index":3}}"#];

fn sim() -> SimHost {
    let mut machine = Machine::small_worker(
        "worker-0",
        Flavour::Ubuntu,
        Timestamp::from_second(1_700_000_000).unwrap(),
    );
    machine.boot();
    SimHost::new(machine)
}

/// A seed that is refused as it is leads nobody past the first check.
#[test]
fn the_seeds_of_broken_files_are_good_and_written_as_we_write_them() {
    let host = sim();
    for bytes in OFFERS {
        host.replace(files::OFFER, bytes, 0o600).unwrap();
        let custody::Found::Good(offer) = custody::read_offer(&host, BOOT) else {
            panic!("{:?}", custody::read_offer(&host, BOOT));
        };
        assert_eq!(serde_json::to_string(&offer).unwrap(), String::from_utf8_lossy(bytes));
    }
    for bytes in CLAIMS {
        host.replace(files::CLAIMS, bytes, 0o600).unwrap();
        assert!(matches!(custody::read_claims(&host, BOOT), custody::Found::Good(_)));
    }
    for bytes in RECORDS {
        host.replace(&journal::path("0000:03:00.2"), bytes, 0o600).unwrap();
        journal::read(&host, "0000:03:00.2").unwrap().unwrap();
    }
}

#[test]
fn broken_files_between_daemon_and_device_plugin_are_refused_or_read() {
    let host = sim();
    mutate::run(&OFFERS, 1, |bytes| {
        host.replace(files::OFFER, bytes, 0o600).unwrap();
        if let custody::Found::Bad(why) = custody::read_offer(&host, BOOT) {
            assert!(why.contains("the offer in /run/ironrail/offer.json"), "{why}");
        }
    });
    mutate::run(&CLAIMS, 1, |bytes| {
        host.replace(files::CLAIMS, bytes, 0o600).unwrap();
        if let custody::Found::Bad(why) = custody::read_claims(&host, BOOT) {
            assert!(why.contains("the claims in /run/ironrail/claims.json"), "{why}");
        }
    });
}

#[test]
fn a_broken_journal_is_named_and_a_broken_ledger_is_read_or_refused() {
    let host = sim();
    let path = journal::path("0000:03:00.2");
    mutate::run(&RECORDS, 1, |bytes| {
        host.replace(&path, bytes, 0o600).unwrap();
        if let Err(error) = journal::read(&host, "0000:03:00.2") {
            assert!(error.to_string().contains(&path), "{error}");
        }
    });
    mutate::run(
        &[br#"[{"reason":"RdmaMode","goal":"exclusive","attempt":1,"outcome":"pending"}]"#],
        1,
        |bytes| {
            host.replace(files::REBOOTS, bytes, 0o600).unwrap();
            let _ = ledger::read(&host);
        },
    );
}

#[test]
fn a_broken_checkpoint_of_the_kubelet_names_nobody_or_a_pod_that_lives() {
    let host = sim();
    let uid = "2d8b34a1-77c0-4c11-9c5e-0e6f4a7c9d10";
    host.machine().start_sandbox(uid, None).unwrap();
    let device: PciAddress = "0000:03:00.2".parse().unwrap();
    let entry = format!(
        r#"{{"PodUID":"{uid}","ContainerName":"c","ResourceName":"a/b","DeviceIDs":{{"-1":["{device}"]}},"AllocResp":""}}"#
    );
    let whole = format!(
        r#"{{"Data":{{"PodDeviceEntries":[{entry}],"RegisteredDevices":{{}}}},"Checksum":1}}"#
    );
    mutate::run(&[whole.as_bytes()], 1, |bytes| {
        host.replace(files::KUBELET_CHECKPOINT, bytes, 0o600).unwrap();
        let holders = checkpoint::holders(&host, &[device].into());
        let is_whole = |h: &Holder| h.device == device.to_string() && !h.uid.is_empty();
        assert!(holders.iter().all(is_whole), "{holders:?}");
    });
}

#[test]
fn a_broken_order_makes_a_boot_phase_fail_in_words_or_do_what_it_says() {
    let fresh = sim().snapshot();
    mutate::run(&ORDERS, 20, |bytes| {
        let host = SimHost::new(fresh.clone());
        host.replace(files::ORDER, bytes, 0o600).unwrap();
        if let Err(why) = boot::run(&host, host.now()) {
            assert!(why.len() > 10, "{why}");
        }
    });
}

#[test]
fn broken_messages_of_kubelet_and_runtime_are_refused_or_read() {
    let pods: &[u8] = b"\n\x3a\n\x08rdma-app\x12\x07default\x1a\x25\n\x04main\x12\x1d\n\x0copenshift/vf\x12\x0c0000:03:00.2";
    let claimed = ClaimResource {
        driver_name: "sriovnetwork.k8snetworkplumbingwg.io".to_owned(),
        device_name: "0000-03-00-2".to_owned(),
    };
    let container = ContainerResources {
        dynamic_resources: vec![DynamicResource { claim_resources: vec![claimed] }],
        ..ContainerResources::default()
    };
    let pod = PodResources { containers: vec![container], ..PodResources::default() };
    let claims = ListPodResourcesResponse { pod_resources: vec![pod] }.encode_to_vec();
    let request: &[u8] = b"\n\x0e\n\x0c0000:03:00.2";
    mutate::run(&[pods, &claims], 1, |bytes| {
        if let Ok(response) = ListPodResourcesResponse::decode(bytes) {
            assert!(
                holders::of_pod_resources(&response)
                    .iter()
                    .all(|h| h.device.parse::<PciAddress>().is_ok())
            );
        }
    });
    mutate::run(&[request, b"\n\x0b\n\x09sandbox-a"], 1, |bytes| {
        let _ = AllocateRequest::decode(bytes);
        let _ = ListPodSandboxResponse::decode(bytes);
    });
}
