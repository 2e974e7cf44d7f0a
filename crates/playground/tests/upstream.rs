//! What upstream's users rely on, on a live cluster: every field is taken and stands where it counts, and the odd ones
//! among the policies do what they did. Each test has a cluster of its own: a device that was just given away is not
//! changed for two minutes, in case its pod is still on the way.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod live;

use api::{label, names};
use expect_test::expect;
use host::Host;
use live::{Cluster, SPACE, text, yaml};
use playground::live::Options;
use serde_json::{Value, json};
use std::time::Duration;

fn policy(name: &str, fields: &str) -> Value {
    yaml(&format!(
        "{{apiVersion: sriovnetwork.openshift.io/v1, kind: SriovNetworkNodePolicy, \
         metadata: {{name: {name}, namespace: {SPACE}}}, spec: {{resourceName: {name}, nodeSelector: {{}}, {fields}}}}}"
    ))
}

fn pod(name: &str) -> Value {
    yaml(&format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: default}}, spec: {{nodeName: worker-0, \
         containers: [{{name: app, image: app, command: [app], resources: {{limits: {{openshift.io/{name}: '1'}}}}}}]}}}}"
    ))
}

fn allocatable(cluster: &Cluster, resource: &str, wanted: &str) {
    for node in ["worker-0", "worker-1"] {
        let pointer = format!("/status/allocatable/openshift.io~1{resource}");
        cluster.until_is("v1", "Node", "", node, &pointer, wanted);
    }
}

fn exec(cluster: &Cluster, pod: &str, command: &[&str]) -> String {
    let executed = cluster.runtime.block_on(cluster.user.exec("default", pod, command)).unwrap();
    executed.stdout + &executed.stderr
}

/// The devices of a node in the ConfigMap that upstream's device plugin reads.
fn device_config(cluster: &Cluster, wanted: &str) {
    cluster.until_is(
        "v1",
        "ConfigMap",
        SPACE,
        names::DEVICE_PLUGIN_CONFIG,
        "/data/worker-0",
        wanted,
    );
}

/// What the file between daemon and device plugin says of a resource.
fn offered(cluster: &Cluster, resource: &str) -> Value {
    let host = cluster.playground.cluster().nodes["worker-0"].kubelet.host.process();
    let offer: Value = serde_json::from_slice(&host.read(api::files::OFFER).unwrap()).unwrap();
    offer["resources"][format!("openshift.io/{resource}")].clone()
}

const GOOD: &str = r#"{"resourceName":"good","selectors":{"pfNames":["enp3s0f0"],"IsRdma":false,"NeedVhostNet":false},"SelectorObj":null}"#;

#[test]
fn without_the_operator_config_the_one_line_is_said_in_log_and_event_and_helps() {
    let amend = |document: &mut Value| {
        // Under another name it is not acted on, as upstream.
        if document["kind"] == names::OPERATOR_CONFIG {
            document["metadata"]["name"] = "other".into();
        }
    };
    let cluster = Cluster::of(Options { nodes: 1, amend, ..Options::default() });
    let line = r#"{"apiVersion":"sriovnetwork.openshift.io/v1","kind":"SriovOperatorConfig","metadata":{"name":"default","namespace":"sriov-network-operator"}}"#;
    let sentence = format!(
        "nothing is deployed: namespace {SPACE} has no SriovOperatorConfig default; run: echo '{line}' | kubectl apply -f -"
    );
    cluster.says_event(
        "Deployment",
        SPACE,
        names::OPERATOR,
        &format!("Warning NoOperatorConfig: {sentence}"),
    );
    let operator = cluster.pod_of(names::OPERATOR, "worker-0");
    assert!(cluster.log(&operator).contains(&sentence), "{}", cluster.log(&operator));
    assert_eq!(cluster.get(names::NODE_STATE, SPACE, "worker-0"), None);
    cluster.apply(&serde_json::from_str(line).unwrap());
    cluster.until_is(
        names::API_VERSION,
        names::NODE_STATE,
        SPACE,
        "worker-0",
        "/status/syncStatus",
        "Succeeded",
    );
}

