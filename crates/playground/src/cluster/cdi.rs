//! The container runtime's side of CDI: from a device's name to its device nodes, read when the container is created.

use host::Host;
use serde_json::Value;

/// Device nodes of one CDI device, `vendor/class=name`, from the specs on the machine; none when no spec names it.
pub fn device_nodes(host: &dyn Host, name: &str) -> Vec<String> {
    let Some((kind, device)) = name.split_once('=') else { return Vec::new() };
    let specs = host.list(api::files::CDI).unwrap_or_default();
    for file in specs.iter().filter(|f| f.ends_with(".json")) {
        let bytes = host.read(&format!("{}/{file}", api::files::CDI)).unwrap_or_default();
        let spec: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        if spec["kind"] != kind {
            continue;
        }
        let devices = spec["devices"].as_array().into_iter().flatten();
        let mut edits = vec![&spec["containerEdits"]];
        edits.extend(devices.filter(|d| d["name"] == device).map(|d| &d["containerEdits"]));
        if edits.len() > 1 {
            let nodes = edits.iter().filter_map(|e| e["deviceNodes"].as_array()).flatten();
            return nodes.filter_map(|n| n["path"].as_str().map(str::to_owned)).collect();
        }
    }
    Vec::new()
}
