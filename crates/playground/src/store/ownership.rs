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

    /// The manager of an entry of `managedFields`.
    fn of_entry(entry: &Value) -> Self {
        let of = |field: &str| text(entry, &[field]).to_owned();
        Self {
            operation: operation(entry),
            name: of("manager"),
            api_version: of("apiVersion"),
            subresource: of("subresource"),
        }
    }

    fn is_of(&self, entry: &Value) -> bool {
        text(entry, &["manager"]) == self.name
            && operation(entry) == self.operation
            && text(entry, &["subresource"]) == self.subresource
            && text(entry, &["apiVersion"]) == self.api_version
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

fn operation(entry: &Value) -> &'static str {
    match text(entry, &["operation"]) {
        "Apply" => "Apply",
        _ => "Update",
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
        let managers = entries(object).map(|entry| {
            let time = text(entry, &["time"]).to_owned();
            (Manager::of_entry(entry), Owned { fields: FieldSet::parse(fields(entry)), time })
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

fn entries(object: &Value) -> impl Iterator<Item = &Value> {
    let entries = at(object, &["metadata", "managedFields"]).and_then(Value::as_array);
    entries.into_iter().flatten()
}

fn fields(entry: &Value) -> &Value {
    entry.get("fieldsV1").unwrap_or(&Value::Null)
}

/// The fields of one manager of an object.
pub fn fields_of(object: &Value, manager: &Manager) -> Option<FieldSet> {
    let entry = entries(object).find(|entry| manager.is_of(entry))?;
    Some(FieldSet::parse(fields(entry)))
}

/// True when `managedFields` stays as it is although the manager made this difference: everything in it is its own
/// already and nobody else's. Most writes change values and no owners, and are booked without a look at the rest.
pub fn stands(object: &Value, manager: &Manager, difference: &Difference) -> bool {
    if !difference.removed.is_empty() {
        return false;
    }
    let changed = difference.changed();
    let mut found = false;
    entries(object).all(|entry| match manager.is_of(entry) {
        true => {
            found = true;
            changed.is_within(fields(entry))
        }
        false => !changed.meets(fields(entry)),
    }) && found
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
    let difference = Difference::between(old, new, shape);
    let manager = Manager::of(call, "Update");
    if stands(old, &manager, &difference) {
        return;
    }
    let mut ownership = Ownership::of(old);
    ownership.update(manager, &difference, &object::time(call.now));
    ownership.write(new);
}
