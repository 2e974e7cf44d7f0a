//! What the host has for one device besides its netdev: device nodes and their numbers, resolved now.
//!
//! Reads only, but for the modules of vhost-net. A device that is inside a pod, or has no RDMA, simply has less. Who may use
//! it is not known here.

use crate::cdi::{self, DeviceNode};
use crate::function::text;
use crate::program_error::{self, ProgramError};
use crate::seam::{Changed, Host, Program};
use api::PciAddress;
use api::custody::{OfferedDevice, OfferedResource};
use std::collections::BTreeMap;
use thiserror::Error;

/// Of vhost-net, with upstream's keys, and the module that each comes with.
const VHOST_NODES: [(&str, &str, &str); 2] =
    [("net-mount", "/dev/vhost-net", "vhost_net"), ("tun-mount", "/dev/net/tun", "tun")];

/// A module of vhost-net that did not bring its device node.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "cannot load {module}, without which there is no {node}, which needVhostNet is for: {why}; have the node load it \
     at boot (/etc/modules-load.d), or type: modprobe {module}"
)]
pub struct VhostError {
    pub module: &'static str,
    pub node: &'static str,
    pub why: ProgramError,
}

/// The device nodes of vhost-net that are not there.
pub fn vhost_missing(host: &dyn Host) -> Vec<String> {
    let missing = VHOST_NODES.iter().filter(|(_, node, _)| host.metadata(node).is_err());
    missing.map(|(_, node, _)| (*node).to_owned()).collect()
}

/// Loads the modules of vhost-net whose device nodes are not there.
pub fn load_vhost(host: &dyn Host) -> Result<Changed, VhostError> {
    let mut changed = Changed::AlreadyRight;
    for (_, node, module) in VHOST_NODES {
        if host.metadata(node).is_ok() {
            continue;
        }
        let refused = |why| VhostError { module, node, why };
        program_error::kmod(host, &Program::Modprobe, &[module]).map_err(refused)?;
        if let Err(refusal) = host.metadata(node) {
            let why = format!("it is loaded, and {node} is not there: {refusal}");
            return Err(refused(ProgramError::Failed(why)));
        }
        changed = Changed::Yes;
    }
    Ok(changed)
}

/// What a container that is given the device gets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facilities {
    /// Name of the RDMA device; empty where there is none.
    pub rdma_device: String,
    /// Character devices of the RDMA device by class: `uverbs`, `umad`, `issm`, `rdma_cm`.
    pub rdma: BTreeMap<&'static str, Vec<String>>,
    /// Of `vfio-pci`: the container's node and the group's.
    pub vfio: Vec<DeviceNode>,
    /// Of vhost-net: `net-mount` and `tun-mount`.
    pub vhost: Vec<(&'static str, String)>,
    /// Nodes of vfio and of vhost-net that belong to the device and are not there.
    pub absent: Vec<String>,
}

impl Facilities {
    /// All device nodes, in a fixed order.
    pub fn nodes(&self) -> Vec<DeviceNode> {
        let rdma = self.rdma.values().flatten().map(DeviceNode::same);
        let vhost = self.vhost.iter().map(|(_, path)| DeviceNode::same(path));
        rdma.chain(self.vfio.iter().cloned()).chain(vhost).collect()
    }

    /// The nodes that a move of the RDMA device makes anew, maybe under other numbers.
    pub fn moving_nodes(&self) -> Vec<String> {
        // One `rdma_cm` serves all devices.
        let own = self.rdma.iter().filter(|(class, _)| **class != "rdma_cm");
        own.flat_map(|(_, paths)| paths).cloned().collect()
    }

    /// The sections of `PCIDEVICE_…_INFO`, with upstream's keys.
    pub fn information(&self) -> Vec<(&'static str, BTreeMap<String, String>)> {
        let mut sections = Vec::new();
        if !self.rdma.is_empty() {
            let first = |paths: &Vec<String>| paths.first().cloned().unwrap_or_default();
            let mut rdma: BTreeMap<String, String> = self
                .rdma
                .iter()
                .map(|(class, paths)| ((*class).to_owned(), first(paths)))
                .collect();
            rdma.insert("rdma_dev".to_owned(), self.rdma_device.clone());
            sections.push(("rdma", rdma));
        }
        if let Some(group) = self.vfio.iter().find(|node| node.host_path != "/dev/vfio/vfio") {
            let vfio = BTreeMap::from([
                ("mount".to_owned(), "/dev/vfio/vfio".to_owned()),
                ("dev-mount".to_owned(), group.container_path.clone()),
            ]);
            sections.push(("vfio", vfio));
        }
        if !self.vhost.is_empty() {
            let vhost = self.vhost.iter().map(|(key, path)| ((*key).to_owned(), path.clone()));
            sections.push(("vhost", vhost.collect()));
        }
        sections
    }
}

/// Looks at the host for one offered device.
pub fn of(host: &dyn Host, resource: &OfferedResource, device: &OfferedDevice) -> Facilities {
    let mut facilities = Facilities::default();
    if resource.rdma {
        facilities.rdma = cdi::rdma_nodes(host, &device.pci.to_string());
        if resource.exclude_umad {
            facilities.rdma.retain(|class, _| !["umad", "issm"].contains(class));
        }
        facilities.rdma_device = rdma_device(host, device);
    }
    if device.driver.as_deref() == Some("vfio-pci") {
        facilities.vfio = vfio_nodes(host, device);
    }
    if resource.vhost_net {
        facilities.vhost = VHOST_NODES.map(|(key, path, _)| (key, path.to_owned())).into();
    }
    facilities.absent = absent(host, &facilities);
    facilities
}

