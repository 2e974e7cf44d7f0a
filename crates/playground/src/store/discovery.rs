//! What the server tells about itself: groups, resources, version, health.

use super::rbac::Attributes;
use super::registry::Kind;
use super::{Refusal, Store, User, openapi};
use api::wire::{Method, Request, Response};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The version of Kubernetes whose behaviour the store follows.
const VERSION: (&str, &str) = ("1", "33");

/// Kinds that answer questions and are not stored: group, kind, plural, namespaced.
const REVIEWS: &[(&str, &str, &str, bool)] = &[
    ("authentication.k8s.io", "SelfSubjectReview", "selfsubjectreviews", false),
    ("authentication.k8s.io", "TokenReview", "tokenreviews", false),
    ("authorization.k8s.io", "LocalSubjectAccessReview", "localsubjectaccessreviews", true),
    ("authorization.k8s.io", "SelfSubjectAccessReview", "selfsubjectaccessreviews", false),
    ("authorization.k8s.io", "SelfSubjectRulesReview", "selfsubjectrulesreviews", false),
    ("authorization.k8s.io", "SubjectAccessReview", "subjectaccessreviews", false),
];

impl Store {
    /// Answers a GET of a document about the server; `None` when the path is none of them.
    pub(super) fn document(
        &mut self,
        who: &User,
        request: &Request,
    ) -> Option<Result<Response, Refusal>> {
        if request.method != Method::Get {
            return None;
        }
        let parts: Vec<_> = request.path.split('/').filter(|part| !part.is_empty()).collect();
        let aggregated = request.accept.contains("as=APIGroupDiscoveryList");
        let body = match parts.as_slice() {
            ["healthz" | "livez" | "readyz", ..] => Value::from("ok"),
            ["version"] => version(),
            ["api" | "apis"] if aggregated => self.all_groups(parts[0] == "api"),
            ["api"] => json!({ "kind": "APIVersions", "versions": ["v1"] }),
            ["apis"] => self.group_list(),
            ["api", version] => self.resource_list("", version)?,
            ["apis", group, version] => self.resource_list(group, version)?,
            ["apis", group] => {
                self.groups().remove(*group).map(|versions| group_entry(group, &versions))?
            }
            ["openapi", "v2"] => openapi::version_2(),
            ["openapi", "v3"] => openapi::root(&self.group_versions()),
            ["openapi", "v3", "api", version] => self.open_api("", version)?,
            ["openapi", "v3", "apis", group, version] => self.open_api(group, version)?,
            [] => {
                json!({ "paths": ["/api", "/apis", "/healthz", "/openapi/v2", "/openapi/v3", "/version"] })
            }
            _ => return None,
        };
        let wanted = Attributes {
            verb: "get".to_owned(),
            path: request.path.clone(),
            ..Attributes::default()
        };
        Some(self.authorize(who, &wanted).map(|()| Response { status: 200, body }))
    }

    /// The versions of every group, preferred first; the core group is empty text.
    fn groups(&self) -> BTreeMap<String, Vec<String>> {
        let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (_, kind) in self.registry.kinds() {
            let versions = groups.entry(kind.group.clone()).or_default();
            for version in &kind.versions {
                if !versions.contains(&version.name) {
                    versions.push(version.name.clone());
                }
            }
        }
        for (group, ..) in REVIEWS {
            groups.entry((*group).to_owned()).or_insert_with(|| vec!["v1".to_owned()]);
        }
        groups
    }

    fn group_versions(&self) -> Vec<String> {
        let path = |group: &str, version: &str| match group {
            "" => format!("api/{version}"),
            group => format!("apis/{group}/{version}"),
        };
        let groups = self.groups();
        let all = groups
            .iter()
            .flat_map(|(group, versions)| versions.iter().map(move |v| path(group, v)));
        all.collect()
    }

    fn group_list(&self) -> Value {
        let mut groups = self.groups();
        groups.remove("");
        let groups: Vec<_> =
            groups.iter().map(|(group, versions)| group_entry(group, versions)).collect();
        json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups })
    }

    fn kinds_of<'a>(
        &'a self,
        group: &'a str,
        version: &'a str,
    ) -> impl Iterator<Item = &'a Arc<Kind>> {
        let kinds = self.registry.kinds().map(|(_, kind)| kind);
        kinds.filter(move |kind| kind.group == group && kind.version(version).is_some())
    }

    fn resource_list(&self, group: &str, version: &str) -> Option<Value> {
        let api_version = match group {
            "" => version.to_owned(),
            group => format!("{group}/{version}"),
        };
        let mut resources: Vec<_> = self.kinds_of(group, version).flat_map(resources).collect();
        resources.extend(reviews(group).map(|(_, kind, plural, namespaced)| {
            json!({
                "name": plural, "singularName": kind.to_lowercase(), "namespaced": namespaced,
                "kind": kind, "verbs": ["create"],
            })
        }));
        (!resources.is_empty()).then(|| {
            json!({
                "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": api_version,
                "resources": resources,
            })
        })
    }

    /// Everything in one document, as `apidiscovery.k8s.io/v2` has it.
    fn all_groups(&self, core: bool) -> Value {
        let groups = self.groups();
        let items = groups.iter().filter(|(group, _)| group.is_empty() == core).map(|(group, versions)| {
            let versions = versions.iter().map(|version| {
                let kinds = self.kinds_of(group, version);
                let mut resources: Vec<_> = kinds.map(|kind| discovered(kind, version)).collect();
                resources.extend(reviews(group).map(|(group, kind, plural, namespaced)| {
                    json!({
                        "resource": plural, "singularResource": kind.to_lowercase(), "verbs": ["create"],
                        "responseKind": { "group": group, "version": "v1", "kind": kind },
                        "scope": scope(*namespaced),
                    })
                }));
                json!({ "version": version, "freshness": "Current", "resources": resources })
            });
            let metadata = match group.is_empty() {
                true => json!({ "creationTimestamp": null }),
                false => json!({ "name": group, "creationTimestamp": null }),
            };
            json!({ "metadata": metadata, "versions": versions.collect::<Vec<_>>() })
        });
        json!({
            "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {},
            "items": items.collect::<Vec<_>>(),
        })
    }

    fn open_api(&self, group: &str, version: &str) -> Option<Value> {
        let kinds: Vec<_> = self.kinds_of(group, version).collect();
        (!kinds.is_empty()).then(|| openapi::group_version(&kinds, version))
    }
}

