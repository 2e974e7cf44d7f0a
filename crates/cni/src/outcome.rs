//! The result of ADD: read in any version of the specification, printed in the one that the configuration asks for.

use crate::failure::{self, Failure};
use crate::version::Version;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::net::IpAddr;

/// A result in the newest shape.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(expecting = "a result object")]
pub struct Outcome {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<Interface>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ips: Vec<Ip>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    #[serde(default)]
    pub dns: Dns,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    #[serde(default)]
    pub name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub mac: String,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub mtu: u32,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sandbox: String,
    #[serde(default, rename = "socketPath", skip_serializing_if = "String::is_empty")]
    pub socket_path: String,
    #[serde(default, rename = "pciID", skip_serializing_if = "String::is_empty")]
    pub pci_id: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ip {
    #[serde(default, deserialize_with = "index", skip_serializing_if = "Option::is_none")]
    pub interface: Option<usize>,
    pub address: Cidr,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    pub dst: Cidr,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gw: Option<IpAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advmss: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<u8>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dns {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nameservers: Vec<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub domain: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

/// An address with its prefix length: `10.1.2.3/24`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    pub address: IpAddr,
    pub prefix: u8,
}

impl Cidr {
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/')?;
        let address: IpAddr = address.parse().ok()?;
        let widest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.parse().ok().filter(|prefix| *prefix <= widest)?;
        Some(Self { address, prefix })
    }
}

impl std::fmt::Display for Cidr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl Serialize for Cidr {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cidr {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| {
            serde::de::Error::custom(format!("{text:?} is not an address with a prefix length"))
        })
    }
}

/// One family of the oldest shape.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct OldIp {
    ip: Cidr,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gateway: Option<IpAddr>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    routes: Vec<Route>,
}

/// An index among the interfaces. Below zero is none, as old plugins write it.
fn index<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<usize>, D::Error> {
    Ok(usize::try_from(i64::deserialize(deserializer)?).ok())
}

/// In Go a member that is null is one that is absent, and so it is here.
fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields = fields.iter().filter(|(_, field)| !field.is_null());
            fields.map(|(name, field)| (name.clone(), without_nulls(field))).collect()
        }
        Value::Array(entries) => entries.iter().map(without_nulls).collect(),
        other => other.clone(),
    }
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl Outcome {
    /// Reads a result; its own `cniVersion` says in which shape it is, `asked` is for one that has none.
    pub fn parse(value: &Value, asked: Version, what: &str) -> Result<Self, Failure> {
        let garbled = |error: serde_json::Error| {
            Failure::new(failure::DECODE, format!("cannot read {what}: {error}"))
        };
        let value = &without_nulls(value);
        let version = match value.get("cniVersion").and_then(Value::as_str) {
            None | Some("") => asked,
            Some(text) => Version::parse(text)?,
        };
        if version >= Version::V0_3_0 {
            return Self::deserialize(value).map_err(garbled);
        }
        let mut outcome = Self::default();
        for key in ["ip4", "ip6"] {
            if let Some(value) = value.get(key) {
                let old = OldIp::deserialize(value).map_err(garbled)?;
                outcome.ips.push(Ip { interface: None, address: old.ip, gateway: old.gateway });
                outcome.routes.extend(old.routes);
            }
        }
        if let Some(dns) = value.get("dns") {
            outcome.dns = Dns::deserialize(dns).map_err(garbled)?;
        }
        Ok(outcome)
    }

    /// True when the version can express this result; the oldest ones know nothing but addresses.
    pub fn fits(&self, version: Version) -> bool {
        version >= Version::V0_3_0 || !self.ips.is_empty()
    }

    /// The result in the shape of a version. Callers check `fits` before they touch anything.
    pub fn json(&self, version: Version) -> Result<Value, Failure> {
        if version < Version::V0_3_0 { self.old_json(version) } else { self.new_json(version) }
    }

    fn new_json(&self, version: Version) -> Result<Value, Failure> {
        let mut value = serde_json::to_value(self).map_err(unprintable)?;
        if version < Version::V1_0_0 {
            for interface in entries(&mut value, "interfaces") {
                if let Some(fields) = interface.as_object_mut() {
                    fields.retain(|key, _| matches!(key.as_str(), "name" | "mac" | "sandbox"));
                }
            }
            for (ip, entry) in self.ips.iter().zip(entries(&mut value, "ips")) {
                let family = if ip.address.address.is_ipv4() { "4" } else { "6" };
                entry["version"] = json!(family);
            }
        }
        Ok(with_version(version, value))
    }

    fn old_json(&self, version: Version) -> Result<Value, Failure> {
        if self.ips.is_empty() {
            return Err(Failure::configuration(format!(
                "a result of cniVersion {version} is a list of addresses, and there are none; \
                 add ipam, or write cniVersion 0.3.0 or later"
            )));
        }
        let mut value = Map::new();
        for (key, four) in [("ip4", true), ("ip6", false)] {
            let Some(ip) = self.ips.iter().find(|ip| ip.address.address.is_ipv4() == four) else {
                continue;
            };
            let routes = self.routes.iter().filter(|route| route.dst.address.is_ipv4() == four);
            let old =
                OldIp { ip: ip.address, gateway: ip.gateway, routes: routes.cloned().collect() };
            value.insert(key.into(), serde_json::to_value(old).map_err(unprintable)?);
        }
        value.insert("dns".into(), serde_json::to_value(&self.dns).map_err(unprintable)?);
        Ok(with_version(version, Value::Object(value)))
    }
}

/// The entries of a list; none where the list is left out.
fn entries<'a>(value: &'a mut Value, name: &str) -> impl Iterator<Item = &'a mut Value> {
    value.get_mut(name).and_then(Value::as_array_mut).into_iter().flatten()
}

fn with_version(version: Version, value: Value) -> Value {
    let mut object = Map::new();
    object.insert("cniVersion".into(), json!(version.text()));
    if let Value::Object(fields) = value {
        object.extend(fields);
    }
    Value::Object(object)
}

fn unprintable(error: serde_json::Error) -> Failure {
    Failure::internal(format!("cannot print the result: {error}"))
}
