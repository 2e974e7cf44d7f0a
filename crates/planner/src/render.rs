//! The three network kinds become a NetworkAttachmentDefinition: annotations, and the CNI configuration as text.
//!
//! Key order, indentation and the fields that are always there are upstream's (spec/operator.md 3.4), so that a user's
//! diff is empty after the change of operator. What upstream pastes unread is read here: a problem names object, field
//! and way out. Creating, owning and deleting the object is the operator's.

use crate::json;
use crate::reason::{Problem, Reason};
use api::crd::Metadata;
use api::network::{OVSNetwork, SriovIBNetwork, SriovNetwork, Trunk};
use api::{annotation, names};
use serde_json::Value;
use std::collections::BTreeMap;

/// A network of any kind.
#[derive(Debug, Clone, Copy)]
pub enum Network<'a> {
    Sriov(&'a SriovNetwork),
    Infiniband(&'a SriovIBNetwork),
    Ovs(&'a OVSNetwork),
}

/// What a network becomes.
#[derive(Debug, Clone, PartialEq)]
pub struct Rendered {
    /// Where the NetworkAttachmentDefinition goes.
    pub namespace: String,
    /// The network's own name.
    pub name: String,
    /// Resource and owner.
    pub annotations: BTreeMap<String, String>,
    /// The CNI configuration, exactly as it is stored.
    pub config: String,
    /// With its prefix: `openshift.io/rdma_exclusive_device`.
    pub resource: String,
    /// Pods of this network take the RDMA device into their namespace: it needs RDMA mode exclusive.
    pub takes_rdma_device: bool,
    /// The IPAM configuration; `{}` for none.
    pub ipam: Value,
    /// Things worth telling about, though the network works.
    pub notes: Vec<Problem>,
}

impl Network<'_> {
    pub fn metadata(&self) -> &Metadata {
        match self {
            Self::Sriov(network) => &network.metadata,
            Self::Infiniband(network) => &network.metadata,
            Self::Ovs(network) => &network.metadata,
        }
    }

    pub fn kind(&self) -> &'static str {
        match self {
            Self::Sriov(_) => names::SRIOV_NETWORK,
            Self::Infiniband(_) => names::IB_NETWORK,
            Self::Ovs(_) => names::OVS_NETWORK,
        }
    }

    /// `SriovNetwork default/rdma-network`.
    pub fn label(&self) -> String {
        let metadata = self.metadata();
        format!("{} {}/{}", self.kind(), metadata.namespace, metadata.name)
    }

    /// Without the prefix.
    pub fn resource(&self) -> &str {
        match self {
            Self::Sriov(network) => &network.spec.resource_name,
            Self::Infiniband(network) => &network.spec.resource_name,
            Self::Ovs(network) => &network.spec.resource_name,
        }
    }

    fn network_namespace(&self) -> &str {
        match self {
            Self::Sriov(network) => &network.spec.network_namespace,
            Self::Infiniband(network) => &network.spec.network_namespace,
            Self::Ovs(network) => &network.spec.network_namespace,
        }
    }

    /// Where the NetworkAttachmentDefinition goes: `networkNamespace`, else the network's own.
    pub fn target_namespace(&self) -> &str {
        match self.network_namespace() {
            "" => &self.metadata().namespace,
            namespace => namespace,
        }
    }

    /// The logical owner that the NetworkAttachmentDefinition carries, as Go prints a GroupKind and a name.
    pub fn owner(&self) -> String {
        let metadata = self.metadata();
        format!("{}.{}/{}/{}", self.kind(), names::GROUP, metadata.namespace, metadata.name)
    }

    fn texts(&self) -> Texts<'_> {
        match self {
            Self::Sriov(network) => Texts {
                capabilities: &network.spec.capabilities,
                ipam: &network.spec.ipam,
                meta_plugins: &network.spec.meta_plugins,
                meta_plugins_config: &network.spec.meta_plugins_config,
            },
            Self::Infiniband(network) => Texts {
                capabilities: &network.spec.capabilities,
                ipam: &network.spec.ipam,
                meta_plugins: &network.spec.meta_plugins,
                meta_plugins_config: &network.spec.meta_plugins_config,
            },
            Self::Ovs(network) => Texts {
                capabilities: &network.spec.capabilities,
                ipam: &network.spec.ipam,
                meta_plugins: &network.spec.meta_plugins,
                meta_plugins_config: &network.spec.meta_plugins_config,
            },
        }
    }
}

