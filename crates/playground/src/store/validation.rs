//! Checks an object against a structural schema, with the sentences of the real server.

use super::refusal::FieldError;
use super::schema::{Schema, Type};
use super::shape::ListKind;
use serde_json::Value;
use std::collections::BTreeSet;

/// Every wrong field of a custom resource.
pub fn validate(schema: &Schema, object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    check(schema, object, "", &mut errors);
    errors
}

fn check(schema: &Schema, value: &Value, path: &str, errors: &mut Vec<FieldError>) {
    if value.is_null() && schema.nullable {
        return;
    }
    if !check_type(schema, value, path, errors) {
        return;
    }
    check_enum(schema, value, path, errors);
    match value {
        Value::Number(number) => {
            check_number(schema, value, number.as_f64().unwrap_or_default(), path, errors);
        }
        Value::String(text) => check_text(schema, value, text, path, errors),
        Value::Array(items) => check_list(schema, items, path, errors),
        Value::Object(map) => check_map(schema, map, path, errors),
        Value::Null | Value::Bool(_) => {}
    }
    check_combinations(schema, value, path, errors);
}

/// True for a text or a switch where the schema asks for one and for nothing more: most values are, and the path of each
/// would be written for nothing.
fn is_plainly_right(schema: &Schema, value: &Value) -> bool {
    let fits = match value {
        Value::String(_) => {
            schema.kind == Some(Type::String)
                && schema.pattern.is_none()
                && schema.bounds.min_length.is_none()
                && schema.bounds.max_length.is_none()
        }
        Value::Bool(_) => schema.kind == Some(Type::Boolean),
        _ => false,
    };
    fits && !schema.int_or_string
        && schema.allowed.is_empty()
        && schema.all_of.is_empty()
        && schema.any_of.is_empty()
        && schema.one_of.is_empty()
        && schema.not.is_none()
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn check_type(schema: &Schema, value: &Value, path: &str, errors: &mut Vec<FieldError>) -> bool {
    let found = type_name(value);
    if schema.int_or_string {
        if matches!(found, "integer" | "string") {
            return true;
        }
        errors.push(wrong_type(path, "integer,string", found));
        return false;
    }
    let Some(wanted) = schema.kind else { return true };
    let fits = match (wanted, value) {
        (Type::Object, Value::Object(_))
        | (Type::Array, Value::Array(_))
        | (Type::String, Value::String(_))
        | (Type::Boolean, Value::Bool(_))
        | (Type::Number, Value::Number(_)) => true,
        (Type::Integer, Value::Number(number)) => {
            number.as_f64().is_some_and(|number| number.fract() == 0.0)
        }
        _ => false,
    };
    if !fits {
        errors.push(wrong_type(path, wanted.name(), found));
    }
    fits
}

fn wrong_type(path: &str, wanted: &str, found: &'static str) -> FieldError {
    let why = format!("{path} in body must be of type {wanted}: \"{found}\"");
    let mut error = FieldError::invalid(path, &Value::from(found), why);
    error.reason = "FieldValueTypeInvalid";
    error
}

fn check_enum(schema: &Schema, value: &Value, path: &str, errors: &mut Vec<FieldError>) {
    if !schema.allowed.is_empty() && !schema.allowed.contains(value) {
        errors.push(FieldError::unsupported(path, value, &schema.allowed));
    }
}

fn check_number(
    schema: &Schema,
    value: &Value,
    number: f64,
    path: &str,
    errors: &mut Vec<FieldError>,
) {
    let bounds = &schema.bounds;
    let mut refuse = |why: String| {
        errors.push(FieldError::invalid(path, value, format!("{path} in body {why}")));
    };
    if let Some(minimum) = bounds.minimum {
        if bounds.exclusive_minimum && number <= minimum {
            refuse(format!("should be greater than {minimum}"));
        } else if number < minimum {
            refuse(format!("should be greater than or equal to {minimum}"));
        }
    }
    if let Some(maximum) = bounds.maximum {
        if bounds.exclusive_maximum && number >= maximum {
            refuse(format!("should be less than {maximum}"));
        } else if number > maximum {
            refuse(format!("should be less than or equal to {maximum}"));
        }
    }
    if let Some(step) = bounds.multiple_of
        && step != 0.0
        && (number / step).fract() != 0.0
    {
        refuse(format!("should be a multiple of {step}"));
    }
}

fn check_text(
    schema: &Schema,
    value: &Value,
    text: &str,
    path: &str,
    errors: &mut Vec<FieldError>,
) {
    let length = text.chars().count() as u64;
    if let Some(least) = schema.bounds.min_length.filter(|&least| length < least) {
        let why = format!("{path} in body should be at least {least} chars long");
        errors.push(FieldError::invalid(path, value, why));
    }
    if let Some(most) = schema.bounds.max_length.filter(|&most| length > most) {
        let message = format!("Too long: may not be more than {most} bytes");
        errors.push(FieldError { reason: "FieldValueTooLong", field: path.to_owned(), message });
    }
    if let Some(pattern) = schema.pattern.as_ref().filter(|pattern| !pattern.is_match(text)) {
        let why = format!("{path} in body should match '{pattern}'");
        errors.push(FieldError::invalid(path, value, why));
    }
}

fn check_list(schema: &Schema, items: &[Value], path: &str, errors: &mut Vec<FieldError>) {
    let count = items.len() as u64;
    if let Some(least) = schema.bounds.min_items.filter(|&least| count < least) {
        let why = format!("{path} in body should have at least {least} items");
        errors.push(FieldError::invalid(path, &Value::from(count), why));
    }
    if let Some(most) = schema.bounds.max_items.filter(|&most| count > most) {
        let message = format!("Too many: {count}: must have at most {most} items");
        errors.push(FieldError { reason: "FieldValueTooMany", field: path.to_owned(), message });
    }
    if let Some(inner) = schema.items.as_deref() {
        let doubtful = items.iter().enumerate().filter(|(_, item)| !is_plainly_right(inner, item));
        for (index, item) in doubtful {
            check(inner, item, &format!("{path}[{index}]"), errors);
        }
    }
    check_duplicates(&schema.list, items, path, errors);
}

/// Two items of a set, or of a map list with the same keys, are one too many.
fn check_duplicates(list: &ListKind, items: &[Value], path: &str, errors: &mut Vec<FieldError>) {
    if matches!(list, ListKind::Atomic) {
        return;
    }
    let mut seen = BTreeSet::new();
    for (index, item) in items.iter().enumerate() {
        let key = list.element(item, index);
        if !seen.insert(key.clone()) {
            let shown = key.split_once(':').map_or(key.as_str(), |(_, key)| key).to_owned();
            errors.push(FieldError {
                reason: "FieldValueDuplicate",
                field: format!("{path}[{index}]"),
                message: format!("Duplicate value: {shown}"),
            });
        }
    }
}

fn check_map(
    schema: &Schema,
    map: &serde_json::Map<String, Value>,
    path: &str,
    errors: &mut Vec<FieldError>,
) {
    let at = |field: &str| match path.is_empty() {
        true => field.to_owned(),
        false => format!("{path}.{field}"),
    };
    for name in schema.required.iter().filter(|name| !map.contains_key(*name)) {
        errors.push(FieldError::required(at(name), ""));
    }
    let count = map.len() as u64;
    if let Some(least) = schema.bounds.min_properties.filter(|&least| count < least) {
        let why = format!("{path} in body should have at least {least} properties");
        errors.push(FieldError::invalid(path, &Value::from(count), why));
    }
    if let Some(most) = schema.bounds.max_properties.filter(|&most| count > most) {
        let message = format!("Too many: {count}: must have at most {most} items");
        errors.push(FieldError { reason: "FieldValueTooMany", field: path.to_owned(), message });
    }
    for (name, value) in map {
        // The root's metadata was checked as metadata.
        if path.is_empty() && matches!(name.as_str(), "apiVersion" | "kind" | "metadata") {
            continue;
        }
        if let Some(inner) = schema.field(name).filter(|inner| !is_plainly_right(inner, value)) {
            check(inner, value, &at(name), errors);
        }
    }
}

fn check_combinations(schema: &Schema, value: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let passes = |schema: &Schema| {
        let mut found = Vec::new();
        check(schema, value, path, &mut found);
        found.is_empty()
    };
    for inner in &schema.all_of {
        check(inner, value, path, errors);
    }
    let mut refuse = |why: &str| {
        let why = format!("{path} in body {why}");
        errors.push(FieldError::invalid(path, &Value::from(type_name(value)), why));
    };
    if !schema.any_of.is_empty() && !schema.any_of.iter().any(passes) {
        refuse("must validate at least one schema (anyOf)");
    }
    if !schema.one_of.is_empty() && schema.one_of.iter().filter(|s| passes(s)).count() != 1 {
        refuse("must validate one and only one schema (oneOf)");
    }
    if schema.not.as_deref().is_some_and(passes) {
        refuse("must not validate the schema (not)");
    }
}
