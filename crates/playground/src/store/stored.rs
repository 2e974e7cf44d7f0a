//! An object as the store keeps it: `metadata.managedFields` apart from the rest, since it is half of an object and hardly
//! anybody asks for it.

use super::ownership::Ownership;
use serde_json::Value;
use std::ops::Deref;
use std::sync::Arc;

#[derive(Debug, Clone)]
pub struct Stored {
    object: Arc<Value>,
    pub owners: Arc<Ownership>,
}

impl Stored {
    pub fn new(object: Value, owners: Arc<Ownership>) -> Self {
        Self { object: Arc::new(object), owners }
    }

    /// The object with its `managedFields`.
    pub fn whole(&self) -> Value {
        self.owners.shown_in(&self.object)
    }
}

impl Deref for Stored {
    type Target = Arc<Value>;

    /// The object without its `managedFields`.
    fn deref(&self) -> &Arc<Value> {
        &self.object
    }
}
