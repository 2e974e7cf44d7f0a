//! The RDMA core: modes, devices, namespaces, numbers of character devices (drivers/infiniband/core).

use super::drivers::DriverRow;
use super::machine::{HOST_NAMESPACE, Machine, RdmaDev};
use super::pci::{fnv, guid_from_mac};
use super::{Fault, FunctionKind};
use crate::seam::{RdmaDevice, RdmaPort};
use api::{PciAddress, RdmaMode};
use rustix::io::Errno;

/// `ports/1/counters` of an mlx5 device: belief, names as the driver's documentation lists them.
const COUNTERS: [&str; 12] = [
    "excessive_buffer_overrun_errors",
    "link_downed",
    "port_rcv_data",
    "port_rcv_errors",
    "port_rcv_packets",
    "port_xmit_data",
    "port_xmit_discards",
    "port_xmit_packets",
    "symbol_error",
    "unicast_rcv_packets",
    "unicast_xmit_packets",
    "port_xmit_wait",
];
/// `ports/1/hw_counters`, likewise: belief.
const HW_COUNTERS: [&str; 8] = [
    "duplicate_request",
    "lifespan",
    "np_cnp_sent",
    "out_of_buffer",
    "out_of_sequence",
    "packet_seq_err",
    "rnr_nak_retry_err",
    "rx_write_requests",
];

impl Machine {
    /// RDMA_NLDEV_CMD_SYS_GET. Without ib_core nobody serves the protocol.
    pub(super) fn read_rdma_mode(&self) -> Result<RdmaMode, Errno> {
        self.rdma.mode.ok_or(Errno::PROTONOSUPPORT)
    }

    /// RDMA_NLDEV_CMD_SYS_SET (drivers/infiniband/core/device.c, rdma_compatdev_set): the present mode again is
    /// success, any other namespace is EBUSY. lab.md section 3.
    pub(super) fn set_rdma_mode(&mut self, wanted: RdmaMode) -> Result<(), Errno> {
        if self.read_rdma_mode()? == wanted {
            return Ok(());
        }
        if self.namespaces.len() > 1 || self.has(Fault::RefusesRdmaMode) {
            return Err(Errno::BUSY);
        }
        self.rdma.mode = Some(wanted);
        Ok(())
    }

    /// True when the namespace may see and use the device (drivers/infiniband/core/device.c, rdma_dev_access_netns).
    pub(super) fn sees_rdma(&self, space: u64, device: &RdmaDev) -> bool {
        self.rdma.mode != Some(RdmaMode::Exclusive) || device.namespace == space
    }

    pub(super) fn rdma_devices_in(&self, space: u64) -> Vec<RdmaDevice> {
        let seen = self.rdma.devices.iter().filter(|(_, device)| self.sees_rdma(space, device));
        let told = |(index, device): (&u32, &RdmaDev)| RdmaDevice {
            index: *index,
            name: device.name.clone(),
            node_guid: device.node_guid,
            system_image_guid: device.system_image_guid,
        };
        seen.map(told).collect()
    }

    pub(super) fn rdma_ports_in(&self, space: u64, index: u32) -> Vec<RdmaPort> {
        let device = self.rdma.devices.get(&index);
        let Some(device) = device.filter(|device| self.sees_rdma(space, device)) else {
            return Vec::new();
        };
        let netdev = self.rdma_netdev(device);
        let seen = netdev.filter(|link| link.namespace == space);
        let active = netdev.is_some_and(|link| link.up && link.carrier);
        vec![RdmaPort {
            number: 1,
            state: if active { "ACTIVE" } else { "DOWN" }.to_owned(),
            physical_state: if active { "LINK_UP" } else { "DISABLED" }.to_owned(),
            netdev: seen.map(|link| link.index),
            netdev_name: seen.map(|link| link.name.clone()),
        }]
    }

    /// RDMA_NLDEV_CMD_SET with a namespace (drivers/infiniband/core/nldev.c, nldev_set_doit;
    /// device.c, ib_device_set_netns_put): EINVAL for an index that the namespace does not see, EOPNOTSUPP in shared
    /// mode. The device keeps name and index; its character devices are made again.
    pub(super) fn move_rdma(&mut self, from: u64, index: u32, to: u64) -> Result<(), Errno> {
        let device = self.rdma.devices.get(&index).ok_or(Errno::INVAL)?;
        if !self.sees_rdma(from, device) {
            return Err(Errno::INVAL);
        }
        if self.rdma.mode != Some(RdmaMode::Exclusive) || self.has(Fault::RdmaMoveUnsupported) {
            return Err(Errno::OPNOTSUPP);
        }
        if self.name_is_taken(to, index, &device.name) {
            return Err(Errno::EXIST);
        }
        self.carry_rdma(index, to);
        Ok(())
    }

    /// True when a device other than this one has the name already, as far as the namespace is concerned.
    fn name_is_taken(&self, space: u64, index: u32, name: &str) -> bool {
        let mut others = self.rdma.devices.iter().filter(|(other, _)| **other != index);
        others.any(|(_, other)| {
            let counts = !self.rdma.names_by_namespace || self.sees_rdma(space, other);
            counts && other.name == name
        })
    }

