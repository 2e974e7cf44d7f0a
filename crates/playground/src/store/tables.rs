//! Tables and metadata-only answers: what `Accept` asks for instead of whole objects.

use super::cells;
use super::jsonpath;
use super::object::{self, text};
use super::registry::Kind;
use jiff::Timestamp;
use serde_json::{Value, json};

/// One column of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    pub kind: String,
    pub format: String,
    pub description: String,
    /// 0 is always shown, more only with `-o wide`.
    pub priority: i64,
    pub json_path: String,
}

impl Column {
    /// An entry of `additionalPrinterColumns`.
    pub fn parse(column: &Value) -> Self {
        let of = |field: &str| text(column, &[field]).to_owned();
        Self {
            name: of("name"),
            kind: of("type"),
            format: of("format"),
            description: of("description"),
            priority: column.get("priority").and_then(Value::as_i64).unwrap_or_default(),
            json_path: of("jsonPath"),
        }
    }

    fn definition(&self) -> Value {
        json!({
            "name": self.name, "type": self.kind, "format": self.format,
            "description": self.description, "priority": self.priority,
        })
    }

    /// The value of the column for a custom resource; `null` prints as nothing.
    fn cell(&self, object: &Value, now: Timestamp) -> Value {
        let Some(found) = jsonpath::find(object, &self.json_path).into_iter().next() else {
            return Value::Null;
        };
        match (self.kind.as_str(), found) {
            ("date", Value::String(time)) => json!(age(time, now)),
            ("string", Value::String(_)) | ("integer" | "number" | "boolean", _) => found.clone(),
            (_, other) => json!(other.to_string()),
        }
    }
}

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Form {
    #[default]
    Whole,
    Table,
    Metadata,
    MetadataList,
}

impl Form {
    /// The first form in an `Accept` header that is known.
    pub fn of(accept: &str) -> Self {
        let known = accept.split(',').find_map(|entry| {
            let has = |wanted: &str| entry.split(';').any(|part| part.trim() == wanted);
            if has("as=Table") && has("v=v1") {
                Some(Self::Table)
            } else if has("as=PartialObjectMetadataList") && has("v=v1") {
                Some(Self::MetadataList)
            } else if has("as=PartialObjectMetadata") && has("v=v1") {
                Some(Self::Metadata)
            } else {
                (!entry.contains("as=") && entry.contains("json")).then_some(Self::Whole)
            }
        });
        known.unwrap_or_default()
    }
}

/// An object without spec and status.
pub fn partial(object: &Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"],
    })
}

pub fn partial_list(objects: &[Value], metadata: Value) -> Value {
    let items: Vec<_> = objects.iter().map(partial).collect();
    json!({
        "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata, "items": items,
    })
}

/// A table of objects. `include` is `Object`, `None`, or anything else for metadata.
pub fn table(
    kind: &Kind,
    version: &str,
    objects: &[Value],
    metadata: Value,
    include: &str,
    now: Timestamp,
) -> Value {
    let columns = columns(kind, version);
    let definitions: Vec<_> = columns.iter().map(Column::definition).collect();
    let rows = objects.iter().map(|object| {
        let cells = match kind.custom {
            true => {
                let name = json!(object::name(object));
                let rest = columns[1..].iter().map(|column| column.cell(object, now));
                std::iter::once(name).chain(rest).collect()
            }
            false => cells::cells(kind, object, now),
        };
        let object = match include {
            "Object" => object.clone(),
            "None" => Value::Null,
            _ => partial(object),
        };
        json!({ "cells": cells, "object": object })
    });
    json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
        "columnDefinitions": definitions, "rows": rows.collect::<Vec<_>>(),
    })
}

/// The columns of a kind; a custom one without columns shows its age.
fn columns(kind: &Kind, version: &str) -> Vec<Column> {
    if !kind.custom {
        return cells::columns(kind);
    }
    let column = |name: &str, kind: &str, format: &str, path: &str| Column {
        name: name.to_owned(),
        kind: kind.to_owned(),
        format: format.to_owned(),
        description: String::new(),
        priority: 0,
        json_path: path.to_owned(),
    };
    let mut columns = vec![column("Name", "string", "name", ".metadata.name")];
    match kind.version(version) {
        Some(version) if !version.columns.is_empty() => columns.extend(version.columns.clone()),
        _ => columns.push(column("Age", "date", "", ".metadata.creationTimestamp")),
    }
    columns
}

/// The age of an object.
pub fn age_of(object: &Value, now: Timestamp) -> String {
    age(text(object, &["metadata", "creationTimestamp"]), now)
}

/// How long ago a time was, in the two largest units that matter: `5m3s`, `3h`, `12d`.
pub fn age(time: &str, now: Timestamp) -> String {
    let Ok(time) = time.parse::<Timestamp>() else { return "<unknown>".to_owned() };
    let seconds = now.duration_since(time).as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let two = |large: i64, large_unit: &str, small: i64, small_unit: &str| match small {
        0 => format!("{large}{large_unit}"),
        _ => format!("{large}{large_unit}{small}{small_unit}"),
    };
    match seconds {
        ..=-2 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        0..120 => format!("{seconds}s"),
        120..600 => two(minutes, "m", seconds % 60, "s"),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => two(hours, "h", minutes % 60, "m"),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => two(days, "d", hours % 24, "h"),
        691_200..63_072_000 => format!("{days}d"),
        63_072_000..252_288_000 => two(days / 365, "y", days % 365, "d"),
        _ => format!("{}y", days / 365),
    }
}
