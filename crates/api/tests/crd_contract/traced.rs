//! Hears which fields a Rust type has: serde's derive hands the list of a struct's fields to the deserializer.

use serde::de::value::{Error, StrDeserializer};
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::{Map, Value};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

/// Field names of each struct, by the path where it stands.
pub type Fields = BTreeMap<String, BTreeSet<&'static str>>;

/// Reads `sample` into a `T` and tells the fields of every struct on the way. Metadata is left out.
pub fn fields<T: DeserializeOwned>(sample: &Value) -> Fields {
    let heard = RefCell::new(Fields::new());
    let traced = Traced { value: sample, path: String::new(), heard: &heard };
    if let Err(error) = T::deserialize(traced) {
        panic!("the sample does not read: {error}");
    }
    let mut heard = heard.into_inner();
    heard.remove(".metadata");
    heard
}

#[derive(Clone)]
struct Traced<'a> {
    value: &'a Value,
    path: String,
    heard: &'a RefCell<Fields>,
}

impl<'a> Traced<'a> {
    fn below(&self, value: &'a Value, step: &str) -> Self {
        Self { value, path: format!("{}{step}", self.path), heard: self.heard }
    }

    fn visit_object<'de, V: Visitor<'de>>(
        self,
        fields: &'a Map<String, Value>,
        is_struct: bool,
        visitor: V,
    ) -> Result<V::Value, Error> {
        let entries: Vec<_> = fields.iter().collect();
        visitor.visit_map(Entries { entries: entries.into_iter(), next: None, of: self, is_struct })
    }
}

impl<'de> Deserializer<'de> for Traced<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(flag) => visitor.visit_bool(*flag),
            Value::Number(number) => match number.as_i64() {
                Some(number) => visitor.visit_i64(number),
                None => visitor.visit_f64(number.as_f64().unwrap_or_default()),
            },
            Value::String(text) => visitor.visit_str(text),
            Value::Array(items) => visitor.visit_seq(Items { items: items.iter(), of: self }),
            Value::Object(fields) => self.clone().visit_object(fields, false, visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.heard.borrow_mut().entry(self.path.clone()).or_default().extend(fields);
        match self.value {
            Value::Object(entries) => self.clone().visit_object(entries, true, visitor),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let text = self.value.as_str().unwrap_or_default();
        StrDeserializer::<Error>::new(text).deserialize_enum(name, variants, visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map identifier ignored_any
    }
}

struct Items<'a> {
    items: std::slice::Iter<'a, Value>,
    of: Traced<'a>,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        let next = self.items.next();
        next.map(|item| seed.deserialize(self.of.below(item, "[]"))).transpose()
    }
}

struct Entries<'a> {
    entries: std::vec::IntoIter<(&'a String, &'a Value)>,
    next: Option<(&'a String, &'a Value)>,
    of: Traced<'a>,
    is_struct: bool,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        self.next = self.entries.next();
        let key = self.next.map(|(key, _)| StrDeserializer::new(key));
        key.map(|key| seed.deserialize(key)).transpose()
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let (key, value) = self.next.take().expect("serde asks for a value after its key");
        let step = if self.is_struct { format!(".{key}") } else { "{}".to_owned() };
        seed.deserialize(self.of.below(value, &step))
    }
}
