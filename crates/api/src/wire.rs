//! What a step function wants written, and the HTTP that says it, as plain data.
//!
//! A `Write` is what a step returns; `Write::request` is its one translation to HTTP. The three drivers (real cluster,
//! playground, simulation) differ only in who carries the `Request`. No socket is opened here.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fmt;

/// The HTTP verb of a request, with the patch type where there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Method {
    Get,
    Post,
    Put,
    Delete,
    Patch(PatchType),
}

/// The patch types of the Kubernetes API, by their content type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum PatchType {
    /// `application/json-patch+json` (RFC 6902).
    Json,
    /// `application/merge-patch+json` (RFC 7386).
    Merge,
    /// `application/strategic-merge-patch+json`.
    Strategic,
    /// `application/apply-patch+yaml`: server-side apply.
    Apply,
}

impl Method {
    /// The verb and the content type of the body, as HTTP has them.
    pub fn http(self) -> (&'static str, &'static str) {
        match self {
            Self::Get => ("GET", "application/json"),
            Self::Post => ("POST", "application/json"),
            Self::Put => ("PUT", "application/json"),
            Self::Delete => ("DELETE", "application/json"),
            Self::Patch(patch) => ("PATCH", patch.content_type()),
        }
    }
}

impl PatchType {
    /// The content type that names this patch in HTTP.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json-patch+json",
            Self::Merge => "application/merge-patch+json",
            Self::Strategic => "application/strategic-merge-patch+json",
            Self::Apply => "application/apply-patch+yaml",
        }
    }
}

/// One request to a Kubernetes API server.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    pub method: Method,
    /// Path without the query: `/api/v1/nodes/worker-0`.
    pub path: String,
    pub query: BTreeMap<String, String>,
    /// The `Accept` header where it matters (tables, metadata only), else empty.
    pub accept: String,
    /// The body as a document; `Null` where there is none.
    pub body: Value,
}

impl Request {
    /// A request without query and body.
    pub fn new(method: Method, path: impl Into<String>) -> Self {
        Self {
            method,
            path: path.into(),
            query: BTreeMap::new(),
            accept: String::new(),
            body: Value::Null,
        }
    }

    /// The same request with one more query parameter.
    pub fn with_query(mut self, key: &str, value: impl Into<String>) -> Self {
        self.query.insert(key.to_owned(), value.into());
        self
    }

    /// The same request with this body.
    pub fn with_body(mut self, body: Value) -> Self {
        self.body = body;
        self
    }

    /// Path and query as they stand in the first line of HTTP.
    pub fn uri(&self) -> String {
        let query: Vec<String> =
            self.query.iter().map(|(key, value)| format!("{key}={}", encoded(value))).collect();
        let separator = if query.is_empty() { "" } else { "?" };
        format!("{}{separator}{}", self.path, query.join("&"))
    }

    /// The `Accept` header: JSON where nothing else was asked for.
    pub fn accepts(&self) -> &str {
        if self.accept.is_empty() { "application/json" } else { &self.accept }
    }

    /// The body's bytes; none where there is no body.
    pub fn bytes(&self) -> Vec<u8> {
        match &self.body {
            Value::Null => Vec::new(),
            body => body.to_string().into_bytes(),
        }
    }
}

/// Percent-encodes what may not stand in a query value (RFC 3986: all but the unreserved characters).
fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            other => encoded.push_str(&format!("%{other:02X}")),
        }
        encoded
    })
}

/// The answer of a Kubernetes API server: an object, a list, a table, or a `Status`.
#[derive(Debug, Clone, PartialEq)]
pub struct Response {
    pub status: u16,
    pub body: Value,
}

impl Response {
    /// An answer as it came; a proxy in between answers with text, which is the message then.
    pub fn read(status: u16, bytes: &[u8]) -> Self {
        let body = serde_json::from_slice(bytes)
            .unwrap_or_else(|_| json!({ "message": String::from_utf8_lossy(bytes).trim_end() }));
        Self { status, body }
    }
}

