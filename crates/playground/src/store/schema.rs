//! Structural schemas of custom resources, compiled once: what a field may be, and how its lists and maps merge.
//!
//! Parsing only; `pruning.rs`, `validation.rs` and `shape.rs` use it. CEL rules are not evaluated.

use super::object::{same, text};
use super::shape::ListKind;
use regex::Regex;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// One node of a structural schema.
#[derive(Debug, Clone, Default)]
pub struct Schema {
    pub kind: Option<Type>,
    pub int_or_string: bool,
    pub preserve_unknown: bool,
    /// `x-kubernetes-embedded-resource`: holds a whole object with metadata.
    pub embedded: bool,
    pub nullable: bool,
    pub properties: BTreeMap<String, Schema>,
    pub additional: Option<Box<Schema>>,
    pub items: Option<Box<Schema>>,
    pub required: Vec<String>,
    pub default: Option<Value>,
    pub allowed: Vec<Value>,
    pub bounds: Bounds,
    pub pattern: Option<Regex>,
    pub list: ListKind,
    pub atomic_map: bool,
    pub all_of: Vec<Schema>,
    pub any_of: Vec<Schema>,
    pub one_of: Vec<Schema>,
    pub not: Option<Box<Schema>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    Object,
    Array,
    String,
    Integer,
    Number,
    Boolean,
}

impl Type {
    fn parse(name: &str) -> Option<Self> {
        match name {
            "object" => Some(Self::Object),
            "array" => Some(Self::Array),
            "string" => Some(Self::String),
            "integer" => Some(Self::Integer),
            "number" => Some(Self::Number),
            "boolean" => Some(Self::Boolean),
            _ => None,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Object => "object",
            Self::Array => "array",
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
        }
    }
}

/// The limits of a value; absent ones do not limit.
#[derive(Debug, Clone, Default)]
pub struct Bounds {
    pub minimum: Option<f64>,
    pub exclusive_minimum: bool,
    pub maximum: Option<f64>,
    pub exclusive_maximum: bool,
    pub multiple_of: Option<f64>,
    pub min_length: Option<u64>,
    pub max_length: Option<u64>,
    pub min_items: Option<u64>,
    pub max_items: Option<u64>,
    pub unique_items: bool,
    pub min_properties: Option<u64>,
    pub max_properties: Option<u64>,
}

/// Schemas that were compiled, and of what: thousands of simulated clusters have the same kinds.
static COMPILED: Mutex<Vec<(Arc<Value>, Arc<Schema>)>> = Mutex::new(Vec::new());
/// So many are kept.
const KEPT: usize = 64;

impl Schema {
    /// The document and what it compiles to, shared with everybody who has the same.
    pub fn shared(document: &Value) -> (Arc<Value>, Arc<Self>) {
        let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = compiled.iter().find(|(of, _)| same(of, document)) {
            return known.clone();
        }
        let new = (Arc::new(document.clone()), Arc::new(Self::parse(document)));
        if compiled.len() < KEPT {
            compiled.push(new.clone());
        }
        new
    }

    /// Compiles an `openAPIV3Schema`. What it cannot read does not limit.
    pub fn parse(value: &Value) -> Self {
        let flag = |field: &str| value.get(field) == Some(&Value::Bool(true));
        let one = |field: &str| value.get(field).filter(|v| v.is_object()).map(Self::parse);
        let many = |field: &str| -> Vec<Self> {
            let list = value.get(field).and_then(Value::as_array);
            list.into_iter().flatten().map(Self::parse).collect()
        };
        let properties = value.get("properties").and_then(Value::as_object);
        let required = value.get("required").and_then(Value::as_array);
        let additional = match value.get("additionalProperties") {
            Some(Value::Bool(true)) => Some(Self { preserve_unknown: true, ..Self::default() }),
            _ => one("additionalProperties"),
        };
        Self {
            kind: Type::parse(text(value, &["type"])),
            int_or_string: flag("x-kubernetes-int-or-string"),
            preserve_unknown: flag("x-kubernetes-preserve-unknown-fields"),
            embedded: flag("x-kubernetes-embedded-resource"),
            nullable: flag("nullable"),
            properties: (properties.into_iter().flatten())
                .map(|(name, schema)| (name.clone(), Self::parse(schema)))
                .collect(),
            additional: additional.map(Box::new),
            items: one("items").map(Box::new),
            required: (required.into_iter().flatten())
                .filter_map(|name| name.as_str().map(str::to_owned))
                .collect(),
            default: value.get("default").cloned(),
            allowed: value.get("enum").and_then(Value::as_array).cloned().unwrap_or_default(),
            bounds: Bounds::parse(value),
            pattern: value.get("pattern").and_then(|p| Regex::new(p.as_str()?).ok()),
            list: ListKind::of_schema(value),
            atomic_map: text(value, &["x-kubernetes-map-type"]) == "atomic",
            all_of: many("allOf"),
            any_of: many("anyOf"),
            one_of: many("oneOf"),
            not: one("not").map(Box::new),
        }
    }

    /// The schema of a field of an object.
    pub fn field(&self, name: &str) -> Option<&Self> {
        self.properties.get(name).or(self.additional.as_deref())
    }
}

impl Bounds {
    fn parse(value: &Value) -> Self {
        let number = |field: &str| value.get(field).and_then(Value::as_f64);
        let count = |field: &str| value.get(field).and_then(Value::as_u64);
        let flag = |field: &str| value.get(field) == Some(&Value::Bool(true));
        Self {
            minimum: number("minimum"),
            exclusive_minimum: flag("exclusiveMinimum"),
            maximum: number("maximum"),
            exclusive_maximum: flag("exclusiveMaximum"),
            multiple_of: number("multipleOf"),
            min_length: count("minLength"),
            max_length: count("maxLength"),
            min_items: count("minItems"),
            max_items: count("maxItems"),
            unique_items: flag("uniqueItems"),
            min_properties: count("minProperties"),
            max_properties: count("maxProperties"),
        }
    }
}
