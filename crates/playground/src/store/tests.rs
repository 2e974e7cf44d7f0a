//! Scenarios on the store: requests in, one a line; answers out, one a line.

use super::{Store, User};
use api::wire::{Method, PatchType, Request, Response};
use expect_test::{Expect, expect};
use jiff::Timestamp;
use serde_json::{Value, json};

mod basics;
mod definitions;
mod documents;
mod patches;
mod rights;
mod tables;

pub(super) fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

/// One line: `METHOD /path?query body`, where the body is JSON without line breaks.
pub(super) fn request(line: &str) -> Request {
    let mut words = line.splitn(3, ' ');
    let method = match words.next().unwrap() {
        "GET" => Method::Get,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        "JSON" => Method::Patch(PatchType::Json),
        "MERGE" => Method::Patch(PatchType::Merge),
        "STRATEGIC" => Method::Patch(PatchType::Strategic),
        "APPLY" => Method::Patch(PatchType::Apply),
        other => panic!("no method {other:?}"),
    };
    let target = words.next().unwrap();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut request = Request::new(method, path);
    for (key, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
        request = request.with_query(key, value);
    }
    match words.next() {
        Some(body) => request.with_body(serde_json::from_str(body).unwrap()),
        None => request,
    }
}

/// An answer on one line: the sentence of a refusal, or the object without what every object has.
pub(super) fn shown(response: &Response) -> String {
    let body = &response.body;
    if body["kind"] == "Status" {
        let (reason, message) = (&body["reason"], &body["message"]);
        return match body["status"] == "Success" {
            true => format!("{} Success", response.status),
            false => format!(
                "{} {}: {}",
                response.status,
                reason.as_str().unwrap_or_default(),
                message.as_str().unwrap()
            ),
        };
    }
    let mut body = body.clone();
    if let Some(items) = body.get("items").and_then(Value::as_array) {
        let names: Vec<_> =
            items.iter().map(|item| item["metadata"]["name"].as_str().unwrap()).collect();
        let more = body["metadata"].get("remainingItemCount");
        return format!(
            "{} {} {names:?}{}",
            response.status,
            body["kind"].as_str().unwrap(),
            more.map(|count| format!(" and {count} more")).unwrap_or_default()
        );
    }
    strip(&mut body);
    format!("{} {body}", response.status)
}

pub(super) fn strip(object: &mut Value) {
    object.as_object_mut().unwrap().shift_remove("apiVersion");
    let metadata = object["metadata"].as_object_mut().unwrap();
    for field in ["uid", "creationTimestamp", "managedFields", "namespace", "selfLink"] {
        metadata.shift_remove(field);
    }
}

/// A custom resource with most things that a schema can say.
pub(super) fn widget_definition() -> Value {
    let schema = json!({
        "type": "object",
        "required": ["spec"],
        "properties": {
            "spec": {
                "type": "object",
                "required": ["size"],
                "properties": {
                    "size": { "type": "integer", "minimum": 0, "maximum": 99 },
                    "mode": { "type": "string", "enum": ["shared", "exclusive"] },
                    "names": { "type": "array", "items": { "type": "string", "pattern": "^[a-z]+$" } },
                    "limit": { "x-kubernetes-int-or-string": true },
                    "color": { "type": "string", "default": "green" },
                    "labels": { "type": "object", "additionalProperties": { "type": "string" } },
                    "free": { "type": "object", "x-kubernetes-preserve-unknown-fields": true },
                    "parts": {
                        "type": "array",
                        "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                        "items": {
                            "type": "object", "required": ["name"],
                            "properties": { "name": { "type": "string" }, "count": { "type": "integer" } },
                        },
                    },
                    "tags": {
                        "type": "array", "x-kubernetes-list-type": "set", "items": { "type": "string" },
                    },
                },
            },
            "status": {
                "type": "object",
                "properties": {
                    "phase": { "type": "string" },
                    "conditions": {
                        "type": "array",
                        "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"],
                        "items": {
                            "type": "object",
                            "properties": { "type": { "type": "string" }, "status": { "type": "string" } },
                        },
                    },
                },
            },
        },
    });
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": "widgets.example.com" },
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": { "plural": "widgets", "singular": "widget", "kind": "Widget", "shortNames": ["wd"] },
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": { "openAPIV3Schema": schema },
                "subresources": { "status": {} },
                "additionalPrinterColumns": [
                    { "name": "Size", "type": "integer", "jsonPath": ".spec.size" },
                    { "name": "Ready", "type": "string",
                      "jsonPath": ".status.conditions[?(@.type==\"Ready\")].status" },
                    { "name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp" },
                ],
            }],
        },
    })
}

/// A store that serves widgets.
pub(super) fn store() -> Store {
    let mut store = Store::new(1, now());
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let request = Request::new(Method::Post, path).with_body(widget_definition());
    let response = store.handle(now(), &User::admin(), &request);
    assert_eq!(response.status, 201, "{}", response.body);
    store.take_audit();
    store
}

/// Sends the lines to a fresh store, as admin, and compares the answers.
pub(super) fn check(lines: &[&str], expected: Expect) {
    let mut store = store();
    expected.assert_eq(&run(&mut store, &User::admin(), lines));
}

pub(super) fn run(store: &mut Store, who: &User, lines: &[&str]) -> String {
    let answers = lines.iter().map(|line| {
        let response = store.handle(now(), who, &request(line));
        shown(&response) + "\n"
    });
    answers.collect()
}

#[test]
fn two_stores_with_one_seed_are_the_same() {
    let mut one = store();
    let mut two = store();
    let line = r#"POST /api/v1/namespaces/default/configmaps {"metadata":{"generateName":"a-"}}"#;
    let answers =
        [&mut one, &mut two].map(|store| store.handle(now(), &User::admin(), &request(line)));
    assert_eq!(answers[0], answers[1]);
    expect!["a-rsf8g"].assert_eq(answers[0].body["metadata"]["name"].as_str().unwrap());
}
