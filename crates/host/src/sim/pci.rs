//! The PCI core: VFs coming and going, drivers bound and unbound. Every rule with the place where the kernel has it.

use super::Fault;
use super::drivers::{DriverRow, claimed_by, driver};
use super::machine::{
    Function, FunctionKind, HOST_NAMESPACE, Machine, NetDevice, Pending, PendingEvent, VfState,
    VirtualPart,
};
use crate::seam::DEADLINE;
use crate::tried;
use crate::unfinished::{self, Unfinished};
use api::PciAddress;
use rustix::io::Errno;
use std::time::Duration;

/// How long a fault keeps VFs from going.
const BLOCKS: Duration = Duration::from_secs(120);

impl Machine {
    /// A write to `sriov_numvfs` (drivers/pci/iov.c, sriov_numvfs_store).
    pub(super) fn write_vf_count(&mut self, pci: &PciAddress, text: &str) -> Result<(), Errno> {
        // kstrtou16: a number in 16 bits, one trailing newline allowed.
        let wanted: u32 = u32::from(text.trim_end().parse::<u16>().map_err(|_| Errno::INVAL)?);
        let physical = self.physical(pci).ok_or(Errno::NOENT)?;
        let (current, total) = (physical.num_vfs, physical.total_vfs);
        if wanted > total {
            return Err(Errno::RANGE);
        }
        if wanted == current {
            return Ok(());
        }
        let bound = self.functions.get(pci).and_then(|function| function.driver.clone());
        let row = bound.as_deref().and_then(driver).ok_or(Errno::NOENT)?;
        if !row.sriov {
            return Err(Errno::NOENT);
        }
        if self.has(Fault::VfCountBusy) {
            return Err(Errno::BUSY);
        }
        if wanted == 0 {
            if self.has(Fault::VfRemovalBlocks) {
                return self.block_removal(pci);
            }
            self.disable_vfs(pci);
            return Ok(());
        }
        if current != 0 {
            return Err(Errno::BUSY);
        }
        if self.has(Fault::NoRoomForVfs) {
            return Err(Errno::NOMEM);
        }
        let made = if self.has(Fault::DriverMakesFewerVfs) { wanted - 1 } else { wanted };
        if let Some(physical) = self.physical_mut(pci) {
            physical.num_vfs = made;
            let fresh = VfState { spoof_check: row.vf.spoof_check, ..VfState::default() };
            physical.vfs = (0..made).map(|index| (index, fresh.clone())).collect();
        }
        self.reinit_for_vfs(pci, row);
        if self.has(Fault::VfsAppearLate) {
            let at = self.clock.saturating_add(Duration::from_secs(3)).unwrap_or(self.clock);
            self.pending.push(Pending { at, event: PendingEvent::VfsAppear { physical: *pci } });
        } else {
            self.make_vfs(pci);
        }
        self.settle_lags();
        Ok(())
    }

    /// The write of 0 VFs without the refusals before it.
    pub(super) fn disable_vfs(&mut self, pci: &PciAddress) {
        let bound = self.functions.get(pci).and_then(|function| function.driver.clone());
        self.remove_vfs(pci);
        if let Some(row) = bound.as_deref().and_then(driver) {
            self.reinit_for_vfs(pci, row);
        }
        self.settle_lags();
    }

    /// The kernel waits for who uses a VF; the caller waits until its deadline (spec/lab.md, section 3).
    fn block_removal(&mut self, physical: &PciAddress) -> Result<(), Errno> {
        let since = self.clock;
        let at = since.saturating_add(BLOCKS).unwrap_or(since);
        let event = PendingEvent::VfsGo { physical: *physical, since };
        self.pending.push(Pending { at, event });
        self.advance(DEADLINE);
        Err(Errno::TIMEDOUT)
    }

    /// What is past the deadline of whoever asked for it.
    pub(super) fn unfinished(&self) -> Vec<Unfinished> {
        let late = self.pending.iter().filter_map(|pending| match &pending.event {
            PendingEvent::VfsGo { physical, since } => Some((physical, *since)),
            PendingEvent::VfsAppear { .. }
            | PendingEvent::InterfaceAppears { .. }
            | PendingEvent::KubeletStarts => None,
        });
        let unfinished = late.map(|(physical, since)| Unfinished {
            card: Some(unfinished::card(physical)),
            tried: tried::write(&physical.file("sriov_numvfs"), "0"),
            since,
        });
        unfinished.collect()
    }

