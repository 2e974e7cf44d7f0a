//! Sets of fields, as `managedFields` writes them (FieldsV1): a tree whose branches are field names and list items.

use super::object::same;
use super::shape::{ListKind, Shape};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt::Write;

/// A set of paths. An element is `f:name`, `k:{"key":…}`, `v:value` or `i:index`, as in FieldsV1.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldSet {
    /// The path down to here is itself in the set.
    pub owned: bool,
    pub children: BTreeMap<String, FieldSet>,
}

impl FieldSet {
    /// The FieldsV1 document.
    pub fn to_value(&self) -> Value {
        let mut map = Map::new();
        if self.owned && !self.children.is_empty() {
            map.insert(".".to_owned(), Value::Object(Map::new()));
        }
        for (element, inner) in &self.children {
            map.insert(element.clone(), inner.to_value());
        }
        Value::Object(map)
    }

    pub fn is_empty(&self) -> bool {
        !self.owned && self.children.is_empty()
    }

    /// True when every path of this set is in the other.
    pub fn is_within(&self, other: &Self) -> bool {
        (!self.owned || other.owned)
            && self.children.iter().all(|(element, inner)| {
                other.children.get(element).is_some_and(|other| inner.is_within(other))
            })
    }

    /// True when some path of this set is in the other.
    pub fn meets(&self, other: &Self) -> bool {
        (self.owned && other.owned)
            || self.children.iter().any(|(element, inner)| {
                other.children.get(element).is_some_and(|other| inner.meets(other))
            })
    }

    pub fn child(&mut self, element: String) -> &mut Self {
        self.children.entry(element).or_default()
    }

    pub fn add(&mut self, other: &Self) {
        self.owned |= other.owned;
        for (element, inner) in &other.children {
            self.child(element.clone()).add(inner);
        }
    }

    /// Takes away the paths that are in `other`.
    pub fn subtract(&mut self, other: &Self) {
        self.owned &= !other.owned;
        for (element, inner) in &other.children {
            if let Some(mine) = self.children.get_mut(element) {
                mine.subtract(inner);
                if mine.is_empty() {
                    self.children.remove(element);
                }
            }
        }
    }

    /// Takes away the paths that are in `other`, and everything below them.
    pub fn subtract_below(&mut self, other: &Self) {
        self.owned &= !other.owned;
        for (element, inner) in &other.children {
            if inner.owned {
                self.children.remove(element);
            } else if let Some(mine) = self.children.get_mut(element) {
                mine.subtract_below(inner);
                if mine.is_empty() {
                    self.children.remove(element);
                }
            }
        }
    }

    /// The paths that are in both.
    pub fn common(&self, other: &Self) -> Self {
        let mut set = Self { owned: self.owned && other.owned, ..Self::default() };
        for (element, mine) in &self.children {
            let Some(theirs) = other.children.get(element) else { continue };
            let inner = mine.common(theirs);
            if !inner.is_empty() {
                set.children.insert(element.clone(), inner);
            }
        }
        set
    }

    /// Every path, as messages print it: `.spec.containers[name="a"].image`.
    pub fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.collect_paths("", &mut paths);
        paths
    }

    fn collect_paths(&self, prefix: &str, paths: &mut Vec<String>) {
        if self.owned {
            paths.push(prefix.to_owned());
        }
        for (element, inner) in &self.children {
            inner.collect_paths(&format!("{prefix}{}", shown(element)), paths);
        }
    }

    /// The fields that an applied object has an opinion on.
    pub fn of(object: &Value, shape: Shape) -> Self {
        let mut set = Self::default();
        set.fill(object, shape, &mut Vec::new());
        set
    }

    fn fill<'a>(&mut self, value: &'a Value, shape: Shape, path: &mut Vec<&'a str>) {
        match value {
            Value::Object(map) if !shape.is_atomic_map(path) => {
                for (field, value) in map {
                    path.push(field);
                    let inner = self.child(format!("f:{field}"));
                    inner.fill(value, shape, path);
                    let empty = value.as_object().is_some_and(Map::is_empty);
                    inner.owned |= empty || !shape.is_declared(path);
                    path.pop();
                    self.children.retain(|_, inner| !inner.is_empty());
                }
            }
            Value::Array(items) => match shape.list(path) {
                ListKind::Atomic => self.owned = true,
                list => {
                    for (index, item) in items.iter().enumerate() {
                        let inner = self.child(list.element(item, index));
                        inner.owned = true;
                        inner.fill(item, shape, path);
                    }
                }
            },
            _ => self.owned = true,
        }
    }
}

/// A path element as messages print it.
fn shown(element: &str) -> String {
    let (kind, rest) = element.split_once(':').unwrap_or(("f", element));
    match kind {
        "k" => {
            let keys: Map<String, Value> = serde_json::from_str(rest).unwrap_or_default();
            let mut text = String::from("[");
            for (index, (key, value)) in keys.iter().enumerate() {
                let comma = if index == 0 { "" } else { "," };
                // Writing to a String cannot fail.
                let _ = write!(text, "{comma}{key}={value}");
            }
            text + "]"
        }
        "v" => format!("[={rest}]"),
        "i" => format!("[{rest}]"),
        _ => format!(".{rest}"),
    }
}

