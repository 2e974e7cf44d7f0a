//! Shell: carries a `Request` of ours to the API server and brings the `Response` back.
//!
//! It chooses nothing: what was asked is in the request, what it means is for the steps to say.

use anyhow::Context;
use api::wire::{Answer, Request, Response};
use kube::client::Body;

/// The request as `kube::Client` takes it.
pub fn of(request: &Request) -> Result<http::Request<Vec<u8>>, http::Error> {
    let (verb, content_type) = request.method.http();
    http::Request::builder()
        .method(verb)
        .uri(request.uri())
        .header(http::header::CONTENT_TYPE, content_type)
        .header(http::header::ACCEPT, request.accepts())
        .body(request.bytes())
}

/// A client that asks once.
///
/// kube's own repeats a 429 for as long as it takes, and the 429 of an eviction is the sentence that people wait for;
/// when to ask again is for the steps to say.
pub fn client(mut cluster: kube::Config) -> anyhow::Result<kube::Client> {
    cluster.default_retry = false;
    kube::Client::try_from(cluster).context("cannot make a client of the cluster's configuration")
}

/// Sends a request and reads the whole answer; no answer is an answer too.
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
    Ok(Response::read(status, &bytes))
}
