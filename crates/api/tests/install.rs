//! deploy/install.yaml: every right has its reason, nothing asks for more than a verb on a resource, names fit together.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use api::names;
use expect_test::expect;
use serde_json::Value;
use std::collections::BTreeSet;

const INSTALL: &str = concat!(
    include_str!("../../../deploy/install.yaml"),
    "\n---\n",
    include_str!("../../../deploy/openshift.yaml"),
);

fn objects() -> Vec<Value> {
    serde_saphyr::from_multiple(INSTALL).unwrap()
}

fn of_kind(kind: &str) -> Vec<Value> {
    objects().into_iter().filter(|object| object["kind"] == kind).collect()
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn words(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

#[test]
fn what_is_installed_and_where() {
    let names: Vec<String> = objects()
        .iter()
        .map(|object| {
            let [kind, namespace, name] =
                ["/kind", "/metadata/namespace", "/metadata/name"].map(|p| text(object, p));
            format!("{kind} {namespace} {name}").replace("  ", " ")
        })
        .collect();
    expect![[r#"
        Namespace sriov-network-operator
        ServiceAccount sriov-network-operator sriov-network-operator
        ServiceAccount sriov-network-operator sriov-network-config-daemon
        ServiceAccount sriov-network-operator sriov-device-plugin
        ClusterRole sriov-network-operator
        ClusterRoleBinding sriov-network-operator
        Role sriov-network-operator sriov-network-operator
        RoleBinding sriov-network-operator sriov-network-operator
        ClusterRole sriov-network-config-daemon
        ClusterRoleBinding sriov-network-config-daemon
        Role sriov-network-operator sriov-network-config-daemon
        RoleBinding sriov-network-operator sriov-network-config-daemon
        ConfigMap sriov-network-operator supported-nic-ids
        Deployment sriov-network-operator sriov-network-operator
        SriovOperatorConfig sriov-network-operator default
        ClusterRole sriov-network-operator-openshift
        ClusterRoleBinding sriov-network-operator-openshift"#]]
    .assert_eq(&names.join("\n"));
}

#[test]
fn every_right_has_its_reason_in_a_comment_before_it() {
    let lines: Vec<&str> = INSTALL.lines().map(str::trim).collect();
    let rights = lines.windows(2).filter(|pair| pair[1].starts_with("- apiGroups:"));
    let bare: Vec<_> = rights.filter(|pair| !pair[0].starts_with('#')).collect();
    assert!(bare.is_empty(), "{bare:?}");
}

#[test]
fn no_right_is_a_wildcard_and_nobody_may_read_secrets_or_give_rights_away() {
    let roles = of_kind("ClusterRole").into_iter().chain(of_kind("Role"));
    for role in roles {
        for rule in role["rules"].as_array().unwrap() {
            let [groups, resources, verbs] =
                ["apiGroups", "resources", "verbs"].map(|key| words(&rule[key]));
            assert!(!groups.is_empty() && !resources.is_empty() && !verbs.is_empty(), "{rule}");
            for word in groups.iter().chain(&resources).chain(&verbs) {
                let forbidden =
                    ["*", "secrets", "escalate", "bind", "impersonate", "deletecollection"];
                assert!(!forbidden.contains(word), "{rule}");
            }
            assert!(!groups.contains(&"rbac.authorization.k8s.io"), "{rule}");
        }
    }
}

#[test]
fn what_is_written_by_server_side_apply_may_also_be_created() {
    // The API asks for both verbs when an apply makes the object; patch alone fails on the first write of a cluster.
    for role in of_kind("ClusterRole").into_iter().chain(of_kind("Role")) {
        for rule in role["rules"].as_array().unwrap() {
            let verbs = words(&rule["verbs"]);
            if verbs.contains(&"create") && !verbs.contains(&"patch") {
                let only_made = ["events", "pods/eviction", "leases"];
                let resources = words(&rule["resources"]);
                assert!(resources.iter().all(|name| only_made.contains(name)), "{rule}");
            }
        }
    }
}

#[test]
fn bindings_and_pods_name_what_is_there() {
    let accounts: BTreeSet<String> = of_kind("ServiceAccount")
        .iter()
        .map(|account| text(account, "/metadata/name").to_owned())
        .collect();
    for (binding, role) in [("ClusterRoleBinding", "ClusterRole"), ("RoleBinding", "Role")] {
        for binding in of_kind(binding) {
            assert_eq!(text(&binding, "/roleRef/kind"), role);
            let named = text(&binding, "/roleRef/name");
            assert!(of_kind(role).iter().any(|role| text(role, "/metadata/name") == named));
            for subject in binding["subjects"].as_array().unwrap() {
                assert_eq!(text(subject, "/namespace"), names::NAMESPACE);
                assert!(accounts.contains(text(subject, "/name")), "{subject}");
            }
        }
    }
    for deployment in of_kind("Deployment") {
        let account = text(&deployment, "/spec/template/spec/serviceAccountName");
        assert!(accounts.contains(account), "{account}");
    }
    assert!(accounts.contains(names::DAEMON) && accounts.contains(names::DEVICE_PLUGIN));
}

#[test]
fn the_operator_is_started_by_name_without_root_and_with_the_environment_it_reads() {
    let deployment = of_kind("Deployment").remove(0);
    assert_eq!(text(&deployment, "/metadata/name"), names::OPERATOR);
    let container = deployment.pointer("/spec/template/spec/containers/0").unwrap();
    assert_eq!(words(&container["command"]), ["ironrail-operator"]);
    assert_eq!(container.pointer("/securityContext/readOnlyRootFilesystem"), Some(&true.into()));
    let environment: Vec<String> = container["env"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| {
            let from = text(entry, "/valueFrom/fieldRef/fieldPath");
            format!("{}={}{from}", text(entry, "/name"), text(entry, "/value"))
        })
        .collect();
    expect![[r#"
        NAMESPACE=metadata.namespace
        POD_NAME=metadata.name
        RESOURCE_PREFIX=openshift.io
        CLUSTER_TYPE=kubernetes
        SRIOV_NETWORK_CONFIG_DAEMON_IMAGE=ironrail/node:0.1.0
        SRIOV_DEVICE_PLUGIN_IMAGE=ironrail/node:0.1.0
        SRIOV_CNI_BIN_PATH=/opt/cni/bin
        KUBELET_ROOT_DIR=/var/lib/kubelet
        STALE_NODE_STATE_CLEANUP_DELAY_MINUTES=30"#]]
    .assert_eq(&environment.join("\n"));
}

#[test]
fn the_default_config_is_one_that_the_operator_reads_whole() {
    let config = of_kind(names::OPERATOR_CONFIG).remove(0);
    assert_eq!(text(&config, "/metadata/name"), names::DEFAULT_CONFIG);
    let typed: api::operatorconfig::SriovOperatorConfig =
        serde_json::from_value(config.clone()).unwrap();
    // Everything that is written here is the default, so nothing is left of it: this file decides nothing.
    assert_eq!(typed.spec, Default::default());
    let known = ["logLevel", "disableDrain"];
    assert!(config["spec"].as_object().unwrap().keys().all(|key| known.contains(&key.as_str())));
}

#[test]
fn the_list_of_tested_cards_has_upstreams_lines() {
    let map = of_kind("ConfigMap").remove(0);
    assert_eq!(text(&map, "/metadata/name"), names::SUPPORTED_NIC_IDS);
    let lines: Vec<&str> =
        map["data"].as_object().unwrap().values().filter_map(Value::as_str).collect();
    let is_id = |id: &str| {
        id.len() == 4 && id.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    for line in &lines {
        let ids: Vec<&str> = line.split(' ').collect();
        assert!(ids.len() == 3 && ids.iter().all(|id| is_id(id)), "{line:?}");
    }
    let unique: BTreeSet<_> = lines.iter().collect();
    assert_eq!((lines.len(), unique.len()), (48, 48));
    assert!(lines.contains(&"15b3 1017 1018"), "the card of the guide is on the list");
}
