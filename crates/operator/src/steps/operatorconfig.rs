//! SriovOperatorConfig/default: deploys the two DaemonSets of the node side, and says how that stands.
//!
//! The templates are in `deploy/manifests`. What a DaemonSet's pods do is the node's matter.

use crate::conditions::{self, Verdict};
use crate::kinds;
use crate::objects::DaemonSet;
use crate::queue::Key;
use crate::settings::Settings;
use crate::world::World;
use api::operatorconfig::{OperatorConfigSpec, SriovOperatorConfig};
use api::wire::{Event, ObjectKey, Outcome, Write};
use api::{Timestamp, label, names};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::LazyLock;

static CONFIG_DAEMON: Template =
    LazyLock::new(|| template(include_str!("../../../../deploy/manifests/config-daemon.yaml")));
static DEVICE_PLUGIN: Template =
    LazyLock::new(|| template(include_str!("../../../../deploy/manifests/device-plugin.yaml")));

/// A DaemonSet with placeholders; the text is the program's own, so that it is read once.
type Template = LazyLock<Result<Value, String>>;

struct Observed<'a> {
    world: &'a World,
    config: &'a SriovOperatorConfig,
    /// The refusal of a DaemonSet at the last try.
    refused: Option<String>,
}

fn observe(world: &World) -> Option<Observed<'_>> {
    let config = world.config.as_ref()?;
    let answers = world.answers(&Key::OperatorConfig).iter();
    let refused = answers
        .filter(|answered| answered.target.kind == kinds::DAEMON_SET)
        .map(|answered| format!("cannot apply {}: {}", answered.target, answered.answer))
        .next();
    Some(Observed { world, config, refused })
}

pub fn reconcile(world: &World, now: Timestamp) -> Outcome {
    let Some(seen) = observe(world) else { return no_config(world, now) };
    if seen.config.metadata.deletion_timestamp.is_some() {
        return release(seen.config);
    }
    let sets = daemon_sets(&world.settings, seen.config);
    let verdict = judge(&seen, &sets);
    commit(&seen, sets.into(), &verdict, now)
}

/// Upstream waits in silence; we say the one line that helps.
fn no_config(world: &World, now: Timestamp) -> Outcome {
    let namespace = &world.settings.namespace;
    let line = json!({
        "apiVersion": names::API_VERSION, "kind": names::OPERATOR_CONFIG,
        "metadata": { "name": names::DEFAULT_CONFIG, "namespace": namespace },
    });
    let event = Event {
        regarding: ObjectKey::new("apps/v1", "Deployment", namespace, names::OPERATOR),
        uid: String::new(),
        warning: true,
        reason: "NoOperatorConfig".to_owned(),
        message: format!(
            "nothing is deployed: namespace {namespace} has no SriovOperatorConfig {}; run: \
             echo '{line}' | kubectl apply -f -",
            names::DEFAULT_CONFIG
        ),
        component: names::OPERATOR,
        at: now,
    };
    Outcome { writes: vec![Write::Event(event)], look_again: None }
}

/// Upstream's finalizer guards its webhook configurations. Ours need no guard, so the object may go.
fn release(config: &SriovOperatorConfig) -> Outcome {
    let finalizers = &config.metadata.finalizers;
    if !finalizers.iter().any(|name| name == names::CONFIG_FINALIZER) {
        return Outcome::default();
    }
    let rest: Vec<_> = finalizers.iter().filter(|name| *name != names::CONFIG_FINALIZER).collect();
    let patch = Write::Patch {
        key: key(config),
        patch_type: api::wire::PatchType::Merge,
        patch: json!({ "metadata": {
            "resourceVersion": config.metadata.resource_version, "finalizers": rest,
        } }),
        subresource: "",
    };
    Outcome { writes: vec![patch], look_again: None }
}

fn judge(seen: &Observed, sets: &[Result<Value, String>]) -> Verdict {
    let broken = sets.iter().find_map(|set| set.as_ref().err());
    let problem = seen.world.problem(
        names::OPERATOR_CONFIG,
        &seen.config.metadata.namespace,
        &seen.config.metadata.name,
    );
    match (broken, problem, &seen.refused) {
        (Some(message), _, _) | (_, _, Some(message)) => {
            Verdict::not_ready("OperatorConfigSyncFailed", message)
        }
        (_, Some(problem), _) => Verdict::not_ready("OperatorConfigSyncFailed", &problem.message),
        (None, None, None) => {
            let text = "SriovOperatorConfig reconciled successfully".to_owned();
            let idle = without_effect(&seen.config.spec);
            let note = (!idle.is_empty())
                .then(|| format!("without effect in this version: {}", idle.join(", ")));
            let all: Vec<String> = [text].into_iter().chain(note).collect();
            Verdict::ready("OperatorConfigReady", all.join("; "))
        }
    }
}

