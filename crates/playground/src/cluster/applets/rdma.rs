//! `rdma link`, `rdma dev` and `rdma system`, in iproute2's layout.

use super::{Finished, Pod};
use host::Namespace;
use host::seam::RdmaDevice;
use node::programs::rdma::{guid, links};

pub fn run(pod: &Pod, arguments: &[&str]) -> Finished {
    let words: Vec<&str> = arguments.iter().copied().filter(|a| !a.starts_with('-')).collect();
    let Some((object, rest)) = words.split_first() else {
        return Finished::failed(
            "Usage: rdma { dev | link | system } [ show [ NAME ] ]\n".to_owned(),
            255,
        );
    };
    let name = rest.iter().find(|w| !matches!(**w, "show" | "list"));
    if matches!(*object, "system" | "sys") {
        return match pod.host.rdma_mode() {
            Ok(mode) => {
                Finished::said(format!("netns {mode} privileged-qkey off copy-on-fork on\n"))
            }
            Err(refusal) => {
                Finished::failed(format!("error: {}\n", host::seam::words(refusal.errno)), 1)
            }
        };
    }
    let devices = match pod.host.rdma_devices(&Namespace::Host) {
        Ok(devices) => devices,
        Err(refusal) => {
            return Finished::failed(format!("error: {}\n", host::seam::words(refusal.errno)), 1);
        }
    };
    let wanted =
        |device: &&RdmaDevice| name.is_none_or(|n| n.split('/').next() == Some(&device.name));
    let chosen: Vec<&RdmaDevice> = devices.iter().filter(wanted).collect();
    if let (Some(name), true) = (name, chosen.is_empty()) {
        return Finished::failed(format!("Wrong device name {name}\n"), 1);
    }
    match *object {
        "link" => {
            let told = chosen.into_iter().map(|device| links(pod.host, device));
            match told.collect::<Result<String, host::Refusal>>() {
                Ok(text) => Finished::said(text),
                Err(refusal) => {
                    Finished::failed(format!("error: {}\n", host::seam::words(refusal.errno)), 1)
                }
            }
        }
        "dev" | "device" => Finished::said(chosen.into_iter().map(device).collect()),
        other => {
            Finished::failed(format!("Object \"{other}\" is unknown, try \"rdma help\".\n"), 1)
        }
    }
}

fn device(device: &RdmaDevice) -> String {
    format!(
        "{}: {}: node_type ca fw 16.35.2000 node_guid {} sys_image_guid {} \n",
        device.index,
        device.name,
        guid(device.node_guid),
        guid(device.system_image_guid),
    )
}
