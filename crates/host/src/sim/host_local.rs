//! The IPAM plugin `host-local` by the CNI delegation contract: addresses from ranges, kept in files of the machine.
//!
//! One file per address, `/var/lib/cni/networks/<network>/<address>`, whose two lines are container and interface,
//! and `last_reserved_ip.<range set>` for the round robin.

use super::machine::Machine;
use crate::seam::Output;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// A range of addresses of one subnet.
struct Range {
    prefix: u8,
    first: u128,
    last: u128,
    gateway: u128,
    v4: bool,
}

/// What the caller asked.
struct Call {
    command: String,
    container: String,
    interface: String,
    /// `IP=` of CNI_ARGS.
    wanted: Option<IpAddr>,
}

struct Failure {
    code: u32,
    msg: String,
}

type Outcome<T> = Result<T, Failure>;

fn fail<T>(code: u32, msg: impl Into<String>) -> Outcome<T> {
    Err(Failure { code, msg: msg.into() })
}

impl Machine {
    pub(super) fn host_local(&mut self, environment: &[String], input: &[u8]) -> Output {
        let call = read_call(environment);
        let version = serde_json::from_slice::<Value>(input)
            .ok()
            .and_then(|conf| conf["cniVersion"].as_str().map(str::to_owned))
            .unwrap_or_else(|| "0.1.0".to_owned());
        match self.host_local_call(&call, &version, input) {
            Ok(result) => {
                let stdout = if result.is_null() { String::new() } else { format!("{result}\n") };
                Output { status: 0, stdout: stdout.into_bytes(), stderr: Vec::new() }
            }
            Err(failure) => {
                let error =
                    json!({ "cniVersion": version, "code": failure.code, "msg": failure.msg });
                Output { status: 1, stdout: format!("{error}\n").into_bytes(), stderr: Vec::new() }
            }
        }
    }

