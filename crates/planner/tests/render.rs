//! Networks as users write them, and the NetworkAttachmentDefinition that becomes of each: upstream's golden cases
//! (spec/operator.md 8.1, Appendix B), and every mistake with its message.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use expect_test::{Expect, expect};
use planner::render::{Network, Rendered, render};
use planner::{Problem, Reason};

fn rendered(yaml: &str, prefix: &str) -> Result<Rendered, Vec<Problem>> {
    let mut value: serde_json::Value = serde_saphyr::from_str(yaml).unwrap();
    let metadata = &mut value["metadata"];
    for (key, default) in [("name", "test"), ("namespace", "ns")] {
        if metadata[key].is_null() {
            metadata[key] = default.into();
        }
    }
    if value["spec"]["resourceName"].is_null() {
        value["spec"]["resourceName"] = "testresource".into();
    }
    match value["kind"].as_str().unwrap() {
        "SriovNetwork" => {
            render(Network::Sriov(&serde_json::from_value(value).unwrap()), "ns", prefix)
        }
        "SriovIBNetwork" => {
            render(Network::Infiniband(&serde_json::from_value(value).unwrap()), "ns", prefix)
        }
        "OVSNetwork" => render(Network::Ovs(&serde_json::from_value(value).unwrap()), "ns", prefix),
        other => panic!("no network kind: {other}"),
    }
}

/// Config, annotations and notes; or the problems.
fn check(yaml: &str, expected: Expect) {
    let text = match rendered(yaml, "") {
        Ok(rendered) => {
            let valid: Result<serde_json::Value, _> = serde_json::from_str(&rendered.config);
            assert!(valid.is_ok(), "not JSON: {}", rendered.config);
            let notes: Vec<String> =
                rendered.notes.iter().map(|note| format!("note: {note}\n")).collect();
            let rdma = if rendered.takes_rdma_device { "takes the RDMA device\n" } else { "" };
            format!("{}\n{rdma}{}", rendered.config, notes.concat())
        }
        Err(problems) => {
            assert!(problems.iter().all(|problem| problem.reason == Reason::InvalidNetwork));
            problems.iter().map(|problem| format!("{problem}\n")).collect()
        }
    };
    expected.assert_eq(&text);
}

