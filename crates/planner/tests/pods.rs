//! Pods and their networks: every way to name them, and what is told when networks and requests do not agree.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use expect_test::{Expect, expect};
use planner::inject::{
    Attachment, NetworkRef, NodeSupply, PodNetworks, Supply, check as find, networks, shortage,
};

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
    let text: String =
        find(&pod, "openshift.io", attachment, |resource| resource == "openshift.io/dpdk")
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
fn devices_that_need_no_network_and_networks_that_are_not_known_are_no_reason_to_complain() {
    check("", &[("openshift.io/dpdk", 2), ("nvidia.com/gpu", 8)], expect![[""]]);
    // The missing network is the problem; what it would use is not known.
    check(
        "missing",
        &[("openshift.io/rdma", 1)],
        expect![[r#"
            NetworkNotFound pod default/app: k8s.v1.cni.cncf.io/networks names default/missing, and there is no such NetworkAttachmentDefinition; create a network of this name there or correct the annotation
        "#]],
    );
}

/// Nodes as (name, allocatable, free).
fn check_shortage(asked: u64, nodes: &[(&str, u64, u64)], expected: Expect) {
    let node = |(name, allocatable, free): &(&str, u64, u64)| NodeSupply {
        node: (*name).to_owned(),
        allocatable: *allocatable,
        free: *free,
    };
    let nodes = nodes.iter().map(node).collect();
    let of_train = Supply { policies: vec!["train".to_owned()], nodes };
    let supply = [("openshift.io/rdma".to_owned(), of_train)].into();
    let requests = ["openshift.io/rdma", "openshift.io/rmda", "nvidia.com/gpu"];
    let pod = PodNetworks {
        namespace: "default".to_owned(),
        name: "app".to_owned(),
        annotation: String::new(),
        requests: requests.iter().map(|name| ((*name).to_owned(), asked)).collect(),
    };
    let text: String = shortage(&pod, "openshift.io", &supply)
        .iter()
        .map(|problem| format!("{} {problem}\n", problem.reason))
        .collect();
    expected.assert_eq(&text);
}

#[test]
fn a_pod_without_a_node_is_told_which_resource_which_nodes_lack() {
    check_shortage(
        9,
        &[("worker-0", 4, 4), ("worker-1", 8, 0), ("worker-2", 0, 0)],
        expect![[r#"
        NotEnoughDevices pod default/app: asks for 9 of openshift.io/rdma and worker-0 has 4 free of 4, worker-1 has 0 free of 8; ask for fewer or raise numVfs in policy train
        ResourceNotOffered pod default/app: asks for 9 of openshift.io/rmda, and no policy has resourceName: rmda; create one, or ask for one of openshift.io/rdma
    "#]],
    );
    check_shortage(
        3,
        &[("worker-0", 4, 2), ("worker-1", 4, 0)],
        expect![[r#"
        NotEnoughDevices pod default/app: asks for 3 of openshift.io/rdma and worker-0 has 2 free of 4, worker-1 has 0 free of 4; it waits until pods that hold them end
        ResourceNotOffered pod default/app: asks for 3 of openshift.io/rmda, and no policy has resourceName: rmda; create one, or ask for one of openshift.io/rdma
    "#]],
    );
    // A node has enough, or none has any yet: devices are not the reason, or the policy says it.
    check_shortage(
        1,
        &[("worker-0", 4, 1)],
        expect![[r#"
        ResourceNotOffered pod default/app: asks for 1 of openshift.io/rmda, and no policy has resourceName: rmda; create one, or ask for one of openshift.io/rdma
    "#]],
    );
    check_shortage(
        1,
        &[("worker-0", 0, 0)],
        expect![[r#"
        ResourceNotOffered pod default/app: asks for 1 of openshift.io/rmda, and no policy has resourceName: rmda; create one, or ask for one of openshift.io/rdma
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
