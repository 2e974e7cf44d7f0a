//! From policies to node states, the ConfigMap of upstream, the node label, and what a policy says of itself.

#![allow(clippy::unwrap_used)] // A test that cannot find its object has failed.

mod fake;

use expect_test::{Expect, expect};
use fake::{Api, Driver, config, node, pool, settings};
use serde_json::{Value, json};

const NODE_STATE: &str = "SriovNetworkNodeState";
const POLICY: &str = "SriovNetworkNodePolicy";

fn policy(name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "sriovnetwork.openshift.io/v1", "kind": POLICY,
        "metadata": { "name": name, "namespace": "sriov-network-operator" }, "spec": spec,
    })
}

/// The policy of the guide, on the card that the guide means.
fn guide() -> Value {
    policy(
        "rdma-policy",
        json!({
            "deviceType": "netdevice", "isRdma": true, "numVfs": 4, "priority": 90,
            "resourceName": "rdma_exclusive_device",
            "nicSelector": { "vendor": "15b3", "deviceID": "1017", "pfName": ["enp3s0f0"] },
            "nodeSelector": { "rdma-capable": "true" },
        }),
    )
}

/// One node whose daemon reported one ConnectX-5, in a pool that wants exclusive mode.
fn cluster() -> (Api, Driver) {
    let mut api = Api::default();
    api.put(config());
    api.put(node("n1"));
    api.put(pool("rdma-workers", json!({ "rdmaMode": "exclusive" })));
    api.put(json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": "supported-nic-ids", "namespace": "sriov-network-operator" },
        "data": { "cx5": "15b3 1017 1018" },
    }));
    let mut driver = Driver::new(&api, settings());
    driver.settle(&mut api);
    api.edit(NODE_STATE, "n1", |state| {
        state["status"]["interfaces"] = json!([{
            "pciAddress": "0000:3b:00.0", "name": "enp3s0f0", "vendor": "15b3", "deviceID": "1017",
            "linkType": "ETH", "totalvfs": 8,
        }]);
    });
    driver.settle(&mut api);
    (api, driver)
}

/// What the node's daemon says once everything is done.
fn at_goal(api: &mut Api) {
    api.edit(NODE_STATE, "n1", |state| {
        state["status"]["syncStatus"] = "Succeeded".into();
        state["status"]["observedGeneration"] = state["metadata"]["generation"].clone();
    });
}

fn quiet(api: &mut Api, driver: &mut Driver) {
    driver.wait(3600);
    assert_eq!(driver.settle(api), "");
    assert_eq!(Driver::at(api, settings(), driver.now).settle(api), "");
}

/// Status, reason and message of a policy's condition.
fn said(api: &Api, name: &str) -> String {
    let condition = &api.get(POLICY, name).unwrap()["status"]["conditions"][0];
    let text = |field: &str| condition[field].as_str().unwrap();
    format!("{} {}: {}", text("status"), text("reason"), text("message"))
}

fn check(text: impl ToString, expected: Expect) {
    expected.assert_eq(&text.to_string());
}