#[test]
fn the_guides_network_is_rendered_letter_by_letter() {
    // Block 3 of the guide; logLevel is the API server's default.
    let yaml = r#"
apiVersion: sriovnetwork.openshift.io/v1
kind: SriovNetwork
metadata:
  name: rdma-network
  namespace: default
spec:
  resourceName: rdma_exclusive_device
  logLevel: info
  ipam: |
    {
      "type": "host-local",
      "subnet": "10.10.10.0/24",
      "rangeStart": "10.10.10.171",
      "rangeEnd": "10.10.10.181"
    }
  metaPluginsConfig: |
    {
      "type": "rdma"
    }
"#;
    let rendered = rendered(yaml, "openshift.io").unwrap();
    expect![[r#"
        {
            "cniVersion": "1.0.0",
            "name": "rdma-network",
            "plugins": [
                {
                    "type": "sriov",
                    "vlan": 0,
                    "vlanQoS": 0,
                    "logLevel": "info",
                    "ipam": {
                        "type": "host-local",
                        "subnet": "10.10.10.0/24",
                        "rangeStart": "10.10.10.171",
                        "rangeEnd": "10.10.10.181"
                    }
                },
                {
                    "type": "rdma"
                }
            ]
        }"#]]
    .assert_eq(&rendered.config);
    expect![[r#"
        {
            "k8s.v1.cni.cncf.io/resourceName": "openshift.io/rdma_exclusive_device",
            "sriovnetwork.openshift.io/owner-ref": "SriovNetwork.sriovnetwork.openshift.io/default/rdma-network",
        } in default"#]].assert_eq(&format!("{:#?} in {}", rendered.annotations, rendered.namespace));
    assert!(rendered.takes_rdma_device);
}

#[test]
fn sriov_simple() {
    check(
        "kind: SriovNetwork\nspec: {networkNamespace: testnamespace}",
        expect![[r#"
        {
            "cniVersion": "1.0.0",
            "name": "test",
            "type": "sriov",
            "vlan": 0,
            "vlanQoS": 0,
            "ipam": {}
        }
    "#]],
    );
}

#[test]
fn sriov_chained() {
    check(
        r#"{kind: SriovNetwork, spec: {metaPlugins: '{ "type": "vrf", "vrfname": "blue" }'}}"#,
        expect![[r#"
            {
                "cniVersion": "1.0.0",
                "name": "test",
                "plugins": [
                    {
                        "type": "sriov",
                        "vlan": 0,
                        "vlanQoS": 0,
                        "ipam": {}
                    },
                    {
                        "type": "vrf",
                        "vrfname": "blue"
                    }
                ]
            }
        "#]],
    );
}

#[test]
fn sriov_with_every_field_keeps_upstreams_order() {
    check(
        r#"
kind: SriovNetwork
spec:
  logFile: /tmp/tmpfile
  logLevel: debug
  linkState: enable
  capabilities: '{ "mac": true, "ips": true }'
  maxTxRate: 200
  minTxRate: 100
  vlanProto: 802.1ad
  vlanQoS: 7
  trust: "on"
  spoofChk: "off"
  vlan: 100
  ipam: '{"type":"host-local","subnet":"10.56.217.0/24","routes":[{"dst":"0.0.0.0/0"}],"dns":{}}'
  metaPlugins: '{"type":"tuning"}, {"type":"rdma"}'
"#,
        expect![[r#"
            {
                "cniVersion": "1.0.0",
                "name": "test",
                "plugins": [
                    {
                        "type": "sriov",
                        "vlan": 100,
                        "spoofchk": "off",
                        "trust": "on",
                        "vlanQoS": 7,
                        "vlanProto": "802.1ad",
                        "min_tx_rate": 100,
                        "max_tx_rate": 200,
                        "capabilities": {
                            "mac": true,
                            "ips": true
                        },
                        "link_state": "enable",
                        "logLevel": "debug",
                        "logFile": "/tmp/tmpfile",
                        "ipam": {
                            "type": "host-local",
                            "subnet": "10.56.217.0/24",
                            "routes": [
                                {
                                    "dst": "0.0.0.0/0"
                                }
                            ],
                            "dns": {}
                        }
                    },
                    {
                        "type": "tuning"
                    },
                    {
                        "type": "rdma"
                    }
                ]
            }
            takes the RDMA device
        "#]],
    );
}

#[test]
fn infiniband_simple() {
    check(
        r#"{kind: SriovIBNetwork, spec: {linkState: auto}}"#,
        expect![[r#"
        {
            "cniVersion": "1.0.0",
            "name": "test",
            "type": "ib-sriov",
            "link_state": "auto",
            "ipam": {}
        }
    "#]],
    );
}

#[test]
fn infiniband_with_the_rdma_plugin_gets_isolation_in_its_place() {
    check(
        r#"{kind: SriovIBNetwork, spec: {metaPlugins: '{"type":"rdma"}'}}"#,
        expect![[r#"
        {
            "cniVersion": "1.0.0",
            "name": "test",
            "type": "ib-sriov",
            "rdmaIsolation": true,
            "ipam": {}
        }
        takes the RDMA device
        note: SriovIBNetwork ns/test: the meta plugin rdma was replaced by rdmaIsolation: true, which keeps the IPoIB interface
    "#]],
    );
    check(
        r#"{kind: SriovIBNetwork, spec: {metaPlugins: '{"type":"rdma","rdmaDeviceName":"rail0"}'}}"#,
        expect![[r#"
            {
                "cniVersion": "1.0.0",
                "name": "test",
                "type": "ib-sriov",
                "rdmaIsolation": true,
                "rdmaDeviceName": "rail0",
                "ipam": {}
            }
            takes the RDMA device
            note: SriovIBNetwork ns/test: the meta plugin rdma was replaced by rdmaIsolation: true, which keeps the IPoIB interface
        "#]],
    );
    check(
        r#"{kind: SriovIBNetwork, spec: {metaPlugins: '{"type":"tuning"},{"type":"rdma"}'}}"#,
        expect![[r#"
            {
                "cniVersion": "1.0.0",
                "name": "test",
                "plugins": [
                    {
                        "type": "ib-sriov",
                        "rdmaIsolation": true,
                        "ipam": {}
                    },
                    {
                        "type": "tuning"
                    }
                ]
            }
            takes the RDMA device
            note: SriovIBNetwork ns/test: the meta plugin rdma was replaced by rdmaIsolation: true, which keeps the IPoIB interface
        "#]],
    );
}

#[test]
fn ovs_simple() {
    check(
        "kind: OVSNetwork\nspec: {}",
        expect![[r#"
        {
            "cniVersion": "1.0.0",
            "name": "test",
            "type": "ovs",
            "ipam": {}
        }
    "#]],
    );
}

#[test]
fn ovs_chained() {
    check(
        r#"{kind: OVSNetwork, spec: {mtu: 1500, metaPlugins: '{ "type": "vrf", "vrfname": "blue" }'}}"#,
        expect![[r#"
            {
                "cniVersion": "1.0.0",
                "name": "test",
                "plugins": [
                    {
                        "type": "ovs",
                        "mtu": 1500,
                        "ipam": {}
                    },
                    {
                        "type": "vrf",
                        "vrfname": "blue"
                    }
                ]
            }
        "#]],
    );
}

#[test]
fn ovs_complex() {
    check(
        r#"
kind: OVSNetwork
spec:
  capabilities: '{"foo": "bar"}'
  bridge: test
  vlan: 100
  mtu: 1500
  trunk: [{id: 120}, {minID: 500, maxID: 550}]
  interfaceType: netdev
  ipam: '{"type": "foo"}'
"#,
        expect![[r#"
            {
                "cniVersion": "1.0.0",
                "name": "test",
                "type": "ovs",
                "capabilities": {
                    "foo": "bar"
                },
                "bridge": "test",
                "vlan": 100,
                "mtu": 1500,
                "trunk": [
                    {
                        "id": 120
                    },
                    {
                        "minID": 500,
                        "maxID": 550
                    }
                ],
                "interface_type": "netdev",
                "ipam": {
                    "type": "foo"
                }
            }
        "#]],
    );
}

#[test]
fn numbers_and_blanks_inside_strings_stay_as_written() {
    // Upstream takes every blank out of ipam, also those inside strings.
    check(
        r#"{kind: SriovNetwork, spec: {ipam: '{"type":"x","note":"two  words, {a}: \"b\"","n":1.50e3,"empty":[ ]}'}}"#,
        expect![[r#"
            {
                "cniVersion": "1.0.0",
                "name": "test",
                "type": "sriov",
                "vlan": 0,
                "vlanQoS": 0,
                "ipam": {
                    "type": "x",
                    "note": "two  words, {a}: \"b\"",
                    "n": 1.50e3,
                    "empty": []
                }
            }
        "#]],
    );
}

#[test]
fn an_apostrophe_inside_a_string_is_harmless() {
    // Upstream pastes the text into a quoted YAML scalar and breaks.
    check(
        r#"{kind: SriovNetwork, spec: {metaPlugins: "{\"type\":\"tuning\",\"note\":\"Anna's\"}"}}"#,
        expect![[r#"
            {
                "cniVersion": "1.0.0",
                "name": "test",
                "plugins": [
                    {
                        "type": "sriov",
                        "vlan": 0,
                        "vlanQoS": 0,
                        "ipam": {}
                    },
                    {
                        "type": "tuning",
                        "note": "Anna's"
                    }
                ]
            }
        "#]],
    );
}

#[test]
fn ipam_that_is_not_json_is_refused() {
    check(
        r#"{kind: SriovNetwork, spec: {ipam: '{"type": whereabouts}'}}"#,
        expect![[r#"
            SriovNetwork ns/test: ipam is not JSON: expected value at line 1 column 10; write for example {"type": "whereabouts"}
        "#]],
    );
    check(
        r#"{kind: SriovNetwork, spec: {ipam: 'dhcp'}}"#,
        expect![[r#"
            SriovNetwork ns/test: ipam is not JSON: expected value at line 1 column 1; write for example {"type": "whereabouts"}
        "#]],
    );
    check(
        r#"{kind: SriovNetwork, spec: {ipam: '[]'}}"#,
        expect![[r#"
            SriovNetwork ns/test: ipam is not a JSON object; write for example {"type": "whereabouts"}
        "#]],
    );
    check(
        r#"{kind: SriovNetwork, spec: {ipam: '{"type":"dhcp"'}}"#,
        expect![[r#"
            SriovNetwork ns/test: ipam is not JSON: EOF while parsing an object at line 1 column 14; write for example {"type": "whereabouts"}
        "#]],
    );
}

#[test]
fn capabilities_that_are_not_json_are_refused() {
    check(
        r#"{kind: SriovIBNetwork, spec: {capabilities: foo}}"#,
        expect![[r#"
            SriovIBNetwork ns/test: capabilities is not JSON: expected ident at line 1 column 2; write for example {"mac": true}
        "#]],
    );
}

#[test]
fn meta_plugins_as_an_array_are_refused() {
    check(
        r#"{kind: SriovNetwork, spec: {metaPlugins: '[{"type":"rdma"}]'}}"#,
        expect![[r#"
        SriovNetwork ns/test: metaPlugins is a JSON array; write its elements without the brackets, with commas between them
    "#]],
    );
}

#[test]
fn meta_plugins_with_a_trailing_comma_are_refused() {
    check(
        r#"{kind: SriovNetwork, spec: {metaPlugins: '{"type":"rdma"},'}}"#,
        expect![[r#"
        SriovNetwork ns/test: metaPlugins ends with a comma; take it away
    "#]],
    );
}

#[test]
fn meta_plugins_with_apostrophes_for_quotes_are_refused() {
    check(
        r#"{kind: SriovNetwork, spec: {metaPlugins: "{'type': 'rdma'}"}}"#,
        expect![[r#"
            SriovNetwork ns/test: metaPlugins is not JSON: key must be a string at line 1 column 2; write " for quotes, not ', for example {"type": "rdma"}
        "#]],
    );
}

#[test]
fn a_meta_plugin_without_type_is_refused() {
    check(
        r#"{kind: SriovNetwork, spec: {metaPlugins: '{"vrfname":"blue"}'}}"#,
        expect![[r#"
        SriovNetwork ns/test: metaPlugins has an element without a "type"; write for example {"type": "rdma"}
    "#]],
    );
    check(
        r#"{kind: SriovNetwork, spec: {metaPlugins: '"rdma"'}}"#,
        expect![[r#"
        SriovNetwork ns/test: metaPlugins has an element without a "type"; write for example {"type": "rdma"}
    "#]],
    );
}

#[test]
fn meta_plugins_cannot_break_out_of_their_list() {
    check(
        r#"{kind: SriovNetwork, spec: {metaPlugins: '{"type":"rdma"}],"name":["x"'}}"#,
        expect![[r#"
            SriovNetwork ns/test: metaPlugins is not JSON: trailing characters at line 1 column 17; write for example {"type": "rdma"}
        "#]],
    );
}

#[test]
fn both_names_of_meta_plugins_may_agree_and_must_not_differ() {
    check(
        r#"{kind: SriovNetwork, spec: {metaPlugins: '{"type":"rdma"}', metaPluginsConfig: ' {"type":"rdma"} '}}"#,
        expect![[r#"
            {
                "cniVersion": "1.0.0",
                "name": "test",
                "plugins": [
                    {
                        "type": "sriov",
                        "vlan": 0,
                        "vlanQoS": 0,
                        "ipam": {}
                    },
                    {
                        "type": "rdma"
                    }
                ]
            }
            takes the RDMA device
        "#]],
    );
    check(
        r#"{kind: SriovNetwork, spec: {metaPlugins: '{"type":"rdma"}', metaPluginsConfig: '{"type":"tuning"}'}}"#,
        expect![[r#"
            SriovNetwork ns/test: metaPlugins and metaPluginsConfig are the same field and differ; keep one of them
        "#]],
    );
}

#[test]
fn values_out_of_range_are_refused_all_at_once() {
    check(
        r#"{kind: SriovNetwork, spec: {vlan: 4095, vlanQoS: 8, vlanProto: "802.1x", spoofChk: "yes", trust: "true", linkState: up, minTxRate: 10, maxTxRate: 5}}"#,
        expect![[r#"
            SriovNetwork ns/test: vlan 4095 is out of range; write 0 to 4094
            SriovNetwork ns/test: vlanQoS 8 is out of range; write 0 to 7
            SriovNetwork ns/test: vlanProto "802.1x" is unknown; write 802.1q or 802.1Q or 802.1ad or 802.1AD
            SriovNetwork ns/test: spoofChk "yes" is unknown; write on or off
            SriovNetwork ns/test: trust "true" is unknown; write on or off
            SriovNetwork ns/test: linkState "up" is unknown; write auto or enable or disable
            SriovNetwork ns/test: minTxRate 10 is above maxTxRate 5
        "#]],
    );
    check(
        r#"{kind: OVSNetwork, spec: {vlan: 4096, trunk: [{minID: 5}, {minID: 9, maxID: 3}, {}]}}"#,
        expect![[r#"
            OVSNetwork ns/test: vlan 4096 is out of range; write 0 to 4095
            OVSNetwork ns/test: trunk has an entry that is neither an id nor a range; write id, or minID and maxID
            OVSNetwork ns/test: trunk minID 9 is above maxID 3
            OVSNetwork ns/test: trunk has an entry that is neither an id nor a range; write id, or minID and maxID
        "#]],
    );
}

#[test]
fn a_network_namespace_is_for_networks_of_the_operators_namespace() {
    check(
        r#"{kind: SriovNetwork, metadata: {namespace: default}, spec: {networkNamespace: other}}"#,
        expect![[r#"
            SriovNetwork default/test: spec.networkNamespace cannot be set when the resource is not in the operator namespace (ns); take it out, or create the network there
        "#]],
    );
}
