//! The part of Multus and libcni that a pod meets: which networks it asked for, the configuration each plugin of a chain
//! is given, and the results put together (`spec/node-plugins.md`, section 5).

use super::objects::{Objects, namespace, text};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// One network that a pod asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    pub namespace: String,
    pub name: String,
    /// Name of the interface in the pod: `net1` for the first where the pod asks for none.
    pub interface: String,
}

/// Reads `k8s.v1.cni.cncf.io/networks`: a comma list of `[namespace/]name[@interface]`, or a JSON list.
pub fn attachments(pod: &Value) -> Result<Vec<Attachment>, String> {
    let asked = text(pod, "/metadata/annotations/k8s.v1.cni.cncf.io~1networks").trim();
    if asked.is_empty() {
        return Ok(Vec::new());
    }
    let elements: Vec<(String, String, String)> = match asked.starts_with('[') {
        true => serde_json::from_str::<Vec<Value>>(asked)
            .map_err(|e| format!("annotation k8s.v1.cni.cncf.io/networks is not a JSON list: {e}"))?
            .iter()
            .map(|e| {
                let field = |key: &str| e[key].as_str().unwrap_or_default().to_owned();
                (field("namespace"), field("name"), field("interface"))
            })
            .collect(),
        false => asked.split(',').map(split_element).collect(),
    };
    let numbered =
        elements.into_iter().enumerate().map(|(index, (space, name, interface))| Attachment {
            namespace: if space.is_empty() { namespace(pod).to_owned() } else { space },
            name,
            interface: if interface.is_empty() { format!("net{}", index + 1) } else { interface },
        });
    Ok(numbered.collect())
}

fn split_element(element: &str) -> (String, String, String) {
    let element = element.trim();
    let (path, interface) = element.split_once('@').unwrap_or((element, ""));
    let (space, name) = path.split_once('/').unwrap_or(("", path));
    (space.to_owned(), name.to_owned(), interface.to_owned())
}

/// The chain of one attachment: network name, CNI version, and each plugin's configuration with its device.
#[derive(Debug, Clone, PartialEq)]
pub struct Chain {
    pub name: String,
    pub version: String,
    pub plugins: Vec<Value>,
    pub resource: String,
    pub device: Option<String>,
}

/// Looks up the attachment's NetworkAttachmentDefinition and hands each plugin the next free device of its resource.
pub fn chain(
    view: &(impl Objects + ?Sized),
    attachment: &Attachment,
    devices: &mut BTreeMap<String, Vec<String>>,
) -> Result<Chain, String> {
    let Attachment { namespace, name, .. } = attachment;
    let definition = view
        .get(api::names::NAD_API_VERSION, api::names::NETWORK_ATTACHMENT, namespace, name)
        .ok_or_else(|| {
            format!(
                "cannot find a network-attachment-definition ({name}) in namespace ({namespace})"
            )
        })?;
    let config: Value = serde_json::from_str(text(&definition, "/spec/config")).map_err(|e| {
        format!("network-attachment-definition {namespace}/{name} has a configuration that is not JSON: {e}")
    })?;
    let resource =
        text(&definition, "/metadata/annotations/k8s.v1.cni.cncf.io~1resourceName").to_owned();
    let device = devices.get_mut(&resource).filter(|ids| !ids.is_empty()).map(|ids| ids.remove(0));
    let version = config["cniVersion"].as_str().unwrap_or("0.1.0").to_owned();
    let network = config["name"].as_str().unwrap_or(name).to_owned();
    let list = match config.get("plugins").and_then(Value::as_array) {
        Some(plugins) => plugins.clone(),
        None => vec![config.clone()],
    };
    let mut plugins = Vec::new();
    for plugin in list {
        let mut plugin = plugin.as_object().cloned().unwrap_or_else(Map::new);
        plugin.insert("cniVersion".to_owned(), version.as_str().into());
        plugin.insert("name".to_owned(), network.as_str().into());
        if let Some(device) = &device {
            // Multus sets both, in every element of the chain; that is how `rdma` gets its device.
            plugin.insert("deviceID".to_owned(), device.as_str().into());
            plugin.insert("pciBusID".to_owned(), device.as_str().into());
        }
        plugins.push(Value::Object(plugin));
    }
    Ok(Chain { name: network, version, plugins, resource, device })
}

/// One element of `k8s.v1.cni.cncf.io/network-status`.
pub fn status(attachment: &Attachment, chain: &Chain, result: &Value) -> Value {
    let ips: Vec<Value> = result["ips"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|ip| {
            let address = ip["address"].as_str().unwrap_or_default();
            Value::from(address.split('/').next().unwrap_or_default())
        })
        .collect();
    let mut status = json!({
        "name": format!("{}/{}", attachment.namespace, attachment.name),
        "interface": attachment.interface, "ips": ips, "dns": {},
    });
    if let Some(mac) = result.pointer("/interfaces/0/mac") {
        status["mac"] = mac.clone();
    }
    if let Some(device) = &chain.device {
        status["device-info"] =
            json!({ "type": "pci", "version": "1.1.0", "pci": { "pci-address": device } });
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_the_annotation_are_read() {
        let pod = |asked: &str| json!({"metadata": {"namespace": "default", "annotations": {"k8s.v1.cni.cncf.io/networks": asked}}});
        let short = attachments(&pod("rdma-network, other/b@rail0")).unwrap();
        let long = attachments(&pod(
            r#"[{"name":"rdma-network"},{"name":"b","namespace":"other","interface":"rail0"}]"#,
        ))
        .unwrap();
        assert_eq!(short, long);
        assert_eq!(short[0].interface, "net1");
        assert_eq!(short[1].namespace, "other");
        let error = attachments(&pod("[garbage")).unwrap_err();
        assert!(
            error.starts_with("annotation k8s.v1.cni.cncf.io/networks is not a JSON list: "),
            "{error}"
        );
    }
}