#[test]
fn a_policy_without_vfs_offers_the_whole_card() {
    let cluster = Cluster::start(2);
    let policy = policy("whole", "numVfs: 0, nicSelector: {pfNames: [enp3s0f1]}");
    cluster.apply(&policy);
    allocatable(&cluster, "whole", "1");
    let state = cluster.get(names::NODE_STATE, SPACE, "worker-0").unwrap();
    let entries = state["spec"]["interfaces"].as_array().unwrap();
    let entry = entries.iter().find(|entry| entry["name"] == "enp3s0f1").unwrap();
    expect![[r#"{"pciAddress":"0000:03:00.1","name":"enp3s0f1","vfGroups":[{"resourceName":"whole","deviceType":"netdevice","policyName":"whole"}]}"#]].assert_eq(&entry.to_string());
    cluster.apply(&pod("whole"));
    cluster.until_is("v1", "Pod", "default", "whole", "/status/phase", "Running");
    assert!(
        exec(&cluster, "whole", &["env"]).contains("PCIDEVICE_OPENSHIFT_IO_WHOLE=0000:03:00.1\n")
    );
    device_config(
        &cluster,
        &format!(
            r#"{{"resourceList":[{GOOD},{}]}}"#,
            r#"{"resourceName":"whole","selectors":{"pfNames":["enp3s0f1"],"IsRdma":false,"NeedVhostNet":false},"SelectorObj":null}"#
        ),
    );
    cluster.delete(&pod("whole"));
    cluster.delete(&policy);
    device_config(&cluster, &format!(r#"{{"resourceList":[{GOOD}]}}"#));
}

#[test]
fn vhost_net_and_topology_reach_the_pod_the_kubelet_and_the_config_map() {
    let cluster = Cluster::start(2);
    for slot in cluster.playground.cluster().nodes.values() {
        slot.kubelet.host.machine().modules.insert("vhost_net".to_owned());
    }
    let policy = policy(
        "vhost",
        "numVfs: 2, needVhostNet: true, excludeTopology: true, isRdma: true, nicSelector: {pfNames: [enp3s0f1]}",
    );
    cluster.apply(&policy);
    allocatable(&cluster, "vhost", "2");
    let offer = offered(&cluster, "vhost");
    assert_eq!(
        [&offer["vhostNet"], &offer["excludeTopology"], &offer["rdma"]],
        [true; 3].map(Value::from).each_ref()
    );
    cluster.apply(&pod("vhost"));
    cluster.until_is("v1", "Pod", "default", "vhost", "/status/phase", "Running");
    for node in ["/dev/vhost-net", "/dev/net/tun"] {
        let listed = exec(&cluster, "vhost", &["ls", node]);
        assert!(listed.starts_with(node), "{listed}");
    }
    assert!(exec(&cluster, "vhost", &["ls", "/dev/infiniband"]).contains("uverbs"));
    device_config(
        &cluster,
        &format!(
            r#"{{"resourceList":[{GOOD},{}]}}"#,
            r#"{"resourceName":"vhost","excludeTopology":true,"selectors":{"pfNames":["enp3s0f1"],"IsRdma":true,"NeedVhostNet":true},"SelectorObj":null}"#
        ),
    );
    cluster.delete(&pod("vhost"));
    cluster.delete(&policy);
    device_config(&cluster, &format!(r#"{{"resourceList":[{GOOD}]}}"#));
}

#[test]
fn a_policy_that_excludes_umad_reaches_the_pods_that_come_after_it() {
    let cluster = Cluster::start(2);
    let inside = |name: &str| {
        let mut pod = pod("umad");
        pod["metadata"]["name"] = name.into();
        cluster.apply(&pod);
        cluster.until_is("v1", "Pod", "default", name, "/status/phase", "Running");
        let listed = exec(&cluster, name, &["ls", "/dev/infiniband"]);
        let mut classes: Vec<&str> =
            listed.split_whitespace().map(|name| name.trim_end_matches(char::is_numeric)).collect();
        classes.sort_unstable();
        classes.join(" ")
    };
    cluster.apply(&policy("umad", "numVfs: 2, isRdma: true, nicSelector: {pfNames: [enp3s0f1]}"));
    allocatable(&cluster, "umad", "2");
    assert_eq!(inside("with"), "rdma_cm umad uverbs");
    cluster.merge(names::POLICY, SPACE, "umad", json!({ "spec": { "excludeUmad": true } }));
    let start = std::time::Instant::now();
    while offered(&cluster, "umad")["excludeUmad"] != true {
        assert!(start.elapsed() < Duration::from_secs(30), "{}", offered(&cluster, "umad"));
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(inside("without"), "rdma_cm uverbs");
}

#[test]
fn position_k_of_the_devices_is_net_k_and_a_flag_alone_reaches_the_device_plugin() {
    let cluster = Cluster::start(2);
    let policy = policy("pair", "numVfs: 2, nicSelector: {pfNames: [enp3s0f1]}");
    cluster.apply(&policy);
    allocatable(&cluster, "pair", "2");
    assert_eq!(offered(&cluster, "pair")["vhostNet"], false);
    let network = yaml(
        "{apiVersion: sriovnetwork.openshift.io/v1, kind: SriovNetwork, metadata: {name: pair, namespace: default}, \
         spec: {resourceName: pair}}",
    );
    cluster.apply(&network);
    cluster.until_is(
        names::NAD_API_VERSION,
        names::NETWORK_ATTACHMENT,
        "default",
        "pair",
        "/metadata/name",
        "pair",
    );
    let mut both = pod("pair");
    both["metadata"]["annotations"]["k8s.v1.cni.cncf.io/networks"] = "pair, pair".into();
    both["spec"]["containers"][0]["resources"]["limits"]["openshift.io/pair"] = "2".into();
    cluster.apply(&both);
    cluster.until_is("v1", "Pod", "default", "pair", "/status/phase", "Running");
    let environment = exec(&cluster, "pair", &["env"]);
    let devices =
        environment.lines().find_map(|line| line.strip_prefix("PCIDEVICE_OPENSHIFT_IO_PAIR="));
    let devices: Vec<&str> = devices.unwrap().split(',').collect();
    let found = cluster.get("Pod", "default", "pair").unwrap();
    let status = text(&found["metadata"]["annotations"]["k8s.v1.cni.cncf.io/network-status"]);
    let status: Value = serde_json::from_str(&status).unwrap();
    let networks =
        status.as_array().unwrap().iter().filter(|network| network["name"] == "default/pair");
    let nets: Vec<(String, String)> = networks
        .map(|network| {
            (text(&network["interface"]), text(&network["device-info"]["pci"]["pci-address"]))
        })
        .collect();
    let expected = [("net1", devices[0]), ("net2", devices[1])];
    assert_eq!(nets, expected.map(|(net, device)| (net.to_owned(), device.to_owned())));
    cluster.delete(&both);
    cluster.delete(&network);
    let flag = json!({ "spec": { "needVhostNet": true } });
    cluster.merge(names::POLICY, SPACE, "pair", flag);
    let start = std::time::Instant::now();
    while offered(&cluster, "pair")["vhostNet"] != true {
        assert!(start.elapsed() < Duration::from_secs(30), "{}", offered(&cluster, "pair"));
        std::thread::sleep(Duration::from_millis(50));
    }
    cluster.delete(&policy);
    device_config(&cluster, &format!(r#"{{"resourceList":[{GOOD}]}}"#));
}

#[test]
fn vfs_that_somebody_else_makes_are_used_as_they_are_and_stay() {
    let cluster = Cluster::start(2);
    let file = "/sys/bus/pci/devices/0000:03:00.1/sriov_numvfs";
    let machine = |node: &str| cluster.playground.cluster().nodes[node].kubelet.host.process();
    let policy =
        policy("theirs", "numVfs: 3, externallyManaged: true, nicSelector: {pfNames: [enp3s0f1]}");
    cluster.apply(&policy);
    // None are there yet: the node says so, and makes none.
    let blocked = "/status/blockers/0/reason";
    cluster.until_is(
        names::API_VERSION,
        names::NODE_STATE,
        SPACE,
        "worker-0",
        blocked,
        "ExternallyManaged",
    );
    let state = cluster.get(names::NODE_STATE, SPACE, "worker-0").unwrap();
    expect![
        "0000:03:00.1 is externally managed and not ready: its VF count is 0, the policy asks for 3"
    ]
    .assert_eq(&text(&state["status"]["blockers"][0]["message"]));
    assert_eq!(machine("worker-0").read(file).unwrap(), b"0\n");
    cluster.good_pod_runs(1);
    for node in ["worker-0", "worker-1"] {
        machine(node).write(file, "3").unwrap();
    }
    allocatable(&cluster, "theirs", "3");
    cluster.delete(&policy);
    allocatable(&cluster, "theirs", "*");
    cluster.until_is(
        names::API_VERSION,
        names::NODE_STATE,
        SPACE,
        "worker-0",
        "/status/syncStatus",
        "Succeeded",
    );
    assert_eq!(machine("worker-0").read(file).unwrap(), b"3\n");
    for node in ["worker-0", "worker-1"] {
        machine(node).write(file, "0").unwrap();
    }
}

#[test]
fn the_label_of_the_device_plugin_follows_the_policies() {
    let cluster = Cluster::of(Options {
        nodes: 1,
        boot_time: Duration::from_millis(500),
        ..Options::default()
    });
    let pointer = format!("/metadata/labels/{}", label::DEVICE_PLUGIN.replace('/', "~1"));
    let label = |wanted: &str| cluster.until_is("v1", "Node", "", "worker-0", &pointer, wanted);
    label("Disabled");
    device_config(&cluster, r#"{"resourceList":null}"#);
    let policy = policy("some", "numVfs: 2, nicSelector: {pfNames: [enp3s0f0]}");
    cluster.apply(&policy);
    label("Enabled");
    cluster.delete(&policy);
    label("Disabled");
    cluster.merge(
        "Node",
        "",
        "worker-0",
        json!({ "metadata": { "labels": { label::WORKER: null } } }),
    );
    label("");
}

/// Every kind with every field set: taken strictly, and read back as it was written.
#[test]
fn every_field_of_every_kind_is_taken_and_kept() {
    let cluster = Cluster::start(2);
    for (kind, spec) in WHOLE {
        let object = yaml(&format!(
            "{{apiVersion: sriovnetwork.openshift.io/v1, kind: {kind}, metadata: {{name: whole, namespace: {SPACE}}}, spec: {spec}}}"
        ));
        cluster.apply(&object);
        let stored = cluster.get(kind, SPACE, "whole").unwrap();
        assert_eq!(stored["spec"], object["spec"], "{kind}");
        cluster.delete(&object);
    }
}

const WHOLE: &[(&str, &str)] = &[
    (
        "SriovNetworkNodePolicy",
        "{resourceName: whole, nodeSelector: {rack: none}, priority: 7, mtu: 9000, numVfs: 2, \
          nicSelector: {vendor: '15b3', deviceID: '1017', rootDevices: ['0000:03:00.1'], pfNames: ['enp3s0f1#0-1'], \
            pfName: [enp3s0f1], netFilter: 'openstack/NetworkID:1'}, \
          deviceType: netdevice, isRdma: true, needVhostNet: true, linkType: ETH, eSwitchMode: switchdev, \
          vdpaType: virtio, excludeTopology: true, externallyManaged: false, \
          bridge: {ovs: {bridge: {datapathType: netdev, externalIDs: {a: b}, otherConfig: {c: d}, failMode: secure}, \
            uplink: {interface: {type: dpdk, options: {e: f}, externalIDs: {g: h}, otherConfig: {i: j}, mtuRequest: 1500}}}}}",
    ),
    (
        "SriovNetworkNodeState",
        "{interfaces: [{pciAddress: '0000:03:00.1', numVfs: 2, mtu: 9000, name: enp3s0f1, linkType: ETH, \
            eSwitchMode: legacy, externallyManaged: true, vfGroups: [{resourceName: whole, deviceType: netdevice, \
            vfRange: 0-1, policyName: whole, mtu: 9000, isRdma: true, vdpaType: virtio, needVhostNet: true, excludeTopology: true}]}], \
          bridges: {ovs: [{name: br, bridge: {datapathType: netdev, externalIDs: {a: b}, otherConfig: {c: d}, failMode: standalone}, \
            uplinks: [{pciAddress: '0000:03:00.1', name: enp3s0f1, interface: {type: dpdk, options: {e: f}, \
            externalIDs: {g: h}, otherConfig: {i: j}, mtuRequest: 1500}}]}]}, \
          system: {rdmaMode: exclusive}}",
    ),
    (
        "SriovNetworkPoolConfig",
        "{maxUnavailable: 30%, nodeSelector: {matchLabels: {rack: none}, \
          matchExpressions: [{key: rack, operator: In, values: [none]}]}, rdmaMode: exclusive, \
          ovsHardwareOffloadConfig: {name: worker-offload}}",
    ),
    (
        "SriovNetwork",
        "{networkNamespace: default, resourceName: whole, capabilities: '{\"mac\": true}', ipam: '{\"type\": \"dhcp\"}', \
          vlan: 7, vlanQoS: 3, vlanProto: 802.1ad, spoofChk: 'on', trust: 'off', linkState: enable, minTxRate: 10, \
          maxTxRate: 100, metaPlugins: '{\"type\": \"tuning\"}', metaPluginsConfig: '{\"type\": \"tuning\"}', \
          logLevel: debug, logFile: /var/log/sriov.log}",
    ),
    (
        "SriovIBNetwork",
        "{networkNamespace: default, resourceName: whole, capabilities: '{\"infinibandGUID\": true}', \
          ipam: '{\"type\": \"dhcp\"}', linkState: auto, metaPlugins: '{\"type\": \"rdma\"}', metaPluginsConfig: '{\"type\": \"rdma\"}'}",
    ),
    (
        "OVSNetwork",
        "{networkNamespace: default, resourceName: whole, capabilities: '{\"mac\": true}', ipam: '{\"type\": \"dhcp\"}', \
          metaPlugins: '{\"type\": \"tuning\"}', metaPluginsConfig: '{\"type\": \"tuning\"}', bridge: br0, vlan: 7, mtu: 9000, \
          trunk: [{minID: 1, maxID: 5, id: 9}], interfaceType: dpdk}",
    ),
    (
        "SriovOperatorConfig",
        "{configDaemonNodeSelector: {rack: none}, enableInjector: true, enableOperatorWebhook: true, logLevel: 2, \
          disableDrain: true, enableOvsOffload: true, configurationMode: systemd, useCDI: true, disablePlugins: [mellanox], \
          featureGates: {metricsExporter: true}, configDaemonEnvVars: {A: b}}",
    ),
];

#[test]
fn switches_of_the_operator_config_reach_the_daemon_sets_or_are_named_as_without_effect() {
    let cluster = Cluster::of(Options {
        nodes: 1,
        boot_time: Duration::from_millis(500),
        ..Options::default()
    });
    cluster.until_is(
        names::API_VERSION,
        names::NODE_STATE,
        SPACE,
        "worker-0",
        "/status/syncStatus",
        "Succeeded",
    );
    let spec = json!({ "spec": {
        "enableInjector": true, "enableOperatorWebhook": true, "enableOvsOffload": true, "logLevel": 2,
        "useCDI": false, "disablePlugins": ["mellanox"], "featureGates": { "metricsExporter": true, "other": false },
        "configDaemonEnvVars": { "A": "b" }, "configDaemonNodeSelector": { "kubernetes.io/os": "linux" },
    } });
    cluster.merge(names::OPERATOR_CONFIG, SPACE, names::DEFAULT_CONFIG, spec);
    let message = "/status/conditions/0/message";
    cluster.until_is(
        names::API_VERSION,
        names::OPERATOR_CONFIG,
        SPACE,
        names::DEFAULT_CONFIG,
        message,
        "SriovOperatorConfig reconciled successfully; without effect in this version: enableInjector, \
         enableOperatorWebhook, enableOvsOffload, disablePlugins, featureGates.metricsExporter",
    );
    let of = |set: &str, pointer: &str, wanted: &str| {
        cluster.until_is(
            "apps/v1",
            "DaemonSet",
            SPACE,
            set,
            &format!("/spec/template/spec{pointer}"),
            wanted,
        );
    };
    let daemon = "sriov-network-config-daemon";
    of(daemon, "/containers/0/command", r#"*"--log-level=trace"]"#);
    of(daemon, "/containers/0/env", r#"*{"name":"A","value":"b"}]"#);
    of(daemon, "/nodeSelector", r#"{"kubernetes.io/os":"linux"}"#);
    of("sriov-device-plugin", "/containers/0/command", r#"*"--log-level=trace","--no-cdi"]"#);
}

#[test]
fn configuration_mode_systemd_reaches_the_nodes_which_say_what_became_of_it() {
    let cluster = Cluster::start(1);
    let state = |wanted: &str| {
        cluster.until_is(
            names::API_VERSION,
            names::NODE_STATE,
            SPACE,
            "worker-0",
            "/status/bootPhases",
            wanted,
        );
    };
    let systemd = json!({ "spec": { "configurationMode": "systemd" } });
    cluster.merge(names::OPERATOR_CONFIG, SPACE, names::DEFAULT_CONFIG, systemd);
    state(
        "cannot install the boot phases: this host has no systemd (/run/systemd/system is not there); without them the daemon sets mode and VFs after the container runtime has started",
    );
}
