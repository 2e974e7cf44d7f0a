//! Shell: carries a `Request` of ours to the API server and brings the `Response` back.

use anyhow::Context;
use api::wire::{Answer, Request, Response};
use kube::client::Body;

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
    let (verb, content_type) = request.method.http();
    let sent = http::Request::builder()
        .method(verb)
        .uri(request.uri())
        .header(http::header::CONTENT_TYPE, content_type)
        .header(http::header::ACCEPT, request.accepts())
        .body(Body::from(request.bytes()))
        .context("this is no HTTP request")?;
    let response = client.send(sent).await.context("no answer")?;
    let status = response.status().as_u16();
    let bytes = response.into_body().collect_bytes().await.context("the answer broke off")?;
    Ok(Response::read(status, &bytes))
}
