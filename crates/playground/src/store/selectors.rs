//! Label and field selectors: parsing `labelSelector` and `fieldSelector`, and matching objects.

use super::object;
use super::registry::Kind;
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use thiserror::Error;

#[derive(Debug, Clone, Error, PartialEq, Eq)]
pub enum SelectorError {
    #[error("unable to parse requirement: {0}")]
    Label(String),
    #[error("invalid field selector: \"{0}\"; can't understand it")]
    Field(String),
    #[error("field label not supported: {0}")]
    FieldNotSupported(String),
    #[error("{0} is not a valid label selector operator")]
    Operator(String),
}

/// Which objects a list, a watch or a deletion means.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selector {
    labels: Vec<Requirement>,
    fields: Vec<FieldRequirement>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Requirement {
    key: String,
    test: Test,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Test {
    In(BTreeSet<String>),
    NotIn(BTreeSet<String>),
    Exists,
    Missing,
    Greater(i64),
    Less(i64),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct FieldRequirement {
    path: String,
    value: String,
    equal: bool,
}

impl Selector {
    /// Parses both query parameters against the fields that `kind` can select by.
    pub fn parse(kind: &Kind, labels: &str, fields: &str) -> Result<Self, SelectorError> {
        Ok(Self { labels: parse_labels(labels)?, fields: parse_fields(kind, fields)? })
    }

    /// A `metav1.LabelSelector`: an empty one selects everything.
    pub fn of_labels(selector: &Value) -> Result<Self, SelectorError> {
        let mut labels = Vec::new();
        for (key, value) in
            selector.get("matchLabels").and_then(Value::as_object).into_iter().flatten()
        {
            let wanted = BTreeSet::from([value.as_str().unwrap_or_default().to_owned()]);
            labels.push(Requirement { key: key.clone(), test: Test::In(wanted) });
        }
        let expressions = selector.get("matchExpressions").and_then(Value::as_array);
        for expression in expressions.into_iter().flatten() {
            let values = expression.get("values").and_then(Value::as_array);
            let values = values.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned);
            let test = match object::text(expression, &["operator"]) {
                "In" => Test::In(values.collect()),
                "NotIn" => Test::NotIn(values.collect()),
                "Exists" => Test::Exists,
                "DoesNotExist" => Test::Missing,
                other => return Err(SelectorError::Operator(format!("{other:?}"))),
            };
            labels.push(Requirement { key: object::text(expression, &["key"]).to_owned(), test });
        }
        Ok(Self { labels, fields: Vec::new() })
    }

    /// Adds `metadata.name=name`, which is what a watch on one object means.
    pub fn and_name(mut self, name: &str) -> Self {
        let path = "metadata.name".to_owned();
        self.fields.push(FieldRequirement { path, value: name.to_owned(), equal: true });
        self
    }

    /// The one name that an object must have to be selected, if there is one.
    pub fn name(&self) -> Option<&str> {
        let pinned = self.fields.iter().find(|field| field.equal && field.path == "metadata.name");
        pinned.map(|field| field.value.as_str())
    }

    pub fn matches(&self, object: &Value) -> bool {
        let labels = object::at(object, &["metadata", "labels"]).and_then(Value::as_object);
        self.labels.iter().all(|requirement| requirement.matches(labels))
            && self.fields.iter().all(|requirement| requirement.matches(object))
    }
}

impl Requirement {
    fn matches(&self, labels: Option<&Map<String, Value>>) -> bool {
        let value = labels.and_then(|labels| labels.get(&self.key)).and_then(Value::as_str);
        match &self.test {
            Test::In(wanted) => value.is_some_and(|value| wanted.contains(value)),
            Test::NotIn(unwanted) => value.is_none_or(|value| !unwanted.contains(value)),
            Test::Exists => value.is_some(),
            Test::Missing => value.is_none(),
            Test::Greater(limit) => number(value).is_some_and(|number| number > *limit),
            Test::Less(limit) => number(value).is_some_and(|number| number < *limit),
        }
    }
}

fn number(value: Option<&str>) -> Option<i64> {
    value?.parse().ok()
}

impl FieldRequirement {
    fn matches(&self, object: &Value) -> bool {
        (field(object, &self.path) == self.value) == self.equal
    }
}

/// A field as the selectors see it; an absent one is its zero value.
fn field(object: &Value, path: &str) -> String {
    if path == "source" {
        return object::text(object, &["source", "component"]).to_owned();
    }
    let parts: Vec<_> = path.split('.').collect();
    match object::at(object, &parts) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None if path == "spec.unschedulable" || path == "spec.hostNetwork" => {
            "false".to_owned()
        }
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    }
}

