//! The guide on a live playground: it works, and when one link is broken the demo fails and names the step.

#![allow(clippy::unwrap_used)] // a test stops at the first thing that is missing

use host::sim::Fault;
use playground::demo::{self, Report, Scenario};
use playground::live::{Options, Playground};
use serde_json::Value;
use std::time::Duration;

fn guide(options: Options, patience: u64) -> (Report, String) {
    story(Scenario::Guide, options, patience)
}

fn story(scenario: Scenario, mut options: Options, patience: u64) -> (Report, String) {
    scenario.prepare(&mut options);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let playground = runtime.block_on(Playground::start(options)).unwrap();
    let mut told = Vec::new();
    let options = demo::Options {
        scenario,
        patience: Duration::from_secs(patience),
        hands: Some(playground.hands()),
        ..demo::Options::default()
    };
    let report = runtime.block_on(async {
        let user = playground.admin().unwrap();
        demo::run(&user, &options, &mut told).await
    });
    (report, String::from_utf8(told).unwrap())
}

/// Breaks something and asserts which step fails, and that its sentence says what is wrong.
fn breaks(options: Options, step: &str, sentence: &str) {
    breaks_in(Scenario::Guide, options, step, sentence);
}

fn breaks_in(scenario: Scenario, options: Options, step: &str, sentence: &str) {
    let (report, told) = story(scenario, options, 12);
    assert!(!report.ok(), "{told}");
    let failed = report.steps.last().unwrap();
    let problem = failed.problem.clone().unwrap_or_default();
    assert_eq!(failed.name, step, "{problem}\n{told}");
    assert!(problem.contains(sentence), "{problem}\n{told}");
}

fn two_nodes() -> Options {
    Options { nodes: 2, ..Options::default() }
}

#[test]
fn the_guide_works_and_every_node_is_drained_and_rebooted_once() {
    let (report, told) = guide(Options::default(), 60);
    assert!(report.ok(), "{told}");
    let json = report.to_json();
    let nodes = json["nodes"].as_array().unwrap();
    assert_eq!(nodes.len(), 3);
    for node in nodes {
        assert_eq!(node["rdmaMode"], "exclusive", "{node}");
        assert_eq!(node["drains"], 1, "{node}\n{told}");
        assert_eq!(node["reboots"], 1, "{node}\n{told}");
    }
    let pod = &json["pod"];
    assert_eq!((&pod["name"], &pod["phase"]), (&Value::from("rdma-app"), &Value::from("Running")));
    assert!(pod["vf"].as_str().unwrap().starts_with("0000:03:"), "{pod}");
    assert!(pod["rdmaDevice"].as_str().unwrap().starts_with("mlx5_"), "{pod}");
}

#[test]
fn a_machine_that_ignores_the_mode_fails_the_pool_step() {
    let mut options = two_nodes();
    let faults = vec![Fault::IgnoresKernelArgument, Fault::IgnoresModprobeOption];
    options.faults.insert("worker-0".to_owned(), faults);
    breaks(options, "pool", "node worker-0 is not in exclusive mode");
}

#[test]
fn a_device_plugin_that_never_registers_fails_the_policy_step() {
    let mut options = two_nodes();
    options.missing_programs = vec!["device-plugin".to_owned()];
    breaks(options, "policy", "has 0 of openshift.io/rdma_exclusive_device allocatable, and not 4");
}

#[test]
fn a_cni_plugin_that_moves_nothing_and_says_success_fails_the_isolation_step() {
    let mut options = two_nodes();
    options.idle_cni_plugins = vec!["rdma".to_owned()];
    breaks(options, "isolation", "the pod sees 0 RDMA devices");
}

#[test]
fn an_operator_without_the_right_to_evict_fails_the_pool_step() {
    let mut options = two_nodes();
    options.amend = |document| {
        if document["kind"] == "ClusterRole"
            && let Some(rules) = document["rules"].as_array_mut()
        {
            rules.retain(|rule| rule["resources"] != serde_json::json!(["pods/eviction"]));
        }
    };
    breaks(options, "pool", "node worker-0 is not in exclusive mode");
}

#[test]
fn in_shared_mode_two_pods_of_one_node_have_their_char_devices_and_nothing_is_disturbed() {
    let (report, told) = story(Scenario::Shared, two_nodes(), 60);
    assert!(report.ok(), "{told}");
    let json = report.to_json();
    for node in json["nodes"].as_array().unwrap() {
        let found = (&node["rdmaMode"], &node["drains"], &node["reboots"]);
        assert_eq!(found, (&Value::from("shared"), &Value::from(0), &Value::from(0)), "{told}");
    }
    assert_eq!(json["pod"]["node"], json["morePods"][0]["node"]);
    assert_ne!(json["pod"]["vf"], json["morePods"][0]["vf"]);
    assert!(
        told.contains("rdma plugin needs RDMA mode exclusive, and worker-0, worker-1 have shared"),
        "{told}"
    );
}

#[test]
fn in_shared_mode_a_cni_plugin_that_moves_nothing_fails_the_devices_step() {
    let mut options = two_nodes();
    options.idle_cni_plugins = vec!["sriov".to_owned()];
    breaks_in(Scenario::Shared, options, "devices", "pod rdma-app has no interface net1");
}

#[test]
fn in_shared_mode_a_device_plugin_that_never_registers_fails_the_policy_step() {
    let mut options = two_nodes();
    options.missing_programs = vec!["device-plugin".to_owned()];
    let sentence = "has 0 of openshift.io/rdma_exclusive_device allocatable, and not 4";
    breaks_in(Scenario::Shared, options, "policy", sentence);
}

