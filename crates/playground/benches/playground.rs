//! How much the playground carries: requests a second, in memory and over HTTPS; how a write spreads to many watches;
//! how long a policy takes to become resources; and the guide on 200 nodes, a tenth at a time, beside the same on 20.
//! Ratios of one run; nothing passes by a time.
//!
//! `cargo xtask bench playground -- requests` runs one part; the parts are requests, watches, offer and rollout.

#![allow(clippy::unwrap_used, reason = "a benchmark stops at the first surprise")]

use api::wire::{Method, ObjectKey, PatchType, Request};
use api::{Timestamp, names};
use futures::{StreamExt, future};
use playground::demo::{self, User};
use playground::live::{Options, Playground};
use playground::store::{self, Store};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

fn main() {
    let asked: Vec<String> =
        std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let wanted = |part: &str| asked.is_empty() || asked.iter().any(|word| word == part);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    if wanted("requests") {
        in_memory();
        runtime.block_on(over_https());
    }
    if wanted("watches") {
        runtime.block_on(watches());
    }
    if wanted("offer") {
        runtime.block_on(offers());
    }
    if wanted("rollout") {
        rollout(&runtime);
    }
}

fn map(number: usize) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": format!("map-{number}"), "namespace": "default" },
        "data": { "text": "x".repeat(200) },
    })
}