    /// What is unfinished on the card of this function.
    pub(super) fn unfinished_on(&self, function: &PciAddress) -> Option<Unfinished> {
        let physical = match self.functions.get(function).map(|function| &function.kind) {
            Some(FunctionKind::Virtual(part)) => part.physical,
            _ => *function,
        };
        let card = unfinished::card(&physical);
        self.unfinished().into_iter().find(|late| late.card == Some(card))
    }

    /// drivers/net/ethernet/intel/igb/igb_main.c, igb_sriov_reinit: the PF's interface is closed and opened, both when VFs
    /// come and when they go. mlx5 and ice leave theirs alone (mlx5_core_sriov_configure, ice_sriov_configure).
    fn reinit_for_vfs(&mut self, pci: &PciAddress, row: &DriverRow) {
        if row.name == "igb" {
            self.flap(pci);
        }
    }

    /// Puts the VFs that the PF counts on the bus (drivers/pci/iov.c, pci_iov_add_virtfn).
    pub(super) fn make_vfs(&mut self, pci: &PciAddress) {
        let Some(parent) = self.functions.get(pci).cloned() else { return };
        let FunctionKind::Physical(physical) = &parent.kind else { return };
        for index in 0..physical.num_vfs {
            let address = vf_address(pci, physical.offset, physical.stride, index);
            let random_mac = self.random_mac();
            let function = Function {
                vendor: parent.vendor.clone(),
                device: physical.vf_device.clone(),
                class: parent.class,
                driver: None,
                driver_override: None,
                numa_node: parent.numa_node,
                iommu_group: parent.iommu_group.map(|group| group * 100 + 10 + index),
                root: parent.root.clone(),
                bridges: parent.bridges.clone(),
                kind: FunctionKind::Virtual(VirtualPart {
                    physical: *pci,
                    index,
                    random_mac,
                    probes: 0,
                }),
            };
            self.functions.insert(address, function);
            // sriov_drivers_autoprobe=0 leaves them without driver (drivers/pci/pci-driver.c, pci_device_can_probe).
            self.probe(&address);
        }
        self.make_representors(pci);
    }

    /// Takes all VFs of a PF away, wherever their interfaces are (drivers/pci/iov.c, sriov_disable).
    pub(super) fn remove_vfs(&mut self, pci: &PciAddress) {
        for vf in self.vfs_of(pci) {
            self.unbind(&vf);
            self.functions.remove(&vf);
        }
        self.links.retain(|_, link| !(link.parent == Some(*pci) && link.represents.is_some()));
        self.pending.retain(|pending| {
            !matches!(&pending.event, PendingEvent::VfsAppear { physical } if physical == pci)
        });
        if let Some(physical) = self.physical_mut(pci) {
            physical.num_vfs = 0;
            physical.vfs.clear();
        }
    }

