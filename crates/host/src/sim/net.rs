//! Network interfaces: what rtnetlink answers and refuses. Addresses and routes are `net_address`'s, VF settings
//! `net_vf`'s.

use super::FunctionKind;
use super::drivers::{DriverRow, driver};
use super::machine::{HOST_NAMESPACE, Machine, NetDevice, PhysicalPart};
use super::net_vf::show_vf;
use crate::seam::{Link, LinkQuery};
use api::{EswitchMode, PciAddress};
use rustix::io::Errno;

impl Machine {
    /// The next index of a namespace (net/core/dev.c, dev_new_index).
    pub(super) fn next_link_index(&mut self, space: u64) -> u32 {
        let taken: Vec<u32> = self
            .links
            .values()
            .filter(|link| link.namespace == space)
            .map(|link| link.index)
            .collect();
        let Some(namespace) = self.namespaces.get_mut(&space) else { return 0 };
        loop {
            namespace.last_index += 1;
            if !taken.contains(&namespace.last_index) {
                return namespace.last_index;
            }
        }
    }

    pub(super) fn add_loopback(&mut self, space: u64) {
        let index = self.next_link_index(space);
        let loopback = virtual_device(space, index, "lo", vec![0; 6], 772, None);
        let identity = self.next_serial();
        self.links.insert(identity, loopback);
    }

    /// Adds an interface without hardware, as a cluster network's plugin does: `eth0` of a pod.
    pub fn add_virtual_link(
        &mut self,
        namespace_path: Option<&str>,
        name: &str,
        kind: &str,
    ) -> Result<u32, Errno> {
        let space = match namespace_path {
            Some(path) => {
                *self.namespace_paths.get(&super::files::plain(path)).ok_or(Errno::NOENT)?
            }
            None => HOST_NAMESPACE,
        };
        if self.link_by_name(space, name).is_some() {
            return Err(Errno::EXIST);
        }
        let index = self.next_link_index(space);
        let identity = self.next_serial();
        let mac = vec![0x0a, 0x58, 0, 0, (identity >> 8) as u8, identity as u8];
        let mut link = virtual_device(space, index, name, mac, 1, Some(kind));
        link.up = true;
        self.links.insert(identity, link);
        Ok(index)
    }

    /// The interface with this name or altname.
    pub(super) fn link_by_name(&self, space: u64, name: &str) -> Option<u64> {
        let named =
            |link: &NetDevice| link.name == name || link.alt_names.iter().any(|alt| alt == name);
        self.links
            .iter()
            .find(|(_, link)| link.namespace == space && named(link))
            .map(|(identity, _)| *identity)
    }

    pub(super) fn link_by_index(&self, space: u64, index: u32) -> Result<u64, Errno> {
        self.links
            .iter()
            .find(|(_, link)| link.namespace == space && link.index == index)
            .map(|(identity, _)| *identity)
            .ok_or(Errno::NODEV)
    }

    pub(super) fn link_mut(&mut self, identity: u64) -> Result<&mut NetDevice, Errno> {
        self.links.get_mut(&identity).ok_or(Errno::NODEV)
    }

    /// RTM_GETLINK: one by name or index is ENODEV where there is none, a dump never fails.
    pub(super) fn query_links(&self, space: u64, query: &LinkQuery) -> Result<Vec<Link>, Errno> {
        let mut found: Vec<&NetDevice> = match (query.index, &query.name) {
            (Some(index), _) => vec![&self.links[&self.link_by_index(space, index)?]],
            (None, Some(name)) => {
                vec![&self.links[&self.link_by_name(space, name).ok_or(Errno::NODEV)?]]
            }
            (None, None) => self.links.values().filter(|link| link.namespace == space).collect(),
        };
        found.sort_by_key(|link| link.index);
        Ok(found.into_iter().map(|link| self.show_link(link, query.with_vfs)).collect())
    }

