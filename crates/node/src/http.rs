//! Shell: carries `api::wire` requests to a Kubernetes API server by `kube::Client`.

use anyhow::Context;
use api::wire::{Answer, Method, Request, Response};
use kube::client::Body;
use serde_json::Value;

/// A client that asks once: kube's own repeats a refusal that the daemon must hear of.
pub fn client(mut cluster: kube::Config) -> anyhow::Result<kube::Client> {
    cluster.default_retry = false;
    kube::Client::try_from(cluster).context("cannot make a client of the cluster's configuration")
}

/// Sends one request and reads its answer; no answer is an answer too.
pub async fn send(client: &kube::Client, request: &Request) -> Answer {
    match exchange(client, request).await {
        Ok(response) => Answer::of(response),
        Err(error) => Answer::Unreachable(format!("{error:#}")),
    }
}

async fn exchange(client: &kube::Client, request: &Request) -> anyhow::Result<Response> {
    let response = client.send(translate(request)?).await.context("no answer")?;
    let status = response.status().as_u16();
    let bytes = response.into_body().collect_bytes().await.context("the answer broke off")?;
    // A proxy in between answers in its own words; the status code is what counts then.
    let body = serde_json::from_slice(&bytes).unwrap_or_else(
        |_| serde_json::json!({ "message": String::from_utf8_lossy(&bytes).trim() }),
    );
    Ok(Response { status, body })
}

fn translate(request: &Request) -> anyhow::Result<http::Request<Body>> {
    let (verb, content_type) = match request.method {
        Method::Get => ("GET", "application/json"),
        Method::Post => ("POST", "application/json"),
        Method::Put => ("PUT", "application/json"),
        Method::Delete => ("DELETE", "application/json"),
        Method::Patch(patch) => ("PATCH", patch.content_type()),
    };
    let query: Vec<String> =
        request.query.iter().map(|(key, value)| format!("{key}={}", encoded(value))).collect();
    let body = match &request.body {
        Value::Null => Vec::new(),
        document => document.to_string().into_bytes(),
    };
    http::Request::builder()
        .method(verb)
        .uri(format!("{}?{}", request.path, query.join("&")))
        .header(http::header::CONTENT_TYPE, content_type)
        .header(http::header::ACCEPT, "application/json")
        .body(Body::from(body))
        .context("this is no HTTP request")
}

/// Percent-encoding of what may not stand in a query value (RFC 3986: all but the unreserved characters).
fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}