    fn host_local_call(&mut self, call: &Call, version: &str, input: &[u8]) -> Outcome<Value> {
        if call.command == "VERSION" {
            let all = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];
            return Ok(json!({ "cniVersion": "1.1.0", "supportedVersions": all }));
        }
        let Ok(conf) = serde_json::from_slice::<Value>(input) else {
            return fail(6, "the configuration on stdin is not JSON");
        };
        let ipam = &conf["ipam"];
        if !ipam.is_object() {
            return fail(7, "IPAM config missing 'ipam' key");
        }
        let Some(network) = conf["name"].as_str().filter(|name| !name.is_empty()) else {
            return fail(7, "missing network name");
        };
        let data = ipam["dataDir"].as_str().unwrap_or("/var/lib/cni/networks");
        let directory = super::files::plain(&format!("{data}/{network}"));
        let sets = range_sets(&conf)?;
        match call.command.as_str() {
            "ADD" => {
                let mut given = Vec::new();
                for (number, set) in sets.iter().enumerate() {
                    match self.take_address(&directory, number, set, call, &given) {
                        Ok(taken) => given.push(taken),
                        Err(failure) => {
                            // Only what this call took: an earlier ADD of the container keeps its own.
                            for (address, ..) in &given {
                                let address = address.split('/').next().unwrap_or_default();
                                self.files.remove(&format!("{directory}/{address}"));
                            }
                            return Err(failure);
                        }
                    }
                }
                Ok(result(version, &given, ipam))
            }
            "DEL" => {
                self.give_back(&directory, call);
                Ok(Value::Null)
            }
            "CHECK" => {
                if self.held_by(&directory, call).is_empty() {
                    return fail(
                        999,
                        format!(
                            "host-local: Failed to find address added by container {}",
                            call.container
                        ),
                    );
                }
                Ok(Value::Null)
            }
            "GC" => {
                self.collect_addresses(&directory, &conf);
                Ok(Value::Null)
            }
            "STATUS" => Ok(Value::Null),
            other => fail(4, format!("unknown CNI_COMMAND: {other}")),
        }
    }

    /// The next free address of a set, after the one that was given last.
    fn take_address(
        &mut self,
        directory: &str,
        number: usize,
        set: &[Range],
        call: &Call,
        given: &[(String, String, bool)],
    ) -> Outcome<(String, String, bool)> {
        let marker = format!("{directory}/last_reserved_ip.{number}");
        let last = self
            .files
            .get(&marker)
            .and_then(|text| String::from_utf8_lossy(text).trim().parse::<IpAddr>().ok());
        let mine = self.held_by(directory, call);
        let all: Vec<(u128, &Range)> = set
            .iter()
            .flat_map(|range| (range.first..=range.last).take(70_000).map(move |n| (n, range)))
            .collect();
        if mine.iter().any(|held| {
            all.iter().any(|(n, range)| text(*n, range.v4) == *held)
                && !given.iter().any(|g| g.0.starts_with(&format!("{held}/")))
        }) {
            return fail(
                999,
                format!(
                    "failed to allocate for range {number}: {} has been allocated to {}, duplicate allocation is not allowed",
                    mine[0], call.container
                ),
            );
        }
        let start = last
            .and_then(|last| all.iter().position(|(n, _)| *n == value(last)))
            .map_or(0, |at| at + 1);
        let order = all[start.min(all.len())..].iter().chain(&all[..start.min(all.len())]);
        let wanted = call.wanted.map(value);
        let free = order.into_iter().find(|(n, range)| {
            *n != range.gateway
                && wanted.is_none_or(|wanted| wanted == *n)
                && !self.files.contains_key(&format!("{directory}/{}", text(*n, range.v4)))
        });
        let Some((n, range)) = free else {
            let bounds: Vec<String> = set
                .iter()
                .map(|range| {
                    format!("{}-{}", text(range.first, range.v4), text(range.last, range.v4))
                })
                .collect();
            return fail(
                999,
                format!(
                    "failed to allocate for range {number}: no IP addresses available in range set: {}",
                    bounds.join(",")
                ),
            );
        };
        let address = text(*n, range.v4);
        let content = format!("{}\r\n{}", call.container, call.interface);
        let full = |_| Failure { code: 999, msg: format!("cannot write {directory}/{address}") };
        self.replace_file(&format!("{directory}/{address}"), content.as_bytes()).map_err(full)?;
        self.replace_file(&marker, address.as_bytes()).map_err(full)?;
        Ok((format!("{address}/{}", range.prefix), text(range.gateway, range.v4), range.v4))
    }

    /// Addresses that this container holds for this interface.
    fn held_by(&self, directory: &str, call: &Call) -> Vec<String> {
        let owner = format!("{}\r\n{}", call.container, call.interface);
        let prefix = format!("{directory}/");
        self.files
            .iter()
            .filter(|(_, content)| content.as_slice() == owner.as_bytes())
            .filter_map(|(path, _)| path.strip_prefix(&prefix).map(str::to_owned))
            .collect()
    }

    fn give_back(&mut self, directory: &str, call: &Call) {
        for address in self.held_by(directory, call) {
            self.files.remove(&format!("{directory}/{address}"));
        }
    }

    fn collect_addresses(&mut self, directory: &str, conf: &Value) {
        let valid: Vec<String> = conf["cni.dev/valid-attachments"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|one| {
                format!(
                    "{}\r\n{}",
                    one["containerID"].as_str().unwrap_or_default(),
                    one["ifname"].as_str().unwrap_or_default()
                )
            })
            .collect();
        let prefix = format!("{directory}/");
        self.files.retain(|path, content| {
            let address =
                path.strip_prefix(&prefix).is_some_and(|name| name.parse::<IpAddr>().is_ok());
            !address || valid.iter().any(|owner| owner.as_bytes() == content.as_slice())
        });
    }
}

fn read_call(environment: &[String]) -> Call {
    let variables: BTreeMap<&str, &str> =
        environment.iter().filter_map(|pair| pair.split_once('=')).collect();
    let of = |name: &str| variables.get(name).copied().unwrap_or_default().to_owned();
    let arguments = of("CNI_ARGS");
    let wanted = arguments.split(';').filter_map(|pair| pair.strip_prefix("IP=")).next_back();
    Call {
        command: of("CNI_COMMAND"),
        container: of("CNI_CONTAINERID"),
        interface: of("CNI_IFNAME"),
        wanted: wanted.and_then(|text| text.parse().ok()),
    }
}