#[test]
fn in_shared_mode_an_operator_that_may_not_write_the_networks_status_fails_the_mistake_step() {
    let mut options = two_nodes();
    options.amend = |document| {
        if document["kind"] == "ClusterRole"
            && let Some(rules) = document["rules"].as_array_mut()
        {
            for rule in rules {
                if let Some(resources) = rule["resources"].as_array_mut() {
                    resources.retain(|resource| resource != "sriovnetworks/status");
                }
            }
        }
    };
    breaks_in(Scenario::Shared, options, "mistake", "names pool, node and mode");
}

#[test]
fn a_budget_holds_a_drain_back_by_name_and_the_rollout_goes_on_when_there_is_room() {
    let (report, told) = story(Scenario::BlockedDrain, two_nodes(), 60);
    assert!(report.ok(), "{told}");
    assert!(told.contains("PodDisruptionBudget database allows 0 disruptions"), "{told}");
}

#[test]
fn a_reboot_that_did_not_help_is_said_once_and_not_repeated_until_a_person_asks() {
    let (report, told) = story(Scenario::RebootDidNotHelp, two_nodes(), 60);
    assert!(report.ok(), "{told}");
    let json = report.to_json();
    let reboots: Vec<_> =
        json["nodes"].as_array().unwrap().iter().map(|node| node["reboots"].clone()).collect();
    assert_eq!(reboots, [Value::from(2), Value::from(1)], "{told}");
}

#[test]
fn a_second_machine_that_nobody_mends_fails_the_story_of_the_reboot_at_its_end() {
    let mut options = two_nodes();
    let faults = vec![Fault::IgnoresKernelArgument, Fault::IgnoresModprobeOption];
    options.faults.insert("worker-1".to_owned(), faults);
    let (report, told) = story(Scenario::RebootDidNotHelp, options, 12);
    assert!(!report.ok(), "{told}");
    // Either machine may have its turn first; when it is the second one, the rollout halts before the first.
    let failed = report.steps.last().unwrap();
    let (step, node) = match failed.name {
        "pool" => ("pool", "worker-0"),
        _ => ("goes on", "worker-1"),
    };
    let problem = failed.problem.clone().unwrap_or_default();
    assert_eq!(failed.name, step, "{problem}\n{told}");
    assert!(
        problem.contains(&format!("node {node} is not in exclusive mode")),
        "{problem}\n{told}"
    );
}

#[test]
fn cards_by_which_nodes_live_are_not_cut_until_a_person_says_so() {
    let (report, told) = story(Scenario::Lifeline, two_nodes(), 60);
    assert!(report.ok(), "{told}");
    for words in
        ["it selects by vendor only", "LifelineKept", "LifelineCut", "policy uplink allows it"]
    {
        assert!(told.contains(words), "{words}: {told}");
    }
}

#[test]
fn a_free_card_that_makes_no_vfs_fails_the_story_of_the_lifeline() {
    let mut options = two_nodes();
    options.faults.insert("worker-1".to_owned(), vec![Fault::VfCountBusy]);
    breaks_in(Scenario::Lifeline, options, "vendor", "enp175s0 of worker-1 has 0 VFs, and not 2");
}

#[test]
fn a_canary_that_comes_back_worse_halts_the_rollout_before_it_reaches_the_others() {
    let (report, told) = story(Scenario::CanaryHalt, Options::default(), 60);
    assert!(report.ok(), "{told}");
    let json = report.to_json();
    let mut reboots: Vec<u64> = json["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|node| node["reboots"].as_u64().unwrap())
        .collect();
    reboots.sort_unstable();
    assert_eq!(reboots, [1, 1, 2], "{told}");
}

#[test]
fn machines_that_heed_their_boot_halt_nothing_and_fail_the_canary_step() {
    let (scenario, mut options) = (Scenario::CanaryHalt, two_nodes());
    scenario.prepare(&mut options);
    options.faults.clear();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let playground = runtime.block_on(Playground::start(options)).unwrap();
    let mut told = Vec::new();
    let options =
        demo::Options { scenario, patience: Duration::from_secs(12), ..demo::Options::default() };
    let report = runtime.block_on(async {
        let user = playground.admin().unwrap();
        demo::run(&user, &options, &mut told).await
    });
    let told = String::from_utf8(told).unwrap();
    let failed = report.steps.last().unwrap();
    assert_eq!(failed.name, "canary", "{told}");
    assert!(failed.problem.as_ref().unwrap().contains("and not Halted"), "{told}");
}

#[test]
fn firmware_and_mode_take_one_reboot_and_the_card_that_did_not_follow_is_named() {
    let (report, told) = story(Scenario::Firmware, two_nodes(), 60);
    assert!(report.ok(), "{told}");
    for node in report.to_json()["nodes"].as_array().unwrap() {
        let found = (&node["rdmaMode"], &node["drains"], &node["reboots"]);
        assert_eq!(found, (&Value::from("exclusive"), &Value::from(1), &Value::from(1)), "{told}");
    }
}

#[test]
fn where_firmware_may_not_be_written_the_story_of_the_firmware_fails_when_it_asks() {
    let mut options = two_nodes();
    options.amend = |document| {
        if document["kind"] == "SriovOperatorConfig" {
            document["spec"]["disablePlugins"] = serde_json::json!(["mellanox"]);
        }
    };
    breaks_in(Scenario::Firmware, options, "ask", "disablePlugins has mellanox");
}
