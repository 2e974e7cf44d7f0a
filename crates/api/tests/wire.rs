//! Each write as the HTTP that a Kubernetes API server gets, and each of its answers as a step sees it.

use api::Timestamp;
use api::names;
use api::wire::{Answer, Event, Method, ObjectKey, PatchType, Request, Response, Write};
use expect_test::{Expect, expect};
use serde_json::json;

/// The request as curl would show it.
fn http(request: &Request) -> String {
    let method = match request.method {
        Method::Get => "GET",
        Method::Post => "POST",
        Method::Put => "PUT",
        Method::Delete => "DELETE",
        Method::Patch(_) => "PATCH",
    };
    let query: Vec<String> =
        request.query.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let kind = match request.method {
        Method::Patch(kind) => format!("\n{}", kind.content_type()),
        _ => String::new(),
    };
    format!("{method} {}?{}{kind}\n{}", request.path, query.join("&"), request.body)
}

fn check(write: &Write, expected: Expect) {
    expected.assert_eq(&http(&write.request(names::OPERATOR)));
}

fn pool() -> serde_json::Value {
    json!({ "apiVersion": names::API_VERSION, "kind": names::POOL,
        "metadata": { "name": "p", "namespace": "ours", "resourceVersion": "7" } })
}

#[test]
fn an_apply_is_a_forced_server_side_apply_of_our_manager() {
    check(
        &Write::Apply { object: pool(), subresource: "status" },
        expect![[r#"
            PATCH /apis/sriovnetwork.openshift.io/v1/namespaces/ours/sriovnetworkpoolconfigs/p/status?fieldManager=sriov-network-operator&force=true
            application/apply-patch+yaml
            {"apiVersion":"sriovnetwork.openshift.io/v1","kind":"SriovNetworkPoolConfig","metadata":{"name":"p","namespace":"ours","resourceVersion":"7"}}"#]],
    );
}

#[test]
fn an_update_carries_the_version_it_was_decided_on() {
    check(
        &Write::Update { object: pool(), subresource: "status" },
        expect![[r#"
            PUT /apis/sriovnetwork.openshift.io/v1/namespaces/ours/sriovnetworkpoolconfigs/p/status?fieldManager=sriov-network-operator
            {"apiVersion":"sriovnetwork.openshift.io/v1","kind":"SriovNetworkPoolConfig","metadata":{"name":"p","namespace":"ours","resourceVersion":"7"}}"#]],
    );
}

#[test]
fn a_create_goes_to_the_collection() {
    check(
        &Write::Create { object: pool() },
        expect![[r#"
            POST /apis/sriovnetwork.openshift.io/v1/namespaces/ours/sriovnetworkpoolconfigs?fieldManager=sriov-network-operator
            {"apiVersion":"sriovnetwork.openshift.io/v1","kind":"SriovNetworkPoolConfig","metadata":{"name":"p","namespace":"ours","resourceVersion":"7"}}"#]],
    );
}

#[test]
fn a_patch_of_a_cluster_scoped_object_has_no_namespace_in_its_path() {
    let write = Write::Patch {
        key: ObjectKey::new("v1", "Node", "", "worker-0"),
        patch_type: PatchType::Merge,
        patch: json!({ "spec": { "unschedulable": true } }),
        subresource: "",
    };
    check(
        &write,
        expect![[r#"
            PATCH /api/v1/nodes/worker-0?fieldManager=sriov-network-operator
            application/merge-patch+json
            {"spec":{"unschedulable":true}}"#]],
    );
}

#[test]
fn a_delete_names_only_the_preconditions_that_it_has() {
    let key = ObjectKey::new(names::API_VERSION, names::NODE_STATE, "ours", "worker-0");
    check(
        &Write::Delete { key: key.clone(), uid: "u".into(), resource_version: String::new() },
        expect![[r#"
            DELETE /apis/sriovnetwork.openshift.io/v1/namespaces/ours/sriovnetworknodestates/worker-0?
            {"kind":"DeleteOptions","apiVersion":"v1","propagationPolicy":"Background","preconditions":{"uid":"u"}}"#]],
    );
    check(
        &Write::Delete { key, uid: String::new(), resource_version: "9".into() },
        expect![[r#"
            DELETE /apis/sriovnetwork.openshift.io/v1/namespaces/ours/sriovnetworknodestates/worker-0?
            {"kind":"DeleteOptions","apiVersion":"v1","propagationPolicy":"Background","preconditions":{"resourceVersion":"9"}}"#]],
    );
}

#[test]
fn an_eviction_is_of_this_pod_and_not_of_its_namesake() {
    check(
        &Write::Evict { namespace: "a".into(), pod: "train-7".into(), uid: "u".into() },
        expect![[r#"
            POST /api/v1/namespaces/a/pods/train-7/eviction?fieldManager=sriov-network-operator
            {"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":"train-7","namespace":"a"},"deleteOptions":{"preconditions":{"uid":"u"}}}"#]],
    );
}

#[test]
fn an_event_of_a_node_lives_in_the_default_namespace() {
    let event = Event {
        regarding: ObjectKey::new("v1", "Node", "", "worker-0"),
        uid: "u".into(),
        warning: false,
        reason: "Drained".into(),
        message: "worker-0 is drained".into(),
        component: names::OPERATOR,
        at: "2026-11-22T12:00:00Z".parse::<Timestamp>().expect("a time"),
    };
    check(
        &Write::Event(event),
        expect![[r#"
            POST /api/v1/namespaces/default/events?fieldManager=sriov-network-operator
            {"apiVersion":"v1","kind":"Event","metadata":{"name":"worker-0.18ea5c38afec8000.drained","namespace":"default"},"involvedObject":{"apiVersion":"v1","kind":"Node","namespace":"","name":"worker-0","uid":"u"},"type":"Normal","reason":"Drained","message":"worker-0 is drained","source":{"component":"sriov-network-operator"},"reportingComponent":"sriov-network-operator","reportingInstance":"","firstTimestamp":"2026-11-22T12:00:00Z","lastTimestamp":"2026-11-22T12:00:00Z","count":1}"#]],
    );
}

#[test]
fn every_answer_is_a_sentence() {
    let answers = [
        (200, json!({})),
        (404, json!({ "message": "nodes \"x\" not found" })),
        (409, json!({ "message": "the object has been modified" })),
        (
            429,
            json!({ "message": "Cannot evict pod as it would violate the pod's disruption budget." }),
        ),
        (403, json!({ "message": "nodes is forbidden" })),
        (500, json!("no object at all")),
    ];
    let said: Vec<String> = answers
        .map(|(status, body)| Answer::of(Response { status, body }).to_string())
        .into_iter()
        .chain([Answer::Unreachable("connection refused".into()).to_string()])
        .collect();
    expect![[r#"
        done
        nodes "x" not found
        the object has been modified
        Cannot evict pod as it would violate the pod's disruption budget.
        refused with 403: nodes is forbidden
        refused with 500: the server gave no message
        the API server did not answer: connection refused"#]]
    .assert_eq(&said.join("\n"));
}