/// The fields that hold JSON as text.
struct Texts<'a> {
    capabilities: &'a str,
    ipam: &'a str,
    meta_plugins: &'a str,
    meta_plugins_config: &'a str,
}

/// Renders a network, or says everything that is wrong with it. `prefix` is the resource prefix.
pub fn render(
    network: Network<'_>,
    operator_namespace: &str,
    prefix: &str,
) -> Result<Rendered, Vec<Problem>> {
    let mut reader = Reader { object: network.label(), problems: vec![] };
    if !network.network_namespace().is_empty() && network.metadata().namespace != operator_namespace
    {
        reader.problem(format!(
            "spec.networkNamespace cannot be set when the resource is not in the operator namespace ({operator_namespace}); take it out, or create the network there"
        ));
    }
    if network.resource().is_empty() {
        reader.problem("resourceName is empty; write the resourceName of a policy");
    }
    let texts = network.texts();
    let ipam = reader
        .optional_object("ipam", texts.ipam, r#"{"type": "whereabouts"}"#)
        .unwrap_or_else(|| Value::Object(Default::default()));
    reader.optional_object("capabilities", texts.capabilities, r#"{"mac": true}"#);
    let mut plugins = reader.meta_plugins(&texts);
    let (fields, notes) = match network {
        Network::Sriov(network) => (reader.sriov(network), vec![]),
        Network::Infiniband(network) => reader.infiniband(network, &mut plugins),
        Network::Ovs(network) => (reader.ovs(network), vec![]),
    };
    if !reader.problems.is_empty() {
        return Err(reader.problems);
    }
    let resource = format!("{prefix}/{}", network.resource());
    let annotations = [
        (annotation::RESOURCE_NAME.to_owned(), resource.clone()),
        (annotation::OWNER.to_owned(), network.owner()),
    ];
    Ok(Rendered {
        namespace: network.target_namespace().to_owned(),
        name: network.metadata().name.clone(),
        annotations: annotations.into_iter().collect(),
        config: config(&network.metadata().name, &fields, plugins.text.as_deref()),
        resource,
        takes_rdma_device: plugins.rdma,
        ipam,
        notes,
    })
}

/// The fields of the main plugin, in order: key and JSON text.
type Fields = Vec<(&'static str, String)>;

/// The chain behind the main plugin.
#[derive(Default)]
struct MetaPlugins {
    /// As the user wrote them; `None` for none.
    text: Option<String>,
    values: Vec<Value>,
    /// One of them is `rdma`.
    rdma: bool,
}

fn config(name: &str, fields: &Fields, plugins: Option<&str>) -> String {
    let main: Vec<String> = fields.iter().map(|(key, json)| format!("\"{key}\":{json}")).collect();
    let main = main.join(",");
    let head = format!("{{\"cniVersion\":\"1.0.0\",\"name\":{}", quoted(name));
    let compact = match plugins {
        None => format!("{head},{main}}}"),
        Some(plugins) => format!("{head},\"plugins\":[{{{main}}},{plugins}]}}"),
    };
    json::indent(&compact)
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

struct Reader {
    object: String,
    problems: Vec<Problem>,
}

impl Reader {
    fn problem(&mut self, message: impl Into<String>) {
        self.problems.push(Problem::new(Reason::InvalidNetwork, &self.object, message));
    }

    fn optional_object(&mut self, field: &str, text: &str, example: &str) -> Option<Value> {
        if text.trim().is_empty() {
            return None;
        }
        json::object(field, text, example).map_err(|message| self.problem(message)).ok()
    }

    fn choice(&mut self, field: &str, value: &str, allowed: &[&str]) {
        if !value.is_empty() && !allowed.contains(&value) {
            self.problem(format!("{field} {value:?} is unknown; write {}", allowed.join(" or ")));
        }
    }

    fn range(&mut self, field: &str, value: Option<i64>, last: i64) {
        if let Some(value) = value.filter(|value| !(0..=last).contains(value)) {
            self.problem(format!("{field} {value} is out of range; write 0 to {last}"));
        }
    }

    /// `metaPlugins`, or `metaPluginsConfig` as upstream's guide has it; both are the same field.
    fn meta_plugins(&mut self, texts: &Texts<'_>) -> MetaPlugins {
        let (one, other) = (texts.meta_plugins.trim(), texts.meta_plugins_config.trim());
        if !one.is_empty() && !other.is_empty() && one != other {
            self.problem(
                "metaPlugins and metaPluginsConfig are the same field and differ; keep one of them",
            );
            return MetaPlugins::default();
        }
        let (field, text) = match one.is_empty() {
            false => ("metaPlugins", texts.meta_plugins),
            true => ("metaPluginsConfig", texts.meta_plugins_config),
        };
        if text.trim().is_empty() {
            return MetaPlugins::default();
        }
        match json::objects(field, text) {
            Ok(values) => {
                let rdma = values.iter().any(is_rdma);
                MetaPlugins { text: Some(text.to_owned()), values, rdma }
            }
            Err(message) => {
                self.problem(message);
                MetaPlugins::default()
            }
        }
    }

    fn sriov(&mut self, network: &SriovNetwork) -> Fields {
        let spec = &network.spec;
        self.range("vlan", spec.vlan, 4094);
        self.range("vlanQoS", spec.vlan_qos, 7);
        self.choice("vlanProto", &spec.vlan_proto, &["802.1q", "802.1Q", "802.1ad", "802.1AD"]);
        self.choice("spoofChk", &spec.spoof_check, &["on", "off"]);
        self.choice("trust", &spec.trust, &["on", "off"]);
        self.choice("linkState", &spec.link_state, &["auto", "enable", "disable"]);
        self.rates(spec.min_tx_rate, spec.max_tx_rate);
        let mut fields: Fields = vec![
            ("type", quoted("sriov")),
            // Always there, also when 0.
            ("vlan", spec.vlan.unwrap_or(0).to_string()),
        ];
        text(&mut fields, "spoofchk", &spec.spoof_check);
        text(&mut fields, "trust", &spec.trust);
        fields.push(("vlanQoS", spec.vlan_qos.unwrap_or(0).to_string()));
        text(&mut fields, "vlanProto", &spec.vlan_proto);
        fields.extend(spec.min_tx_rate.map(|rate| ("min_tx_rate", rate.to_string())));
        fields.extend(spec.max_tx_rate.map(|rate| ("max_tx_rate", rate.to_string())));
        raw(&mut fields, "capabilities", &spec.capabilities);
        text(&mut fields, "link_state", &spec.link_state);
        text(&mut fields, "logLevel", &spec.log_level);
        text(&mut fields, "logFile", &spec.log_file);
        ipam(&mut fields, &spec.ipam);
        fields
    }

    fn rates(&mut self, min: Option<i64>, max: Option<i64>) {
        for (field, rate) in [("minTxRate", min), ("maxTxRate", max)] {
            if let Some(rate) = rate.filter(|rate| *rate < 0) {
                self.problem(format!("{field} {rate} is negative; write Mbit/s, 0 for no limit"));
            }
        }
        // 0 is no upper limit (kernel: IFLA_VF_RATE).
        if let (Some(min), Some(max @ 1..)) = (min, max)
            && min > max
        {
            self.problem(format!("minTxRate {min} is above maxTxRate {max}"));
        }
    }

    /// On InfiniBand the `rdma` plugin behind `ib-sriov` would destroy the IPoIB interface that it has just made, so
    /// the plugin's own isolation is asked for in its place.
    fn infiniband(
        &mut self,
        network: &SriovIBNetwork,
        plugins: &mut MetaPlugins,
    ) -> (Fields, Vec<Problem>) {
        let spec = &network.spec;
        self.choice("linkState", &spec.link_state, &["auto", "enable", "disable"]);
        let mut fields: Fields = vec![("type", quoted("ib-sriov"))];
        let mut notes = vec![];
        raw(&mut fields, "capabilities", &spec.capabilities);
        text(&mut fields, "link_state", &spec.link_state);
        if plugins.rdma {
            fields.push(("rdmaIsolation", "true".to_owned()));
            let mut asked = plugins.values.iter().filter(|plugin| is_rdma(plugin));
            if let Some(name) = asked.find_map(|plugin| plugin["rdmaDeviceName"].as_str()) {
                text(&mut fields, "rdmaDeviceName", name);
            }
            plugins.values.retain(|plugin| !is_rdma(plugin));
            let rest: Vec<String> = plugins.values.iter().map(Value::to_string).collect();
            plugins.text = (!rest.is_empty()).then(|| rest.join(","));
            let message = "the meta plugin rdma was replaced by rdmaIsolation: true, which keeps the IPoIB interface";
            notes.push(Problem::new(Reason::InvalidNetwork, &self.object, message));
        }
        ipam(&mut fields, &spec.ipam);
        (fields, notes)
    }

    fn ovs(&mut self, network: &OVSNetwork) -> Fields {
        let spec = &network.spec;
        self.range("vlan", spec.vlan, 4095);
        self.range("mtu", spec.mtu, 65535);
        let mut fields: Fields = vec![("type", quoted("ovs"))];
        raw(&mut fields, "capabilities", &spec.capabilities);
        text(&mut fields, "bridge", &spec.bridge);
        fields.extend(spec.vlan.filter(|vlan| *vlan != 0).map(|vlan| ("vlan", vlan.to_string())));
        fields.extend(spec.mtu.filter(|mtu| *mtu != 0).map(|mtu| ("mtu", mtu.to_string())));
        let trunk: Vec<String> = spec.trunk.iter().map(|entry| self.trunk(entry)).collect();
        if !trunk.is_empty() {
            fields.push(("trunk", format!("[{}]", trunk.join(","))));
        }
        text(&mut fields, "interface_type", &spec.interface_type);
        ipam(&mut fields, &spec.ipam);
        fields
    }

    fn trunk(&mut self, trunk: &Trunk) -> String {
        let parts = [("minID", trunk.min_id), ("maxID", trunk.max_id), ("id", trunk.id)];
        for (name, id) in parts {
            self.range(&format!("trunk {name}"), id, 4095);
        }
        match (trunk.id, trunk.min_id, trunk.max_id) {
            (_, Some(min), Some(max)) if min > max => {
                self.problem(format!("trunk minID {min} is above maxID {max}"));
            }
            (None, Some(_), None) | (None, None, Some(_)) | (None, None, None) => {
                self.problem("trunk has an entry that is neither an id nor a range; write id, or minID and maxID");
            }
            _ => {}
        }
        let present = parts.iter().filter_map(|(name, id)| Some(format!("\"{name}\":{}", (*id)?)));
        format!("{{{}}}", present.collect::<Vec<_>>().join(","))
    }
}

fn is_rdma(plugin: &Value) -> bool {
    plugin.get("type").and_then(Value::as_str) == Some("rdma")
}

fn text(fields: &mut Fields, key: &'static str, value: &str) {
    if !value.is_empty() {
        fields.push((key, quoted(value)));
    }
}

fn raw(fields: &mut Fields, key: &'static str, json: &str) {
    if !json.trim().is_empty() {
        fields.push((key, json.to_owned()));
    }
}

fn ipam(fields: &mut Fields, json: &str) {
    let json = if json.trim().is_empty() { "{}" } else { json };
    fields.push(("ipam", json.to_owned()));
}