/// What differs between two states of an object.
#[derive(Debug, Clone, Default)]
pub struct Difference {
    pub added: FieldSet,
    pub modified: FieldSet,
    pub removed: FieldSet,
}

impl Difference {
    /// Compares two objects, without what belongs to the server.
    pub fn between(old: &Value, new: &Value, shape: Shape) -> Self {
        let mut found = Self::default();
        if !same(old, new) {
            compare(old, new, shape, &mut Vec::new(), &mut found);
        }
        // The root itself is nobody's.
        found.added.owned = false;
        found.removed.owned = false;
        found
    }

    /// The paths whose value is now another one.
    pub fn changed(&self) -> FieldSet {
        let mut set = self.modified.clone();
        set.add(&self.added);
        set
    }
}

/// An object without the fields that nobody owns.
pub fn strip(object: &Value) -> Value {
    let mut object = object.clone();
    let Some(map) = object.as_object_mut() else { return object };
    map.shift_remove("apiVersion");
    map.shift_remove("kind");
    if let Some(Value::Object(metadata)) = map.get_mut("metadata") {
        metadata.retain(|field, _| !UNOWNED.contains(&field.as_str()));
        if metadata.is_empty() {
            map.shift_remove("metadata");
        }
    }
    object
}

const UNOWNED: &[&str] = &[
    "name",
    "namespace",
    "creationTimestamp",
    "selfLink",
    "uid",
    "generation",
    "managedFields",
    "resourceVersion",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
];

/// True for the fields that `strip` takes away.
fn is_nobodys(path: &[&str], field: &str) -> bool {
    match path {
        [] => matches!(field, "apiVersion" | "kind"),
        ["metadata"] => UNOWNED.contains(&field),
        _ => false,
    }
}

/// The value of a field; metadata of which nothing is anybody's is as good as absent.
fn owned_part<'a>(path: &[&str], field: &str, value: Option<&'a Value>) -> &'a Value {
    let value = value.unwrap_or(&Value::Null);
    let is_metadata = path.is_empty() && field == "metadata";
    match value.as_object() {
        Some(map) if is_metadata && map.keys().all(|f| UNOWNED.contains(&f.as_str())) => {
            &Value::Null
        }
        _ => value,
    }
}

/// Walks two values that differ side by side. `Null` on one side stands for absent.
fn compare<'a>(
    old: &'a Value,
    new: &'a Value,
    shape: Shape,
    path: &mut Vec<&'a str>,
    found: &mut Difference,
) {
    if old.is_null() {
        found.added.owned = true;
    } else if new.is_null() {
        found.removed.owned = true;
    }
    match (old, new) {
        (Value::Object(_) | Value::Null, Value::Object(_)) | (Value::Object(_), Value::Null)
            if !shape.is_atomic_map(path) =>
        {
            compare_maps(old, new, shape, path, found);
        }
        (Value::Array(_) | Value::Null, Value::Array(_)) | (Value::Array(_), Value::Null)
            if shape.list(path) != ListKind::Atomic =>
        {
            compare_lists(old, new, shape, path, found);
        }
        (Value::Null, _) | (_, Value::Null) => {}
        _ => found.modified.owned = true,
    }
}

fn compare_maps<'a>(
    old: &'a Value,
    new: &'a Value,
    shape: Shape,
    path: &mut Vec<&'a str>,
    found: &mut Difference,
) {
    let fields = |value: &'a Value| value.as_object().into_iter().flat_map(Map::keys);
    let all = fields(old).chain(fields(new).filter(|field| old.get(*field).is_none()));
    let all: Vec<&'a String> = all.filter(|field| !is_nobodys(path, field)).collect();
    for field in all {
        let of = |value: &'a Value| owned_part(path, field, value.get(field));
        let (old, new) = (of(old), of(new));
        path.push(field);
        descend(format!("f:{field}"), old, new, shape, path, found);
        path.pop();
    }
}

fn compare_lists<'a>(
    old: &'a Value,
    new: &'a Value,
    shape: Shape,
    path: &mut Vec<&'a str>,
    found: &mut Difference,
) {
    let list = shape.list(path);
    let items = |value: &'a Value| -> BTreeMap<String, &'a Value> {
        let items = value.as_array().into_iter().flatten().enumerate();
        items.map(|(index, item)| (list.element(item, index), item)).collect()
    };
    let (old, new) = (items(old), items(new));
    for (element, item) in &old {
        let other = new.get(element).copied().unwrap_or(&Value::Null);
        descend(element.clone(), item, other, shape, path, found);
    }
    for (element, item) in new.iter().filter(|(element, _)| !old.contains_key(*element)) {
        descend(element.clone(), &Value::Null, item, shape, path, found);
    }
}

fn descend<'a>(
    element: String,
    old: &'a Value,
    new: &'a Value,
    shape: Shape,
    path: &mut Vec<&'a str>,
    found: &mut Difference,
) {
    if same(old, new) {
        return;
    }
    let mut inner = Difference::default();
    compare(old, new, shape, path, &mut inner);
    for (set, inner) in [
        (&mut found.added, inner.added),
        (&mut found.modified, inner.modified),
        (&mut found.removed, inner.removed),
    ] {
        if !inner.is_empty() {
            set.children.insert(element.clone(), inner);
        }
    }
}