    /// What rdma_dev_exit_net does when a namespace ends; a name that is taken there gives way to the index.
    pub(super) fn evict_rdma(&mut self, index: u32, to: u64) {
        let name = self.rdma.devices.get(&index).map(|device| device.name.clone());
        if name.is_some_and(|name| self.name_is_taken(to, index, &name))
            && let Some(device) = self.rdma.devices.get_mut(&index)
        {
            device.name = format!("ibdev{index}");
        }
        self.carry_rdma(index, to);
    }

    fn carry_rdma(&mut self, index: u32, to: u64) {
        let Some(mut device) = self.rdma.devices.remove(&index) else { return };
        // The clients let go first, so the device's own numbers are free again when it takes the lowest ones
        // (drivers/infiniband/core/uverbs_main.c, ib_uverbs_create_uapi; lab.md section 3).
        let (uverbs, umad) = (device.uverbs, device.umad);
        let avoid = self.has(Fault::RenumbersUverbs);
        device.uverbs =
            lowest_free(self.rdma.devices.values().map(|d| d.uverbs), avoid.then_some(uverbs));
        device.umad =
            lowest_free(self.rdma.devices.values().map(|d| d.umad), avoid.then_some(umad));
        device.namespace = to;
        let (parent, infiniband) = (device.parent, device.infiniband);
        self.rdma.devices.insert(index, device);
        if infiniband {
            // IPoIB is a client too: its interface goes, and comes again in the host's namespace
            // (drivers/infiniband/ulp/ipoib/ipoib_main.c, ipoib_remove_one and ipoib_add_one).
            self.links.retain(|_, link| link.parent != Some(parent));
            self.make_netdev(&parent);
        }
    }

    /// RDMA_NLDEV_CMD_SET with a name (device.c, ib_device_rename).
    pub(super) fn rename_rdma(&mut self, space: u64, index: u32, name: &str) -> Result<(), Errno> {
        let device = self.rdma.devices.get(&index).ok_or(Errno::INVAL)?;
        if !self.sees_rdma(space, device) {
            return Err(Errno::INVAL);
        }
        if device.name == name {
            return Ok(());
        }
        if self.name_is_taken(device.namespace, index, name) {
            return Err(Errno::EXIST);
        }
        if let Some(device) = self.rdma.devices.get_mut(&index) {
            device.name = name.to_owned();
        }
        Ok(())
    }

    /// Registers the RDMA device of a function: in the host's namespace, under the lowest free number
    /// (drivers/infiniband/core/device.c, assign_name).
    pub(super) fn make_rdma_device(&mut self, pci: &PciAddress, row: &DriverRow) {
        if let Some(prefix) = row.rdma {
            self.make_rdma_device_named(pci, prefix);
        }
    }

    pub(super) fn make_rdma_device_named(&mut self, pci: &PciAddress, prefix: &str) {
        if self.rdma.mode.is_none() || !self.rdma_is_served(pci) {
            return;
        }
        let Some(function) = self.functions.get(pci) else { return };
        let (node_guid, infiniband) = match &function.kind {
            FunctionKind::Physical(part) => (part.guid, part.infiniband),
            FunctionKind::Virtual(part) => {
                let state = self.vf_state(part).cloned().unwrap_or_default();
                let infiniband = self.physical(&part.physical).is_some_and(|p| p.infiniband);
                // The GUID follows the admin MAC at the next probe; none without one (spec operator.md 4.7).
                let from_mac = if state.mac == [0; 6] { 0 } else { guid_from_mac(&state.mac) };
                let guid = if state.node_guid == 0 { from_mac } else { state.node_guid };
                (if self.has(Fault::GuidStaysZero) { 0 } else { guid }, infiniband)
            }
            FunctionKind::Plain { .. } | FunctionKind::Bridge => return,
        };
        let number = (0..).find(|number| {
            let name = format!("{prefix}{number}");
            !self.rdma.devices.values().any(|device| device.name == name)
        });
        let name = format!("{prefix}{}", number.unwrap_or_default());
        let image = match &function.kind {
            FunctionKind::Virtual(part) => self.physical(&part.physical).map_or(0, |p| p.guid),
            _ => node_guid,
        };
        let seed = fnv(&format!("{} {pci} {}", self.name, self.boots));
        let device = RdmaDev {
            name,
            parent: *pci,
            auxiliary: None,
            namespace: HOST_NAMESPACE,
            node_guid,
            system_image_guid: image,
            infiniband,
            uverbs: lowest_free(self.rdma.devices.values().map(|d| d.uverbs), None),
            umad: lowest_free(self.rdma.devices.values().map(|d| d.umad), None),
            counters: COUNTERS.iter().map(|name| ((*name).to_owned(), 0)).collect(),
            hw_counters: HW_COUNTERS
                .iter()
                .map(|name| ((*name).to_owned(), if *name == "lifespan" { 10 } else { seed % 3 }))
                .collect(),
        };
        self.rdma.last_index += 1;
        self.rdma.devices.insert(self.rdma.last_index, device);
    }
}

/// The lowest number that nobody uses.
fn lowest_free(used: impl Iterator<Item = u32>, avoid: Option<u32>) -> u32 {
    let used: Vec<u32> = used.chain(avoid).collect();
    (0..).find(|number| !used.contains(number)).unwrap_or_default()
}
