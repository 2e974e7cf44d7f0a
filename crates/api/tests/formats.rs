//! The formats that outlive a program: files that another version, or the other process, reads. A change of a text
//! below is a change of the format: raise its version, or say why old readers do not mind.

use api::custody::{Claim, Claims, Holder, Offer, OfferState, OfferedDevice, OfferedResource};
use api::journal::{Owner, RdmaCustody, Record, VfCustody, VfProfile};
use api::nodestate::{RebootOutcome, RebootRecord};
use api::{PciAddress, RdmaMode, Timestamp, VfRange};
use expect_test::{Expect, expect};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::fmt::Debug;

/// Writes the value, compares the text, and reads it back.
fn check<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T, expected: Expect) {
    let text = serde_json::to_string_pretty(value).expect("plain data is written");
    expected.assert_eq(&text);
    assert_eq!(&serde_json::from_str::<T>(&text).expect("what was written is read"), value);
}

fn pci(text: &str) -> PciAddress {
    text.parse().expect("a PCI address")
}

fn noon() -> Timestamp {
    "2026-11-22T12:00:00Z".parse().expect("a time")
}

#[test]
fn an_offer_names_each_device_with_its_state() {
    let device = |address: &str, state| OfferedDevice {
        pci: pci(address),
        state,
        numa_node: Some(0),
        parent: pci("0000:3b:00.0"),
        vf: None,
        driver: Some("mlx5_core".to_owned()),
        rdma_device: Some("mlx5_2".to_owned()),
        profile: None,
    };
    let resource = OfferedResource {
        devices: vec![
            device("0000:3b:00.2", OfferState::Ready),
            device(
                "0000:3b:00.3",
                OfferState::Withdrawn { because: "the VF count changes".into() },
            ),
        ],
        rdma: true,
        exclude_umad: true,
        vhost_net: false,
        exclude_topology: false,
        spread_rails: true,
    };
    check(
        &Offer {
            version: 1,
            boot_id: "b".into(),
            sequence: 3,
            by_path: false,
            resources: BTreeMap::from([("openshift.io/rdma_vf".to_owned(), resource)]),
        },
        expect![[r#"
            {
              "version": 1,
              "bootId": "b",
              "sequence": 3,
              "resources": {
                "openshift.io/rdma_vf": {
                  "devices": [
                    {
                      "pci": "0000:3b:00.2",
                      "state": {
                        "is": "ready"
                      },
                      "numaNode": 0,
                      "parent": "0000:3b:00.0",
                      "driver": "mlx5_core",
                      "rdmaDevice": "mlx5_2"
                    },
                    {
                      "pci": "0000:3b:00.3",
                      "state": {
                        "is": "withdrawn",
                        "because": "the VF count changes"
                      },
                      "numaNode": 0,
                      "parent": "0000:3b:00.0",
                      "driver": "mlx5_core",
                      "rdmaDevice": "mlx5_2"
                    }
                  ],
                  "rdma": true,
                  "excludeUmad": true,
                  "vhostNet": false,
                  "excludeTopology": false,
                  "spreadRails": true
                }
              }
            }"#]],
    );
}

#[test]
fn claims_acknowledge_an_offer_and_tell_what_was_given_when() {
    let claim = Claim {
        resource: "openshift.io/rdma_vf".into(),
        at: noon(),
        nodes: vec!["/dev/infiniband/uverbs4".into()],
    };
    check(
        &Claims {
            version: 1,
            boot_id: "b".into(),
            sequence: 3,
            claims: BTreeMap::from([(pci("0000:3b:00.2"), claim)]),
        },
        expect![[r#"
            {
              "version": 1,
              "bootId": "b",
              "sequence": 3,
              "claims": {
                "0000:3b:00.2": {
                  "resource": "openshift.io/rdma_vf",
                  "at": "2026-11-22T12:00:00Z",
                  "nodes": [
                    "/dev/infiniband/uverbs4"
                  ]
                }
              }
            }"#]],
    );
}

#[test]
fn the_reboot_ledger_tells_what_was_tried_and_what_came() {
    let record = |outcome| RebootRecord {
        reason: "RdmaMode".into(),
        goal: "exclusive".into(),
        boot_id_before: "b".into(),
        attempt: 1,
        levers: vec!["modprobe.d".into()],
        retry: String::new(),
        asked_at: noon(),
        outcome,
        undone: false,
    };
    check(
        &vec![
            record(RebootOutcome::Pending),
            record(RebootOutcome::DidNotHelp {
                expected: "exclusive".into(),
                found: "shared".into(),
            }),
        ],
        expect![[r#"
            [
              {
                "reason": "RdmaMode",
                "goal": "exclusive",
                "bootIdBefore": "b",
                "attempt": 1,
                "levers": [
                  "modprobe.d"
                ],
                "askedAt": "2026-11-22T12:00:00Z",
                "outcome": {
                  "state": "pending"
                }
              },
              {
                "reason": "RdmaMode",
                "goal": "exclusive",
                "bootIdBefore": "b",
                "attempt": 1,
                "levers": [
                  "modprobe.d"
                ],
                "askedAt": "2026-11-22T12:00:00Z",
                "outcome": {
                  "state": "didNotHelp",
                  "expected": "exclusive",
                  "found": "shared"
                }
              }
            ]"#]],
    );
}

#[test]
fn the_cni_journal_tells_who_has_a_device_and_what_it_was_like() {
    let profile = VfProfile { mac: Some("02:00:00:00:00:01".into()), ..VfProfile::default() };
    check(
        &Record {
            version: 1,
            boot_id: "b".into(),
            device: "0000:3b:00.2".into(),
            owner: Owner {
                container: "c".into(),
                interface: "net1".into(),
                network: "rdma-network".into(),
                namespace: "/run/netns/c".into(),
                namespace_device: 4,
                namespace_inode: 5,
                ..Owner::default()
            },
            since: noon(),
            vf: Some(VfCustody {
                pf: pci("0000:3b:00.0"),
                index: 0,
                before: profile.clone(),
                wanted: profile,
                link: None,
            }),
            rdma: Some(RdmaCustody { name: "mlx5_2".into(), index: 2 }),
        },
        expect![[r#"
            {
              "version": 1,
              "bootId": "b",
              "device": "0000:3b:00.2",
              "owner": {
                "container": "c",
                "interface": "net1",
                "network": "rdma-network",
                "namespace": "/run/netns/c",
                "namespaceDevice": 4,
                "namespaceInode": 5
              },
              "since": "2026-11-22T12:00:00Z",
              "vf": {
                "pf": "0000:3b:00.0",
                "index": 0,
                "before": {
                  "mac": "02:00:00:00:00:01"
                },
                "wanted": {
                  "mac": "02:00:00:00:00:01"
                }
              },
              "rdma": {
                "name": "mlx5_2",
                "index": 2
              }
            }"#]],
    );
}

#[test]
fn a_holder_without_a_pod_is_a_device_alone() {
    check(
        &Holder { device: "0000:3b:00.2".into(), ..Holder::default() },
        expect![[r#"
        {
          "device": "0000:3b:00.2"
        }"#]],
    );
}

#[test]
fn what_is_no_range_or_mode_is_refused_with_a_way_out() {
    let ranges = ["", "3", "2-", "5-2", "a-3", "0-9"].map(|text| match text.parse::<VfRange>() {
        Ok(range) => format!("{range} holds {}", range.last - range.first + 1),
        Err(problem) => problem,
    });
    expect![[r#"
        "" is not a VF range; write first-last, for example 0-3
        "3" is not a VF range; write first-last, for example 0-3
        "2-" has no end to its VF range; write first-last, for example 0-3
        VF range "5-2" ends before it starts
        "a" in VF range "a-3" is not a VF index
        0-9 holds 10"#]]
    .assert_eq(&ranges.join("\n"));
    let mode = "exclusiv".parse::<RdmaMode>().expect_err("not a mode");
    expect![[r#""exclusiv" is not an RDMA mode; write shared or exclusive"#]].assert_eq(&mode);
}

/// A newer daemon may know more states; what is not understood is not ready.
#[test]
fn a_state_of_an_offered_device_that_is_not_understood_is_refused_by_name() {
    let read = |text: &str| serde_json::from_str::<OfferState>(text).unwrap_err().to_string();
    let said = [r#"{"is":"leased"}"#, r#"{"is":"broken"}"#, "{}"].map(read).join("\n");
    expect![[r#"
        a device is "leased", which is no state of an offer
        a device is "broken" and does not say because of what
        missing field `is` at line 1 column 2"#]]
    .assert_eq(&said);
}
