//! Pods and their networks: every way to name them, and what is told when networks and requests do not agree.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use expect_test::{Expect, expect};
use planner::inject::{Attachment, NetworkRef, PodNetworks, check as find, networks};

fn attachment(network: &NetworkRef) -> Attachment {
    match (network.namespace.as_str(), network.name.as_str()) {
        ("default", "rdma-network") => Attachment::Of("openshift.io/rdma".to_owned()),
        ("default", "bridge") => Attachment::Plain,
        _ => Attachment::Absent,
    }
}

fn check(annotation: &str, requests: &[(&str, u64)], expected: Expect) {
    let pod = PodNetworks {
        namespace: "default".to_owned(),
        name: "app".to_owned(),
        annotation: annotation.to_owned(),
        requests: requests.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect(),
    };
    let text: String = find(&pod, "openshift.io", attachment)
        .iter()
        .map(|problem| format!("{} {problem}\n", problem.reason))
        .collect();
    expected.assert_eq(&text);
}

#[test]
fn the_guides_pod_is_fine() {
    check("rdma-network", &[("openshift.io/rdma", 1), ("nvidia.com/gpu", 8)], expect![[""]]);
    check("", &[], expect![[""]]);
    check("bridge", &[], expect![[""]]);
}

#[test]
fn the_annotation_without_the_resource_is_told() {
    check(
        "rdma-network",
        &[],
        expect![[r#"
        ResourceNotRequested pod default/app: its networks need 1 of openshift.io/rdma and its containers ask for 0; write openshift.io/rdma: "1" under resources.limits of a container
    "#]],
    );
    check(
        "rdma-network, rdma-network@net7",
        &[("openshift.io/rdma", 1)],
        expect![[r#"
        ResourceNotRequested pod default/app: its networks need 2 of openshift.io/rdma and its containers ask for 1; write openshift.io/rdma: "2" under resources.limits of a container
    "#]],
    );
}

#[test]
fn the_resource_without_the_annotation_is_told() {
    check(
        "",
        &[("openshift.io/rdma", 2)],
        expect![[r#"
        ResourceWithoutNetwork pod default/app: its containers ask for 2 of openshift.io/rdma and its networks use 0; name a network of this resource in k8s.v1.cni.cncf.io/networks, or ask for fewer
    "#]],
    );
}

#[test]
fn a_network_that_does_not_exist_is_told() {
    check(
        "other/rdma-network",
        &[],
        expect![[r#"
        NetworkNotFound pod default/app: k8s.v1.cni.cncf.io/networks names other/rdma-network, and there is no such NetworkAttachmentDefinition; create a network of this name there or correct the annotation
    "#]],
    );
}

#[test]
fn an_annotation_that_cannot_be_read_is_told() {
    check(
        "[{\"name\": \"rdma-network\"}",
        &[],
        expect![[r#"
        InvalidNetwork pod default/app: k8s.v1.cni.cncf.io/networks is not a JSON list: EOF while parsing a list at line 1 column 25; write for example [{"name": "rdma-network"}]
    "#]],
    );
    check(
        "[{\"namespace\": \"default\"}]",
        &[],
        expect![[r#"
        InvalidNetwork pod default/app: k8s.v1.cni.cncf.io/networks has an entry without a name; write for example [{"name": "rdma-network"}]
    "#]],
    );
    check(
        "default/",
        &[],
        expect![[r#"
        InvalidNetwork pod default/app: k8s.v1.cni.cncf.io/networks "default/" is no network; write name, namespace/name or name@interface
    "#]],
    );
}

#[test]
fn both_forms_name_the_same_networks() {
    let short = networks("rdma-network@net1, other/x", "default").unwrap();
    let json = r#"[{"name":"rdma-network","interface":"net1"},{"name":"x","namespace":"other"}]"#;
    assert_eq!(networks(json, "default").unwrap(), short);
    assert_eq!(short.len(), 2);
}