/// Which object: kind and name as `kubectl` would type them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ObjectKey {
    #[serde(rename = "apiVersion")]
    pub api_version: String,
    pub kind: String,
    /// Empty for cluster-scoped kinds.
    pub namespace: String,
    pub name: String,
}

/// Maps up to this size are searched: to hash a key costs more than to look at so many.
const FEW: usize = 12;

/// The value of a field. Most objects have few fields, and are asked for them all the time.
pub fn field<'a>(map: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    match map.len() {
        0..=FEW => map.iter().find(|(name, _)| *name == key).map(|(_, value)| value),
        _ => map.get(key),
    }
}

/// The value at a JSON pointer (RFC 6901), as `Value::pointer` finds it, without a copy of each key on the way.
pub fn at<'a>(object: &'a Value, pointer: &str) -> Option<&'a Value> {
    if pointer.is_empty() {
        return Some(object);
    }
    let mut found = object;
    let mut rest = Some(pointer.strip_prefix('/')?);
    while let Some(path) = rest {
        // Keys are a few letters: to begin a search costs more than to walk over them.
        let end = path.bytes().position(|byte| byte == b'/');
        let key = end.map_or(path, |end| &path[..end]);
        rest = end.map(|end| &path[end + 1..]);
        found = match found {
            Value::Object(map) if key.as_bytes().contains(&b'~') => {
                map.get(&key.replace("~1", "/").replace("~0", "~"))?
            }
            Value::Object(map) => field(map, key)?,
            Value::Array(list) => list.get(key.parse::<usize>().ok()?)?,
            _ => return None,
        };
    }
    Some(found)
}

