//! `ironrail-operator` as a process of its own, over a kubeconfig, against a playground in which no operator runs: it
//! does the guide's work, and one that is killed in the middle of a drain is followed by one that ends it.

#![allow(clippy::unwrap_used, reason = "a test stops at the first thing that is missing")]

use api::wire::{Method, ObjectKey, Request};
use api::{annotation, names};
use playground::demo::{self, User};
use playground::live::{Options, Playground};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const LONGEST: Duration = Duration::from_secs(120);

/// Builds the operator, if need be, and says where it is. A test program cannot depend on another package's binary.
fn program() -> PathBuf {
    let mut cargo = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()));
    // The whole workspace's features, and nothing of what cargo tells a test of its package (ring's build script reads
    // it): so what the tests were built with is used again, and by whoever builds next.
    let of_package =
        |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for (name, _) in std::env::vars().filter(|(name, _)| of_package(name)) {
        cargo.env_remove(name);
    }
    cargo.args(["build", "--quiet", "--offline", "--workspace", "--bin", "ironrail-operator"]);
    let built = cargo.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).status();
    assert!(built.unwrap().success(), "ironrail-operator does not build");
    // target/<profile>/deps/<this test>
    let test = std::env::current_exe().unwrap();
    test.parent().and_then(Path::parent).unwrap().join("ironrail-operator")
}

/// A playground whose Deployment of the operator has no pods.
fn playground(runtime: &tokio::runtime::Runtime) -> Playground {
    let options = Options {
        nodes: 2,
        amend: |document| {
            if document["kind"] == "Deployment" {
                document["spec"]["replicas"] = 0.into();
            }
        },
        ..Options::default()
    };
    runtime.block_on(Playground::start(options)).unwrap()
}

/// A running operator, killed where it stands when it is dropped.
struct Operator(Child);

impl Drop for Operator {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Operator {
    /// Starts it with what its Deployment says, as its service account.
    fn start(program: &Path, playground: &Playground, deployment: &Value, name: &str) -> Self {
        let kubeconfig = playground.directory().join(format!("{name}.yaml"));
        let account = playground.kubeconfig_of(names::NAMESPACE, names::OPERATOR);
        std::fs::write(&kubeconfig, account).unwrap();
        let container = &deployment["spec"]["template"]["spec"]["containers"][0];
        let words = container["env"].as_array().unwrap().iter();
        let plain =
            words.filter_map(|word| Some((word["name"].as_str()?, word["value"].as_str()?)));
        let child = Command::new(program)
            .args(["--health-probe-bind-address", "0"])
            .env_clear()
            .envs(plain)
            .env("NAMESPACE", names::NAMESPACE)
            .env("POD_NAME", name)
            .env("KUBECONFIG", kubeconfig)
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn();
        Self(child.unwrap())
    }
}

async fn deployment(user: &User) -> Value {
    user.get("apps/v1", "Deployment", names::NAMESPACE, names::OPERATOR).await.unwrap()
}

#[test]
fn the_operator_as_a_process_of_its_own_does_the_guides_work() {
    let program = program();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let playground = playground(&runtime);
    let mut told = Vec::new();
    let report = runtime.block_on(async {
        let user = playground.admin().unwrap();
        let deployment = deployment(&user).await;
        let _operator = Operator::start(&program, &playground, &deployment, "outside");
        demo::run(&user, &demo::Options::default(), &mut told).await
    });
    let told = String::from_utf8(told).unwrap();
    // All of it works; only the log of a pod of the operator is not to be had, for there is none.
    let problems: Vec<(&str, Option<&str>)> =
        report.steps.iter().map(|step| (step.name, step.problem.as_deref())).collect();
    let (last, before) = problems.split_last().unwrap();
    assert!(before.iter().all(|(_, problem)| problem.is_none()), "{told}");
    assert_eq!(*last, ("commands", Some("no operator pod is running")), "{told}");
}

#[test]
fn an_operator_that_is_killed_in_the_middle_of_a_drain_is_followed_by_one_that_ends_it() {
    let program = program();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let playground = playground(&runtime);
    runtime.block_on(async {
        let user = playground.admin().unwrap();
        let deployment = deployment(&user).await;
        let first = Operator::start(&program, &playground, &deployment, "first");
        for object in held_app() {
            user.apply(&object).await.unwrap();
        }
        until("the application runs", async || {
            let app = user.get("apps/v1", "Deployment", "default", "web").await.unwrap();
            app["status"]["availableReplicas"] == 2
        })
        .await;
        user.apply(&pool()).await.unwrap();
        until("a drain is held by the budget", async || {
            states(&user).await.iter().any(|state| state.to_string().contains("DisruptionBudget"))
        })
        .await;
        drop(first);
        // Nobody goes on, and nothing is undone.
        let before = drained(&user).await;
        assert_eq!(
            before.iter().filter(|(_, progress)| progress == annotation::DRAINING).count(),
            1
        );
        let budget = ObjectKey::new("policy/v1", "PodDisruptionBudget", "default", "web");
        let gone = user.send(&Request::new(Method::Delete, budget.path())).await;
        assert!(gone.is_done(), "{gone}");
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(drained(&user).await, before);
        let _second = Operator::start(&program, &playground, &deployment, "second");
        until("every node is done", async || {
            let states = states(&user).await;
            states.iter().all(|state| {
                state["status"]["system"]["rdmaMode"] == "exclusive"
                    && state["status"]["syncStatus"] == "Succeeded"
                    && state["metadata"]["annotations"][annotation::CURRENT_STATE]
                        == annotation::IDLE
            })
        })
        .await;
        // The write after the one that says Idle.
        until("no node is cordoned", async || {
            let nodes = user.list("v1", "Node", "").await;
            nodes.iter().all(|node| node["spec"]["unschedulable"] != true)
        })
        .await;
    });
    let reboots: Vec<u32> = playground.cluster().nodes.values().map(|slot| slot.reboots).collect();
    assert_eq!(reboots, [1, 1]);
}

/// Two pods that must both run.
fn held_app() -> [Value; 2] {
    let labels = json!({ "app": "web" });
    [
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": { "name": "web", "namespace": "default" },
            "spec": {
                "replicas": 2, "selector": { "matchLabels": labels },
                "template": { "metadata": { "labels": labels }, "spec": { "containers": [
                    { "name": "web", "image": "web", "command": ["sleep", "infinity"] }
                ] } },
            },
        }),
        json!({
            "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
            "metadata": { "name": "web", "namespace": "default" },
            "spec": { "minAvailable": 2, "selector": { "matchLabels": labels } },
        }),
    ]
}

fn pool() -> Value {
    json!({
        "apiVersion": names::API_VERSION, "kind": names::POOL,
        "metadata": { "name": "pool", "namespace": names::NAMESPACE },
        "spec": { "rdmaMode": "exclusive", "nodeSelector": {} },
    })
}

async fn states(user: &User) -> Vec<Value> {
    user.list(names::API_VERSION, names::NODE_STATE, names::NAMESPACE).await
}

/// How far each node's drain is.
async fn drained(user: &User) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let progress = |state: &Value| {
        let annotations = &state["metadata"]["annotations"];
        (text(&state["metadata"]["name"]), text(&annotations[annotation::CURRENT_STATE]))
    };
    states(user).await.iter().map(progress).collect()
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed() < LONGEST, "not within {} s: {what}", LONGEST.as_secs());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
