//! Tables for `kubectl get`: the columns of a kind and the cells of an object.

use super::object::text;
use serde_json::Value;

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
}