/// Server and kubelets are of one release.
pub fn release() -> String {
    format!("v{}.{}.0+ironrail-playground", VERSION.0, VERSION.1)
}

fn version() -> Value {
    json!({
        "major": VERSION.0, "minor": VERSION.1,
        "gitVersion": release(),
        "gitCommit": "", "gitTreeState": "clean", "buildDate": "2026-01-01T00:00:00Z",
        "goVersion": "none", "compiler": "rustc", "platform": "linux/amd64",
    })
}

fn group_entry(group: &str, versions: &[String]) -> Value {
    let versions: Vec<_> = versions
        .iter()
        .map(|version| json!({ "groupVersion": format!("{group}/{version}"), "version": version }))
        .collect();
    json!({
        "kind": "APIGroup", "apiVersion": "v1", "name": group,
        "preferredVersion": versions.first(), "versions": versions,
    })
}

fn reviews(
    group: &str,
) -> impl Iterator<Item = &'static (&'static str, &'static str, &'static str, bool)> {
    REVIEWS.iter().filter(move |(of, ..)| *of == group)
}

fn scope(namespaced: bool) -> &'static str {
    if namespaced { "Namespaced" } else { "Cluster" }
}

/// The verbs of a part of an object.
fn part_verbs(part: &str) -> &'static [&'static str] {
    match part {
        "status" | "scale" => &["get", "patch", "update"],
        "exec" | "attach" => &["create", "get"],
        "log" => &["get"],
        _ => &["create"],
    }
}

/// The kind that a part of an object speaks, with its group and version.
fn part_kind(kind: &Kind, part: &str, version: &str) -> (String, String, String) {
    let of = |group: &str, version: &str, kind: &str| {
        (group.to_owned(), version.to_owned(), kind.to_owned())
    };
    match part {
        "eviction" => of("policy", "v1", "Eviction"),
        "binding" => of("", "v1", "Binding"),
        "exec" => of("", "v1", "PodExecOptions"),
        "attach" => of("", "v1", "PodAttachOptions"),
        "token" => of("authentication.k8s.io", "v1", "TokenRequest"),
        "scale" => of("autoscaling", "v1", "Scale"),
        _ => of(&kind.group, version, &kind.kind),
    }
}

fn resources(kind: &Arc<Kind>) -> Vec<Value> {
    let mut whole = json!({
        "name": kind.plural, "singularName": kind.singular, "namespaced": kind.namespaced,
        "kind": kind.kind, "verbs": kind.verbs(),
    });
    if !kind.short.is_empty() {
        whole["shortNames"] = json!(kind.short);
    }
    if !kind.categories.is_empty() {
        whole["categories"] = json!(kind.categories);
    }
    let mut all = vec![whole];
    for part in kind.subresources() {
        let (_, _, part_kind) = part_kind(kind, part, kind.stored_version());
        all.push(json!({
            "name": format!("{}/{part}", kind.plural), "singularName": "",
            "namespaced": kind.namespaced, "kind": part_kind, "verbs": part_verbs(part),
        }));
    }
    all
}

fn discovered(kind: &Arc<Kind>, version: &str) -> Value {
    let spoken = |(group, version, kind): (String, String, String)| json!({ "group": group, "version": version, "kind": kind });
    let mut whole = json!({
        "resource": kind.plural, "singularResource": kind.singular, "scope": scope(kind.namespaced),
        "responseKind": { "group": kind.group, "version": version, "kind": kind.kind },
        "verbs": kind.verbs(),
    });
    if !kind.short.is_empty() {
        whole["shortNames"] = json!(kind.short);
    }
    if !kind.categories.is_empty() {
        whole["categories"] = json!(kind.categories);
    }
    let parts: Vec<_> = kind
        .subresources()
        .into_iter()
        .map(|part| {
            json!({
                "subresource": part, "responseKind": spoken(part_kind(kind, part, version)),
                "verbs": part_verbs(part),
            })
        })
        .collect();
    if !parts.is_empty() {
        whole["subresources"] = json!(parts);
    }
    whole
}

/// The content type of an answer; discovery names its form there.
pub fn content_type(body: &Value) -> &'static str {
    match body {
        Value::String(_) => "text/plain; charset=utf-8",
        _ if body["kind"] == "APIGroupDiscoveryList" => {
            "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
        }
        _ => "application/json",
    }
}
