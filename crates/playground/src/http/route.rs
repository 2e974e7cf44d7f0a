//! One HTTP request: who asks, what the document says, and where the answer comes from.

use super::{Shell, exec, protobuf, status, watch};
use crate::store::{User, content_type};
use api::wire::{Method, PatchType, Request};
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, StatusCode, header};
use serde_json::Value;
use std::collections::BTreeMap;

/// As the real server's default.
const LARGEST_BODY: usize = 3 << 20;

/// Answers any path.
pub async fn route(State(shell): State<Shell>, request: axum::extract::Request) -> Response {
    let (mut parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    if matches!(path.as_str(), "/healthz" | "/livez" | "/readyz") {
        return text(StatusCode::OK, "ok");
    }
    let Some(who) = user(&shell, &parts.headers) else {
        return json(401, &status(401, "Unauthorized", "Unauthorized"));
    };
    let query = query(parts.uri.query().unwrap_or_default());
    if let Some(pod) = exec::Target::of(&path) {
        return exec::answer(shell, who, pod, query, &mut parts).await;
    }
    let bytes = match axum::body::to_bytes(body, LARGEST_BODY).await {
        Ok(bytes) => bytes,
        Err(_) => {
            return json(413, &status(413, "RequestEntityTooLarge", "limit is 3145728 bytes"));
        }
    };
    match translate(&parts.method, path, single(&query), &parts.headers, &bytes) {
        Err((code, reason, message)) => json(code, &status(code, reason, &message)),
        Ok(request) if is_watch(&request) => watch::stream(shell, who, request),
        Ok(request) => {
            let (answer, warnings) = shell.shared.answer(&who, &request);
            let mut response = json(answer.status, &answer.body);
            for warning in warnings {
                let quoted = warning.replace('\\', "\\\\").replace('"', "\\\"");
                if let Ok(value) = format!("299 - \"{quoted}\"").parse() {
                    response.headers_mut().append(header::WARNING, value);
                }
            }
            response
        }
    }
}

fn is_watch(request: &Request) -> bool {
    request.method == Method::Get
        && matches!(request.query.get("watch").map(String::as_str), Some("true" | "1"))
}

/// The user of the bearer token; a request without one is nobody's.
fn user(shell: &Shell, headers: &HeaderMap) -> Option<User> {
    let token = header_text(headers, header::AUTHORIZATION).strip_prefix("Bearer ")?;
    shell.shared.store().user_of_token(token).cloned()
}

pub fn header_text(headers: &HeaderMap, name: header::HeaderName) -> &str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

type Refused = (u16, &'static str, String);

/// HTTP into the plain request that the store knows.
fn translate(
    method: &http::Method,
    path: String,
    query: BTreeMap<String, String>,
    headers: &HeaderMap,
    bytes: &Bytes,
) -> Result<Request, Refused> {
    let content_type = header_text(headers, header::CONTENT_TYPE);
    let content_type = content_type.split(';').next().unwrap_or_default().trim();
    let mut query = query;
    // The manager of a client that names none is the first word of its user agent, as with the real server.
    let agent = header_text(headers, header::USER_AGENT).split('/').next().unwrap_or_default();
    if !agent.is_empty() && content_type != PatchType::Apply.content_type() {
        query.entry("fieldManager".to_owned()).or_insert_with(|| agent.to_owned());
    }
    let method = match method.as_str() {
        "GET" | "HEAD" => Method::Get,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        "PATCH" => Method::Patch(patch_type(content_type)?),
        other => return Err((405, "MethodNotAllowed", format!("method {other} is not supported"))),
    };
    let body = match bytes.is_empty() {
        true => Value::Null,
        false => parse(content_type, bytes)?,
    };
    let accept = header_text(headers, header::ACCEPT).to_owned();
    Ok(Request { method, path, query, accept, body })
}

fn patch_type(content_type: &str) -> Result<PatchType, Refused> {
    let all = [PatchType::Json, PatchType::Merge, PatchType::Strategic, PatchType::Apply];
    all.into_iter().find(|kind| kind.content_type() == content_type).ok_or_else(|| {
        let known = all.map(PatchType::content_type).join(", ");
        let message = format!("the body of the request was in an unknown format - accepted media types include: {known}");
        (415, "UnsupportedMediaType", message)
    })
}

fn parse(content_type: &str, bytes: &Bytes) -> Result<Value, Refused> {
    let invalid = |error: &dyn std::fmt::Display| {
        (400, "BadRequest", format!("the object provided is unrecognized: {error}"))
    };
    if content_type.contains("protobuf") {
        return protobuf::document(bytes).map_err(|why| (415, "UnsupportedMediaType", why));
    }
    // Server-side apply sends JSON under the name of YAML.
    let json = serde_json::from_slice(bytes);
    if json.is_err() && content_type.contains("yaml") {
        let text = std::str::from_utf8(bytes).map_err(|e| invalid(&e))?;
        return serde_saphyr::from_str(text).map_err(|e| invalid(&e));
    }
    json.map_err(|e: serde_json::Error| invalid(&e))
}

/// Query parameters in order; `command` of exec comes several times.
pub fn query(text: &str) -> Vec<(String, String)> {
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(key), decode(value))
        })
        .collect()
}

fn single(query: &[(String, String)]) -> BTreeMap<String, String> {
    query.iter().cloned().collect()
}

/// `application/x-www-form-urlencoded`.
fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [rest.next(), rest.next()]
                    .map(|d| d.map(char::from).and_then(|c| c.to_digit(16)));
                match digits {
                    [Some(high), Some(low)] => u8::try_from(high * 16 + low).unwrap_or(b'?'),
                    _ => b'?',
                }
            }
            other => other,
        });
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

pub fn json(code: u16, body: &Value) -> Response {
    let code = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let text = match body {
        Value::String(text) => text.clone(),
        body => body.to_string(),
    };
    typed(code, content_type(body), text)
}

pub fn text(code: StatusCode, body: &str) -> Response {
    typed(code, "text/plain", body.to_owned())
}

fn typed(code: StatusCode, content_type: &str, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = code;
    if let Ok(value) = content_type.parse() {
        response.headers_mut().insert(header::CONTENT_TYPE, value);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_decoded_and_keeps_repeated_words() {
        let query = query("command=sh&command=-c&command=cat+%2Fsys%2F%2A&stdout=true&bad=%zz");
        let words: Vec<&str> = query.iter().map(|(_, value)| value.as_str()).collect();
        assert_eq!(words, ["sh", "-c", "cat /sys/*", "true", "?"]);
    }
}
