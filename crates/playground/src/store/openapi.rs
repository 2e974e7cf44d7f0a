//! OpenAPI: the schemas of custom resources for `kubectl explain`, and of every kind the one fact that kubectl looks for
//! before it validates: that PATCH knows `fieldValidation`.

use super::registry::Kind;
use serde_json::{Map, Value, json};
use std::sync::Arc;

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// Version 2 has no definitions: kubectl since 1.27 reads version 3.
pub fn version_2() -> Value {
    json!({
        "swagger": "2.0", "info": { "title": "ironrail playground", "version": "v1" },
        "paths": {}, "definitions": {},
    })
}

/// The list of documents.
pub fn root(group_versions: &[String]) -> Value {
    let paths: Map<String, Value> = group_versions
        .iter()
        .map(|path| (path.clone(), json!({ "serverRelativeURL": format!("/openapi/v3/{path}") })))
        .collect();
    json!({ "paths": paths })
}

/// The document of one group and version.
pub fn group_version(kinds: &[&Arc<Kind>], version: &str) -> Value {
    let mut paths = Map::new();
    let mut schemas = Map::new();
    schemas.insert(OBJECT_META.to_owned(), object_meta());
    for kind in kinds {
        paths.insert(path(kind, version), operations(kind, version));
        schemas.insert(schema_name(kind, version), schema(kind, version));
    }
    json!({
        "openapi": "3.0.0", "info": { "title": "ironrail playground", "version": "v1" },
        "paths": paths, "components": { "schemas": schemas },
    })
}

fn path(kind: &Kind, version: &str) -> String {
    let root = if kind.group.is_empty() { "api" } else { "apis" };
    let namespace = if kind.namespaced { "/namespaces/{namespace}" } else { "" };
    format!("/{root}/{}{namespace}/{}/{{name}}", kind.api_version(version), kind.plural)
}

/// `com.example.v1.Widget`, with the group's parts turned round.
fn schema_name(kind: &Kind, version: &str) -> String {
    let mut parts: Vec<_> = kind.group.split('.').rev().filter(|part| !part.is_empty()).collect();
    if !kind.custom {
        parts = vec![
            "io",
            "k8s",
            "api",
            kind.group.split('.').next().filter(|g| !g.is_empty()).unwrap_or("core"),
        ];
    }
    parts.extend([version, &kind.kind]);
    parts.join(".")
}

fn kind_mark(kind: &Kind, version: &str) -> Value {
    json!({ "group": kind.group, "version": version, "kind": kind.kind })
}

fn operations(kind: &Kind, version: &str) -> Value {
    let parameter = |name: &str| json!({ "name": name, "in": "query", "schema": { "type": "string", "uniqueItems": true } });
    let body = json!({ "$ref": format!("#/components/schemas/{}", schema_name(kind, version)) });
    let answers = json!({
        "200": { "description": "OK", "content": { "application/json": { "schema": body } } },
    });
    let operation = |action: &str, parameters: Value| {
        json!({
            "description": format!("{action} the specified {}", kind.kind),
            "operationId": format!("{action}{}", kind.kind), "parameters": parameters, "responses": answers,
            "x-kubernetes-action": action, "x-kubernetes-group-version-kind": kind_mark(kind, version),
        })
    };
    let written = json!(["dryRun", "fieldManager", "fieldValidation", "force"].map(parameter));
    json!({
        "get": operation("get", json!([])),
        "put": operation("put", written.clone()),
        "patch": operation("patch", written),
        "delete": operation("delete", json!([])),
    })
}

fn schema(kind: &Kind, version: &str) -> Value {
    let given =
        kind.version(version).map(|version| &*version.open_api).filter(|schema| schema.is_object());
    let mut schema = given.cloned().unwrap_or_else(|| json!({ "type": "object" }));
    schema["x-kubernetes-group-version-kind"] = json!([kind_mark(kind, version)]);
    let mut properties = Map::new();
    let api_version =
        "APIVersion defines the versioned schema of this representation of an object.";
    let kind_text = "Kind is a string value representing the REST resource this object represents.";
    properties
        .insert("apiVersion".to_owned(), json!({ "type": "string", "description": api_version }));
    properties.insert("kind".to_owned(), json!({ "type": "string", "description": kind_text }));
    let meta = json!({
        "allOf": [{ "$ref": format!("#/components/schemas/{OBJECT_META}") }],
        "description": "Standard object's metadata.",
    });
    properties.insert("metadata".to_owned(), meta);
    if let Some(Value::Object(own)) = schema.get("properties") {
        let own = own
            .iter()
            .filter(|(name, _)| !matches!(name.as_str(), "apiVersion" | "kind" | "metadata"));
        properties.extend(own.map(|(name, schema)| (name.clone(), schema.clone())));
    }
    schema["properties"] = Value::Object(properties);
    schema
}

fn object_meta() -> Value {
    let text = json!({ "type": "string" });
    let map = json!({ "type": "object", "additionalProperties": { "type": "string" } });
    json!({
        "type": "object", "description": "ObjectMeta is metadata that all persisted resources must have.",
        "properties": {
            "annotations": map, "creationTimestamp": text, "deletionTimestamp": text,
            "finalizers": { "type": "array", "items": text }, "generateName": text,
            "generation": { "type": "integer", "format": "int64" }, "labels": map, "name": text,
            "namespace": text, "ownerReferences": { "type": "array", "items": { "type": "object" } },
            "resourceVersion": text, "uid": text,
        },
    })
}
