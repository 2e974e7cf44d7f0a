//! Protobuf bodies of the few kinds that kubectl sends in that form: `create namespace`, `drain`, `auth can-i` and the like.
//!
//! A body is the four bytes `k8s\0` and a `runtime.Unknown` around the message. What the table below does not know is
//! refused; everything else of the API speaks JSON. Field numbers are those of the API's published `.proto` files.

use serde_json::{Map, Value, json};

/// How the value of a field is written.
#[derive(Clone, Copy)]
enum Form {
    Text,
    Texts,
    Number,
    Flag,
    /// Keys and values are text.
    Labels,
    /// Values are bytes, which JSON has in base64.
    Blobs,
    Message(&'static [Field]),
    Messages(&'static [Field]),
}

type Field = (u64, &'static str, Form);

use Form::{Blobs, Flag, Labels, Message, Messages, Number, Text, Texts};

const OWNER: &[Field] = &[
    (1, "kind", Text),
    (3, "name", Text),
    (4, "uid", Text),
    (5, "apiVersion", Text),
    (6, "controller", Flag),
    (7, "blockOwnerDeletion", Flag),
];
/// Without what only the server writes.
const METADATA: &[Field] = &[
    (1, "name", Text),
    (2, "generateName", Text),
    (3, "namespace", Text),
    (5, "uid", Text),
    (6, "resourceVersion", Text),
    (11, "labels", Labels),
    (12, "annotations", Labels),
    (13, "ownerReferences", Messages(OWNER)),
    (14, "finalizers", Texts),
];
const DELETE_OPTIONS: &[Field] = &[
    (1, "gracePeriodSeconds", Number),
    (2, "preconditions", Message(&[(1, "uid", Text), (2, "resourceVersion", Text)])),
    (4, "propagationPolicy", Text),
    (5, "dryRun", Texts),
];
const RESOURCE: &[Field] = &[
    (1, "namespace", Text),
    (2, "verb", Text),
    (3, "group", Text),
    (4, "version", Text),
    (5, "resource", Text),
    (6, "subresource", Text),
    (7, "name", Text),
];
const ACCESS: &[Field] = &[
    (1, "resourceAttributes", Message(RESOURCE)),
    (2, "nonResourceAttributes", Message(&[(1, "path", Text), (2, "verb", Text)])),
];

/// The message of a kind.
fn fields(kind: &str) -> Option<&'static [Field]> {
    Some(match kind {
        "Namespace" => &[(1, "metadata", Message(METADATA))],
        "ConfigMap" => &[
            (1, "metadata", Message(METADATA)),
            (2, "data", Labels),
            (3, "binaryData", Blobs),
            (4, "immutable", Flag),
        ],
        "Secret" => &[
            (1, "metadata", Message(METADATA)),
            (2, "data", Blobs),
            (3, "type", Text),
            (4, "stringData", Labels),
            (5, "immutable", Flag),
        ],
        "ServiceAccount" => &[(1, "metadata", Message(METADATA))],
        "DeleteOptions" => DELETE_OPTIONS,
        "Eviction" => {
            &[(1, "metadata", Message(METADATA)), (2, "deleteOptions", Message(DELETE_OPTIONS))]
        }
        "SelfSubjectAccessReview" => &[(2, "spec", Message(ACCESS))],
        "SelfSubjectRulesReview" => &[(2, "spec", Message(&[(1, "namespace", Text)]))],
        "SelfSubjectReview" => &[(1, "metadata", Message(METADATA))],
        "TokenRequest" => {
            &[(2, "spec", Message(&[(1, "audiences", Texts), (4, "expirationSeconds", Number)]))]
        }
        _ => return None,
    })
}

/// The document that a protobuf body stands for; the error is a sentence for the user.
pub fn document(bytes: &[u8]) -> Result<Value, String> {
    const CUT: &str = "the protobuf body ends in the middle";
    let bytes =
        bytes.strip_prefix(b"k8s\0").ok_or("the protobuf body does not start with k8s\\0")?;
    let head: &[Field] = &[(1, "type", Message(&[(1, "apiVersion", Text), (2, "kind", Text)]))];
    let head = message(bytes, head).ok_or(CUT)?;
    let of = |field: &str| head["type"][field].as_str().unwrap_or_default().to_owned();
    let (api_version, kind) = (of("apiVersion"), of("kind"));
    let fields = fields(&kind).ok_or_else(|| {
        format!("the playground does not read {kind} in protobuf: write it to a file and use kubectl apply -f")
    })?;
    let raw =
        parts(bytes).ok_or(CUT)?.into_iter().find_map(|(number, part)| match (number, part) {
            (2, Part::Bytes(raw)) => Some(raw),
            _ => None,
        });
    let mut object = json!({ "apiVersion": api_version, "kind": kind });
    let inner = message(raw.unwrap_or_default(), fields).ok_or(CUT)?;
    if let (Value::Object(object), Value::Object(inner)) = (&mut object, inner) {
        object.extend(inner);
    }
    Ok(object)
}

/// One field as it is on the wire.
enum Part<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// Splits a message into its fields; `None` when it is cut off or not protobuf.
fn parts(mut bytes: &[u8]) -> Option<Vec<(u64, Part<'_>)>> {
    let mut parts = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        let part = match tag & 7 {
            0 => Part::Number(varint(&mut bytes)?),
            1 => Part::Bytes(take(&mut bytes, 8)?),
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).ok()?;
                Part::Bytes(take(&mut bytes, length)?)
            }
            5 => Part::Bytes(take(&mut bytes, 4)?),
            _ => return None,
        };
        parts.push((tag >> 3, part));
    }
    Some(parts)
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn message(bytes: &[u8], fields: &'static [Field]) -> Option<Value> {
    let mut map = Map::new();
    for (number, part) in parts(bytes)? {
        let Some((_, name, form)) = fields.iter().find(|(known, ..)| *known == number) else {
            continue;
        };
        read(&mut map, name, *form, part)?;
    }
    Some(Value::Object(map))
}

