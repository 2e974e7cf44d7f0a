//! From a network to its NetworkAttachmentDefinition, and everything that can be in its way.

#![allow(clippy::unwrap_used)] // A test that cannot find its object has failed.

mod fake;

use expect_test::{Expect, expect};
use fake::{Api, Driver, config, node, settings};
use operator::queue::later;
use serde_json::{Value, json};

const OURS: &str = "sriov-network-operator";

fn namespace(name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } })
}

fn network(kind: &str, namespace: &str, name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "sriovnetwork.openshift.io/v1", "kind": kind,
        "metadata": { "name": name, "namespace": namespace }, "spec": spec,
    })
}

fn policy(resource: &str) -> Value {
    json!({
        "apiVersion": "sriovnetwork.openshift.io/v1", "kind": "SriovNetworkNodePolicy",
        "metadata": { "name": resource.replace('_', "-"), "namespace": OURS },
        "spec": {
            "resourceName": resource, "numVfs": 4, "nodeSelector": {}, "nicSelector": { "vendor": "8086" },
        },
    })
}

/// A cluster with policies that select no card of these tests, and with namespaces `default`, `other` and the
/// operator's, whose operator has nothing more to do.
fn cluster() -> (Api, Driver) {
    let mut api = Api::default();
    api.put(config());
    for name in [OURS, "default", "other"] {
        api.put(namespace(name));
    }
    for resource in ["r", "rdma_exclusive_device"] {
        api.put(policy(resource));
    }
    let mut driver = Driver::new(&api, settings());
    driver.settle(&mut api);
    (api, driver)
}

/// What the operator writes once the objects are there; then the world has to be quiet.
fn check(objects: &[Value], expected: Expect) -> (Api, Driver) {
    let (mut api, mut driver) = cluster();
    for object in objects {
        api.put(object.clone());
    }
    expected.assert_eq(&driver.settle(&mut api));
    quiet(&mut api, &mut driver);
    (api, driver)
}

/// Neither this operator nor a new one finds anything to write.
fn quiet(api: &mut Api, driver: &mut Driver) {
    driver.now = later(driver.now, std::time::Duration::from_secs(3600));
    assert_eq!(driver.settle(api), "");
    assert_eq!(Driver::at(api, settings(), driver.now).settle(api), "");
}

