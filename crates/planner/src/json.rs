//! JSON as users write it into text fields: checked, and laid out anew without touching a token.
//!
//! Numbers and strings stay letter by letter as they were written, which a parse and a print would not keep.

use serde_json::Value;

const RDMA: &str = r#"{"type": "rdma"}"#;

/// Parses a text field that must hold one JSON object, or says what is wrong with it and what to write.
pub(crate) fn object(field: &str, text: &str, example: &str) -> Result<Value, String> {
    match parse(text, 0) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(_) => Err(format!("{field} is not a JSON object; write for example {example}")),
        Err(message) => Err(not_json(field, &message, text, example)),
    }
}

/// Parses a text field that holds JSON objects with commas between them, as upstream's `metaPlugins` does.
pub(crate) fn objects(field: &str, text: &str) -> Result<Vec<Value>, String> {
    let trimmed = text.trim();
    if trimmed.ends_with(',') {
        return Err(format!("{field} ends with a comma; take it away"));
    }
    // One column is the bracket that the user did not write.
    let values = match parse(&format!("[{text}]"), 1) {
        Ok(Value::Array(values)) => values,
        Ok(_) => return Err(format!("{field} is not a list of JSON objects")),
        Err(message) => return Err(not_json(field, &message, text, RDMA)),
    };
    for value in &values {
        if value.is_array() {
            return Err(format!(
                "{field} is a JSON array; write its elements without the brackets, with commas between them"
            ));
        }
        if value.get("type").and_then(Value::as_str).is_none_or(str::is_empty) {
            return Err(format!(
                "{field} has an element without a \"type\"; write for example {RDMA}"
            ));
        }
    }
    Ok(values)
}

fn parse(text: &str, columns_of_ours: usize) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| {
        let full = error.to_string();
        let what = full.split(" at line ").next().unwrap_or(&full);
        let column = match error.line() {
            1 => error.column().saturating_sub(columns_of_ours),
            _ => error.column(),
        };
        format!("{what} at line {} column {column}", error.line())
    })
}

fn not_json(field: &str, message: &str, text: &str, example: &str) -> String {
    // Apostrophes inside strings are harmless; as quotes they are the most common mistake in YAML.
    let apostrophes = text.contains("{'") || text.contains("{ '");
    let way_out = match apostrophes {
        true => "write \" for quotes, not ', for example",
        false => "write for example",
    };
    format!("{field} is not JSON: {message}; {way_out} {example}")
}

/// Lays valid JSON out with four spaces for each level; an empty object or array stays on its line. As Go's `json.Indent`.
pub(crate) fn indent(json: &str) -> String {
    let mut out = String::with_capacity(json.len() * 2);
    let mut depth = 0usize;
    let mut in_string = false;
    let mut escaped = false;
    let mut opened = false;
    let newline = |out: &mut String, depth: usize| {
        out.push('\n');
        (0..depth).for_each(|_| out.push_str("    "));
    };
    for char in json.chars() {
        if in_string {
            out.push(char);
            in_string = escaped || char != '"';
            escaped = char == '\\' && !escaped;
            continue;
        }
        if char.is_ascii_whitespace() {
            continue;
        }
        let closes = matches!(char, '}' | ']');
        if std::mem::take(&mut opened) && !closes {
            depth += 1;
            newline(&mut out, depth);
        } else if closes && !out.ends_with(['{', '[']) {
            depth = depth.saturating_sub(1);
            newline(&mut out, depth);
        }
        out.push(char);
        match char {
            '{' | '[' => opened = true,
            ',' => newline(&mut out, depth),
            ':' => out.push(' '),
            '"' => in_string = true,
            _ => {}
        }
    }
    out
}
