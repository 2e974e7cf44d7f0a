//! Defaults, checks and unchangeable fields of built-in kinds: the few that clients of the playground rely on.

use super::object::{as_map, at, child, text};
use super::refusal::FieldError;
use super::registry::Kind;
use serde_json::{Map, Value, json};

/// A kubelet registers its node together with its status; for all other kinds a POST carries no status.
pub fn keeps_status_on_create(kind: &Kind) -> bool {
    kind.is("", "nodes")
}

/// Fills in what a client may leave out.
pub fn apply(kind: &Kind, object: &mut Value) {
    if kind.custom {
        return;
    }
    let map = as_map(object);
    match (kind.group.as_str(), kind.plural.as_str()) {
        ("", "pods") => pod_spec(child(map, "spec")),
        ("", "services") => {
            let spec = child(map, "spec");
            set(spec, "type", json!("ClusterIP"));
            set(spec, "sessionAffinity", json!("None"));
        }
        ("", "secrets") => set(map, "type", json!("Opaque")),
        ("apps", "deployments") => {
            let spec = child(map, "spec");
            set(spec, "replicas", json!(1));
            set(spec, "revisionHistoryLimit", json!(10));
            set(spec, "progressDeadlineSeconds", json!(600));
            let rolling = json!({ "maxSurge": "25%", "maxUnavailable": "25%" });
            set(spec, "strategy", json!({ "type": "RollingUpdate", "rollingUpdate": rolling }));
            template(spec);
        }
        ("apps", "replicasets" | "statefulsets") => {
            let spec = child(map, "spec");
            set(spec, "replicas", json!(1));
            template(spec);
        }
        ("apps", "daemonsets") => {
            let spec = child(map, "spec");
            set(spec, "revisionHistoryLimit", json!(10));
            let strategy = json!({
                "type": "RollingUpdate", "rollingUpdate": { "maxSurge": 0, "maxUnavailable": 1 },
            });
            set(spec, "updateStrategy", strategy);
            template(spec);
        }
        ("batch", "jobs") => template(child(map, "spec")),
        ("rbac.authorization.k8s.io", "clusterrolebindings" | "rolebindings") => {
            subjects(map);
        }
        _ => {}
    }
}

fn subjects(binding: &mut Map<String, Value>) {
    let subjects = binding.get_mut("subjects").and_then(Value::as_array_mut);
    for subject in subjects.into_iter().flatten() {
        if matches!(text(subject, &["kind"]), "User" | "Group") {
            set(as_map(subject), "apiGroup", json!("rbac.authorization.k8s.io"));
        }
    }
    if let Some(role) = binding.get_mut("roleRef") {
        set(as_map(role), "apiGroup", json!("rbac.authorization.k8s.io"));
    }
}

fn template(spec: &mut Map<String, Value>) {
    if spec.contains_key("template") {
        pod_spec(child(child(spec, "template"), "spec"));
    }
}

fn pod_spec(spec: &mut Map<String, Value>) {
    for (field, value) in [
        ("restartPolicy", json!("Always")),
        ("dnsPolicy", json!("ClusterFirst")),
        ("schedulerName", json!("default-scheduler")),
        ("terminationGracePeriodSeconds", json!(30)),
        ("securityContext", json!({})),
    ] {
        set(spec, field, value);
    }
    for list in ["containers", "initContainers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            self::container(as_map(container));
        }
    }
}

fn container(container: &mut Map<String, Value>) {
    set(container, "imagePullPolicy", json!("IfNotPresent"));
    set(container, "resources", json!({}));
    set(container, "terminationMessagePath", json!("/dev/termination-log"));
    set(container, "terminationMessagePolicy", json!("File"));
    for port in container.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
        set(as_map(port), "protocol", json!("TCP"));
    }
    // Extended resources cannot be overcommitted: a limit is also the request.
    let resources = child(container, "resources");
    let Some(Value::Object(limits)) = resources.get("limits").cloned() else { return };
    let requests = child(resources, "requests");
    for (name, amount) in limits {
        set(requests, &name, amount);
    }
}

fn set(map: &mut Map<String, Value>, field: &str, value: Value) {
    if map.get(field).is_none_or(Value::is_null) {
        map.insert(field.to_owned(), value);
    }
}

/// The state that a new object starts in.
pub fn on_create(kind: &Kind, object: &mut Value, time: &str) {
    let map = as_map(object);
    match (kind.group.as_str(), kind.plural.as_str()) {
        ("", "pods") => {
            let class = quality_of_service(map.get("spec").unwrap_or(&Value::Null));
            map.insert("status".to_owned(), json!({ "phase": "Pending", "qosClass": class }));
        }
        ("", "namespaces") => {
            set(child(map, "spec"), "finalizers", json!(["kubernetes"]));
            map.insert("status".to_owned(), json!({ "phase": "Active" }));
            let name = text(&Value::Object(map.clone()), &["metadata", "name"]).to_owned();
            let labels = child(child(map, "metadata"), "labels");
            labels.insert("kubernetes.io/metadata.name".to_owned(), Value::from(name));
        }
        ("apiextensions.k8s.io", "customresourcedefinitions") => {
            let status = super::custom::established(&Value::Object(map.clone()), time);
            map.insert("status".to_owned(), status);
        }
        ("apps", "deployments" | "daemonsets" | "replicasets" | "statefulsets") => {
            set(map, "status", json!({}));
        }
        _ => {}
    }
}

