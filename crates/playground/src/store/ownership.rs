//! `metadata.managedFields`: which manager owns which fields, through updates and applies.

use super::call::Call;
use super::fields::{Difference, FieldSet};
use super::object::{self, at, text};
use super::shape::Shape;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Who owns fields, and by which kind of request.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Manager {
    /// `Apply` sorts before `Update`, as the server lists them.
    pub operation: &'static str,
    pub name: String,
    pub api_version: String,
    pub subresource: String,
}

impl Manager {
    /// The manager that a request speaks for.
    pub fn of(call: &Call, operation: &'static str) -> Self {
        let name = match call.options.manager.as_str() {
            "" => "unknown",
            name => name,
        };
        Self {
            operation,
            name: name.to_owned(),
            api_version: call.api_version(),
            subresource: match call.is_status() {
                true => "status".to_owned(),
                false => String::new(),
            },
        }
    }

    /// As messages of conflicts print it.
    pub fn shown(&self) -> String {
        let mut text = format!("{:?}", self.name);
        if !self.subresource.is_empty() {
            text = format!("{text} with subresource {:?}", self.subresource);
        }
        match self.operation {
            "Update" => format!("{text} using {}", self.api_version),
            _ => text,
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Owned {
    pub fields: FieldSet,
    pub time: String,
}

/// All managers of one object.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ownership {
    pub managers: BTreeMap<Manager, Owned>,
}

impl Ownership {
    pub fn of(object: &Value) -> Self {
        let entries = at(object, &["metadata", "managedFields"]).and_then(Value::as_array);
        let managers = entries.into_iter().flatten().map(|entry| {
            let of = |field: &str| text(entry, &[field]).to_owned();
            let operation = match text(entry, &["operation"]) {
                "Apply" => "Apply",
                _ => "Update",
            };
            let manager = Manager {
                operation,
                name: of("manager"),
                api_version: of("apiVersion"),
                subresource: of("subresource"),
            };
            let fields = FieldSet::parse(entry.get("fieldsV1").unwrap_or(&Value::Null));
            (manager, Owned { fields, time: of("time") })
        });
        Self { managers: managers.collect() }
    }

    /// Puts the managers into the object, oldest first within each operation.
    pub fn write(&self, object: &mut Value) {
        let mut all: Vec<_> = self.managers.iter().collect();
        all.sort_by_key(|(manager, owned)| (manager.operation, &owned.time, &manager.name));
        let entries: Vec<_> =
            all.into_iter().map(|(manager, owned)| entry(manager, owned)).collect();
        let entries = (!entries.is_empty()).then_some(Value::Array(entries));
        object::put(object::metadata(object), "managedFields", entries);
    }

    /// What an update changed belongs to its manager and to nobody else.
    pub fn update(&mut self, manager: Manager, difference: &Difference, time: &str) {
        let changed = difference.changed();
        self.lose(&manager, &changed, &difference.removed);
        let owned = self
            .managers
            .entry(manager)
            .or_insert_with(|| Owned { fields: FieldSet::default(), time: time.to_owned() });
        let before = owned.fields.clone();
        owned.fields.add(&changed);
        owned.fields.subtract_below(&difference.removed);
        if owned.fields != before {
            owned.time = time.to_owned();
        }
        self.managers.retain(|_, owned| !owned.fields.is_empty());
    }

    /// All managers but one lose what changed hands and what is gone.
    pub fn lose(&mut self, but: &Manager, changed: &FieldSet, removed: &FieldSet) {
        for (_, owned) in self.managers.iter_mut().filter(|(manager, _)| *manager != but) {
            owned.fields.subtract(changed);
            owned.fields.subtract_below(removed);
        }
        self.managers.retain(|manager, owned| manager == but || !owned.fields.is_empty());
    }

    /// Every field that anybody owns.
    pub fn all(&self) -> FieldSet {
        let mut all = FieldSet::default();
        for owned in self.managers.values() {
            all.add(&owned.fields);
        }
        all
    }
}

fn entry(manager: &Manager, owned: &Owned) -> Value {
    let mut entry = json!({
        "manager": manager.name, "operation": manager.operation, "apiVersion": manager.api_version,
        "time": owned.time, "fieldsType": "FieldsV1", "fieldsV1": owned.fields.to_value(),
    });
    if !manager.subresource.is_empty() {
        entry["subresource"] = Value::from(manager.subresource.as_str());
    }
    entry
}

/// Books the difference between two states of an object on the manager of an update.
pub fn book_update(call: &Call, shape: Shape, old: &Value, new: &mut Value) {
    let mut ownership = Ownership::of(old);
    let difference = Difference::between(old, new, shape);
    let time = object::time(call.now);
    ownership.update(Manager::of(call, "Update"), &difference, &time);
    ownership.write(new);
}
