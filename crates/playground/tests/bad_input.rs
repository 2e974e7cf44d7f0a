//! Bad input, as users write it, into a running cluster: the exact sentence that they meet, and that nothing else stops.
//!
//! One playground serves all stories while they run; each puts something wrong into it, reads the answer, and lets a
//! good network and a good pod reach their goal beside it before it cleans up.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod live;

use api::{Timestamp, files};
use expect_test::{Expect, expect};
use host::Host;
use host::sim::{Flavour, Machine, SimHost};
use live::{GOOD, Says, cluster, text, yaml};
use playground::demo::until;
use serde_json::Value;
use std::time::{Duration, Instant};

/// A policy with `fields` beside what each needs.
fn policy(name: &str, fields: &str) -> String {
    object("SriovNetworkNodePolicy", "sriov-network-operator", name, fields)
}

fn pool(name: &str, fields: &str) -> String {
    object("SriovNetworkPoolConfig", "sriov-network-operator", name, fields)
}

fn network(name: &str, fields: &str) -> String {
    object("SriovNetwork", "default", name, fields)
}

fn object(kind: &str, namespace: &str, name: &str, fields: &str) -> String {
    format!(
        "{{apiVersion: sriovnetwork.openshift.io/v1, kind: {kind}, metadata: {{name: {name}, namespace: {namespace}}}, spec: {{{fields}}}}}"
    )
}

/// A pod of this annotation and these limits.
fn pod(name: &str, networks: &str, limits: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: default, annotations: {{k8s.v1.cni.cncf.io/networks: {networks:?}}}}}, \
         spec: {{containers: [{{name: app, image: app, command: [app], resources: {{limits: {{{limits}}}}}}}]}}}}"
    )
}

const PF: &str = "nodeSelector: {}, nicSelector: {pfNames: [enp3s0f1]}";

