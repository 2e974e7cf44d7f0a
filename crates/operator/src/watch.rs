//! The shell that lists and watches one kind for ever: pages, bookmarks, and a new list when the watch is too old.

use crate::http;
use crate::kinds::Kind;
use crate::world::{Change, WatchEvent};
use api::wire::{Answer, Method, Request};
use futures::StreamExt;
use kube::core::WatchEvent as KubeEvent;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::Sender;

/// What a watch tells.
#[derive(Debug)]
pub enum News {
    Listed(Vec<Arc<Value>>),
    Absent,
    Event(WatchEvent),
}

/// Why a watch ended.
enum End {
    /// By itself, as watches do; it goes on from here.
    At(String),
    /// The version is too old, or the watch broke: list again.
    ListAgain,
}

const PAGE: &str = "500";
/// Pause after a failure; doubled up to half a minute.
const PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Lists and watches until the receiver is gone.
pub async fn forever(
    client: kube::Client,
    kind: &'static Kind,
    namespace: String,
    news: Sender<(&'static Kind, News)>,
) {
    let path = kind.path(&namespace);
    let mut pause = PAUSE;
    while !news.is_closed() {
        match list(&client, &path).await {
            Ok((objects, version)) => {
                pause = PAUSE;
                if news.send((kind, News::Listed(objects))).await.is_err() {
                    return;
                }
                follow(&client, kind, &path, version, &news).await;
            }
            Err(Answer::NotFound(_)) if kind.optional => {
                tracing::warn!(kind = kind.kind, "the cluster does not serve this kind");
                if news.send((kind, News::Absent)).await.is_err() {
                    return;
                }
                pause = LONGEST_PAUSE;
            }
            Err(answer) => {
                tracing::warn!("cannot list {path}: {answer}; trying again in {pause:?}");
            }
        }
        tokio::time::sleep(pause).await;
        pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
    }
}

/// One list, page by page, and its version.
async fn list(client: &kube::Client, path: &str) -> Result<(Vec<Arc<Value>>, String), Answer> {
    let mut objects = Vec::new();
    let mut next = String::new();
    loop {
        let mut request = Request::new(Method::Get, path).with_query("limit", PAGE);
        if !next.is_empty() {
            request = request.with_query("continue", next);
        }
        let mut page = match http::send(client, &request).await {
            Answer::Done(page) => page,
            answer => return Err(answer),
        };
        if let Some(Value::Array(items)) = page.get_mut("items").map(Value::take) {
            objects.extend(items.into_iter().map(Arc::new));
        }
        let part = |name| page["metadata"][name].as_str().unwrap_or_default().to_owned();
        next = part("continue");
        if next.is_empty() {
            return Ok((objects, part("resourceVersion")));
        }
    }
}

/// Watches from a version on, over as many connections as it takes.
async fn follow(
    client: &kube::Client,
    kind: &'static Kind,
    path: &str,
    mut version: String,
    news: &Sender<(&'static Kind, News)>,
) {
    loop {
        match watch(client, kind, path, version, news).await {
            End::At(at) => version = at,
            End::ListAgain => return,
        }
        // A server that ends each watch at once is not asked in a tight circle.
        tokio::time::sleep(PAUSE).await;
    }
}

async fn watch(
    client: &kube::Client,
    kind: &'static Kind,
    path: &str,
    mut version: String,
    news: &Sender<(&'static Kind, News)>,
) -> End {
    let request = Request::new(Method::Get, path)
        .with_query("watch", "true")
        .with_query("allowWatchBookmarks", "true")
        // Shorter than the client's own limit for reading, so that the end comes from the server.
        .with_query("timeoutSeconds", "285")
        .with_query("resourceVersion", version.as_str());
    let Ok(request) = http::of(&request) else { return End::ListAgain };
    let stream = match client.request_events::<Value>(request).await {
        Ok(stream) => stream,
        Err(error) => {
            tracing::debug!("cannot watch {path}: {error}");
            return End::ListAgain;
        }
    };
    let mut stream = std::pin::pin!(stream);
    while let Some(event) = stream.next().await {
        let (change, object) = match event {
            Ok(KubeEvent::Added(object)) => (Change::Added, object),
            Ok(KubeEvent::Modified(object)) => (Change::Modified, object),
            Ok(KubeEvent::Deleted(object)) => (Change::Deleted, object),
            Ok(KubeEvent::Bookmark(bookmark)) => {
                version = bookmark.metadata.resource_version;
                continue;
            }
            // 410 Gone comes as an event.
            Ok(KubeEvent::Error(_)) | Err(kube::Error::Api(_)) => return End::ListAgain,
            Err(error) => {
                tracing::debug!("the watch of {path} broke: {error}");
                return End::At(version);
            }
        };
        if let Some(at) = object.pointer("/metadata/resourceVersion").and_then(Value::as_str) {
            version = at.to_owned();
        }
        let event = WatchEvent { change, object: object.into() };
        if news.send((kind, News::Event(event))).await.is_err() {
            return End::ListAgain;
        }
    }
    End::At(version)
}
