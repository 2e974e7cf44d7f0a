//! What the guide made is taken away in every order, and every node is again as it was: VFs gone, RDMA mode back, files
//! as before, nothing left that waits.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use api::wire::{Method, ObjectKey, PatchType, Request};
use api::{annotation, label, names};
use host::Host;
use playground::demo::Manifests;
use playground::simulate::Script;
use playground::store::Store;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// How much time passes between two deletions: none at all, some of what they cause, or all of it.
const PAUSES: [u64; 3] = [0, 20, 1200];

#[test]
fn the_guides_objects_go_in_any_order_and_every_node_is_as_it_was() {
    for (number, order) in orders(&["pool", "policy", "network", "pod"]).into_iter().enumerate() {
        check("default", &order, PAUSES[number % PAUSES.len()]);
    }
}

#[test]
fn a_namespace_takes_network_and_pod_with_it_whenever_it_goes() {
    for (number, order) in orders(&["pool", "policy", "namespace"]).into_iter().enumerate() {
        check("training", &order, PAUSES[number % PAUSES.len()]);
    }
}

fn check(namespace: &str, order: &[&str], pause: u64) {
    let result = tell(namespace, order, pause);
    assert!(
        result.is_ok(),
        "deleting {}, {pause} s apart: {}",
        order.join(", "),
        result.unwrap_err()
    );
}

fn tell(namespace: &str, order: &[&str], pause: u64) -> Result<(), String> {
    let mut script = Script::start(2, one_at_a_time)?;
    label_nodes(&mut script);
    let objects = guide(namespace);
    if namespace != "default" {
        create(&mut script, &objects["namespace"]);
    }
    script.rest()?;
    let before = nodes(&script);
    // As the guide does it: the nodes first, since a drain takes a pod without a controller for good.
    for step in [["pool", "policy"], ["network", "pod"]] {
        step.iter().for_each(|name| create(&mut script, &objects[*name]));
        script.rest()?;
    }
    stands(&script, namespace)?;
    for name in order {
        delete(&mut script, &objects[*name])?;
        script.pass(Duration::from_secs(pause))?;
    }
    script.rest()?;
    for (name, object) in &objects {
        let kept = *name == "namespace" && namespace == "default";
        if !kept && script.store().object(&ObjectKey::of(object)).is_some() {
            return Err(format!("{} is still there", ObjectKey::of(object)));
        }
    }
    nothing_is_left(script.store())?;
    let after = nodes(&script);
    match before == after {
        true => Ok(()),
        false => Err(format!("before:\n{before:#?}\nafter:\n{after:#?}")),
    }
}

/// All orders of these words.
fn orders<'a>(words: &[&'a str]) -> Vec<Vec<&'a str>> {
    if words.is_empty() {
        return vec![vec![]];
    }
    let mut all = Vec::new();
    for (index, first) in words.iter().enumerate() {
        let mut rest = words.to_vec();
        rest.remove(index);
        all.extend(orders(&rest).into_iter().map(|mut tail| {
            tail.insert(0, *first);
            tail
        }));
    }
    all
}

/// The guide's objects by name, network and pod in this namespace.
fn guide(namespace: &str) -> BTreeMap<&'static str, Value> {
    let Manifests { pool, mut policy, mut network, mut pod } = Manifests::read(None).unwrap();
    if namespace != "default" {
        policy["spec"]["taintUntilReady"] = true.into();
    }
    network["metadata"]["namespace"] = namespace.into();
    pod["metadata"]["namespace"] = namespace.into();
    let space =
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace } });
    [("pool", pool), ("policy", policy), ("network", network), ("pod", pod), ("namespace", space)]
        .into()
}

fn create(script: &mut Script, object: &Value) {
    let path = ObjectKey::of(object).collection_path();
    let request = Request::new(Method::Post, path)
        .with_query("fieldValidation", "Strict")
        .with_body(object.clone());
    let response = script.send(&request);
    assert!(response.status < 300, "{}", response.body);
}

/// What is gone already needs no deletion: a drain may have taken the pod.
fn delete(script: &mut Script, object: &Value) -> Result<(), String> {
    let response = script.send(&Request::new(Method::Delete, ObjectKey::of(object).path()));
    match response.status {
        200..300 | 404 => Ok(()),
        _ => Err(format!("cannot delete {}: {}", ObjectKey::of(object), response.body)),
    }
}

fn label_nodes(script: &mut Script) {
    let names: Vec<String> = script.cluster().nodes.keys().cloned().collect();
    for name in names {
        let patch = json!({ "metadata": { "labels": { "rdma-capable": "true" } } });
        let path = format!("/api/v1/nodes/{name}");
        let request = Request::new(Method::Patch(PatchType::Merge), path).with_body(patch);
        assert_eq!(script.send(&request).status, 200);
    }
}