#[test]
fn the_guides_network_becomes_upstreams_text() {
    let spec = json!({
        "resourceName": "rdma_exclusive_device", "logLevel": "info",
        "ipam": r#"{ "type": "host-local", "subnet": "10.10.10.0/24" }"#,
        "metaPluginsConfig": r#"{ "type": "rdma" }"#,
    });
    let (api, _) = check(
        &[network("SriovNetwork", "default", "rdma-network", spec)],
        expect![[r#"
            apply NetworkAttachmentDefinition default/rdma-network {"config":"{\n    \"cniVersion\": \"1.0.0\",\n    \"name\": \"rdma-network\",\n    \"plugins\": [\n        {\n            \"type\": \"sriov\",\n            \"vlan\": 0,\n            \"vlanQoS\": 0,\n            \"logLevel\": \"info\",\n            \"ipam\": {\n                \"type\": \"host-local\",\n                \"subnet\": \"10.10.10.0/24\"\n            }\n        },\n        {\n            \"type\": \"rdma\"\n        }\n    ]\n}"}
            patch SriovNetwork default/rdma-network {"metadata":{"annotations":{"operator.sriovnetwork.openshift.io/last-network-namespace":"default"}}}
            apply SriovNetwork default/rdma-network status {} [Ready=True NetworkReady: NetworkAttachmentDefinition is provisioned and ready | Usable=True NothingFound: nothing speaks against using it]
            event SriovNetwork default/rdma-network NetworkReady: NetworkAttachmentDefinition is provisioned and ready"#]],
    );
    let made = api.get("NetworkAttachmentDefinition", "rdma-network").unwrap();
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
                        "subnet": "10.10.10.0/24"
                    }
                },
                {
                    "type": "rdma"
                }
            ]
        }"#]]
    .assert_eq(made["spec"]["config"].as_str().unwrap());
    expect![[r#"{"k8s.v1.cni.cncf.io/resourceName":"openshift.io/rdma_exclusive_device","sriovnetwork.openshift.io/owner-ref":"SriovNetwork.sriovnetwork.openshift.io/default/rdma-network"}"#]].assert_eq(&made["metadata"]["annotations"].to_string());
    assert_eq!(made["metadata"]["ownerReferences"][0]["kind"], "SriovNetwork");
}

#[test]
fn a_network_of_ours_aims_elsewhere_and_has_a_finalizer() {
    let spec = json!({ "resourceName": "r", "networkNamespace": "default" });
    let (mut api, mut driver) = check(
        &[network("SriovIBNetwork", OURS, "n", spec)],
        expect![[r#"
            patch SriovIBNetwork sriov-network-operator/n {"metadata":{"finalizers":["netattdef.finalizers.sriovnetwork.openshift.io"]}}
            apply NetworkAttachmentDefinition default/n {"config":"{\n    \"cniVersion\": \"1.0.0\",\n    \"name\": \"n\",\n    \"type\": \"ib-sriov\",\n    \"ipam\": {}\n}"}
            patch SriovIBNetwork sriov-network-operator/n {"metadata":{"annotations":{"operator.sriovnetwork.openshift.io/last-network-namespace":"default"}}}
            apply SriovIBNetwork sriov-network-operator/n status {} [Ready=True NetworkReady: NetworkAttachmentDefinition is provisioned and ready | Usable=True NothingFound: nothing speaks against using it]
            event SriovIBNetwork sriov-network-operator/n NetworkReady: NetworkAttachmentDefinition is provisioned and ready"#]],
    );
    // It moves: the old definition goes.
    api.edit("SriovIBNetwork", "n", |n| n["spec"]["networkNamespace"] = "other".into());
    expect![[r#"
        delete NetworkAttachmentDefinition default/n
        apply NetworkAttachmentDefinition other/n {"config":"{\n    \"cniVersion\": \"1.0.0\",\n    \"name\": \"n\",\n    \"type\": \"ib-sriov\",\n    \"ipam\": {}\n}"}
        patch SriovIBNetwork sriov-network-operator/n {"metadata":{"annotations":{"operator.sriovnetwork.openshift.io/last-network-namespace":"other"}}}
        apply SriovIBNetwork sriov-network-operator/n status {} [Ready=True NetworkReady: NetworkAttachmentDefinition is provisioned and ready | Usable=True NothingFound: nothing speaks against using it]"#]].assert_eq(&driver.settle(&mut api));
    // It goes: the definition goes with it.
    api.edit("SriovIBNetwork", "n", |n| {
        n["metadata"]["deletionTimestamp"] = "2026-11-22T12:00:00Z".into();
    });
    expect![[r#"
        delete NetworkAttachmentDefinition other/n
        patch SriovIBNetwork sriov-network-operator/n {"metadata":{"finalizers":[]}}"#]]
    .assert_eq(&driver.settle(&mut api));
    assert_eq!(api.get("SriovIBNetwork", "n"), None);
    quiet(&mut api, &mut driver);
}

#[test]
fn networks_elsewhere_may_not_aim_elsewhere() {
    let spec = json!({ "resourceName": "r", "networkNamespace": "other" });
    check(
        &[network("OVSNetwork", "default", "n", spec)],
        expect![[r#"
            apply OVSNetwork default/n status {} [Ready=False NetworkAttachmentDefinitionInvalid: spec.networkNamespace cannot be set when the resource is not in the operator namespace (sriov-network-operator); take it out, or create the network there | Usable=False NotReady: see the condition Ready]
            event OVSNetwork default/n NetworkAttachmentDefinitionInvalid: spec.networkNamespace cannot be set when the resource is not in the operator namespace (sriov-network-operator); take it out, or create the network there"#]],
    );
}

#[test]
fn a_missing_namespace_is_waited_for() {
    let spec = json!({ "resourceName": "r", "networkNamespace": "later" });
    let (mut api, mut driver) = check(
        &[network("SriovNetwork", OURS, "n", spec)],
        expect![[r#"
            patch SriovNetwork sriov-network-operator/n {"metadata":{"finalizers":["netattdef.finalizers.sriovnetwork.openshift.io"]}}
            apply SriovNetwork sriov-network-operator/n status {} [Ready=False NamespaceNotFound: target namespace "later" does not exist; create it, or correct networkNamespace | Usable=False NotReady: see the condition Ready]
            event SriovNetwork sriov-network-operator/n NamespaceNotFound: target namespace "later" does not exist; create it, or correct networkNamespace"#]],
    );
    api.put(namespace("later"));
    expect![[r#"
        apply NetworkAttachmentDefinition later/n {"config":"{\n    \"cniVersion\": \"1.0.0\",\n    \"name\": \"n\",\n    \"type\": \"sriov\",\n    \"vlan\": 0,\n    \"vlanQoS\": 0,\n    \"ipam\": {}\n}"}
        patch SriovNetwork sriov-network-operator/n {"metadata":{"annotations":{"operator.sriovnetwork.openshift.io/last-network-namespace":"later"}}}
        apply SriovNetwork sriov-network-operator/n status {} [Ready=True NetworkReady: NetworkAttachmentDefinition is provisioned and ready | Usable=True NothingFound: nothing speaks against using it]
        event SriovNetwork sriov-network-operator/n NetworkReady: NetworkAttachmentDefinition is provisioned and ready"#]].assert_eq(&driver.settle(&mut api));
    quiet(&mut api, &mut driver);
}

#[test]
fn bad_text_is_named_and_stops_nobody_else() {
    let bad = |name: &str, field: &str, text: &str| {
        network("SriovNetwork", "default", name, json!({ "resourceName": "r", field: text }))
    };
    check(
        &[
            bad("a-ipam", "ipam", "{ type: host-local }"),
            bad("b-array", "metaPlugins", r#"[{"type":"rdma"}]"#),
            bad("c-comma", "metaPlugins", r#"{"type":"rdma"},"#),
            bad("d-good", "metaPlugins", r#"{"type":"vrf","vrfname":"o'neil"}"#),
        ],
        expect![[r#"
            apply SriovNetwork default/a-ipam status {} [Ready=False NetworkAttachmentDefinitionInvalid: ipam is not JSON: key must be a string at line 1 column 3; write for example {"type": "whereabouts"} | Usable=False NotReady: see the condition Ready]
            event SriovNetwork default/a-ipam NetworkAttachmentDefinitionInvalid: ipam is not JSON: key must be a string at line 1 column 3; write for example {"type": "whereabouts"}
            apply SriovNetwork default/b-array status {} [Ready=False NetworkAttachmentDefinitionInvalid: metaPlugins is a JSON array; write its elements without the brackets, with commas between them | Usable=False NotReady: see the condition Ready]
            event SriovNetwork default/b-array NetworkAttachmentDefinitionInvalid: metaPlugins is a JSON array; write its elements without the brackets, with commas between them
            apply SriovNetwork default/c-comma status {} [Ready=False NetworkAttachmentDefinitionInvalid: metaPlugins ends with a comma; take it away | Usable=False NotReady: see the condition Ready]
            event SriovNetwork default/c-comma NetworkAttachmentDefinitionInvalid: metaPlugins ends with a comma; take it away
            apply NetworkAttachmentDefinition default/d-good {"config":"{\n    \"cniVersion\": \"1.0.0\",\n    \"name\": \"d-good\",\n    \"plugins\": [\n        {\n            \"type\": \"sriov\",\n            \"vlan\": 0,\n            \"vlanQoS\": 0,\n            \"ipam\": {}\n        },\n        {\n            \"type\": \"vrf\",\n            \"vrfname\": \"o'neil\"\n        }\n    ]\n}"}
            patch SriovNetwork default/d-good {"metadata":{"annotations":{"operator.sriovnetwork.openshift.io/last-network-namespace":"default"}}}
            apply SriovNetwork default/d-good status {} [Ready=True NetworkReady: NetworkAttachmentDefinition is provisioned and ready | Usable=True NothingFound: nothing speaks against using it]
            event SriovNetwork default/d-good NetworkReady: NetworkAttachmentDefinition is provisioned and ready"#]],
    );
}

#[test]
fn the_first_of_two_networks_keeps_the_definition() {
    let mut first = network("SriovNetwork", "default", "n", json!({ "resourceName": "r" }));
    first["metadata"]["creationTimestamp"] = "2026-11-22T11:00:00Z".into();
    let mut second = network(
        "SriovIBNetwork",
        OURS,
        "n",
        json!({ "resourceName": "r", "networkNamespace": "default" }),
    );
    second["metadata"]["creationTimestamp"] = "2026-11-22T11:30:00Z".into();
    let (mut api, mut driver) = check(
        &[second, first],
        expect![[r#"
            apply NetworkAttachmentDefinition default/n {"config":"{\n    \"cniVersion\": \"1.0.0\",\n    \"name\": \"n\",\n    \"type\": \"sriov\",\n    \"vlan\": 0,\n    \"vlanQoS\": 0,\n    \"ipam\": {}\n}"}
            patch SriovNetwork default/n {"metadata":{"annotations":{"operator.sriovnetwork.openshift.io/last-network-namespace":"default"}}}
            apply SriovNetwork default/n status {} [Ready=True NetworkReady: NetworkAttachmentDefinition is provisioned and ready | Usable=True NothingFound: nothing speaks against using it]
            event SriovNetwork default/n NetworkReady: NetworkAttachmentDefinition is provisioned and ready
            patch SriovIBNetwork sriov-network-operator/n {"metadata":{"finalizers":["netattdef.finalizers.sriovnetwork.openshift.io"]}}
            apply SriovIBNetwork sriov-network-operator/n status {} [Ready=False NetworkAttachmentDefinitionInvalid: NetworkAttachmentDefinition 'default/n' already exists and is owned by SriovNetwork.sriovnetwork.openshift.io/default/n; rename one of the two | Usable=False NotReady: see the condition Ready]
            event SriovIBNetwork sriov-network-operator/n NetworkAttachmentDefinitionInvalid: NetworkAttachmentDefinition 'default/n' already exists and is owned by SriovNetwork.sriovnetwork.openshift.io/default/n; rename one of the two
            apply SriovIBNetwork sriov-network-operator/n status {} [Ready=False NetworkAttachmentDefinitionInvalid: NetworkAttachmentDefinition 'default/n' already exists and is owned by SriovNetwork.sriovnetwork.openshift.io/default/n; rename one of the two | Usable=False Conflict: the NetworkAttachmentDefinition default/n belongs to SriovNetwork default/n already; rename one of the two]
            event SriovIBNetwork sriov-network-operator/n Conflict: the NetworkAttachmentDefinition default/n belongs to SriovNetwork default/n already; rename one of the two"#]],
    );
    // Once the first is gone, the second has its turn.
    let gone = api.objects.keys().filter(|key| {
        key.name == "n"
            && ["SriovNetwork", "NetworkAttachmentDefinition"].contains(&key.kind.as_str())
    });
    for key in gone.cloned().collect::<Vec<_>>() {
        api.remove(&key);
    }
    expect![[r#"
        apply NetworkAttachmentDefinition default/n {"config":"{\n    \"cniVersion\": \"1.0.0\",\n    \"name\": \"n\",\n    \"type\": \"ib-sriov\",\n    \"ipam\": {}\n}"}
        patch SriovIBNetwork sriov-network-operator/n {"metadata":{"annotations":{"operator.sriovnetwork.openshift.io/last-network-namespace":"default"}}}
        apply SriovIBNetwork sriov-network-operator/n status {} [Ready=True NetworkReady: NetworkAttachmentDefinition is provisioned and ready | Usable=False Conflict: the NetworkAttachmentDefinition default/n belongs to SriovNetwork default/n already; rename one of the two]
        event SriovIBNetwork sriov-network-operator/n NetworkReady: NetworkAttachmentDefinition is provisioned and ready
        apply SriovIBNetwork sriov-network-operator/n status {} [Ready=True NetworkReady: NetworkAttachmentDefinition is provisioned and ready | Usable=True NothingFound: nothing speaks against using it]"#]].assert_eq(&driver.settle(&mut api));
}

#[test]
fn a_definition_that_a_user_made_is_taken_over_and_what_users_add_stays() {
    let (mut api, mut driver) = cluster();
    api.put(json!({
        "apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
        "metadata": { "name": "n", "namespace": "default", "annotations": { "mine": "yes" } },
        "spec": { "config": "{}" },
    }));
    api.put(network("SriovNetwork", "default", "n", json!({ "resourceName": "r" })));
    expect![[r#"
        apply NetworkAttachmentDefinition default/n {"config":"{\n    \"cniVersion\": \"1.0.0\",\n    \"name\": \"n\",\n    \"type\": \"sriov\",\n    \"vlan\": 0,\n    \"vlanQoS\": 0,\n    \"ipam\": {}\n}"}
        patch SriovNetwork default/n {"metadata":{"annotations":{"operator.sriovnetwork.openshift.io/last-network-namespace":"default"}}}
        apply SriovNetwork default/n status {} [Ready=True NetworkReady: NetworkAttachmentDefinition is provisioned and ready | Usable=True NothingFound: nothing speaks against using it]
        event SriovNetwork default/n NetworkReady: NetworkAttachmentDefinition is provisioned and ready"#]].assert_eq(&driver.settle(&mut api));
    assert_eq!(api.annotation("NetworkAttachmentDefinition", "n", "mine"), "yes");
    // Removed by hand, it comes back.
    let key = api.objects.keys().find(|key| key.kind == "NetworkAttachmentDefinition").cloned();
    api.remove(&key.unwrap());
    expect![[r#"apply NetworkAttachmentDefinition default/n {"config":"{\n    \"cniVersion\": \"1.0.0\",\n    \"name\": \"n\",\n    \"type\": \"sriov\",\n    \"vlan\": 0,\n    \"vlanQoS\": 0,\n    \"ipam\": {}\n}"}"#]].assert_eq(&driver.settle(&mut api));
}

#[test]
fn a_refusal_of_the_api_is_said_in_the_condition() {
    let (mut api, mut driver) = cluster();
    api.forbid.insert(
        "NetworkAttachmentDefinition".to_owned(),
        "network-attachment-definitions is forbidden".to_owned(),
    );
    api.put(network("SriovNetwork", "default", "n", json!({ "resourceName": "r" })));
    for _ in 0..4 {
        driver.deliver(&api);
        driver.step(&mut api);
    }
    expect![[r#"
        apply NetworkAttachmentDefinition default/n {"config":"{\n    \"cniVersion\": \"1.0.0\",\n    \"name\": \"n\",\n    \"type\": \"sriov\",\n    \"vlan\": 0,\n    \"vlanQoS\": 0,\n    \"ipam\": {}\n}"} -> refused with 403: network-attachment-definitions is forbidden
        apply SriovNetwork default/n status {} [Ready=False NetworkAttachmentDefinitionInvalid: cannot write NetworkAttachmentDefinition default/n: refused with 403: network-attachment-definitions is forbidden | Usable=False NotReady: see the condition Ready]
        event SriovNetwork default/n NetworkAttachmentDefinitionInvalid: cannot write NetworkAttachmentDefinition default/n: refused with 403: network-attachment-definitions is forbidden
        apply NetworkAttachmentDefinition default/n {"config":"{\n    \"cniVersion\": \"1.0.0\",\n    \"name\": \"n\",\n    \"type\": \"sriov\",\n    \"vlan\": 0,\n    \"vlanQoS\": 0,\n    \"ipam\": {}\n}"} -> refused with 403: network-attachment-definitions is forbidden
        apply NetworkAttachmentDefinition default/n {"config":"{\n    \"cniVersion\": \"1.0.0\",\n    \"name\": \"n\",\n    \"type\": \"sriov\",\n    \"vlan\": 0,\n    \"vlanQoS\": 0,\n    \"ipam\": {}\n}"} -> refused with 403: network-attachment-definitions is forbidden"#]].assert_eq(&std::mem::take(&mut driver.trace).join("\n"));
    api.forbid.clear();
    driver.wait(60);
    expect![[r#"
        apply NetworkAttachmentDefinition default/n {"config":"{\n    \"cniVersion\": \"1.0.0\",\n    \"name\": \"n\",\n    \"type\": \"sriov\",\n    \"vlan\": 0,\n    \"vlanQoS\": 0,\n    \"ipam\": {}\n}"}
        patch SriovNetwork default/n {"metadata":{"annotations":{"operator.sriovnetwork.openshift.io/last-network-namespace":"default"}}}
        apply SriovNetwork default/n status {} [Ready=True NetworkReady: NetworkAttachmentDefinition is provisioned and ready | Usable=True NothingFound: nothing speaks against using it]
        event SriovNetwork default/n NetworkReady: NetworkAttachmentDefinition is provisioned and ready"#]].assert_eq(&driver.settle(&mut api));
    quiet(&mut api, &mut driver);
}

#[test]
fn host_local_on_two_nodes_is_named_before_a_pod_fails() {
    let (mut api, mut driver) = cluster();
    for name in ["worker-0", "worker-1"] {
        api.put(node(name));
        driver.settle(&mut api);
        api.edit("SriovNetworkNodeState", name, |state| {
            state["status"] = json!({ "interfaces": [
                { "pciAddress": "0000:3b:00.0", "name": "enp59s0f0", "vendor": "15b3", "totalvfs": 8 },
            ] });
        });
    }
    api.put(json!({
        "apiVersion": "sriovnetwork.openshift.io/v1", "kind": "SriovNetworkNodePolicy",
        "metadata": { "name": "p", "namespace": OURS },
        "spec": { "resourceName": "r", "nodeSelector": {}, "numVfs": 4, "nicSelector": { "vendor": "15b3" } },
    }));
    api.put(network(
        "SriovNetwork",
        "default",
        "n",
        json!({ "resourceName": "r", "ipam": r#"{"type":"host-local","subnet":"10.0.0.0/24"}"# }),
    ));
    driver.settle(&mut api);
    let made = api.get("SriovNetwork", "n").unwrap();
    let said: Vec<String> = made["status"]["conditions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| format!("{}={}: {}", c["type"], c["status"], c["message"]))
        .collect();
    expect![[r#"
        "Ready"="True": "NetworkAttachmentDefinition is provisioned and ready"
        "Usable"="False": "ipam host-local gives the same addresses on each of 2 nodes (worker-0, worker-1); use whereabouts or nv-ipam, or one network with a range of its own per node""#]].assert_eq(&said.join("\n"));
    quiet(&mut api, &mut driver);
}
