//! CustomResourceDefinitions: checking them, and serving what they define.

use super::object;
use super::refusal::FieldError;
use super::registry::{self, KindId};
use super::{Refusal, Store};
use serde_json::{Value, json};

/// What a definition must say before it can be served.
pub fn problems(crd: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let text = |path: &[&str]| object::text(crd, path);
    for path in [
        ["spec", "group"].as_slice(),
        &["spec", "scope"],
        &["spec", "names", "plural"],
        &["spec", "names", "kind"],
    ] {
        if text(path).is_empty() {
            errors.push(FieldError::required(path.join("."), ""));
        }
    }
    let name = format!("{}.{}", text(&["spec", "names", "plural"]), text(&["spec", "group"]));
    if errors.is_empty() && object::name(crd) != name {
        let why = "must be spec.names.plural+\".\"+spec.group";
        errors.push(FieldError::invalid("metadata.name", &Value::from(object::name(crd)), why));
    }
    let versions = object::at(crd, &["spec", "versions"]).and_then(Value::as_array);
    let versions = versions.map(Vec::as_slice).unwrap_or_default();
    if versions.iter().filter(|version| version["storage"] == true).count() != 1 {
        let why = "must have exactly one version marked as storage version";
        let shown = crd.pointer("/spec/versions").cloned().unwrap_or_default();
        errors.push(FieldError::invalid("spec.versions", &shown, why));
    }
    for (index, version) in versions.iter().enumerate() {
        let schema = version.pointer("/schema/openAPIV3Schema");
        let at = format!("spec.versions[{index}].schema.openAPIV3Schema");
        match schema {
            None => errors.push(FieldError::required(at, "schemas are required")),
            Some(schema) if object::text(schema, &["type"]) != "object" => {
                errors
                    .push(FieldError::required(format!("{at}.type"), "must be object at the root"));
            }
            Some(_) => {}
        }
    }
    errors
}

/// The status of a definition that is served.
pub fn established(crd: &Value, time: &str) -> Value {
    let versions = object::at(crd, &["spec", "versions"]).and_then(Value::as_array);
    let stored = versions.into_iter().flatten().find(|version| version["storage"] == true);
    let condition = |kind: &str, reason: &str, message: &str| {
        json!({
            "type": kind, "status": "True", "lastTransitionTime": time,
            "reason": reason, "message": message,
        })
    };
    json!({
        "acceptedNames": object::at(crd, &["spec", "names"]),
        "conditions": [
            condition("NamesAccepted", "NoConflicts", "no conflicts found"),
            condition("Established", "InitialNamesAccepted", "the initial names have been accepted"),
        ],
        "storedVersions": [stored.map(|version| object::text(version, &["name"]))],
    })
}

impl Store {
    /// Keeps what is derived from objects in step with them.
    pub(super) fn after_change(&mut self, id: KindId, object: &Value, deleted: bool) {
        let Some(kind) = self.registry.kind(id) else { return };
        if kind.group == "rbac.authorization.k8s.io" {
            self.rules = None;
        }
        if !kind.is("apiextensions.k8s.io", "customresourcedefinitions") {
            return;
        }
        match deleted {
            true => {
                let group = object::text(object, &["spec", "group"]);
                self.registry.remove(group, object::text(object, &["spec", "names", "plural"]));
            }
            false => {
                self.registry.add(registry::custom_kind(object));
            }
        }
    }

    /// Refuses a definition that would take over a built-in kind, or that cannot be served.
    pub(super) fn check_definition(&self, name: &str, crd: &Value) -> Result<(), Refusal> {
        let mut errors = problems(crd);
        let group = object::text(crd, &["spec", "group"]);
        let plural = object::text(crd, &["spec", "names", "plural"]);
        if self.registry.find(group, plural).is_some_and(|(_, kind)| !kind.custom) {
            errors.push(FieldError::forbidden("spec.names.plural", "is a built-in resource"));
        }
        if errors.is_empty() {
            return Ok(());
        }
        let found = self.registry.find("apiextensions.k8s.io", "customresourcedefinitions");
        match found {
            Some((_, kind)) => Err(Refusal::invalid(kind, name, &errors)),
            None => Err(Refusal::no_such_resource()),
        }
    }
}