impl ObjectKey {
    pub fn new(api_version: &str, kind: &str, namespace: &str, name: &str) -> Self {
        Self {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    /// The key of an object in its JSON form; absent parts become empty text.
    pub fn of(object: &Value) -> Self {
        let text = |pointer: &str| {
            at(object, pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        Self {
            api_version: text("/apiVersion"),
            kind: text("/kind"),
            namespace: text("/metadata/namespace"),
            name: text("/metadata/name"),
        }
    }

    /// The path of the object's collection.
    pub fn collection_path(&self) -> String {
        let root = match self.api_version.contains('/') {
            true => format!("/apis/{}", self.api_version),
            false => format!("/api/{}", self.api_version),
        };
        let plural = plural(&self.kind);
        match self.namespace.is_empty() {
            true => format!("{root}/{plural}"),
            false => format!("{root}/namespaces/{}/{plural}", self.namespace),
        }
    }

    /// The path of the object itself.
    pub fn path(&self) -> String {
        format!("{}/{}", self.collection_path(), self.name)
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.kind)?;
        if !self.namespace.is_empty() {
            write!(f, "{}/", self.namespace)?;
        }
        f.write_str(&self.name)
    }
}

/// The plural that the API's paths use for a kind, for the kinds that ironrail reads or writes.
pub fn plural(kind: &str) -> String {
    let lower = kind.to_lowercase();
    match lower.as_str() {
        "endpoints" => lower,
        _ if lower.ends_with("policy") => format!("{}ies", lower.trim_end_matches('y')),
        _ if lower.ends_with('s') || lower.ends_with("class") => format!("{lower}es"),
        "networkattachmentdefinition" => "network-attachment-definitions".to_owned(),
        _ => format!("{lower}s"),
    }
}

/// One write that a step asks for. Closed: a driver has one match over it.
#[derive(Debug, Clone, PartialEq)]
pub enum Write {
    /// Server-side apply under our field manager, by force. `subresource` is `""` or `"status"`.
    Apply {
        object: Value,
        subresource: &'static str,
    },
    Create {
        object: Value,
    },
    /// Replaces the object; it carries the resourceVersion that the step decided on, so a conflict means look again.
    Update {
        object: Value,
        subresource: &'static str,
    },
    Patch {
        key: ObjectKey,
        patch_type: PatchType,
        patch: Value,
        subresource: &'static str,
    },
    /// `uid` and `resource_version` are preconditions; empty means none.
    Delete {
        key: ObjectKey,
        uid: String,
        resource_version: String,
    },
    /// The eviction subresource of a pod; the API answers 429 when a disruption budget forbids it.
    Evict {
        namespace: String,
        pod: String,
        uid: String,
    },
    Event(Event),
}

/// Something that happened, for `kubectl describe` and `kubectl get events`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub regarding: ObjectKey,
    /// Uid of the object, so that `describe` finds the event; empty where unknown.
    pub uid: String,
    /// `Normal` or `Warning`.
    pub warning: bool,
    /// A word in UpperCamelCase from a fixed set.
    pub reason: String,
    pub message: String,
    pub component: &'static str,
    pub at: Timestamp,
}

impl Write {
    /// The object that the write aims at.
    pub fn key(&self) -> ObjectKey {
        match self {
            Self::Apply { object, .. } | Self::Create { object } | Self::Update { object, .. } => {
                ObjectKey::of(object)
            }
            Self::Patch { key, .. } | Self::Delete { key, .. } => key.clone(),
            Self::Evict { namespace, pod, .. } => ObjectKey::new("v1", "Pod", namespace, pod),
            Self::Event(event) => event.regarding.clone(),
        }
    }

    /// The one translation to HTTP. `manager` is the field manager.
    pub fn request(&self, manager: &str) -> Request {
        let below = |path: String, subresource: &str| match subresource {
            "" => path,
            name => format!("{path}/{name}"),
        };
        let request = match self {
            Self::Apply { object, subresource } => Request::new(
                Method::Patch(PatchType::Apply),
                below(ObjectKey::of(object).path(), subresource),
            )
            .with_query("force", "true")
            .with_body(object.clone()),
            Self::Create { object } => {
                Request::new(Method::Post, ObjectKey::of(object).collection_path())
                    .with_body(object.clone())
            }
            Self::Update { object, subresource } => {
                Request::new(Method::Put, below(ObjectKey::of(object).path(), subresource))
                    .with_body(object.clone())
            }
            Self::Patch { key, patch_type, patch, subresource } => {
                Request::new(Method::Patch(*patch_type), below(key.path(), subresource))
                    .with_body(patch.clone())
            }
            Self::Delete { key, uid, resource_version } => {
                let mut preconditions = Map::new();
                for (name, value) in [("uid", uid), ("resourceVersion", resource_version)] {
                    if !value.is_empty() {
                        preconditions.insert(name.to_owned(), Value::from(value.as_str()));
                    }
                }
                // DeleteOptions knows no field manager.
                return Request::new(Method::Delete, key.path()).with_body(json!({
                    "kind": "DeleteOptions", "apiVersion": "v1",
                    "propagationPolicy": "Background", "preconditions": preconditions,
                }));
            }
            Self::Evict { namespace, pod, uid } => {
                let preconditions = match uid.is_empty() {
                    true => json!({}),
                    false => json!({ "uid": uid }),
                };
                Request::new(
                    Method::Post,
                    format!("/api/v1/namespaces/{namespace}/pods/{pod}/eviction"),
                )
                .with_body(json!({
                    "apiVersion": "policy/v1", "kind": "Eviction",
                    "metadata": { "name": pod, "namespace": namespace },
                    "deleteOptions": { "preconditions": preconditions },
                }))
            }
            Self::Event(event) => event.request(),
        };
        request.with_query("fieldManager", manager)
    }
}

impl Event {
    fn request(&self) -> Request {
        // Events of cluster-scoped objects live in `default`, as client-go's recorder puts them.
        let namespace = match self.regarding.namespace.is_empty() {
            true => "default",
            false => &self.regarding.namespace,
        };
        // Unique by object and time, as client-go's; and by reason, since two programs may speak at the same moment.
        let reason = self.reason.to_lowercase();
        let name = format!("{}.{:x}.{reason}", self.regarding.name, self.at.as_nanosecond());
        let path = format!("/api/v1/namespaces/{namespace}/events");
        Request::new(Method::Post, path).with_body(json!({
            "apiVersion": "v1", "kind": "Event",
            "metadata": { "name": name, "namespace": namespace },
            "involvedObject": {
                "apiVersion": self.regarding.api_version, "kind": self.regarding.kind,
                "namespace": self.regarding.namespace, "name": self.regarding.name, "uid": self.uid,
            },
            "type": if self.warning { "Warning" } else { "Normal" },
            "reason": self.reason, "message": self.message,
            "source": { "component": self.component },
            "reportingComponent": self.component, "reportingInstance": "",
            "firstTimestamp": self.at, "lastTimestamp": self.at, "count": 1,
        }))
    }
}

/// What a step function returns: writes in order, and when to be called again without a cause from outside.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outcome {
    pub writes: Vec<Write>,
    pub look_again: Option<Timestamp>,
}

/// What the API said to a write; the next step of the same key sees it.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// The object as stored.
    Done(Value),
    /// 409: somebody wrote in between, or the object exists already. Look again.
    Conflict(String),
    NotFound(String),
    /// 429 of an eviction: the sentence of the disruption budget.
    TooManyRequests(String),
    /// Any other refusal: status code and message.
    Refused(u16, String),
    /// Nobody answered.
    Unreachable(String),
}