    /// The driver that would take the function: the override alone where one is set, else the id tables
    /// (drivers/pci/pci-driver.c, pci_match_device). Its module must be loaded.
    fn matching(&self, pci: &PciAddress) -> Option<&'static DriverRow> {
        let function = self.functions.get(pci)?;
        let row = match &function.driver_override {
            Some(name) => driver(name)?,
            None => claimed_by(function)?,
        };
        self.is_registered(row).then_some(row)
    }

    pub(super) fn is_registered(&self, row: &DriverRow) -> bool {
        row.name == "pcieport" || self.modules.contains(row.module)
    }

    /// Attaches a driver where one matches; a refusal of the driver leaves the function without one and is no error
    /// (drivers/base/dd.c, __device_attach_driver ignores what probe returned).
    pub(super) fn probe(&mut self, pci: &PciAddress) {
        let bound = self.functions.get(pci).is_none_or(|function| function.driver.is_some());
        if bound {
            return;
        }
        if let Some(row) = self.matching(pci) {
            let _ = self.attach(pci, row);
        }
    }

    /// `drivers/<driver>/bind` (drivers/base/bus.c, bind_store; drivers/base/dd.c, device_driver_attach).
    pub(super) fn bind_by_hand(&mut self, name: &str, text: &str) -> Result<(), Errno> {
        let pci: PciAddress = text.trim_end().parse().map_err(|_| Errno::NODEV)?;
        let row = driver(name).ok_or(Errno::NODEV)?;
        if self.matching(&pci).is_none_or(|matching| matching.name != row.name) {
            return Err(Errno::NODEV);
        }
        if self.functions.get(&pci).is_some_and(|function| function.driver.is_some()) {
            return Err(Errno::BUSY);
        }
        self.attach(&pci, row)
    }

    /// `drivers/<driver>/unbind` (drivers/base/bus.c, unbind_store).
    pub(super) fn unbind_by_hand(&mut self, name: &str, text: &str) -> Result<(), Errno> {
        let pci: PciAddress = text.trim_end().parse().map_err(|_| Errno::NODEV)?;
        let function = self.functions.get(&pci).ok_or(Errno::NODEV)?;
        if function.driver.as_deref() != Some(name) {
            return Err(Errno::NODEV);
        }
        self.unbind(&pci);
        Ok(())
    }

    /// `drivers_probe` (drivers/base/bus.c, drivers_probe_store): an unknown device is ENODEV (lab).
    pub(super) fn probe_by_hand(&mut self, text: &str) -> Result<(), Errno> {
        let pci: PciAddress = text.trim_end().parse().map_err(|_| Errno::NODEV)?;
        if !self.functions.contains_key(&pci) {
            return Err(Errno::NODEV);
        }
        self.probe(&pci);
        Ok(())
    }

    /// The driver's probe itself.
    fn attach(&mut self, pci: &PciAddress, row: &'static DriverRow) -> Result<(), Errno> {
        let function = self.functions.get(pci).ok_or(Errno::NODEV)?;
        if let FunctionKind::Virtual(part) = &function.kind {
            // drivers/pci/pci-driver.c, pci_device_can_probe: a VF needs autoprobe or an override.
            let autoprobe = self.physical(&part.physical).is_some_and(|p| p.autoprobe);
            if !autoprobe && function.driver_override.is_none() {
                return Err(Errno::NODEV);
            }
            if self.has(Fault::VfProbeFails) && row.netdev {
                return Err(Errno::IO);
            }
        }
        if row.name == "vfio-pci" && (self.has(Fault::NoIommu) || function.iommu_group.is_none()) {
            // lab.md section 2: without an IOMMU the probe fails with -22.
            return Err(Errno::INVAL);
        }
        if let Some(function) = self.functions.get_mut(pci) {
            function.driver = Some(row.name.to_owned());
            if let FunctionKind::Virtual(part) = &mut function.kind {
                part.probes += 1;
            }
        }
        if row.netdev {
            self.register_netdev(pci);
        }
        if row.rdma.is_some() {
            self.make_rdma_device(pci, row);
        }
        Ok(())
    }

    fn register_netdev(&mut self, pci: &PciAddress) {
        let probes = self.virtual_part(pci).map_or(0, |part| part.probes);
        if probes > 0 && self.has(Fault::VfInterfaceLate) {
            let at = self.clock.saturating_add(Duration::from_secs(3)).unwrap_or(self.clock);
            let event = PendingEvent::InterfaceAppears { function: *pci };
            self.pending.push(Pending { at, event });
        } else if !(probes == 1 && self.has(Fault::VfInterfaceLost)) {
            self.make_netdev(pci);
        }
    }

    /// The driver lets go: its interface and its RDMA device vanish, in whatever namespace they are, and a PF takes
    /// its VFs with it (lab.md section 2: after unbind and bind `sriov_numvfs` is 0).
    pub(super) fn unbind(&mut self, pci: &PciAddress) {
        if self.physical(pci).is_some_and(|physical| physical.num_vfs > 0) {
            self.remove_vfs(pci);
        }
        self.links.retain(|_, link| link.parent != Some(*pci));
        self.pending.retain(|pending| {
            !matches!(&pending.event, PendingEvent::InterfaceAppears { function } if function == pci)
        });
        self.rdma.devices.retain(|_, device| device.parent != *pci);
        if let Some(function) = self.functions.get_mut(pci) {
            function.driver = None;
        }
    }

    /// Registers the interface of a function in the host's namespace, as udev names it.
    pub(super) fn make_netdev(&mut self, pci: &PciAddress) {
        let Some(function) = self.functions.get(pci) else { return };
        let is_vf = matches!(function.kind, FunctionKind::Virtual(_));
        let (address, infiniband, rebound, made_up) = match &function.kind {
            FunctionKind::Physical(part) => (part.mac, part.infiniband, false, false),
            FunctionKind::Plain { mac } => (*mac, false, false, false),
            FunctionKind::Virtual(part) => {
                let state = self.vf_state(part);
                let mac = state.map_or([0; 6], |state| state.mac);
                let infiniband = self.physical(&part.physical).is_some_and(|p| p.infiniband);
                // An admin MAC takes effect at the probe; without one the driver makes one up (lab.md section 2).
                let made_up = mac == [0; 6] || self.has(Fault::VfIgnoresItsMac);
                let mac = if made_up { part.random_mac } else { mac };
                (mac, infiniband, part.probes > 1, made_up && !infiniband)
            }
            FunctionKind::Bridge => return,
        };
        let index = self.next_link_index(HOST_NAMESPACE);
        let renamed = rebound && self.has(Fault::RenamesAfterRebind);
        let mut name =
            if renamed { format!("eth{index}") } else { self.predictable_name(pci, infiniband) };
        if self.link_by_name(HOST_NAMESPACE, &name).is_some() {
            name = format!("eth{index}");
        }
        let address = match infiniband {
            true => infiniband_address(self.port_guid(pci).unwrap_or(guid_from_mac(&address))),
            false => address.to_vec(),
        };
        let device = NetDevice {
            namespace: HOST_NAMESPACE,
            index,
            name,
            alt_names: Vec::new(),
            permanent: (!made_up).then(|| address.clone()),
            address,
            mtu: if infiniband { 2044 } else { 1500 },
            // Belief: the installation brings its PFs up. A VF is down until somebody sets it up (lab.md section 2).
            up: !is_vf,
            promiscuous: false,
            all_multicast: false,
            carrier: true,
            hardware: if infiniband { 32 } else { 1 },
            parent: Some(*pci),
            kind: infiniband.then(|| "ipoib".to_owned()),
            master: None,
            lower: None,
            represents: None,
            addresses: Vec::new(),
            frames_sent: 0,
            carrier_changes: 0,
        };
        let identity = self.next_serial();
        self.links.insert(identity, device);
    }

    /// The GUID that the PF has set for a VF's port; it takes effect at the probe.
    fn port_guid(&self, pci: &PciAddress) -> Option<u64> {
        let guid = self.vf_state(self.virtual_part(pci)?)?.port_guid;
        (guid != 0 && !self.has(Fault::GuidStaysZero)).then_some(guid)
    }

    pub(super) fn vf_state(&self, part: &VirtualPart) -> Option<&VfState> {
        self.physical(&part.physical)?.vfs.get(&part.index)
    }

    /// The name by systemd's path scheme (systemd.net-naming-scheme(7)): `enp3s0f0`, its VF `enp3s0f0v2`.
    fn predictable_name(&self, pci: &PciAddress, infiniband: bool) -> String {
        let prefix = if infiniband { "ib" } else { "en" };
        if let Some(part) = self.virtual_part(pci) {
            let parent = self.predictable_name(&part.physical, infiniband);
            return format!("{parent}v{}", part.index);
        }
        let siblings = self.functions.iter().any(|(other, function)| {
            (other.domain, other.bus, other.device) == (pci.domain, pci.bus, pci.device)
                && other != pci
                && !matches!(function.kind, FunctionKind::Virtual(_))
        });
        let function = if siblings { format!("f{}", pci.function) } else { String::new() };
        format!("{prefix}p{}s{}{function}", pci.bus, pci.device)
    }

    /// A locally administered MAC that no other device here has.
    fn random_mac(&mut self) -> [u8; 6] {
        let serial = self.next_serial();
        let spread = fnv(&format!("{} {serial}", self.name)).to_be_bytes();
        [0x02 | (spread[0] & 0xf0), spread[1], spread[2], spread[3], spread[4], spread[5]]
    }
}

