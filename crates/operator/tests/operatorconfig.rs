//! SriovOperatorConfig/default: what is deployed for it, and what is said without it.

#![allow(clippy::unwrap_used)] // A test that cannot find its object has failed.

mod fake;

use expect_test::{Expect, expect};
use fake::{Api, Driver, config, node, settings};
use operator::settings::Settings;
use serde_json::{Value, json};

const DAEMON: &str = "sriov-network-config-daemon";
const PLUGIN: &str = "sriov-device-plugin";

fn check(text: impl ToString, expected: Expect) {
    expected.assert_eq(&text.to_string());
}

fn deployed(spec: Value, settings: Settings) -> (Api, Driver) {
    let mut api = Api::default();
    let mut config = config();
    config["spec"] = spec;
    api.put(config);
    let mut driver = Driver::new(&api, settings);
    driver.settle(&mut api);
    (api, driver)
}

/// The parts of a DaemonSet that the config decides.
fn shape(api: &Api, name: &str) -> String {
    let set = api.get("DaemonSet", name).unwrap();
    let pod = &set["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let environment = container["env"].as_array().unwrap().iter();
    let environment: Vec<String> = environment
        .map(|variable| format!("{}={}", variable["name"].as_str().unwrap(), variable["value"]))
        .collect();
    format!(
        "{} {}\nnodes {}\nenv {}\nowner {}",
        container["image"],
        container["command"],
        pod["nodeSelector"],
        environment.join(" "),
        set["metadata"]["ownerReferences"][0]["kind"],
    )
}

#[test]
fn without_the_config_the_one_line_is_said() {
    let mut api = Api::default();
    api.put(node("worker-0"));
    let mut driver = Driver::new(&api, settings());
    check(
        driver.settle(&mut api),
        expect![[
            r#"event Deployment sriov-network-operator/sriov-network-operator NoOperatorConfig: nothing is deployed: namespace sriov-network-operator has no SriovOperatorConfig default; run: echo '{"apiVersion":"sriovnetwork.openshift.io/v1","kind":"SriovOperatorConfig","metadata":{"name":"default","namespace":"sriov-network-operator"}}' | kubectl apply -f -"#
        ]],
    );
    driver.wait(3600);
    assert_eq!(driver.settle(&mut api), "");
}

#[test]
fn the_two_daemon_sets_are_deployed_as_the_config_says() {
    let (api, _) = deployed(json!({}), settings());
    check(
        shape(&api, DAEMON),
        expect![[r#"
        "ironrail/node:1" ["ironrail-node","daemon"]
        nodes {"kubernetes.io/os":"linux","node-role.kubernetes.io/worker":""}
        env NODE_NAME=null NAMESPACE=null RESOURCE_PREFIX="openshift.io" CLUSTER_TYPE="kubernetes"
        owner "SriovOperatorConfig""#]],
    );
    check(
        shape(&api, PLUGIN),
        expect![[r#"
        "ironrail/node:1" ["ironrail-node","device-plugin"]
        nodes {"kubernetes.io/os":"linux","sriovnetwork.openshift.io/device-plugin":"Enabled"}
        env NODE_NAME=null RESOURCE_PREFIX="openshift.io"
        owner "SriovOperatorConfig""#]],
    );
    let spec = json!({
        "configDaemonNodeSelector": { "zone": "rdma" }, "logLevel": 2, "useCDI": false,
        "configDaemonEnvVars": { "HOST_ROOT": "/host" },
    });
    let (api, _) = deployed(spec, settings());
    check(
        shape(&api, DAEMON),
        expect![[r#"
        "ironrail/node:1" ["ironrail-node","daemon","--log-level=trace"]
        nodes {"zone":"rdma"}
        env NODE_NAME=null NAMESPACE=null RESOURCE_PREFIX="openshift.io" CLUSTER_TYPE="kubernetes" HOST_ROOT="/host"
        owner "SriovOperatorConfig""#]],
    );
    check(
        shape(&api, PLUGIN),
        expect![[r#"
        "ironrail/node:1" ["ironrail-node","device-plugin","--log-level=trace","--no-cdi"]
        nodes {"sriovnetwork.openshift.io/device-plugin":"Enabled","zone":"rdma"}
        env NODE_NAME=null RESOURCE_PREFIX="openshift.io"
        owner "SriovOperatorConfig""#]],
    );
}

#[test]
fn a_kubelet_elsewhere_than_by_default_is_found_where_the_operator_is_told() {
    let elsewhere = Settings { kubelet_root: "/data/kubelet".to_owned(), ..settings() };
    let (api, _) = deployed(json!({}), elsewhere);
    for name in [DAEMON, PLUGIN] {
        let set = api.get("DaemonSet", name).unwrap();
        let pod = &set["spec"]["template"]["spec"];
        let volumes = pod["volumes"].as_array().unwrap();
        let kubelet = volumes.iter().find(|volume| volume["name"] == "kubelet").unwrap();
        assert_eq!(kubelet["hostPath"]["path"], "/data/kubelet", "{name}");
        // Inside it is always in one place, which is where the programs look.
        let mounts = pod["containers"][0]["volumeMounts"].as_array().unwrap();
        let kubelet = mounts.iter().find(|mount| mount["name"] == "kubelet").unwrap();
        assert_eq!(kubelet["mountPath"], "/var/lib/kubelet", "{name}");
    }
}

#[test]
fn what_is_changed_by_hand_is_put_right_and_what_the_api_fills_in_is_not_fought() {
    let (mut api, mut driver) = deployed(json!({}), settings());
    api.edit("DaemonSet", PLUGIN, |set| {
        set["spec"]["template"]["spec"]["restartPolicy"] = "Always".into();
        set["status"] = json!({ "numberReady": 1 });
    });
    assert_eq!(driver.settle(&mut api), "");
    api.edit("DaemonSet", PLUGIN, |set| {
        set["spec"]["template"]["spec"]["containers"][0]["image"] = "another".into();
    });
    check(
        driver.settle(&mut api),
        expect!["apply DaemonSet sriov-network-operator/sriov-device-plugin "],
    );
    // A node selector that is taken back disappears from the DaemonSet.
    api.edit("SriovOperatorConfig", "default", |config| {
        config["spec"]["configDaemonNodeSelector"] = json!({ "zone": "rdma" });
    });
    driver.settle(&mut api);
    api.edit("SriovOperatorConfig", "default", |config| config["spec"] = json!({}));
    check(
        driver.settle(&mut api),
        expect![[r#"
        apply DaemonSet sriov-network-operator/sriov-network-config-daemon 
        apply DaemonSet sriov-network-operator/sriov-device-plugin 
        update SriovOperatorConfig sriov-network-operator/default status {} [Ready=True OperatorConfigReady: SriovOperatorConfig reconciled successfully]"#]],
    );
    driver.wait(3600);
    assert_eq!(driver.settle(&mut api), "");
}

#[test]
fn what_cannot_be_deployed_is_in_the_condition() {
    let said = |api: &Api| {
        let condition =
            &api.get("SriovOperatorConfig", "default").unwrap()["status"]["conditions"][0];
        format!("{} {}: {}", condition["status"], condition["reason"], condition["message"])
    };
    let (api, _) = deployed(json!({}), Settings { daemon_image: String::new(), ..settings() });
    check(
        said(&api),
        expect![[
            r#""False" "OperatorConfigSyncFailed": "SRIOV_NETWORK_CONFIG_DAEMON_IMAGE is empty; set it in the operator's Deployment""#
        ]],
    );
    let mut api = Api::default();
    api.put(config());
    api.forbid.insert("DaemonSet".into(), "daemonsets.apps is forbidden".into());
    let mut driver = Driver::new(&api, settings());
    for _ in 0..6 {
        driver.deliver(&api);
        driver.step(&mut api);
    }
    check(
        said(&api),
        expect![[
            r#""False" "OperatorConfigSyncFailed": "cannot apply DaemonSet sriov-network-operator/sriov-network-config-daemon: refused with 403: daemonsets.apps is forbidden""#
        ]],
    );
    api.forbid.clear();
    driver.wait(60);
    driver.settle(&mut api);
    check(
        said(&api),
        expect![[r#""True" "OperatorConfigReady": "SriovOperatorConfig reconciled successfully""#]],
    );
}

#[test]
fn a_gate_that_nothing_reads_is_named_and_one_that_counts_is_not() {
    let spec = json!({ "enableInjector": true,
        "featureGates": { "rdmaModeReload": true, "manageSoftwareBridges": true } });
    let (api, _) = deployed(spec, settings());
    let condition = &api.get("SriovOperatorConfig", "default").unwrap()["status"]["conditions"][0];
    check(
        condition["message"].as_str().unwrap(),
        expect![
            "SriovOperatorConfig reconciled successfully; without effect in this version: enableInjector, featureGates.manageSoftwareBridges"
        ],
    );
    let (api, _) = deployed(json!({ "featureGates": { "rdmaModeReload": false } }), settings());
    let condition = &api.get("SriovOperatorConfig", "default").unwrap()["status"]["conditions"][0];
    check(
        condition["message"].as_str().unwrap(),
        expect!["SriovOperatorConfig reconciled successfully"],
    );
}

#[test]
fn upstreams_finalizer_does_not_hold_the_config() {
    let mut api = Api::default();
    let mut config = config();
    config["metadata"]["finalizers"] =
        json!(["operatorconfig.finalizers.sriovnetwork.openshift.io"]);
    config["metadata"]["deletionTimestamp"] = "2026-11-22T12:00:00Z".into();
    api.put(config);
    check(
        Driver::new(&api, settings()).settle(&mut api),
        expect![[r#"
        patch SriovOperatorConfig sriov-network-operator/default {"metadata":{"finalizers":[]}}
        event Deployment sriov-network-operator/sriov-network-operator NoOperatorConfig: nothing is deployed: namespace sriov-network-operator has no SriovOperatorConfig default; run: echo '{"apiVersion":"sriovnetwork.openshift.io/v1","kind":"SriovOperatorConfig","metadata":{"name":"default","namespace":"sriov-network-operator"}}' | kubectl apply -f -"#]],
    );
    assert_eq!(api.get("SriovOperatorConfig", "default"), None);
}

#[test]
fn the_operators_manifest_tolerates_what_a_drain_believes_that_it_tolerates() {
    let text = include_str!("../../../deploy/install.yaml");
    let manifest =
        text.split("\n---\n").find(|part| part.contains("\nkind: Deployment\n")).unwrap();
    let manifest: Value = serde_saphyr::from_str(manifest).unwrap();
    let tolerations = manifest.pointer("/spec/template/spec/tolerations").unwrap();
    let keys: Vec<&str> =
        tolerations.as_array().unwrap().iter().map(|one| one["key"].as_str().unwrap()).collect();
    assert_eq!(keys, planner::drain::OPERATOR_TOLERATES);
    assert!(tolerations.as_array().unwrap().iter().all(|one| one["effect"] == "NoSchedule"));
}
