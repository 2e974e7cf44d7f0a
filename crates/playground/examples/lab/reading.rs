//! The machine as a person reads it, with a shell, `ip` and `rdma`: what the daemon reports must be the same.
//!
//! None of our code looks here, only at what these programs print.

use super::machine::said;
use super::pod::Pod;
use playground::cluster::objects::{items, text};
use serde_json::Value;
use std::collections::BTreeMap;
use std::process::Command;

/// What a field may be, in words: more than one where the kernel has more than one place for it.
type Fields = BTreeMap<&'static str, Vec<String>>;

/// Lines of `key value` about the PCI function `$1`; what is not there has no value.
const FUNCTION: &str = r#"
d=/sys/bus/pci/devices/$1
tell() { echo "$1 $(cat "$2" 2>/dev/null)"; }
last() { echo "$1 $(busybox basename "$(busybox readlink "$2" 2>/dev/null)" 2>/dev/null)"; }
tell vendor $d/vendor
tell deviceID $d/device
tell totalvfs $d/sriov_totalvfs
tell numVfs $d/sriov_numvfs
tell numaNode $d/numa_node
last driver $d/driver
last iommuGroup $d/iommu_group
echo "pciPath $(busybox readlink -f $d)"
echo "name $(busybox ls $d/net 2>/dev/null)"
echo "rdmaDevice $(busybox ls $d/infiniband 2>/dev/null)"
echo "verbs $(cat $d/infiniband_verbs/*/ibdev 2>/dev/null)"
tell nodeGuid $d/infiniband/*/node_guid
tell linkSpeed $d/net/*/speed
"#;

fn shell(script: &str, argument: &str) -> Result<String, String> {
    said(Command::new("/usr/bin/busybox").args(["sh", "-c", script, "sh", argument]))
}

fn function(pci: &str) -> Result<BTreeMap<String, String>, String> {
    let told = shell(FUNCTION, pci)?;
    let lines = told.lines().filter_map(|line| line.split_once(' '));
    Ok(lines.map(|(key, value)| (key.to_owned(), value.trim().to_owned())).collect())
}

/// `ip -j -d link show` of one interface.
fn link(name: &str) -> Result<Value, String> {
    let told = said(Command::new("/usr/bin/ip").args(["-j", "-d", "link", "show", "dev", name]))?;
    let mut links: Value = serde_json::from_str(&told).map_err(|error| error.to_string())?;
    Ok(links[0].take())
}

fn number(value: &Value) -> String {
    value.as_i64().map(|number| number.to_string()).unwrap_or_default()
}

/// What a PCI function and its interface are, by the names that the status has for it.
fn common(found: &BTreeMap<String, String>) -> Result<(Fields, Value), String> {
    let read = |key: &str| found.get(key).cloned().unwrap_or_default();
    let mut fields = Fields::new();
    for key in ["vendor", "deviceID"] {
        fields.insert(key, vec![read(key).trim_start_matches("0x").to_owned()]);
    }
    for key in ["driver", "iommuGroup", "name"] {
        fields.insert(key, vec![read(key)]);
    }
    let link = match read("name").as_str() {
        "" => Value::Null,
        name => link(name)?,
    };
    fields.insert("mtu", vec![number(&link["mtu"])]);
    fields.insert("mac", vec![text(&link, "/address").to_owned()]);
    // The host sees none of a device in a pod; its uverbs file tells the name all the same.
    fields.insert("rdmaDevice", vec![read("rdmaDevice"), read("verbs")]);
    Ok((fields, link))
}

fn card(pci: &str) -> Result<(Fields, Value), String> {
    let found = function(pci)?;
    let read = |key: &str| found.get(key).cloned().unwrap_or_default();
    let (mut fields, link) = common(&found)?;
    for key in ["totalvfs", "numaNode", "nodeGuid"] {
        fields.insert(key, vec![read(key)]);
    }
    fields.insert("numVfs", vec![nothing_for_zero(&read("numVfs"))]);
    fields.insert("pciPath", vec![read("pciPath").trim_start_matches("/sys/devices/").to_owned()]);
    let speed = read("linkSpeed").parse::<u32>().map(|speed| format!("{speed} Mb/s"));
    fields.insert("linkSpeed", vec![speed.unwrap_or_default()]);
    let names: Vec<&str> = items(&link, "/altnames").iter().filter_map(Value::as_str).collect();
    fields.insert("altNames", vec![names.join(" ")]);
    let is_up = items(&link, "/flags").iter().any(|flag| flag == "UP");
    fields.insert("linkAdminState", vec![if is_up { "up" } else { "down" }.to_owned()]);
    let state = match read("rdmaDevice").as_str() {
        "" => String::new(),
        name => {
            let told =
                said(Command::new("/usr/bin/rdma").args(["link", "show", &format!("{name}/1")]))?;
            let mut words = told.split_whitespace().skip_while(|word| *word != "state");
            words.nth(1).unwrap_or_default().to_owned()
        }
    };
    fields.insert("portState", vec![state]);
    Ok((fields, link))
}