/// The guide's pool lets one node at a time be disturbed, on the way there and on the way back; so does having no pool.
fn one_at_a_time(store: &Store) -> Result<(), String> {
    let progress = |state: &Value| {
        let found = state["metadata"]["annotations"][annotation::CURRENT_STATE].as_str();
        found.is_some_and(|progress| progress != annotation::IDLE)
    };
    let states = store.objects(names::API_VERSION, names::NODE_STATE);
    match states.filter(|state| progress(state)).count() {
        0 | 1 => Ok(()),
        count => Err(format!("{count} nodes are drained at a time")),
    }
}

/// The guide worked: exclusive mode, four VFs, and the pod runs.
fn stands(script: &Script, namespace: &str) -> Result<(), String> {
    for (name, slot) in &script.cluster().nodes {
        let host = &slot.kubelet.host;
        let (mode, vfs) = (host.rdma_mode().unwrap().to_string(), vfs(host));
        if (mode.as_str(), vfs.as_str()) != ("exclusive", "4") {
            return Err(format!(
                "{name} is in {mode} mode with {vfs} VFs before anything is deleted"
            ));
        }
    }
    let pod = script.store().object(&ObjectKey::new("v1", "Pod", namespace, "rdma-app"));
    match pod.map(|pod| pod["status"]["phase"].clone()) {
        Some(phase) if phase == "Running" => Ok(()),
        other => Err(format!("the pod is {other:?} before anything is deleted")),
    }
}

fn vfs(host: &host::sim::SimHost) -> String {
    let count = host.read("/sys/class/net/enp3s0f0/device/sriov_numvfs").unwrap();
    String::from_utf8(count).unwrap().trim().to_owned()
}

/// Each node as it matters to the next who uses it: the machine, and what the API says of it.
fn nodes(script: &Script) -> BTreeMap<String, Vec<String>> {
    let node = |name: &String, slot: &playground::cluster::power::NodeSlot| {
        let host = &slot.kubelet.host;
        let list = |directory: &str| host.list(directory).unwrap_or_default().join(" ");
        let read = |path: &str| String::from_utf8(host.read(path).unwrap_or_default()).unwrap();
        let object = script.store().object(&ObjectKey::new("v1", "Node", "", name)).unwrap();
        let state = ObjectKey::new(names::API_VERSION, names::NODE_STATE, names::NAMESPACE, name);
        let state = script.store().object(&state).unwrap();
        vec![
            format!("mode {}", host.rdma_mode().unwrap()),
            format!("vfs {}", vfs(host)),
            format!("modprobe.d {}", list("/etc/modprobe.d")),
            format!("command line {}", read("/proc/cmdline").trim()),
            format!("netdevs {}", list("/sys/class/net")),
            format!("rdma {}", list("/sys/class/infiniband")),
            format!("cdi {}", list(api::files::CDI)),
            format!("cordon {}", object["spec"]["unschedulable"]),
            format!("taints {}", object["spec"]["taints"]),
            format!("request {}", object["metadata"]["annotations"][annotation::NODE_STATE]),
            format!("label {}", object["metadata"]["labels"][label::DEVICE_PLUGIN]),
            format!("order {}", order(&state["spec"])),
            format!("sync {}", state["status"]["syncStatus"]),
            format!("blockers {}", state["status"]["blockers"]),
            format!("holders {}", state["status"]["holders"]),
        ]
    };
    let slots = script.cluster().nodes.iter();
    slots.map(|(name, slot)| (name.clone(), node(name, slot))).collect()
}

/// The order without lists and groups that are empty, which ask for as little as none.
fn order(spec: &Value) -> String {
    let is_empty = |value: &Value| match value {
        Value::Array(list) => list.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    };
    let fields = spec.as_object().unwrap().iter().filter(|(_, value)| !is_empty(value));
    fields.map(|(name, value)| format!("{name}: {value}; ")).collect()
}

/// No object of the guide's kinds, none made of them, and none that waits for a finalizer.
fn nothing_is_left(store: &Store) -> Result<(), String> {
    let kinds = [
        (names::API_VERSION, names::POOL),
        (names::API_VERSION, names::POLICY),
        (names::API_VERSION, "SriovNetwork"),
        (names::NAD_API_VERSION, names::NETWORK_ATTACHMENT),
    ];
    for (version, kind) in kinds {
        if let Some(object) = store.objects(version, kind).next() {
            return Err(format!("{} is left over", ObjectKey::of(object)));
        }
    }
    for (version, kind) in
        [("v1", "Pod"), ("v1", "Namespace"), (names::API_VERSION, names::NODE_STATE)]
    {
        let waits = |object: &Value| !object["metadata"]["deletionTimestamp"].is_null();
        if let Some(object) = store.objects(version, kind).find(|object| waits(object)) {
            let finalizers = &object["metadata"]["finalizers"];
            return Err(format!("{} waits for {finalizers}", ObjectKey::of(object)));
        }
    }
    Ok(())
}
