//! The columns and cells of built-in kinds, as `kubectl get` shows them.

use super::object::{self, at, text};
use super::registry::Kind;
use super::tables::{Column, age, age_of};
use jiff::Timestamp;
use serde_json::{Value, json};

/// The columns of a built-in kind; a name with `+` is shown with `-o wide` only.
fn names(kind: &Kind) -> &'static [&'static str] {
    match (kind.group.as_str(), kind.plural.as_str()) {
        ("", "pods") => &[
            "Name",
            "Ready",
            "Status",
            "Restarts",
            "Age",
            "+IP",
            "+Node",
            "+Nominated Node",
            "+Readiness Gates",
        ],
        ("", "nodes") => &[
            "Name",
            "Status",
            "Roles",
            "Age",
            "Version",
            "+Internal-IP",
            "+External-IP",
            "+OS-Image",
            "+Kernel-Version",
            "+Container-Runtime",
        ],
        ("", "namespaces") => &["Name", "Status", "Age"],
        ("", "configmaps") => &["Name", "Data", "Age"],
        ("", "secrets") => &["Name", "Type", "Data", "Age"],
        ("", "serviceaccounts") => &["Name", "Secrets", "Age"],
        ("", "services") => {
            &["Name", "Type", "Cluster-IP", "External-IP", "Port(s)", "Age", "+Selector"]
        }
        ("", "events") => &[
            "Last Seen",
            "Type",
            "Reason",
            "Object",
            "+Subobject",
            "+Source",
            "Message",
            "+First Seen",
            "+Count",
            "+Name",
        ],
        ("apps", "deployments") => &[
            "Name",
            "Ready",
            "Up-to-date",
            "Available",
            "Age",
            "+Containers",
            "+Images",
            "+Selector",
        ],
        ("apps", "daemonsets") => &[
            "Name",
            "Desired",
            "Current",
            "Ready",
            "Up-to-date",
            "Available",
            "Node Selector",
            "Age",
            "+Containers",
            "+Images",
            "+Selector",
        ],
        ("apps", "replicasets") => {
            &["Name", "Desired", "Current", "Ready", "Age", "+Containers", "+Images", "+Selector"]
        }
        ("policy", "poddisruptionbudgets") => {
            &["Name", "Min Available", "Max Unavailable", "Allowed Disruptions", "Age"]
        }
        ("coordination.k8s.io", "leases") => &["Name", "Holder", "Age"],
        ("apiextensions.k8s.io", "customresourcedefinitions") => &["Name", "Created At"],
        ("rbac.authorization.k8s.io", "roles" | "clusterroles") => &["Name", "Created At"],
        ("rbac.authorization.k8s.io", _) => &["Name", "Role", "Age"],
        _ => &["Name", "Age"],
    }
}

pub fn columns(kind: &Kind) -> Vec<Column> {
    let column = |name: &&str| {
        let (name, priority) = match name.strip_prefix('+') {
            Some(name) => (name, 1),
            None => (*name, 0),
        };
        Column {
            name: name.to_owned(),
            kind: "string".to_owned(),
            format: if name == "Name" { "name".to_owned() } else { String::new() },
            description: String::new(),
            priority,
            json_path: String::new(),
        }
    };
    names(kind).iter().map(column).collect()
}

