//! The part of JSONPath that printer columns use: fields, quoted fields, indexes, `[*]` and one filter form.

use serde_json::Value;

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Field(String),
    Index(i64),
    All,
    /// `[?(@.type=="Ready")]`
    Where(Vec<String>, String),
}

/// Every value that the path finds; none when the path cannot be read.
pub fn find<'a>(object: &'a Value, path: &str) -> Vec<&'a Value> {
    let Some(steps) = parse(path) else { return Vec::new() };
    steps.iter().fold(vec![object], |found, step| {
        found.into_iter().flat_map(|value| follow(value, step)).collect()
    })
}

fn follow<'a>(value: &'a Value, step: &Step) -> Vec<&'a Value> {
    let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
    match step {
        Step::Field(name) => value.get(name).into_iter().collect(),
        Step::Index(index) => {
            let count = i64::try_from(items.len()).unwrap_or(i64::MAX);
            let at = if *index < 0 { count + index } else { *index };
            usize::try_from(at).ok().and_then(|at| items.get(at)).into_iter().collect()
        }
        Step::All => match value {
            Value::Object(map) => map.values().collect(),
            _ => items.iter().collect(),
        },
        Step::Where(path, wanted) => {
            let fits = |item: &&Value| {
                let found = path.iter().try_fold(*item, |item, field| item.get(field));
                found.map(plain).as_ref() == Some(wanted)
            };
            items.iter().filter(fits).collect()
        }
    }
}

/// Text as it is, anything else as JSON.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn parse(path: &str) -> Option<Vec<Step>> {
    let mut rest = path.trim_start_matches('{').trim_end_matches('}').trim_start_matches('$');
    let mut steps = Vec::new();
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('[') {
            let end = closing(after)?;
            steps.push(bracket(&after[..end])?);
            rest = &after[end + 1..];
        } else {
            let (field, after) = field(rest.strip_prefix('.').unwrap_or(rest));
            if !field.is_empty() {
                steps.push(if field == "*" { Step::All } else { Step::Field(field) });
            } else if !after.starts_with('[') && !after.is_empty() {
                return None;
            }
            rest = after;
        }
    }
    Some(steps)
}

/// A field name up to the next `.` or `[`; a backslash takes the next letter as it is.
fn field(text: &str) -> (String, &str) {
    let mut name = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\\' => name.extend(letters.next().map(|(_, letter)| letter)),
            '.' | '[' => return (name, &text[at..]),
            _ => name.push(letter),
        }
    }
    (name, "")
}

/// Where the bracket closes; quoted text does not count.
fn closing(text: &str) -> Option<usize> {
    let mut quote = None;
    for (at, letter) in text.char_indices() {
        match (quote, letter) {
            (None, ']') => return Some(at),
            (None, '"' | '\'') => quote = Some(letter),
            (Some(open), letter) if letter == open => quote = None,
            _ => {}
        }
    }
    None
}

fn bracket(inner: &str) -> Option<Step> {
    let unquoted = |text: &str| text.trim().trim_matches(['"', '\'']).to_owned();
    if inner == "*" {
        return Some(Step::All);
    }
    if let Some(filter) = inner.strip_prefix("?(") {
        let (path, wanted) = filter.strip_suffix(')')?.split_once("==")?;
        let path = path.trim().strip_prefix("@.")?;
        return Some(Step::Where(path.split('.').map(str::to_owned).collect(), unquoted(wanted)));
    }
    if inner.starts_with(['"', '\'']) {
        return Some(Step::Field(unquoted(inner).replace("\\.", ".")));
    }
    inner.parse().ok().map(Step::Index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use serde_json::json;

    #[test]
    fn columns_find_fields_conditions_and_names_with_dots() {
        let object = json!({
            "metadata": { "annotations": { "a.b/c": "dotted" } },
            "list": [{ "name": "x", "on": true }, { "name": "y" }],
            "status": { "conditions": [{ "type": "Ready", "status": "False" }] },
        });
        let paths = [
            ".metadata.annotations.a\\.b/c",
            ".metadata.annotations['a.b/c']",
            ".status.conditions[?(@.type==\"Ready\")].status",
            ".status.conditions[?(@.type=='Other')].status",
            ".list[*].name",
            ".list[-1].name",
            ".list[?(@.on==true)].name",
            ".list[",
        ];
        let text: Vec<_> =
            paths.map(|path| format!("{path}: {}", json!(find(&object, path)))).into();
        expect![[r#"
            .metadata.annotations.a\.b/c: ["dotted"]
            .metadata.annotations['a.b/c']: ["dotted"]
            .status.conditions[?(@.type=="Ready")].status: ["False"]
            .status.conditions[?(@.type=='Other')].status: []
            .list[*].name: ["x","y"]
            .list[-1].name: ["y"]
            .list[?(@.on==true)].name: ["x"]
            .list[: []"#]]
        .assert_eq(&text.join("\n"));
    }
}
