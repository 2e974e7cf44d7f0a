//! `metadata.managedFields`: which manager owns which fields, through updates and applies.

use super::call::Call;
use super::fields::{Difference, FieldSet};
use super::object;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

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
    /// The object with its `managedFields`.
    pub fn shown_in(&self, object: &Value) -> Value {
        let mut object = object.clone();
        self.write(&mut object);
        object
    }

    /// Puts the managers into the object, oldest first within each operation.
    fn write(&self, object: &mut Value) {
        let mut all: Vec<_> = self.managers.iter().collect();
        all.sort_by_key(|(manager, owned)| (manager.operation, &owned.time, &manager.name));
        let entries: Vec<_> =
            all.into_iter().map(|(manager, owned)| entry(manager, owned)).collect();
        if !entries.is_empty() {
            object::metadata(object).insert("managedFields".to_owned(), Value::Array(entries));
        }
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

    /// True when nothing of it changes although the manager made this difference: everything in it is its own already and
    /// nobody else's. Most writes change values and no owners.
    pub fn stands(&self, manager: &Manager, difference: &Difference) -> bool {
        if !difference.removed.is_empty() || !self.managers.contains_key(manager) {
            return false;
        }
        let changed = difference.changed();
        self.managers.iter().all(|(other, owned)| match other == manager {
            true => changed.is_within(&owned.fields),
            false => !changed.meets(&owned.fields),
        })
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
pub fn book_update(
    call: &Call,
    owners: &Arc<Ownership>,
    old: &Value,
    new: &Value,
) -> Arc<Ownership> {
    let difference = Difference::between(old, new, call.shape());
    let manager = Manager::of(call, "Update");
    if owners.stands(&manager, &difference) {
        return Arc::clone(owners);
    }
    let mut ownership = Ownership::clone(owners);
    ownership.update(manager, &difference, &object::time(call.now));
    Arc::new(ownership)
}
