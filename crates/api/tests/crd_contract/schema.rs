//! The CRDs of deploy/crds as this test reads them: facts as lines, objects by path, and a sample with every field set.

use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;

pub struct Crd {
    pub kind: String,
    names: Value,
    version: Value,
}

/// All CRDs, by file name.
pub fn all() -> Vec<Crd> {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/crds");
    let entries = fs::read_dir(directory).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| Crd::read(&fs::read_to_string(path).unwrap())).collect()
}

pub fn by_kind(kind: &str) -> Crd {
    all().into_iter().find(|crd| crd.kind == kind).expect("deploy/crds has the kind")
}

impl Crd {
    fn read(text: &str) -> Self {
        let crd: Value = serde_saphyr::from_str(text).unwrap();
        let spec = &crd["spec"];
        assert_eq!(spec["scope"], "Namespaced");
        assert_eq!(spec["versions"].as_array().map(Vec::len), Some(1));
        let names = spec["names"].clone();
        let group = spec["group"].as_str().unwrap();
        let full_name = format!("{}.{group}", names["plural"].as_str().unwrap());
        assert_eq!(crd["metadata"]["name"], full_name.as_str());
        let kind = names["kind"].as_str().unwrap().to_owned();
        Self { kind, names, version: spec["versions"][0].clone() }
    }

    pub fn root(&self) -> &Value {
        &self.version["schema"]["openAPIV3Schema"]
    }

    /// One line for each fact: names, printer columns, and each field with its type and bounds.
    pub fn facts(&self) -> Vec<String> {
        let kind = &self.kind;
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let mut lines = vec![format!(
            "{kind} names: {} {} {}",
            text(&self.names["plural"]),
            text(&self.names["singular"]),
            text(&self.names["listKind"])
        )];
        for short in self.names["shortNames"].as_array().into_iter().flatten() {
            lines.push(format!("{kind} short name: {}", text(short)));
        }
        if self.version["subresources"]["status"].is_object() {
            lines.push(format!("{kind} subresource: status"));
        }
        for column in self.version["additionalPrinterColumns"].as_array().into_iter().flatten() {
            let [name, kind_of, path] = ["name", "type", "jsonPath"].map(|key| text(&column[key]));
            lines.push(format!("{kind} column {name}: {kind_of} {path}"));
        }
        walk(self.root(), "", false, &mut |path, schema, required| {
            if !path.is_empty() {
                lines.push(format!("{kind} {path}: {}", fact(schema, required)));
            }
        });
        lines
    }

    /// Each object of the schema that has named fields, by path.
    pub fn objects(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut objects = BTreeMap::new();
        walk(self.root(), "", false, &mut |path, schema, _| {
            if let Some(properties) = schema["properties"].as_object() {
                let names = properties.keys().cloned().collect();
                objects.insert(path.to_owned(), names);
            }
        });
        objects
    }

    /// An object with every field set to something that is not empty, zero or false.
    pub fn sample(&self) -> Value {
        let mut sample = sample(self.root(), "");
        sample["metadata"] = json!({ "name": "sample" });
        sample
    }
}

/// Visits every node of a schema with its path, and whether its parent requires it.
pub fn walk(schema: &Value, path: &str, required: bool, visit: &mut dyn FnMut(&str, &Value, bool)) {
    visit(path, schema, required);
    let needed: BTreeSet<&str> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, child) in schema["properties"].as_object().into_iter().flatten() {
        walk(child, &format!("{path}.{name}"), needed.contains(name.as_str()), visit);
    }
    if schema["items"].is_object() {
        walk(&schema["items"], &format!("{path}[]"), false, visit);
    }
    if schema["additionalProperties"].is_object() {
        walk(&schema["additionalProperties"], &format!("{path}{{}}"), false, visit);
    }
}

/// Everything that a schema node says except its description and its children.
fn fact(schema: &Value, required: bool) -> String {
    let told_elsewhere = ["description", "properties", "items", "additionalProperties", "required"];
    let mut words = Vec::new();
    let facts: BTreeMap<&String, &Value> = schema.as_object().into_iter().flatten().collect();
    if let Some(kind) = schema["type"].as_str() {
        words.push(kind.to_owned());
    }
    if required {
        words.push("required".to_owned());
    }
    for (key, value) in facts {
        if key != "type" && !told_elsewhere.contains(&key.as_str()) {
            words.push(format!("{key} {value}"));
        }
    }
    words.join(" ")
}

fn sample(schema: &Value, path: &str) -> Value {
    if schema["x-kubernetes-int-or-string"] == true {
        return json!("10%");
    }
    match schema["type"].as_str() {
        Some("string") => Value::from(sample_text(schema, path)),
        Some("integer") => schema["maximum"].as_i64().map_or(json!(7), Value::from),
        Some("boolean") => json!(true),
        Some("array") => json!([sample(&schema["items"], &format!("{path}[]"))]),
        Some("object") if schema["additionalProperties"].is_object() => {
            json!({ "key": sample(&schema["additionalProperties"], path) })
        }
        Some("object") => {
            let properties = schema["properties"].as_object().cloned().unwrap_or_default();
            let field = |(name, child): (String, Value)| {
                let value = sample(&child, &format!("{path}.{name}"));
                (name, value)
            };
            Value::Object(properties.into_iter().map(field).collect::<Map<_, _>>())
        }
        other => panic!("{path} has type {other:?}, of which this test knows no sample"),
    }
}

/// The last choice of an enum, so that a tagged enum shows the variant with fields; else a text that the type reads.
fn sample_text(schema: &Value, path: &str) -> String {
    let choices = schema["enum"].as_array().into_iter().flatten().filter_map(Value::as_str);
    if let Some(choice) = choices.rev().find(|choice| !choice.is_empty()) {
        return choice.to_owned();
    }
    let name = path.rsplit('.').next().unwrap_or_default();
    match name {
        "pciAddress" => "0000:3b:00.0",
        "vfRange" => "0-3",
        "lastTransitionTime" | "since" | "goneSince" | "askedAt" | "started" | "estimatedEnd" => {
            "2026-11-22T12:00:00Z"
        }
        _ => "text",
    }
    .to_owned()
}