fn read(map: &mut Map<String, Value>, name: &str, form: Form, part: Part<'_>) -> Option<()> {
    let text = |bytes: &[u8]| Some(Value::from(std::str::from_utf8(bytes).ok()?));
    let mut push = |item: Value| {
        if let Value::Array(list) = map.entry(name).or_insert_with(|| json!([])) {
            list.push(item);
        }
    };
    let value = match (form, part) {
        (Text, Part::Bytes(bytes)) => match text(bytes)? {
            // Go writes every text, also the empty one, which in JSON is left out.
            Value::String(text) if text.is_empty() => return Some(()),
            text => text,
        },
        (Number, Part::Number(number)) => json!(number.cast_signed()),
        (Flag, Part::Number(number)) => json!(number != 0),
        (Message(fields), Part::Bytes(bytes)) => message(bytes, fields)?,
        (Texts, Part::Bytes(bytes)) => {
            push(text(bytes)?);
            return Some(());
        }
        (Messages(fields), Part::Bytes(bytes)) => {
            push(message(bytes, fields)?);
            return Some(());
        }
        (Labels | Blobs, Part::Bytes(bytes)) => {
            let (key, value) = entry(bytes)?;
            let value = match form {
                Blobs => Value::from(base64::Engine::encode(
                    &base64::engine::general_purpose::STANDARD,
                    value,
                )),
                _ => text(value)?,
            };
            if let Value::Object(entries) = map.entry(name).or_insert_with(|| json!({})) {
                entries.insert(key, value);
            }
            return Some(());
        }
        _ => return None,
    };
    map.insert(name.to_owned(), value);
    Some(())
}

/// One entry of a map.
fn entry(bytes: &[u8]) -> Option<(String, &[u8])> {
    let (mut key, mut value) = (String::new(), &[][..]);
    for (number, part) in parts(bytes)? {
        match (number, part) {
            (1, Part::Bytes(bytes)) => key = std::str::from_utf8(bytes).ok()?.to_owned(),
            (2, Part::Bytes(bytes)) => value = bytes,
            _ => {}
        }
    }
    Some((key, value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    /// A field of bytes.
    fn bytes(number: u8, inner: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, u8::try_from(inner.len()).unwrap()], inner].concat()
    }

    fn body(kind: &str, raw: &[u8]) -> Vec<u8> {
        let head = [bytes(1, b"v1"), bytes(2, kind.as_bytes())].concat();
        [b"k8s\0".to_vec(), bytes(1, &head), bytes(2, raw)].concat()
    }

    #[test]
    fn a_body_becomes_the_document_that_it_stands_for() {
        let label = [bytes(1, b"team"), bytes(2, b"net")].concat();
        let metadata =
            [bytes(1, b"a"), bytes(3, b""), bytes(11, &label), bytes(14, b"x/y")].concat();
        let data = [bytes(1, b"k"), bytes(2, b"v")].concat();
        let map = [bytes(1, &metadata), bytes(2, &data), vec![4 << 3, 1]].concat();
        let text = [
            document(&body("ConfigMap", &map)),
            document(&body("Secret", &map[..map.len() - 2])),
            document(&body("Deployment", &map)),
            document(&body("ConfigMap", &map[..map.len() - 3])),
            document(b"{}"),
        ]
        .map(|result| result.map_or_else(|error| error, |value| value.to_string()));
        expect![[r#"
            {"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","labels":{"team":"net"},"finalizers":["x/y"]},"data":{"k":"v"},"immutable":true}
            {"apiVersion":"v1","kind":"Secret","metadata":{"name":"a","labels":{"team":"net"},"finalizers":["x/y"]},"data":{"k":"dg=="}}
            the playground does not read Deployment in protobuf: write it to a file and use kubectl apply -f
            the protobuf body ends in the middle
            the protobuf body does not start with k8s\0"#]]
        .assert_eq(&text.join("\n"));
    }
}
