//! Discovery: which groups, versions and kinds there are, read off the store's kinds.

use crate::store::{Kind, Store};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The document at a discovery path, with its content type; None for every other path.
pub fn answer(store: &Store, path: &str, accept: &str) -> Option<(String, Value)> {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let aggregated = accept.contains("apidiscovery.k8s.io") && accept.contains("v=v2");
    let plain = |value: Value| Some(("application/json".to_owned(), value));
    let v2 = |value: Value| {
        let kind = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
        Some((kind.to_owned(), value))
    };
    match parts.as_slice() {
        ["version"] => plain(version()),
        ["api"] if aggregated => v2(group_list(store, true)),
        ["apis"] if aggregated => v2(group_list(store, false)),
        ["api"] => plain(json!({
            "kind": "APIVersions", "versions": ["v1"],
            "serverAddressByClientCIDRs": [],
        })),
        ["apis"] => {
            let groups: Vec<Value> = groups(store)
                .into_iter()
                .filter(|(g, _)| !g.is_empty())
                .map(|(g, v)| group(&g, &v))
                .collect();
            plain(json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups }))
        }
        ["apis", name] => {
            let groups = groups(store);
            groups.get(*name).and_then(|versions| plain(group(name, versions)))
        }
        ["api", "v1"] => plain(resources(store, "", "v1")?),
        ["apis", group, version] => plain(resources(store, group, version)?),
        _ => None,
    }
}

fn version() -> Value {
    json!({
        "major": "1", "minor": "33", "gitVersion": "v1.33.0+ironrail-playground", "gitCommit": "", "gitTreeState": "clean",
        "buildDate": "2026-01-01T00:00:00Z", "goVersion": "", "compiler": "rustc", "platform": "linux/amd64",
    })
}

/// Group → versions, preferred first.
fn groups(store: &Store) -> BTreeMap<String, Vec<String>> {
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for kind in store.kinds() {
        let versions = groups.entry(kind.group.clone()).or_default();
        for version in &kind.versions {
            if !versions.contains(&version.name) {
                versions.push(version.name.clone());
            }
        }
    }
    groups
}

fn group(name: &str, versions: &[String]) -> Value {
    let one = |version: &String| json!({ "groupVersion": format!("{name}/{version}"), "version": version });
    json!({
        "kind": "APIGroup", "apiVersion": "v1", "name": name,
        "versions": versions.iter().map(one).collect::<Vec<_>>(),
        "preferredVersion": versions.first().map(one),
    })
}

fn of_version<'a>(
    store: &'a Store,
    group: &'a str,
    version: &'a str,
) -> impl Iterator<Item = &'a Kind> {
    store
        .kinds()
        .filter(move |kind| kind.group == group && kind.versions.iter().any(|v| v.name == version))
}

fn resources(store: &Store, group: &str, version: &str) -> Option<Value> {
    let mut resources = Vec::new();
    for kind in of_version(store, group, version) {
        resources.push(json!({
            "name": kind.plural, "singularName": kind.singular, "namespaced": kind.namespaced, "kind": kind.kind,
            "verbs": kind.verbs(), "shortNames": kind.short, "categories": kind.categories,
        }));
        for subresource in kind.subresources() {
            resources.push(json!({
                "name": format!("{}/{subresource}", kind.plural), "singularName": "", "namespaced": kind.namespaced,
                "kind": kind.kind, "verbs": ["get", "patch", "update"],
            }));
        }
    }
    let name = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    (!resources.is_empty()).then(|| {
        json!({ "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": name, "resources": resources })
    })
}

/// `APIGroupDiscoveryList` of apidiscovery.k8s.io/v2.
fn group_list(store: &Store, core: bool) -> Value {
    let mut items = Vec::new();
    for (group, versions) in groups(store).into_iter().filter(|(group, _)| group.is_empty() == core)
    {
        let version = |version: &String| {
            let resources: Vec<Value> =
                of_version(store, &group, version).map(|kind| resource(kind, version)).collect();
            json!({ "version": version, "freshness": "Current", "resources": resources })
        };
        items.push(json!({
            "metadata": { "name": group }, "versions": versions.iter().map(version).collect::<Vec<_>>(),
        }));
    }
    json!({ "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items })
}

fn resource(kind: &Kind, version: &str) -> Value {
    let response = json!({ "group": kind.group, "version": version, "kind": kind.kind });
    let subresource = |name: &&str| json!({ "subresource": name, "responseKind": response, "verbs": ["get", "patch", "update"] });
    json!({
        "resource": kind.plural, "responseKind": response, "singularResource": kind.singular,
        "scope": if kind.namespaced { "Namespaced" } else { "Cluster" },
        "verbs": kind.verbs(), "shortNames": kind.short, "categories": kind.categories,
        "subresources": kind.subresources().iter().map(subresource).collect::<Vec<_>>(),
    })
}
