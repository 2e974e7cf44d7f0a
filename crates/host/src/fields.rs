//! Reading JSON as Go's decoder does: key names in any case, null means absent, later keys win.
//!
//! Users' configurations, and what upstream's plugins wrote down, were written against that decoder: `mac` and `MAC` are the
//! same key there.

use serde_json::{Map, Value};
use thiserror::Error;

/// A value that is none of what its key stands for: the key, what was wanted, and what is there.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct WrongField(String);

/// One JSON object and where it stands, so that a complaint can name the key.
#[derive(Debug, Clone)]
pub struct Fields<'a> {
    object: Option<&'a Map<String, Value>>,
    path: String,
}

impl<'a> Fields<'a> {
    pub fn new(object: &'a Map<String, Value>) -> Self {
        Self { object: Some(object), path: String::new() }
    }

    pub fn value(&self, name: &str) -> Option<&'a Value> {
        self.object?
            .iter()
            .filter(|(key, value)| key.eq_ignore_ascii_case(name) && !value.is_null())
            .map(|(_, value)| value)
            .next_back()
    }

    /// The keys as they are written.
    pub fn names(&self) -> impl Iterator<Item = &'a str> {
        self.object.into_iter().flat_map(|object| object.keys().map(String::as_str))
    }

    /// A text; empty when absent.
    pub fn text(&self, name: &str) -> Result<&'a str, WrongField> {
        match self.value(name) {
            None => Ok(""),
            Some(Value::String(text)) => Ok(text),
            Some(other) => Err(self.wrong(name, "text", other)),
        }
    }

    pub fn flag(&self, name: &str) -> Result<bool, WrongField> {
        match self.value(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => Err(self.wrong(name, "true or false", other)),
        }
    }

    pub fn number(&self, name: &str) -> Result<Option<i64>, WrongField> {
        match self.value(name) {
            None => Ok(None),
            Some(value) => {
                value.as_i64().map(Some).ok_or_else(|| self.wrong(name, "a whole number", value))
            }
        }
    }

    /// A number of that type; zero when absent.
    pub fn small<N: TryFrom<i64>>(&self, name: &str) -> Result<N, WrongField> {
        let number = self.number(name)?.unwrap_or_default();
        N::try_from(number)
            .map_err(|_| WrongField(format!("{} {number} is out of range", self.named(name))))
    }

    /// A nested object; one without keys when absent.
    pub fn nested(&self, name: &str) -> Result<Fields<'a>, WrongField> {
        let path = self.named(name);
        match self.value(name) {
            None => Ok(Fields { object: None, path }),
            Some(Value::Object(object)) => Ok(Fields { object: Some(object), path }),
            Some(other) => Err(self.wrong(name, "an object", other)),
        }
    }

    pub fn named(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    fn wrong(&self, name: &str, wanted: &str, found: &Value) -> WrongField {
        let mut shown = found.to_string();
        if shown.len() > 40 {
            shown = shown.chars().take(40).chain("…".chars()).collect();
        }
        WrongField(format!("{} must be {wanted}, but is {shown}", self.named(name)))
    }
}
