//! `rdma link`, `dev`, `system`, `statistic` and `resource`: what the kernel shows in this network namespace, in iproute2's layout as far
//! as the seam asks for it. It changes nothing.

use super::Finished;
use host::seam::{self, RdmaCount, RdmaDevice, RdmaPort, Refusal};
use host::{Host, Namespace};

const USAGE: &str =
    "Usage: rdma { link | dev | system | statistic | resource } [ show [ NAME ] ]\n";

pub fn run(host: &dyn Host, arguments: &[&str]) -> Finished {
    let words: Vec<&str> =
        arguments.iter().copied().filter(|word| !word.starts_with('-')).collect();
    let (object, rest) = match words.split_first() {
        Some((object, ["show" | "list", rest @ ..])) => (*object, rest),
        Some((object, rest)) => (*object, rest),
        None => return Finished::failed(USAGE.to_owned(), 255),
    };
    let answer = match object {
        "system" | "sys" => host.rdma_mode().map(|mode| Finished::said(format!("netns {mode}\n"))),
        "link" => shown(host, rest, |found| links(host, found)),
        "dev" | "device" => shown(host, rest, |found| Ok(device(found))),
        // `rdma statistic show link NAME` says the same as without the word.
        "statistic" => shown(host, rest.strip_prefix(&["link"]).unwrap_or(rest), |found| {
            let ports = host.rdma_ports(&Namespace::Host, found.index)?;
            ports.iter().map(|port| statistic(host, found, port.number)).collect()
        }),
        "resource" => shown(host, rest, |found| resources(host, found)),
        other => {
            let message = format!("Object \"{other}\" is unknown.\n{USAGE}");
            return Finished::failed(message, 1);
        }
    };
    answer.unwrap_or_else(|refusal| {
        Finished::failed(format!("error: {}\n", seam::words(refusal.errno)), 1)
    })
}

/// All devices of this namespace, or the one that is named: `mlx5_0` or `mlx5_0/1`.
fn shown(
    host: &dyn Host,
    names: &[&str],
    print: impl Fn(&RdmaDevice) -> Result<String, Refusal>,
) -> Result<Finished, Refusal> {
    let mut devices = host.rdma_devices(&Namespace::Host)?;
    if let Some(name) = names.first() {
        let device = name.split('/').next();
        devices.retain(|found| Some(found.name.as_str()) == device);
        if devices.is_empty() {
            return Ok(Finished::failed(format!("Wrong device name {name}\n"), 1));
        }
    }
    let text: Result<String, Refusal> = devices.iter().map(print).collect();
    Ok(Finished::said(text?))
}

/// One line for each port.
pub fn links(host: &dyn Host, device: &RdmaDevice) -> Result<String, Refusal> {
    let line = |port: &RdmaPort| {
        let netdev = port.netdev_name.as_ref().map(|n| format!("netdev {n} ")).unwrap_or_default();
        format!(
            "link {}/{} state {} physical_state {} {netdev}\n",
            device.name, port.number, port.state, port.physical_state
        )
    };
    Ok(host.rdma_ports(&Namespace::Host, device.index)?.iter().map(line).collect())
}

fn statistic(host: &dyn Host, device: &RdmaDevice, port: u32) -> Result<String, Refusal> {
    let counters = host.rdma_counters(&Namespace::Host, device.index, port)?;
    Ok(format!("link {}/{port} {}\n", device.name, counts(&counters)))
}

fn resources(host: &dyn Host, device: &RdmaDevice) -> Result<String, Refusal> {
    let resources = host.rdma_resources(&Namespace::Host, device.index)?;
    Ok(format!("{}: {}: {}\n", device.index, device.name, counts(&resources)))
}

fn counts(counts: &[RdmaCount]) -> String {
    counts.iter().map(|count| format!("{} {} ", count.name, count.value)).collect()
}

fn device(device: &RdmaDevice) -> String {
    format!(
        "{}: {}: node_guid {} sys_image_guid {} \n",
        device.index,
        device.name,
        guid(device.node_guid),
        guid(device.system_image_guid),
    )
}

/// A GUID as the kernel and the tools write it: four groups of four hex digits.
pub fn guid(guid: u64) -> String {
    let group = |shift: u32| format!("{:04x}", guid >> shift & 0xffff);
    [48, 32, 16, 0].map(group).join(":")
}
