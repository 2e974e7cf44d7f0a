//! docs/reference/api.md, made from the CRDs: what `kubectl explain` says, on one page.

use crate::schema::{self, Crd};
use serde_json::Value;
use std::fmt::Write;

const HEADER: &str = "# API reference\n\n\
    Made from deploy/crds by `UPDATE_EXPECT=1 cargo test -p api`; do not edit.\n\
    `kubectl explain <kind>.spec` says the same.\n\
    A star marks a required field, `[]` a list, `{}` a map from names.\n";

/// The page.
pub fn page() -> String {
    let mut page = HEADER.to_owned();
    for crd in schema::all() {
        section(&mut page, &crd);
    }
    page
}

fn section(page: &mut String, crd: &Crd) {
    let description = crd.root()["description"].as_str().unwrap();
    write!(page, "\n## {}\n\n{description}\n\n", crd.kind).unwrap();
    page.push_str("| field | type | meaning |\n|---|---|---|\n");
    schema::walk(crd.root(), "", false, &mut |path, node, required| {
        let ours = path.starts_with(".spec") || path.starts_with(".status");
        // The items of a list and a map of texts are told with the list and the map.
        let told = path.ends_with("[]") || path.ends_with("{}");
        // Conditions are the same everywhere, and Kubernetes' own.
        if ours && !told && !path.contains(".conditions[]") {
            let star = if required { "*" } else { "" };
            let kind = kind(node);
            let meaning = meaning(node);
            writeln!(page, "| `{}`{star} | {kind} | {meaning} |", &path[1..]).unwrap();
        }
    });
}

fn kind(node: &Value) -> String {
    if node["x-kubernetes-int-or-string"] == true {
        return "integer or string".to_owned();
    }
    let name = node["type"].as_str().unwrap();
    if node["items"].is_object() {
        return format!("{}[]", kind(&node["items"]));
    }
    match node["additionalProperties"].as_object() {
        Some(_) => format!("{}{{}}", kind(&node["additionalProperties"])),
        None => name.to_owned(),
    }
}

fn meaning(node: &Value) -> String {
    let mut text = node["description"].as_str().unwrap_or_default().to_owned();
    let quoted = |value: &Value| match value.as_str() {
        Some("") => "empty".to_owned(),
        Some(word) => format!("`{word}`"),
        None => value.to_string(),
    };
    let choices = node["enum"].as_array().or(node["items"]["enum"].as_array());
    if let Some(choices) = choices {
        let words: Vec<String> = choices.iter().map(quoted).collect();
        write!(text, " One of {}.", words.join(", ")).unwrap();
    }
    match (node["minimum"].as_i64(), node["maximum"].as_i64()) {
        (Some(least), Some(most)) => write!(text, " {least} to {most}.").unwrap(),
        (Some(least), None) => write!(text, " At least {least}.").unwrap(),
        (None, _) => {}
    }
    if !node["default"].is_null() {
        write!(text, " Default {}.", quoted(&node["default"])).unwrap();
    }
    // A name in angle brackets would be read as HTML.
    text.trim().replace('<', "&lt;")
}
