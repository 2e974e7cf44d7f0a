//! OpenShift: the machine-config pool of a node is held before its drain and let go after the last node; and metrics.

#![allow(clippy::unwrap_used)] // A test that cannot find its object has failed.

mod fake;

use api::annotation;
use expect_test::{Expect, expect};
use fake::{Api, Driver, config, node, pod, pool, settings};
use operator::kinds;
use operator::settings::Settings;
use serde_json::{Value, json};

const NODE_STATE: &str = "SriovNetworkNodeState";
const MCP: &str = "MachineConfigPool";

fn openshift() -> Settings {
    Settings { cluster_type: "openshift".into(), ..settings() }
}

fn machine_config_pool(wanted: &str, applied: &str, paused: bool) -> Value {
    json!({
        "apiVersion": "machineconfiguration.openshift.io/v1", "kind": MCP,
        "metadata": { "name": "worker" },
        "spec": { "paused": paused, "configuration": { "name": wanted } },
        "status": { "configuration": { "name": applied } },
    })
}

fn infrastructure(topology: &str) -> Value {
    json!({
        "apiVersion": "config.openshift.io/v1", "kind": "Infrastructure",
        "metadata": { "name": "cluster" }, "status": { "controlPlaneTopology": topology },
    })
}

/// Two nodes of machine-config pool worker, which ask for a reboot.
fn cluster(mcp: Value, topology: &str) -> (Api, Driver) {
    let mut api = Api::default();
    api.put(config());
    for name in ["worker-0", "worker-1"] {
        let mut node = node(name);
        node["metadata"]["annotations"] =
            json!({ annotation::DESIRED_CONFIG: "rendered-worker-1" });
        api.put(node);
    }
    api.put(pool("rdma", json!({ "rdmaMode": "exclusive" })));
    api.put(mcp);
    api.put(infrastructure(topology));
    api.put(pod("app", "worker-0", ""));
    let mut driver = Driver::new(&api, openshift());
    driver.settle(&mut api);
    for name in ["worker-0", "worker-1"] {
        ask(&mut api, name, annotation::REBOOT_REQUIRED);
    }
    (api, driver)
}

fn ask(api: &mut Api, node: &str, what: &str) {
    api.annotate(NODE_STATE, node, annotation::DESIRED_STATE, what);
    api.annotate("Node", node, annotation::NODE_STATE, what);
}