/// A VF: itself, what its card's interface says of it, and what the pod that has it sees.
fn virtual_function(
    pci: &str,
    index: usize,
    of_card: &Value,
    pod: Option<&Pod>,
) -> Result<Fields, String> {
    let (mut fields, link) = common(&function(pci)?)?;
    let told = items(of_card, "/vfinfo_list").iter().find(|told| told["vf"] == index);
    let told = told.ok_or_else(|| format!("ip tells nothing of VF {index}"))?;
    fields.insert("vfID", vec![index.to_string()]);
    fields.insert("Vlan", vec![nothing_for_zero(&number(&told["vlan_list"][0]["vlan"]))]);
    if let Some(pod) = pod {
        let read = |file: &str| Ok::<_, String>(vec![pod.run(&["cat", file])?.trim().to_owned()]);
        fields.insert("mac", read("/sys/class/net/net1/address")?);
        fields.insert("mtu", read("/sys/class/net/net1/mtu")?);
        let own = pod.run(&["ls", &format!("/sys/bus/pci/devices/{pci}/infiniband")])?;
        fields.insert("rdmaDevice", vec![own.trim().to_owned()]);
        // The name that it had at home and will have again; the pod calls it otherwise, and the host sees none.
        fields.remove("name");
    } else if link.is_null() {
        let by_card = text(told, "/address").to_owned();
        fields.insert("mac", vec![String::new(), by_card]);
    }
    Ok(fields)
}

/// The status leaves a zero out.
fn nothing_for_zero(number: &str) -> String {
    if number == "0" { String::new() } else { number.to_owned() }
}

/// A field of the status in words; what is absent is nothing.
fn words(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(words).collect::<Vec<_>>().join(" "),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn compare(what: &str, found: &Value, expected: &Fields) -> Result<usize, String> {
    let differs = expected.iter().find_map(|(key, may_be)| {
        let told = words(&found[*key]);
        let told = if *key == "vfID" && told.is_empty() { "0".to_owned() } else { told };
        (!may_be.contains(&told))
            .then(|| format!("{key} of {what}: reported {told:?}, it is {may_be:?}"))
    });
    differs.map_or(Ok(expected.len()), Err)
}

/// Each field of each card and VF in a node state's status; returns how many there were, and of how many VFs. `pods`
/// have each a VF, as `net1`.
pub fn of_status(state: &Value, pods: &[(Pod, String)]) -> Result<(usize, usize), String> {
    let (mut fields, mut count) = (0, 0);
    for interface in items(state, "/status/interfaces") {
        let pci = text(interface, "/pciAddress");
        let (expected, link) = card(pci)?;
        fields += compare(pci, interface, &expected)?;
        let vfs = items(interface, "/Vfs");
        let there = shell("busybox ls -d /sys/bus/pci/devices/$1/virtfn* 2>/dev/null; true", pci)?;
        if vfs.len() != there.lines().count() {
            return Err(format!("{pci}: {} VFs are reported, there are\n{there}", vfs.len()));
        }
        for index in 0..vfs.len() {
            let path = format!(
                "busybox basename $(busybox readlink /sys/bus/pci/devices/$1/virtfn{index})"
            );
            let address = shell(&path, pci)?.trim().to_owned();
            let reported = vfs.iter().find(|vf| text(vf, "/pciAddress") == address);
            let reported = reported.ok_or_else(|| format!("{address} is not reported"))?;
            let pod = pods.iter().find(|(_, device)| *device == address).map(|(pod, _)| pod);
            let expected = virtual_function(&address, index, &link, pod)?;
            if pod.is_some() && text(reported, "/name").is_empty() {
                return Err(format!("{address} is in a pod and reported without its name"));
            }
            fields += compare(&address, reported, &expected)?;
            count += 1;
        }
    }
    Ok((fields, count))
}
