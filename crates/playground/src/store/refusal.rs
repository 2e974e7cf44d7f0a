//! What the API server says when it does not do it: `Status` bodies, with the reasons and sentences of the real one.

use super::registry::Kind;
use api::wire::Response;
use serde_json::{Map, Value, json};

/// A request that was not carried out. Becomes a `Status` body.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    pub code: u16,
    pub reason: &'static str,
    pub message: String,
    pub details: Value,
}

/// One wrong field, as `metav1.StatusCause` and the message of a 422 tell it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// `FieldValueNotSupported` and its like.
    pub reason: &'static str,
    pub field: String,
    /// The sentence without the field in front.
    pub message: String,
}

impl FieldError {
    pub fn invalid(field: impl Into<String>, value: &Value, why: impl AsRef<str>) -> Self {
        let message = format!("Invalid value: {}: {}", shown(value), why.as_ref());
        Self { reason: "FieldValueInvalid", field: field.into(), message }
    }

    pub fn required(field: impl Into<String>, why: &str) -> Self {
        let message = match why {
            "" => "Required value".to_owned(),
            why => format!("Required value: {why}"),
        };
        Self { reason: "FieldValueRequired", field: field.into(), message }
    }

    pub fn forbidden(field: impl Into<String>, why: &str) -> Self {
        let message = format!("Forbidden: {why}");
        Self { reason: "FieldValueForbidden", field: field.into(), message }
    }

    pub fn unsupported(field: impl Into<String>, value: &Value, allowed: &[Value]) -> Self {
        let allowed: Vec<_> = allowed.iter().map(shown).collect();
        let message = format!(
            "Unsupported value: {}: supported values: {}",
            shown(value),
            allowed.join(", ")
        );
        Self { reason: "FieldValueNotSupported", field: field.into(), message }
    }
}

/// A value as Go's `field.Error` prints it: scalars as JSON, the rest by its type alone.
fn shown(value: &Value) -> String {
    value.to_string()
}

impl Refusal {
    fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: Value::Null }
    }

    fn about(mut self, kind: &Kind, name: &str) -> Self {
        let mut details = Map::new();
        for (field, text) in [("name", name), ("group", &kind.group), ("kind", &kind.plural)] {
            if !text.is_empty() {
                details.insert(field.to_owned(), Value::from(text));
            }
        }
        self.details = Value::Object(details);
        self
    }

    pub fn not_found(kind: &Kind, name: &str) -> Self {
        Self::new(404, "NotFound", format!("{} \"{name}\" not found", kind.resource()))
            .about(kind, name)
    }

    /// The path names no resource that is served.
    pub fn no_such_resource() -> Self {
        let mut refusal =
            Self::new(404, "NotFound", "the server could not find the requested resource");
        refusal.details = json!({});
        refusal
    }

    pub fn already_exists(kind: &Kind, name: &str) -> Self {
        Self::new(409, "AlreadyExists", format!("{} \"{name}\" already exists", kind.resource()))
            .about(kind, name)
    }

    pub fn conflict(kind: &Kind, name: &str, why: &str) -> Self {
        let message =
            format!("Operation cannot be fulfilled on {} \"{name}\": {why}", kind.resource());
        Self::new(409, "Conflict", message).about(kind, name)
    }

    /// The write was decided on another resourceVersion than the stored one.
    pub fn stale(kind: &Kind, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(kind, name, why)
    }

    /// Server-side apply met fields of other managers.
    pub fn apply_conflict(message: String, causes: Vec<Value>) -> Self {
        let mut refusal = Self::new(409, "Conflict", message);
        refusal.details = json!({ "causes": causes });
        refusal
    }

    pub fn invalid(kind: &Kind, name: &str, errors: &[FieldError]) -> Self {
        let lines: Vec<_> = errors.iter().map(|e| format!("{}: {}", e.field, e.message)).collect();
        let text = match lines.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let whole = kind.qualified_kind();
        let mut refusal =
            Self::new(422, "Invalid", format!("{whole} \"{name}\" is invalid: {text}"));
        let causes: Vec<_> = errors
            .iter()
            .map(|e| json!({ "reason": e.reason, "message": e.message, "field": e.field }))
            .collect();
        refusal = refusal.about(kind, name);
        let details = super::object::as_map(&mut refusal.details);
        details.insert("kind".to_owned(), Value::from(kind.kind.as_str()));
        details.insert("causes".to_owned(), Value::Array(causes));
        refusal
    }

    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    pub fn forbidden(kind: &Kind, name: &str, why: &str) -> Self {
        let message = format!("{} \"{name}\" is forbidden: {why}", kind.resource());
        Self::new(403, "Forbidden", message).about(kind, name)
    }

    /// The authorizer's own 403; the sentence is complete.
    pub fn denied(message: String, group: &str, resource: &str, name: &str) -> Self {
        let mut refusal = Self::new(403, "Forbidden", message);
        let mut details = Map::new();
        for (field, text) in [("name", name), ("group", group), ("kind", resource)] {
            if !text.is_empty() {
                details.insert(field.to_owned(), Value::from(text));
            }
        }
        refusal.details = Value::Object(details);
        refusal
    }

    pub fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    pub fn method_not_allowed() -> Self {
        let mut refusal = Self::new(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        );
        refusal.details = json!({});
        refusal
    }

    pub fn unsupported_media_type(accepted: &[&str]) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {}",
            accepted.join(", ")
        );
        Self::new(415, "UnsupportedMediaType", message)
    }

    /// The log does not reach back to `asked`.
    pub fn expired(asked: u64, oldest: u64) -> Self {
        Self::new(410, "Expired", format!("too old resource version: {asked} ({oldest})"))
    }

    /// A `continue` token outlived the log.
    pub fn continue_expired() -> Self {
        let message = "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter.";
        Self::new(410, "Expired", message)
    }

    pub fn budget(cause: String) -> Self {
        let message = "Cannot evict pod as it would violate the pod's disruption budget.";
        let mut refusal = Self::new(429, "TooManyRequests", message);
        refusal.details = json!({ "causes": [{ "reason": "DisruptionBudget", "message": cause }] });
        refusal
    }

    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(500, "InternalError", message)
    }

    /// The `Status` object.
    pub fn body(&self) -> Value {
        let mut body = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason,
        });
        let map = super::object::as_map(&mut body);
        if !self.details.is_null() {
            map.insert("details".to_owned(), self.details.clone());
        }
        map.insert("code".to_owned(), Value::from(self.code));
        body
    }

    pub fn response(&self) -> Response {
        Response { status: self.code, body: self.body() }
    }
}