fn quality_of_service(spec: &Value) -> &'static str {
    let containers: Vec<_> =
        at(spec, &["containers"]).and_then(Value::as_array).into_iter().flatten().collect();
    let amount = |container: &Value, list: &str, name: &str| {
        at(container, &["resources", list, name]).cloned().filter(|value| !value.is_null())
    };
    let names = ["cpu", "memory"];
    let any = containers.iter().any(|container| {
        names.iter().any(|name| {
            amount(container, "limits", name).is_some()
                || amount(container, "requests", name).is_some()
        })
    });
    let all = !containers.is_empty()
        && containers.iter().all(|container| {
            names.iter().all(|name| {
                let limit = amount(container, "limits", name);
                limit.is_some() && limit == amount(container, "requests", name)
            })
        });
    match (any, all) {
        (_, true) => "Guaranteed",
        (true, false) => "Burstable",
        (false, false) => "BestEffort",
    }
}

/// What is wrong with a built-in object.
pub fn problems(kind: &Kind, object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let empty = |path: &[&str]| match at(object, path) {
        None | Some(Value::Null) => true,
        Some(Value::Array(list)) => list.is_empty(),
        Some(Value::Object(map)) => map.is_empty(),
        Some(Value::String(text)) => text.is_empty(),
        Some(_) => false,
    };
    match (kind.group.as_str(), kind.plural.as_str()) {
        ("", "pods") if empty(&["spec", "containers"]) => {
            errors.push(FieldError::required("spec.containers", ""));
        }
        ("apps", "deployments" | "daemonsets" | "replicasets" | "statefulsets") => {
            if empty(&["spec", "selector"]) {
                errors.push(FieldError::required("spec.selector", ""));
            }
            if empty(&["spec", "template", "spec", "containers"]) {
                errors.push(FieldError::required("spec.template.spec.containers", ""));
            }
            if errors.is_empty() && !selects_its_template(object) {
                let labels = at(object, &["spec", "template", "metadata", "labels"]);
                let shown = labels.cloned().unwrap_or_default();
                let why = "`selector` does not match template `labels`";
                errors.push(FieldError::invalid("spec.template.metadata.labels", &shown, why));
            }
        }
        ("rbac.authorization.k8s.io", "clusterrolebindings" | "rolebindings")
            if empty(&["roleRef", "name"]) =>
        {
            errors.push(FieldError::required("roleRef.name", ""));
        }
        _ => {}
    }
    errors
}

fn selects_its_template(object: &Value) -> bool {
    let selector = at(object, &["spec", "selector"]).unwrap_or(&Value::Null);
    let template = at(object, &["spec", "template"]).unwrap_or(&Value::Null);
    super::Selector::of_labels(selector).is_ok_and(|selector| selector.matches(template))
}

/// Changes that the server refuses because the field cannot change.
pub fn forbidden_changes(kind: &Kind, old: &Value, new: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut fixed = |path: &[&str], why: &str| {
        if at(old, path) != at(new, path) {
            let shown = at(new, path).cloned().unwrap_or_default();
            errors.push(FieldError::invalid(path.join("."), &shown, why));
        }
    };
    match (kind.group.as_str(), kind.plural.as_str()) {
        ("apps", "deployments" | "daemonsets" | "replicasets" | "statefulsets") => {
            fixed(&["spec", "selector"], "field is immutable");
        }
        ("rbac.authorization.k8s.io", "clusterrolebindings" | "rolebindings") => {
            fixed(&["roleRef"], "cannot change roleRef");
        }
        ("", "configmaps" | "secrets") if old["immutable"] == true => {
            for field in ["data", "binaryData"] {
                if old.get(field) != new.get(field) {
                    let why = "field is immutable when `immutable` is set";
                    errors.push(FieldError::forbidden(field, why));
                }
            }
        }
        ("", "pods") if changeless(old) != changeless(new) => {
            let why = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";
            errors.push(FieldError::forbidden("spec", why));
        }
        _ => {}
    }
    errors
}

/// A pod's spec without what may change.
fn changeless(pod: &Value) -> Value {
    let mut spec = pod.get("spec").cloned().unwrap_or_default();
    let map = as_map(&mut spec);
    for field in ["activeDeadlineSeconds", "tolerations", "terminationGracePeriodSeconds"] {
        map.shift_remove(field);
    }
    for list in ["containers", "initContainers"] {
        for container in map.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            as_map(container).shift_remove("image");
        }
    }
    spec
}
