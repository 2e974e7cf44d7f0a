//! /healthz, /readyz and /metrics over the plainest HTTP: a probe asks one line and gets one answer.
//!
//! Hand-written because three answers need no server framework in the operator. The metrics name nodes and pools, so
//! only a visitor from this very pod (a forwarded port, a proxy beside us) gets them.

use crate::drive::Gauge;
use anyhow::Context;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// A probe that is slower than this is dropped.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest request head that is read.
const HEAD: usize = 4096;

/// Serves until dropped.
pub async fn serve(address: SocketAddr, gauge: &Gauge) -> anyhow::Result<()> {
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address} for the health probes"))?;
    let mut visits = FuturesUnordered::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, from)) => {
                    let near = from.ip().to_canonical().is_loopback();
                    visits.push(timeout(PATIENCE, visit(stream, near, gauge)));
                }
                // For one, no file descriptor is free just now.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            },
            Some(_) = visits.next() => {}
        }
    }
}

async fn visit(mut stream: TcpStream, near: bool, gauge: &Gauge) -> std::io::Result<()> {
    let mut head = Vec::new();
    let mut part = [0; 512];
    while !head.windows(4).any(|four| four == b"\r\n\r\n") && head.len() < HEAD {
        match stream.read(&mut part).await? {
            0 => break,
            read => head.extend_from_slice(&part[..read]),
        }
    }
    let head = String::from_utf8_lossy(&head);
    let mut words = head.split_whitespace();
    let (method, path) = (words.next(), words.next());
    let (status, mut body) = answer(method, path, near, gauge);
    if body.starts_with(METRICS) {
        // What the operator knows of the world; without a driver, only what is counted here.
        body.push_str(&gauge.world().await.unwrap_or_default());
    }
    let response = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(response.as_bytes()).await?;
    stream.shutdown().await
}

/// How a page of metrics begins.
const METRICS: &str = "# HELP";

fn answer(
    method: Option<&str>,
    path: Option<&str>,
    near: bool,
    gauge: &Gauge,
) -> (&'static str, String) {
    let path = path.and_then(|path| path.split('?').next());
    match (method, path) {
        (Some("GET"), Some("/healthz")) => ("200 OK", "ok\n".to_owned()),
        // One that waits for the lease is ready: it takes over as soon as it is needed.
        (Some("GET"), Some("/readyz")) => match gauge.complete.load(Relaxed) {
            true => ("200 OK", "ok\n".to_owned()),
            false => ("503 Service Unavailable", "not everything is listed yet\n".to_owned()),
        },
        (Some("GET"), Some("/metrics")) if near => ("200 OK", metrics(gauge)),
        (Some("GET"), Some("/metrics")) => (
            "403 Forbidden",
            "metrics are for this pod only: use kubectl port-forward, or a proxy beside the operator\n"
                .to_owned(),
        ),
        _ => ("404 Not Found", "there are /healthz, /readyz and /metrics\n".to_owned()),
    }
}

/// The text format of Prometheus.
fn metrics(gauge: &Gauge) -> String {
    let number = |flag: bool| u64::from(flag);
    let rows = [
        ("leader", "gauge", "1 while this operator leads", number(gauge.leads.load(Relaxed))),
        ("steps_total", "counter", "steps of all controllers", gauge.steps.load(Relaxed)),
        ("writes_total", "counter", "writes that the API server took", gauge.writes.load(Relaxed)),
        ("writes_refused_total", "counter", "writes that it refused", gauge.refused.load(Relaxed)),
    ];
    let lines = rows.map(|(name, kind, help, value)| {
        let name = format!("ironrail_operator_{name}");
        format!("# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n")
    });
    lines.concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn a_probe_is_answered_by_its_path() {
        let gauge = Gauge::default();
        let ask = |path: &str, near: bool| {
            let (status, body) = answer(Some("GET"), Some(path), near, &gauge);
            format!("{path}: {status}: {}", body.lines().next().unwrap_or_default())
        };
        let said = [
            ask("/healthz", false),
            ask("/readyz", false),
            ask("/metrics", true),
            ask("/metrics", false),
            ask("/", true),
        ]
        .join("\n");
        expect![[r#"
            /healthz: 200 OK: ok
            /readyz: 503 Service Unavailable: not everything is listed yet
            /metrics: 200 OK: # HELP ironrail_operator_leader 1 while this operator leads
            /metrics: 403 Forbidden: metrics are for this pod only: use kubectl port-forward, or a proxy beside the operator
            /: 404 Not Found: there are /healthz, /readyz and /metrics"#]]
        .assert_eq(&said);
    }
}