/// One cell for each column.
pub fn cells(kind: &Kind, object: &Value, now: Timestamp) -> Vec<Value> {
    let name = json!(object::name(object));
    let age = json!(age_of(object, now));
    let number = |path: &[&str]| at(object, path).and_then(Value::as_i64).unwrap_or_default();
    let count = |field: &str| match object.get(field) {
        Some(Value::Object(map)) => map.len(),
        Some(Value::Array(list)) => list.len(),
        _ => 0,
    };
    match (kind.group.as_str(), kind.plural.as_str()) {
        ("", "pods") => pod(object, age),
        ("", "nodes") => node(object, age),
        ("", "namespaces") => vec![name, json!(text(object, &["status", "phase"])), age],
        ("", "configmaps") => vec![name, json!(count("data") + count("binaryData")), age],
        ("", "secrets") => vec![name, json!(text(object, &["type"])), json!(count("data")), age],
        ("", "serviceaccounts") => vec![name, json!(count("secrets")), age],
        ("", "services") => service(object, age),
        ("", "events") => event(object, now),
        ("apps", "deployments") => {
            let ready = format!(
                "{}/{}",
                number(&["status", "readyReplicas"]),
                number(&["spec", "replicas"])
            );
            let mut cells = vec![
                name,
                json!(ready),
                json!(number(&["status", "updatedReplicas"])),
                json!(number(&["status", "availableReplicas"])),
                age,
            ];
            cells.extend(workload(object));
            cells
        }
        ("apps", "daemonsets") => {
            let mut cells = vec![name];
            for field in [
                "desiredNumberScheduled",
                "currentNumberScheduled",
                "numberReady",
                "updatedNumberScheduled",
                "numberAvailable",
            ] {
                cells.push(json!(number(&["status", field])));
            }
            let selector = at(object, &["spec", "template", "spec", "nodeSelector"]);
            cells.extend([json!(pairs(selector)), age]);
            cells.extend(workload(object));
            cells
        }
        ("apps", "replicasets") => {
            let mut cells = vec![
                name,
                json!(number(&["spec", "replicas"])),
                json!(number(&["status", "replicas"])),
                json!(number(&["status", "readyReplicas"])),
                age,
            ];
            cells.extend(workload(object));
            cells
        }
        ("policy", "poddisruptionbudgets") => {
            let amount = |field: &str| match at(object, &["spec", field]) {
                Some(Value::String(text)) => text.clone(),
                Some(Value::Number(number)) => number.to_string(),
                _ => "N/A".to_owned(),
            };
            vec![
                name,
                json!(amount("minAvailable")),
                json!(amount("maxUnavailable")),
                json!(number(&["status", "disruptionsAllowed"])),
                age,
            ]
        }
        ("coordination.k8s.io", "leases") => {
            vec![name, json!(text(object, &["spec", "holderIdentity"])), age]
        }
        ("apiextensions.k8s.io", "customresourcedefinitions")
        | ("rbac.authorization.k8s.io", "roles" | "clusterroles") => {
            vec![name, json!(text(object, &["metadata", "creationTimestamp"]))]
        }
        ("rbac.authorization.k8s.io", _) => {
            let role = format!(
                "{}/{}",
                text(object, &["roleRef", "kind"]),
                text(object, &["roleRef", "name"])
            );
            vec![name, json!(role), age]
        }
        _ => vec![name, age],
    }
}

fn or_none(text: &str) -> Value {
    json!(if text.is_empty() { "<none>" } else { text })
}

fn pairs(map: Option<&Value>) -> String {
    let pairs: Vec<_> = (map.and_then(Value::as_object).into_iter().flatten())
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    if pairs.is_empty() { "<none>".to_owned() } else { pairs.join(",") }
}

/// Containers, images, selector.
fn workload(object: &Value) -> [Value; 3] {
    let containers = at(object, &["spec", "template", "spec", "containers"]);
    let list = |field: &str| {
        let items = containers.and_then(Value::as_array).into_iter().flatten();
        items.map(|container| text(container, &[field])).collect::<Vec<_>>().join(",")
    };
    let selector = at(object, &["spec", "selector", "matchLabels"]);
    [json!(list("name")), json!(list("image")), json!(pairs(selector))]
}

fn pod(pod: &Value, age: Value) -> Vec<Value> {
    let of = |path: &[&str]| at(pod, path).and_then(Value::as_array).cloned().unwrap_or_default();
    let statuses = of(&["status", "containerStatuses"]);
    let ready = statuses.iter().filter(|status| status["ready"] == true).count();
    let restarts: i64 = statuses.iter().filter_map(|status| status["restartCount"].as_i64()).sum();
    let total = of(&["spec", "containers"]).len();
    vec![
        json!(object::name(pod)),
        json!(format!("{ready}/{total}")),
        json!(pod_status(pod, &statuses)),
        json!(restarts.to_string()),
        age,
        or_none(text(pod, &["status", "podIP"])),
        or_none(text(pod, &["spec", "nodeName"])),
        or_none(text(pod, &["status", "nominatedNodeName"])),
        json!("<none>"),
    ]
}