/// Switches that are on and that nothing of ours reads yet; upstream knows them.
fn without_effect(spec: &OperatorConfigSpec) -> Vec<String> {
    let switches = [
        ("enableInjector", spec.enable_injector),
        ("enableOperatorWebhook", spec.enable_operator_webhook),
        ("enableOvsOffload", spec.enable_ovs_offload),
        ("disablePlugins", !spec.disable_plugins.is_empty()),
    ];
    let on = switches.iter().filter(|(_, on)| *on).map(|(name, _)| (*name).to_owned());
    let gates =
        spec.feature_gates.iter().filter(|(gate, on)| **on && *gate != names::MODE_RELOAD_GATE);
    on.chain(gates.map(|(gate, _)| format!("featureGates.{gate}"))).collect()
}

fn commit(
    seen: &Observed,
    sets: Vec<Result<Value, String>>,
    verdict: &Verdict,
    now: Timestamp,
) -> Outcome {
    let config = seen.config;
    let mut status = config.status.clone();
    let generation = config.metadata.generation;
    let turned = conditions::set(&mut status.conditions, verdict, generation, now);
    let applies = sets.into_iter().flatten().filter(|set| {
        let name = set["metadata"]["name"].as_str().unwrap_or_default();
        differs(set, seen.world.daemon_sets.get(name))
    });
    let mut writes: Vec<Write> =
        applies.map(|object| Write::Apply { object, subresource: "" }).collect();
    // A refusal is said before the next try, which would end the step.
    let at = if seen.refused.is_some() { 0 } else { writes.len() };
    if status != config.status {
        writes.insert(at, crate::steps::status_of_config(config, &status));
        if turned {
            let uid = &config.metadata.uid;
            writes.insert(at + 1, conditions::event(key(config), uid, verdict, now));
        }
    }
    Outcome { writes, look_again: None }
}

fn key(config: &SriovOperatorConfig) -> ObjectKey {
    let metadata = &config.metadata;
    ObjectKey::new(names::API_VERSION, names::OPERATOR_CONFIG, &metadata.namespace, &metadata.name)
}

/// Text of the template that a live DaemonSet was applied from: finds what was taken *out* of ours, which comparing
/// what is in ours cannot.
const APPLIED: &str = "ironrail.dev/applied";

/// The two DaemonSets as they are to be.
fn daemon_sets(settings: &Settings, config: &SriovOperatorConfig) -> [Result<Value, String>; 2] {
    let spec = &config.spec;
    let linux = BTreeMap::from([(label::OS.to_owned(), "linux".to_owned())]);
    let chosen = &spec.config_daemon_node_selector;
    let daemon_nodes = managed_nodes(config);
    let mut plugin_nodes = if chosen.is_empty() { linux } else { chosen.clone() };
    plugin_nodes.insert(label::DEVICE_PLUGIN.to_owned(), label::ENABLED.to_owned());

    let daemon = fill(&CONFIG_DAEMON, settings).map(|mut set| {
        let container = &mut set["spec"]["template"]["spec"]["containers"][0];
        argue(container, log_level(spec.log_level));
        if let Some(environment) = container["env"].as_array_mut() {
            if settings.external_drainer {
                environment.push(json!({ "name": "USE_EXTERNAL_DRAINER", "value": "true" }));
            }
            let given = spec.config_daemon_env_vars.iter();
            environment.extend(given.map(|(name, value)| json!({ "name": name, "value": value })));
        }
        placed(set, settings, config, &daemon_nodes)
    });
    let plugin = fill(&DEVICE_PLUGIN, settings).map(|mut set| {
        let container = &mut set["spec"]["template"]["spec"]["containers"][0];
        argue(container, log_level(spec.log_level));
        // CDI is the default: device nodes change when an RDMA device moves. Only a written false turns it off.
        argue(container, (spec.use_cdi == Some(false)).then_some("--no-cdi"));
        placed(set, settings, config, &plugin_nodes)
    });
    [daemon, plugin]
}

fn argue(container: &mut Value, argument: Option<&str>) {
    if let (Some(command), Some(argument)) = (container["command"].as_array_mut(), argument) {
        command.push(argument.into());
    }
}

