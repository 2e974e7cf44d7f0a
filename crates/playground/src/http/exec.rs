//! `logs`, `exec` and `attach`: the way into containers. Exec speaks WebSocket (v5 and v4 of channel.k8s.io).

use super::route::{header_text, json, text};
use super::{PodShell, Shell, status};
use crate::store::User;
use api::Timestamp;
use api::wire::{Method, Request};
use axum::body::{Body, Bytes};
use axum::extract::FromRequestParts;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::response::Response;
use futures::stream;
use http::request::Parts;
use http::{StatusCode, header};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

/// How long a client may take to close its end.
const GOODBYE: Duration = Duration::from_secs(5);

/// A command for a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exec {
    pub namespace: String,
    pub pod: String,
    pub container: String,
    pub command: Vec<String>,
}

/// What a command left behind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ended {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub status: i32,
}

/// A subresource of a pod that streams.
#[derive(Debug, PartialEq, Eq)]
pub struct Target {
    namespace: String,
    pod: String,
    verb: String,
}

impl Target {
    pub fn of(path: &str) -> Option<Self> {
        let parts: Vec<&str> = path.strip_prefix("/api/v1/namespaces/")?.split('/').collect();
        match parts.as_slice() {
            [namespace, "pods", pod, verb @ ("log" | "exec" | "attach" | "portforward")] => {
                Some(Self {
                    namespace: (*namespace).to_owned(),
                    pod: (*pod).to_owned(),
                    verb: (*verb).to_owned(),
                })
            }
            _ => None,
        }
    }
}

pub async fn answer(
    shell: Shell,
    who: User,
    target: Target,
    query: Vec<(String, String)>,
    parts: &mut Parts,
) -> Response {
    let Target { namespace, pod, verb } = &target;
    let one =
        |name: &str| query.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    let mut request = Request::new(Method::Get, parts.uri.path());
    request.query = query.iter().cloned().collect();
    // The store knows whether there is such a container, and whether the user may reach it.
    let found = shell.shared.store().container(Timestamp::now(), &who, &request);
    let container = match found {
        Ok(found) => found.container,
        Err(refused) => return json(refused.status, &refused.body),
    };
    match verb.as_str() {
        "log" => log(shell, &target, container, &one),
        "exec" => {
            let command =
                query.iter().filter(|(key, _)| key == "command").map(|(_, word)| word.clone());
            let exec = Exec {
                namespace: namespace.clone(),
                pod: pod.clone(),
                container,
                command: command.collect(),
            };
            upgrade(shell, exec, parts).await
        }
        other => {
            let message = format!("the playground does not do {other}; logs and exec it does");
            json(501, &status(501, "NotImplemented", &message))
        }
    }
}

fn log(
    shell: Shell,
    target: &Target,
    container: String,
    one: &dyn Fn(&str) -> Option<String>,
) -> Response {
    let (namespace, pod) = (target.namespace.clone(), target.pod.clone());
    let (end, bytes) = match shell.pods.log(&namespace, &pod, &container, 0) {
        Ok(found) => found,
        Err(why) => return json(400, &status(400, "BadRequest", &why)),
    };
    let whole = String::from_utf8_lossy(&bytes).into_owned();
    let tail = one("tailLines").and_then(|n| n.parse::<usize>().ok());
    let lines: Vec<&str> = whole.split_inclusive('\n').collect();
    let first: String = lines[tail.map_or(0, |n| lines.len().saturating_sub(n))..].concat();
    if one("follow").as_deref() != Some("true") {
        return text(StatusCode::OK, &first);
    }
    let pods = Arc::clone(&shell.pods);
    let stream = stream::unfold((end, Some(first)), move |(end, first)| {
        let (pods, namespace, pod, container) =
            (Arc::clone(&pods), namespace.clone(), pod.clone(), container.clone());
        async move {
            if let Some(first) = first.filter(|text| !text.is_empty()) {
                return Some((Ok::<_, Infallible>(Bytes::from(first)), (end, None)));
            }
            loop {
                tokio::time::sleep(Duration::from_millis(100)).await;
                let (next, bytes) = pods.log(&namespace, &pod, &container, end).ok()?;
                if !bytes.is_empty() {
                    return Some((Ok(Bytes::from(bytes)), (next, None)));
                }
            }
        }
    });
    Response::new(Body::from_stream(stream))
}

async fn upgrade(shell: Shell, exec: Exec, parts: &mut Parts) -> Response {
    if header_text(&parts.headers, header::UPGRADE).to_lowercase().starts_with("spdy") {
        let message =
            "exec over SPDY is not served here; use kubectl 1.30 or later, which speaks WebSocket";
        return json(400, &status(400, "BadRequest", message));
    }
    match WebSocketUpgrade::from_request_parts(parts, &()).await {
        Ok(upgrade) => {
            let upgrade = upgrade.protocols(["v5.channel.k8s.io", "v4.channel.k8s.io"]);
            upgrade.on_upgrade(move |socket| run(shell.pods, exec, socket))
        }
        Err(_) => {
            let message = "exec wants a WebSocket: Upgrade request required";
            json(400, &status(400, "BadRequest", message))
        }
    }
}

/// Channels of channel.k8s.io: 1 standard output, 2 standard error, 3 the closing status.
async fn run(pods: Arc<dyn PodShell>, exec: Exec, mut socket: WebSocket) {
    let command = exec.clone();
    let ended = tokio::task::spawn_blocking(move || pods.exec(&command)).await;
    let (ended, closing) = match ended {
        Ok(Ok(ended)) => {
            let closing = closing(ended.status);
            (ended, closing)
        }
        Ok(Err(why)) => (Ended::default(), failed(&why)),
        Err(_) => (Ended::default(), failed("the program of the playground panicked")),
    };
    for (channel, bytes) in
        [(1, ended.stdout), (2, ended.stderr), (3, closing.to_string().into_bytes())]
    {
        for chunk in bytes.chunks(32 << 10) {
            let mut message = vec![channel];
            message.extend_from_slice(chunk);
            if socket.send(Message::Binary(message.into())).await.is_err() {
                return;
            }
        }
    }
    // Without a code kubectl takes the end of the connection for a failure.
    let normal = CloseFrame { code: close_code::NORMAL, reason: "".into() };
    let _ = socket.send(Message::Close(Some(normal))).await;
    // What the client has still sent (`-i` closes its standard input) must be read: a connection that is closed over
    // unread bytes is reset, and the reset overtakes the answer.
    let _ = tokio::time::timeout(GOODBYE, async { while let Some(Ok(_)) = socket.recv().await {} })
        .await;
}

fn closing(exit: i32) -> Value {
    if exit == 0 {
        return json!({ "metadata": {}, "status": "Success" });
    }
    json!({
        "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
        "message": format!("command terminated with non-zero exit code: exit status {exit}"),
        "details": { "causes": [{ "reason": "ExitCode", "message": exit.to_string() }] },
    })
}

fn failed(why: &str) -> Value {
    json!({
        "metadata": {}, "status": "Failure", "reason": "InternalError", "code": 500,
        "message": format!("Internal error occurred: {why}"),
    })
}