/// drivers/pci/iov.c, pci_iov_virtfn_bus and pci_iov_virtfn_devfn.
fn vf_address(pci: &PciAddress, offset: u16, stride: u16, index: u32) -> PciAddress {
    let own = (u32::from(pci.bus) << 8) | (u32::from(pci.device) << 3) | u32::from(pci.function);
    let id = own + u32::from(offset) + u32::from(stride) * index;
    PciAddress {
        domain: pci.domain,
        bus: (id >> 8) as u8,
        device: ((id >> 3) & 0x1f) as u8,
        function: (id & 7) as u8,
    }
}

/// A 20-byte IPoIB address whose last eight bytes are the port's GUID.
fn infiniband_address(guid: u64) -> Vec<u8> {
    let mut address = vec![0x00, 0x00, 0x10, 0x86, 0xfe, 0x80, 0, 0, 0, 0, 0, 0];
    address.extend_from_slice(&guid.to_be_bytes());
    address
}

/// EUI-64 of a MAC (drivers/net/ethernet/mellanox/mlx5/core/eswitch.c, node_guid_gen_from_mac, keeps the bits as they are).
pub(super) fn guid_from_mac(mac: &[u8; 6]) -> u64 {
    u64::from_be_bytes([mac[0], mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]])
}

/// FNV-1a: spreads names into numbers the same way on every run.
pub(super) fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