fn requests(count: usize) -> [(&'static str, Vec<Request>); 4] {
    let key = |number| ObjectKey::of(&map(number));
    let create =
        |number| Request::new(Method::Post, key(number).collection_path()).with_body(map(number));
    let get = |number| Request::new(Method::Get, key(number).path());
    let patch = |number| {
        let body = json!({ "data": { "text": format!("{number}") } });
        Request::new(Method::Patch(PatchType::Merge), key(number).path()).with_body(body)
    };
    let list = |_| Request::new(Method::Get, key(0).collection_path());
    [
        ("create", (0..count).map(create).collect()),
        ("get", (0..count).map(get).collect()),
        ("patch", (0..count).map(patch).collect()),
        ("list all", (0..count / 20).map(list).collect()),
    ]
}

fn told(what: &str, count: usize, took: Duration) -> f64 {
    let each = took.as_secs_f64() / count as f64;
    println!("  {what:<28} {:>10.0} a second {:>10.1} µs each", 1.0 / each, each * 1e6);
    each
}

fn in_memory() {
    println!("requests in memory, 1,000 objects");
    let now = Timestamp::now();
    let mut store = Store::new(1, now);
    for (what, requests) in requests(1000) {
        let start = Instant::now();
        for request in &requests {
            let response = store.handle(now, &store::User::admin(), request);
            assert!(response.status < 300, "{}", response.body);
        }
        told(what, requests.len(), start.elapsed());
    }
}

async fn empty() -> Playground {
    Playground::start(Options { nodes: 0, ..Options::default() }).await.unwrap()
}

async fn over_https() {
    println!("requests over HTTPS, 1,000 objects, one after the other and 16 at a time");
    let playground = empty().await;
    let user = playground.admin().unwrap();
    for (what, requests) in requests(1000) {
        let start = Instant::now();
        for request in &requests {
            assert!(user.send(request).await.is_done());
        }
        let one = told(what, requests.len(), start.elapsed());
        if what == "create" {
            continue;
        }
        let start = Instant::now();
        let all = futures::stream::iter(&requests).map(|request| user.send(request));
        let done = all.buffer_unordered(16).filter(|answer| future::ready(answer.is_done()));
        assert_eq!(done.count().await, requests.len());
        let many = told(&format!("{what}, 16 at a time"), requests.len(), start.elapsed());
        println!("  {:<28} {:>10.1} times as fast", "", one / many);
    }
}

/// From a write until the last of many watches has heard of it; then with as many watches of other objects.
async fn watches() {
    println!("one write, heard by so many watches");
    let mut alone = 0.0;
    for count in [1, 10, 100, 400] {
        let each = fan_out(count, 0).await;
        alone = if count == 1 { each } else { alone };
        println!(
            "  {count:>4} watches {:>10.2} ms, {:>6.1} times one watch",
            each * 1e3,
            each / alone
        );
    }
    let beside = fan_out(1, 400).await;
    println!(
        "     1 watch, 400 of one other object each {:>10.2} ms, {:>6.1} times one watch",
        beside * 1e3,
        beside / alone
    );
}

async fn fan_out(watching: usize, beside: usize) -> f64 {
    const WRITES: u32 = 20;
    let playground = empty().await;
    let user = playground.admin().unwrap();
    let created =
        Request::new(Method::Post, ObjectKey::of(&map(0)).collection_path()).with_body(map(0));
    assert!(user.send(&created).await.is_done());
    let others: Vec<_> = future::join_all((0..beside).map(|at| watch(&user, 1000 + at))).await;
    let mut heard: Vec<_> = future::join_all((0..watching).map(|_| watch(&user, 0))).await;
    future::join_all(heard.iter_mut().map(|stream| stream.next())).await;
    let start = Instant::now();
    for number in 0..WRITES {
        let body = json!({ "data": { "text": number.to_string() } });
        let path = ObjectKey::of(&map(0)).path();
        let request = Request::new(Method::Patch(PatchType::Merge), path).with_body(body);
        assert!(user.send(&request).await.is_done());
        future::join_all(heard.iter_mut().map(|stream| stream.next())).await;
    }
    let each = start.elapsed().as_secs_f64() / f64::from(WRITES);
    drop(others);
    each
}

type Events = futures::stream::BoxStream<'static, kube::Result<kube::core::WatchEvent<Value>>>;

async fn watch(user: &User, number: usize) -> Events {
    follow(user, &ObjectKey::of(&map(number))).await
}

async fn follow(user: &User, object: &ObjectKey) -> Events {
    let path = format!(
        "{}?watch=true&fieldSelector=metadata.name%3D{}",
        object.collection_path(),
        object.name
    );
    let request = http::Request::get(path).body(Vec::new()).unwrap();
    user.client.request_events::<Value>(request).await.unwrap().boxed()
}

/// From a policy on a card without VFs until the node counts its VFs, over a kernel that takes no time: what is ours.
/// Device plugin and kubelet look every 200 and 100 ms here; on a real node inotify and gRPC tell them at once.
async fn offers() {
    println!("a policy for two VFs on a node at rest; seconds since it was sent");
    let playground = Playground::start(Options { nodes: 1, ..Options::default() }).await.unwrap();
    let user = playground.admin().unwrap();
    let state = key("sriovnetwork.openshift.io/v1", "SriovNetworkNodeState", names::NAMESPACE);
    until(&user, &state, |state| !state["status"]["interfaces"].is_null()).await;
    for round in 0..4 {
        let resource = format!("rdma{round}");
        let policy = json!({
            "apiVersion": "sriovnetwork.openshift.io/v1", "kind": "SriovNetworkNodePolicy",
            "metadata": { "name": resource, "namespace": names::NAMESPACE },
            "spec": {
                "resourceName": resource, "nodeSelector": {}, "numVfs": 2, "isRdma": true,
                "nicSelector": { "pfNames": ["enp3s0f0"] },
            },
        });
        let path = ObjectKey::of(&policy).path();
        let counted = format!("/status/allocatable/openshift.io~1{resource}");
        let node = key("v1", "Node", "");
        let start = Instant::now();
        let create = Request::new(Method::Post, ObjectKey::of(&policy).collection_path());
        assert!(user.send(&create.with_body(policy)).await.is_done());
        let told = |what: &str| println!("  {what:<48} {:>8.3}", start.elapsed().as_secs_f64());
        let (ordered, done, allocatable) = tokio::join!(
            async {
                until(&user, &state, |s| s["spec"]["interfaces"].to_string().contains(&resource))
                    .await;
                told("the operator has written the node's order")
            },
            async {
                let done = |s: &Value| {
                    s["status"]["syncStatus"] == "Succeeded"
                        && s["status"]["interfaces"].to_string().contains("vfID")
                        && s["spec"]["interfaces"].to_string().contains(&resource)
                };
                until(&user, &state, done).await;
                told("the daemon says that the card is as ordered")
            },
            async {
                until(&user, &node, |n| n.pointer(&counted).is_some_and(|count| count == "2"))
                    .await;
                told("the kubelet counts the devices")
            },
        );
        let ((), (), ()) = (ordered, done, allocatable);
        assert!(user.send(&Request::new(Method::Delete, path)).await.is_done());
        until(&user, &state, |s| {
            !s["status"]["interfaces"].to_string().contains("vfID")
                && s["status"]["syncStatus"] == "Succeeded"
        })
        .await;
    }
}

fn key(api_version: &str, kind: &str, namespace: &str) -> ObjectKey {
    ObjectKey::of(&json!({
        "apiVersion": api_version, "kind": kind,
        "metadata": { "name": "worker-0", "namespace": namespace },
    }))
}

/// Follows one object until it is so.
async fn until(user: &User, object: &ObjectKey, is_so: impl Fn(&Value) -> bool) {
    loop {
        let mut events = follow(user, object).await;
        while let Some(Ok(event)) = events.next().await {
            use kube::core::WatchEvent::{Added, Modified};
            if let Added(seen) | Modified(seen) = event
                && is_so(&seen)
            {
                return;
            }
        }
    }
}

/// The guide with a tenth of the nodes at a time: 200 nodes beside 20.
fn rollout(runtime: &tokio::runtime::Runtime) {
    println!("the guide, maxUnavailable 10%");
    let mut small = 0.0;
    for nodes in [20, 200] {
        let options = Options { nodes, ..Options::default() };
        let playground = runtime.block_on(Playground::start(options)).unwrap();
        let options = demo::Options {
            max_unavailable: Some("10%".to_owned()),
            patience: Duration::from_secs(600),
            ..demo::Options::default()
        };
        let report = runtime.block_on(async {
            let user = playground.admin().unwrap();
            demo::run(&user, &options, &mut std::io::sink()).await
        });
        assert!(report.ok(), "{}", report.to_json());
        let seconds: f64 = report.steps.iter().map(|step| step.seconds).sum();
        small = if nodes == 20 { seconds } else { small };
        let steps = report.steps.iter().map(|step| format!("{} {:.1}", step.name, step.seconds));
        let steps: Vec<String> = steps.collect();
        println!(
            "  {nodes:>4} nodes {seconds:>8.1} s, {:>5.1} times 20 nodes; at most {} at a time; {}",
            seconds / small,
            report.most_disturbed.unwrap_or(0),
            steps.join(", ")
        );
    }
}