fn absent(host: &dyn Host, facilities: &Facilities) -> Vec<String> {
    let vfio = facilities.vfio.iter().map(|node| &node.host_path);
    let vhost = facilities.vhost.iter().map(|(_, path)| path);
    vfio.chain(vhost).filter(|path| host.metadata(path).is_err()).cloned().collect()
}

/// At home it is read again: a rebind since the offer may have changed it. One that is still in a pod is called there as
/// that pod likes, and gets the name of the offer back when it is fetched.
fn rdma_device(host: &dyn Host, device: &OfferedDevice) -> String {
    let at_home = host.list(&device.pci.file("infiniband")).unwrap_or_default().into_iter().next();
    let in_its_pod = || rdma_device_anywhere(host, &device.pci);
    at_home.or_else(|| device.rdma_device.clone()).or_else(in_its_pod).unwrap_or_default()
}

/// The name of a function's RDMA device, also of one in a pod: the entries of uverbs stay visible in every namespace, and
/// name their device. None where there is none.
pub fn rdma_device_anywhere(host: &dyn Host, pci: &PciAddress) -> Option<String> {
    let directory = pci.file("infiniband_verbs");
    let uverbs = host.list(&directory).ok()?.into_iter().next()?;
    text(host, &format!("{directory}/{uverbs}/ibdev")).ok()
}

fn vfio_nodes(host: &dyn Host, device: &OfferedDevice) -> Vec<DeviceNode> {
    let mut nodes = vec![DeviceNode::same("/dev/vfio/vfio")];
    // A function that left its group has no node either, and is refused for that.
    let target = host.link_target(&device.pci.file("iommu_group")).unwrap_or_default();
    let group = target.rsplit('/').next().filter(|group| !group.is_empty()).unwrap_or("GROUP");
    let name = host.read(&format!("/sys/kernel/iommu_groups/{group}/name")).unwrap_or_default();
    // Without an IOMMU the kernel names the host's node apart; programs in the container expect the plain number.
    nodes.push(match String::from_utf8_lossy(&name).trim() {
        "vfio-noiommu" => DeviceNode {
            host_path: format!("/dev/vfio/noiommu-{group}"),
            container_path: format!("/dev/vfio/{group}"),
        },
        _ => DeviceNode::same(format!("/dev/vfio/{group}")),
    });
    nodes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::{Fault, Flavour, Machine, SimHost};
    use crate::testing;
    use expect_test::expect;

    #[test]
    fn what_vfio_and_vhost_net_lack_is_named_until_their_modules_are_there() {
        let mut machine = Machine::rdma_worker("w-0", Flavour::Rhel, api::Timestamp::UNIX_EPOCH);
        let pci: PciAddress = "0000:3b:00.0".parse().unwrap();
        let device = OfferedDevice {
            pci,
            state: api::custody::OfferState::Ready,
            numa_node: None,
            parent: pci,
            vf: None,
            driver: Some("vfio-pci".to_owned()),
            rdma_device: None,
            profile: None,
        };
        let resource = OfferedResource { vhost_net: true, ..OfferedResource::default() };
        let absent =
            |machine: &Machine| of(&SimHost::new(machine.clone()), &resource, &device).absent;
        let group = machine.functions[&pci].iommu_group.unwrap();
        let own = format!("/dev/vfio/{group}");
        assert_eq!(absent(&machine), ["/dev/vfio/vfio", &own, "/dev/vhost-net"]);
        machine.modules.insert("vhost_net".to_owned());
        machine.modules.insert("vfio_pci".to_owned());
        assert_eq!(absent(&machine), [own], "another driver has it");
        machine.functions.get_mut(&pci).unwrap().driver = Some("vfio-pci".to_owned());
        assert_eq!(absent(&machine), [""; 0]);
    }

    #[test]
    fn umad_and_issm_are_left_out_of_an_infiniband_device() {
        let mut machine =
            Machine::new("ib-0", Flavour::Ubuntu, "2026-01-01T00:00:00Z".parse().unwrap());
        machine.add_connectx7(0x3b, 0, true);
        machine.boot();
        let host = SimHost::new(machine);
        let pci: PciAddress = "0000:3b:00.0".parse().unwrap();
        let device = OfferedDevice {
            pci,
            state: api::custody::OfferState::Ready,
            numa_node: None,
            parent: pci,
            vf: None,
            driver: Some("mlx5_core".to_owned()),
            rdma_device: None,
            profile: None,
        };
        let given = |exclude_umad| {
            let resource =
                OfferedResource { rdma: true, exclude_umad, ..OfferedResource::default() };
            let classes: Vec<_> = of(&host, &resource, &device).rdma.into_keys().collect();
            classes.join(" ")
        };
        assert_eq!(given(false), "issm rdma_cm umad uverbs");
        assert_eq!(given(true), "rdma_cm uverbs");
    }

    #[test]
    fn the_modules_of_vhost_net_are_loaded_until_their_nodes_are_there() {
        let told = testing::run_twice(testing::worker(), |host| load_vhost(host));
        expect![[r#"
            Yes
                run modprobe vhost_net
            AlreadyRight
        "#]]
        .assert_eq(&told);
    }

    #[test]
    fn a_module_of_vhost_net_that_the_kernel_refuses_is_named() {
        let mut machine = testing::worker();
        machine.faults.insert(Fault::ModuleNotSigned);
        expect![[r#"
            cannot load vhost_net, without which there is no /dev/vhost-net, which needVhostNet is for: modprobe: ERROR: could not insert 'vhost_net': Operation not permitted; have the node load it at boot (/etc/modules-load.d), or type: modprobe vhost_net
                run modprobe vhost_net
        "#]].assert_eq(&testing::run(machine, |host| load_vhost(host)));
    }
}