    fn show_link(&self, device: &NetDevice, with_vfs: bool) -> Link {
        let physical = device
            .parent
            .as_ref()
            .filter(|_| device.represents.is_none())
            .and_then(|pci| self.physical(pci));
        let mut link = Link {
            index: device.index,
            name: device.name.clone(),
            alt_names: device.alt_names.clone(),
            address: device.address.clone(),
            // net/core/dev.c, register_netdevice: the first address, unless the driver says that it is random.
            permanent: device.permanent.clone(),
            mtu: device.mtu,
            up: device.up,
            running: device.up && device.carrier,
            promiscuous: device.promiscuous,
            all_multicast: device.all_multicast,
            hardware: device.hardware,
            parent: device.parent.filter(|_| !self.hides_parents).map(|pci| pci.to_string()),
            kind: device.kind.clone(),
            master: self.index_of(device.master, device.namespace),
            lower: self.index_of(device.lower, device.namespace),
            phys_port_name: self.phys_port_name(device),
            phys_switch_id: self.phys_switch_id(device),
            // net/core/rtnetlink.c, rtnl_fill_ifinfo: told for every PCI device, and only to who asks for VFs (lab).
            num_vfs: device
                .parent
                .filter(|_| with_vfs)
                .map(|_| physical.map_or(0, |physical| physical.num_vfs)),
            ..Link::default()
        };
        if let Some(physical) = physical.filter(|_| with_vfs) {
            link.vfs = physical
                .vfs
                .iter()
                .map(|(index, state)| show_vf(*index, state, physical.infiniband))
                .collect();
        }
        link
    }

    fn index_of(&self, identity: Option<u64>, space: u64) -> Option<u32> {
        let link = self.links.get(&identity?)?;
        (link.namespace == space).then_some(link.index)
    }