/// Upstream's 0 to 2.
fn log_level(level: i64) -> Option<&'static str> {
    match level {
        ..=0 => None,
        1 => Some("--log-level=debug"),
        2.. => Some("--log-level=trace"),
    }
}

/// Labels of the nodes that are managed.
pub fn managed_nodes(config: &SriovOperatorConfig) -> BTreeMap<String, String> {
    let chosen = &config.spec.config_daemon_node_selector;
    match chosen.is_empty() {
        false => chosen.clone(),
        true => BTreeMap::from([
            (label::WORKER.to_owned(), String::new()),
            (label::OS.to_owned(), "linux".to_owned()),
        ]),
    }
}

/// What both DaemonSets get: namespace, owner, nodes, pull secrets, and the mark of what they were applied from.
fn placed(
    mut set: Value,
    settings: &Settings,
    config: &SriovOperatorConfig,
    nodes: &BTreeMap<String, String>,
) -> Value {
    set["metadata"]["namespace"] = settings.namespace.as_str().into();
    set["metadata"]["ownerReferences"] = json!([super::owner(config)]);
    let pod = &mut set["spec"]["template"]["spec"];
    pod["nodeSelector"] = json!(nodes);
    if !settings.image_pull_secrets.is_empty() {
        let names = settings.image_pull_secrets.iter().map(|name| json!({ "name": name }));
        pod["imagePullSecrets"] = names.collect();
    }
    let mark = fingerprint(&set.to_string());
    set["metadata"]["annotations"] = json!({ APPLIED: mark });
    set
}

fn template(text: &str) -> Result<Value, String> {
    serde_saphyr::from_str(text)
        .map_err(|error| format!("the operator's own manifest cannot be read: {error}"))
}

/// A template with its placeholders filled in.
fn fill(template: &Template, settings: &Settings) -> Result<Value, String> {
    let mut set = Result::clone(template)?;
    let values = BTreeMap::from([
        ("${DAEMON_IMAGE}", &settings.daemon_image),
        ("${DEVICE_PLUGIN_IMAGE}", &settings.device_plugin_image),
        ("${RESOURCE_PREFIX}", &settings.resource_prefix),
        ("${CLUSTER_TYPE}", &settings.cluster_type),
        ("${CNI_BIN_PATH}", &settings.cni_bin_path),
        ("${KUBELET_ROOT_DIR}", &settings.kubelet_root),
    ]);
    replace(&mut set, &values)?;
    Ok(set)
}

fn replace(value: &mut Value, values: &BTreeMap<&str, &String>) -> Result<(), String> {
    match value {
        Value::String(text) if text.starts_with("${") => match values.get(text.as_str()) {
            Some(found) if found.is_empty() => {
                let variable = match text.as_str() {
                    "${DAEMON_IMAGE}" => "SRIOV_NETWORK_CONFIG_DAEMON_IMAGE",
                    "${DEVICE_PLUGIN_IMAGE}" => "SRIOV_DEVICE_PLUGIN_IMAGE",
                    other => other,
                };
                Err(format!("{variable} is empty; set it in the operator's Deployment"))
            }
            Some(found) => {
                text.clone_from(found);
                Ok(())
            }
            None => Err(format!("the operator's own manifest has an unknown placeholder {text}")),
        },
        Value::Array(items) => items.iter_mut().try_for_each(|item| replace(item, values)),
        Value::Object(fields) => fields.values_mut().try_for_each(|field| replace(field, values)),
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
    }
}

/// True when the live DaemonSet is not as wanted: applied from another text, or changed by hand since.
fn differs(wanted: &Value, live: Option<&DaemonSet>) -> bool {
    live.is_none_or(|live| !holds(&live.object, wanted))
}

/// True when everything of `wanted` stands in `live`; what the API server fills in is its own.
fn holds(live: &Value, wanted: &Value) -> bool {
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => {
            wanted.iter().all(|(name, wanted)| match live.get(name) {
                Some(live) => holds(live, wanted),
                None => *wanted == json!({}),
            })
        }
        (Value::Array(live), Value::Array(wanted)) => {
            live.len() == wanted.len() && live.iter().zip(wanted).all(|(l, w)| holds(l, w))
        }
        (live, wanted) => live == wanted,
    }
}

/// FNV-1a: short, stable, and only ever compared with itself.
fn fingerprint(text: &str) -> String {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("{hash:016x}")
}
