//! Rights: after an installation has done everything that it is for, and was taken back, each right that it was given
//! has been used, and nothing that it asked for was refused.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod live;

use api::{label, names};
use live::{Cluster, SPACE, text, yaml};
use playground::demo;
use playground::install;
use playground::live::Options;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

/// Rights whose use no playground can show, each with its reason.
const UNSEEN: &[&str] = &[
    // A drain past its deadline, in a pool whose policy allows it; the guide's pods leave in time.
    "ClusterRole/sriov-network-operator rule 1: delete pods",
    // A pool that cannot be read says so by patch, since its grants are not known; the CRD lets none in.
    "Role/sriov-network-operator/sriov-network-operator rule 1: patch sriovnetworkpoolconfigs/status.sriovnetwork.openshift.io",
];

/// Everything that the roles of the manifests allow, as the store writes down what is used.
fn granted() -> BTreeSet<String> {
    let mut granted = BTreeSet::new();
    for document in install::documents().unwrap() {
        let (kind, name) = (text(&document["kind"]), text(&document["metadata"]["name"]));
        let role = match kind.as_str() {
            "ClusterRole" => format!("ClusterRole/{name}"),
            "Role" => format!("Role/{SPACE}/{name}"),
            _ => continue,
        };
        let list = |rule: &Value, key: &str| -> Vec<String> {
            rule[key].as_array().into_iter().flatten().map(text).collect()
        };
        for (index, rule) in document["rules"].as_array().unwrap().iter().enumerate() {
            for group in list(rule, "apiGroups") {
                for resource in list(rule, "resources") {
                    for verb in list(rule, "verbs") {
                        let what = match group.as_str() {
                            "" => resource.clone(),
                            group => format!("{resource}.{group}"),
                        };
                        granted.insert(format!("{role} rule {index}: {verb} {what}"));
                    }
                }
            }
        }
    }
    granted
}

fn network(kind: &str, name: &str) -> Value {
    yaml(&format!(
        "{{apiVersion: sriovnetwork.openshift.io/v1, kind: {kind}, metadata: {{name: {name}, namespace: {SPACE}}}, \
         spec: {{resourceName: rdma_exclusive_device, networkNamespace: default}}}}"
    ))
}

/// Networks of all kinds from the operator's namespace into another, and away again.
fn networks(cluster: &Cluster) {
    let kinds = [names::SRIOV_NETWORK, names::IB_NETWORK, names::OVS_NETWORK];
    for kind in kinds {
        let network = network(kind, &kind.to_lowercase());
        cluster.apply(&network);
        let name = kind.to_lowercase();
        cluster.until_is(
            names::API_VERSION,
            kind,
            SPACE,
            &name,
            "/status/conditions/0/status",
            "True",
        );
        cluster.delete(&network);
    }
}

#[test]
fn every_right_is_used_and_none_is_missing() {
    // A node that leaves takes its state along at once, and not after half an hour.
    let amend = |document: &mut Value| {
        if document["kind"] == "Deployment" {
            let environment =
                document["spec"]["template"]["spec"]["containers"][0]["env"].as_array_mut();
            for variable in environment.unwrap() {
                if variable["name"] == "STALE_NODE_STATE_CLEANUP_DELAY_MINUTES" {
                    variable["value"] = "0".into();
                }
            }
        }
    };
    let boot_time = Duration::from_millis(500);
    let cluster = Cluster::of(Options { nodes: 2, boot_time, amend, ..Options::default() });
    let mut told = Vec::new();
    let report =
        cluster.runtime.block_on(demo::run(&cluster.user, &demo::Options::default(), &mut told));
    assert!(report.ok(), "{}", String::from_utf8(told).unwrap());
    networks(&cluster);

    // The guide is taken back, in the order in which it was given.
    let manifests = include_str!("../../../docs/tutorial/rdma-configuration.md");
    let blocks = manifests.split("```yaml\n").skip(1).filter_map(|rest| rest.split("\n```").next());
    for block in blocks {
        let mut object = yaml(block);
        if object["metadata"]["namespace"].is_null() {
            object["metadata"]["namespace"] = "default".into();
        }
        cluster.delete(&object);
    }
    for node in ["worker-0", "worker-1"] {
        let state = |pointer: &str, wanted: &str| {
            cluster.until_is(names::API_VERSION, names::NODE_STATE, SPACE, node, pointer, wanted);
        };
        state("/status/system/rdmaMode", "shared");
        state("/spec/interfaces", "[]");
        state("/status/syncStatus", "Succeeded");
        let machine = cluster.playground.cluster().nodes[node].kubelet.host.process();
        let vfs =
            host::Host::read(&machine, "/sys/class/net/enp3s0f0/device/sriov_numvfs").unwrap();
        assert_eq!(vfs, b"0\n", "{node}");
        cluster.until_is("v1", "Node", "", node, "/spec/unschedulable", "");
    }

    // A node leaves, and the installation goes, with upstream's finalizer still on its object.
    cluster.merge(
        "Node",
        "",
        "worker-1",
        json!({ "metadata": { "labels": { label::WORKER: null } } }),
    );
    cluster.until_is(
        names::API_VERSION,
        names::NODE_STATE,
        SPACE,
        "worker-1",
        "/metadata/name",
        "",
    );
    let finalizers = json!({ "metadata": { "finalizers": [names::CONFIG_FINALIZER] } });
    cluster.merge(names::OPERATOR_CONFIG, SPACE, names::DEFAULT_CONFIG, finalizers);
    let config = cluster.get(names::OPERATOR_CONFIG, SPACE, names::DEFAULT_CONFIG).unwrap();
    cluster.delete(&config);

    let store = cluster.playground.shared().store();
    let used: BTreeSet<String> = store.used_rules().iter().map(ToString::to_string).collect();
    let unseen: BTreeSet<String> = UNSEEN.iter().map(|right| (*right).to_owned()).collect();
    let granted = granted();
    assert!(granted.len() > 40, "the manifests are read wrongly: {granted:#?}");
    let spare: Vec<&String> = granted.difference(&used).collect();
    let expected: Vec<&String> = unseen.iter().collect();
    assert_eq!(spare, expected, "rights that nobody used");
    assert_eq!(store.denials().iter().collect::<Vec<_>>(), Vec::<&String>::new());
}
