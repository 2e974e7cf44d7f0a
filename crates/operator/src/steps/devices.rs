//! The ConfigMap `device-plugin-config` in upstream's shape: for tools that read it and for the way back to upstream.
//!
//! Nothing of ours reads it. Its content is `planner::devices_config`'s.

use super::{facts, managed_nodes, owner};
use crate::world::World;
use api::names;
use api::wire::{Outcome, Write};
use planner::devices_config;
use serde_json::json;
use std::collections::BTreeMap;

/// The text for each managed node.
fn observe(world: &World) -> BTreeMap<String, String> {
    let tested = world.config_maps.get(names::SUPPORTED_NIC_IDS);
    let lines = tested.iter().flat_map(|map| map.data.values()).map(String::as_str);
    let vf_ids = devices_config::vf_ids(lines);
    let nodes = managed_nodes(world).into_iter();
    let texts = nodes.map(|(node, state)| {
        let text = devices_config::for_node(&facts(node, state), &world.parsed, &vf_ids);
        (node.metadata.name.clone(), text)
    });
    texts.collect()
}

pub fn reconcile(world: &World) -> Outcome {
    let Some(config) = &world.config else { return Outcome::default() };
    let data = observe(world);
    let owner = owner(config);
    let same = world
        .config_maps
        .get(names::DEVICE_PLUGIN_CONFIG)
        .is_some_and(|map| map.data == data && map.metadata.owner_references.contains(&owner));
    if same {
        return Outcome::default();
    }
    let object = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {
            "name": names::DEVICE_PLUGIN_CONFIG, "namespace": world.settings.namespace,
            "ownerReferences": [owner],
        },
        "data": data,
    });
    Outcome { writes: vec![Write::Apply { object, subresource: "" }], look_again: None }
}
