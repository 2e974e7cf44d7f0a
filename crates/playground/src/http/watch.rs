//! A watch as a stream of lines: what the store's cursor tells, each time something of its topic has changed.

use super::Shell;
use super::route::json;
use crate::store::{User, Watch};
use api::Timestamp;
use api::wire::Request;
use axum::body::{Body, Bytes};
use axum::response::Response;
use futures::stream;
use http::header;
use std::convert::Infallible;
use std::time::Duration;
use tokio::sync::watch::Receiver;
use tokio::time::Instant;

/// How long a watch lives where the client does not say; clients come again, as with the real server.
const LIFE: Duration = Duration::from_secs(1800);
/// A client that asked for bookmarks gets one this often.
const BOOKMARK: Duration = Duration::from_secs(60);

struct Follower {
    shell: Shell,
    watch: Watch,
    changes: Receiver<u64>,
    until: Instant,
    /// None for a client that did not ask for bookmarks: a time that has passed would wake the loop for ever.
    bookmark_at: Option<Instant>,
}

pub fn stream(shell: Shell, who: User, request: Request) -> Response {
    let started = shell.shared.store().watch(Timestamp::now(), &who, &request);
    let watch = match started {
        Ok(watch) => watch,
        Err(refused) => return json(refused.status, &refused.body),
    };
    // A change between the start of the watch and here is seen by its first poll.
    let changes = shell.shared.changes_of(watch.topic());
    let seconds = request.query.get("timeoutSeconds").and_then(|text| text.parse().ok());
    let life = seconds.map_or(LIFE, Duration::from_secs);
    let now = Instant::now();
    let bookmark_at = watch.bookmarks.then(|| now + BOOKMARK);
    let follower = Follower { shell, watch, changes, until: now + life, bookmark_at };
    let lines = stream::unfold(follower, |mut follower| async move {
        let lines = follower.next().await?;
        Some((Ok::<_, Infallible>(Bytes::from(lines)), follower))
    });
    let mut response = Response::new(Body::from_stream(lines));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}

impl Follower {
    /// The next lines; None when the watch is over.
    async fn next(&mut self) -> Option<String> {
        loop {
            self.changes.mark_unchanged();
            let events = {
                let store = self.shell.shared.store();
                let events = store.poll(&mut self.watch);
                let now = Timestamp::now();
                let lines = events.iter().map(|event| store.line(&self.watch, event, now));
                lines.map(|line| line.to_string() + "\n").collect::<String>()
            };
            if !events.is_empty() {
                return Some(events);
            }
            let now = Instant::now();
            if self.watch.has_ended() || now >= self.until {
                return None;
            }
            if self.bookmark_at.is_some_and(|at| now >= at) {
                self.bookmark_at = Some(now + BOOKMARK);
                let store = self.shell.shared.store();
                let bookmark = store.bookmark(&self.watch);
                let line = store.line(&self.watch, &bookmark, Timestamp::now());
                return Some(line.to_string() + "\n");
            }
            let wake = self.bookmark_at.map_or(self.until, |at| at.min(self.until));
            tokio::select! {
                changed = self.changes.changed() => changed.ok()?,
                () = tokio::time::sleep_until(wake) => {}
            }
        }
    }
}