#[test]
fn what_the_api_refuses_names_the_field_and_what_is_allowed() {
    cluster().check(&[
        (vec![policy("slip", &format!("resourceName: x, numVfs: 2, numVFs: 4, {PF}"))], vec![Says::Refused(r#"cannot apply SriovNetworkNodePolicy sriov-network-operator/slip: refused with 400: SriovNetworkNodePolicy in version "v1" cannot be handled as a SriovNetworkNodePolicy: strict decoding error: unknown field "spec.numVFs""#)]),
        (vec![pool("slip", "rdmaMode: exclusiv")], vec![Says::Refused(r#"cannot apply SriovNetworkPoolConfig sriov-network-operator/slip: refused with 422: SriovNetworkPoolConfig.sriovnetwork.openshift.io "slip" is invalid: spec.rdmaMode: Unsupported value: "exclusiv": supported values: "shared", "exclusive""#)]),
        (vec![policy("slip", "resourceName: x, numVfs: 2, nodeSelector: {}, nicSelector: {deviceID: 1017}")], vec![Says::Refused(r#"cannot apply SriovNetworkNodePolicy sriov-network-operator/slip: refused with 422: SriovNetworkNodePolicy.sriovnetwork.openshift.io "slip" is invalid: spec.nicSelector.deviceID: Invalid value: "integer": spec.nicSelector.deviceID in body must be of type string: "integer""#)]),
        (vec![policy("slip", &format!("resourceName: x, numVfs: -1, {PF}"))], vec![Says::Refused(r#"cannot apply SriovNetworkNodePolicy sriov-network-operator/slip: refused with 422: SriovNetworkNodePolicy.sriovnetwork.openshift.io "slip" is invalid: spec.numVfs: Invalid value: -1: spec.numVfs in body should be greater than or equal to 0"#)]),
        (vec![policy("slip", &format!("resourceName: x, numVfs: 2, priority: 100, mtu: 0, {PF}"))], vec![Says::Refused(r#"cannot apply SriovNetworkNodePolicy sriov-network-operator/slip: refused with 422: SriovNetworkNodePolicy.sriovnetwork.openshift.io "slip" is invalid: [spec.priority: Invalid value: 100: spec.priority in body should be less than or equal to 99, spec.mtu: Invalid value: 0: spec.mtu in body should be greater than or equal to 1]"#)]),
        // What `spoofChk: on` without quotes means in YAML.
        (vec![network("slip", "resourceName: good, spoofChk: true, vlan: 5000")], vec![Says::Refused(r#"cannot apply SriovNetwork default/slip: refused with 422: SriovNetwork.sriovnetwork.openshift.io "slip" is invalid: [spec.spoofChk: Invalid value: "boolean": spec.spoofChk in body must be of type string: "boolean", spec.vlan: Invalid value: 5000: spec.vlan in body should be less than or equal to 4094]"#)]),
        (vec![object("SriovNetwork", "nowhere", "slip", "resourceName: good")], vec![Says::Refused(r#"cannot apply SriovNetwork nowhere/slip: namespaces "nowhere" not found"#)]),
    ]);
}

#[test]
fn a_policy_that_cannot_work_says_why() {
    let ready = |name, says| {
        Says::condition("SriovNetworkNodePolicy", "sriov-network-operator", name, "Ready", says)
    };
    cluster().check(&[
        (vec![policy("greedy", "resourceName: x, numVfs: 9, nodeSelector: {}, nicSelector: {pfNames: [enp3s0f1]}")], vec![ready("greedy", r#"False VfLimit: numVfs 9 is more than enp3s0f1 on worker-0, worker-1 allows, which is 8; ask for fewer or raise the number in firmware"#)]),
        (vec![policy("upper", "resourceName: x, numVfs: 4, nodeSelector: {}, nicSelector: {pfNames: ['enp3s0f1#0-2']}"), policy("lower", "resourceName: other, numVfs: 4, nodeSelector: {}, nicSelector: {pfNames: ['enp3s0f1#2-3']}, priority: 5")], vec![ready("lower", r#"False Conflict: VFs 2-3 of enp3s0f1 overlap with 0-2 of policy upper: priority 0 wins over 5, and this policy gets none of them; write ranges that do not overlap, here for example enp3s0f1#3-3; on worker-0, worker-1"#), ready("upper", r#"True NodesReady: 2 of 2 matched nodes are at their goal"#)]),
        (vec![policy("nobody", "resourceName: x, numVfs: 2, nodeSelector: {rack: '7'}, nicSelector: {vendor: '15b3'}")], vec![ready("nobody", r#"False NothingSelected: its nodeSelector takes none of the managed nodes; nearest: worker-0: it has no label rack, the policy asks for "7""#)]),
        (vec![policy("nothing", "resourceName: x, numVfs: 2, nodeSelector: {}, nicSelector: {pfNames: [ens9f9]}")], vec![ready("nothing", r#"False NothingSelected: its nicSelector takes no PF of the 2 selected nodes; nearest: enp3s0f0 of worker-0: its name is enp3s0f0, the policy asks for ens9f9"#)]),
        (vec![policy("umad", "resourceName: x, numVfs: 2, excludeUmad: true, nodeSelector: {}, nicSelector: {pfNames: [enp3s0f1]}")], vec![ready("umad", r#"False InvalidPolicy: excludeUmad: true leaves some RDMA devices out and without isRdma: true there are none; write isRdma: true or take out excludeUmad"#)]),
        (vec![policy("vfio", "resourceName: x, numVfs: 2, deviceType: vfio-pci, isRdma: true, nodeSelector: {}, nicSelector: {pfNames: [enp3s0f1]}")], vec![ready("vfio", r#"False InvalidPolicy: isRdma: true needs the kernel's driver and deviceType vfio-pci takes it away; write deviceType: netdevice or isRdma: false"#)]),
        (vec![policy("hex", "resourceName: x, numVfs: 2, nodeSelector: {}, nicSelector: {deviceID: '0x1017'}")], vec![ready("hex", r#"False InvalidPolicy: nicSelector.deviceID "0x1017" is not a PCI id; write four lower-case hex digits without 0x, for example 15b3"#)]),
        (vec![policy("range", "resourceName: x, numVfs: 4, nodeSelector: {}, nicSelector: {pfNames: ['enp3s0f1#2-']}")], vec![ready("range", r#"False InvalidPolicy: pfNames[0] "enp3s0f1#2-" has no end to its VF range; write enp3s0f1#0-3"#)]),
        (vec![policy("slash", "resourceName: openshift.io/x, numVfs: 2, nodeSelector: {}, nicSelector: {pfNames: [enp3s0f1]}")], vec![ready("slash", r#"False InvalidPolicy: resourceName "openshift.io/x" has a prefix; write x, pods ask for it with the prefix"#)]),
        (vec![object("SriovNetworkNodePolicy", "default", "astray", "resourceName: x, numVfs: 2, nodeSelector: {}, nicSelector: {pfNames: [enp3s0f1]}")], vec![Says::event("SriovNetworkNodePolicy", "default", "astray", "Warning WrongNamespace: SriovNetworkNodePolicy default/astray is not acted on: objects of this kind count in namespace sriov-network-operator only; create it there and delete this one")]),
    ]);
}

#[test]
fn pools_that_are_at_odds_say_so() {
    let ready = |name, says| {
        Says::condition("SriovNetworkPoolConfig", "sriov-network-operator", name, "Ready", says)
    };
    let worker_0 = "nodeSelector: {matchLabels: {kubernetes.io/hostname: worker-0}}";
    cluster().check(&[
        (vec![pool("one", worker_0), pool("other", worker_0)], vec![ready("one", r#"False TwoPools: worker-0 waits: it is in 2 pools (one, other); change the node selectors so that one is left"#), ready("other", r#"False TwoPools: worker-0 waits: it is in 2 pools (one, other); change the node selectors so that one is left"#)]),
        (vec![pool("many", &format!("maxUnavailable: many, {worker_0}"))], vec![ready("many", r#"False InvalidPool: maxUnavailable "many" is no limit; write a number of nodes, or a percentage from 1% to 100%"#)]),
        (
            vec![object("SriovNetworkPoolConfig", "default", "astray", worker_0)],
            vec![Says::event("SriovNetworkPoolConfig", "default", "astray", r#"Warning WrongNamespace: SriovNetworkPoolConfig default/astray is not acted on: objects of this kind count in namespace sriov-network-operator only; create it there and delete this one"#)],
        ),
        // Frozen, so that no node is disturbed: the policy says it all the same, before any pod can fail.
        (
            vec![
                pool("half", &format!("rdmaMode: exclusive, maxUnavailable: 0, {worker_0}")),
                policy("both", "resourceName: both, numVfs: 2, isRdma: true, nodeSelector: {}, nicSelector: {pfNames: [enp3s0f1]}"),
                network("both", "resourceName: both, metaPlugins: '{\"type\": \"rdma\"}'"),
            ],
            vec![
                Says::condition("SriovNetworkNodePolicy", "sriov-network-operator", "both", "Ready", "False RdmaModeMismatch: its nodes do not have one RDMA mode: worker-0 is exclusive, worker-1 is shared (worker-1 is in no pool); a pod may land on any of them, so select all in one pool or narrow the nodeSelector"),
                Says::condition("SriovNetwork", "default", "both", "Usable", "False RdmaModeMismatch: its rdma plugin needs RDMA mode exclusive, and worker-1 has shared (worker-1 is in no pool); set rdmaMode: exclusive in a pool of these nodes, or take the plugin out"),
                ready("half", "False Paused: 0 of 1 nodes are at their goal; worker-0 waits: pool half is paused by maxUnavailable: 0"),
            ],
        ),
    ]);
}

#[test]
fn a_network_that_cannot_work_says_why() {
    let says = |name, kind, says| Says::condition("SriovNetwork", "default", name, kind, says);
    let ours =
        |name, says| Says::condition("SriovNetwork", "sriov-network-operator", name, "Ready", says);
    cluster().check(&[
        (vec![network("ipam", r#"resourceName: good, ipam: '{type: host-local}'"#)], vec![says("ipam", "Ready", r#"False NetworkAttachmentDefinitionInvalid: ipam is not JSON: key must be a string at line 1 column 2; write for example {"type": "whereabouts"}"#)]),
        (vec![network("array", r#"resourceName: good, metaPlugins: '[{"type": "rdma"}]'"#)], vec![says("array", "Ready", r#"False NetworkAttachmentDefinitionInvalid: metaPlugins is a JSON array; write its elements without the brackets, with commas between them"#)]),
        (vec![network("comma", r#"resourceName: good, metaPlugins: '{"type": "rdma"},'"#)], vec![says("comma", "Ready", r#"False NetworkAttachmentDefinitionInvalid: metaPlugins ends with a comma; take it away"#)]),
        (vec![network("quotes", r#"resourceName: good, metaPlugins: "{'type': 'rdma'}""#)], vec![says("quotes", "Ready", r#"False NetworkAttachmentDefinitionInvalid: metaPlugins is not JSON: key must be a string at line 1 column 2; write " for quotes, not ', for example {"type": "rdma"}"#)]),
        (vec![network("two-names", r#"resourceName: good, metaPlugins: '{"type": "rdma"}', metaPluginsConfig: '{"type": "tuning"}'"#)], vec![says("two-names", "Ready", r#"False NetworkAttachmentDefinitionInvalid: metaPlugins and metaPluginsConfig are the same field and differ; keep one of them"#)]),
        (vec![network("aims", r#"resourceName: good, networkNamespace: kube-system"#)], vec![says("aims", "Ready", r#"False NetworkAttachmentDefinitionInvalid: spec.networkNamespace cannot be set when the resource is not in the operator namespace (sriov-network-operator); take it out, or create the network there"#)]),
        (
            vec![object("SriovNetwork", "sriov-network-operator", "astray", "resourceName: good, networkNamespace: nowhere")],
            vec![ours("astray", r#"False NamespaceNotFound: target namespace "nowhere" does not exist; create it, or correct networkNamespace"#)],
        ),
        (
            vec![
                network("twin", "resourceName: good"),
                object("SriovNetwork", "sriov-network-operator", "twin", "resourceName: good, networkNamespace: default"),
            ],
            vec![
                says("twin", "Ready", "True NetworkReady: NetworkAttachmentDefinition is provisioned and ready"),
                ours("twin", "False NetworkAttachmentDefinitionInvalid: NetworkAttachmentDefinition 'default/twin' already exists and is owned by SriovNetwork.sriovnetwork.openshift.io/default/twin; rename one of the two"),
            ],
        ),
        (vec![network("typo", r#"resourceName: goood"#)], vec![says("typo", "Ready", r#"True NetworkReady: NetworkAttachmentDefinition is provisioned and ready"#), says("typo", "Usable", r#"False ResourceNotOffered: no policy has its resourceName "goood"; create one, or write one of good"#)]),
        (vec![network("same", r#"resourceName: good, ipam: '{"type": "host-local", "subnet": "10.56.0.0/24"}'"#)], vec![says("same", "Ready", r#"True NetworkReady: NetworkAttachmentDefinition is provisioned and ready"#), says("same", "Usable", r#"False AddressRangeShared: ipam host-local gives the same addresses on each of 2 nodes (worker-0, worker-1); use whereabouts or nv-ipam, or one network with a range of its own per node"#)]),
        (vec![network("fixed", r#"resourceName: good, ipam: '{"type": "static", "addresses": [{"address": "10.56.0.7/24"}]}'"#)], vec![says("fixed", "Usable", r#"False AddressRangeShared: ipam static gives the same addresses on each of 2 nodes (worker-0, worker-1); use whereabouts or nv-ipam, or one network with a range of its own per node"#)]),
        (vec![network("moves", r#"resourceName: good, metaPlugins: '{"type": "rdma"}'"#)], vec![says("moves", "Ready", r#"True NetworkReady: NetworkAttachmentDefinition is provisioned and ready"#), says("moves", "Usable", r#"False RdmaModeMismatch: its rdma plugin needs RDMA mode exclusive, and worker-0, worker-1 have shared (worker-0 is in no pool); set rdmaMode: exclusive in a pool of these nodes, or take the plugin out"#)]),
    ]);
}

#[test]
fn a_pod_that_cannot_work_is_told_why() {
    let says = |name, says| Says::event("Pod", "default", name, says);
    cluster().check(&[
        (vec![pod("hungry", "good", "openshift.io/good: '9'")], vec![says("hungry", r#"Warning FailedScheduling: 0/2 nodes are available: 2 Insufficient openshift.io/good."#), Says::condition("Pod", "default", "hungry", "PodScheduled", "False Unschedulable: 0/2 nodes are available: 2 Insufficient openshift.io/good."), says("hungry", r#"Warning NotEnoughDevices: asks for 9 of openshift.io/good and worker-0 has 4 free of 4, worker-1 has 4 free of 4; ask for fewer or raise numVfs in policy good"#)]),
        (vec![pod("empty-handed", "good", "")], vec![says("empty-handed", r#"Warning ResourceNotRequested: its networks need 1 of openshift.io/good and its containers ask for 0; write openshift.io/good: "1" under resources.limits of a container"#), says("empty-handed", r#"Warning FailedCreatePodSandBox: Failed to create pod sandbox: plugin type="multus" failed (add): [default/empty-handed]: error adding container to network "good": plugin type="sriov" failed (add): VF pci addr is required: deviceID is empty; the pod must request the resource that the network is annotated with"#)]),
        (vec![pod("silent", "", "openshift.io/good: '1'")], vec![says("silent", r#"Warning ResourceWithoutNetwork: its containers ask for 1 of openshift.io/good and its networks use 0; name a network of this resource in k8s.v1.cni.cncf.io/networks, or ask for fewer"#)]),
        (vec![pod("lost", "nowhere", "openshift.io/good: '1'")], vec![says("lost", r#"Warning NetworkNotFound: k8s.v1.cni.cncf.io/networks names default/nowhere, and there is no such NetworkAttachmentDefinition; create a network of this name there or correct the annotation"#), says("lost", r#"Warning FailedCreatePodSandBox: Failed to create pod sandbox: plugin type="multus" failed (add): [default/lost]: cannot find a network-attachment-definition (nowhere) in namespace (default)"#)]),
        (vec![pod("typo", "good", "openshift.io/goood: '1'")], vec![says("typo", r#"Warning ResourceNotRequested: its networks need 1 of openshift.io/good and its containers ask for 0; write openshift.io/good: "1" under resources.limits of a container"#), says("typo", r#"Warning ResourceNotOffered: asks for 1 of openshift.io/goood, and no policy has resourceName: goood; create one, or ask for one of openshift.io/good"#)]),
        (vec![pod("garbled", "[{good}]", "openshift.io/good: '1'")], vec![says("garbled", r#"Warning InvalidNetwork: k8s.v1.cni.cncf.io/networks is not a JSON list: key must be a string at line 1 column 3; write for example [{"name": "rdma-network"}]"#), says("garbled", r#"Warning FailedCreatePodSandBox: annotation k8s.v1.cni.cncf.io/networks is not a JSON list: key must be a string at line 1 column 3"#)]),
        (
            vec![
                network("moves", r#"resourceName: good, metaPlugins: '{"type": "rdma"}'"#),
                pod("shared", "moves", "openshift.io/good: '1'"),
            ],
            vec![says("shared", r#"Warning FailedCreatePodSandBox: Failed to create pod sandbox: plugin type="multus" failed (add): [default/shared]: error adding container to network "moves": plugin type="rdma" failed (add): the RDMA subsystem of this node is in mode shared, in which no device can be given to a pod; set rdmaMode: exclusive in the SriovNetworkPoolConfig of this node"#)],
        ),
    ]);
}

/// What a plugin says to this on its standard input.
fn check_plugin(stdin: &str, expected: Expect) {
    let start = Timestamp::UNIX_EPOCH;
    let host = SimHost::new(Machine::small_worker("worker-0", Flavour::Ubuntu, start));
    host.machine().create_namespace("/var/run/netns/cni-7").unwrap();
    let variables = [
        ("CNI_COMMAND", "ADD"),
        ("CNI_CONTAINERID", "7"),
        ("CNI_NETNS", "/var/run/netns/cni-7"),
        ("CNI_IFNAME", "net1"),
        ("CNI_PATH", "/opt/cni/bin"),
    ];
    let environment = variables.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let mut said = String::new();
    for plugin in ["sriov", "rdma"] {
        let reply = cni::call(plugin, &environment, stdin.as_bytes(), &host);
        let answer: Value = serde_json::from_slice(&reply.stdout).unwrap();
        said += &format!("{plugin} {}: {answer}\n", reply.exit);
    }
    expected.assert_eq(&said);
}

#[test]
fn garbage_on_the_stdin_of_a_plugin_is_answered_as_the_cni_specification_has_it() {
    let head = r#"{"cniVersion": "1.0.0", "name": "n", "type": "any", "#;
    check_plugin(
        "",
        expect![[r#"
        sriov 1: {"code":6,"msg":"cannot read the network configuration on stdin: EOF while parsing a value at line 1 column 0"}
        rdma 1: {"code":6,"msg":"cannot read the network configuration on stdin: EOF while parsing a value at line 1 column 0"}
    "#]],
    );
    check_plugin(
        &format!("{head}\"deviceID\": \"0000:"),
        expect![[r#"
        sriov 1: {"code":6,"msg":"cannot read the network configuration on stdin: EOF while parsing a string at line 1 column 70"}
        rdma 1: {"code":6,"msg":"cannot read the network configuration on stdin: EOF while parsing a string at line 1 column 70"}
    "#]],
    );
    check_plugin(
        "[1, 2]",
        expect![[r#"
        sriov 1: {"code":6,"msg":"the network configuration on stdin is not a JSON object"}
        rdma 1: {"code":6,"msg":"the network configuration on stdin is not a JSON object"}
    "#]],
    );
    check_plugin(
        r#"{"cniVersion": "9.9.9", "name": "n", "type": "any"}"#,
        expect![[r#"
        sriov 1: {"code":1,"msg":"cniVersion \"9.9.9\" is not one that this plugin speaks: 0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0"}
        rdma 1: {"code":1,"msg":"cniVersion \"9.9.9\" is not one that this plugin speaks: 0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0"}
    "#]],
    );
    check_plugin(
        &format!("{head}\"deviceID\": 7}}"),
        expect![[r#"
        sriov 1: {"cniVersion":"1.0.0","code":6,"msg":"deviceID must be text, but is 7"}
        rdma 1: {"cniVersion":"1.0.0","code":7,"msg":"network n: rdma is expected to be called as part of a plugin chain, after the plugin that gives the interface; there is no prevResult"}
    "#]],
    );
    check_plugin(
        &format!("{head}\"deviceID\": \"0000:ff:00.1\"}}"),
        expect![[r#"
        sriov 1: {"cniVersion":"1.0.0","code":999,"msg":"there is no PCI device 0000:ff:00.1 on this node"}
        rdma 1: {"cniVersion":"1.0.0","code":7,"msg":"network n: rdma is expected to be called as part of a plugin chain, after the plugin that gives the interface; there is no prevResult"}
    "#]],
    );
}

#[test]
fn a_truncated_offer_changes_nothing_and_the_device_plugin_says_so() {
    let cluster = cluster();
    let turn = cluster.turn();
    let host = cluster.playground.cluster().nodes["worker-0"].kubelet.host.process();
    let plugin = cluster.pod_of("sriov-device-plugin", "worker-0");
    let sentence = format!(
        "the offer in {} is not whole (20 bytes): EOF while parsing a string at line 1 column 20; the last good one stays in force",
        files::OFFER
    );
    let start = Instant::now();
    while !cluster.log(&plugin).contains(&sentence) {
        assert!(start.elapsed() < Duration::from_secs(30), "{}", cluster.log(&plugin));
        // The daemon puts it right as soon as it looks.
        host.replace(files::OFFER, br#"{"version":1,"bootId"#, 0o600).unwrap();
        let node = cluster.get("Node", "", "worker-0").unwrap();
        assert_eq!(node.pointer(GOOD).unwrap(), "4");
    }
    cluster.good_pod_runs(1000);
    while serde_json::from_slice::<Value>(&host.read(files::OFFER).unwrap()).is_err() {
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "the daemon does not write its offer again"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    drop(turn);
}

#[test]
fn a_kubelet_that_restarts_in_the_middle_gets_its_devices_back_and_no_pod_notices() {
    let cluster = cluster();
    let turn = cluster.turn();
    let before = yaml(&pod("before", "good", "openshift.io/good: '1'"));
    let on_worker_0 = |mut pod: Value| {
        pod["spec"]["nodeSelector"]["kubernetes.io/hostname"] = "worker-0".into();
        pod
    };
    let before = on_worker_0(before);
    cluster.apply(&before);
    cluster.until_is("v1", "Pod", "default", "before", "/status/phase", "Running");
    let held = cluster.get("Pod", "default", "before").unwrap();
    // The kubelet goes while the next pod is on its way.
    let meanwhile = on_worker_0(yaml(&pod("meanwhile", "good", "openshift.io/good: '1'")));
    let restart = || {
        let mut machines = cluster.playground.cluster();
        machines.nodes.get_mut("worker-0").unwrap().restart_kubelet = true;
    };
    restart();
    cluster.apply(&meanwhile);
    restart();
    // It may come while no plugin is known, and is then rejected for good as the real kubelet does; its owner would
    // make another.
    let state = cluster.runtime.block_on(until(Duration::from_secs(60), async || {
        let found = cluster.user.get("v1", "Pod", "default", "meanwhile").await.unwrap();
        match text(&found["status"]["phase"]).as_str() {
            phase @ ("Running" | "Failed") => Ok(phase.to_owned()),
            phase => Err(format!("the pod is {phase}")),
        }
    }));
    state.unwrap();
    cluster.until_is("v1", "Node", "", "worker-0", GOOD, "4");
    let now = cluster.get("Pod", "default", "before").unwrap();
    assert_eq!(now["status"]["containerStatuses"], held["status"]["containerStatuses"]);
    let plugin = cluster.pod_of("sriov-device-plugin", "worker-0");
    let registered =
        cluster.log(&plugin).matches("openshift.io/good registered with the kubelet").count();
    assert!(registered >= 2, "{}", cluster.log(&plugin));
    cluster.delete(&before);
    cluster.delete(&meanwhile);
    cluster.good_pod_runs(1001);
    drop(turn);
}