fn parse_fields(kind: &Kind, text: &str) -> Result<Vec<FieldRequirement>, SelectorError> {
    let mut requirements = Vec::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (path, value, equal) = if let Some((path, value)) = part.split_once("!=") {
            (path, value, false)
        } else if let Some((path, value)) = part.split_once("==") {
            (path, value, true)
        } else if let Some((path, value)) = part.split_once('=') {
            (path, value, true)
        } else {
            return Err(SelectorError::Field(part.to_owned()));
        };
        if !selectable(kind, path) {
            return Err(SelectorError::FieldNotSupported(path.to_owned()));
        }
        let value = value.replace("\\,", ",").replace("\\=", "=").replace("\\\\", "\\");
        requirements.push(FieldRequirement { path: path.to_owned(), value, equal });
    }
    Ok(requirements)
}

/// The fields that a kind can be selected by; a small closed list, as in the real server.
fn selectable(kind: &Kind, path: &str) -> bool {
    let name = matches!(path, "metadata.name") || (kind.namespaced && path == "metadata.namespace");
    name || match (kind.group.as_str(), kind.plural.as_str()) {
        ("", "pods") => matches!(
            path,
            "spec.nodeName"
                | "spec.restartPolicy"
                | "spec.schedulerName"
                | "spec.serviceAccountName"
                | "spec.hostNetwork"
                | "status.phase"
                | "status.podIP"
                | "status.nominatedNodeName"
        ),
        ("", "nodes") => path == "spec.unschedulable",
        ("", "namespaces") => path == "status.phase",
        ("", "secrets") => path == "type",
        ("", "events") => matches!(
            path,
            "involvedObject.kind"
                | "involvedObject.namespace"
                | "involvedObject.name"
                | "involvedObject.uid"
                | "involvedObject.apiVersion"
                | "involvedObject.resourceVersion"
                | "involvedObject.fieldPath"
                | "reason"
                | "reportingComponent"
                | "source"
                | "type"
        ),
        _ => kind.selectable_fields.iter().any(|field| field == path),
    }
}

/// Parses `a=b,c!=d,e in (x,y),f notin (z),g,!h,i>3`.
fn parse_labels(text: &str) -> Result<Vec<Requirement>, SelectorError> {
    split_outside_brackets(text).into_iter().map(parse_requirement).collect()
}

fn split_outside_brackets(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut depth) = (Vec::new(), 0, 0);
    for (index, letter) in text.char_indices() {
        match letter {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(text[start..index].trim());
                start = index + 1;
            }
            _ => {}
        }
    }
    parts.push(text[start..].trim());
    parts.retain(|part| !part.is_empty());
    parts
}

fn parse_requirement(text: &str) -> Result<Requirement, SelectorError> {
    let bad = || SelectorError::Label(text.to_owned());
    let set = |values: &str| {
        let inner = values.trim().strip_prefix('(')?.strip_suffix(')')?;
        Some(inner.split(',').map(|value| value.trim().to_owned()).collect::<BTreeSet<_>>())
    };
    let one = |value: &str| BTreeSet::from([value.trim().to_owned()]);
    let (key, test) = if let Some(key) = text.strip_prefix('!') {
        (key, Test::Missing)
    } else if let Some((key, values)) = text.split_once(" notin ") {
        (key, Test::NotIn(set(values).ok_or_else(bad)?))
    } else if let Some((key, values)) = text.split_once(" in ") {
        (key, Test::In(set(values).ok_or_else(bad)?))
    } else if let Some((key, value)) = text.split_once("!=") {
        (key, Test::NotIn(one(value)))
    } else if let Some((key, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        (key, Test::In(one(value)))
    } else if let Some((key, value)) = text.split_once('>') {
        (key, Test::Greater(value.trim().parse().map_err(|_| bad())?))
    } else if let Some((key, value)) = text.split_once('<') {
        (key, Test::Less(value.trim().parse().map_err(|_| bad())?))
    } else {
        (text, Test::Exists)
    };
    let key = key.trim();
    let legal = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    if key.is_empty() || !key.chars().all(legal) {
        return Err(bad());
    }
    Ok(Requirement { key: key.to_owned(), test })
}