impl Answer {
    /// Reads an answer out of a response.
    pub fn of(response: Response) -> Self {
        let message = || {
            let status = response.body.get("message").and_then(Value::as_str);
            status.unwrap_or("the server gave no message").to_owned()
        };
        match response.status {
            200..=299 => Self::Done(response.body),
            404 => Self::NotFound(message()),
            409 => Self::Conflict(message()),
            429 => Self::TooManyRequests(message()),
            status => Self::Refused(status, message()),
        }
    }

    /// True when the write took place.
    pub fn is_done(&self) -> bool {
        matches!(self, Self::Done(_))
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done(_) => f.write_str("done"),
            Self::Conflict(message) | Self::NotFound(message) | Self::TooManyRequests(message) => {
                f.write_str(message)
            }
            Self::Refused(status, message) => write!(f, "refused with {status}: {message}"),
            Self::Unreachable(message) => write!(f, "the API server did not answer: {message}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plurals_are_those_of_the_api() {
        let kinds = [
            "Node",
            "Pod",
            "SriovNetworkNodePolicy",
            "SriovNetworkNodeState",
            "DaemonSet",
            "PodDisruptionBudget",
            "NetworkAttachmentDefinition",
            "Lease",
            "OVSNetwork",
            "NetworkPolicy",
            "Ingress",
        ];
        expect_test::expect![[r#"
            nodes pods sriovnetworknodepolicies sriovnetworknodestates daemonsets poddisruptionbudgets network-attachment-definitions leases ovsnetworks networkpolicies ingresses"#]]
        .assert_eq(&kinds.map(plural).join(" "));
    }

    #[test]
    fn a_query_is_encoded_and_an_absent_one_leaves_no_mark() {
        let plain = Request::new(Method::Get, "/api/v1/pods");
        let paged = plain.clone().with_query("continue", "a+b/c=").with_query("limit", "500");
        expect_test::expect!["/api/v1/pods /api/v1/pods?continue=a%2Bb%2Fc%3D&limit=500"]
            .assert_eq(&format!("{} {}", plain.uri(), paged.uri()));
    }

    #[test]
    fn what_is_no_json_is_the_message_of_the_answer() {
        let read = Response::read(502, b"bad gateway \xff\n");
        expect_test::expect![[r#"{"message":"bad gateway \u{fffd}"}"#]]
            .assert_eq(&read.body.to_string().replace('\u{fffd}', "\\u{fffd}"));
    }
}
