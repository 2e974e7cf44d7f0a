//! A failure as the CNI knows it: a code that the runtime understands and a sentence for people.
//!
//! The codes are those of the CNI specification; 100 and above belong to plugins, 999 is "internal".

use serde_json::{Value, json};

pub const INCOMPATIBLE_VERSION: u64 = 1;
pub const UNKNOWN_CONTAINER: u64 = 3;
pub const ENVIRONMENT: u64 = 4;
pub const IO: u64 = 5;
pub const DECODE: u64 = 6;
pub const CONFIGURATION: u64 = 7;
pub const NAMESPACE: u64 = 8;
pub const TRY_AGAIN_LATER: u64 = 11;
/// STATUS: the plugin cannot serve ADD.
pub const NOT_AVAILABLE: u64 = 50;
pub const INTERNAL: u64 = 999;

/// What a verb failed with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub code: u64,
    pub message: String,
    pub details: String,
}

impl Failure {
    pub fn new(code: u64, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), details: String::new() }
    }

    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(INTERNAL, message)
    }

    pub fn configuration(message: impl Into<String>) -> Self {
        Self::new(CONFIGURATION, message)
    }

    /// Adds what went wrong while undoing, so that nobody believes that it was undone.
    pub fn and(mut self, other: &str) -> Self {
        self.message = format!("{}; and then {other}", self.message);
        self
    }

    /// The error object of the CNI specification.
    pub fn json(&self, version: Option<&str>) -> Value {
        let mut object = serde_json::Map::new();
        if let Some(version) = version {
            object.insert("cniVersion".into(), json!(version));
        }
        object.insert("code".into(), json!(self.code));
        object.insert("msg".into(), json!(self.message));
        if !self.details.is_empty() {
            object.insert("details".into(), json!(self.details));
        }
        Value::Object(object)
    }
}

impl From<host::fields::WrongField> for Failure {
    fn from(wrong: host::fields::WrongField) -> Self {
        Self::new(DECODE, wrong.to_string())
    }
}

impl From<host::Refusal> for Failure {
    fn from(refusal: host::Refusal) -> Self {
        Self::internal(format!("cannot {refusal}"))
    }
}