/// The one word for a pod: the reason of a container that does not run, else the phase.
fn pod_status(pod: &Value, statuses: &[Value]) -> String {
    if object::is_terminating(pod) {
        return "Terminating".to_owned();
    }
    let init = at(pod, &["status", "initContainerStatuses"]).and_then(Value::as_array);
    for (index, status) in init.into_iter().flatten().enumerate() {
        let waiting = text(status, &["state", "waiting", "reason"]);
        if !waiting.is_empty() && waiting != "PodInitializing" {
            return format!("Init:{waiting}");
        }
        let failed = at(status, &["state", "terminated", "exitCode"]).and_then(Value::as_i64);
        if failed.is_none() {
            let total = init.map_or(0, Vec::len);
            return format!("Init:{index}/{total}");
        }
    }
    for status in statuses {
        for state in ["waiting", "terminated"] {
            let reason = text(status, &["state", state, "reason"]);
            if !reason.is_empty() {
                return reason.to_owned();
            }
        }
    }
    match text(pod, &["status", "reason"]) {
        "" => text(pod, &["status", "phase"]).to_owned(),
        reason => reason.to_owned(),
    }
}

fn node(node: &Value, age: Value) -> Vec<Value> {
    let conditions = at(node, &["status", "conditions"]).and_then(Value::as_array);
    let ready = conditions.into_iter().flatten().find(|c| c["type"] == "Ready");
    let mut status = match ready.map(|condition| text(condition, &["status"])) {
        Some("True") => "Ready".to_owned(),
        Some(_) => "NotReady".to_owned(),
        None => "Unknown".to_owned(),
    };
    if node.pointer("/spec/unschedulable") == Some(&json!(true)) {
        status += ",SchedulingDisabled";
    }
    let labels = at(node, &["metadata", "labels"]).and_then(Value::as_object);
    let roles: Vec<_> = (labels.into_iter().flatten())
        .filter_map(|(label, _)| label.strip_prefix("node-role.kubernetes.io/"))
        .collect();
    let addresses = at(node, &["status", "addresses"]).and_then(Value::as_array);
    let address = |kind: &str| {
        let found = addresses.into_iter().flatten().find(|a| a["type"] == kind);
        or_none(found.map_or("", |address| text(address, &["address"])))
    };
    let info = |field: &str| or_none(text(node, &["status", "nodeInfo", field]));
    vec![
        json!(object::name(node)),
        json!(status),
        or_none(&roles.join(",")),
        age,
        json!(text(node, &["status", "nodeInfo", "kubeletVersion"])),
        address("InternalIP"),
        address("ExternalIP"),
        info("osImage"),
        info("kernelVersion"),
        info("containerRuntimeVersion"),
    ]
}

fn service(service: &Value, age: Value) -> Vec<Value> {
    let ports = at(service, &["spec", "ports"]).and_then(Value::as_array);
    let ports: Vec<_> = (ports.into_iter().flatten())
        .map(|port| {
            let protocol = match text(port, &["protocol"]) {
                "" => "TCP",
                protocol => protocol,
            };
            format!("{}/{protocol}", port["port"])
        })
        .collect();
    vec![
        json!(object::name(service)),
        json!(text(service, &["spec", "type"])),
        or_none(text(service, &["spec", "clusterIP"])),
        json!("<none>"),
        or_none(&ports.join(",")),
        age,
        json!(pairs(at(service, &["spec", "selector"]))),
    ]
}

fn event(event: &Value, now: Timestamp) -> Vec<Value> {
    let seen = |fields: [&str; 2]| {
        let found = fields.iter().map(|field| text(event, &[field])).find(|time| !time.is_empty());
        match found {
            Some(time) => age(time, now),
            None => age_of(event, now),
        }
    };
    let object = format!(
        "{}/{}",
        text(event, &["involvedObject", "kind"]).to_lowercase(),
        text(event, &["involvedObject", "name"])
    );
    let source = match text(event, &["source", "component"]) {
        "" => text(event, &["reportingComponent"]),
        component => component,
    };
    vec![
        json!(seen(["lastTimestamp", "eventTime"])),
        json!(text(event, &["type"])),
        json!(text(event, &["reason"])),
        json!(object),
        json!(text(event, &["involvedObject", "fieldPath"])),
        json!(source),
        json!(text(event, &["message"]).trim()),
        json!(seen(["firstTimestamp", "eventTime"])),
        json!(event["count"].as_i64().unwrap_or(1)),
        json!(object::name(event)),
    ]
}