/// What happened to nodes and the machine-config pool: patches and evictions only.
fn moves(text: &str) -> String {
    let lines = text.lines().filter(|line| {
        line.starts_with("patch Node ") || line.contains(MCP) || line.starts_with("evict")
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn check(text: &str, expected: Expect) {
    expected.assert_eq(text);
}

fn said(api: &Api) -> String {
    let condition = &api.get(NODE_STATE, "worker-0").unwrap()["status"]["conditions"][0];
    format!("{}: {}", condition["reason"], condition["message"])
}

#[test]
fn the_pool_is_paused_before_the_first_drain_and_resumed_after_the_last_node() {
    let (mut api, mut driver) = cluster(machine_config_pool("a", "a", false), "HighlyAvailable");
    check(
        &moves(&driver.settle(&mut api)),
        expect![[r#"
        patch MachineConfigPool worker {"metadata":{"annotations":{"sriovnetwork.openshift.io/state":"Paused"}},"spec":{"paused":true}}
        patch Node worker-0 {"metadata":{"annotations":{"ironrail.dev/cordoned":"true"}},"spec":{"unschedulable":true}}
        evict Pod default/app"#]],
    );
    // The first node is done, the second still needs the pause; then it is done too.
    ask(&mut api, "worker-0", annotation::IDLE);
    check(
        &moves(&driver.settle(&mut api)),
        expect![[r#"
        patch Node worker-0 {"metadata":{"annotations":{"ironrail.dev/cordoned":null}},"spec":{"unschedulable":null}}
        patch Node worker-1 {"metadata":{"annotations":{"ironrail.dev/cordoned":"true"}},"spec":{"unschedulable":true}}"#]],
    );
    ask(&mut api, "worker-1", annotation::IDLE);
    check(
        &moves(&driver.settle(&mut api)),
        expect![[r#"
        patch Node worker-1 {"metadata":{"annotations":{"ironrail.dev/cordoned":null}},"spec":{"unschedulable":null}}
        patch MachineConfigPool worker {"metadata":{"annotations":{"sriovnetwork.openshift.io/state":"Idle"}},"spec":{"paused":false}}"#]],
    );
    driver.wait(3600);
    check(&driver.settle(&mut api), expect![[""]]);
}

#[test]
fn a_pool_that_an_administrator_paused_stays_paused() {
    let (mut api, mut driver) = cluster(machine_config_pool("b", "a", true), "HighlyAvailable");
    driver.settle(&mut api);
    ask(&mut api, "worker-0", annotation::IDLE);
    driver.settle(&mut api);
    ask(&mut api, "worker-1", annotation::IDLE);
    driver.settle(&mut api);
    let mcp = api.get(MCP, "worker").unwrap();
    assert_eq!(mcp["spec"]["paused"], true);
    assert!(mcp["metadata"]["annotations"].is_null());
    assert!(api.get("Pod", "app").is_none(), "the drain took place");
}

#[test]
fn a_pool_that_is_being_updated_is_waited_for() {
    let (mut api, mut driver) = cluster(machine_config_pool("b", "a", false), "HighlyAvailable");
    check(&moves(&driver.settle(&mut api)), expect![[""]]);
    check(
        &said(&api),
        expect![[
            r#""MachineConfigUpdating": "worker-0 waits: machine-config pool worker is being updated""#
        ]],
    );
    api.edit(MCP, "worker", |mcp| mcp["status"]["configuration"]["name"] = "b".into());
    check(
        &moves(&driver.settle(&mut api)),
        expect![[r#"
        patch MachineConfigPool worker {"metadata":{"annotations":{"sriovnetwork.openshift.io/state":"Paused"}},"spec":{"paused":true}}
        patch Node worker-0 {"metadata":{"annotations":{"ironrail.dev/cordoned":"true"}},"spec":{"unschedulable":true}}
        evict Pod default/app"#]],
    );
}

#[test]
fn pools_that_cannot_be_read_mean_wait() {
    let (mut api, mut driver) = cluster(machine_config_pool("a", "a", false), "HighlyAvailable");
    driver.operator.world.listed.remove(kinds::MACHINE_CONFIG_POOL);
    check(&moves(&driver.settle(&mut api)), expect![[""]]);
    check(
        &said(&api),
        expect![[
            r#""MachineConfigUnknown": "worker-0 waits: the machine-config pools cannot be read; apply deploy/openshift.yaml""#
        ]],
    );
}

#[test]
fn a_pause_that_nobody_needs_any_more_ends_also_when_its_last_node_left_the_cluster() {
    let (mut api, mut driver) = cluster(machine_config_pool("a", "a", false), "HighlyAvailable");
    ask(&mut api, "worker-1", annotation::IDLE);
    driver.settle(&mut api);
    assert_eq!(api.get(MCP, "worker").unwrap()["spec"]["paused"], true);
    let gone = api.objects.keys().filter(|key| key.name == "worker-0").cloned();
    gone.collect::<Vec<_>>().iter().for_each(|key| api.remove(key));
    driver.settle(&mut api);
    // OpenShift counts its machines anew.
    api.edit(MCP, "worker", |mcp| mcp["status"]["machineCount"] = 1.into());
    driver.settle(&mut api);
    assert_eq!(api.get(MCP, "worker").unwrap()["spec"]["paused"], false);
}

#[test]
fn hypershift_has_nothing_to_pause() {
    let (mut api, mut driver) = cluster(machine_config_pool("b", "a", false), "External");
    driver.settle(&mut api);
    assert!(api.get("Pod", "app").is_none(), "the drain took place");
    assert_eq!(api.get(MCP, "worker").unwrap()["spec"]["paused"], false);
}

#[test]
fn the_page_of_metrics_lists_what_is_served_and_nothing_else() {
    let (mut api, mut driver) = cluster(machine_config_pool("a", "a", false), "HighlyAvailable");
    driver.settle(&mut api);
    let text = operator::metrics::text(&driver.operator.world, &driver.operator.metrics);
    check(
        &text,
        expect![[r##"
            # HELP ironrail_pool_nodes managed nodes by pool and phase
            # TYPE ironrail_pool_nodes gauge
            ironrail_pool_nodes{pool="rdma",phase="changing"} 1
            ironrail_pool_nodes{pool="rdma",phase="waiting"} 1
            # HELP ironrail_pool_grants nodes that may be disturbed now
            # TYPE ironrail_pool_grants gauge
            ironrail_pool_grants{pool=""} 0
            ironrail_pool_grants{pool="rdma"} 1
            # HELP ironrail_pool_rollout 1 for the phase of a rollout that is under way
            # TYPE ironrail_pool_rollout gauge
            ironrail_pool_rollout{pool="rdma",phase="Rolling"} 1
            # HELP ironrail_pool_failed_nodes nodes that came back worse from a rollout
            # TYPE ironrail_pool_failed_nodes gauge
            ironrail_pool_failed_nodes{pool="rdma"} 0
            # HELP ironrail_drains_blocked drains that something is in the way of
            # TYPE ironrail_drains_blocked gauge
            # HELP ironrail_drain_duration_seconds time from the grant to the end of the drain
            # TYPE ironrail_drain_duration_seconds histogram
            ironrail_drain_duration_seconds_bucket{le="5"} 1
            ironrail_drain_duration_seconds_bucket{le="15"} 1
            ironrail_drain_duration_seconds_bucket{le="30"} 1
            ironrail_drain_duration_seconds_bucket{le="60"} 1
            ironrail_drain_duration_seconds_bucket{le="120"} 1
            ironrail_drain_duration_seconds_bucket{le="300"} 1
            ironrail_drain_duration_seconds_bucket{le="600"} 1
            ironrail_drain_duration_seconds_bucket{le="1800"} 1
            ironrail_drain_duration_seconds_bucket{le="7200"} 1
            ironrail_drain_duration_seconds_bucket{le="+Inf"} 1
            ironrail_drain_duration_seconds_sum 0
            ironrail_drain_duration_seconds_count 1
            # HELP ironrail_grants_total grants that were given
            # TYPE ironrail_grants_total counter
            ironrail_grants_total 1
            # HELP ironrail_evictions_total evictions by what the API said
            # TYPE ironrail_evictions_total counter
            ironrail_evictions_total{result="evicted"} 1
            # HELP ironrail_pods_forced_total pods deleted past their disruption budget
            # TYPE ironrail_pods_forced_total counter
            ironrail_pods_forced_total 0
            # HELP ironrail_pods_not_admitted_total pods that a kubelet failed because a device was not to be had
            # TYPE ironrail_pods_not_admitted_total counter
            ironrail_pods_not_admitted_total 0
            # HELP ironrail_reboots reboots in the nodes' ledgers, which keep the last ones
            # TYPE ironrail_reboots gauge
            # HELP ironrail_devices_swept_total devices of pods that ended without a DEL, by what became of them
            # TYPE ironrail_devices_swept_total counter
            ironrail_devices_swept_total{result="home"} 0
            ironrail_devices_swept_total{result="failed"} 0
            # HELP ironrail_sweep_suspects devices that may be such, and wait for a second look
            # TYPE ironrail_sweep_suspects gauge
            ironrail_sweep_suspects 0
            # HELP ironrail_sweep_blind_nodes nodes whose sweeper could not ask container runtime or kubelet
            # TYPE ironrail_sweep_blind_nodes gauge
            ironrail_sweep_blind_nodes 0
        "##]],
    );
    let served = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let mut served: Vec<String> = served.map(str::to_owned).collect();
    for name in [
        "leader gauge",
        "steps_total counter",
        "writes_total counter",
        "writes_refused_total counter",
    ] {
        served.push(format!("ironrail_operator_{name}"));
    }
    served.sort();
    let page = include_str!("../../../docs/reference/metrics.md");
    let rows = page.lines().filter(|line| line.starts_with("| `ironrail_"));
    let mut listed: Vec<String> = rows
        .map(|row| {
            let mut cells = row.split('|').map(str::trim).skip(1);
            let name = cells.next().unwrap().trim_matches('`');
            format!("{name} {}", cells.next().unwrap())
        })
        .collect();
    listed.sort();
    assert_eq!(listed, served);
}