    pub(super) fn driver_of(&self, pci: Option<&PciAddress>) -> Option<&'static DriverRow> {
        driver(self.functions.get(pci?)?.driver.as_deref()?)
    }

    /// The card of a port that devlink knows, in either mode: the uplink has its name and its switch in legacy mode too
    /// (drivers/net/ethernet/mellanox/mlx5/core/en/devlink.c, mlx5e_devlink_port_register;
    /// drivers/net/ethernet/intel/ice/devlink/port.c, ice_devlink_create_pf_port; netdevsim: lab). For any other interface
    /// the kernel answers EOPNOTSUPP (lab.md section 2).
    fn card_of_port(&self, device: &NetDevice) -> Option<&PhysicalPart> {
        let pci = device.parent.as_ref()?;
        self.physical(pci).filter(|_| self.driver_of(Some(pci)).is_some_and(|row| row.eswitch))
    }

    pub(super) fn phys_port_name(&self, device: &NetDevice) -> Option<String> {
        let physical = self.card_of_port(device)?;
        Some(match device.represents {
            Some(vf) => format!("pf{}vf{vf}", physical.port),
            None => format!("p{}", physical.port),
        })
    }

    pub(super) fn phys_switch_id(&self, device: &NetDevice) -> Option<String> {
        self.card_of_port(device).map(|physical| format!("{:016x}", physical.guid))
    }

    pub(super) fn set_link_up(&mut self, space: u64, index: u32, up: bool) -> Result<(), Errno> {
        let identity = self.link_by_index(space, index)?;
        let link = self.link_mut(identity)?;
        link.carrier_changes += u32::from(link.up != up && link.carrier);
        let was = std::mem::replace(&mut link.up, up);
        if !up {
            self.drop_routes(space, index);
            self.drop_ipv6(space, index);
        }
        if was && !up {
            self.close(identity);
        }
        Ok(())
    }

    pub(super) fn set_link_flag(
        &mut self,
        space: u64,
        index: u32,
        set: impl FnOnce(&mut NetDevice),
    ) -> Result<(), Errno> {
        let identity = self.link_by_index(space, index)?;
        set(self.link_mut(identity)?);
        Ok(())
    }

    /// igbvf asks its card anew whenever it is closed, and takes the admin MAC where there is one
    /// (drivers/net/ethernet/intel/igbvf/netdev.c, igbvf_reset; lab).
    fn close(&mut self, identity: u64) {
        let Some(parent) = self.links.get(&identity).and_then(|link| link.parent) else { return };
        if self.driver_of(Some(&parent)).is_none_or(|row| row.name != "igbvf") {
            return;
        }
        let state = self.virtual_part(&parent).and_then(|part| self.vf_state(part));
        let Some(mac) = state.map(|state| state.mac).filter(|mac| *mac != [0; 6]) else { return };
        if let Some(link) = self.links.get_mut(&identity) {
            link.address = mac.to_vec();
        }
    }

    /// net/core/dev.c, dev_validate_mtu: outside the driver's range is EINVAL.
    pub(super) fn set_link_mtu(&mut self, space: u64, index: u32, mtu: u32) -> Result<(), Errno> {
        let identity = self.link_by_index(space, index)?;
        let row = self.driver_of(self.links[&identity].parent.as_ref());
        if mtu < 68 || mtu > row.map_or(65535, |row| row.max_mtu) {
            return Err(Errno::INVAL);
        }
        self.link_mut(identity)?.mtu = mtu;
        Ok(())
    }

    /// net/core/dev.c, dev_change_name: EINVAL for what is no name, EEXIST for a taken one, and EBUSY while the interface
    /// is up on kernels before 6.2 (later ones allow it: lab).
    pub(super) fn rename_link(&mut self, space: u64, index: u32, name: &str) -> Result<(), Errno> {
        let identity = self.link_by_index(space, index)?;
        valid_name(name)?;
        if self.links[&identity].name == name {
            return Ok(());
        }
        if self.links[&identity].up && !self.renames_while_up {
            return Err(Errno::BUSY);
        }
        if self.link_by_name(space, name).is_some() {
            return Err(Errno::EXIST);
        }
        self.link_mut(identity)?.name = name.to_owned();
        Ok(())
    }

    /// A VF whose admin MAC was set by the PF may not change its own (lab.md section 2: EADDRNOTAVAIL), unless trusted.
    pub(super) fn set_link_address(
        &mut self,
        space: u64,
        index: u32,
        address: &[u8],
    ) -> Result<(), Errno> {
        let identity = self.link_by_index(space, index)?;
        let link = &self.links[&identity];
        if address.len() != link.address.len() {
            return Err(Errno::INVAL);
        }
        let multicast = address.first().is_some_and(|byte| byte & 1 == 1);
        if link.hardware == 1 && (multicast || address.iter().all(|byte| *byte == 0)) {
            return Err(Errno::ADDRNOTAVAIL);
        }
        let part = link.parent.as_ref().and_then(|pci| self.virtual_part(pci));
        if let Some(state) = part.and_then(|part| self.vf_state(part)) {
            let fixed = state.mac != [0; 6] && state.mac[..] != *address && !state.trust;
            let igb = self.driver_of(link.parent.as_ref()).is_some_and(|row| row.name == "igbvf");
            if fixed && igb {
                return Err(Errno::ADDRNOTAVAIL);
            }
        }
        self.link_mut(identity)?.address = address.to_vec();
        Ok(())
    }

    /// net/core/dev.c, netdev_name_node_alt_create: EEXIST for a name that the namespace has.
    pub(super) fn add_alt_name(&mut self, space: u64, index: u32, name: &str) -> Result<(), Errno> {
        let identity = self.link_by_index(space, index)?;
        if self.link_by_name(space, name).is_some() {
            return Err(Errno::EXIST);
        }
        self.link_mut(identity)?.alt_names.push(name.to_owned());
        Ok(())
    }

    /// net/core/dev.c, netdev_name_node_alt_destroy: ENOENT for a name it has not.
    pub(super) fn remove_alt_name(
        &mut self,
        space: u64,
        index: u32,
        name: &str,
    ) -> Result<(), Errno> {
        let identity = self.link_by_index(space, index)?;
        let link = self.link_mut(identity)?;
        let at = link.alt_names.iter().position(|alt| alt == name).ok_or(Errno::NOENT)?;
        link.alt_names.remove(at);
        Ok(())
    }

    /// net/core/dev.c, __dev_change_net_namespace: a taken name or altname is EEXIST, the index is kept where it is
    /// free, the interface comes down and loses its addresses.
    pub(super) fn move_link(
        &mut self,
        space: u64,
        index: u32,
        to: u64,
        name: Option<&str>,
    ) -> Result<(), Errno> {
        let identity = self.link_by_index(space, index)?;
        let link = &self.links[&identity];
        if link.name == "lo" {
            return Err(Errno::INVAL);
        }
        let wanted = name.unwrap_or(&link.name).to_owned();
        valid_name(&wanted)?;
        if to == space {
            return if wanted == link.name {
                Ok(())
            } else {
                self.rename_link(space, index, &wanted)
            };
        }
        let own = link.name.clone();
        let taken = |name: &str| self.link_by_name(to, name).is_some();
        // net/core/dev.c, __dev_change_net_namespace: the new name helps only where the own one is taken there. In any
        // other case the interface moves under its own name and is renamed behind that, so that a taken name leaves it
        // moved, with EEXIST for an answer (lab).
        let carried = if taken(&own) { wanted.clone() } else { own };
        if taken(&carried) || link.alt_names.iter().any(|alt| taken(alt)) {
            return Err(Errno::EXIST);
        }
        let refused = carried != wanted && taken(&wanted);
        self.carry_link(identity, to, if refused { carried } else { wanted });
        if refused { Err(Errno::EXIST) } else { Ok(()) }
    }

    fn carry_link(&mut self, identity: u64, to: u64, name: String) {
        let Some(link) = self.links.get(&identity) else { return };
        let (from, old_index) = (link.namespace, link.index);
        if link.up {
            self.close(identity);
        }
        self.drop_routes(from, old_index);
        let index = if self.link_by_index(to, old_index).is_ok() {
            self.next_link_index(to)
        } else {
            old_index
        };
        if let Some(link) = self.links.get_mut(&identity) {
            link.namespace = to;
            link.index = index;
            link.name = name;
            link.up = false;
            link.addresses.clear();
            // What is moved leaves its bond (net/core/dev.c, __dev_change_net_namespace notifies NETDEV_UNREGISTER).
            link.master = None;
        }
    }

    /// net/core/dev.c, default_device_exit_net: hardware goes to the host's namespace under its present name, or as
    /// `dev<index>` where that is taken; everything else is destroyed. lab.md section 2: it comes back down.
    pub(super) fn return_links(&mut self, space: u64) {
        let inside: Vec<u64> = self
            .links
            .iter()
            .filter(|(_, link)| link.namespace == space)
            .map(|(identity, _)| *identity)
            .collect();
        for identity in inside {
            let link = &self.links[&identity];
            if link.parent.is_none() {
                self.links.remove(&identity);
                continue;
            }
            let at_home = |name: &str| self.link_by_name(HOST_NAMESPACE, name).is_some();
            let taken = at_home(&link.name);
            let name = if taken { format!("dev{}", link.index) } else { link.name.clone() };
            // net/core/dev.c, default_device_exit_net: altnames that are taken there are dropped.
            let kept = link.alt_names.iter().filter(|name| !at_home(name)).cloned().collect();
            if let Some(link) = self.links.get_mut(&identity) {
                link.alt_names = kept;
            }
            self.carry_link(identity, HOST_NAMESPACE, name);
        }
    }

    /// Interfaces that stand for the VFs on a PF in switchdev mode (lab.md section 4; their names: belief).
    pub(super) fn make_representors(&mut self, pci: &PciAddress) {
        let Some(physical) = self.physical(pci) else { return };
        if physical.eswitch == EswitchMode::Legacy {
            return;
        }
        let (port, vfs) = (physical.port, physical.num_vfs);
        let Some(uplink) = self.netdev_of(pci).map(|link| link.name.clone()) else { return };
        for vf in 0..vfs {
            let index = self.next_link_index(HOST_NAMESPACE);
            let identity = self.next_serial();
            let mac = vec![0x02, 0x52, 0, port as u8, (identity >> 8) as u8, identity as u8];
            let name = format!("{uplink}_{vf}");
            let mut link = virtual_device(HOST_NAMESPACE, index, &name, mac, 1, None);
            link.parent = Some(*pci);
            link.represents = Some(vf);
            self.links.insert(identity, link);
        }
    }

    /// How a link stands: what `/sys/class/net/<n>/operstate` says.
    pub(super) fn operstate(&self, link: &NetDevice) -> &'static str {
        match (link.hardware, link.up && link.carrier) {
            (772, _) => "unknown",
            (_, true) => "up",
            (_, false) => "down",
        }
    }

    /// Mbit/s while the link runs.
    pub(super) fn link_speed(&self, link: &NetDevice) -> Option<u32> {
        let pci = link.parent?;
        let speed = match &self.functions.get(&pci)?.kind {
            FunctionKind::Physical(part) => part.speed,
            FunctionKind::Virtual(part) => self.physical(&part.physical)?.speed,
            FunctionKind::Plain { .. } => 1000,
            FunctionKind::Bridge => return None,
        };
        (link.up && link.carrier).then_some(speed)
    }
}

fn virtual_device(
    space: u64,
    index: u32,
    name: &str,
    address: Vec<u8>,
    hardware: u16,
    kind: Option<&str>,
) -> NetDevice {
    NetDevice {
        namespace: space,
        index,
        name: name.to_owned(),
        alt_names: Vec::new(),
        address,
        permanent: None,
        mtu: if hardware == 772 { 65536 } else { 1500 },
        up: false,
        promiscuous: false,
        all_multicast: false,
        carrier: true,
        hardware,
        parent: None,
        kind: kind.map(str::to_owned),
        master: None,
        lower: None,
        represents: None,
        addresses: Vec::new(),
        frames_sent: 0,
        carrier_changes: 0,
    }
}

/// net/core/dev.c, dev_valid_name.
fn valid_name(name: &str) -> Result<(), Errno> {
    let bad = |c: char| c == '/' || c == ':' || c.is_whitespace();
    // The attribute's policy comes before the name's rules (net/core/rtnetlink.c, ifla_policy; lab).
    if name.len() > 15 {
        return Err(Errno::RANGE);
    }
    if name.is_empty() || name == "." || name == ".." || name.contains(bad) {
        return Err(Errno::INVAL);
    }
    Ok(())
}
