//! The shell that carries a `Request` of ours to the API server and brings the `Response` back.
//!
//! It chooses nothing: what was asked is in the request, what it means is for the steps to say.

use anyhow::Context;
use api::wire::{Answer, Method, Request, Response};
use kube::client::Body;
use serde_json::Value;
use std::fmt::Write as _;

/// The request as `kube::Client` takes it.
pub fn of(request: &Request) -> Result<http::Request<Vec<u8>>, http::Error> {
    let (method, content_type) = match request.method {
        Method::Get => ("GET", "application/json"),
        Method::Post => ("POST", "application/json"),
        Method::Put => ("PUT", "application/json"),
        Method::Delete => ("DELETE", "application/json"),
        Method::Patch(kind) => ("PATCH", kind.content_type()),
    };
    let query: Vec<String> =
        request.query.iter().map(|(key, value)| format!("{key}={}", encode(value))).collect();
    let separator = if query.is_empty() { "" } else { "?" };
    let accept = match request.accept.as_str() {
        "" => "application/json",
        given => given,
    };
    let body = match &request.body {
        Value::Null => Vec::new(),
        body => body.to_string().into_bytes(),
    };
    http::Request::builder()
        .method(method)
        .uri(format!("{}{separator}{}", request.path, query.join("&")))
        .header(http::header::CONTENT_TYPE, content_type)
        .header(http::header::ACCEPT, accept)
        .body(body)
}

/// Percent-encodes what is not plain in a query value.
fn encode(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            other => {
                // Writing to a String cannot fail.
                let _ = write!(encoded, "%{other:02X}");
            }
        }
        encoded
    })
}

/// A client that asks once.
///
/// kube's own repeats a 429 for as long as it takes, and the 429 of an eviction is the sentence that people wait for;
/// when to ask again is for the steps to say.
pub fn client(mut cluster: kube::Config) -> anyhow::Result<kube::Client> {
    cluster.default_retry = false;
    kube::Client::try_from(cluster).context("cannot make a client of the cluster's configuration")
}

/// Sends a request and reads the whole answer.
pub async fn send(client: &kube::Client, request: &Request) -> Answer {
    match exchange(client, request).await {
        Ok(response) => Answer::of(response),
        Err(error) => Answer::Unreachable(format!("{:#}", anyhow::Error::from(error))),
    }
}

async fn exchange(client: &kube::Client, request: &Request) -> Result<Response, kube::Error> {
    let request = of(request).map_err(kube::Error::HttpError)?;
    let response = client.send(request.map(Body::from)).await?;
    let status = response.status().as_u16();
    let bytes = response.into_body().collect_bytes().await?;
    // A proxy in between answers with text; it is the message then.
    let body = serde_json::from_slice(&bytes).unwrap_or_else(
        |_| serde_json::json!({ "message": String::from_utf8_lossy(&bytes).trim_end() }),
    );
    Ok(Response { status, body })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_encoded() {
        let request = Request::new(Method::Get, "/api/v1/pods")
            .with_query("continue", "a+b/c=")
            .with_query("limit", "500");
        let sent = of(&request).unwrap();
        assert_eq!(sent.uri(), "/api/v1/pods?continue=a%2Bb%2Fc%3D&limit=500");
    }
}