/// `ranges` (sets of ranges), or the one range at the top level in the older form.
fn range_sets(conf: &Value) -> Outcome<Vec<Vec<Range>>> {
    let ipam = &conf["ipam"];
    let mut sets = Vec::new();
    if ipam.get("subnet").is_some() {
        sets.push(vec![range(ipam)?]);
    }
    let listed = [&ipam["ranges"], &conf["runtimeConfig"]["ipRanges"]];
    for set in listed.iter().filter_map(|sets| sets.as_array()).flatten() {
        let Some(ranges) = set.as_array() else {
            return fail(7, "ranges: a set of ranges must be a list");
        };
        sets.push(ranges.iter().map(range).collect::<Outcome<Vec<_>>>()?);
    }
    if sets.is_empty() {
        return fail(7, "no IP ranges specified");
    }
    Ok(sets)
}

fn range(conf: &Value) -> Outcome<Range> {
    let subnet = conf["subnet"].as_str().unwrap_or_default();
    let parsed = subnet.split_once('/').and_then(|(address, prefix)| {
        Some((address.parse::<IpAddr>().ok()?, prefix.parse::<u8>().ok()?))
    });
    let Some((address, prefix)) = parsed else {
        return fail(7, format!("invalid CIDR address: {subnet}"));
    };
    let v4 = address.is_ipv4();
    let bits = if v4 { 32 } else { 128 };
    if prefix > bits || bits - prefix < 2 {
        return fail(7, format!("Network {subnet} too small to allocate from"));
    }
    let size = 1u128.checked_shl(u32::from(bits - prefix)).unwrap_or(0);
    let network = value(address) & !size.wrapping_sub(1);
    let end = network.wrapping_add(size.wrapping_sub(1));
    let bound = |name: &str, otherwise: u128| -> Outcome<u128> {
        let Some(text) = conf[name].as_str() else { return Ok(otherwise) };
        match text.parse::<IpAddr>().map(value) {
            Ok(found) if found >= network && found <= end => Ok(found),
            _ => fail(7, format!("{name} {text} not in network {subnet}")),
        }
    };
    let gateway = bound("gateway", network + 1)?;
    let first = bound("rangeStart", network + 1)?;
    let last = bound("rangeEnd", if v4 { end - 1 } else { end })?;
    if last < first {
        return fail(7, format!("rangeEnd is before rangeStart in {subnet}"));
    }
    Ok(Range { prefix, first, last, gateway, v4 })
}

fn value(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

fn text(value: u128, v4: bool) -> String {
    if v4 {
        std::net::Ipv4Addr::from(value as u32).to_string()
    } else {
        std::net::Ipv6Addr::from(value).to_string()
    }
}

/// The result in the shape of the version that was asked for.
fn result(version: &str, given: &[(String, String, bool)], ipam: &Value) -> Value {
    let routes = ipam["routes"].as_array().cloned().unwrap_or_default();
    let mut result = Map::new();
    result.insert("cniVersion".to_owned(), json!(version));
    if version.starts_with("0.1") || version.starts_with("0.2") {
        for (address, gateway, v4) in given {
            let key = if *v4 { "ip4" } else { "ip6" };
            result
                .entry(key)
                .or_insert_with(|| json!({ "ip": address, "gateway": gateway, "routes": routes }));
        }
    } else {
        let ips: Vec<Value> = given
            .iter()
            .map(|(address, gateway, v4)| {
                let mut ip = Map::new();
                if version.starts_with("0.") {
                    ip.insert("version".to_owned(), json!(if *v4 { "4" } else { "6" }));
                }
                ip.insert("address".to_owned(), json!(address));
                ip.insert("gateway".to_owned(), json!(gateway));
                Value::Object(ip)
            })
            .collect();
        result.insert("ips".to_owned(), Value::Array(ips));
        if !routes.is_empty() {
            result.insert("routes".to_owned(), Value::Array(routes));
        }
    }
    result.insert("dns".to_owned(), json!({}));
    Value::Object(result)
}