#[test]
fn the_guides_policy_becomes_what_upstream_makes_of_it() {
    let (mut api, mut driver) = cluster();
    api.put(guide());
    check(
        driver.settle(&mut api),
        expect![[r#"
        apply SriovNetworkNodeState sriov-network-operator/n1 {"interfaces":[{"pciAddress":"0000:3b:00.0","numVfs":4,"name":"enp3s0f0","vfGroups":[{"resourceName":"rdma_exclusive_device","deviceType":"netdevice","vfRange":"0-3","policyName":"rdma-policy","isRdma":true}]}],"bridges":{},"system":{"rdmaMode":"exclusive"}}
        patch Node n1 {"metadata":{"labels":{"sriovnetwork.openshift.io/device-plugin":"Enabled"}}}
        apply SriovNetworkNodePolicy sriov-network-operator/rdma-policy status {"matchedNodes":1,"matched":[{"node":"n1","interfaces":["enp3s0f0"]}]} [Ready=False Progressing: 0 of 1 matched nodes are at their goal]
        event SriovNetworkNodePolicy sriov-network-operator/rdma-policy Progressing: 0 of 1 matched nodes are at their goal
        apply ConfigMap sriov-network-operator/device-plugin-config {"n1":"{\"resourceList\":[{\"resourceName\":\"rdma_exclusive_device\",\"selectors\":{\"vendors\":[\"15b3\"],\"devices\":[\"1018\"],\"pfNames\":[\"enp3s0f0\"],\"IsRdma\":true,\"NeedVhostNet\":false},\"SelectorObj\":null}]}"}"#]],
    );
    let map = api.get("ConfigMap", "device-plugin-config").unwrap();
    check(
        map["data"]["n1"].as_str().unwrap(),
        expect![[
            r#"{"resourceList":[{"resourceName":"rdma_exclusive_device","selectors":{"vendors":["15b3"],"devices":["1018"],"pfNames":["enp3s0f0"],"IsRdma":true,"NeedVhostNet":false},"SelectorObj":null}]}"#
        ]],
    );
    at_goal(&mut api);
    check(
        driver.settle(&mut api),
        expect![[r#"
        update SriovNetworkPoolConfig sriov-network-operator/rdma-workers status {"readyNodes":1,"nodes":1} [Ready=True NodesReady: 1 of 1 nodes are at their goal]
        event SriovNetworkPoolConfig sriov-network-operator/rdma-workers NodesReady: 1 of 1 nodes are at their goal
        apply SriovNetworkNodePolicy sriov-network-operator/rdma-policy status {"matchedNodes":1,"matched":[{"node":"n1","interfaces":["enp3s0f0"]}]} [Ready=True NodesReady: 1 of 1 matched nodes are at their goal]
        event SriovNetworkNodePolicy sriov-network-operator/rdma-policy NodesReady: 1 of 1 matched nodes are at their goal"#]],
    );
    quiet(&mut api, &mut driver);
}

#[test]
fn a_changed_policy_is_not_ready_by_what_a_node_says_of_its_order_before() {
    let (mut api, mut driver) = cluster();
    api.put(guide());
    driver.settle(&mut api);
    at_goal(&mut api);
    driver.settle(&mut api);
    // The order cannot be written yet, and the node is at the goal of the one before.
    api.forbid.insert(NODE_STATE.to_owned(), "not now".to_owned());
    api.edit(POLICY, "rdma-policy", |policy| policy["spec"]["numVfs"] = 8.into());
    driver.settle(&mut api);
    check(
        said(&api, "rdma-policy"),
        expect!["False Progressing: 0 of 1 matched nodes are at their goal"],
    );
    api.forbid.clear();
    driver.wait(60);
    driver.settle(&mut api);
    at_goal(&mut api);
    driver.settle(&mut api);
    check(
        said(&api, "rdma-policy"),
        expect!["True NodesReady: 1 of 1 matched nodes are at their goal"],
    );
    quiet(&mut api, &mut driver);
}

#[test]
fn a_policy_that_goes_takes_its_vfs_along() {
    let (mut api, mut driver) = cluster();
    api.put(guide());
    driver.settle(&mut api);
    let key = api.objects.keys().find(|key| key.kind == POLICY).cloned();
    api.remove(&key.unwrap());
    check(
        driver.settle(&mut api),
        expect![[r#"
        apply SriovNetworkNodeState sriov-network-operator/n1 {"bridges":{},"system":{"rdmaMode":"exclusive"},"interfaces":[]}
        patch Node n1 {"metadata":{"labels":{"sriovnetwork.openshift.io/device-plugin":"Disabled"}}}
        apply ConfigMap sriov-network-operator/device-plugin-config {"n1":"{\"resourceList\":null}"}"#]],
    );
    quiet(&mut api, &mut driver);
}

#[test]
fn a_policy_that_is_misspelt_later_keeps_what_it_has() {
    let (mut api, mut driver) = cluster();
    api.put(guide());
    driver.settle(&mut api);
    let before = api.get(NODE_STATE, "n1").unwrap()["spec"].clone();
    api.edit(POLICY, "rdma-policy", |policy| policy["spec"]["deviceType"] = "netdevise".into());
    driver.settle(&mut api);
    check(
        said(&api, "rdma-policy"),
        expect![[
            r#"False InvalidPolicy: deviceType "netdevise" is unknown; write netdevice or vfio-pci"#
        ]],
    );
    // One that cannot even be read.
    api.edit(POLICY, "rdma-policy", |policy| policy["spec"]["numVfs"] = "four".into());
    driver.settle(&mut api);
    check(
        said(&api, "rdma-policy"),
        expect![[
            r#"False InvalidPolicy: SriovNetworkNodePolicy rdma-policy cannot be read: invalid type: string "four", expected i64"#
        ]],
    );
    assert_eq!(api.get(NODE_STATE, "n1").unwrap()["spec"], before);
    let label = &api.get("Node", "n1").unwrap()["metadata"]["labels"];
    assert_eq!(label["sriovnetwork.openshift.io/device-plugin"], "Enabled");
    quiet(&mut api, &mut driver);
}

#[test]
fn a_policy_says_what_it_nearly_matched() {
    let (mut api, mut driver) = cluster();
    let mut near = guide();
    near["spec"]["nicSelector"] = json!({ "vendor": "15b3", "pfNames": ["enp3s0f1"] });
    api.put(near);
    driver.settle(&mut api);
    check(
        said(&api, "rdma-policy"),
        expect![
            "False NothingSelected: its nicSelector takes no PF of the 1 selected nodes; nearest: enp3s0f0 of n1: its name is enp3s0f0, the policy asks for enp3s0f1"
        ],
    );
    let status = &api.get(POLICY, "rdma-policy").unwrap()["status"];
    check(
        &status["nearMisses"],
        expect![[
            r#"[{"node":"n1","interface":"enp3s0f0","because":"its name is enp3s0f0, the policy asks for enp3s0f1"}]"#
        ]],
    );
}

#[test]
fn one_bad_policy_stops_no_good_one() {
    let (mut api, mut driver) = cluster();
    api.put(policy("a-bad", json!({ "resourceName": "", "numVfs": -1, "nicSelector": {} })));
    api.put(guide());
    driver.settle(&mut api);
    check(
        said(&api, "a-bad"),
        expect![
            "False InvalidPolicy: numVfs -1 is not a count; write 0 or more; resourceName is empty; pods ask for a VF by this name; nicSelector is empty and would match nothing; name at least one of vendor, deviceID, pfNames, rootDevices, netFilter"
        ],
    );
    check(
        said(&api, "rdma-policy"),
        expect!["False Progressing: 0 of 1 matched nodes are at their goal"],
    );
    check(&api.get(NODE_STATE, "n1").unwrap()["spec"]["interfaces"][0]["numVfs"], expect![["4"]]);
}

#[test]
fn the_label_and_the_state_follow_the_managed_nodes() {
    let (mut api, mut driver) = cluster();
    let label = |api: &Api| {
        api.get("Node", "n1").unwrap()["metadata"]["labels"]
            ["sriovnetwork.openshift.io/device-plugin"].clone()
    };
    assert_eq!(label(&api), "Disabled");
    api.put(guide());
    driver.settle(&mut api);
    assert_eq!(label(&api), "Enabled");
    api.edit("Node", "n1", |node| {
        node["metadata"]["labels"]
            .as_object_mut()
            .unwrap()
            .remove("node-role.kubernetes.io/worker");
    });
    driver.settle(&mut api);
    assert_eq!(label(&api), Value::Null);
}

/// The node's one card is a leg of the bond by which the node lives, and a driver that resets it for VFs.
fn lives_by(api: &mut Api, driver_name: &str) {
    api.edit(NODE_STATE, "n1", |state| {
        let card = &mut state["status"]["interfaces"][0];
        card["driver"] = driver_name.into();
        card["eSwitchMode"] = "legacy".into();
        card["lifelines"] = json!([
            { "carries": "DefaultRoute", "over": ["enp3s0f0", "bond0"] },
            { "carries": "NetworkMount", "detail": "nfs4 from 10.0.0.5", "over": ["enp3s0f0", "bond0"] },
        ]);
    });
}

#[test]
fn a_policy_that_would_cut_a_node_off_says_so_with_the_way_out() {
    let (mut api, mut driver) = cluster();
    lives_by(&mut api, "i40e");
    let broad = json!({ "resourceName": "all", "numVfs": 4, "nodeSelector": {}, "nicSelector": { "vendor": "15b3" } });
    api.put(policy("broad", broad.clone()));
    driver.settle(&mut api);
    check(
        said(&api, "broad"),
        expect![
            "False Lifeline: numVfs 4 on enp3s0f0 is refused: i40e resets the PF for it, and the host has its default route, a mount (nfs4 from 10.0.0.5) over enp3s0f0, bond0; on n1; write allowLifeline: true if that may be, or name the PFs that you mean in pfNames: it selects by vendor only"
        ],
    );
    // By name, so that the person has meant this card.
    api.edit(POLICY, "broad", |policy| {
        policy["spec"]["nicSelector"] = json!({ "pfNames": ["enp3s0f0"] });
        policy["spec"]["eSwitchMode"] = "switchdev".into();
    });
    driver.settle(&mut api);
    check(
        said(&api, "broad"),
        expect![
            "False Lifeline: eSwitchMode switchdev on enp3s0f0 is refused: i40e sets the PF's own interface up anew for it, and the host has its default route, a mount (nfs4 from 10.0.0.5) over enp3s0f0, bond0; on n1; write allowLifeline: true if that may be, or take enp3s0f0 out of nicSelector"
        ],
    );
    api.edit(POLICY, "broad", |policy| policy["spec"]["allowLifeline"] = true.into());
    driver.settle(&mut api);
    check(
        said(&api, "broad"),
        expect!["False Progressing: 0 of 1 matched nodes are at their goal"],
    );
    quiet(&mut api, &mut driver);
}

/// The host's default route goes over VF 1 itself; the number of VFs stays.
#[test]
fn a_policy_that_takes_the_vf_from_the_host_by_which_it_lives_says_so() {
    let (mut api, mut driver) = cluster();
    api.edit(NODE_STATE, "n1", |state| {
        let card = &mut state["status"]["interfaces"][0];
        card["driver"] = "mlx5_core".into();
        card["mtu"] = 1500.into();
        card["numVfs"] = 2.into();
        card["lifelines"] = json!([{ "carries": "DefaultRoute", "over": ["enp3s0f0v1"] }]);
        let vf = |index: u32| {
            json!({
                "pciAddress": format!("0000:03:00.{}", index + 2), "vfID": index,
                "name": format!("enp3s0f0v{index}"), "driver": "mlx5_core", "mtu": 1500,
            })
        };
        card["Vfs"] = json!([vf(0), vf(1)]);
    });
    let spec = |kind: &str, mtu: u32| {
        json!({
            "resourceName": "all", "numVfs": 2, "nodeSelector": {}, "deviceType": kind, "mtu": mtu,
            "nicSelector": { "pfNames": ["enp3s0f0"] },
        })
    };
    api.put(policy("by-name", spec("vfio-pci", 1500)));
    driver.settle(&mut api);
    check(
        said(&api, "by-name"),
        expect![
            "False Lifeline: deviceType vfio-pci of VF 1 on enp3s0f0 is refused: it takes a VF (enp3s0f0v1) from the host, and the host has its default route over enp3s0f0v1; on n1; write allowLifeline: true if that may be, or take enp3s0f0 out of nicSelector"
        ],
    );
    api.edit(POLICY, "by-name", |policy| policy["spec"] = spec("netdevice", 1400));
    driver.settle(&mut api);
    check(
        said(&api, "by-name"),
        expect![
            "False Lifeline: mtu 1400 of VF 1 on enp3s0f0 is refused: it takes a VF (enp3s0f0v1) from the host, and the host has its default route over enp3s0f0v1; on n1; write allowLifeline: true if that may be, or take enp3s0f0 out of nicSelector"
        ],
    );
    api.edit(POLICY, "by-name", |policy| policy["spec"] = spec("netdevice", 1500));
    driver.settle(&mut api);
    check(
        said(&api, "by-name"),
        expect!["False Progressing: 0 of 1 matched nodes are at their goal"],
    );
}

#[test]
fn a_policy_that_takes_vfs_of_a_nodes_lifeline_without_naming_it_is_told_and_ready_all_the_same() {
    let (mut api, mut driver) = cluster();
    lives_by(&mut api, "mlx5_core");
    let broad = json!({ "resourceName": "all", "numVfs": 4, "nodeSelector": {}, "nicSelector": { "vendor": "15b3", "deviceID": "1017" } });
    api.put(policy("broad", broad));
    driver.settle(&mut api);
    at_goal(&mut api);
    driver.settle(&mut api);
    check(
        said(&api, "broad"),
        expect![
            "True NodesReady: 1 of 1 matched nodes are at their goal; it selects by vendor and deviceID only, and so it takes PFs by which hosts live: enp3s0f0 on n1 (the host has its default route, a mount (nfs4 from 10.0.0.5) over enp3s0f0, bond0); name the PFs that you mean in pfNames"
        ],
    );
    api.edit(POLICY, "broad", |policy| {
        policy["spec"]["nicSelector"] = json!({ "pfNames": ["enp3s0f0"] });
    });
    driver.settle(&mut api);
    at_goal(&mut api);
    driver.settle(&mut api);
    check(said(&api, "broad"), expect!["True NodesReady: 1 of 1 matched nodes are at their goal"]);
}

#[test]
fn a_card_that_is_not_on_the_list_of_supported_ones_is_used_and_policy_and_node_state_warn_of_it() {
    let (mut api, mut driver) = cluster();
    api.edit(NODE_STATE, "n1", |state| {
        state["status"]["interfaces"][0]["deviceID"] = "1021".into()
    });
    let nics = json!({ "vendor": "15b3", "pfNames": ["enp3s0f0"] });
    let spec =
        json!({ "resourceName": "all", "numVfs": 4, "nodeSelector": {}, "nicSelector": nics });
    api.put(policy("new-card", spec));
    driver.settle(&mut api);
    let state = api.get(NODE_STATE, "n1").unwrap();
    assert_eq!(state["spec"]["interfaces"][0]["numVfs"], 4);
    let tested = |api: &Api| {
        let state = api.get(NODE_STATE, "n1").unwrap();
        let conditions = state["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let found = conditions.iter().find(|condition| condition["type"] == "CardsTested");
        let text = |found: &Value, field: &str| found[field].as_str().unwrap().to_owned();
        found.map_or("nothing".to_owned(), |found| {
            ["status", "reason", "message"].map(|field| text(found, field)).join(" ")
        })
    };
    check(
        tested(&api),
        expect![
            "False NotTested used like any other card, though the ConfigMap supported-nic-ids does not name it: enp3s0f0 (15b3:1021); once you have seen that it works, add a line with vendor, PF id and VF id there"
        ],
    );
    check(
        said(&api, "new-card"),
        expect![
            "False Progressing: 0 of 1 matched nodes are at their goal; used like any other card, though the ConfigMap supported-nic-ids does not name it: enp3s0f0 (15b3:1021) on n1; once you have seen that it works, add a line with vendor, PF id and VF id there"
        ],
    );
    quiet(&mut api, &mut driver);
    // Somebody has seen that it works.
    api.edit("ConfigMap", "supported-nic-ids", |map| map["data"]["cx7"] = "15B3 1021 101e".into());
    driver.settle(&mut api);
    check(
        tested(&api),
        expect![
            "True AsExpected the ConfigMap supported-nic-ids names every card that is configured"
        ],
    );
    check(
        said(&api, "new-card"),
        expect!["False Progressing: 0 of 1 matched nodes are at their goal"],
    );
    // Where there is no list, nothing is known to be untested.
    api.edit("ConfigMap", "supported-nic-ids", |map| map["data"] = json!({}));
    driver.settle(&mut api);
    check(
        tested(&api),
        expect![
            "True AsExpected the ConfigMap supported-nic-ids names every card that is configured"
        ],
    );
    quiet(&mut api, &mut driver);
}
